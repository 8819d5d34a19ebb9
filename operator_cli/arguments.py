"""The command line: what can be said, and the help that explains it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn, Protocol

from model_repository import CONTRACT, __version__
from model_repository.documents.receipts.address import parse_url
from operator_cli.argument_types import count, moment, port, seconds, share, wait
from operator_cli.errors import UsageRefused
from operator_cli.pruning import KEEP

_DESCRIPTION = """\
Deploy, redeploy and roll back indexes by uploading one small object, and see what became of it.
It talks to the bucket alone, but for check, compare and --webhook: to what MODEL_REPOSITORY or --repository names, with
Application Default Credentials, or to the emulator that STORAGE_EMULATOR_HOST names.
"""
_EXIT_CODES = """\
exit codes: 0 done; 1 --wait: the commit did not go live; 64 usage; 65 the data is bad; 66 no such build, commit or
receipt; 69 no such bucket; 75 try again; 77 access denied, or on hold. docs/operations.md says what to do about each.
"""
_ROLLBACK = """\
Commit an older build. With --to, that one. Without, the build that served last before the live one, as the receipts
say, if it is still whole in the bucket: what is picked, and why, is printed. Receipts are written by indexpush's own
webhook; where a real Spinnaker deploys there are none, so there --to is needed. The next batch replaces a rollback,
unless it is on hold (--hold).
"""


class _Command(Protocol):
    def __call__(self, name: str, summary: str, description: str = "") -> argparse.ArgumentParser: ...


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing pages: a failure is one line."""
        if message.startswith("argument COMMAND: invalid choice: "):
            message = f"{message}; a command's own options come after it"
        raise UsageRefused(f"{message}; see {self.prog} --help")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse what a command doesn't know by that command's own name, not by the whole program's."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line. Raises `UsageRefused`; ``--help`` and ``--version`` print and exit."""
    return _parser().parse_args(argv)


def completion(shell: str) -> str:
    """A script that completes the command line in a shell, to be sourced by it."""
    # its only use, and no other command pays for the import (docs/operations.md)
    import shtab  # noqa: PLC0415

    return shtab.complete(_parser(), shell)


def _parser() -> argparse.ArgumentParser:
    common = _common()
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="indexpush", description=_DESCRIPTION, epilog=_EXIT_CODES, formatter_class=form, parents=[common]
    )
    revision = os.environ.get("INDEXPUSH_REVISION", "")  # which an image has
    made_of = f" ({revision})" if revision else ""
    parser.add_argument("--version", action="version", version=f"indexpush {__version__}{made_of}, contract {CONTRACT}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=description or summary, parents=[common], formatter_class=form
        )

    _add_changes(command)
    _add_status(command)
    _add_history(command)
    _add_diff(command)
    _add_compare(command)
    _add_prune(command)
    _add_check(command)
    _add_board(command)
    _add_builds(command)
    _add_filter(command)
    _add_pull(command)
    _add_spinnaker(command)
    _add_argo(command)
    completes = command("completion", "a script that completes this command in your shell: source it")
    completes.add_argument("shell", choices=("bash", "zsh"))
    return parser


def _add_status(command: _Command) -> None:
    look = command("status", "what is committed, what became of it, what serves")
    look.add_argument("index", nargs="?", help="one index; else all")
    _environment(look, "only this environment (default: INDEXPUSH_ENVIRONMENT, else all)")
    _webhook(look)


def _add_history(command: _Command) -> None:
    past = command("history", "the receipts, newest first")
    past.add_argument("index")
    past.add_argument("--limit", type=count, default=20, metavar="N", help="most receipts to show (default: 20)")
    past.add_argument(
        "--at", type=moment, metavar="TIME", help="what served then: such as 2026-11-24T14:05 (UTC, unless it says)"
    )
    _environment(past)


def _add_diff(command: _Command) -> None:
    differs = command(
        "diff",
        "how a build differs from the one that served when it was made",
        "Print what the batch found: items gone, new and in another category, how alike neighbours are,\n"
        "and what keeps the build from going live by itself. Without a build: the newest that was compared.",
    )
    differs.add_argument("index")
    differs.add_argument("build", nargs="?", metavar="BUILD", help="a build's name, or its prefix")
    differs.add_argument("--against", metavar="BUILD", help="another one: items are counted, no neighbours compared")


def _add_compare(command: _Command) -> None:
    compare = command(
        "compare",
        "how alike an index and its shadow answer, and how soon",
        "Ask both for the neighbours of the same items, and for what is like the model's golden pictures. From\n"
        "outside: kubectl port-forward service/<index> 8081:80, service/<index>-shadow 8082:80, and name both.\n"
        "What is found is kept in the bucket, for status and the board.",
    )
    compare.add_argument("index")
    _environment(compare)
    compare.add_argument("--stable", type=parse_url, metavar="URL", help="default: where it answers, as status shows")
    compare.add_argument("--shadow", type=parse_url, metavar="URL", help="default: likewise")
    compare.add_argument("--items", type=count, default=100, metavar="N", help="items to ask about (default: 100)")
    compare.add_argument("-k", type=count, default=10, metavar="N", help="neighbours of each (default: 10)")
    compare.add_argument(
        "--least-overlap", type=share, default=0.0, metavar="SHARE", help="end with 1 if the mean is lower, 0 to 1"
    )


def _add_prune(command: _Command) -> None:
    prune = command(
        "prune",
        "delete builds that nobody can want any more",
        "Say which builds, models, embeddings and records would go; with --apply, delete them. Kept is\n"
        "what a live commit names in any environment, what served last, what was written within a day, and the\n"
        "embeddings that runs count on; nothing goes of an index whose live commit neither serves nor was undone: a\n"
        "rollout may be going on.",
    )
    prune.add_argument(
        "--keep",
        type=count,
        default=KEEP,
        metavar="N",
        help=f"builds of each index and environment that served last, which stay (default: {KEEP})",
    )
    prune.add_argument("--apply", action="store_true", help="delete; without it, only say")


def _add_check(command: _Command) -> None:
    check = command(
        "check",
        "what is missing or too much in the installation, from the bucket's settings to the webhook's rights",
        "Ask Google Cloud for the bucket's settings, lifecycle rules and grants, its notifications, their topics, the\n"
        "function that hears of them and its schedules, and the webhook for what it finds itself. Nothing is changed.\n"
        "Ends with 0 if nothing is wrong, 1 if something is, 77 if something couldn't be looked at.",
    )
    check.add_argument(
        "--webhook",
        default="",
        metavar="URL",
        help="where it is reached from here (default: where the function does); CD_WEBHOOK_TOKEN is its token",
    )
    _environment(check, "the one to look at (default: INDEXPUSH_ENVIRONMENT, else all)")


def _add_board(command: _Command) -> None:
    board = command(
        "board",
        "all indexes on a page: what serves, who put it there, what became of it",
        "Serve a page of all indexes and environments from the bucket alone, which stays true by itself; redeploy,\n"
        "roll back, promote and hold from there. Prints its address, with a secret that signs you in.",
    )
    board.add_argument("--port", type=port, default=0, metavar="PORT", help="default: any that is free")
    board.add_argument("--host", default="127.0.0.1", help="where to listen; another needs --sign-in")
    board.add_argument(
        "--sign-in",
        choices=("own-machine", "iap", "none"),
        default="own-machine",
        help="iap: Google's Identity-Aware Proxy says who is asking; none: for looking only (default: own-machine)",
    )
    board.add_argument("--audience", default="", help="of IAP's assertions: /projects/<number>/...")
    board.add_argument(
        "--freshness",
        type=seconds,
        default=26.0,
        metavar="HOURS",
        help="what serves should be no older (default: 26, for a batch that runs daily)",
    )
    _webhook(board)
    board.add_argument("--by", metavar="WHO", help="for the record (default: gcloud's account, or user@host)")


def _add_builds(command: _Command) -> None:
    made = command("builds", "the builds of an index, newest first, and where each is live")
    made.add_argument("index")
    made.add_argument("--limit", type=count, default=20, metavar="N", help="most builds to show (default: 20)")


def _add_filter(command: _Command) -> None:
    hidden = command(
        "filter",
        "what is hidden of an index, such as what is sold out",
        "Say which filter is live and whether it is in force on all pods. With --hide, upload one that hides exactly\n"
        "the items of a file, an id on each line; an empty file hides nothing any more.",
    )
    hidden.add_argument("index")
    hidden.add_argument("--hide", metavar="FILE", help="ids, one on each line; -: standard input")
    _environment(hidden)
    _record(hidden)
    _wait(hidden, "wait for the receipt (default: a minute)")


def _add_pull(command: _Command) -> None:
    pull = command("pull", "fetch a build and its models into a folder, verified, as a pod does")
    pull.add_argument("index_prefix", metavar="BUILD", help="<index>/<build>, or its prefix indexes/<index>/<build>")
    pull.add_argument("destination", metavar="DESTINATION", help="the folder that appears when all is verified")


def _add_spinnaker(command: _Command) -> None:
    spinnaker = command(
        "spinnaker-pipeline",
        "what a Spinnaker needs to deploy indexes",
        "Print the Spinnaker application, and one pipeline for each index, as JSON. Nothing is read from the bucket.",
    )
    _environment(spinnaker)
    spinnaker.add_argument("--index", nargs="+", required=True, metavar="INDEX", help="one pipeline for each")
    spinnaker.add_argument("--application", default="indexpush", help="default: indexpush")
    spinnaker.add_argument("--account", default="", help="Spinnaker's Kubernetes account (default: the environment)")
    spinnaker.add_argument("--source", default="indexpush", help="last part of the webhook's URL (default: indexpush)")
    spinnaker.add_argument("--email", default="indexpush@example.com", help="of the application's owner")
    spinnaker.add_argument("--slack", default="", metavar="CHANNEL", help="say there what failed and what serves")
    spinnaker.add_argument("--run-as", default="", metavar="ACCOUNT", help="where Spinnaker authorizes: run as this")
    spinnaker.add_argument(
        "--values",
        default="",
        metavar="FOLDER",
        help="of <environment>.yaml (default: ENVIRONMENTS, else /etc/indexpush/environments)",
    )
    spinnaker.add_argument("--into", default="", metavar="FOLDER", help="write a file for each definition as well")


def _add_argo(command: _Command) -> None:
    argo = command(
        "argo-workflow",
        "what runs the batch on Argo Workflows",
        "Print the WorkflowTemplate of an index's batch, and the CronWorkflow that runs it, for kubectl apply -f -.\n"
        "Nothing is read from the bucket.",
    )
    argo.add_argument("--index", required=True)
    _environment(argo)
    argo.add_argument(
        "--values", required=True, metavar="FILE", help="what your team decides: manifests/examples/argo-batch.yaml"
    )


def _add_changes(command: _Command) -> None:
    commit = command("commit", "deploy a build", "Check that a build is whole in the bucket, then commit it.")
    commit.add_argument("index")
    commit.add_argument("build", metavar="BUILD", help="a build's name, or its prefix indexes/<index>/<build>")
    _environment(commit)
    _order(commit)

    redeploy = command(
        "redeploy",
        "roll the live build out again",
        "Upload the live commit again: a new generation, so a new rollout. A hold stays; --hold adds one, --release\n"
        "ends it (and the batch may commit again).",
    )
    redeploy.add_argument("index")
    _environment(redeploy)
    _order(redeploy, release="end the hold of the live commit")

    rollback = command("rollback", "commit an older build", _ROLLBACK)
    rollback.add_argument("index")
    rollback.add_argument("--to", metavar="BUILD", help="the build to go back to: its name or its prefix")
    _environment(rollback)
    _order(rollback)

    shadow = command(
        "shadow",
        "serve another build beside what serves, to nobody but who asks for it",
        "Commit a build to <index>-shadow: a Deployment of one pod, with a Service of that name, beside the index; no\n"
        "caller of the index reaches it. Receipts, status, history and rollback are as for any index. Without a\n"
        "build, say what it serves; --off ends it with the next sweep. indexpush compare says how alike they answer.",
    )
    shadow.add_argument("index")
    shadow.add_argument("build", nargs="?", metavar="BUILD", help="a build's name, or its prefix")
    shadow.add_argument("--off", action="store_true", help="end the shadow: delete its commit")
    _environment(shadow)
    _order(shadow)

    promote = command(
        "promote",
        "commit to one environment what another one serves",
        "Commit to one environment the build that another one SERVES, as its newest receipt says: not what is merely\n"
        "committed there. Nothing is written if it stands there already.",
    )
    promote.add_argument("index")
    promote.add_argument("--from", dest="source", required=True, metavar="ENVIRONMENT")
    promote.add_argument("--to", dest="environment", required=True, metavar="ENVIRONMENT")
    _order(promote)


def _common() -> _Parser:
    # SUPPRESS: said before or after the command, and neither default overwrites the other
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--repository", metavar="URL", help="gs://<bucket> (default: MODEL_REPOSITORY)")
    common.add_argument("--output", choices=("text", "json"), help="default: text")
    common.add_argument(
        "--patience",
        type=seconds,
        metavar="SECONDS",
        help="how long to retry a bucket that doesn't answer (default: 15)",
    )
    return common


def _environment(parser: argparse.ArgumentParser, text: str = "default: INDEXPUSH_ENVIRONMENT") -> None:
    parser.add_argument("--environment", "-e", metavar="NAME", help=text)


def _order(parser: argparse.ArgumentParser, release: str = "replace a commit that is on hold") -> None:
    _record(parser)
    parser.add_argument(
        "--hold",
        action=argparse.BooleanOptionalAction,
        help="the batch must not replace the new commit",
    )
    parser.add_argument("--release", action="store_true", help=release)
    parser.add_argument("--dry-run", action="store_true", help="check and explain, write nothing")
    _wait(
        parser,
        "wait for the receipt and say what became of the commit (default: the rollout's own deadline and a minute); "
        "useless where no receipts are written",
    )


def _record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", metavar="WHO", help="for the record (default: gcloud's account, or user@host)")
    parser.add_argument("--reason", default="", metavar="TEXT", help="for the record")


def _wait(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--wait", nargs="?", type=wait, const=0.0, metavar="SECONDS", help=text)


def _webhook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webhook",
        action="append",
        default=[],
        metavar="URL",
        help="ask a CD webhook how rollouts go, pod by pod (CD_WEBHOOK_TOKEN is its token); once for each environment",
    )
