"""Whose fields the webhook takes over before it applies, and whose not."""

from __future__ import annotations

from typing import Any

from cd_webhook.cluster.managed_fields import taken_over


def entry(manager: str, operation: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields, **more}


OURS = entry("indexpush", "Apply", {"f:spec": {"f:template": {"f:a": {}}}, "f:metadata": {"f:labels": {}}})
STATUS = entry("kube-controller-manager", "Update", {"f:status": {}}, subresource="status")
SCALE = entry("autoscaler", "Update", {"f:spec": {"f:replicas": {}}}, subresource="scale")


def test_nothing_is_taken_over_where_all_is_ours() -> None:
    assert taken_over([OURS, STATUS, SCALE]) is None


def test_what_a_plain_create_made_becomes_applied() -> None:
    created = entry("indexpush", "Update", {"f:metadata": {"f:labels": {}}, "f:spec": {"f:replicas": {}, "f:x": {}}})
    (found, status) = sorted(taken_over([created, STATUS]) or [], key=lambda each: str(each["manager"]))
    assert (found["manager"], found["operation"]) == ("indexpush", "Apply")
    assert found["fieldsV1"] == created["fieldsV1"]
    assert status == STATUS


def test_a_volume_that_somebody_added_is_taken_over_and_their_label_and_replicas_are_not() -> None:
    fields = {
        "f:metadata": {"f:labels": {"f:team": {}}},
        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:volumes": {'k:{"name":"x"}': {".": {}}}}}},
    }
    theirs = entry("kubectl-edit", "Update", fields)
    found = taken_over([OURS, theirs, STATUS, SCALE])
    assert found is not None
    ours, left, *rest = found
    assert ours["fieldsV1"]["f:spec"]["f:template"] == {
        "f:a": {}, "f:spec": {"f:volumes": {'k:{"name":"x"}': {".": {}}}},
    }  # fmt: skip
    assert "f:replicas" not in ours["fieldsV1"]["f:spec"]
    assert left["fieldsV1"] == {"f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": {"f:replicas": {}}}
    assert rest == [STATUS, SCALE]


def test_a_pause_stays_with_whoever_paused() -> None:
    paused = entry("kubectl-rollout", "Update", {"f:spec": {"f:paused": {}}})
    assert taken_over([OURS, paused]) is None


def test_what_is_given_is_not_changed() -> None:
    created = entry("kubectl", "Update", {"f:spec": {"f:template": {}}})
    taken_over([created])
    assert created["fieldsV1"] == {"f:spec": {"f:template": {}}}
