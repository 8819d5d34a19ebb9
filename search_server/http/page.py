"""The page on which a person looks at the index: static files of this package, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlsplit

from http_limits.refusals import Response
from search_server.http.requests import Request
from search_server.http.responses import Headers, matches, response

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file. etag: quoted."""

    body: bytes
    etag: bytes
    headers: Headers

    def answer(self, request: Request) -> Response:
        """The file, or 304 if the client has it."""
        if matches(self.etag, request.header(b"if-none-match")):
            return Response(304, b"", self.headers)
        return response(200, self.body, *self.headers)


def read_page(item_image_url: str, item_names_url: str) -> dict[bytes, PageFile]:
    """All files of the page by path; pictures and names may come from the origins of these, and from nowhere else."""
    policy = content_security_policy(item_image_url, item_names_url).encode()
    page = {}
    for file in files("search_server").joinpath("page").iterdir():
        kind = _TYPES.get("." + file.name.rpartition(".")[2])
        if kind:
            body = file.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'.encode()
            headers = [
                (b"content-type", kind.encode()),
                (b"content-security-policy", policy),
                (b"referrer-policy", b"no-referrer"),
                (b"cross-origin-opener-policy", b"same-origin"),
                (b"cache-control", b"no-cache"),
                (b"etag", etag),
            ]
            page[b"/" if file.name == "index.html" else f"/page/{file.name}".encode()] = PageFile(body, etag, headers)
    return page


def content_security_policy(item_image_url: str, item_names_url: str) -> str:
    """Scripts, styles and requests from this server alone; pictures and names also from the origins of these."""
    pictures, names = _origin(item_image_url), _origin(item_names_url)
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{names}; "
        f"img-src 'self' blob:{pictures}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
