"""A sweep compares bucket and cluster, looks at what differs, and is always over."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from model_repository.deployment import AnswerOutcome
from model_repository.documents.commit import LONGEST_HOLD, Commit
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import BucketUnavailable
from model_repository.names import IndexPrefix, Target
from model_repository.programs.function_config import Limits
from model_repository.repository import write_commit, write_receipt
from on_commit.compare import IndexStatus
from on_commit.sweep import BREAKER
from on_commit.webhook import EnvironmentUnknown, WebhookAnswer, WebhookRefused, WebhookUnavailable
from tests import builds
from tests.on_commit.scene import HOME, Scene

GARDEN = Target("production", "garden")


def state(index: str, generation: int | None, **fields: object) -> IndexStatus:
    return IndexStatus(index, generation, IndexPrefix(index, "b1"), **{"service": True, **fields})  # type: ignore[arg-type]


def test_where_the_cluster_cannot_be_asked_every_commit_is_looked_at(scene: Scene) -> None:
    scene.publish("b1")
    scene.publish(index="garden")
    scene.commit()
    scene.commit(target=GARDEN)
    scene.store.write("commits/staging/Not_A_Commit.json", b"", if_generation_match=0)
    scene.sweep()
    assert {request.target for request in scene.webhook.asked} == {HOME, GARDEN}


def test_only_what_the_cluster_was_not_asked_for_is_looked_at_and_the_rest_costs_nothing(scene: Scene) -> None:
    targets = [Target("staging", f"index-{number}") for number in range(50)]
    for target in targets:
        scene.publish(index=target.index)
    generations = {target: scene.commit(target=target) for target in targets}
    scene.webhook.states = {target: state(target.index, generations[target]) for target in targets}
    scene.webhook.states[targets[7]] = state("index-7", 5)
    scene.store.reads.clear()
    scene.sweep()
    assert [request.target for request in scene.webhook.asked] == [targets[7]]
    assert scene.webhook.status_calls == 2  # one for each environment
    assert sum(read.startswith("listing commits/") for read in scene.store.reads) == 1
    assert sum("commits/" in read for read in scene.store.reads) == 3  # the listing, and the one that differs


def test_a_sweep_is_quiet_about_what_was_refused_before(scene: Scene) -> None:
    scene.commit("nowhere")
    scene.look()
    scene.sweep()
    scene.look()
    assert len(scene.notifier.notices) == 1


def test_a_sweep_refuses_what_nobody_has_refused_yet(scene: Scene) -> None:
    generation = scene.commit("nowhere")
    scene.sweep()
    scene.refusal(generation)


def test_one_target_in_trouble_stops_nothing_and_the_sweep_is_over_all_the_same(scene: Scene) -> None:
    for index in ("garden", "home", "office"):
        scene.publish(index=index)
        scene.commit(target=Target("staging", index))
    scene.store.fail = lambda _kind, name: BucketUnavailable("503") if name == "indexes/home/b1/" else None
    scene.sweep()
    assert {request.target.index for request in scene.webhook.asked} == {"garden", "office"}


def test_a_webhook_that_is_away_does_not_keep_the_other_environment_from_being_looked_at(scene: Scene) -> None:
    for number in range(20):
        scene.publish(index=f"index-{number}")
        scene.commit(target=Target("staging", f"index-{number}"))
    scene.publish(index="garden")
    scene.commit(target=GARDEN)
    tried: list[str] = []
    send = scene.webhook.send

    def away(request: object) -> object:
        tried.append(request.target.environment)  # type: ignore[attr-defined]
        if tried[-1] == "staging":
            raise WebhookUnavailable("no answer")
        return send(request)  # type: ignore[arg-type]

    scene.webhook.send = away  # type: ignore[method-assign,assignment]
    scene.sweep()
    assert [request.target for request in scene.webhook.asked] == [GARDEN]
    assert tried.count("staging") == BREAKER


def test_a_sweep_ends_in_its_time_and_no_index_is_always_the_last(scene: Scene) -> None:
    scene.limits = Limits(sweep_budget=timedelta(seconds=10))
    for number in range(30):
        scene.publish(index=f"index-{number}")
        scene.commit(target=Target("staging", f"index-{number}"))
    send = scene.webhook.send

    def slow(request: object) -> object:
        scene.clock.sleep(1)
        return send(request)  # type: ignore[arg-type]

    scene.webhook.send = slow  # type: ignore[method-assign,assignment]
    scene.sweep()
    assert len(scene.webhook.asked) == 10
    assert "20 indexes wait for the next sweep" in scene.stream.getvalue()
    for _ in range(30):
        scene.sweep()
    assert len({request.target for request in scene.webhook.asked}) == 30


def test_while_the_bucket_is_away_a_sweep_is_over_too(scene: Scene) -> None:
    scene.store.fail = lambda _kind, _name: BucketUnavailable("503")
    scene.sweep()
    assert "not swept" in scene.stream.getvalue()


def test_an_index_whose_deployment_is_gone_is_deployed_again_and_told_of(scene: Scene) -> None:
    scene.publish()
    generation = scene.commit()
    write_receipt(scene.store, builds.receipt(generation))
    scene.webhook.states = {}
    scene.sweep()
    assert [request.generation for request in scene.webhook.asked] == [generation]
    (notice,) = scene.notifier.notices
    assert (notice.code, notice.index) == ("deployment-gone", "home")


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.UNDONE])
def test_where_the_live_commit_failed_what_served_last_is_restored(scene: Scene, outcome: Outcome) -> None:
    for build in ("b1", "b2", "b3"):
        scene.publish(build)
    for generation, build in ((900, "b1"), (7, "b2")):  # b2 served last, whatever its number
        receipt = builds.receipt(generation, index_prefix=IndexPrefix("home", build))
        write_receipt(scene.store, receipt)
    live = scene.commit("b3")
    write_receipt(scene.store, builds.receipt(live, outcome=outcome))
    scene.webhook.states = {}
    scene.sweep()
    (request,) = scene.webhook.asked
    assert (str(request.index_prefix), request.generation, request.restores) == ("indexes/home/b2", 7, live)
    assert "indexes/home/b2, which served last, is restored" in scene.notifier.notices[-1].detail
    told = len(scene.notifier.notices)
    scene.webhook.answer = WebhookAnswer(AnswerOutcome.ALREADY_DEPLOYED)
    scene.sweep()  # its list of Deployments is older than somebody else's restoration
    assert len(scene.notifier.notices) == told


def test_a_live_commit_that_is_refused_now_has_what_served_last_restored(scene: Scene) -> None:
    scene.publish("b1")
    write_receipt(scene.store, builds.receipt(5, index_prefix=IndexPrefix("home", "b1")))
    live = scene.commit("nowhere")
    scene.webhook.states = {}
    scene.sweep()
    (request,) = scene.webhook.asked
    assert (str(request.index_prefix), request.restores) == ("indexes/home/b1", live)


def test_a_commit_that_served_and_is_lost_is_told_of_once_and_once_when_it_is_over(scene: Scene) -> None:
    for generation, build in ((5, "b1"), (scene.commit("b2"), "b2")):
        scene.publish(build)
        write_receipt(scene.store, builds.receipt(generation, index_prefix=IndexPrefix("home", build)))
    scene.store.delete("indexes/home/b2/index.json")
    scene.webhook.states = {}
    scene.sweep()
    scene.webhook.states = {HOME: state("home", 5)}  # it is restored
    for _ in range(3):
        scene.clock.sleep(900)
        scene.sweep()
    assert [(each.event.value, each.code) for each in scene.notifier.notices] == [
        ("fault", "deployment-gone"),
        ("fault", "served-commit-lost"),
    ]
    assert "indexes/home/b2/index.json: no such object" in scene.notifier.notices[1].detail
    scene.publish("b3")
    scene.webhook.states = {HOME: state("home", scene.commit("b3"))}
    scene.sweep()
    assert [(each.event.value, each.code) for each in scene.notifier.notices[2:]] == [("over", "served-commit-lost")]


def test_a_restoration_that_the_cluster_refuses_is_told_of_once(scene: Scene) -> None:
    scene.publish("b1")
    write_receipt(scene.store, builds.receipt(5, index_prefix=IndexPrefix("home", "b1")))
    write_receipt(scene.store, builds.receipt(scene.commit("nowhere"), outcome=Outcome.REJECTED))
    scene.webhook.states = {}
    scene.webhook.statuses = lambda _environment: {}  # type: ignore[method-assign]
    scene.webhook.failure = WebhookRefused("Deployment home isn't managed by indexpush")
    for _ in range(3):
        scene.sweep()
    (notice,) = scene.notifier.notices
    assert (notice.code, "Deployment home isn't managed by indexpush" in notice.detail) == ("served-commit-lost", True)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (state("home", 5, service=False), "service-gone"),
        (state("home", 5, late_from=builds.NOW - timedelta(hours=1)), "rollout-late"),
    ],
)
def test_what_is_wrong_with_a_deployment_is_told_once_and_once_when_it_is_over(
    scene: Scene, status: IndexStatus, code: str
) -> None:
    scene.publish()
    generation = scene.commit()
    scene.webhook.states = {HOME: IndexStatus("home", generation, status.serving, service=True)}
    scene.sweep()
    assert scene.notifier.notices == []
    scene.webhook.states = {HOME: IndexStatus("home", generation, status.serving, status.service, status.late_from)}
    for _ in range(3):
        scene.sweep()
    scene.webhook.states = {HOME: IndexStatus("home", generation, status.serving, service=True)}
    for _ in range(2):
        scene.sweep()
    assert [(notice.event.value, notice.code) for notice in scene.notifier.notices] == [("fault", code), ("over", code)]


def test_an_index_without_a_commit_that_serves_on_is_told_of(scene: Scene) -> None:
    scene.publish(index="garden")
    scene.webhook.states = {GARDEN: state("garden", 5)}
    for _ in range(2):
        scene.sweep()
    (notice,) = scene.notifier.notices
    assert notice.detail.startswith("garden serves on without a commit")


def test_what_was_wrong_with_a_commit_that_was_deleted_is_over(scene: Scene) -> None:
    """A slip, in a folder of no environment: nothing there is looked at any more, and nobody is to be told for ever."""
    slip = Target("productoin", "home")
    scene.publish()
    scene.commit(target=slip)
    scene.webhook.failure = EnvironmentUnknown("no CD webhook is configured for the environment 'productoin'")
    for _ in range(2):
        scene.sweep()
        scene.clock.sleep(600)
    scene.webhook.failure = None
    scene.store.delete(slip.commit_name)
    for _ in range(2):
        scene.sweep()
    told = [notice.event.value for notice in scene.notifier.notices if notice.environment == "productoin"]
    assert told == ["fault", "over"]


def test_what_was_wrong_with_an_index_that_is_gone_is_over(scene: Scene) -> None:
    scene.publish(index="garden")
    scene.webhook.states = {GARDEN: state("garden", 5)}
    scene.sweep()
    scene.webhook.states = {}
    for _ in range(2):
        scene.sweep()
    assert [notice.event.value for notice in scene.notifier.notices] == ["fault", "over"]


def test_a_build_that_serves_and_can_no_longer_be_pulled_is_told_of(scene: Scene) -> None:
    scene.publish()
    scene.webhook.states = {HOME: state("home", scene.commit())}
    scene.sweep()
    assert scene.notifier.notices == []
    scene.store.delete("indexes/home/b1/0.annoy")
    for _ in range(2):
        scene.sweep()
    (notice,) = scene.notifier.notices
    assert notice.code == "build-gone"
    assert "indexes/home/b1/0.annoy" in notice.detail


def test_an_index_that_gets_no_new_commits_is_told_of_where_a_time_was_set(scene: Scene) -> None:
    scene.publish()
    scene.webhook.states = {HOME: state("home", scene.commit())}
    scene.limits = Limits(freshness={"staging": timedelta(hours=1)})
    scene.clock.moment = scene.store.listing(HOME.commit_name)[0].updated + timedelta(minutes=59)
    scene.sweep()
    assert scene.notifier.notices == []
    scene.clock.moment += timedelta(minutes=2)
    for _ in range(2):
        scene.sweep()
    assert [notice.code for notice in scene.notifier.notices] == ["index-stale"]


def test_an_index_on_hold_is_old_on_purpose_until_it_is_released_or_a_week_has_passed(scene: Scene) -> None:
    scene.publish()
    held = scene.commit(hold=True)
    scene.webhook.states = {HOME: state("home", held)}
    scene.limits = Limits(freshness={"staging": timedelta(hours=1)})
    since = scene.store.listing(HOME.commit_name)[0].updated
    for age in (timedelta(hours=2), LONGEST_HOLD):
        scene.clock.moment = since + age
        scene.sweep()
    assert scene.notifier.notices == []
    scene.clock.moment = since + LONGEST_HOLD + timedelta(hours=1)
    for _ in range(2):
        scene.sweep()
    (notice,) = scene.notifier.notices
    assert notice.code == "index-stale"
    assert "on hold for 7 days" in notice.detail
    assert "--release" in notice.detail


def test_sweeps_do_not_multiply(scene: Scene) -> None:
    """One index that may pass for a day: 96 scheduled sweeps look 96 times, since none of them comes again."""
    scene.publish()
    scene.commit()
    scene.webhook.failure = WebhookUnavailable("503")
    for _ in range(96):
        scene.clock.sleep(900)
        scene.sweep()
    assert scene.webhook.status_calls == 2 * 96
    assert [notice.code for notice in scene.notifier.notices].count(
        "webhook-unavailable"
    ) == 2  # one for each environment


def test_a_sweep_survives_what_nobody_expected(scene: Scene) -> None:
    for index in ("garden", "home"):
        scene.publish(index=index)
        scene.commit(target=Target("staging", index))
    scene.store.fail = lambda _kind, name: ZeroDivisionError(name) if name == "indexes/home/b1/" else None
    random.seed(1)
    scene.sweep()
    assert [request.target.index for request in scene.webhook.asked] == ["garden"]


def test_a_commit_that_was_undone_is_not_asked_for_again_once_what_served_before_is_restored(scene: Scene) -> None:
    scene.publish("b2")
    live = scene.commit("b2")
    write_receipt(scene.store, builds.receipt(live, outcome=Outcome.UNDONE))
    scene.webhook.states = {HOME: state("home", 5)}  # an older commit, which was restored
    scene.sweep()
    scene.look()
    assert scene.webhook.asked == []


def test_a_shadow_whose_commit_is_gone_is_withdrawn_and_an_index_is_only_told_of(scene: Scene) -> None:
    shadow = HOME.shadow
    scene.publish("b1")
    scene.webhook.states = {HOME: state(HOME.index, 4), shadow: state(shadow.index, 5, shadow=True)}
    scene.sweep()
    assert scene.webhook.withdrawn == [shadow]
    assert scene.webhook.asked == []


def test_a_shadow_with_its_commit_is_looked_at_as_any_index_and_never_stale(scene: Scene) -> None:
    scene.publish("b1")
    commit = Commit(IndexPrefix(HOME.index, "b1"))
    generation = write_commit(scene.store, HOME.shadow, commit, if_generation_match=None).generation
    scene.webhook.states = {HOME.shadow: state(HOME.shadow.index, 5, shadow=True)}
    scene.sweep()
    assert scene.webhook.withdrawn == []
    assert [(asked.target, asked.generation) for asked in scene.webhook.asked] == [(HOME.shadow, generation)]


def served(scene: Scene, **generations: int) -> None:
    """Builds, and receipts that say that commits of them served."""
    for build, generation in generations.items():
        scene.publish(build)
        write_receipt(scene.store, builds.receipt(generation, index_prefix=IndexPrefix("home", build)))


@pytest.mark.parametrize("how", ["rewound by hand (kubectl rollout undo)", "pod refused the build; b1 serves on"])
def test_a_commit_whose_receipt_says_served_and_that_was_taken_back_since_is_told_of(scene: Scene, how: str) -> None:
    """The first receipt stands: only the cluster knows better, after a rewind or a loss."""
    served(scene, b1=5, b2=scene.commit("b2"))
    live = scene.store.stat(HOME.commit_name)
    assert live is not None
    scene.webhook.states = {HOME: state("home", live.generation, taken_back=how)}
    for _ in range(3):
        scene.sweep()
    (notice,) = scene.notifier.notices
    assert notice.code == "served-commit-lost"
    assert notice.detail == f"commit {live.generation} served once, and does no more: {how}"
    scene.webhook.states = {HOME: state("home", live.generation, late_from=builds.NOW + timedelta(hours=1))}
    scene.sweep()  # somebody has it deployed again: nobody knows yet
    assert len(scene.notifier.notices) == 1
    scene.webhook.states = {HOME: state("home", live.generation)}
    scene.sweep()
    assert [(each.event.value, each.code) for each in scene.notifier.notices[1:]] == [("over", "served-commit-lost")]


def test_a_commit_that_was_undone_and_left_what_served_is_told_by_its_receipt_alone(scene: Scene) -> None:
    scene.publish("b1")
    live = scene.commit("b2")
    write_receipt(scene.store, builds.receipt(live, outcome=Outcome.UNDONE))
    for serving in (IndexPrefix("home", "b1"), None):  # the first commit ever left nothing
        scene.webhook.states = {HOME: IndexStatus("home", live, serving, service=True, taken_back="bad")}
        scene.sweep()
    assert scene.notifier.notices == []
    assert scene.webhook.asked == []


def test_where_nothing_serves_since_a_restoration_failed_it_is_tried_again_and_told_once(scene: Scene) -> None:
    served(scene, b1=5, b2=6)
    live = scene.commit("b3")
    write_receipt(scene.store, builds.receipt(live, outcome=Outcome.UNDONE))
    stopped = IndexStatus("home", 5, None, service=True, taken_back="not ready within 60 s")
    scene.webhook.states = {HOME: stopped}
    for _ in range(3):
        scene.sweep()
    assert [(asked.generation, asked.restores) for asked in scene.webhook.asked] == [(6, live)] * 3
    (notice,) = scene.notifier.notices
    assert notice.code == "served-commit-lost"
    assert "nothing of home serves, and what served last is tried again: not ready within 60 s" in notice.detail
    scene.webhook.states = {HOME: state("home", 6)}
    scene.sweep()
    assert [(each.event.value, each.code) for each in scene.notifier.notices[1:]] == [("over", "served-commit-lost")]
