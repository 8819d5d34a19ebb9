"""What every Cloud Function does alike: how an event ends, and the command line of its set-up check.

For functions alone: their runtime has werkzeug, and nothing else here needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from werkzeug.exceptions import InternalServerError, ServiceUnavailable

from model_repository.bucket.store import Store
from model_repository.errors import DeliveryError, Misconfigured, TransientError
from model_repository.exit_codes import ExitCode
from model_repository.repository import list_commits
from model_repository.telemetry.log import Log, tracing

T = TypeVar("T")


def configured(make: Callable[[], T]) -> T:
    """Make a function, or raise `ServiceUnavailable`: events wait until somebody mends the environment."""
    try:
        return make()
    except Misconfigured as error:
        Log().error(f"misconfigured: {error}", code=error.code)
        raise ServiceUnavailable("misconfigured; see the log") from error


@contextmanager
def one_event(attributes: Mapping[str, object], headers: Mapping[str, str], project: str) -> Iterator[Log]:
    """Within this, one event is handled, with a log of its own; to leave it in peace acknowledges the event.

    Raises `ServiceUnavailable` (503) for what may pass and `InternalServerError` (500) for what nobody expected:
    the platform delivers the event again after either.
    """
    log = Log({"event_id": str(attributes.get("id", ""))})
    with tracing(attributes, headers, project):
        try:
            yield log
        except TransientError as error:
            log.warning(f"not now: {error}", code=error.code)
            raise ServiceUnavailable(str(error)) from error
        except Exception as error:
            log.crash(f"unexpected: {type(error).__name__}: {error}", error)
            raise InternalServerError(f"unexpected {type(error).__name__}; see the log") from error


def found(look: Callable[[], str]) -> tuple[bool, str]:
    """Whether a thing is well: what `look` says of it, or why it failed."""
    try:
        return True, f"{look()}."
    except DeliveryError as error:
        return False, f"{error}."


def look_at_bucket(bucket: str, store: Store) -> str:
    """A sentence on a bucket that answers; raises what the store does."""
    return f"The bucket gs://{bucket} answers; {len(list_commits(store))} commits stand there"


def check_main(arguments: Sequence[str] | None, checks: Iterable[tuple[bool, str]]) -> ExitCode:
    """The command line of a function, which only checks the set-up; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python main.py", description="The function's set-up check.")
    parser.add_argument("--check", action="store_true", required=True, help="say what is misconfigured")
    parser.parse_args(arguments)
    well = True
    for fine, sentence in checks:
        well = well and fine
        sys.stdout.write(f"{'ok    ' if fine else 'WRONG '} {sentence}\n")
        sys.stdout.flush()
    return ExitCode.OK if well else ExitCode.USAGE
