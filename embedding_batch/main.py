"""The program: configuration, bucket, console and exit status."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from embedding_batch.batch import run, step
from embedding_batch.config import Config, Model, read_command, read_step
from embedding_batch.console import Console
from embedding_batch.errors import DiskTrouble
from embedding_batch.events import Listener
from embedding_batch.publish_model import publish_own_model
from embedding_batch.sources import read_catalogue
from embedding_batch.state.plan import open_plan, read_plan
from embedding_batch.state.scratch import scratch
from embedding_batch.steps.committing import look
from embedding_batch.steps.models import fetched_model, local_model, published_model
from embedding_batch.steps.vectors import spool_vectors
from model_repository.environment import Environment
from model_repository.errors import DeliveryError, Misconfigured
from model_repository.exit_codes import ExitCode
from model_repository.gcs_store import GcsStore
from model_repository.names import ModelPrefix, parse_bucket_url

_NO_PLACE = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError)
"""Another try finds the same folder; any other trouble with files may pass."""


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Run the command; what stopped it is one line on standard error."""
    console = Console()
    try:
        console = Console(pause=_pause(environment))
        answer = _run(arguments, environment, console)
    except DeliveryError as error:
        return console.stopped(error)
    except OSError as error:  # the bucket's are turned into ours where they are met
        return console.stopped(_disk_error(error))
    except KeyboardInterrupt:
        console.line("ERROR", "interrupted; indexpush status shows what is committed", code="interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a defect: shown whole, with a status of its own
        stack = traceback.format_exc()
        console.line("ERROR", f"a defect of the batch: {error!r}", code="defect", stack_trace=stack)
        return ExitCode.SOFTWARE
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
        store = _store(config)
        plan = open_plan(store, config, now)
        return _counts(step("list", None, config=config, plan=plan, store=store, listener=console))
    if list(arguments[:1]) == ["step"]:
        wanted, config_of = read_step(arguments[1:], environment)
        store = GcsStore(parse_bucket_url(wanted.repository))
        plan = read_plan(store, wanted.prefix)
        config = config_of(plan.options)
        return _counts(
            step(wanted.name, wanted.number, config=config, plan=plan, store=_store(config), listener=console)
        )
    config = read_command(arguments, environment, now)
    store = _store(config)
    return _check(config, store, console) if config.check else run(config, store, now, console)


def _counts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine needs of a step's record. Its lists can be longer than one takes: Argo keeps 256 KiB."""
    return {name: value for name, value in record.items() if not isinstance(value, list | dict)}


def _store(config: Config) -> GcsStore:
    """The bucket, once it is known that this machine has a place for what the batch keeps."""
    for folder in (config.model_cache, config.feature_cache):
        folder.mkdir(parents=True, exist_ok=True)
    with scratch(config.cache / "scratch") as room:  # now is the time to find out
        (room / "writable").touch()
    return GcsStore(parse_bucket_url(config.repository))


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


def _disk_error(error: OSError) -> DeliveryError:
    where = f"{error.filename or 'the folder of --cache'}: {error.strerror or error}"
    if isinstance(error, _NO_PLACE) or error.errno == errno.EROFS:
        return Misconfigured(f"{where}; --cache must be a folder that this user may write to")
    return DiskTrouble(f"{where}; make room, or try again")
