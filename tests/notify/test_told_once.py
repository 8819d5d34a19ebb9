"""Each thing is told once, though answers get lost, instances die, and several hear of one commit."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from model_repository.bucket.store import ObjectInfo
from model_repository.documents.receipts.receipt import Outcome
from notify.deliver import CLAIM, Claimed
from notify.sinks.sink import LONGEST_PAUSE, SinkUnavailable
from tests.memory_store import MemoryStore
from tests.notify.scene import Scene
from tests.notify.slack_server import CHANNEL, TOKEN, SlackServer


def test_an_answer_that_was_lost_makes_no_second_message(scene: Scene, slack: SlackServer) -> None:
    scene.commit()
    for number in range(5):  # others talk there too: the message isn't on the newest page
        slack.call("chat.postMessage", TOKEN, {"channel": CHANNEL, "text": f"chat {number}"})
    slack.lost = {"chat.postMessage"}
    with pytest.raises(SinkUnavailable):
        scene.look()
    slack.lost = set()
    for number in range(5):
        slack.call("chat.postMessage", TOKEN, {"channel": CHANNEL, "text": f"chat {number}"})
    with pytest.raises(Claimed):  # it may be on its way still
        scene.look()
    scene.after(minutes=1)
    scene.look()
    ours = [message for message in slack.messages if message.metadata]
    assert len(ours) == 1
    scene.receipt(scene.commit("b2"), Outcome.UNDONE)
    scene.look()
    assert len(slack.posted) == 12


def test_the_alarm_of_an_answer_that_was_lost_is_given_once(scene: Scene, slack: SlackServer) -> None:
    generation = scene.commit()
    scene.look()
    scene.receipt(generation, Outcome.UNDONE, detail="no")
    slack.lost = {"chat.postMessage"}
    with pytest.raises(SinkUnavailable):
        scene.look()
    slack.lost = set()
    scene.after(minutes=1)
    scene.look()
    assert len(slack.replies) == 1
    assert "Undone" in slack.posted[0].text


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=2), timedelta(hours=20), -timedelta(hours=2)])
def test_an_instance_that_dies_after_posting_leaves_a_message_that_the_next_one_finds(
    scene: Scene, slack: SlackServer, ahead: timedelta
) -> None:
    """Whatever its clock says: nobody waits for that, and nothing is told twice."""

    class Killed(BaseException):
        pass

    class Dying(MemoryStore):
        """Forwards to the scene's bucket until what was told is to be written down."""

        writes = 0

        def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
            self.writes += 1
            if self.writes > 1:
                raise Killed
            return scene.store.write(name, data, if_generation_match=if_generation_match)

    dying = Dying("a-bucket")
    generation = scene.commit()
    dying._objects = scene.store._objects
    scene.ahead = ahead
    with pytest.raises(Killed):
        scene.look(dying)
    assert len(slack.posted) == 1
    if not ahead:
        with pytest.raises(Claimed):
            scene.look()
    scene.ahead = timedelta(0)
    scene.after(seconds=(LONGEST_PAUSE if ahead else CLAIM.total_seconds()) + 1)
    scene.receipt(generation)
    scene.look()
    scene.look()
    assert [message.text.endswith("Served after 7 s.") for message in slack.messages] == [True]


@pytest.mark.parametrize("instances", [2, 8])
def test_instances_that_hear_of_one_commit_at_once_post_one_message(
    scene: Scene, slack: SlackServer, instances: int
) -> None:
    class Together(MemoryStore):
        """A bucket in which all instances have read the record before one writes it."""

        def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
            if if_generation_match == 0:
                everyone.wait()
            with lock:
                return scene.store.write(name, data, if_generation_match=if_generation_match)

    everyone, lock = threading.Barrier(instances), threading.Lock()
    together = Together("a-bucket")
    generation = scene.commit()
    together._objects = scene.store._objects
    told: list[str] = []

    def instance() -> None:
        try:
            scene.look(together)
            told.append("told")
        except Claimed:
            told.append("claimed")

    threads = [threading.Thread(target=instance) for _ in range(instances)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["claimed"] * (instances - 1) + ["told"]
    scene.receipt(generation)
    scene.look()
    assert len(slack.messages) == 1


def test_what_was_in_doubt_stays_so_while_slack_refuses(scene: Scene, slack: SlackServer) -> None:
    scene.commit()
    slack.lost = {"chat.postMessage"}
    with pytest.raises(SinkUnavailable):
        scene.look()
    slack.lost = set()
    slack.refuse("missing_scope", "conversations.history")
    for _ in range(2):
        scene.after(minutes=1)
        scene.look()
    assert "missing_scope" in scene.lines()[-1]["message"]
    slack.answer = lambda _: None
    scene.sweep()
    assert len(slack.messages) == 1
