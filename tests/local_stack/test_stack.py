from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from local_stack.delivery import DeliveryPolicy
from local_stack.processes import ProgramFailed
from local_stack.pubsub import Message
from local_stack.stack import LocalStack, StackOptions
from model_repository.bucket.gcs_store import GcsStore
from model_repository.names import IndexPrefix
from tests import builds
from tests.running import running_for


def lose(message: Message) -> bool:
    return message.attributes["objectId"].endswith("/lost.json")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    options = StackOptions(environment="staging", delivery=DeliveryPolicy(first_wait=0.05, duplicates=1.0))
    with LocalStack(tmp_path_factory.mktemp("stack"), options, lose=lose) as running:
        yield running
    assert running_for(running.work_dir) == []


def bucket_of(stack: LocalStack) -> storage.Bucket:
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    client = storage.Client("local", anonymous, client_options={"api_endpoint": stack.bucket_url})
    return client.bucket(stack.options.bucket)


def test_all_parts_answer_once_it_is_started(stack: LocalStack) -> None:
    stack.check()
    request = urllib.request.Request(f"{stack.webhook_url}/v1/deployments", headers=stack.webhook_headers)
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["deployments"] == []
    assert set(stack.seconds) == {"bucket-server", "cluster", "function", "cd-webhook"}
    assert stack.service_url("chairs") is None
    assert stack.cluster.deployment("chairs") is None
    assert stack.cluster.pods("chairs") == []


def test_uploading_a_commit_is_enough_to_hear_what_became_of_it(stack: LocalStack) -> None:
    blob = bucket_of(stack).blob("commits/staging/chairs.json")
    blob.upload_from_string(b"{not json")

    told = stack.wait_for_notification(lambda it: it.get("generation") == str(blob.generation), 60)

    assert told is not None
    assert (told["outcome"], told["index"]) == ("rejected", "chairs")
    duplicate = stack.delivery.wait_for(lambda attempt: attempt.duplicate and attempt.acknowledged, 60)
    assert duplicate is not None
    receipt = bucket_of(stack).blob(f"deployments/staging/chairs/{blob.generation}.json")
    assert json.loads(receipt.download_as_bytes())["outcome"] == "rejected"
    assert told in stack.notifications()


def test_what_the_webhook_refuses_it_tells_itself_and_once(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", stack.bucket_url)
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs"}}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    stack.cluster.create(service | {"spec": {"selector": {"app": "theirs"}, "ports": ports}})
    prefix = IndexPrefix("theirs", "b1")
    builds.publish_build(GcsStore(stack.options.bucket), prefix)
    blob = bucket_of(stack).blob("commits/staging/theirs.json")
    blob.upload_from_string(json.dumps({"index_prefix": str(prefix)}).encode())
    generation = str(blob.generation)

    told = stack.wait_for_notification(lambda it: it.get("generation") == generation, 60)

    assert told is not None
    assert (told["outcome"], told["index"]) == ("rejected", "theirs")
    assert "Service theirs: isn't managed by indexpush; rename the index" in told["detail"]
    assert stack.delivery.wait_for(lambda it: it.message.attributes["objectId"] == blob.name and it.acknowledged, 60)
    receipt = bucket_of(stack).blob(f"deployments/staging/theirs/{generation}.json")
    assert json.loads(receipt.download_as_bytes())["detail"] == told["detail"]
    assert stack.delivery.wait_for(
        lambda it: it.message.attributes["objectId"] == blob.name and it.duplicate and it.acknowledged, 60
    )
    assert [it for it in stack.notifications() if it.get("generation") == generation] == [told]


def test_a_commit_of_another_environment_is_refused_there(stack: LocalStack) -> None:
    blob = bucket_of(stack).blob("commits/production/chairs.json")
    blob.upload_from_string(b'{"index_prefix": "indexes/chairs/one"}')

    told = stack.wait_for_notification(lambda it: it.get("generation") == str(blob.generation), 60)

    assert told is not None
    assert told["environment"] == "production"


def test_an_event_can_be_lost_on_purpose(stack: LocalStack) -> None:
    for name in ("lost", "kept"):
        bucket_of(stack).blob(f"commits/staging/{name}.json").upload_from_string(b"{not json")
    kept = stack.delivery.wait_for(lambda attempt: "kept" in attempt.message.attributes["objectId"], 60)

    assert kept is not None

    assert not any("lost" in attempt.message.attributes["objectId"] for attempt in stack.delivery.attempts())


def test_a_webhook_that_is_killed_is_started_again(stack: LocalStack) -> None:
    assert stack.revive() == []
    stack.kill("cd-webhook")
    with pytest.raises(ProgramFailed, match="cd-webhook was killed by SIGKILL; its log"):
        stack.check()

    assert stack.revive() == ["cd-webhook was killed by SIGKILL"]

    stack.check()
    request = urllib.request.Request(f"{stack.webhook_url}/v1/deployments", headers=stack.webhook_headers)
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["deployments"] == []


def test_a_part_that_can_not_start_stops_the_whole_stack(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("nonsense: true\n")
    stack = LocalStack(tmp_path / "work", StackOptions(pod_values=values))

    with pytest.raises(ProgramFailed, match=r"cd-webhook ended with status 64; .*field 'replicas' is missing"):
        stack.start()

    assert running_for(stack.work_dir) == []
