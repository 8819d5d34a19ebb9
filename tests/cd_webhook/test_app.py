"""The door: what a sender, a person and a probe are told."""

from __future__ import annotations

import json
import time

import pytest
from starlette.routing import Route

from cd_webhook.cluster import ClusterUnavailable, Object
from cd_webhook.delivery.deliver import Rejected, ValuesFault
from cd_webhook.http.app import refusal
from cd_webhook.http.auth import Checks, KeysUnavailable, NotAllowed, Unauthenticated, bearer_check
from model_repository import CONTRACT, __version__
from model_repository.errors import DeliveryError, DocumentMalformed
from model_repository.repository import write_filter
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.app_scene import URL, Stage, post
from tests.cd_webhook.webhook_scene import TARGET, Scene, request


def test_a_delivery_is_answered_as_spinnaker_does_and_with_the_truth_besides(stage: Stage) -> None:
    answer = post(stage, 1)
    assert answer.status_code == 200
    body = answer.json()
    assert body["eventProcessed"] is True
    assert len(body["eventId"]) == 36
    assert body["outcome"] == "accepted"
    stage.until(1, "served")
    assert post(stage, 1).json()["outcome"] == "already-deployed"
    post(stage, 2)
    assert post(stage, 1, late=True).json()["outcome"] == "superseded"


def test_watching_goes_on_in_the_background_until_a_bad_build_is_undone(stage: Stage) -> None:
    post(stage, 1)
    stage.until(1, "served")
    stage.scene.cluster.fates["2"] = pods.ended(65, "bad")
    assert post(stage, 2).json()["outcome"] == "accepted"
    stage.until(2, "undone")


def test_a_restart_resumes_what_is_in_progress() -> None:
    scene = Scene()
    scene.deliver(request(1))
    stage = Stage(scene)
    with stage.client:
        stage.until(1, "served")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"[]", "expected an object"),
        (b'{"parameters": {}}', "'environment' is missing"),
        (b'{"parameters": {"index": 3}}', "all strings"),
        (json.dumps({**request(1).to_payload(), "extra": 1}).encode(), "unknown field 'extra'"),
        (json.dumps({"parameters": request(1).to_parameters() | {"typo": ""}}).encode(), "unknown field 'typo'"),
        (
            json.dumps({**request(1).to_payload(), "artifacts": [{"reference": "gs://memory/other#1"}]}).encode(),
            "as the parameters say",
        ),
        (json.dumps({**request(1).to_payload(), "index": "another"}).encode(), "index: expected '"),
        (b" " * 70_000, "more than the 65536 allowed"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_the_reason_and_no_verdict(
    stage: Stage, body: bytes, complaint: str
) -> None:
    answer = stage.client.post(URL, content=body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "document-malformed"
    assert "outcome" not in answer.json()
    assert answer.json()["eventProcessed"] is False
    assert complaint in answer.json()["detail"]


def test_trouble_that_may_pass_is_answered_so_that_the_sender_tries_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_: str) -> Object | None:
        raise ClusterUnavailable("the API server is down")

    monkeypatch.setattr(stage.scene.cluster, "deployment", down)
    answer = post(stage, 1)
    assert answer.status_code == 503
    assert "outcome" not in answer.json()
    assert answer.json()["code"] == "cluster-unavailable"


def test_the_unexpected_is_answered_so_that_the_sender_tries_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.scene.cluster, "create", lambda _: 1 / 0)
    answer = post(stage, 1)
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert "ZeroDivisionError" in stage.lines.getvalue()


def test_without_the_token_nothing_is_done_and_nothing_is_told() -> None:
    stage = Stage(Scene(), token="a-very-long-secret")
    with stage.client as client:
        assert client.post(URL, json=request(1).to_payload()).status_code == 401
        assert client.get("/v1/deployments").status_code == 401
        wrong = {"Authorization": "Bearer guess"}
        assert client.post(URL, json=request(1).to_payload(), headers=wrong).status_code == 401
        right = {"Authorization": "Bearer a-very-long-secret"}
        assert client.post(URL, json=request(1).to_payload(), headers=right).status_code == 200
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthenticated("no"), 401),
        (NotAllowed("no"), 403),
        (DocumentMalformed("the request", "no"), 422),
        (KeysUnavailable("not now"), 503),
        (ValuesFault("not now"), 503),
    ],
)
def test_only_a_verdict_has_an_outcome(error: DeliveryError, status: int) -> None:
    assert refusal(error) == (status, {"detail": str(error), "code": error.code})
    verdict = Rejected(DocumentMalformed("Deployment home", "foreign"))
    said = {"outcome": "rejected", "detail": "Deployment home: foreign", "code": "document-malformed"}
    assert refusal(verdict) == (422, said)


def test_who_sent_a_commit_stands_in_the_log() -> None:
    stage = Stage(Scene(), token="a-very-long-secret")
    with stage.client as client:
        stage.scene.store.commit(TARGET, 1)
        right = {"Authorization": "Bearer a-very-long-secret"}
        assert client.post(URL, json=request(1).to_payload(), headers=right).status_code == 200
    lines = [json.loads(line) for line in stage.lines.getvalue().splitlines()]
    assert [line["caller"] for line in lines if "caller" in line] == ["WEBHOOK_TOKEN"]


def test_who_may_only_look_can_not_have_anything_done_nor_count_as_a_sweep() -> None:
    reader = "Bearer r3ader"
    stage = Stage(Scene(), may=Checks(call=bearer_check("caller"), look=bearer_check("caller", "r3ader")))
    stage.scene.serve(1)
    doors = {  # and what a reader is told there
        ("GET", "/v1/rollouts"): 200,
        ("GET", "/v1/deployments/home-store"): 200,
        ("GET", "/v1/check"): 200,
        ("GET", "/v1/deployments"): 401,
        ("POST", URL): 401,
        ("POST", "/v1/filters/home-store"): 401,
        ("DELETE", "/v1/deployments/home-store"): 401,
    }
    guarded = {
        (method, route.path.replace("{index}", "home-store").replace("{source}", "indexpush"))
        for route in stage.app.routes
        if isinstance(route, Route) and route.path not in ("/livez", "/readyz", "/metrics")
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert doors.keys() == guarded
    for (method, path), status in doors.items():
        said = stage.client.request(method, path, headers={"authorization": reader})
        assert (method, path, said.status_code) == (method, path, status)


def test_it_is_ready_once_it_knows_what_is_in_progress(stage: Stage) -> None:
    end = time.monotonic() + 60
    while stage.client.get("/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_prometheus_gets_counts(stage: Stage) -> None:
    post(stage, 1)
    stage.until(1, "served")
    stage.client.post(URL, content=b"{}")
    text = stage.client.get("/metrics").text
    assert 'indexpush_deliveries_total{outcome="accepted"} 1.0' in text
    assert 'indexpush_deliveries_total{outcome="refused"} 1.0' in text


def test_log_lines_carry_the_trace_of_the_event(stage: Stage) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    stage.client.post(URL, json=request(1).to_payload(), headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    lines = [json.loads(line) for line in stage.lines.getvalue().splitlines()]
    assert any(line.get("logging.googleapis.com/trace") == f"projects/acme/traces/{trace}" for line in lines)
    assert all({"severity", "message"} <= line.keys() for line in lines)


def test_a_request_for_another_environment_is_no_verdict_on_the_commit(stage: Stage) -> None:
    payload = request(1).to_payload()
    payload["parameters"]["environment"] = payload["environment"] = "production"
    answer = stage.client.post(URL, json=payload)
    assert (answer.status_code, answer.json().get("outcome")) == (422, None)
    assert "this webhook deploys 'test'" in answer.json()["detail"]


def test_what_is_refused_for_good_says_so_with_its_code_and_has_its_receipt(stage: Stage) -> None:
    stage.scene.serve(1)
    stage.scene.cluster.by_hand("home-store", lambda live: live["metadata"].update(labels={}))
    answer = post(stage, 2)
    assert (answer.status_code, answer.json()["outcome"]) == (422, "rejected")
    assert answer.json()["code"] == "document-malformed"
    assert stage.scene.outcomes()[2] == "rejected"


def test_a_filter_is_put_in_force_by_a_look_and_the_answer_says_what_became_of_it(stage: Stage) -> None:
    url = f"/v1/filters/{TARGET.index}"
    assert stage.client.post(url).json()["outcome"] == "none"
    write_filter(stage.scene.store, TARGET, ["a"])
    assert stage.client.post(url).json()["outcome"] == "applied"
    stage.scene.store.write(TARGET.filter_name, b"{", if_generation_match=None)
    answer = stage.client.post(url)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "rejected")
    assert "filters/test/home-store.json" in answer.json()["detail"]
    assert stage.client.post("/v1/filters/No_Index").status_code == 422
    assert stage.client.get(url).status_code == 405


def test_a_stranger_has_no_filter_applied() -> None:
    stage = Stage(Scene(), token="the-token-of-the-function")
    write_filter(stage.scene.store, TARGET, ["a"])
    with stage.client:
        assert stage.client.post(f"/v1/filters/{TARGET.index}").status_code == 401
    assert [info.name for info in stage.scene.store.listing("filters/") if info.name.endswith(".json")] == [
        TARGET.filter_name
    ]


def test_it_says_what_it_finds_of_its_own_set_up_to_whoever_may_call() -> None:
    stage = Stage(Scene(), token="secret-of-the-test")
    assert stage.client.get("/v1/check").status_code == 401
    answer = stage.client.get("/v1/check", headers={"Authorization": "Bearer secret-of-the-test"})
    assert answer.status_code == 200
    said = answer.json()
    assert said["checks"] == [{"what": "bucket", "ok": False, "text": "gone"}]
    assert said["pods"] == "search/indexpush-search"
    assert (said["environment"], said["bucket"]) == ("test", stage.scene.store.bucket)
    assert (said["version"], said["revision"], said["contract"]) == (__version__, "0123abcd", CONTRACT)
