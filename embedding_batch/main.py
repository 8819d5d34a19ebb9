"""The program: configuration, bucket, console and exit status."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from embedding_batch.batch import run, step
from embedding_batch.config import Config, Model, Step, read_command, read_step
from embedding_batch.console import Console
from embedding_batch.errors import Defect, said_of
from embedding_batch.events import Listener
from embedding_batch.publish_model import publish_own_model
from embedding_batch.sources import read_catalogue
from embedding_batch.state.failures import noting
from embedding_batch.state.folder import RunFolder
from embedding_batch.state.plan import Plan, open_plan, read_plan
from embedding_batch.state.scratch import scratch
from embedding_batch.steps.committing import look
from embedding_batch.steps.models import fetched_model, local_model, published_model
from embedding_batch.steps.vectors import spool_vectors
from model_repository.environment import Environment
from model_repository.exit_codes import ExitCode
from model_repository.gcs_store import GcsStore
from model_repository.names import ModelPrefix, parse_bucket_url


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Run the command; what stopped it is one line on standard error."""
    console = Console()
    try:
        console = Console(pause=_pause(environment))
        answer = _run(arguments, environment, console)
    except KeyboardInterrupt:
        console.line("ERROR", "interrupted; indexpush status shows what is committed", code="interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, it is one line and a status; a defect is shown whole
        said = said_of(error)
        return console.stopped(said, **({"stack_trace": traceback.format_exc()} if isinstance(said, Defect) else {}))
    finally:
        console.close()
    sys.stdout.write(json.dumps(answer) + "\n")
    return ExitCode.OK


def _pause(environment: Mapping[str, str]) -> float:
    """Seconds between lines of progress in a log; raises Misconfigured."""
    read = Environment(environment)
    seconds = read.number("PROGRESS_SECONDS", 3.0, least=0.0, most=3600.0)
    read.done()
    return seconds


def _run(arguments: Sequence[str], environment: Mapping[str, str], console: Console) -> dict[str, Any]:
    now = datetime.now(UTC)
    if list(arguments[:2]) == ["model", "publish"]:
        return publish_own_model(arguments[2:], environment, now)
    if list(arguments[:2]) == ["step", "list"]:
        config = read_command(["run", *arguments[2:]], environment, now)
        store = GcsStore(parse_bucket_url(config.repository))
        plan = open_plan(store, config, now)
        return _step(Step("list", None, config.prefix, config.repository), config, plan, store, console)
    if list(arguments[:1]) == ["step"]:
        wanted, config_of = read_step(arguments[1:], environment)
        store = GcsStore(parse_bucket_url(wanted.repository))
        plan = read_plan(store, wanted.prefix)
        return _step(wanted, config_of(plan.options), plan, store, console)
    config = read_command(arguments, environment, now)
    _check_cache(config)
    store = GcsStore(parse_bucket_url(config.repository))
    return _check(config, store, console) if config.check else run(config, store, now, console)


def _step(wanted: Step, config: Config, plan: Plan, store: GcsStore, console: Console) -> dict[str, Any]:
    with noting(RunFolder(store, wanted.prefix), wanted.name, wanted.number):
        _check_cache(config)
    return _counts(step(wanted.name, wanted.number, config=config, plan=plan, store=store, listener=console))


def _counts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine needs of a step's record. Its lists can be longer than one takes: Argo keeps 256 KiB."""
    return {name: value for name, value in record.items() if not isinstance(value, list | dict)}


def _check_cache(config: Config) -> None:
    """Raise OSError unless this machine has a place for what the batch keeps: now is the time to find out."""
    for folder in (config.model_cache, config.feature_cache):
        folder.mkdir(parents=True, exist_ok=True)
    with scratch(config.cache / "scratch") as room:
        (room / "writable").touch()


def _check(config: Config, store: GcsStore, listener: Listener) -> dict[str, Any]:
    """Touch everything that a run needs, and change nothing in the bucket."""
    models: list[str] = []
    if config.vectors:
        with scratch(config.cache / "scratch") as room:
            items = sum(len(one.ids) for one in spool_vectors(config.vectors, config.ids, GcsStore, room))
    else:
        items = sum(batch.num_rows for batch in read_catalogue(config.catalogue, query=config.query))
        models = [_check_model(model, config, store) for model in {config.model, *config.models.values()}]
    look(store, config.target, listener)
    builds = store.folders(f"indexes/{config.target.index}/")
    return {"items": items, "models": models, "builds": len(builds)}


def _check_model(model: Model, config: Config, store: GcsStore) -> str:
    if isinstance(model, ModelPrefix):
        fetched_model(store, model, config.model_cache)
        return str(model)
    local = local_model(model, config.model_cache)
    published_model(store, local)
    return str(local.prefix)
