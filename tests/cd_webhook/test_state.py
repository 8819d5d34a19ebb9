"""The annotations that hold a rollout's state: what a release before wrote is read, and what is written reads back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cd_webhook.rules.plan import begun, deployment_of, rejected, served
from cd_webhook.state import Deployed, Rollout, Trial, changed, format_deployed, read_deployed
from cd_webhook.state.annotations import ACCEPTED, DISPLACED, TRACES, WAITING
from manifests.canary import Canary
from model_repository.documents.receipts.canary_figures import CanaryFigures, TrackFigures
from tests.builds import DIGEST
from tests.cd_webhook.webhook_scene import request

START, LATER = datetime(2026, 11, 21, 12, 0, tzinfo=UTC), datetime(2026, 11, 21, 12, 5, tzinfo=UTC)
SPEC, NEXT = {"replicas": 1, "template": {}}, {"replicas": 2, "progressDeadlineSeconds": 60, "template": {}}

REQUEST = (
    '{"environment":"test","index":"home-store","generation":"%d","bucket":"memory",'
    '"index_prefix":"indexes/home-store/b%d","index_generation":"10%d","index_digest":"%s",'
    '"model_prefix":"models/lite/v1","model_digest":"%s","memory_mib":"300","volume_mib":"100",'
    '"deadline_seconds":"60","by":"ann","reason":"because"}'
)
RELEASED = {
    "indexpush.dev/commit-generation": "2",
    "indexpush.dev/index-prefix": "indexes/home-store/b2",
    "indexpush.dev/index-digest": DIGEST,
    "indexpush.dev/model-digest": DIGEST,
    "indexpush.dev/request": REQUEST % (2, 2, 2, DIGEST, DIGEST),
    "indexpush.dev/manifest": '{"replicas":1,"template":{}}',
    "indexpush.dev/last-good": REQUEST % (1, 1, 1, DIGEST, DIGEST),
    "indexpush.dev/last-good-manifest": '{"replicas":1,"template":{}}',
    "indexpush.dev/rollout": "canary",
    "indexpush.dev/detail": "",
    "indexpush.dev/started": "2026-11-21T12:00:00Z",
    "indexpush.dev/receipts-owed": "[]",
    "indexpush.dev/canary": '{"replicas":2,"seconds":60,"max_error_rate":0.01,"max_latency_ratio":2.0,'
    '"latency_floor_ms":20.0}',
    "indexpush.dev/canary-spec": '{"replicas":2,"progressDeadlineSeconds":60,"template":{}}',
    "indexpush.dev/canary-figures": "",
    "indexpush.dev/promoted": "",
}
"""As the first release writes them while a canary goes on."""
STATE = Deployed(
    generation=2,
    request=replace(request(2), models=()),
    rollout=Rollout.CANARY,
    started=START,
    spec=SPEC,
    last_good=replace(request(1), models=()),
    last_good_spec=SPEC,
    trial=Trial(Canary(replicas=2), NEXT),
)


def live(annotations: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "home-store", "labels": {"a": "b"}, "annotations": annotations}, "spec": SPEC}


def test_what_the_first_release_wrote_is_read_and_written_in_todays_words() -> None:
    assert read_deployed(live(RELEASED)) == STATE
    of_models = f'"model_prefix":"models/lite/v1","model_digest":"{DIGEST}"'
    todays = {name: text.replace(of_models, '"models":""') for name, text in RELEASED.items()}
    del todays["indexpush.dev/model-digest"]
    assert format_deployed(STATE) == {**todays, DISPLACED: "", WAITING: "", ACCEPTED: "", TRACES: ""}


TRACK = TrackFigures(pods=1, probes=50, probes_failed=0, p95_ms=4.0, requests=9, errors=0, mean_ms=None)
FIGURES = CanaryFigures(True, 60.0, 0, 0, TRACK, TRACK)


@pytest.mark.parametrize(
    "state",
    [
        begun(Deployed(), request(1), SPEC, START),
        begun(STATE, request(3), NEXT, LATER),
        served(begun(STATE, request(3), NEXT, LATER), {"spec": {}}, LATER),
        replace(STATE, rollout=Rollout.IN_PROGRESS, trial=None, figures=FIGURES, promoted=LATER),
        replace(STATE, owed=(rejected(request(1), "zero\x00wide", "x", START),)),
        replace(STATE, traces={2: f"00-{'a' * 32}-{'b' * 16}-01"}),
    ],
    ids=["first", "newer", "served", "promoted", "owing", "traced"],
)
def test_every_state_is_read_back_as_it_was_written(state: Deployed) -> None:
    assert read_deployed(deployment_of(live({}), state)) == state


def test_a_cluster_without_the_deployment_was_never_asked_for_anything() -> None:
    assert read_deployed(None) == Deployed()
    assert read_deployed(live({})) == Deployed()


def test_only_what_changes_is_written_and_what_is_no_longer_so_is_emptied() -> None:
    after = served(replace(STATE, rollout=Rollout.IN_PROGRESS), {"spec": {}}, LATER)
    noted = changed(live(format_deployed(STATE)), after)
    assert noted["labels"].keys() == {"indexpush.dev/state"}
    assert {name.removeprefix("indexpush.dev/") for name in noted["annotations"]} == {
        "rollout", "detail", "last-good", "receipts-owed", "canary", "canary-spec",
    }  # fmt: skip
    assert noted["annotations"]["indexpush.dev/canary"] == ""
    assert json.loads(noted["annotations"]["indexpush.dev/receipts-owed"])[0]["outcome"] == "served"


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"a": 1}', "canary"])
@pytest.mark.parametrize("name", ["request", "canary", "canary-spec"])
def test_a_canary_that_somebody_broke_by_hand_is_watched_no_more(name: str, broken: str) -> None:
    found = read_deployed(live(RELEASED | {f"indexpush.dev/{name}": broken}))
    if (name, broken) == ("canary-spec", '{"a": 1}'):
        assert found.trial == Trial(Canary(replicas=2), {"a": 1})
    else:
        assert (found.rollout, found.generation) == (Rollout.UNKNOWN, 2)


def test_a_rollout_whose_request_somebody_removed_is_watched_no_more() -> None:
    broken = RELEASED | {"indexpush.dev/rollout": "in-progress", "indexpush.dev/request": ""}
    assert read_deployed(live(broken)).rollout is Rollout.UNKNOWN
