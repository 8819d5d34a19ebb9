"""Builds of other shapes than one model and Annoy: other engines, parts of a category, no model, several."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from model_repository.documents.index_manifest import Engine, Storage
from model_repository.documents.model_manifest import format_model_manifest
from model_repository.names import ModelPrefix
from tests import builds, plain_http

KINDS = [(engine, storage) for engine in Engine for storage in Storage if storage.suits(engine)]


def ask(server: Any) -> httpx.Client:
    return plain_http.Client(base_url=server.url, timeout=10)


def similar(client: httpx.Client, item: str, **parameters: object) -> list[str]:
    answer = client.get(f"/v1/items/{item}/similar", params=parameters)
    assert answer.status_code == 200, answer.text
    return [neighbor["id"] for neighbor in answer.json()["neighbors"]]


def photo(client: httpx.Client, data: bytes, **parameters: object) -> httpx.Response:
    return client.post("/v1/search", content=data, headers={"content-type": "image/jpeg"}, params=parameters)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_engine_answers_items_vectors_and_photos(
    build: Any, start: Callable[..., Any], kind: tuple[Engine, Storage]
) -> None:
    build.kind = kind
    build.write_indexes()
    build.seal()
    with ask(start(build.environment())) as client:
        assert set(similar(client, "chair-3", k=39, category="chairs")) == set(build.ids["chairs"]) - {"chair-3"}
        found = photo(client, build.picture(0), k=1).json()["neighbors"][0]
        assert (found["id"], found["category"]) == ("chair-0", "chairs")
        query = {"datapoint": {"feature_vector": build.vectors["lamps"][4].tolist()}, "neighbor_count": 1}
        (answer,) = client.post("/v1/findNeighbors", json={"queries": [query]}).json()["nearestNeighbors"]
        assert answer["neighbors"][0]["datapoint"]["datapointId"] == "lamp-4"


def test_the_parts_of_a_category_are_one_to_whoever_asks_and_categories_are_listed_by_name(
    build: Any, start: Callable[..., Any]
) -> None:
    build.seal()
    parts = [replace(one, category="things") if one.category == "chairs" else one for one in build.manifest.partitions]
    parts = [replace(one, category="things") if one.category == "lamps" else one for one in parts]
    golden = [replace(g, category="things") if g.category in ("chairs", "lamps") else g for g in build.golden]
    build.say(replace(build.manifest, partitions=tuple(parts), golden_queries=tuple(golden)))
    with ask(start(build.environment())) as client:
        assert client.get("/v1/status").json()["categories"] == [
            {"category": "tables & desks", "items": 6},
            {"category": "things", "items": 65},
        ]
        assert len(set(similar(client, "chair-3", k=100, category="things"))) == 64
        listed = client.get("/v1/items", params={"category": "things", "after": "chair-38", "limit": 3}).json()["items"]
        assert [item["id"] for item in listed] == ["chair-39", "lamp-0", "lamp-1"]


def test_without_a_model_photos_are_refused_and_all_else_is_answered(build: Any, start: Callable[..., Any]) -> None:
    shutil.rmtree(build.data / "models")
    partitions = tuple(replace(one, model=None) for one in build.manifest.partitions)
    build.say(replace(build.manifest, models=(), partitions=partitions))
    with ask(start(build.environment())) as client:
        answer = photo(client, build.picture(0))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no-model")
        assert len(similar(client, "chair-3", k=5)) == 5
        query = {"datapoint": {"feature_vector": build.vectors["lamps"][4].tolist()}, "neighbor_count": 1}
        (found,) = client.post("/v1/findNeighbors", json={"queries": [query]}).json()["nearestNeighbors"]
        assert found["neighbors"][0]["datapoint"]["datapointId"] == "lamp-4"
        status = client.get("/v1/status").json()
        assert (status["models"], status["model"], status["dimensions"]) == ([], None, 48)


def test_what_several_models_made_is_never_compared(build: Any, start: Callable[..., Any]) -> None:
    other = replace(build.model, prefix=ModelPrefix("blocks", "2"))
    shutil.copytree(build.model_folder, build.data / "models/blocks/2")
    (build.data / "models/blocks/2/model.json").write_bytes(format_model_manifest(other))
    files = builds.described_folder(build.data / "models/blocks/2")
    models = (*build.manifest.models, builds.model_reference(other, files=files))
    of_lamps = [replace(one, model=int(one.category == "lamps")) for one in build.manifest.partitions]
    build.say(replace(build.manifest, models=models, partitions=tuple(of_lamps)))
    with ask(start(build.environment())) as client:
        assert {item.split("-")[0] for item in similar(client, "chair-3", k=100)} == {"chair", "tables & desk"}
        answer = client.get("/v1/items/chair-3/similar", params={"category": "lamps"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parameter-refused")
        answer = photo(client, build.picture(0))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parameter-refused")
        assert "category: name one" in answer.json()["error"]["message"]
        assert photo(client, build.picture(0), category="chairs", k=1).json()["neighbors"][0]["id"] == "chair-0"
        query = {"datapoint": {"feature_vector": build.vectors["lamps"][4].tolist()}}
        assert client.post("/v1/findNeighbors", json={"queries": [query]}).status_code == 400
        query["datapoint"]["restricts"] = [{"namespace": "category", "allow_list": ["lamps"]}]
        assert client.post("/v1/findNeighbors", json={"queries": [query]}).status_code == 200
        status = client.get("/v1/status").json()
        assert [model["prefix"] for model in status["models"]] == ["models/blocks/1", "models/blocks/2"]
        assert status["model"] is None
