"""The shop: two days of its catalogue, and the server of its pictures."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_stack.demo import labels

_LINES = "catalogue.jsonl"
_CHANGED = 1 / 20
"""The share of products that leave, and of those that come, from one day to the next."""


def catalogue_lines(folder: Path) -> list[dict[str, Any]]:
    """What a day's catalogue says of each product, in order."""
    return [json.loads(line) for line in (folder / _LINES).read_text(encoding="utf-8").splitlines()]


def product_ids(folder: Path) -> list[str]:
    """The ids of a day's catalogue, in order."""
    return [product["id"] for product in catalogue_lines(folder)]


def two_days(shop: Path, work: Path) -> tuple[Path, Path]:
    """Yesterday's and today's catalogue as folders: today some products are gone, and as many are new."""
    lines = (shop / _LINES).read_text(encoding="utf-8").splitlines()
    step = round(1 / _CHANGED)
    gone, new = set(lines[::step]), set(lines[1::step])
    for day, absent in (("yesterday", new), ("today", gone)):
        folder = work / day
        folder.mkdir(parents=True)
        (folder / "images").symlink_to(shop / "images")
        (folder / _LINES).write_text("".join(f"{line}\n" for line in lines if line not in absent), encoding="utf-8")
    return work / "yesterday", work / "today"


def kinds(folder: Path) -> dict[str, str]:
    """Item id -> kind, for the products whose name says it."""
    return labels.kinds(catalogue_lines(folder))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: these are pictures."""


@contextmanager
def picture_server(images: Path) -> Iterator[str]:
    """Serve the pictures as a shop's CDN does; gives the URL of an item's picture, with ``{id}`` for the item."""
    handler = functools.partial(_Quiet, directory=os.fspath(images))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/{{id}}.jpg"
        finally:
            server.shutdown()
            thread.join()
