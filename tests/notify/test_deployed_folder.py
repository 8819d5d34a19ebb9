"""The deployed folder as a process: the real functions-framework, a real bucket server, and Slack's own client."""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator

import pytest

from local_stack.bucket_server import create_bucket
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.commit import Commit
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix, Target
from model_repository.repository import write_commit, write_receipt
from tests import builds
from tests.notify.slack_server import CHANNEL, TOKEN, SlackServer, serve_slack
from tests.on_commit.deployed_folder import Deployed, RunningFunction, deploy, running


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return deploy(tmp_path_factory.mktemp("deployed"), "notify")


@pytest.fixture(scope="module")
def slack() -> Iterator[SlackServer]:
    with serve_slack() as found:
        yield found


@pytest.fixture(scope="module")
def instances(
    deployed: Deployed, bucket_server: str, slack: SlackServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningFunction, RunningFunction]]:
    """Two processes of the function on one bucket."""
    bucket = f"tests-{uuid.uuid4().hex[:12]}"
    create_bucket(bucket_server, bucket)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", bucket_server)
        store = GcsStore(bucket)
    secret = tmp_path_factory.mktemp("secret") / "token"
    secret.write_text(TOKEN)
    environment = deployed.environment(
        MODEL_REPOSITORY=f"gs://{bucket}",
        SLACK_CHANNEL=CHANNEL,
        SLACK_TOKEN_FILE=str(secret),
        SLACK_API_URL=slack.url,
        STORAGE_EMULATOR_HOST=bucket_server,
    )
    logs = [tmp_path_factory.mktemp("function") / "stderr.txt" for _ in range(2)]
    with running(deployed, environment, logs[0]) as one, running(deployed, environment, logs[1]) as other:
        yield RunningFunction(one, logs[0], bucket, store), RunningFunction(other, logs[1], bucket, store)


@pytest.fixture
def function(instances: tuple[RunningFunction, RunningFunction]) -> RunningFunction:
    return instances[0]


@pytest.fixture(autouse=True)
def _fresh(slack: SlackServer) -> None:
    slack.messages.clear()
    slack.answer = lambda _: None


def commit(function: RunningFunction, index: str) -> int:
    said = Commit(IndexPrefix(index, "b1"), by="ada")
    return write_commit(function.store, Target("staging", index), said, if_generation_match=None).generation


def receipt(function: RunningFunction, index: str, generation: int, outcome: Outcome) -> str:
    target = Target("staging", index)
    now = function.store.stat(target.commit_name)
    assert now is not None
    said = builds.receipt(generation, target, outcome=outcome, started=now.updated, finished=now.updated, detail="so")
    write_receipt(function.store, said)
    return target.receipt_name(generation)


def test_a_commit_is_one_message_however_its_events_come(function: RunningFunction, slack: SlackServer) -> None:
    generation = commit(function, "chairs")
    assert function.storage_event("commits/staging/chairs.json") == 200
    assert function.pubsub_event(function.notification("commits/staging/chairs.json")) == 200
    name = receipt(function, "chairs", generation, Outcome.SERVED)
    assert function.pubsub_event(function.notification(name)) == 200
    assert function.pubsub_event(function.notification(name)) == 200
    assert function.storage_event("commits/staging/chairs.json") == 200
    (message,) = slack.messages
    assert message.text.endswith("Served after 0 s.")
    assert len(message.edits) == 1


def test_a_subscription_may_push_to_the_function_itself(function: RunningFunction, slack: SlackServer) -> None:
    commit(function, "beds")
    body = json.dumps(function.notification("commits/staging/beds.json")).encode()
    assert function.post({"Content-Type": "application/json"}, body) == 200
    assert ["*beds*" in message.text for message in slack.messages] == [True]


def test_events_of_one_commit_at_once_post_one_message(
    instances: tuple[RunningFunction, RunningFunction], slack: SlackServer
) -> None:
    function = instances[0]
    name = receipt(function, "lamps", commit(function, "lamps"), Outcome.UNDONE)
    names = ["commits/staging/lamps.json", name] * 4
    statuses: list[int] = []

    def deliver(to: RunningFunction, each: str) -> None:
        while (status := to.storage_event(each)) == 503:  # as Pub/Sub does
            statuses.append(status)
        statuses.append(status)

    threads = [threading.Thread(target=deliver, args=(to, each)) for each in names for to in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) == len(threads)
    (message,) = slack.messages
    assert "`indexpush rollback lamps" in message.text


def test_a_message_asks_for_a_sweep_that_finds_what_got_lost(function: RunningFunction, slack: SlackServer) -> None:
    commit(function, "taps")
    assert function.pubsub_event(function.message(sweep="true")) == 200
    assert ["*taps*" in message.text for message in slack.messages] == [True]


def test_slack_that_asks_for_time_brings_the_event_back(function: RunningFunction, slack: SlackServer) -> None:
    commit(function, "rugs")
    slack.answer = lambda _: (429, {"Retry-After": "0"}, {"ok": False, "error": "ratelimited"})
    assert function.storage_event("commits/staging/rugs.json") == 503
    slack.answer = lambda _: None
    assert function.storage_event("commits/staging/rugs.json") == 200
    assert len(slack.messages) == 1
    assert "tell-busy" in [line.get("code") for line in function.lines()]


def test_what_slack_refuses_is_acknowledged_and_the_log_names_the_mend(
    function: RunningFunction, slack: SlackServer
) -> None:
    commit(function, "sofas")
    slack.refuse("not_in_channel")
    assert function.storage_event("commits/staging/sofas.json") == 200
    line = function.lines()[-1]
    assert (line["severity"], line["code"], line["index"]) == ("ERROR", "tell-refused", "sofas")
    assert "/invite it" in line["message"]
    assert TOKEN not in function.log.read_text()


def test_other_objects_and_garbage_are_acknowledged(function: RunningFunction, slack: SlackServer) -> None:
    assert function.storage_event("indexes/chairs/b1/index.json") == 200
    assert function.storage_event("reports/chairs/none.json") == 200
    assert function.pubsub_event({"message": "garbage"}) == 200
    assert slack.messages == []


def test_the_set_up_check_runs_where_the_function_does(deployed: Deployed) -> None:
    check = [str(deployed.python), "main.py", "--check"]
    found = subprocess.run(
        check, cwd=deployed.folder, env=deployed.environment(), capture_output=True, text=True, check=False
    )
    assert found.returncode == 64
    assert [line.split()[:2] for line in found.stdout.splitlines()] == [
        ["WRONG", "MODEL_REPOSITORY"],
        ["WRONG", "SLACK_CHANNEL"],
    ]
