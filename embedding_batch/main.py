"""The program: configuration, bucket, console and exit status."""

from __future__ import annotations

import errno
import json
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from embedding_batch.batch import run
from embedding_batch.config import Config, Model, read_command
from embedding_batch.console import Console, summary_object
from embedding_batch.errors import DiskTrouble
from embedding_batch.events import Listener
from embedding_batch.publish_model import publish_own_model
from embedding_batch.steps.catalogue import read_catalogue
from embedding_batch.steps.models import fetched_model, local_model, published_model
from embedding_batch.steps.publishing import look
from embedding_batch.steps.vectors import read_vectors
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
    sys.stdout.write(json.dumps(answer) + "\n")
    return ExitCode.OK


def _pause(environment: Mapping[str, str]) -> float:
    """Seconds between lines of progress in a log; raises Misconfigured."""
    read = Environment(environment)
    seconds = read.number("PROGRESS_SECONDS", 3.0, least=0.0, most=3600.0)
    read.done()
    return seconds


def _run(arguments: Sequence[str], environment: Mapping[str, str], console: Console) -> dict[str, object]:
    now = datetime.now(UTC)
    if list(arguments[:2]) == ["model", "publish"]:
        return publish_own_model(arguments[2:], environment, now)
    config = read_command(arguments, environment, now)
    store = GcsStore(parse_bucket_url(config.repository))
    for folder in (config.model_cache, config.feature_cache):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # now is the time to find out
    return _check(config, store, console) if config.check else summary_object(run(config, store, now, console))


def _check(config: Config, store: GcsStore, listener: Listener) -> dict[str, object]:
    """Touch everything that a run needs, and change nothing in the bucket."""
    if config.vectors:
        items, models = sum(len(content.ids) for content in read_vectors(config.vectors, config.ids, GcsStore)), []
    else:
        items = len(read_catalogue(config.catalogue))
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
    where = f"{error.filename or 'the folder of --cache, or TMPDIR'}: {error.strerror or error}"
    if isinstance(error, _NO_PLACE) or error.errno == errno.EROFS:
        return Misconfigured(f"{where}; --cache and TMPDIR must be folders that this user may write to")
    return DiskTrouble(f"{where}; make room, or try again")
