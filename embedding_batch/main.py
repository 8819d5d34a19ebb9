"""The program: configuration, bucket, console and exit status.

It imports what every command needs; the rest is imported by those that need it: docs/benchmarks/start-up.md.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from embedding_batch.command_line.console import Console
from embedding_batch.command_line.reading import Step, read_command, read_step
from embedding_batch.config import Config
from embedding_batch.errors import Defect, DiskTrouble, said_of
from embedding_batch.state.failures import noting
from embedding_batch.state.folder import RunFolder
from embedding_batch.state.plan import Plan, open_plan, read_plan
from embedding_batch.state.scratch import scratch
from embedding_batch.step import step
from model_repository.bucket.gcs_store import GcsStore
from model_repository.exit_codes import ExitCode
from model_repository.names import parse_bucket_url
from model_repository.programs.environment import Environment


def main(
    arguments: Sequence[str], environment: Mapping[str, str], *, interrupted: Callable[[], bool] = lambda: False
) -> ExitCode:
    """Run the command; what stopped it is one line on standard error.

    interrupted: whether a signal came, whatever has become of the KeyboardInterrupt that it raised.
    """
    console = Console()
    try:
        console = Console(pause=_pause(environment))
        _say(_run(arguments, environment, console))
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - whatever it is, it is one line and a status
        if interrupted() or isinstance(error, KeyboardInterrupt):
            console.line("ERROR", "interrupted; indexpush status shows what is committed", code="interrupted")
            return ExitCode.INTERRUPTED
        said = said_of(error)  # a defect is shown whole
        return console.stopped(said, **({"stack_trace": traceback.format_exc()} if isinstance(said, Defect) else {}))
    finally:
        console.close()
        for stream in (sys.stdout, sys.stderr):
            _drop_unwritten(stream)
    return ExitCode.OK


def _say(answer: Mapping[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    except OSError as error:
        raise DiskTrouble(f"standard output: {error.strerror}; all is done, but for saying so: try again") from error


def _drop_unwritten(stream: TextIO) -> None:
    """Keep Python from ending with a status of its own because what a full disk didn't take is still to be written."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _pause(environment: Mapping[str, str]) -> float:
    """Seconds between lines of progress in a log; raises Misconfigured."""
    read = Environment(environment)
    seconds = read.number("PROGRESS_SECONDS", 3.0, least=0.0, most=3600.0)
    read.done()
    return seconds


def _run(arguments: Sequence[str], environment: Mapping[str, str], console: Console) -> dict[str, Any]:
    now = datetime.now(UTC)
    if (answer := _beside_runs(arguments, environment, now)) is not None:
        return answer
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
    if config.check:
        from embedding_batch.check import check  # noqa: PLC0415

        return check(config, store, now, console)
    from embedding_batch.batch import run  # noqa: PLC0415

    return run(config, store, now, console)


def _beside_runs(arguments: Sequence[str], environment: Mapping[str, str], now: datetime) -> dict[str, Any] | None:
    """What a command that neither indexes nor is a step of that answers; None: it is another."""
    if list(arguments[:1]) == ["catalogue"]:
        from embedding_batch.catalogue import look_at_catalogue  # noqa: PLC0415

        return look_at_catalogue(arguments[1:])
    if list(arguments[:2]) in (["model", "publish"], ["detector", "publish"]):
        from embedding_batch.publish_model import publish_own  # noqa: PLC0415

        return publish_own(arguments[0], arguments[2:], environment, now)
    return None


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
