"""What people see on Slack: events, a bucket in memory, and Slack's own client against a server of its API's shape."""

from __future__ import annotations

from datetime import timedelta

import pytest

from model_repository.documents.incidents import Incident
from model_repository.documents.receipts.receipt import Outcome
from tests.notify.scene import HOME, TARGET, Scene
from tests.notify.slack_server import SlackServer

STATE = HOME.state_name("slack")


def test_a_commit_is_one_message_from_its_upload_until_it_serves(scene: Scene, slack: SlackServer) -> None:
    generation = scene.commit(by="ada", reason="new <shoes>")
    scene.look()
    (message,) = slack.messages
    assert message.text == (
        ':hourglass_flowing_sand: *home* in *staging*: build `b1`, committed by ada ("new &lt;shoes&gt;")'
    )
    scene.after(minutes=2)
    scene.sweep()
    assert message.text.endswith("Rolling out.")
    scene.receipt(generation, by="ada")
    scene.look()
    assert message.text.endswith("Served after 7 s.")
    assert len(message.edits) == 2
    assert slack.messages == [message]


def test_a_commit_that_was_undone_says_why_and_what_to_type_and_calls_the_channel(
    scene: Scene, slack: SlackServer
) -> None:
    generation = scene.commit()
    scene.look()
    scene.receipt(generation, Outcome.UNDONE, code="proof-failed", detail="no pod proved itself")
    scene.look()
    message, alarm = slack.messages
    assert "Undone (proof-failed): no pod proved itself" in message.text
    assert "`indexpush rollback home --hold --wait --environment staging --repository gs://a-bucket`" in message.text
    assert (alarm.thread, alarm.broadcast) == (message.ts, True)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [(Outcome.UNDONE, "no pod runs now"), (Outcome.REJECTED, "no pod runs now\nNothing of it was rolled out.")],
)
def test_nothing_is_said_to_serve_on_that_may_never_have_served(
    scene: Scene, slack: SlackServer, outcome: Outcome, said: str
) -> None:
    generation = scene.commit()
    scene.look()
    scene.receipt(generation, outcome, detail="no pod runs now")
    scene.look()
    (message, _) = slack.messages
    assert said in message.text
    assert "serv" not in message.text


def test_a_commit_that_is_replaced_without_a_receipt_is_not_said_to_roll_out_for_ever(
    scene: Scene, slack: SlackServer
) -> None:
    first = scene.commit()
    scene.look()
    scene.after(minutes=2)
    scene.sweep()
    scene.commit()
    for _ in range(2):
        scene.look()
    message = slack.posted[0]
    assert message.text.endswith("Rolling out.\nNo longer live.")
    scene.receipt(first, by="ada")  # it was faster, after all
    scene.look()
    assert message.text.endswith("Served after 7 s.")
    assert slack.replies == []


def test_a_redelivered_event_tells_nothing(scene: Scene, slack: SlackServer) -> None:
    generation = scene.commit()
    scene.look()
    scene.receipt(generation, Outcome.UNDONE, detail="no")
    for _ in range(3):
        scene.look()
    said = list(slack.calls)
    scene.look()
    scene.sweep()
    assert slack.calls == said
    assert len(slack.posted) == len(slack.replies) == 1


def test_events_that_come_in_any_order_end_in_the_same_message(scene: Scene, slack: SlackServer) -> None:
    scene.receipt(scene.commit())
    scene.look()
    scene.look()
    (message,) = slack.messages
    assert message.text.endswith("Served after 7 s.")


def test_what_stays_undone_is_repeated_in_the_thread_at_growing_intervals(scene: Scene, slack: SlackServer) -> None:
    generation = scene.commit()
    scene.receipt(generation, Outcome.UNDONE, detail="no")
    scene.look()
    start, told = scene.clock.now(), []
    for _ in range(12 * 24 * 3):
        scene.after(minutes=5)
        before = len(slack.replies)
        scene.sweep()
        told += [(scene.clock.now() - start) / timedelta(hours=1)] * (len(slack.replies) - before)
    assert told == [1, 5, 21, 45, 69]
    assert {reply.thread for reply in slack.replies} == {slack.posted[0].ts}
    scene.receipt(scene.commit("b2"))
    scene.look()
    scene.after(days=2)
    scene.sweep()
    first, second = slack.posted
    assert first.text.endswith("No longer live.")
    assert second.text.endswith("Served after 7 s.")
    assert len(slack.replies) == len(told)


def test_a_fault_that_lasts_is_one_message_and_says_when_it_is_over(scene: Scene, slack: SlackServer) -> None:
    fault = Incident("webhook-unavailable", "the webhook doesn't answer", scene.clock.now())
    scene.incidents(fault)
    scene.look()
    assert slack.messages == []
    scene.incidents(Incident(fault.code, fault.detail, fault.since, told=True))
    scene.look()
    scene.after(minutes=90)
    scene.sweep()
    scene.store.write(TARGET.incidents_name, b"{", if_generation_match=None)  # which says nothing, not that it is over
    scene.look()
    assert "Over" not in slack.messages[0].text
    scene.incidents()
    scene.look()
    message, reminder = slack.messages
    assert "webhook-unavailable since 2026-11-21 12:00 UTC: the webhook doesn't answer" in message.edits[-1]
    assert message.text.endswith("Over at 2026-11-21 13:30 UTC.")
    assert reminder.text.startswith("Still so, since 2026-11-21 12:00 UTC")


def test_a_fault_of_a_whole_environment_is_told_of_it(scene: Scene, slack: SlackServer) -> None:
    scene.incidents(Incident("access-denied", "no", scene.clock.now(), told=True), name="incidents/staging.json")
    scene.sweep()
    assert slack.messages[0].text.startswith(":warning: *staging*: access-denied")


def test_runs_of_the_batch_that_fail_again_are_told_in_the_thread_of_the_first(
    scene: Scene, slack: SlackServer
) -> None:
    scene.report("b1", "failed", ("too-many-broken", "a third of the pictures"))
    scene.after(hours=0.5)
    scene.report("b2", "failed", ("too-many-broken", "half of the pictures"))
    scene.reported("b1")
    scene.reported("b2")
    (message, again) = slack.messages
    assert "half of the pictures" in message.text
    assert again.thread == message.ts
    scene.after(hours=0.5)
    scene.report("b3", "committed")
    assert message.text.endswith("Over: the run for build `b3` ended well.")
    scene.reported("b1")
    scene.reported("b2")
    scene.reported("b3")
    assert len(slack.messages) == 2
    scene.after(hours=1)
    scene.report("b4", "stopped", ("change-unexpected", "it differs"))
    assert "`indexpush diff home b4 --repository gs://a-bucket`" in slack.posted[1].text


def test_reports_that_are_well_or_no_reports_tell_nothing(scene: Scene, slack: SlackServer) -> None:
    scene.report("b1", "committed")
    scene.store.write("reports/home/b2.json", b"[]", if_generation_match=0)
    scene.reported("b2")
    scene.reported("b3")
    assert slack.calls == []


def test_an_installation_that_is_older_than_the_function_is_not_told_all_over(scene: Scene, slack: SlackServer) -> None:
    scene.receipt(scene.commit())
    scene.after(days=2)
    scene.sweep()
    assert slack.calls == []


def test_a_commit_without_a_receipt_needs_a_person_at_last_unless_nobody_writes_any(
    scene: Scene, slack: SlackServer
) -> None:
    scene.commit()
    scene.look()
    scene.after(minutes=31)
    scene.sweep()
    assert "No receipt for 30 minutes" in slack.posted[0].text
    assert [reply.broadcast for reply in slack.replies] == [True]
    scene.patience = timedelta(0)
    scene.commit("b2")
    scene.look()
    scene.after(days=1)
    scene.sweep()
    assert slack.posted[1].text.startswith(":package:")
    assert slack.posted[1].edits == []


def test_a_commit_waits_in_words_while_a_fault_is_known(scene: Scene, slack: SlackServer) -> None:
    scene.commit()
    scene.incidents(Incident("webhook-unavailable", "it doesn't answer", scene.clock.now()))
    scene.look()
    assert slack.posted[0].text.endswith("Waiting: it doesn't answer")


def test_a_commit_of_an_environment_that_nobody_serves_is_not_said_to_roll_out(
    scene: Scene, slack: SlackServer
) -> None:
    generation = scene.commit()
    fault = Incident("environment-unknown", "no CD webhook is configured for it", scene.clock.now())
    scene.incidents(fault, name="incidents/staging.json")
    scene.after(minutes=2)
    scene.sweep()
    (message,) = slack.posted
    assert message.text.endswith("Waiting: no CD webhook is configured for it")
    scene.receipt(generation)
    scene.look()
    assert message.text.endswith("Served after 7 s.")


def test_a_commit_that_another_one_overtook_is_told_of_to_its_end(scene: Scene, slack: SlackServer) -> None:
    first = scene.commit("b1")
    scene.look()
    second = scene.commit("b2")
    scene.look()
    scene.receipt(first, Outcome.SUPERSEDED, detail="a newer commit came")
    scene.receipt(second)
    scene.look()
    assert [message.text.splitlines()[-1] for message in slack.messages] == [
        "Superseded: a newer commit came",
        "Served after 7 s.",
    ]


def test_a_message_that_somebody_deleted_is_left_alone(scene: Scene, slack: SlackServer) -> None:
    generation = scene.commit()
    scene.look()
    slack.messages.clear()
    scene.receipt(generation)
    scene.look()
    scene.after(hours=30)
    scene.sweep()
    assert slack.messages == []


def test_what_becomes_bad_after_its_message_was_deleted_is_told_anew_and_deleted_again_left_alone(
    scene: Scene, slack: SlackServer
) -> None:
    generation = scene.commit()
    scene.look()
    slack.messages.clear()
    scene.receipt(generation, Outcome.UNDONE, detail="no pod proved itself")
    for _ in range(3):
        scene.look()
    (message,) = slack.messages
    assert "no pod proved itself" in message.text
    assert message.thread is None
    scene.after(hours=2)
    scene.sweep()
    assert [each.thread for each in slack.messages] == [None, message.ts]
    slack.messages.clear()
    scene.after(hours=30)
    scene.sweep()
    assert slack.messages == []


def test_one_index_that_can_not_be_told_keeps_no_other_from_it(scene: Scene, slack: SlackServer) -> None:
    scene.commit()
    scene.store.write("commits/staging/lamps.json", b'{"index_prefix": "indexes/lamps/b7"}', if_generation_match=0)
    scene.store.write(STATE, b"{", if_generation_match=0)
    scene.sweep()
    assert [message.text.split(": ")[1] for message in slack.messages] == ["*lamps* in *staging*"]
    assert "delete it" in scene.lines()[0]["message"]


def test_the_record_does_not_grow_for_ever(scene: Scene, slack: SlackServer) -> None:
    for number in range(60):
        scene.receipt(scene.commit(f"b{number}"), by="x" * 200, reason="y" * 999)
        scene.look()
    assert len(slack.messages) == 60
    assert len(scene.store.read(STATE, limit=10**6).data) < 100_000


def test_a_fault_whose_words_change_all_the_time_is_told_again_all_the_same(scene: Scene, slack: SlackServer) -> None:
    since = scene.clock.now()
    for minutes in range(0, 60 * 25, 5):
        fault = Incident("webhook-unavailable", f"no answer for {minutes} minutes", since, told=True)
        scene.incidents(fault)
        scene.sweep()
        scene.after(minutes=5)
    assert len(slack.posted) == 1
    assert len(slack.replies) == 3
