"""The program: configuration, bucket, console and exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from embedding_batch.batch import run
from embedding_batch.config import Config, read_command
from embedding_batch.console import Console, summary_object
from embedding_batch.steps.catalogue import read_catalogue
from embedding_batch.steps.models import local_model
from model_repository.errors import DeliveryError, Misconfigured
from model_repository.exit_codes import ExitCode
from model_repository.gcs_store import GcsStore
from model_repository.names import parse_bucket_url


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Run the command; what stopped it is one line on standard error."""
    console = Console()
    try:
        now = datetime.now(UTC)
        command = read_command(arguments, environment, now)
        if command.check:
            answer = _check(command.config)
        else:
            store = GcsStore(parse_bucket_url(command.config.repository))
            answer = summary_object(run(command.config, store, now, console))
    except DeliveryError as error:
        console.stopped(error)
        return error.exit_code
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
