"""The canary's own Deployment beside the stable one: what differs, and who selects which pods."""

from __future__ import annotations

from manifests import metadata as marks
from manifests.canary import canary_of
from manifests.render import render
from tests.cd_webhook.webhook_scene import request, values


def test_a_canarys_deployment_is_the_stable_one_but_for_name_track_and_size() -> None:
    stable = render(request(5), values()).deployment
    canary = canary_of(stable, 2)
    assert canary["metadata"]["name"] == "home-store.canary"
    assert canary["spec"]["replicas"] == 2
    for value, track in ((stable, "stable"), (canary, "canary")):
        wanted = {**marks.selector("home-store"), marks.TRACK: track}
        assert value["spec"]["selector"]["matchLabels"] == wanted
        assert wanted.items() <= value["spec"]["template"]["metadata"]["labels"].items()
    assert canary["spec"]["template"]["spec"] == stable["spec"]["template"]["spec"]
    assert (
        canary["spec"]["template"]["metadata"]["annotations"] == stable["spec"]["template"]["metadata"]["annotations"]
    )


def test_the_service_sends_to_both_and_neither_deployment_to_the_others_pods() -> None:
    rendered = render(request(5), values())
    canary = canary_of(rendered.deployment, 1)
    labels = [value["spec"]["template"]["metadata"]["labels"] for value in (rendered.deployment, canary)]
    selected = rendered.service["spec"]["selector"]
    assert all(selected.items() <= label.items() for label in labels)
    assert not rendered.deployment["spec"]["selector"]["matchLabels"].items() <= labels[1].items()
    assert not canary["spec"]["selector"]["matchLabels"].items() <= labels[0].items()


def test_no_index_can_have_the_name_of_anothers_canary() -> None:
    assert "." in marks.canary_name("home-store")  # which no label, so no index's name, may have
    assert marks.index_of(marks.canary_name("home-store")) == "home-store"
