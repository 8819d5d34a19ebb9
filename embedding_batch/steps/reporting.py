"""Step `report`: what a run did, for people and programs, put together from what its steps left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from embedding_batch.run import Run
from embedding_batch.state.failures import describe, failures
from embedding_batch.state.folder import RunFolder, read_record
from embedding_batch.step import COUNTED, DOES
from model_repository.errors import ObjectMissing
from model_repository.fields import format_document, format_moment


def report(run: Run, error: Exception | None = None) -> dict[str, Any]:
    """Write `reports/<index>/<build>.json` and a page of it; returns the first.

    error: what stopped the run, said where no step left why it stopped.
    """
    said = gather(run, error)
    folder = run.folder
    run.store.write(folder.report("html"), _page(said).encode(), if_generation_match=None)
    run.store.write(folder.report("json"), format_document(said), if_generation_match=None)
    return said


def is_reported(run: Run, committed: Mapping[str, Any]) -> bool:
    """Whether the report says how the run ended: whoever committed may have died, or lost the bucket, before that."""
    try:
        return bool(read_record(run.store, run.folder.report("json"))["outcome"] == committed["outcome"])
    except ObjectMissing:
        return False


def gather(run: Run, error: Exception | None = None) -> dict[str, Any]:
    """What is known of a run, done or not."""
    folder = run.folder
    records = {step: _records(folder, step) for step in DOES}
    errors = _errors(folder)
    if error and not errors:
        errors = [{"step": None, "number": None, **describe(error)}]
    listed, collected, published, compared, committed = (
        next(iter(records[step]), {}) for step in ("list", "collect", "publish", "diff", "commit")
    )
    embedded = sum(record["embedded"] for record in records["embed"])
    stops = compared.get("stops", [])
    stopped = "stopped" if stops and run.config.commits else "failed"
    outcome = committed or {"outcome": stopped if errors else "unfinished", "generation": None}
    return {
        "index_prefix": str(folder.prefix),
        "environment": run.config.target.environment,
        "created": format_moment(run.now),
        "models": published.get("models", list(dict.fromkeys(model["prefix"] for model in listed.get("models", [])))),
        **{name: value for name, value in outcome.items() if name != "seconds"},
        "errors": [] if committed else errors,
        "items": published.get("items", collected.get("items", listed.get("items", 0))),
        **{name: listed.get(name, 0) for name in ("came", "went", "changed")},
        "embedded": embedded,
        "reused": max(0, collected.get("pictures", 0) - embedded),
        "broken": collected.get("skipped", []),
        "not_asked_again": sum(record["kept_as_it_was"] for record in records["fetch"]),
        "recall": published.get("recall"),
        "bytes_to_pull": published.get("bytes_to_pull"),
        "against": compared.get("against"),
        "stops": stops,
        "partitions": published.get("partitions", []),
        "seconds": {
            step: round(sum(record["seconds"] for record in found), 3) for step, found in records.items() if found
        },
    }


def _errors(folder: RunFolder) -> list[dict[str, Any]]:
    """Why steps stopped that aren't done: in their order, each with its shard's or part's number."""
    found = sorted(failures(folder), key=lambda one: one["number"] or 0)
    of_steps = (one for step in DOES for one in found if one["step"] == step)
    return [one for one in of_steps if folder.record(one["step"], one["number"]) is None]


def _records(folder: RunFolder, step: str) -> list[dict[str, Any]]:
    if step not in COUNTED:
        found = folder.record(step)
        return [] if found is None else [found]
    before, counts = COUNTED[step]
    count = (folder.record(before) or {}).get(counts, 0)
    return [record for number in range(count) if (record := folder.record(step, number)) is not None]


def _page(said: dict[str, Any]) -> str:
    environment = Environment(loader=PackageLoader("embedding_batch", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.j2").render(report=said)
