"""``indexpush``: wiring. Reads the command line, runs one command, turns failures into one line and an exit code."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

from model_repository.bucket.store import Store
from model_repository.deployment import footprint
from model_repository.errors import DeliveryError
from model_repository.exit_codes import ExitCode
from model_repository.names import Target, parse_bucket_url
from operator_cli.arguments import completion, parse_arguments
from operator_cli.commands import changes, diff, filters, prune
from operator_cli.commands.builds import list_builds
from operator_cli.commands.changes import Change, Options
from operator_cli.commands.pull import pull
from operator_cli.commands.status import held_generation, history, served_at, status
from operator_cli.commands.waiting import Verdict, wait_for_receipt
from operator_cli.context import Context
from operator_cli.errors import UsageRefused
from operator_cli.live import address_or_none, commit_missing, served, shadow_missing
from operator_cli.output import lists, people, programs, pruned
from operator_cli.output.listing import Listing
from operator_cli.signature import default_signature
from operator_cli.webhook import Webhook, ask_all


class _Show(Protocol):
    """Prints a result: as JSON, as text, or at a terminal as a list in columns, if it is one."""

    def __call__(self, value: dict[str, Any], text: str, listing: Listing | None = None) -> None: ...


_PATIENCE = 15.0
_AFTER_THE_DEADLINE = 60.0
"""Seconds beyond a rollout's deadline in which its undoing is known as well."""


def main(argv: Sequence[str] | None = None, context: Context | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    context = context or Context.of_this_process()
    try:
        arguments = parse_arguments(argv)
        if arguments.command == "completion":
            with context.answering():
                context.stdout.write(completion(arguments.shell))
            return ExitCode.OK
        return _run(arguments, context)
    except DeliveryError as error:
        return _fail(context, argv, error.exit_code, error.code, str(error))
    except KeyboardInterrupt:
        message = "interrupted; indexpush status shows what stands in the bucket"
        return _fail(context, argv, ExitCode.INTERRUPTED, "interrupted", message)
    except BrokenPipeError:
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - a defect: shown whole, with a status of its own
        traceback.print_exc(file=context.stderr)
        message = f"a defect of indexpush: {error!r}; please report the lines above"
        return _fail(context, argv, ExitCode.SOFTWARE, "defect", message)


def _fail(context: Context, argv: Sequence[str], exit_code: ExitCode, code: str, message: str) -> ExitCode:
    context.warn(f"indexpush: {message}")
    # the command line itself may be what is wrong, so the wish for JSON is looked up in its raw form
    if "--output=json" in argv or ("--output", "json") in pairwise(argv):
        context.say_value({"error": {"code": code, "message": " ".join(message.split())}})
    return exit_code


def _run(arguments: argparse.Namespace, context: Context) -> int:
    bucket = _bucket(arguments, context)
    open_store = partial(context.open_store, bucket, getattr(arguments, "patience", _PATIENCE))
    as_json = getattr(arguments, "output", "text") == "json"

    def show(value: dict[str, Any], text: str, listing: Listing | None = None) -> None:
        context.say_value(value) if as_json else context.say(text, listing)

    match arguments.command:
        case "status":
            webhooks = [Webhook.named(url, context.environ) for url in arguments.webhook]
            _status(open_store(), _environment(arguments, context), arguments.index, context, show, webhooks=webhooks)
        case "history":
            _history(arguments, context, open_store(), show)
        case "builds":
            found = list_builds(open_store(), arguments.index, arguments.limit)
            show(programs.builds(arguments.index, found), people.builds(found), lists.builds(found))
        case "filter":
            return _filter(arguments, context, open_store(), show)
        case "compare" | "shadow" | "prune" | "diff" | "check" as command:
            does = {"compare": _compare, "shadow": _shadow, "prune": _prune, "diff": _diff, "check": _check}[command]
            return does(arguments, context, open_store(), show)
        case "board":
            # a web server takes a while to import, and no other command needs it (docs/operations.md)
            from operator_cli.board.serve import board  # noqa: PLC0415

            board(arguments, open_store(), context)
        case "pull":
            return pull(open_store(), arguments.index_prefix, arguments.destination, context, as_json=as_json)
        case "spinnaker-pipeline" | "argo-workflow":
            _definitions(arguments, context, bucket, show)
        case _:
            return _change(arguments, context, open_store(), as_json=as_json)
    return ExitCode.OK


def _definitions(arguments: argparse.Namespace, context: Context, bucket: str, show: _Show) -> None:
    # the templates' engine takes a while to import, and no other command needs it (docs/operations.md)
    from operator_cli.commands.argo import argo_workflow  # noqa: PLC0415
    from operator_cli.commands.spinnaker import spinnaker_pipeline  # noqa: PLC0415

    if arguments.command == "spinnaker-pipeline":
        context.say_value(spinnaker_pipeline(arguments, _named_environment(arguments, context), bucket, context))
    else:
        show(*argo_workflow(_target(arguments, context), bucket, arguments.values, context.environ))


def _status(
    store: Store,
    environment: str | None,
    index: str | None,
    context: Context,
    show: _Show,
    *,
    webhooks: Sequence[Webhook] = (),
) -> None:
    found, now = status(store, environment, index), context.clock.now()
    said, silent = ask_all(webhooks)
    for why in silent:
        context.warn(f"indexpush: {why}")
    text = people.status(found, now, said) or f"nothing is committed in gs://{store.bucket}"
    show(programs.status(found, now, said), text, lists.targets(found, now, said))


def _history(arguments: argparse.Namespace, context: Context, store: Store, show: _Show) -> None:
    target = _target(arguments, context)
    if arguments.at is not None:
        if arguments.at > context.clock.now():
            raise UsageRefused(f"--at: {people.dated(arguments.at)} hasn't come yet: nobody knows what will serve")
        then = served_at(store, target, arguments.at)
        return show(programs.served_at(target, arguments.at, then), people.served_at(target, arguments.at, then))
    receipts = history(store, target, arguments.limit)
    held = held_generation(store, target)
    text = people.history(receipts, held) or f"{target}: no receipts yet"
    return show(programs.history(target, receipts, held), text, lists.receipts(receipts, held))


def _shadow(arguments: argparse.Namespace, context: Context, store: Store, show: _Show) -> int:
    """Have a build serve beside an index, say what does, or end it."""
    target = _target(arguments, context)
    if arguments.build is not None and arguments.off:
        raise UsageRefused(f"--off ends the shadow, whatever it serves: leave {arguments.build!r} out")
    if arguments.build is not None:
        return _change(arguments, context, store, as_json=getattr(arguments, "output", "text") == "json")
    if not arguments.off:
        if store.stat(target.shadow.commit_name) is None:
            raise shadow_missing(target)
        _status(store, target.environment, target.shadow.index, context, show)
        return ExitCode.OK
    ended = changes.end_shadow(store, target, release=arguments.release, dry_run=arguments.dry_run)
    was = str(ended.commit.index_prefix) if ended.commit else None
    done = "would be deleted" if arguments.dry_run else "deleted"
    text = f"{ended.target.commit_name}: {done}; the pods of {ended.target.index} end with the next sweep"
    value = {"action": "shadow-off", "index": ended.target.index, "was": was, "written": not arguments.dry_run}
    show(value, text)
    return ExitCode.OK


def _check(arguments: argparse.Namespace, context: Context, store: Store, show: _Show) -> int:
    # Google's other APIs: no other command asks them (docs/operations.md)
    from operator_cli.commands import check  # noqa: PLC0415

    if emulator := context.environ.get("STORAGE_EMULATOR_HOST"):
        raise UsageRefused(f"STORAGE_EMULATOR_HOST is {emulator}: an emulator is no installation; unset it")
    found = check.look(context, store.bucket, _environment(arguments, context), arguments.webhook)
    show(check.for_programs(found), check.for_people(found))
    return check.exit_code(found)


def _prune(arguments: argparse.Namespace, context: Context, store: Store, show: _Show) -> int:
    found = prune.prune(store, context.clock, keep=arguments.keep, apply=arguments.apply, said=context.transient)
    context.clear_transient()
    show(pruned.for_programs(found), pruned.for_people(found))
    return ExitCode.NOT_ALLOWED if found.denied else ExitCode.OK


def _diff(arguments: argparse.Namespace, _: Context, store: Store, show: _Show) -> int:
    found = diff.read_diff(store, arguments.index, arguments.build, arguments.against)
    show(diff.for_programs(found), diff.for_people(found))
    return ExitCode.OK


def _compare(arguments: argparse.Namespace, context: Context, store: Store, show: _Show) -> int:
    # a client of HTTP takes a while to import, and no other command needs it (docs/operations.md)
    from operator_cli.commands import compare  # noqa: PLC0415

    environment = _environment(arguments, context)
    index = Target(environment or "any", arguments.index)  # refuses what is no index's name
    if environment and not arguments.shadow and store.stat(index.shadow.commit_name) is None:
        raise shadow_missing(index)
    urls = (arguments.stable or _answers_at(store, index), arguments.shadow or _answers_at(store, index.shadow))
    stable, shadow, items = compare.compare_items(*urls, arguments.items, arguments.k)
    found = [items]
    if pictures := compare.golden_pictures(store, stable):
        found.append(compare.compare_pictures(*urls, pictures, arguments.k))
    show(compare.for_programs(stable, shadow, found), compare.for_people(stable, shadow, found))
    try:
        if environment is None:
            raise UsageRefused("say --environment, or set INDEXPUSH_ENVIRONMENT")
        compare.keep(
            store,
            Target(environment, index.shadow.index),
            (stable, shadow),
            found,
            finished=context.clock.now(),
            least_overlap=arguments.least_overlap,
            by=default_signature(context.environ),
        )
    except DeliveryError as error:  # what was found stands above
        context.warn(f"indexpush: not kept for status and the board: {error}")
    least = min(each.overlap for each in found)
    return ExitCode.OK if least >= arguments.least_overlap else 1


def _answers_at(store: Store, target: Target) -> str:
    address = address_or_none(store, served(store, target))
    return address.inside if address else f"http://{target.index}"


def _filter(arguments: argparse.Namespace, context: Context, store: Store, show: _Show) -> int:
    target = _target(arguments, context)
    if arguments.hide is None:
        found = filters.look(store, target)
    else:
        by = default_signature(context.environ) if arguments.by is None else arguments.by
        found = filters.hide(store, target, arguments.hide, by=by, reason=arguments.reason)
        if store.stat(target.commit_name) is None:
            context.warn(f"indexpush: {commit_missing(store, target)}")
    if arguments.wait is not None:
        found = filters.wait(store, found, context, arguments.wait)
    show(filters.for_programs(found), filters.for_people(found))
    return ExitCode.OK if arguments.wait is None else found.exit_code


def _change(arguments: argparse.Namespace, context: Context, store: Store, *, as_json: bool) -> int:
    target = _target(arguments, context)
    options = Options(
        by=default_signature(context.environ) if arguments.by is None else arguments.by,
        reason=arguments.reason,
        hold=arguments.hold,
        release=arguments.release,
        dry_run=arguments.dry_run,
    )
    match arguments.command:
        case "commit":
            change = changes.commit(store, target, arguments.build, options)
        case "shadow":
            change = changes.shadow(store, target, arguments.build, options)
        case "redeploy":
            change = changes.redeploy(store, target, options)
        case "rollback":
            change = changes.rollback(store, target, arguments.to, options)
        case _:
            change = changes.promote(store, Target(arguments.source, target.index), target, options)
    if not as_json:
        context.say(people.change(change))
    verdict = _wait(arguments.wait, context, store, change)
    if as_json:
        context.say_value(programs.change(change, verdict))
    elif verdict is not None:
        context.say(people.verdict(verdict))
    elif change.written:
        context.say(f"  see         indexpush status {target.index} --environment {target.environment}")
    return verdict.exit_code if verdict else ExitCode.OK


def _wait(wanted: float | None, context: Context, store: Store, change: Change) -> Verdict | None:
    if wanted is None or not change.generation:
        return None
    patience = wanted or footprint(change.manifest).deadline_seconds + _AFTER_THE_DEADLINE
    receipt = change.target.receipt_name(change.generation)

    def tick(passed: float) -> None:
        context.transient(f"waiting for {receipt} ({passed:.0f} of {patience:.0f} s)")

    try:
        return wait_for_receipt(
            store, change.target, change.generation, patience=patience, clock=context.clock, tick=tick
        )
    except KeyboardInterrupt:
        return Verdict(None, "interrupted; the commit stands, and may still go live", ExitCode.INTERRUPTED, 0.0)
    finally:
        context.clear_transient()


def _bucket(arguments: argparse.Namespace, context: Context) -> str:
    url = getattr(arguments, "repository", None) or context.environ.get("MODEL_REPOSITORY")
    if not url:
        raise UsageRefused("no bucket is named; say --repository gs://<bucket>, or set MODEL_REPOSITORY")
    return parse_bucket_url(url)


def _environment(arguments: argparse.Namespace, context: Context) -> str | None:
    return arguments.environment or context.environ.get("INDEXPUSH_ENVIRONMENT") or None


def _named_environment(arguments: argparse.Namespace, context: Context) -> str:
    environment = _environment(arguments, context)
    if environment is None:
        raise UsageRefused("no environment is named; say --environment <name>, or set INDEXPUSH_ENVIRONMENT")
    return environment


def _target(arguments: argparse.Namespace, context: Context) -> Target:
    return Target(_named_environment(arguments, context), arguments.index)
