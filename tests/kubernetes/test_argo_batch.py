"""The batch on Argo Workflows: pictures in a bucket become a live index, whatever is done to the pods of its steps."""

from __future__ import annotations

import base64
import io
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image, ImageDraw

from embedding_batch.main import main
from manifests.argo.values import EACH, STEPS
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import ObjectMissing
from model_repository.exit_codes import ExitCode
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit
from tests.kubernetes.argo_scene import Batches, Killer, Run
from tests.kubernetes.installation import BUCKET, ENVIRONMENT, STAND_INS
from tests.kubernetes.kube import Kube, until
from tests.kubernetes.node_scene import Scene

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

MOMENT = int(time.time())
"""A node may have an earlier session's shop, whose pictures it knows."""
INDEX = f"bazaar-{MOMENT}"
PICTURES, CATEGORIES, SHARDS = 5000, 10, 5
BROKEN = range(4, 204, CATEGORIES)
"""Pictures that can't be read: of one category, so in one shard, and fewer than a careful shop drops in silence."""
NEW = range(PICTURES, PICTURES + 50)
"""Those that the shop has by the time of its second run."""
_CATALOGUE = f"shops/{INDEX}.jsonl"


@dataclass(frozen=True, slots=True)
class Bazaar:
    """A shop's runs. first: one pod of each of its steps was killed.

    cramped: its first step has too little memory, and its catalogue isn't one.
    """

    batches: Batches
    first: Run
    killer: Killer
    cramped: Run


@pytest.fixture(scope="module")
def bazaar(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Bazaar:
    pictures = {f"shops/{INDEX}/{n}.jpg": b"no picture" if n in BROKEN else picture(n) for n in range(NEW.stop)}
    place(scene.kube, pictures | {"shops/malformed.jsonl": b'{"id": "1"}\n', _CATALOGUE: catalogue(range(PICTURES))})
    publish_model(tmp_path_factory.mktemp("model"))
    batches = Batches(scene.kube)
    batches.install()
    malformed = f"gs://{BUCKET}/shops/malformed.jsonl"
    cramped = begin(batches, f"cramped-{MOMENT}", malformed, steps={"list": {"memory_mib": 40}})
    first = begin(batches, INDEX, f"gs://{BUCKET}/{_CATALOGUE}", "--shard-pictures=1000", schedule="* * * * *")
    killer = Killer(scene.kube, first)
    with killer.at_work():
        first.ended(1200)
    return Bazaar(batches, first, killer, cramped)


def test_pictures_become_a_live_index_though_a_pod_of_every_step_is_killed(
    bazaar: Bazaar, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    run = bazaar.first
    assert run.workflow["status"]["phase"] == "Succeeded", run.said()
    assert set(bazaar.killer.killed) == set(STEPS)
    live = read_live_commit(scene.store, Target(ENVIRONMENT, INDEX))
    assert live.commit.index_prefix == IndexPrefix(INDEX, run.build)
    manifest = read_build(scene.store, live.commit.index_prefix).manifest
    assert manifest.items == PICTURES - len(BROKEN)
    assert {partition.category for partition in manifest.partitions} == {f"stall-{n}" for n in range(CATEGORIES)}
    assert scene.receipt(INDEX, live.generation).outcome is Outcome.SERVED
    scene.answers(INDEX, live.generation)
    search = scene.search(INDEX)
    assert search.status()["items"] == manifest.items
    with capsys.disabled():
        took = seconds(run.workflow)
        print(f"\n{PICTURES} pictures, a pod of each of {len(STEPS)} steps killed -> committed {took:.0f} s")  # noqa: T201


@pytest.mark.parametrize("step", STEPS)
def test_of_each_step_the_killed_pod_alone_is_run_again(bazaar: Bazaar, step: str) -> None:
    each = {"fetch": SHARDS, "embed": SHARDS, "build": CATEGORIES}.get(step)
    done = sorted(attempt.what for attempt in bazaar.first.of(step) if attempt.phase == "Succeeded")
    assert done == (sorted(map(str, range(each))) if each else [""]), bazaar.first.said()
    assert bazaar.killer.killed[step] in bazaar.killer.seen[step]
    assert len(bazaar.killer.seen[step]) == len(done) + 1, bazaar.first.said()


def test_the_report_names_what_was_left_out(bazaar: Bazaar, scene: Scene) -> None:
    run = bazaar.first
    report = json.loads(scene.store.read(f"reports/{INDEX}/{run.build}.json", limit=10**7).data)
    assert {one["id"] for one in report["broken"]} == {str(number) for number in BROKEN}


def test_a_step_without_enough_memory_gets_more_and_what_would_fail_again_is_not_tried_again(
    bazaar: Bazaar, scene: Scene
) -> None:
    run = bazaar.cramped
    assert run.ended(900) == "Failed"
    first, second = run.of("list")
    assert first.exit_code == "137", run.said()
    assert "OOMKilled" in first.message
    assert second.exit_code == str(ExitCode.DATA.value), run.said()
    assert "catalogue-malformed" in second.message
    limits = {pod["metadata"]["name"]: limit(pod) for pod in run.pods()}
    assert (limits[first.pod], limits[second.pod]) == ("40Mi", "80Mi")
    with pytest.raises(ObjectMissing):
        read_live_commit(scene.store, Target(ENVIRONMENT, f"cramped-{MOMENT}"))


def test_the_schedule_fires_and_what_is_new_alone_is_embedded(bazaar: Bazaar, scene: Scene) -> None:
    first, batches = bazaar.first, bazaar.batches
    target = Target(ENVIRONMENT, INDEX)
    before = read_live_commit(scene.store, target)
    place(scene.kube, {_CATALOGUE: catalogue(range(NEW.stop))})
    earlier = batches.runs(INDEX)
    batches.resume(INDEX)
    try:
        second = until(lambda: newest(batches, earlier), "the schedule", 90)
    finally:
        batches.suspend(INDEX)
    assert second.ended(900) == "Succeeded", second.said()
    live = read_live_commit(scene.store, target)
    assert live.generation != before.generation
    assert live.commit.index_prefix == IndexPrefix(INDEX, second.build)
    assert read_build(scene.store, live.commit.index_prefix).manifest.items == NEW.stop - len(BROKEN)
    assert scene.receipt(INDEX, live.generation).outcome is Outcome.SERVED
    scene.answers(INDEX, live.generation)
    assert len(second.of("embed")) == 1
    assert first.build < second.build


# A shop


def picture(number: int) -> bytes:
    """A small JPEG, of hundreds of bytes, that is no other's."""
    chance = random.Random(MOMENT + number)
    image = Image.new("RGB", (24, 24), tuple(chance.randrange(256) for _ in range(3)))
    for _ in range(2):
        left, top = chance.randrange(18), chance.randrange(18)
        colour = tuple(chance.randrange(256) for _ in range(3))
        ImageDraw.Draw(image).rectangle((left, top, left + chance.randrange(4, 12), top + 9), colour)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def catalogue(numbers: range) -> bytes:
    lines = (
        {
            "id": str(number),
            "category": f"stall-{number % CATEGORIES}",
            "picture": f"gs://{BUCKET}/shops/{INDEX}/{number}.jpg",
        }
        for number in numbers
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def place(kube: Kube, objects: Mapping[str, bytes]) -> None:
    """Put many objects at once where the bucket server keeps its own, as it would have put them there."""
    lines = "\n".join(json.dumps([name, base64.b64encode(data).decode()]) for name, data in objects.items())
    kube.kubectl("-n", STAND_INS, "exec", "-i", "deploy/google", "--", "python", "-c", _PLACE, BUCKET, stdin=lines)


_PLACE = """
import base64, hashlib, json, os, pathlib, sys, time
import google_crc32c
for line in sys.stdin:
    name, text = json.loads(line)
    data = base64.b64decode(text)
    path = pathlib.Path("/data", sys.argv[1], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    digest = base64.b64encode(hashlib.md5(data).digest()).decode()
    crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    about = {"ContentType": "image/jpeg", "Crc32c": crc32c, "Md5Hash": digest, "Etag": digest}
    about |= {"Created": now, "Updated": now, "Generation": time.time_ns() // 1000}
    os.setxattr(path, "user.metadata", json.dumps(about).encode())
"""


def publish_model(folder: Path) -> None:
    """A model in the bucket that costs no time: the mean colours of 4 x 4 cells."""
    nodes = [
        helper.make_node("AveragePool", ["pictures"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["cells"], ["embedding"]),
    ]
    takes = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 3, 16, 16])
    gives = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 48])
    graph = helper.make_graph(nodes, "cells", [takes], [gives])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "cells.onnx"
    )
    golden = [folder / f"{number}.jpg" for number in (1, 2)]
    for number, path in enumerate(golden):
        path.write_bytes(picture(number))
    arguments = ["--onnx", str(folder / "cells.onnx"), "--name", "cells", "--version", str(MOMENT)]
    arguments += ["--input-size", "16", "--normalise", "--golden", *map(str, golden)]
    assert main(["model", "publish", *arguments], {"MODEL_REPOSITORY": f"gs://{BUCKET}"}) == ExitCode.OK


# Runs


def begin(batches: Batches, index: str, where: str, *options: str, **values: Any) -> Run:
    """The workflow of an index, as small as its pictures, and its first run; a schedule waits until it is resumed."""
    at_once = {step: {"at_once": 5} for step in EACH}
    chosen = [f"--catalogue={where}", f"--model=models/cells/{MOMENT}", "--trees=5", "--least-recall=0.5", *options]
    chosen += ["--exact-items=0"]  # a part for each category
    batches.apply(index, **{"options": chosen, "steps": at_once, **values})
    if "schedule" in values:
        batches.suspend(index)
    return batches.start(index)


def newest(batches: Batches, earlier: Mapping[str, Run]) -> Run | None:
    """A run of the shop that isn't among those."""
    return next((run for name, run in batches.runs(INDEX).items() if name not in earlier), None)


def limit(pod: dict[str, Any]) -> str:
    (main,) = (one for one in pod["spec"]["containers"] if one["name"] == "main")
    return str(main["resources"]["limits"]["memory"])


def seconds(workflow: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(workflow["status"][name]) for name in ("startedAt", "finishedAt"))
    return (ended - began).total_seconds()
