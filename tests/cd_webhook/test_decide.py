"""The rule of what goes live: each row is a situation, and what is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cd_webhook.rules.decide import (
    AlreadyDeployed,
    Decision,
    Deploy,
    Refuse,
    Situation,
    Superseded,
    TakeBack,
    TryOut,
    Wait,
    check_addressee,
    decide,
)
from cd_webhook.state import NEVER, Deployed, Rollout, Trial
from manifests.canary import Canary
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.names import IndexPrefix
from tests.cd_webhook.webhook_scene import TARGET, request

CANARY = Canary(replicas=2)
SPEC = {"replicas": 1}
NOTHING = Deployed()


def at(generation: int, rollout: Rollout, *, good: int = 1, detail: str = "") -> Deployed:
    """A cluster that was asked for `generation`; `good` served last, 0: nothing ever did."""
    trial = Trial(CANARY, SPEC) if rollout is Rollout.CANARY else None
    last_good, spec = (request(good), SPEC) if good else (None, None)
    started = datetime(2026, 11, 21, tzinfo=UTC)
    newest = request(generation)
    return Deployed(generation, newest, rollout, started, SPEC, last_good, spec, detail=detail, trial=trial)


SERVED, UNDONE = at(2, Rollout.SERVED, good=2, detail="b2 serves"), at(2, Rollout.UNDONE, detail="bad")
ROLLING, TRIED = at(2, Rollout.IN_PROGRESS), at(2, Rollout.CANARY)
DISPLACING = replace(ROLLING, displaced=True)
RESTORING = replace(request(2), restores=7)
ELSEWHERE = replace(request(2), bucket="other")
OWED = Receipt(TARGET, 1, Outcome.SERVED, IndexPrefix("home-store", "b1"), "b1 serves", NEVER, NEVER)
OWING = replace(ROLLING, owed=(OWED,))
OTHER = Refuse(
    "Deployment home-store",
    "serves gs://other/commits/test/home-store.json, another commit object; "
    "rename the index, or delete that Deployment",
)
FOREIGN = Refuse("Deployment home-store", "isn't managed by indexpush; rename the index, or delete that Deployment")

RULE: list[tuple[str, DeploymentRequest, Situation, Decision]] = [
    # Whose it is
    ("a Deployment of somebody else is left alone", request(3), Situation(SERVED, 3, foreign=True), FOREIGN),
    ("even if it can't be read", request(3), Situation(NOTHING, 3, foreign=True, serving=1, canary=CANARY), FOREIGN),
    # Which commit is the newest
    ("the first commit of an index is deployed", request(1), Situation(NOTHING, 1), Deploy()),
    ("a newer commit is deployed", request(3), Situation(SERVED, 3, serving=1), Deploy()),
    (
        "an older build under a newer generation is a rollback",
        request(3, "b1"),
        Situation(SERVED, 3, serving=1),
        Deploy(),
    ),
    ("the same build under a newer one is a redeploy", request(3, "b2"), Situation(SERVED, 3, serving=1), Deploy()),
    ("a duplicate changes nothing", request(2), Situation(SERVED, 2), AlreadyDeployed("commit 2: served: b2 serves")),
    ("nor while it rolls out", request(2), Situation(ROLLING, 2), AlreadyDeployed("commit 2: in-progress")),
    ("what was undone is not tried again", request(2), Situation(UNDONE, 2), AlreadyDeployed("commit 2: undone: bad")),
    ("a late delivery never puts an old commit over a newer one", request(1), Situation(SERVED, 2), Superseded(2)),
    ("nor over one that was undone", request(1), Situation(UNDONE, 2), Superseded(2)),
    ("a rollout in progress is replaced at once", request(3), Situation(ROLLING, 3, serving=1), Deploy()),
    ("state that somebody removed doesn't stand in the way", request(3), Situation(NOTHING, 3, serving=1), Deploy()),
    (
        "whose receipt is decided and on its way isn't called superseded",
        request(1),
        Situation(OWING, 2),
        AlreadyDeployed("commit 1: served: b1 serves"),
    ),
    # Whether a canary comes first
    ("where values ask, it is tried out", request(3), Situation(SERVED, 3, serving=1, canary=CANARY), TryOut(CANARY)),
    ("after one that was undone too", request(3), Situation(UNDONE, 3, serving=1, canary=CANARY), TryOut(CANARY)),
    (
        "a newer commit takes a canary's place",
        request(3),
        Situation(TRIED, 3, serving=1, canary=CANARY),
        TryOut(CANARY),
    ),
    ("a redeploy is tried out", request(3, "b2"), Situation(SERVED, 3, serving=1, canary=CANARY), TryOut(CANARY)),
    (
        "a rollout that it meets is taken back",
        request(3),
        Situation(ROLLING, 3, serving=1, canary=CANARY),
        TakeBack(CANARY),
    ),
    ("the first commit has nothing beside it", request(1), Situation(NOTHING, 1, canary=CANARY), Deploy()),
    (
        "nor has one before which nothing served",
        request(3),
        Situation(at(2, Rollout.IN_PROGRESS, good=0), 3, serving=1, canary=CANARY),
        Deploy(),
    ),
    ("when no pod serves, the mend doesn't wait", request(3), Situation(SERVED, 3, serving=0, canary=CANARY), Deploy()),
    ("a canary that goes on ends where values no longer ask", request(3), Situation(TRIED, 3, serving=1), Deploy()),
    ("a canary makes no old commit new", request(1), Situation(SERVED, 2, serving=1, canary=CANARY), Superseded(2)),
    # A generation is a name: only what the bucket says now counts
    ("a smaller generation that is live is deployed", request(1), Situation(SERVED, 1, serving=1), Deploy()),
    ("a larger one that isn't is superseded", request(9), Situation(SERVED, 2, serving=1), Superseded(2)),
    (
        "a commit of which nothing is left is superseded by nothing",
        request(3),
        Situation(SERVED, None),
        Superseded(None),
    ),
    (
        "what goes on isn't superseded before it ends",
        request(2),
        Situation(ROLLING, 3),
        AlreadyDeployed("commit 2: in-progress"),
    ),
    (
        "an old request doesn't deploy where there is nothing",
        request(1),
        Situation(NOTHING, 2, exists=False),
        Superseded(2),
    ),
    (
        "what can't be read is deployed again",
        request(2),
        Situation(replace(SERVED, rollout=Rollout.UNKNOWN), 2),
        Deploy(),
    ),
    ("another bucket's commit is refused by name", request(3), Situation(replace(SERVED, request=ELSEWHERE), 3), OTHER),
    # Commits that come faster than rollouts end
    ("one that displaced another may finish", request(4), Situation(DISPLACING, 4, serving=1), Wait(2)),
    ("also a canary", request(4), Situation(replace(TRIED, displaced=True), 4, serving=1, canary=CANARY), Wait(2)),
    (
        "the newest takes the place of what waits",
        request(4),
        Situation(replace(DISPLACING, waiting=request(3)), 4),
        Wait(2),
    ),
    (
        "what waits already is not asked for twice",
        request(4),
        Situation(replace(DISPLACING, waiting=request(4)), 4),
        AlreadyDeployed("commit 4: waits for commit 2"),
    ),
    (
        "what waits no longer is superseded",
        request(3),
        Situation(replace(DISPLACING, waiting=request(3)), 4),
        Superseded(4),
    ),
    (
        "once that has ended it is taken up",
        request(3),
        Situation(replace(SERVED, displaced=True, waiting=request(3)), 3),
        Deploy(),
    ),
    # An index whose Deployment is gone, and whose live commit can't be deployed
    ("what served last comes back", RESTORING, Situation(NOTHING, 7, exists=False), Deploy()),
    (
        "not where something is",
        RESTORING,
        Situation(SERVED, 7),
        AlreadyDeployed("the Deployment is there: nothing to restore"),
    ),
    ("nor when another commit is live meanwhile", RESTORING, Situation(NOTHING, 8, exists=False), Superseded(8)),
]


@pytest.mark.parametrize(("asked", "situation", "expected"), [row[1:] for row in RULE], ids=[row[0] for row in RULE])
def test_the_rule(asked: DeploymentRequest, situation: Situation, expected: Decision) -> None:
    assert decide(asked, situation) == expected


def test_what_is_meant_for_another_webhook_is_refused() -> None:
    assert check_addressee(request(1), "test", "memory") is None
    elsewhere = check_addressee(request(1), "production", "memory")
    assert elsewhere is not None
    assert elsewhere.why.startswith("environment 'test': this webhook deploys 'production'")
    other = check_addressee(request(1), "test", "other")
    assert other is not None
    assert other.why == (
        "bucket 'memory': this webhook's Model Repository is 'other'; point the sender at that bucket's webhook"
    )
