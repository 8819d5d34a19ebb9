"""``indexpush pull``: the pods' own puller as a child, with a progress bar drawn from its log lines."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

from model_repository.bucket.store import Store
from model_repository.errors import NameRefused, ObjectMissing
from model_repository.exit_codes import ExitCode
from model_repository.names import IndexPrefix
from model_repository.repository import read_build
from operator_cli.builds import build_missing, parse_build
from operator_cli.context import Context
from operator_cli.errors import PullerMissing

_PULLER = "init_container"
_CODES = (ExitCode.OK, ExitCode.USAGE, ExitCode.DATA, ExitCode.TRY_AGAIN)
"""What the puller promises to end with."""
_BAR = 30
_NARROW = 80


def pull(store: Store, prefix_text: str, destination: str, context: Context, *, as_json: bool) -> int:
    """Pull a build and its model to `destination`; returns the puller's own exit code.

    A puller that died (a signal, a defect) is `ExitCode.SOFTWARE`: its status would say something else here.
    """
    if importlib.util.find_spec(_PULLER) is None:
        raise PullerMissing("the puller isn't installed here; pip install google-auth beside indexpush")
    prefix = _prefix(prefix_text, store.bucket)
    try:
        build = read_build(store, prefix)
    except ObjectMissing:
        raise build_missing(store, prefix) from None
    folder = Path(destination).absolute()
    environment = {
        **context.environ,
        "MODEL_REPOSITORY": f"gs://{store.bucket}",
        "INDEX_PREFIX": str(prefix),
        "INDEX_DIGEST": build.digest,
        "DESTINATION": str(folder),
        "PROGRESS_SECONDS": "0.2",
        "TERMINATION_LOG": os.devnull,
    }
    status, last = _follow(environment, build.manifest.bytes_to_pull, context)
    code = status if status in _CODES else ExitCode.SOFTWARE
    if status != ExitCode.OK and last.get("severity") != "ERROR":  # it died without last words
        last = {"message": f"{prefix}: the puller ended with status {status} and didn't say why"}
    message = str(last.get("message", f"pulled {prefix}"))
    if as_json:
        context.say_value(_value(code, prefix, folder, last, message))
    elif code == ExitCode.OK:
        context.say(f"{message}\n  folder      {folder}")
    if code != ExitCode.OK:
        context.warn(f"indexpush: {message}")
    return code


def _prefix(text: str, bucket: str) -> IndexPrefix:
    parts = text.removeprefix(f"gs://{bucket}/").rstrip("/").split("/")
    if len(parts) == 2 and parts[0] != "indexes":  # noqa: PLR2004 - index and build
        return IndexPrefix(*parts)
    if len(parts) < 3:  # noqa: PLR2004 - indexes, index, build
        raise NameRefused(f"{text[:200]!r}: expected <index>/<build>, or indexes/<index>/<build>")
    return parse_build(text, parts[1], bucket)


def _follow(environment: dict[str, str], total: int, context: Context) -> tuple[int, dict[str, Any]]:
    """Run the puller to its end: its exit status and the last thing it said.

    total: bytes to pull; `bytes` of a log line is how many of them have come.
    """
    last: dict[str, Any] = {}
    strange: deque[str] = deque(maxlen=30)
    command = [sys.executable, "-P", "-m", _PULLER]  # -P: the installed one, whatever lies in the current folder
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace") as child:
        try:
            for line in child.stderr or ():
                record = _record(line)
                if record is None:
                    strange.append(line)
                    continue
                last = record
                if isinstance(done := record.get("bytes"), int):
                    context.transient(progress_bar(done, total, shutil.get_terminal_size().columns))
            code = child.wait()
        except KeyboardInterrupt:
            child.wait()  # the terminal interrupted it too
            raise
        finally:
            context.clear_transient()
    if code:
        context.stderr.writelines(strange)
    return code, last


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def progress_bar(done: int, total: int, columns: int) -> str:
    """One line of at most `columns` characters; done, total: bytes."""
    share = min(done / total, 1.0) if total else 1.0
    figures = f"{share:4.0%} of {total / 1e6:.1f} MB"
    if columns < _NARROW:
        return figures[:columns]
    full = round(share * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {figures}"


def _value(code: int, prefix: IndexPrefix, folder: Path, last: dict[str, Any], message: str) -> dict[str, Any]:
    if code != ExitCode.OK:
        return {"error": {"code": str(last.get("code", "puller-failed")), "message": message}}
    value: dict[str, Any] = {"index_prefix": str(prefix), "destination": str(folder), "detail": message}
    return value | {key: last[key] for key in ("bytes", "seconds") if key in last}
