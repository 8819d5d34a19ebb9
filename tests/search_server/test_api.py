"""Every route of the real server, asked over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from http_limits.refusals import RequestMalformed
from search_server.errors import MediaUnsupported
from search_server.http.requests import parse_picture
from search_server.metrics import read_pull
from tests import plain_http


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def exact(build: Any, vector: Any, *, without: str = "", category: str | None = None) -> list[str]:
    """All items, nearest first, by comparing with every one of them."""
    distances = [
        (1 - float(np.dot(vector, other)), item)
        for name, ids in build.ids.items()
        if category in (None, name)
        for item, other in zip(ids, build.vectors[name], strict=True)
        if item != without
    ]
    return [item for _, item in sorted(distances)]


# similar items


def test_similar_items_are_the_nearest_of_all_categories(client: httpx.Client, good_build: Any) -> None:
    answer = client.get("/v1/items/chair-3/similar", params={"k": 5}).json()
    assert (answer["item"], answer["category"], answer["generation"]) == ("chair-3", "chairs", 1700000000000001)
    found = [neighbor["id"] for neighbor in answer["neighbors"]]
    assert found == exact(good_build, good_build.vectors["chairs"][3], without="chair-3")[:5]


def test_an_item_is_not_among_its_own_similar_items_even_when_all_are_asked_for(client: httpx.Client) -> None:
    answer = client.get("/v1/items/lamp-1/similar?k=1000").json()
    found = [neighbor["id"] for neighbor in answer["neighbors"]]
    assert len(found) == len(set(found)) == 70
    assert "lamp-1" not in found


def test_similar_items_can_be_of_one_category_which_need_not_be_the_items_own(
    client: httpx.Client, good_build: Any
) -> None:
    answer = client.get("/v1/items/chair-3/similar", params={"k": 6, "category": "tables & desks"}).json()
    assert {neighbor["category"] for neighbor in answer["neighbors"]} == {"tables & desks"}
    wanted = exact(good_build, good_build.vectors["chairs"][3], category="tables & desks")
    assert [neighbor["id"] for neighbor in answer["neighbors"]] == wanted


def test_the_score_is_the_cosine_and_the_distance_is_angular(client: httpx.Client, good_build: Any) -> None:
    neighbor = client.get("/v1/items/chair-3/similar?k=1&category=chairs").json()["neighbors"][0]
    other = good_build.vectors["chairs"][good_build.ids["chairs"].index(neighbor["id"])]
    cosine = float(np.dot(good_build.vectors["chairs"][3], other))
    assert neighbor["score"] == pytest.approx(cosine, abs=1e-5)
    assert neighbor["distance"] == pytest.approx(math.sqrt(2 - 2 * cosine), abs=1e-5)


def test_many_clients_at_once_each_get_their_own_answer(server: Any, good_build: Any) -> None:
    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=70)
        async with httpx.AsyncClient(base_url=server.url, timeout=30, limits=limits) as client:
            items = [item for ids in good_build.ids.values() for item in ids]
            return await asyncio.gather(*(client.get(f"/v1/items/{item}/similar?k=3") for item in items * 3))

    for answer, (item, vector) in zip(asyncio.run(ask_all()), _all(good_build) * 3, strict=True):
        assert answer.json()["item"] == item
        found = [neighbor["id"] for neighbor in answer.json()["neighbors"]]
        assert found == exact(good_build, vector, without=item)[:3]


@pytest.mark.parametrize("item", ["rödä ting/1 %?&#", "a/similar", "."])
def test_an_items_id_may_be_any_text(item: str, build: Any, start: Callable[..., Any]) -> None:
    build.ids["lamps"][2] = item
    build.write_ids()
    build.write_indexes()
    build.seal()
    server = start(build.environment())
    encoded = "".join(f"%{byte:02X}" for byte in item.encode())
    answer = plain_http.get(f"{server.url}/v1/items/{encoded}/similar?k=1").json()
    assert answer["item"] == item


def test_an_unknown_item_is_404_in_words(client: httpx.Client) -> None:
    answer = client.get("/v1/items/no-such-chair/similar")
    assert code(answer) == (404, "item-unknown")
    assert "no-such-chair" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "query",
    ["k=0", "k=1001", "k=-1", "k=1e3", "k=ten", "k=", "k=5&k=5", "K=5", "k=5&categroy=chairs", "category=sofas", "k=٣"],
)
def test_a_wrong_parameter_is_refused_and_named(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/items/chair-3/similar?{query}")
    assert code(answer) == (400, "parameter-refused")


def test_every_answer_names_its_generation_and_build(client: httpx.Client) -> None:
    for path in ("/", "/v1/status", "/v1/items/chair-3/similar", "/v1/items/x/similar", "/nowhere", "/metrics"):
        headers = client.get(path).headers
        assert headers["x-indexpush-generation"] == "1700000000000001"
        assert headers["x-indexpush-prefix"] == "indexes/home-store/20261121t1200z"


# listing


def test_items_are_listed_page_by_page(client: httpx.Client, good_build: Any) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        page = client.get("/v1/items", params={"limit": 30, **({"after": after} if after else {})}).json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [item for ids in good_build.ids.values() for item in ids]


def test_a_category_is_listed_alone(client: httpx.Client) -> None:
    page = client.get("/v1/items", params={"category": "tables & desks"}).json()
    assert [item["category"] for item in page["items"]] == ["tables & desks"] * 6
    assert page["next"] is None


def test_a_listing_after_an_item_of_another_category_is_refused(client: httpx.Client) -> None:
    assert code(client.get("/v1/items", params={"category": "lamps", "after": "chair-1"}))[0] == 400


# search by picture


def test_a_picture_finds_the_item_that_it_shows(client: httpx.Client, new_picture: Callable[..., bytes]) -> None:
    answer = client.post("/v1/search?k=3", content=new_picture(5, "PNG"), headers={"content-type": "image/png"}).json()
    assert answer["neighbors"][0]["id"] == "chair-5"
    assert answer["neighbors"][0]["score"] > 0.99
    assert len(answer["neighbors"]) == 3


def test_a_picture_may_come_as_the_file_of_a_form(client: httpx.Client, new_picture: Callable[..., bytes]) -> None:
    files = {"picture": ("lamp.jpg", new_picture(45), "image/jpeg")}
    answer = client.post("/v1/search?category=lamps", files=files, data={"note": "from a form"}).json()
    assert answer["neighbors"][0]["id"] == "lamp-5"
    assert {neighbor["category"] for neighbor in answer["neighbors"]} == {"lamps"}


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"no picture", "image/jpeg", (400, "image-unreadable")),
        (b"", "image/jpeg", (400, "request-malformed")),
        (b"{}", "application/json", (415, "media-unsupported")),
        (b"x", "", (415, "media-unsupported")),
        (b"--b\r\n\r\nx", "multipart/form-data; boundary=b", (400, "request-malformed")),
        (b"x", "multipart/form-data", (400, "request-malformed")),
        (b"<svg/>", "image/svg+xml", (400, "image-unreadable")),
    ],
)
def test_what_is_no_picture_is_refused(
    client: httpx.Client, content: bytes, kind: str, expected: tuple[int, str]
) -> None:
    assert code(client.post("/v1/search", content=content, headers={"content-type": kind})) == expected


def test_a_body_that_is_packed_is_refused_by_the_name_of_its_packing(
    client: httpx.Client, new_picture: Callable[..., bytes]
) -> None:
    packed = {"content-encoding": "gzip", "content-type": "image/jpeg"}
    answer = client.post("/v1/search", content=gzip.compress(new_picture(1)), headers=packed)
    assert code(answer) == (415, "media-unsupported")
    assert "content-encoding 'gzip'" in answer.json()["error"]["message"]
    answer = client.post("/v1/findNeighbors", content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (415, "INVALID_ARGUMENT")
    plain = {"content-encoding": "identity", "content-type": "image/jpeg"}
    assert client.post("/v1/search", content=new_picture(1), headers=plain).status_code == 200


def test_a_form_with_two_files_is_refused(client: httpx.Client, new_picture: Callable[..., bytes]) -> None:
    files = {"a": ("a.jpg", new_picture(1)), "b": ("b.jpg", new_picture(2))}
    assert code(client.post("/v1/search", files=files)) == (400, "request-malformed")


def test_a_form_is_read_in_pieces_and_none_takes_long(good_build: Any) -> None:
    pieces: list[object] = []

    async def take(work: Callable[[], object]) -> None:
        pieces.append(work())

    def read(data: bytes, kind: bytes = b"multipart/form-data; boundary=b") -> bytes:
        head = b'--b\r\ncontent-disposition: form-data; name="f"; filename="p.jpg"\r\n\r\n'
        return asyncio.run(parse_picture(kind, head + data + b"\r\n--b--\r\n", take))

    photo = good_build.picture(1) + b"\r\n--\r\n-b" * 300_000
    assert read(photo) == photo
    assert len(pieces) == 10
    with pytest.raises(RequestMalformed, match="lines that begin as one does"):
        read(b"\r\n--b!" * 100_000)  # a microsecond each
    with pytest.raises(MediaUnsupported):
        read(photo, b"multipart/form-data; boundary=b" + b";" * 30_000)


# findNeighbors


def ask(client: httpx.Client, body: Any, path: str = "/v1/findNeighbors") -> httpx.Response:
    return client.post(path, json=body)


def vector_of(build: Any, category: str, position: int) -> list[float]:
    return [float(value) for value in build.vectors[category][position]]


def test_find_neighbors_answers_as_vertex_ai_does(client: httpx.Client, good_build: Any) -> None:
    datapoint = {"datapointId": "mine", "featureVector": vector_of(good_build, "chairs", 3)}
    body = {"deployedIndexId": "home_store", "queries": [{"datapoint": datapoint, "neighborCount": 2}]}
    (nearest,) = ask(client, body).json()["nearestNeighbors"]
    assert nearest["id"] == "mine"
    first, second = nearest["neighbors"]
    assert first["datapoint"] == {"datapointId": "chair-3", "crowdingTag": {"crowdingAttribute": "chairs"}}
    assert first["distance"] == pytest.approx(0, abs=1e-5)
    other = second["datapoint"]["datapointId"]
    cosine = np.dot(good_build.vectors["chairs"][3], dict(_all(good_build))[other])
    assert second["distance"] == pytest.approx(1 - cosine, abs=1e-5)


def _all(build: Any) -> list[tuple[str, Any]]:
    return [pair for name, ids in build.ids.items() for pair in zip(ids, build.vectors[name], strict=True)]


def test_find_neighbors_takes_snake_case_and_its_full_path_too(client: httpx.Client, good_build: Any) -> None:
    datapoint = {"datapoint_id": "0", "feature_vector": vector_of(good_build, "lamps", 4)}
    body = {"queries": [{"datapoint": datapoint, "neighbor_count": "1"}], "return_full_datapoint": True}
    path = "/v1/projects/181224308459/locations/us-central1/indexEndpoints/3370566089086861312:findNeighbors"
    neighbor = ask(client, body, path).json()["nearestNeighbors"][0]["neighbors"][0]
    assert neighbor["datapoint"]["datapointId"] == "lamp-4"
    assert neighbor["datapoint"]["restricts"] == [{"namespace": "category", "allowList": ["lamps"]}]
    assert neighbor["datapoint"]["featureVector"] == pytest.approx(vector_of(good_build, "lamps", 4), abs=1e-6)


def test_find_neighbors_answers_many_queries_in_their_order(client: httpx.Client, good_build: Any) -> None:
    queries = [
        {"datapoint": {"datapointId": str(n), "featureVector": vector_of(good_build, "chairs", n)}, "neighborCount": 1}
        for n in range(20)
    ]
    answers = ask(client, {"queries": queries}).json()["nearestNeighbors"]
    assert [answer["id"] for answer in answers] == [str(n) for n in range(20)]
    found = [answer["neighbors"][0]["datapoint"]["datapointId"] for answer in answers]
    assert found == [f"chair-{n}" for n in range(20)]


def test_find_neighbors_looks_up_an_item_that_is_named_without_a_vector(client: httpx.Client) -> None:
    body = {"queries": [{"datapoint": {"datapointId": "lamp-4"}, "neighborCount": 1}]}
    (nearest,) = ask(client, body).json()["nearestNeighbors"]
    assert nearest["neighbors"][0]["datapoint"]["datapointId"] == "lamp-4"


@pytest.mark.parametrize(
    ("restricts", "expected"),
    [
        ([{"namespace": "category", "allowList": ["lamps"]}], {"lamps"}),
        ([{"namespace": "category", "denyList": ["chairs"]}], {"lamps", "tables & desks"}),
        ([{"namespace": "category", "allow_list": ["lamps", "chairs"], "deny_list": ["lamps"]}], {"chairs"}),
        ([], {"chairs", "lamps", "tables & desks"}),
        ([{"namespace": "category", "allowList": ["lamps"], "denyList": ["lamps"]}], set()),
        (
            [{"namespace": "category", "allowList": ["lamps"]}, {"namespace": "category", "allowList": ["chairs"]}],
            set(),
        ),
        ([{"namespace": "category", "denyList": ["chairs", "lamps", "tables & desks"]}], set()),
    ],
)
@pytest.mark.parametrize("what", [{"datapointId": "chair-0"}, {"featureVector": [0.1] * 48}], ids=["item", "vector"])
def test_find_neighbors_restricts_by_category(
    client: httpx.Client, what: dict[str, Any], restricts: list[dict[str, Any]], expected: set[str]
) -> None:
    body = {"queries": [{"datapoint": what | {"restricts": restricts}, "neighborCount": 1000}]}
    neighbors = ask(client, body).json()["nearestNeighbors"][0]["neighbors"]
    assert {neighbor["datapoint"]["crowdingTag"]["crowdingAttribute"] for neighbor in neighbors} == expected


GOOD = [0.1] * 48


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ([], "expected an object"),
        ({}, "queries"),
        ({"queries": []}, "queries"),
        ({"queries": [{}] * 101}, "queries"),
        ({"queries": [{"datapoint": {"featureVector": GOOD[1:]}}]}, "48 dimensions"),
        ({"queries": [{"datapoint": {"featureVector": [*GOOD[1:], "0.1"]}}]}, "numbers"),
        ({"queries": [{"datapoint": {"featureVector": [*GOOD[1:], True]}}]}, "numbers"),
        ({"queries": [{"datapoint": {"featureVector": [*GOOD[1:], 1e39]}}]}, "float32"),
        ({"queries": [{"datapoint": {"featureVector": [*GOOD[1:], 10**400]}}]}, ""),
        ({"queries": [{"datapoint": {"featureVector": [0] * 48}}]}, "not all of them 0"),
        ({"queries": [{"datapoint": {"featureVector": GOOD}, "neighborCount": 1001}]}, "1000"),
        ({"queries": [{"datapoint": {"featureVector": GOOD}, "neighborCount": -1}]}, "neighborCount"),
        ({"queries": [{"datapoint": {"featureVector": GOOD}, "neighbourCount": 3}]}, "neighbourCount"),
        ({"queries": [{"datapoint": {"featureVector": GOOD, "feature_vector": GOOD}}]}, "the same field"),
        ({"queries": [{"datapoint": {"featureVector": GOOD, "restricts": [{"namespace": "colour"}]}}]}, "category"),
        ({"queries": [{"datapoint": {"featureVector": GOOD}}], "deployedIndexId": "clothing"}, "home-store"),
        ({"queries": [{"datapoint": {}}]}, "featureVector"),
    ],
)
def test_a_wrong_find_neighbors_is_refused_as_google_does(client: httpx.Client, body: Any, word: str) -> None:
    answer = ask(client, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert word in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"queries": NaN}', b"[" * 100_000, b"\xff\xfe"])
def test_a_body_that_is_no_json_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/findNeighbors", content=body)
    assert answer.status_code == 400


def test_a_body_that_would_take_long_to_read_is_refused_before_it_is_and_a_hundred_long_queries_are_not(
    client: httpx.Client,
) -> None:
    bodies = [
        b"{%b}" % b",".join(b'"%d":1' % number for number in range(40_000)),
        b'{"queries":[%b]}' % b",".join([b'"ab"'] * 40_000),
        b'{"queries":[%b]}' % b",".join([b"1.5"] * 160_000),
        b'{"queries":[%b]}' % b",".join([b"{}"] * 50_000),
    ]
    for body in bodies:
        error = client.post("/v1/findNeighbors", content=body).json()["error"]
        assert (error["code"], error["message"].partition(": ")[2]) == (400, "ask in several")
    large = ask(client, {"queries": [{"datapoint": {"featureVector": [0.0] * 700_000}}]})
    assert (large.status_code, large.json()["error"]["status"]) == (413, "INVALID_ARGUMENT")
    most = {"datapointId": "chair-1", "featureVector": [-0.0123456789] * 1280}
    answer = ask(client, {"queries": [{"datapoint": most, "neighborCount": 1000}] * 100})
    assert "has 1280 numbers" in answer.json()["error"]["message"]


# what is served, and how


def test_the_status_names_what_is_served(client: httpx.Client, good_build: Any) -> None:
    status = client.get("/v1/status").json()
    assert status["generation"] == 1700000000000001
    assert status["index_prefix"] == "indexes/home-store/20261121t1200z"
    assert status["index_digest"] == good_build.digest
    assert (status["items"], status["dimensions"], status["ready"]) == (71, 48, True)
    assert status["categories"][2] == {"category": "tables & desks", "items": 6}
    assert status["model"]["prefix"] == "models/blocks/1"


def test_probes_answer(client: httpx.Client) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").json() == {"ready": True, "generation": 1700000000000001}


def test_metrics_count_requests_by_route_and_status(client: httpx.Client) -> None:
    client.get("/v1/items/nobody/similar")
    text = client.get("/metrics").text
    assert 'indexpush_search_requests_total{code="404",route="similar"}' in text
    assert 'indexpush_search_request_seconds_bucket{le="+Inf",route="similar"}' in text
    assert "indexpush_search_ready 1.0" in text
    assert 'generation="1700000000000001"' in text
    assert 'indexpush_search_memory_bytes{process="worker-1"}' in text


def test_metrics_say_what_serves_and_what_its_pull_took(tmp_path: Path, good_build: Any, start: Any) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text('{"bytes": 1000, "seconds": 2.5}')
    server = start(good_build.environment() | {"PULL_FIGURES": str(figures)})
    text = plain_http.get(f"http://127.0.0.1:{server.probe_port}/metrics").text
    assert 'indexpush_pull_bytes{index="home-store"} 1000.0' in text
    assert 'indexpush_pull_seconds{index="home-store"} 2.5' in text
    assert 'indexpush_search_serving{generation="1700000000000001",index="home-store",' in text


@pytest.mark.parametrize("left", [None, b"", b"no JSON", b"[]", b'{"bytes": 1}', b'{"bytes": "x", "seconds": 1}'])
def test_a_pull_that_left_nothing_that_can_be_read_has_no_figures(tmp_path: Path, left: bytes | None) -> None:
    file = tmp_path / "figures.json"
    if left is not None:
        file.write_bytes(left)
    assert read_pull(file) is None
    assert read_pull(None) is None


def test_an_unknown_path_is_404_and_a_wrong_method_405(client: httpx.Client) -> None:
    assert code(client.get("/v2/items")) == (404, "route-unknown")
    assert code(client.get("/v1/items//similar")) == (404, "route-unknown")
    answer = client.post("/v1/status")
    assert code(answer) == (405, "method-refused")
    assert answer.headers["allow"] == "GET"
    assert client.get("/v1/findNeighbors").status_code == 405


def test_head_answers_as_get_without_the_body(client: httpx.Client) -> None:
    answer = client.head("/v1/items/chair-3/similar")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


def test_the_page_allows_scripts_and_pictures_from_nowhere_else(client: httpx.Client) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    script = client.get("/page/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = client.get("/page/main.js", headers={"if-none-match": script.headers["etag"]})
    assert again.status_code == 304


def test_a_refusal_of_a_body_that_was_not_sent_yet_ends_the_connection(server: Any) -> None:
    ask = b"POST /nothing-here HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(ask)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in answer
