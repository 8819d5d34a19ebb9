"""One commit, all the way: event, function, webhook, Deployment and Service, pull, proof, an answer."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial

import pytest

from local_stack.demo import checks
from model_repository.documents.commit import Commit
from model_repository.documents.receipts.filter_receipt import FilterOutcome, FilterReceipt
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import Target
from model_repository.repository import read_filter_receipt, write_commit, write_filter
from operator_cli.commands.compare import compare_items
from tests.kubernetes.installation import ENVIRONMENT, NAMESPACE, SEARCH_IMAGE
from tests.kubernetes.kube import Object, until
from tests.kubernetes.node_scene import CATALOGUE, INDEX, PRODUCTS, Scene, ready, restarts, unbroken

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


def test_the_batch_s_first_commit_becomes_an_answer_through_the_service(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = scene.receipt(INDEX, scene.first_generation)
    checks.went_live(receipt, scene.first_status, str(scene.build))
    attempts = [one for one in scene.stand_ins("/attempts") if one["generation"] == str(scene.first_generation)]
    assert len(attempts) == len(_acknowledged(scene, scene.first_generation)) > 0, attempts
    with capsys.disabled():
        took = receipt.finished.timestamp() - scene.first_committed
        print(f"\nfirst commit of an index -> served {took:.1f} s")  # noqa: T201


def test_items_pictures_and_vectors_are_answered(scene: Scene) -> None:
    search, item = scene.search(INDEX), scene.items[7]
    picture = next(
        line["file"]
        for line in map(json.loads, (CATALOGUE / "catalogue.jsonl").read_text(encoding="utf-8").splitlines())
        if line["id"] == item
    )
    checks.answered(search.similar(item, 5), 5, "item")
    by_picture = search.by_picture((CATALOGUE / picture).read_bytes(), 5)
    checks.found_itself(by_picture, item, "picture")
    by_vector = search.by_vector(search.vector(item), 5)
    checks.found_itself(by_vector, item, "vector")
    assert scene.search(INDEX).status()["items"] == PRODUCTS


def test_what_is_sold_out_is_gone_from_every_pod_soon_after_the_upload(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    search, target = scene.search(INDEX), Target(ENVIRONMENT, INDEX)
    item = scene.items[7]

    def neighbours() -> set[str]:
        return {neighbor["id"] for neighbor in search.similar(item, 100)}

    def put_in_force(items: list[str]) -> FilterReceipt:
        live = write_filter(scene.store, target, items, by="stock")
        until(lambda: scene.store.stat(target.filter_receipt_name(live.generation)), "a receipt of the filter")
        return read_filter_receipt(scene.store, target, live.generation)

    before = neighbours()
    hidden = sorted(before)[:3]
    serving = [pod for pod in scene.pods(INDEX) if ready(pod)]
    with scene.asking(INDEX) as client:
        receipt = put_in_force(hidden)
        assert (receipt.outcome, receipt.hidden) == (FilterOutcome.APPLIED, 3), receipt.detail
        assert receipt.pods >= len(serving)
        assert neighbours() & set(hidden) == set()
        assert put_in_force([]).outcome is FilterOutcome.APPLIED
        assert neighbours() == before
    unbroken(client.traffic)
    with capsys.disabled():
        took = (receipt.finished - receipt.started).total_seconds()
        print(f"\na filter, from the webhook to all {receipt.pods} pods {took:.1f} s")  # noqa: T201


def test_a_shadow_serves_beside_the_index_and_goes_with_all_that_is_its_once_its_commit_is_gone(scene: Scene) -> None:
    shadow = Target(ENVIRONMENT, INDEX).shadow
    commit = Commit(scene.build, "people", "version 2")

    def gone(kind: str) -> bool:
        label = f"app.kubernetes.io/instance={shadow.index}"
        return not scene.kube.kubectl("-n", NAMESPACE, "get", kind, "-l", label, "-o", "name")

    with scene.asking(INDEX) as client:
        generation = write_commit(scene.store, shadow, commit, if_generation_match=None).generation
        receipt = scene.receipt(shadow.index, generation)
        assert receipt.outcome is Outcome.SERVED, receipt.detail
        assert scene.status(shadow.index)["shadow"]
        assert "stays" in scene.withdraw(shadow.index)["detail"]
        _, _, compared = compare_items(scene.url(INDEX), scene.url(shadow.index), 20, 10)
        assert compared.overlap == 1.0
        scene.store.delete(shadow.commit_name)
        assert "deleted" in scene.withdraw(shadow.index)["detail"]
        for kind in ("deployment", "service", "poddisruptionbudget", "pod"):
            until(partial(gone, kind), f"the end of each {kind}", 120.0)
    unbroken(client.traffic)
    assert str(generation) not in map(str, client.traffic.generations)


def test_how_long_a_commit_takes_to_be_ready(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    began = datetime.now(UTC).timestamp()
    generation = scene.commit(scene.build)
    answered = scene.answers(INDEX, generation, 60.0)
    (pod,) = [pod for pod in scene.pods(INDEX, generation) if ready(pod)]
    conditions = {c["type"]: _moment(c["lastTransitionTime"]) for c in pod["status"]["conditions"]}
    created = _moment(pod["metadata"]["creationTimestamp"])
    with capsys.disabled():
        print(  # noqa: T201
            f"\ncommit -> an answer through the Service {answered - began:.1f} s; to the second: pod made "
            f"{created - began:.0f}, pulled {conditions['Initialized'] - began:.0f}, "
            f"ready {conditions['Ready'] - began:.0f}"
        )
    assert scene.receipt(INDEX, generation).outcome is Outcome.SERVED
    assert answered - began < 30


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_kubectl_describe_tells_what_became_of_a_commit(scene: Scene) -> None:
    told = scene.kube.kubectl("-n", NAMESPACE, "describe", "deployment", INDEX)
    assert re.search(rf"Normal +IndexServed .*{scene.build} was served as commit \d+", told), told


def test_the_pods_have_no_rights_and_no_tokens(scene: Scene) -> None:
    pod = until(lambda: next(iter(filter(ready, scene.pods(INDEX))), None), "a ready pod")
    name = pod["metadata"]["name"]
    said = scene.kube.kubectl(
        "-n", NAMESPACE, "exec", name, "-c", "search-server", "--", "python", "-c",
        "import os, pathlib\n"
        "print(os.getuid(), pathlib.Path('/var/run/secrets').exists())\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))])\n"
        "try:\n    open('/app/x', 'w')\nexcept OSError as error:\n    print(error.strerror)",
    )  # fmt: skip
    assert said.splitlines() == ["65532 False", "['0000000000000000', '1']", "Read-only file system"]
    assert {c["image"] for c in pod["spec"]["containers"] + pod["spec"]["initContainers"]} == {SEARCH_IMAGE}


def test_an_event_that_comes_twice_deploys_once(scene: Scene) -> None:
    generation = scene.settled(scene.build)
    before, pods, heard = scene.deployment(INDEX), restarts(scene.pods(INDEX)), len(_acknowledged(scene, generation))
    scene.stand_ins(f"/deliver-again/{Target(ENVIRONMENT, INDEX).commit_name}", act=True)
    until(lambda: len(_acknowledged(scene, generation)) > heard, "the function to take the event once more")
    assert scene.deployment(INDEX)["metadata"]["generation"] == before["metadata"]["generation"]
    assert restarts(scene.pods(INDEX)) == pods
    assert {g: scene.times_written(INDEX, g) for g in scene.receipts(INDEX)} == dict.fromkeys(scene.receipts(INDEX), 1)


def _acknowledged(scene: Scene, generation: int) -> list[Object]:
    attempts = scene.stand_ins("/attempts")
    return [one for one in attempts if one["generation"] == str(generation) and 200 <= one["status"] < 300]
