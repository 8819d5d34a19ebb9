"""Items with certain tags alone: by query parameter, and as Vertex AI restricts; together with what is hidden."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from model_repository.documents.index_manifest import Engine, Storage
from search_server.build.partitions import Partition
from search_server.filters.masks import Masks
from search_server.filters.restricts import Restriction, Restricts
from tests import builds, plain_http
from tests.search_server.vector_builds import make_vector_build
from vector_index import Visible

KINDS = [(Engine.ANNOY, Storage.FLOAT32), (Engine.FAISS_HNSW, Storage.INT8), (Engine.EXACT, Storage.FLOAT32)]
SHOES, HATS = 600, 400


def tags_of(category: str, number: int) -> list[str]:
    """Every other one is acme's, every hundredth zeta's; colours overlap; some have none."""
    tags = [f"brand={'zeta' if number % 100 == 7 else 'acme' if number % 2 == 0 else 'omni & co'}"]
    tags += ["colour=red"] if number % 3 == 0 else []
    tags += ["colour=blue"] if number % 5 == 0 else []
    return tags + (["sale"] if category == "hats" else [])


TAGS = {f"{c}-{n}": tags_of(c, n) for c, count in (("shoes", SHOES), ("hats", HATS)) for n in range(count)}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: str(kind[0]))
def server_environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tagged")
    return make_vector_build(folder, {"shoes": SHOES, "hats": HATS}, 32, tags=TAGS, kind=request.param)


def similar(client: httpx.Client, item: str, query: str) -> list[str]:
    answer = client.get(f"/v1/items/{item}/similar?{query}")
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["neighbors"]]


def having(*wanted: str, but_for: str = "") -> set[str]:
    """All items with one of these, without `but_for`."""
    return {item for item, tags in TAGS.items() if set(wanted) & set(tags)} - {but_for}


def test_only_items_with_the_tag_are_found_and_as_many_as_are_asked_for(client: httpx.Client) -> None:
    everything = similar(client, "shoes-1", "k=999")
    acme = having("brand=acme")
    assert similar(client, "shoes-1", "k=20&brand=acme") == [item for item in everything if item in acme][:20]


def test_of_few_items_all_are_found(client: httpx.Client) -> None:
    found = similar(client, "shoes-1", "k=50&brand=zeta")
    assert set(found) == having("brand=zeta")
    assert len(found) == 10


def test_a_name_twice_means_either_and_two_names_mean_both(client: httpx.Client) -> None:
    either = similar(client, "hats-1", "k=999&colour=red&colour=blue")
    assert set(either) == having("colour=red", "colour=blue")
    both = similar(client, "hats-1", "k=999&colour=blue&brand=acme&category=shoes")
    assert set(both) == {item for item in having("colour=blue") & having("brand=acme") if item.startswith("shoes")}


def test_an_item_is_no_neighbour_of_itself_and_need_not_have_the_tag(client: httpx.Client) -> None:
    assert set(similar(client, "shoes-7", "k=999&brand=zeta")) == having("brand=zeta", but_for="shoes-7")


def test_values_are_percent_encoded_and_tags_without_a_name_are_called_tag(client: httpx.Client) -> None:
    assert set(similar(client, "shoes-0", "k=999&brand=omni%20%26+co")) == having("brand=omni & co")
    assert set(similar(client, "shoes-0", "k=999&tag=sale")) == {f"hats-{n}" for n in range(HATS)}


def test_a_value_that_no_item_has_finds_nothing_and_a_name_that_none_has_is_refused(client: httpx.Client) -> None:
    assert similar(client, "shoes-1", "brand=nobody") == []
    answer = client.get("/v1/items/shoes-1/similar?size=42")
    assert answer.status_code == 400
    assert "known here: k, category, brand, colour, tag" in answer.json()["error"]["message"]
    assert client.get("/v1/items/shoes-1/similar?" + "&".join(f"brand={n}" for n in range(101))).status_code == 400
    assert client.get("/v1/status").json()["tags"] == ["brand", "colour", "tag"]


def vertex(client: httpx.Client, restricts: list[dict[str, Any]], path: str = "/v1/findNeighbors", **more: Any) -> Any:
    query = {"datapoint": {"datapointId": "shoes-1", "restricts": restricts}, "neighborCount": 999, **more}
    return client.post(path, json={"queries": [query]})


def found_ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["datapoint"]["datapointId"] for one in answer.json()["nearestNeighbors"][0]["neighbors"]]


def test_vertex_restricts_allow_and_deny(client: httpx.Client) -> None:
    acme_not_red = vertex(
        client,
        [{"namespace": "brand", "allowList": ["acme", "zeta"]}, {"namespace": "colour", "denyList": ["red"]}],
    )
    assert set(found_ids(acme_not_red)) == having("brand=acme", "brand=zeta") - having("colour=red")
    only_denied = vertex(client, [{"namespace": "colour", "deny_list": ["red", "blue"]}])
    assert set(found_ids(only_denied)) == set(TAGS) - having("colour=red", "colour=blue")
    with_category = vertex(
        client, [{"namespace": "category", "allowList": ["hats"]}, {"namespace": "brand", "allowList": ["zeta"]}]
    )
    assert set(found_ids(with_category)) == {item for item in having("brand=zeta") if item.startswith("hats")}


def test_a_namespace_that_the_index_does_not_know_is_named_with_those_it_does(client: httpx.Client) -> None:
    answer = vertex(client, [{"namespace": "size", "allowList": ["42"]}])
    assert answer.status_code == 400
    assert "namespace 'size': this index knows category, brand, colour, tag" in answer.json()["error"]["message"]
    numeric = client.post(
        "/v1/findNeighbors",
        json={"queries": [{"datapoint": {"datapointId": "shoes-1", "numericRestricts": [{"namespace": "price"}]}}]},
    )
    assert numeric.status_code == 400
    assert "numericRestricts" in numeric.json()["error"]["message"]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_the_paths_of_googles_clients_are_served(client: httpx.Client, version: str) -> None:
    path = f"/{version}/projects/p/locations/l/indexEndpoints/1:findNeighbors"
    assert set(found_ids(vertex(client, [{"namespace": "brand", "allowList": ["zeta"]}], path))) == having("brand=zeta")


def test_more_candidates_may_be_looked_for_than_are_given(client: httpx.Client) -> None:
    few = vertex(client, [], neighborCount=5, approximateNeighborCount=500)
    assert found_ids(few) == found_ids(vertex(client, [], neighborCount=500))[:5]
    assert vertex(client, [], approximateNeighborCount=10**6).status_code == 400


# --- masks


def test_what_a_filter_hides_no_tag_brings_back() -> None:
    class Tags:
        names = ("brand",)

        def places(self, tag: str) -> memoryview:
            return memoryview(np.array([0, 2, 4, 5], np.uint32) if tag == "brand=acme" else np.array([], np.uint32))

    restricts = Restricts(Tags(), [3, 4])  # type: ignore[arg-type]
    hidden = Masks(7, 2, 2, (Visible.but_for(np.array([0]), 3), None))
    first, second = restricts.visible(Restriction((("brand=acme",),)), hidden)
    assert (first and list(first.positions), second and list(second.positions)) == ([2], [1, 2])
    denied = restricts.visible(Restriction(denied=("brand=acme",)), hidden)
    assert [one and list(one.positions) for one in denied] == [[1], [0, 3]]
    assert not Restriction()


def test_masks_are_kept_until_another_filter_is_in_force_and_no_more_of_them_than_there_is_room_for() -> None:
    restricts = Restricts(None, [1_000_000])
    filters = [Masks(n, 0, 0, ()) for n in range(2)]
    asked = [Restriction((("brand=acme",),), (str(n),)) for n in range(200)]
    for one in asked:
        assert restricts.known(one, filters[0]) is None
        restricts.keep(one, filters[0], (None,))
    assert restricts.known(asked[-1], filters[0]) == (None,)
    assert restricts.known(asked[0], filters[0]) is None
    assert restricts.known(asked[-1], filters[1]) is None
    restricts.keep(asked[-1], filters[0], (None,))  # made before the other filter came
    assert restricts.known(asked[-1], filters[1]) is None


def test_a_search_among_few_costs_what_comparing_them_takes() -> None:
    promise = builds.partition(items=1_000_000, dimensions=512, engine=Engine.FAISS_HNSW, width=15)
    everything = Partition(0, promise, None, None)  # type: ignore[arg-type]
    few = replace(everything, visible=Visible(np.full(125_000, 0, np.uint8), 1_000_000, 100))
    assert few.cost(10) < everything.cost(10)
    assert few.cost(10) < 100 * 512 + 100_000


def test_an_exact_search_costs_what_comparing_all_takes_whatever_is_hidden() -> None:
    everything = Partition(0, builds.partition(items=400, dimensions=512, engine=Engine.EXACT), None, None)  # type: ignore[arg-type]
    few = replace(everything, visible=Visible(np.zeros(50, np.uint8), 400, 1))
    assert few.cost(10) == everything.cost(10)
    assert 400 * 512 < few.cost(10) < 400 * 512 + 100_000


# --- names from the field


def ask(port: int, target: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_ids_of_500_characters_that_take_three_bytes_each_are_answered(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    server = start(make_vector_build(tmp_path, {"all": 30}, 16, named=lambda _, n: f"{n:03d}{'椅' * 497}"))
    with plain_http.Client(base_url=server.url, timeout=60) as client:
        answer = client.get(f"/v1/items/{quote('001' + '椅' * 497)}/similar")
    assert answer.status_code == 200
    assert all(len(one["id"]) == 500 for one in answer.json()["neighbors"])


def test_bytes_that_are_not_ascii_are_answered_or_refused_with_how_to_write_them(server: Any) -> None:
    answer = ask(server.port, "/v1/items/shoes-1/similar?brand=schön".encode())
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"percent-encoded" in answer
