"""What caches may keep: answers about items, for as long as commit and filter are the same."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from search_server.http.responses import Validity
from tests import plain_http
from tests.search_server.conftest import Build, Server

SIMILAR = "/v1/items/chair-0/similar?k=5"


@pytest.mark.parametrize("path", [SIMILAR, "/v1/items?limit=5", "/", "/page/main.js"])
def test_who_has_an_answer_already_is_told_so(client: httpx.Client, path: str) -> None:
    first = client.get(path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    assert "page" in path or path == "/" or tag == '"1700000000000001-0"'
    for known in ([tag], [f'"other", {tag}'], [f"W/{tag}"], ["*"], ['"other"', tag]):
        again = client.get(path, headers=[("if-none-match", line) for line in known])
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"if-none-match": '"1700000000000001-1"'}).content == first.content


@pytest.mark.parametrize("path", ["/v1/items/nothing/similar", f"{SIMILAR}&category=none", "/v1/items?after=nothing"])
@pytest.mark.parametrize("known", ['"1700000000000001-0"', "*"])
def test_nobody_has_an_answer_to_what_has_none(client: httpx.Client, path: str, known: str) -> None:
    assert client.get(path, headers={"if-none-match": known}).status_code in (400, 404)


def test_what_is_no_answer_about_items_is_kept_by_nobody(client: httpx.Client) -> None:
    for answer in (client.get("/v1/status"), client.get("/v1/items/nothing/similar"), client.get("/livez")):
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers


def test_a_cache_may_answer_for_so_long(good_build: Build, start: Callable[..., Server]) -> None:
    server = start(good_build.environment() | {"CACHE_SECONDS": "30"})
    answer = plain_http.get(f"{server.url}{SIMILAR}")
    assert answer.headers["cache-control"] == "public, max-age=30"


def test_another_filter_is_another_tag() -> None:
    one, other = Validity(7, 1, 0).response(b"{}").headers, Validity(7, 2, 0).response(b"{}").headers
    assert one != other
    assert Validity(7, 2, 0).unchanged(b'"7-1"') is None
