"""The shop: two days of its catalogue, and the server of its pictures."""

from __future__ import annotations

import functools
import http.server
import json
import mimetypes
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from local_stack.demo.programs import run_module
from local_stack.demo.shop import labels

_LINES = "catalogue.jsonl"
_CHANGED = 1 / 20
"""The share of products that leave, and of those that come, from one day to the next."""

Product = dict[str, Any]
"""id, category, picture (a path of this machine, or a URI), and name, which is empty where the catalogue has none."""


def read_shop(catalogue: str, work: Path) -> list[Product]:
    """All products of a catalogue, as the batch itself reads it; raises `ProgramFailed`, which says what is wrong."""
    seen = work / "seen.jsonl"
    run_module("embedding_batch", ["catalogue", "--catalogue", catalogue, "--write", os.fspath(seen)], {})
    names = _names(Path(catalogue))
    return [{**product, "name": names.get(product["id"], "")} for product in _lines(seen)]


def _names(catalogue: Path) -> dict[str, str]:
    """What products are called, where a list of JSON says it: the batch has no use for names."""
    listed = catalogue / _LINES if catalogue.is_dir() else catalogue
    if listed.suffix != ".jsonl" or not listed.is_file():
        return {}
    return {str(line["id"]): str(line["name"]) for line in _lines(listed) if line.get("name")}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]


def catalogue_lines(folder: Path) -> list[Product]:
    """What a day's catalogue says of each product, in order."""
    return _lines(folder / _LINES)


def product_ids(folder: Path) -> list[str]:
    """The ids of a day's catalogue, in order."""
    return [product["id"] for product in catalogue_lines(folder)]


def pictures(folder: Path) -> set[bytes | str]:
    """What the products of a day's catalogue look like: the bytes of files, which several may share, else URLs."""
    paths = {product["picture"] for product in catalogue_lines(folder)}
    return {Path(path).read_bytes() if path.startswith("/") else path for path in paths}


def two_days(products: Sequence[Product], work: Path) -> tuple[Path, Path]:
    """Yesterday's and today's catalogue as folders: today some products are gone, and as many are new."""
    step = round(1 / _CHANGED)
    for day, absent in (("yesterday", 1), ("today", 0)):
        folder = work / day
        folder.mkdir(parents=True)
        lines = [f"{json.dumps(each)}\n" for number, each in enumerate(products) if number % step != absent]
        (folder / _LINES).write_text("".join(lines), encoding="utf-8")
    return work / "yesterday", work / "today"


def kinds(folder: Path) -> dict[str, str]:
    """Item id -> kind, for the products whose name says it."""
    return labels.kinds(catalogue_lines(folder))


class _Pictures(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, products: Mapping[str, Product]) -> None:  # noqa: ANN401 - as http.server's
        self._products = products
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer with an item's picture, or where it is, or all names."""
        if self.path == "/names.json":
            names = {item: product["name"] for item, product in self._products.items() if product["name"]}
            self._answer(200, json.dumps(names).encode(), "application/json")
            return
        product = self._products.get(unquote(self.path.removeprefix("/pictures/")))
        if product is None:
            self._answer(404, b"", "text/plain")
        elif product["picture"].startswith("/"):
            kind, _ = mimetypes.guess_type(product["picture"])
            self._answer(200, Path(product["picture"]).read_bytes(), kind or "application/octet-stream")
        else:
            self._answer(302, b"", "text/plain", product["picture"])

    def _answer(self, status: int, body: bytes, kind: str, location: str = "") -> None:
        self.send_response(status)
        for name, value in (("content-type", kind), ("content-length", str(len(body)))):
            self.send_header(name, value)
        self.send_header("access-control-allow-origin", "*")  # the page is another server's
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: these are pictures."""


@contextmanager
def picture_server(products: Sequence[Product]) -> Iterator[str]:
    """Serve pictures and names as a shop's CDN does, as `/pictures/<id>` and `/names.json`; gives its URL."""
    handler = functools.partial(_Pictures, products={product["id"]: product for product in products})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
