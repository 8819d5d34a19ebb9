"""From the upload of a commit to pods that serve: one trace, as a collector gets it from all parts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_stack.delivery import DeliveryPolicy
from local_stack.demo.programs import run_batch
from local_stack.stack import LocalStack, StackOptions
from model_repository.names import Target
from tests.collector import Collector, Span, collecting

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "local_stack" / "demo" / "home_store"
TARGET = Target("staging", "home-store")


@dataclass
class Scene:
    """A commit that serves. generation, prefix: of it. spans: of its trace, by name."""

    generation: str
    prefix: str
    spans: dict[str, Span]
    logs: str


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("traces")
    lines = (CATALOGUE / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()[::40]
    catalogue, cache = folder / "catalogue", folder / "cache"
    catalogue.mkdir()
    (catalogue / "images").symlink_to(CATALOGUE / "images")
    (catalogue / "catalogue.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    cache.mkdir()
    models = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indexpush" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (cache / "models").symlink_to(models)
    with collecting() as collector:
        once = DeliveryPolicy(duplicates=0.0)
        options = StackOptions(environment=TARGET.environment, delivery=once, collector=collector.url)
        with LocalStack(folder / "stack", options) as stack:
            arguments = ["--index", TARGET.index, "--environment", TARGET.environment, "--build", "first"]
            summary = run_batch(["--catalogue", str(catalogue), *arguments], stack.variables(), cache, lambda *_: None)
            trace = collector.wait_for(lambda span: span.name == "rollout").trace
            spans = whole(collector, trace)
            logs = "".join((stack.logs / f"{part}.log").read_text() for part in ("function", "cd-webhook"))
        yield Scene(str(summary["generation"]), summary["index_prefix"], spans, logs)


def whole(collector: Collector, trace: str) -> dict[str, Span]:
    """The spans of a trace by name, once those are there that every commit has."""
    wanted = {"commit", "check build", "ask webhook", "delivery", "rollout", "pull", "proof", "open", "golden queries"}

    def found(spans: list[Span]) -> list[Span]:
        mine = [span for span in spans if span.trace == trace]
        return mine if wanted <= {span.name for span in mine} else []

    return {span.name: span for span in collector.wait_for_all(found)}


def test_a_commit_is_one_trace_from_its_event_to_pods_that_serve(scene: Scene) -> None:
    parents = {name: span.parent for name, span in scene.spans.items()}
    ids = {name: span.span for name, span in scene.spans.items()}
    assert parents["check build"] == ids["commit"]
    assert parents["ask webhook"] == ids["commit"]
    assert parents["delivery"] == ids["ask webhook"]
    assert parents["rollout"] == ids["delivery"]
    assert parents["pull"] == parents["proof"] == ids["rollout"]
    assert parents["open"] == parents["golden queries"] == ids["proof"]


def test_each_part_has_its_name_in_it(scene: Scene) -> None:
    services = {name: span.service for name, span in scene.spans.items()}
    assert services["commit"] == services["ask webhook"] == "indexpush-on-commit"
    assert services["delivery"] == services["rollout"] == "indexpush-webhook"
    assert services["pull"] == services["proof"] == "indexpush-search"


def test_spans_say_which_commit_and_how_it_ended(scene: Scene) -> None:
    for name in ("commit", "ask webhook", "delivery", "rollout"):
        said = scene.spans[name].attributes
        assert (said["indexpush.index"], said["indexpush.environment"]) == (TARGET.index, TARGET.environment), name
        assert (said["indexpush.generation"], said["indexpush.build"]) == (scene.generation, scene.prefix), name
    outcomes = [scene.spans[name].attributes["indexpush.outcome"] for name in ("commit", "delivery", "rollout")]
    assert outcomes == ["accepted", "accepted", "served"]
    for name in ("pull", "proof"):
        said = scene.spans[name].attributes
        assert (said["indexpush.generation"], said["indexpush.build"]) == (scene.generation, scene.prefix), name
    assert not any(span.failed for span in scene.spans.values())


def test_a_rollout_lasts_from_its_delivery_until_it_serves(scene: Scene) -> None:
    delivery, rollout = scene.spans["delivery"], scene.spans["rollout"]
    assert delivery.started <= rollout.started <= delivery.ended < rollout.ended


def test_a_pod_pulls_then_proves_and_then_the_rollout_is_over(scene: Scene) -> None:
    pull, proof, rollout = (scene.spans[name] for name in ("pull", "proof", "rollout"))
    opening, asking = scene.spans["open"], scene.spans["golden queries"]
    assert rollout.started < pull.started < pull.ended < proof.started < opening.started < opening.ended
    assert opening.ended <= asking.started < asking.ended <= proof.ended < rollout.ended
    assert int(pull.attributes["indexpush.bytes"]) > 0


def test_log_lines_name_the_spans(scene: Scene) -> None:
    lines = [json.loads(line) for line in scene.logs.splitlines() if line.startswith("{")]
    named = {line.get("logging.googleapis.com/spanId") for line in lines}
    assert {scene.spans["commit"].span, scene.spans["delivery"].span} <= named
