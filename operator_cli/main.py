"""``indexpush``: wiring. Reads the command line, runs one command, turns failures into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from model_repository.deployment import footprint
from model_repository.errors import DeliveryError, NameRefused
from model_repository.names import Target
from model_repository.store import Store
from operator_cli import changes
from operator_cli.arguments import parse_arguments
from operator_cli.changes import Change, Order
from operator_cli.desk import Desk
from operator_cli.errors import UsageRefused
from operator_cli.exit_codes import ExitCode, exit_code_of
from operator_cli.pull import pull
from operator_cli.render import (
    change_text,
    change_value,
    history_text,
    receipt_value,
    status_text,
    status_value,
    verdict_text,
)
from operator_cli.signature import default_signature
from operator_cli.status import history, status
from operator_cli.waiting import Verdict, wait_for_receipt

_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{0,221}/?", re.ASCII)
_PATIENCE = 15.0
_AFTER_THE_DEADLINE = 60.0
"""Seconds beyond a rollout's deadline in which its undoing is known as well."""


def main(argv: Sequence[str] | None = None, desk: Desk | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    desk = desk or Desk.here()
    try:
        arguments = parse_arguments(argv)
        return _run(arguments, desk)
    except DeliveryError as error:
        _fail(desk, argv, error.code, str(error))
        return exit_code_of(error)
    except KeyboardInterrupt:
        _fail(desk, argv, "interrupted", "interrupted; indexpush status shows what stands in the bucket")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # `indexpush history | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - a defect: shown whole, with a status of its own
        traceback.print_exc(file=desk.stderr)
        _fail(desk, argv, "defect", f"a defect of indexpush: {error!r}; please report the lines above")
        return ExitCode.SOFTWARE


def _fail(desk: Desk, argv: Sequence[str], code: str, message: str) -> None:
    desk.warn(f"indexpush: {message}")
    # the command line itself may be what is wrong, so the wish for JSON is looked up in its raw form
    if "--output=json" in argv or ("--output", "json") in pairwise(argv):
        desk.say_value({"error": {"code": code, "message": " ".join(message.split())}})


def _run(arguments: argparse.Namespace, desk: Desk) -> int:
    url = _repository(arguments, desk)
    open_store = partial(desk.open_store, url, getattr(arguments, "patience", _PATIENCE))
    as_json = getattr(arguments, "output", "text") == "json"
    match arguments.command:
        case "status":
            found = status(open_store(), _environment(arguments, desk, needed=False), arguments.index)
            now = desk.clock.now()
            if as_json:
                desk.say_value(status_value(found, now))
            else:
                desk.say(status_text(found, now) or f"nothing is committed in {url}")
        case "history":
            target = _target(arguments, desk)
            receipts = history(open_store(), target, arguments.limit)
            if as_json:
                rows = [receipt_value(receipt) for receipt in receipts]
                desk.say_value({"environment": target.environment, "index": target.index, "receipts": rows})
            else:
                desk.say(history_text(receipts) or f"{target}: no receipts yet")
        case "pull":
            return pull(open_store(), arguments.index_prefix, arguments.destination, url, desk, as_json=as_json)
        case "spinnaker-pipeline":
            # the templates' engine takes a while to import, and no other command needs it
            from operator_cli.spinnaker import spinnaker_pipeline  # noqa: PLC0415

            environment = str(_environment(arguments, desk, needed=True))
            desk.say_value(spinnaker_pipeline(arguments, environment, url, desk))
        case _:
            return _change(arguments, desk, open_store(), as_json=as_json)
    return ExitCode.OK


def _change(arguments: argparse.Namespace, desk: Desk, store: Store, *, as_json: bool) -> int:
    target = _target(arguments, desk)
    order = Order(
        by=default_signature(desk.environ) if arguments.by is None else arguments.by,
        reason=arguments.reason,
        hold=arguments.hold,
        release=arguments.release,
        dry_run=arguments.dry_run,
    )
    match arguments.command:
        case "commit":
            change = changes.commit(store, target, arguments.build, order)
        case "redeploy":
            change = changes.redeploy(store, target, order)
        case "rollback":
            change = changes.rollback(store, target, arguments.to, order)
        case _:
            change = changes.promote(store, Target(arguments.source, target.index), target, order)
    if not as_json:
        desk.say(change_text(change))
    verdict = _wait(arguments.wait, desk, store, change)
    if as_json:
        desk.say_value(change_value(change, verdict))
    elif verdict is not None:
        desk.say(verdict_text(verdict))
    elif change.written:
        desk.say(f"  see         indexpush status {target.index} --environment {target.environment}")
    return verdict.exit_code if verdict else ExitCode.OK


def _wait(wanted: float | None, desk: Desk, store: Store, change: Change) -> Verdict | None:
    if wanted is None or not change.generation:
        return None
    patience = wanted or footprint(change.manifest).deadline_seconds + _AFTER_THE_DEADLINE
    receipt = change.target.receipt_name(change.generation)

    def tick(passed: float) -> None:
        desk.transient(f"waiting for {receipt} ({passed:.0f} of {patience:.0f} s)")

    try:
        return wait_for_receipt(store, change.target, change.generation, patience=patience, clock=desk.clock, tick=tick)
    except KeyboardInterrupt:
        return Verdict(None, "interrupted; the commit stands, and may still go live", ExitCode.INTERRUPTED, 0.0)
    finally:
        desk.clear_transient()


def _repository(arguments: argparse.Namespace, desk: Desk) -> str:
    url = str(getattr(arguments, "repository", None) or desk.environ.get("MODEL_REPOSITORY") or "")
    if not url:
        raise UsageRefused("no bucket is named; say --repository gs://<bucket>, or set MODEL_REPOSITORY")
    if not _BUCKET.fullmatch(url):
        raise NameRefused(f"MODEL_REPOSITORY {url[:200]!r}: expected gs://<bucket>, without a path")
    return url.rstrip("/")


def _environment(arguments: argparse.Namespace, desk: Desk, *, needed: bool) -> str | None:
    environment = arguments.environment or desk.environ.get("INDEXPUSH_ENVIRONMENT") or None
    if environment is None and needed:
        raise UsageRefused("no environment is named; say --environment <name>, or set INDEXPUSH_ENVIRONMENT")
    return environment


def _target(arguments: argparse.Namespace, desk: Desk) -> Target:
    return Target(str(_environment(arguments, desk, needed=True)), arguments.index)
