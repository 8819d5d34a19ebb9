"""A photo is answered by what is in it: each thing by the model of its category, or the part that is pointed at."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvloop
from PIL import Image
from playwright.sync_api import FilePayload, expect

from image_embedder import Box, Embedder, Region, preprocess
from model_repository.digests import sha256_digest
from model_repository.documents.detector_manifest import (
    DetectorManifest,
    GoldenDetection,
    GoldenRegion,
    format_detector_manifest,
)
from model_repository.documents.model_manifest import GoldenImage, ModelInput, Resize, format_model_manifest
from model_repository.documents.references import DetectorReference
from model_repository.names import ModelPrefix
from model_repository.resources.pictures import picture_process_bytes
from model_repository.telemetry.log import Log
from search_server.build.detector import BuildDetector
from search_server.build.model import Model
from search_server.pictures import child
from search_server.pictures.client import PictureClient
from search_server.pictures.door import PictureDoor
from search_server.pictures.messages import LONGEST_ANSWER, REGION, REGIONS, Detect, DetectorFile, ModelFile
from search_server.pictures.processes import PictureProcesses
from search_server.pictures.remembered import RememberedPictures
from search_server.processes.pod import PodState
from tests import builds, detectors, plain_http
from tests.chromium import chromium, faultless_page
from tests.pictures import encoded, png
from tests.search_server.conftest import DIMENSIONS, SIZE, block_model, make_build

DETECTOR = ModelPrefix("ssd", "1")
CLASSES = ("Chair", "Lamp", "Table", "Plant")
CATEGORIES = {"Chair": "chairs", "Lamp": "lamps", "Table": "tables & desks"}
LEFT, RIGHT = (0.125, 0.25, 0.375, 0.75), (0.625, 0.25, 0.875, 0.75)
A_CHAIR_AND_A_LAMP = [[0.75, 0.0, 0.125, 0.0], [0.0, 0.875, 0.0, 0.9375]]
NOTHING = [[0.125] * 4] * 2
FOUND = GoldenRegion(LEFT, "Chair", 0.75)
CHAIR_3, LAMP_5 = 3, 45


def room(draw: Callable[[int], bytes]) -> bytes:
    """A white picture with chair-3 to the left and lamp-5 to the right, in the two boxes."""
    picture = Image.new("RGB", (256, 128), "white")
    for seed, left in ((CHAIR_3, 32), (LAMP_5, 160)):
        picture.paste(Image.open(io.BytesIO(draw(seed))), (left, 32))
    return encoded(picture, "PNG")


def add_detector(
    build: Any, scores: Sequence[Sequence[float]], golden: Sequence[GoldenRegion] | None = (FOUND,)
) -> DetectorManifest:
    """Let the build have a detector that finds the same in every picture. golden: None: no golden image at all."""
    folder = build.data / str(DETECTOR)
    folder.mkdir(parents=True)
    detectors.write_detector(folder / "model.onnx", [LEFT, RIGHT], scores)
    (folder / "golden-0.png").write_bytes(room(build.picture))
    images = () if golden is None else (GoldenDetection("golden-0.png", tuple(golden)),)
    if golden is None:
        (folder / "golden-0.png").unlink()
    manifest = builds.detector_manifest(
        DETECTOR,
        input=ModelInput(detectors.SIZE, resize=Resize.SQUARE),
        classes=CLASSES,
        golden_images=images,
        files=builds.described_folder(folder),
    )
    data = format_detector_manifest(manifest)
    (folder / "model.json").write_bytes(data)
    files = builds.described_folder(folder)
    reference = DetectorReference(DETECTOR, sha256_digest(data), files, CATEGORIES, 0.5)
    build.say(replace(build.manifest, detector=reference))
    return manifest


def add_model_of_lamps(build: Any) -> None:
    """Let lamps have a model of their own, of other dimensions."""
    folder = build.data / "models/blocks/2"
    shutil.copytree(build.model_folder, folder)
    (folder / "model.onnx").write_bytes(block_model(2))
    embedder = Embedder(folder / "model.onnx")

    def embed(data: bytes) -> Any:
        return embedder.embed(preprocess(data, ModelInput(SIZE))[np.newaxis])[0]

    (folder / "golden-0.f32").write_bytes(embed((folder / "golden-0.jpg").read_bytes()).astype("<f4").tobytes())
    (folder / "model.json").unlink()
    model = replace(
        build.model,
        prefix=ModelPrefix("blocks", "2"),
        dimensions=12,
        golden_images=(GoldenImage("golden-0.jpg", "golden-0.f32"),),
        files=builds.described_folder(folder),
    )
    (folder / "model.json").write_bytes(format_model_manifest(model))
    build.vectors["lamps"] = [embed(build.picture(40 + n)) for n in range(25)]
    build.write_indexes()
    build.seal()
    reference = builds.model_reference(model, files=builds.described_folder(folder))
    partitions = [
        replace(one, model=1, dimensions=12) if one.category == "lamps" else one for one in build.manifest.partitions
    ]
    models = (*build.manifest.models, reference)
    build.say(replace(build.manifest, models=models, partitions=tuple(partitions)))


def ask(server: Any, data: bytes, query: str = "") -> httpx.Response:
    url = f"{server.url}/v1/search?k=3{query and '&'}{query}"
    return plain_http.post(url, content=data, headers={"content-type": "image/png"}, timeout=60)


def first(neighbors: list[dict[str, Any]]) -> str:
    return str(neighbors[0]["id"])


@pytest.fixture(scope="module")
def detecting(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A build with a detector, which nobody may spoil."""
    build = make_build(tmp_path_factory.mktemp("data") / "current")
    add_detector(build, A_CHAIR_AND_A_LAMP)
    return build


@pytest.fixture(scope="module")
def server_environment(detecting: Any) -> dict[str, str]:
    environment: dict[str, str] = detecting.environment()
    return environment


@pytest.fixture(scope="module")
def photo(detecting: Any) -> bytes:
    return room(detecting.picture)


def test_each_thing_in_a_photo_has_its_own_neighbours_of_its_category_the_surest_first(
    server: Any, photo: bytes
) -> None:
    answer = ask(server, photo).json()
    assert set(answer) == {"generation", "regions", "neighbors"}
    lamp, chair = answer["regions"]
    assert (lamp["box"], lamp["category"], lamp["score"]) == (list(RIGHT), "lamps", 0.875)
    assert (chair["box"], chair["category"], chair["score"]) == (list(LEFT), "chairs", 0.75)
    for region, item in ((lamp, "lamp-5"), (chair, "chair-3")):
        assert first(region["neighbors"]) == item
        assert len(region["neighbors"]) == 3
        assert {neighbor["category"] for neighbor in region["neighbors"]} == {region["category"]}
    assert answer["neighbors"] == []


def test_who_asks_for_no_detection_has_the_answer_about_all_of_the_photo(
    server: Any, detecting: Any, photo: bytes
) -> None:
    assert set(ask(server, photo, "detect=false").json()) == {"generation", "neighbors"}
    assert first(ask(server, detecting.picture(7), "detect=false").json()["neighbors"]) == "chair-7"


def test_a_category_narrows_to_what_is_of_it(server: Any, photo: bytes) -> None:
    (lamp,) = ask(server, photo, "category=lamps&detect=true").json()["regions"]
    assert (lamp["category"], first(lamp["neighbors"])) == ("lamps", "lamp-5")


def test_all_of_the_photo_is_searched_in_a_category_of_which_nothing_is_found(server: Any, detecting: Any) -> None:
    of_tables = detecting.picture(67)
    answer = ask(server, of_tables, "category=tables%20%26%20desks").json()
    assert (answer["regions"], first(answer["neighbors"])) == ([], detecting.ids["tables & desks"][2])
    whole = ask(server, of_tables, "category=tables%20%26%20desks&detect=false").json()
    assert answer["neighbors"] == whole["neighbors"]


def test_a_box_is_searched_alone_and_a_found_one_finds_the_same(server: Any, photo: bytes) -> None:
    for region in ask(server, photo).json()["regions"]:
        box = ",".join(map(str, region["box"]))
        answer = ask(server, photo, f"box={box}&category={region['category']}").json()
        assert answer == {"generation": answer["generation"], "neighbors": region["neighbors"]}
        assert first(ask(server, photo, f"box={box}").json()["neighbors"]) == first(region["neighbors"])


@pytest.mark.parametrize(
    "query",
    [
        "detect=yes",
        "detect=",
        "box=",
        "box=0,0,1",
        "box=0,0,1,1,1",
        "box=0.5,0,0.5,1",
        "box=0,0.9,1,0.1",
        "box=-0.1,0,1,1",
        "box=0,0,1.01,1",
        "box=nan,0,1,1",
        "box=0,0,1,inf",
        "box=0,0,1,x",
        "box=0, 0,1,1",
        "box=0,0,1,1&detect=true",
        "category=sofas",
    ],
)
def test_a_wrong_parameter_is_refused_and_named(server: Any, photo: bytes, query: str) -> None:
    answer = ask(server, photo, query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parameter-refused")
    assert query.partition("=")[0] in answer.json()["error"]["message"]


def test_status_tells_the_detector_and_what_it_finds(server: Any) -> None:
    told = plain_http.get(f"{server.url}/v1/status").json()["detector"]
    assert (told["prefix"], told["categories"]) == ("models/ssd/1", ["chairs", "lamps", "tables & desks"])


def test_what_is_no_picture_is_refused(server: Any) -> None:
    answer = ask(server, b"no picture")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "image-unreadable")


def test_without_a_detector_a_box_is_searched_and_detection_can_not_be_asked_for(
    good_build: Any, start: Callable[..., Any], photo: bytes
) -> None:
    server = start(good_build.environment())
    assert set(ask(server, photo).json()) == {"generation", "neighbors"}
    assert first(ask(server, photo, "box=0.125,0.25,0.375,0.75").json()["neighbors"]) == "chair-3"
    answer = ask(server, photo, "detect=true")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parameter-refused")
    assert "no detector" in answer.json()["error"]["message"]
    assert plain_http.get(f"{server.url}/v1/status").json()["detector"] is None


def test_each_category_is_embedded_by_its_own_model(build: Any, start: Callable[..., Any], photo: bytes) -> None:
    add_model_of_lamps(build)
    add_detector(build, A_CHAIR_AND_A_LAMP)
    server = start(build.environment())
    lamp, chair = ask(server, photo).json()["regions"]
    assert (first(lamp["neighbors"]), first(chair["neighbors"])) == ("lamp-5", "chair-3")
    for query in ("detect=false", "box=0,0,1,1"):
        answer = ask(server, photo, query)
        assert answer.status_code == 400
        assert "category: name one" in answer.json()["error"]["message"]


def test_where_nothing_is_found_all_of_the_photo_is_searched_if_there_is_one_model(
    build: Any, start: Callable[..., Any]
) -> None:
    add_detector(build, NOTHING, golden=())
    answer = ask(start(build.environment()), build.picture(7)).json()
    assert (answer["regions"], first(answer["neighbors"])) == ([], "chair-7")


def test_where_nothing_is_found_and_there_are_several_models_the_answer_is_empty(
    build: Any, start: Callable[..., Any]
) -> None:
    add_model_of_lamps(build)
    add_detector(build, NOTHING, golden=())
    server = start(build.environment())
    answer = ask(server, build.picture(7)).json()
    assert (answer["regions"], answer["neighbors"]) == ([], [])
    assert first(ask(server, build.picture(7), "category=chairs").json()["neighbors"]) == "chair-7"


def test_on_the_page_each_thing_in_a_photo_is_a_box_to_click(
    build: Any, start: Callable[..., Any], photo: bytes
) -> None:
    add_detector(build, A_CHAIR_AND_A_LAMP)
    server = start(build.environment())
    with chromium() as browser, faultless_page(browser) as page:
        page.goto(server.url)
        page.locator("#file").set_input_files(FilePayload(name="room.png", mimeType="image/png", buffer=photo))
        first_card = page.locator("#neighbors .card").first
        expect(page.locator("#asked-picture .region")).to_have_count(2)
        expect(first_card).to_have_attribute("data-id", "lamp-5")
        page.get_by_role("button", name="chairs, in the photo").click()
        expect(first_card).to_have_attribute("data-id", "chair-3")
        expect(page.locator("#neighbors .category", has_text="lamps")).to_have_count(0)
        in_words = page.get_by_role("group", name="Things in the photo")
        expect(in_words.get_by_role("button", name="chairs", pressed=True)).to_have_count(1)
        first_card.click()
        expect(first_card).not_to_have_attribute("data-id", "chair-3")
        page.go_back()  # to the thing that was chosen
        expect(first_card).to_have_attribute("data-id", "chair-3")
        page.reload()
        expect(in_words.get_by_role("button", name="chairs", pressed=True)).to_have_count(1)
        expect(first_card).to_have_attribute("data-id", "chair-3")
        in_words.get_by_role("button", name="lamps").press("Enter")
        expect(first_card).to_have_attribute("data-id", "lamp-5")
        expect(page.get_by_role("button", name="lamps, in the photo", pressed=True)).to_have_count(1)
        square, box = (page.locator(f"#asked-picture{each}").bounding_box() for each in ("", " .region >> nth=1"))
        assert square is not None
        assert box is not None
        inner = square["width"] - 2  # less its border
        assert (box["x"] - square["x"] - 1) / inner == pytest.approx(LEFT[0], abs=0.01)
        assert (box["y"] - square["y"] - 1) / inner == pytest.approx(0.25 + LEFT[1] / 2, abs=0.01)
        assert box["width"] / inner == pytest.approx(0.25, abs=0.01)


# the page of the API


def asked_as_on_the_page(server: Any, command: str, photo: bytes) -> Any:
    """What a `curl` of the page is answered by this server."""
    words = shlex.split(command)[1:]
    (url,) = (word for word in words if word.startswith("http://"))
    path = url.removeprefix("http://localhost:8080")
    if "-d" in words:
        return plain_http.post(server.url + path, content=words[words.index("-d") + 1].encode()).json()
    if "--data-binary" in words:
        return plain_http.post(
            server.url + path, content=photo, headers={"content-type": "image/png"}, timeout=60
        ).json()
    return plain_http.get(server.url + path).json()


def shape(value: Any) -> Any:
    """Names and types, without the values; a list's first."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return float if isinstance(value, int | float) else type(value)


def test_sample_answers_on_the_page_of_the_api_have_the_shape_of_real_ones(server: Any, photo: bytes) -> None:
    page = Path("docs/search-api.md").read_text(encoding="utf-8")
    samples = re.findall(r"^    \$ (curl .*)\n((?:    .*\n)+)", page, re.MULTILINE)
    assert len(samples) == 3
    for command, answer in samples:
        assert shape(asked_as_on_the_page(server, command, photo)) == shape(json.loads(answer)), command


# the proof


def refused(build: Any, start: Callable[..., Any]) -> str:
    server = start(build.environment(), wait=False)
    status, log = server.wait(60)
    assert status == 65, log
    return Path(build.environment()["TERMINATION_LOG"]).read_text()


def test_a_detector_that_does_not_find_what_was_recorded_is_noticed(build: Any, start: Callable[..., Any]) -> None:
    add_detector(build, A_CHAIR_AND_A_LAMP, (FOUND, GoldenRegion(RIGHT, "Table", 0.5)))
    words = refused(build, start)
    assert words.startswith("proof-failed: models/ssd/1: golden image 'golden-0.png': doesn't find 'Table' at [0.625")
    assert "Chair" not in words


def test_a_detector_that_can_not_prove_itself_is_noticed(build: Any, start: Callable[..., Any]) -> None:
    add_detector(build, A_CHAIR_AND_A_LAMP, golden=None)
    assert "without a golden image the detector can't be proved" in refused(build, start)


def test_a_file_that_is_no_detector_of_its_classes_is_noticed(build: Any, start: Callable[..., Any]) -> None:
    add_detector(build, [[0.75, 0.0], [0.0, 0.75]], golden=())
    assert "a score for each class that is named" in refused(build, start)


def test_a_detector_that_was_cut_short_is_noticed(build: Any, start: Callable[..., Any]) -> None:
    add_detector(build, A_CHAIR_AND_A_LAMP)
    path = build.data / str(DETECTOR) / "model.onnx"
    os.truncate(path, path.stat().st_size - 1)
    assert "build-unfit: " in (words := refused(build, start))
    assert "model.onnx: has" in words


# what it costs


@dataclass(frozen=True)
class Looking:
    detector: BuildDetector
    models: tuple[Model, ...]


@pytest.fixture
def looking(build: Any) -> Looking:
    """Finds twenty things in every picture, each almost all of it."""
    folder = build.data / str(DETECTOR)
    manifest = add_detector(build, A_CHAIR_AND_A_LAMP)
    classes = tuple(f"Chair {number}" for number in range(20))
    boxes: list[Box] = [(0.0, 0.0, 1.0, 1.0)]
    detectors.write_detector(folder / "model.onnx", boxes, [[0.75] * 20])
    reference = replace(
        build.manifest.detector, categories={name: f"category {number}" for number, name in enumerate(classes)}
    )
    models = dict.fromkeys(reference.categories.values(), 0)
    detector = BuildDetector(replace(manifest, classes=classes), folder, reference, models)
    return Looking(detector, (Model(build.model, build.model_folder, "0" * 64),))


class Finds:
    """Stands for files that are open: two things in every picture, with vectors of so many bytes."""

    def __init__(self, length: int) -> None:
        self._length = length

    def detector(self, _: object) -> Finds:
        return self

    def detect(self, *_: object) -> list[Region]:
        return [Region(LEFT, "Chair", "chairs", 0.75), Region(RIGHT, "Chair", "chairs", 0.5)]

    def part(self, *_: object) -> bytes:
        return bytes(self._length)


@pytest.mark.parametrize(
    ("length", "seconds", "found"),
    [(48, 60.0, 2), (48, -1.0, 1), (LONGEST_ANSWER // 2 - REGION.size, 60.0, 2), (LONGEST_ANSWER // 2, 60.0, 1)],
)
def test_the_surest_things_are_answered_where_all_would_take_too_long_or_too_many_bytes(
    monkeypatch: pytest.MonkeyPatch, photo: bytes, length: int, seconds: float, found: int
) -> None:
    monkeypatch.setattr(child, "_REGIONS_SECONDS", seconds)
    file = DetectorFile("", ModelInput(SIZE), CLASSES, "1" * 64)
    models = {"chairs": ModelFile("", ModelInput(SIZE), normalised=True, digest="2" * 64, dimensions=DIMENSIONS)}
    question = Detect(file, {"Chair": "chairs"}, 0.5, models, None)
    opened: Any = Finds(length)
    kind, answer = child._detect(question, opened, photo)
    assert (kind, len(answer)) == (REGIONS, found * (REGION.size + length))
    assert REGION.unpack_from(answer) == (0, 0.75, *LEFT)


def highest_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def test_what_is_in_the_dearest_picture_is_found_within_the_memory_that_the_pods_is_computed_with(
    looking: Looking,
) -> None:
    dearest = [
        png(6400, 6400),
        png(4700, 4700),
        encoded(Image.new("RGBA", (4070, 4070), (1, 2, 3, 9)), "WEBP", method=0),
    ]

    async def story() -> None:
        processes = PictureProcesses(Log(stream=io.StringIO()))
        door = PictureDoor(RememberedPictures(processes, PodState.create(1)))
        door.open()
        client = PictureClient(socket.socket(fileno=os.dup(door.file)))
        try:
            for data in dearest:
                regions, whole = await client.detect(looking.detector, looking.models, data)
                assert (len(regions), whole) == (20, None)
            (pid,) = processes.pids
            files = (looking.detector.path, looking.models[0].path)
            assert highest_bytes(pid) < picture_process_bytes(sum(path.stat().st_size for path in files))
        finally:
            door.close()
            processes.close()

    uvloop.run(asyncio.wait_for(story(), 60))
