"""The command: wiring of configuration, bucket, log and exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum

from embedding_batch.batch import run
from embedding_batch.catalogue import read_catalogue
from embedding_batch.config import Config, read_command
from embedding_batch.logs import Log, summary_object
from embedding_batch.models import local_model
from model_repository.errors import DeliveryError, Misconfigured, NameRefused, TransientError
from model_repository.gcs_store import GcsStore
from model_repository.names import parse_bucket_url


class ExitCode(IntEnum):
    """As the other commands of this repository have them."""

    OK = 0
    USAGE = 64
    DATA = 65
    TRY_AGAIN = 75


def exit_code_of(error: DeliveryError) -> ExitCode:
    """Return the exit status for a failure; what is neither configuration nor passing is bad data."""
    if isinstance(error, Misconfigured | NameRefused):
        return ExitCode.USAGE
    return ExitCode.TRY_AGAIN if isinstance(error, TransientError) else ExitCode.DATA


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Run the command; what stopped it is one line on standard error."""
    log = Log()
    try:
        now = datetime.now(UTC)
        command = read_command(arguments, environment, now)
        if command.check:
            answer = _check(command.config)
        else:
            store = GcsStore(parse_bucket_url(command.config.repository))
            answer = summary_object(run(command.config, store, now, log))
    except DeliveryError as error:
        log.stopped(error)
        return exit_code_of(error)
    sys.stdout.write(json.dumps(answer) + "\n")
    return ExitCode.OK


def _check(config: Config) -> dict[str, object]:
    """Touch everything that a run needs, and change nothing in the bucket."""
    items = read_catalogue(config.catalogue)
    model = local_model(config.model, config.model_cache)
    builds = GcsStore(parse_bucket_url(config.repository)).folders(f"indexes/{config.target.index}/")
    config.feature_cache.mkdir(parents=True, exist_ok=True)
    if not os.access(config.feature_cache, os.W_OK):
        raise Misconfigured(f"--cache: {config.feature_cache} isn't writable")
    return {"items": len(items), "model_prefix": str(model.prefix), "builds": len(builds)}
