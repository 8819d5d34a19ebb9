"""What a device would decode, decoded by the same codec's CPU part and resized by the same graph on the CPU."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from embedding_batch.command_line.reading import read_command
from embedding_batch.embedding import Model, embed_pictures, on_device
from embedding_batch.embedding.on_device import DeviceDecoder, decoded_there, embed_decoded_there, resizing_weights
from embedding_batch.errors import DecodeDiffers
from embedding_batch.steps import embedding
from embedding_batch.steps.publish.models import LocalModel, local_model
from image_embedder import Device, Embedder, preprocess_decoded
from image_embedder.metadata import plain_jpeg_size
from model_repository.documents.model_manifest import Layout, ModelInput, PixelType, Resize
from model_repository.errors import Misconfigured
from tests.embedding_batch.conftest import NOW
from tests.pictures import png

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

PRODUCTS = Path(__file__).parents[2] / "local_stack" / "demo" / "home_store" / "images"
LEAST_COSINE = 0.997


def photo(number: int, size: tuple[int, int], **how: Any) -> bytes:
    """A photo of products of the catalogue."""
    paths = sorted(PRODUCTS.glob("*.jpg"))
    picture = Image.open(paths[number % len(paths)]).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", **{"quality": 85, **how})
    return file.getvalue()


SIZES = ((400, 534), (128, 128), (1500, 1100), (800, 300), (90, 700), (17, 5), (1, 1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return local_model("efficientnet-lite0", tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("resize", Resize)
@pytest.mark.parametrize(
    ("layout", "dtype", "mean", "std"),
    [
        (Layout.NCHW, PixelType.FLOAT32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        (Layout.NHWC, PixelType.FLOAT32, (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),
        (Layout.NHWC, PixelType.UINT8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
def test_the_pixels_are_those_of_the_preprocessing_but_for_rounding(
    resize: Resize, layout: Layout, dtype: PixelType, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    takes = ModelInput(64, layout, dtype, resize, mean, std)
    pictures = [photo(number, size, subsampling=number % 3) for number, size in enumerate(SIZES)]
    memory, there = DeviceDecoder(takes, Device.CPU, threads=1).decode(pictures)
    assert there == [True] * len(pictures)
    for found, picture in zip(memory.numpy(), pictures, strict=False):
        # all of it: a large JPEG is decoded at a half or a quarter of its size otherwise
        expected = preprocess_decoded(Image.open(io.BytesIO(picture)).convert("RGB"), takes)
        assert found.dtype == expected.dtype
        differs = np.abs(found.astype(np.float64) - expected) * max(std)
        assert differs.mean() < 0.3, Image.open(io.BytesIO(picture)).size  # of 255
        assert differs.max() < 10


@pytest.mark.parametrize(("side", "start", "end", "size"), [(400, 0, 400, 64), (33, 3.25, 30.5, 64), (5, 0, 5, 5)])
def test_the_weights_are_pillows(side: int, start: float, end: float, size: int) -> None:
    line = np.random.default_rng(1).random(side).astype(np.float32)
    expected = Image.fromarray(line[np.newaxis]).resize((size, 1), Image.Resampling.BICUBIC, box=(start, 0, end, 1))
    np.testing.assert_allclose(resizing_weights(side, start, end, size) @ line, np.asarray(expected)[0], atol=1e-5)


def test_vectors_are_those_of_the_search_server_within_the_stated_cosine(model: LocalModel) -> None:
    pictures = {f"photo-{number}": photo(number, SIZES[number % 5]) for number in range(140)}  # more than a batch
    decoder = DeviceDecoder(model.takes, Device.CPU, threads=1)
    found = dict(embed_decoded_there(pictures.items(), model.takes, model.embedder, decoder, workers=1))
    assert found.keys() == pictures.keys()
    for name, vector in found.items():
        assert isinstance(vector, np.ndarray)
        assert np.dot(vector, model.embed(pictures[name])) >= LEAST_COSINE, name


def test_a_device_has_no_say_in_what_is_broken(model: LocalModel) -> None:
    whole = photo(1, (400, 534))
    cut = whole[: len(whole) // 2]
    assert decoded_there(cut)  # as far as its head says
    pictures = {"whole": whole, "cut": cut, "png": png(8, 8), "none": b"no picture", "turned": _turned(whole)}
    decoder = DeviceDecoder(model.takes, Device.CPU, threads=1)
    found = dict(embed_decoded_there(pictures.items(), model.takes, model.embedder, decoder, workers=1))
    assert found.keys() == pictures.keys()
    for name in ("cut", "none"):
        with pytest.raises(Exception, match="can't be decoded") as refused:
            model.embed(pictures[name])
        assert found[name] == str(refused.value)
    for name in ("png", "turned"):
        assert np.allclose(found[name], model.embed(pictures[name]), atol=1e-5), name  # type: ignore[arg-type]


def _turned(data: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def _saved(mode: str, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (40, 30)).save(file, "JPEG", **how)
    return file.getvalue()


def test_only_what_any_decoder_reads_alike_is_plain() -> None:
    assert plain_jpeg_size(_saved("RGB")) == (40, 30)
    assert plain_jpeg_size(_saved("L")) == (40, 30)
    assert plain_jpeg_size(_saved("RGB", comment=b"a shop's", icc_profile=b"profile")) == (40, 30)
    others = {
        "progressive": _saved("RGB", progressive=True),
        "cmyk": _saved("CMYK"),
        "turned": _turned(_saved("RGB")),
        "adobe": _saved("RGB").replace(b"\xff\xe0\x00\x10JFIF\x00", b"\xff\xee\x00\x10Adobe"),
        "12 bits": _saved("RGB").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
        "no pixels": _saved("RGB").replace(b"\xff\xc0\x00\x11\x08\x00\x1e", b"\xff\xc0\x00\x11\x08\x00\x00"),
        "png": png(8, 8),
        "nothing": b"",
    }
    assert {name for name, data in others.items() if plain_jpeg_size(data) is not None} == set()


def test_a_jpeg_that_is_cut_anywhere_in_its_head_is_not_plain() -> None:
    data = _saved("RGB")
    scan = data.index(b"\xff\xda")
    assert {plain_jpeg_size(data[:length]) for length in range(scan + 1)} == {None}


def test_large_pictures_are_left_to_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo(1, (400, 534))
    assert decoded_there(data)
    monkeypatch.setattr(on_device, "DEVICE_PIXELS", 400 * 534 - 1)
    assert not decoded_there(data)
    monkeypatch.undo()
    monkeypatch.setattr(on_device, "DEVICE_PICTURE_BYTES", len(data) - 1)
    assert not decoded_there(data)


def test_not_more_than_two_batches_wait_and_each_is_embedded_as_it_is_full(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "BATCH", 4)
    embedded: list[int] = []

    class Counting(Embedder):
        def __init__(self) -> None:
            pass

        def embed_there(self, batch: Any, count: int) -> Any:
            assert batch.shape()[0] == 4
            embedded.append(count)
            return np.ones((count, 3), np.float32)

    def source() -> Iterator[tuple[int, bytes]]:
        for number in range(22):
            assert number - sum(embedded) <= 3 * 4
            yield number, photo(number, (20, 20))

    decoder = DeviceDecoder(model.takes, Device.CPU, threads=1)
    found = dict(embed_decoded_there(source(), model.takes, Counting(), decoder, workers=1))
    assert embedded == [4, 4, 4, 4, 4, 2]
    assert found.keys() == set(range(22))


def test_a_codec_that_decodes_nothing_is_said_before_a_picture_is_pulled(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "_codec", lambda _device, _threads: lambda pictures: [None] * len(pictures))
    with pytest.raises(Misconfigured, match=r"--decode gpu: nvImageCodec can't decode a JPEG on this device"):
        DeviceDecoder(model.takes, Device.CPU, threads=1)


def test_a_device_that_is_not_there_is_said(model: LocalModel) -> None:
    with pytest.raises(Misconfigured, match="--device cuda"):
        DeviceDecoder(model.takes, Device.CUDA, threads=1)
    with pytest.raises(Misconfigured, match="--decode gpu: nvImageCodec can't be opened"):
        on_device._codec(Device.CUDA, 1)


@pytest.fixture
def a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device which decodes, and is this machine's CPU."""

    def embed(pictures: Any, model: Model, *, workers: int, decodes: bool = False, **how: Any) -> Any:
        if not decodes:
            return embed_pictures(pictures, model, workers=workers, cutting=how.get("cutting"))
        embedder = Embedder(model.path, normalised=model.normalised)
        decoder = DeviceDecoder(model.takes, Device.CPU, threads=1)
        return embed_decoded_there(pictures, model.takes, embedder, decoder, workers=workers)

    monkeypatch.setattr(embedding, "embed_pictures", embed)


@pytest.mark.usefixtures("a_device")
def test_what_decoded_is_said_by_the_features_name_and_by_the_build(shop: Shop) -> None:
    shop.batch("b1")
    report = shop.batch("b2", device="cuda", decode="gpu")
    assert report["embedded"] == 15  # vectors of another decoder are none of these
    models = [shop.manifest(build).models[0] for build in ("b1", "b2")]
    assert [(model.device, model.decode) for model in models] == [("cpu", "pillow"), ("cuda", "nvjpeg")]
    keys = {name.split("/")[1] for name in shop.store.bytes_by_name if name.startswith("features/")}
    assert sorted(key.partition("preprocessing-1")[2] for key in keys) == ["-cpu-fp32", "-cuda-fp32-nvjpeg"]
    assert b'"device": "cuda"' not in shop.store.bytes_by_name[shop.manifest("b1").prefix.manifest]


@pytest.mark.usefixtures("a_device")
def test_a_decoder_whose_embeddings_are_others_stops_the_run_before_anything_is_kept(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "resizing_weights", _upside_down)
    with pytest.raises(
        DecodeDiffers, match=r"cosine of 0\.\d+ to that of the same picture decoded here, 0\.997 is asked"
    ):
        shop.batch(device="cuda", decode="gpu")
    assert not [name for name in shop.store.bytes_by_name if name.startswith(("features/", "indexes/", "commits/"))]


def _upside_down(side: int, start: float, end: float, size: int) -> Any:
    return resizing_weights(side, start, end, size)[::-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--decode", "gpu"], "--decode gpu: needs --device cuda"),
        (
            ["--decode", "gpu", "--device", "cuda", "--detector", "models/found/1", "--region", "chair=chairs"],
            "--decode gpu: a detector looks at pictures on the CPU",
        ),
    ],
)
def test_what_can_not_be_together_is_said(options: list[str], said: str) -> None:
    least = ["--repository", "gs://bucket", "--index", "shop", "--environment", "production", "--catalogue", "here"]
    with pytest.raises(Misconfigured, match=said):
        read_command(["run", *least, *options], {}, NOW)
