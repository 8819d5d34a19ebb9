"""parse(format(x)) == x, for whatever x."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_repository.deployment import DeploymentRequest, Footprint, footprint
from model_repository.digests import format_crc32c, parse_crc32c
from model_repository.documents.commit import Commit, LiveCommit, format_commit, parse_commit
from model_repository.documents.detector_manifest import (
    DetectorManifest,
    GoldenDetection,
    GoldenRegion,
    format_detector_manifest,
    parse_detector_manifest,
)
from model_repository.documents.files import BLOCK_BYTES, SIZE_LIMIT, File
from model_repository.documents.index_manifest import (
    Build,
    Engine,
    GoldenQuery,
    IndexManifest,
    Partition,
    Recall,
    Storage,
    format_index_manifest,
    parse_index_manifest,
)
from model_repository.documents.items.item_filter import (
    ItemFilter,
    decode_hidden,
    format_item_filter,
    make_filter,
    parse_item_filter,
)
from model_repository.documents.items.item_ids import hash_item
from model_repository.documents.model_manifest import (
    GoldenImage,
    Layout,
    ModelInput,
    ModelManifest,
    PixelType,
    Resize,
    format_model_manifest,
    parse_model_manifest,
)
from model_repository.documents.receipts.address import Address, format_address, parse_address
from model_repository.documents.receipts.canary_figures import CanaryFigures, TrackFigures
from model_repository.documents.receipts.filter_receipt import (
    FilterOutcome,
    FilterReceipt,
    format_filter_receipt,
    parse_filter_receipt,
)
from model_repository.documents.receipts.receipt import Outcome, Receipt, format_receipt, parse_receipt
from model_repository.documents.receipts.shadow_comparison import (
    AnswersCompared,
    Difference,
    Latency,
    Questions,
    ShadowComparison,
    format_shadow_comparison,
    parse_shadow_comparison,
)
from model_repository.documents.references import DetectorReference, ModelReference
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix, ModelPrefix, Target

EDGE = string.ascii_lowercase + string.digits
labels = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", fullmatch=True)
file_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,20}){0,3}", fullmatch=True)
generations = st.integers(min_value=1, max_value=2**63 - 1)
crc32cs = st.integers(min_value=0, max_value=2**32 - 1).map(format_crc32c)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
moments = st.datetimes(timezones=st.just(UTC))
finite = st.floats(allow_nan=False, allow_infinity=False)


def printable(longest: int, shortest: int = 0) -> st.SearchStrategy[str]:
    letters = st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"), include_characters=" ")
    return st.text(letters.filter(str.isprintable), min_size=shortest, max_size=longest)


targets = st.builds(Target, labels, labels)
index_prefixes = st.builds(IndexPrefix, labels, names)
model_prefixes = st.builds(ModelPrefix, names, names)


def files(of: list[str]) -> st.SearchStrategy[tuple[File, ...]]:
    sizes = st.integers(min_value=0, max_value=5 * 1024**4)
    return st.tuples(*(_file(st.just(name), sizes) for name in sorted(of)))


def _file(name: st.SearchStrategy[str], sizes: st.SearchStrategy[int]) -> st.SearchStrategy[File]:
    in_blocks = st.builds(File, name, st.just(BLOCK_BYTES + 1), crc32cs, st.tuples(crc32cs, crc32cs))
    return st.builds(File, name, sizes, crc32cs) | in_blocks


counts = st.integers(min_value=1, max_value=10**15 - 1)


def _sharing(partitions: tuple[Partition, ...]) -> tuple[Partition, ...]:
    """Those that are searched exactly, in stretches of one file."""
    ends = list(accumulate((p.items if p.engine is Engine.EXACT else 0 for p in partitions), initial=0))
    return tuple(
        replace(p, file="small.exact", ids="small.ids", first=first) if p.engine is Engine.EXACT else p
        for p, first in zip(partitions, ends[:-1], strict=True)
    )


def _large_enough(file: File, partitions: tuple[Partition, ...]) -> File:
    is_exact = any(p.file == file.name and p.engine is Engine.EXACT for p in partitions)
    return replace(file, size=SIZE_LIMIT, blocks=()) if is_exact else file


@st.composite
def index_manifests(draw: st.DrawFn) -> IndexManifest:
    categories = draw(st.lists(printable(20, 1), min_size=1, max_size=4, unique=True))
    dimensions = draw(st.integers(min_value=1, max_value=65536))
    models = draw(st.sampled_from([0, 1, 2]))
    at = draw(st.integers(min_value=1, max_value=1000))
    partitions = tuple(
        Partition(
            category=category,
            file=f"p{number}.index",
            ids=f"p{number}.ids",
            items=draw(st.integers(min_value=1, max_value=2**20)),
            engine=draw(st.sampled_from(Engine)) if storage is Storage.FLOAT32 else Engine.FAISS_HNSW,
            storage=storage,
            dimensions=dimensions,
            metric="angular",
            model=draw(st.none() | st.integers(min_value=0, max_value=models - 1)) if models else None,
            width=draw(st.integers(min_value=1, max_value=2**31 - 1)),
            recall=Recall(
                at, draw(st.floats(min_value=0, max_value=1)), draw(st.integers(min_value=1, max_value=10**9))
            ),
            queries_per_second=draw(st.none() | st.floats(min_value=0, max_value=1e9)),
        )
        for number, category in enumerate(categories + draw(st.sampled_from([[], categories[:1]])))
        for storage in [draw(st.sampled_from(Storage))]
    )
    partitions = _sharing(partitions) if draw(st.booleans()) else partitions
    neighbors = draw(st.lists(printable(30, 1), min_size=1, max_size=5))
    golden = GoldenQuery(
        category=draw(st.sampled_from(categories)),
        item=draw(printable(30, 1)),
        neighbors=tuple(neighbors),
        distances=tuple(draw(st.lists(finite, min_size=len(neighbors), max_size=len(neighbors)))),
    )
    prefixes = draw(st.lists(model_prefixes, min_size=models, max_size=models, unique=True))
    categories_of = st.dictionaries(printable(20, 1), st.sampled_from(categories), min_size=1, max_size=3)
    detectors = st.builds(
        DetectorReference,
        prefix=model_prefixes.filter(lambda prefix: prefix not in prefixes),
        digest=digests,
        files=files(["model.json", "model.onnx"]),
        categories=categories_of,
        least_score=st.floats(min_value=0, max_value=1),
    )
    used = ["items.lookup", *{name for p in partitions for name in (p.file, p.ids)}]
    model_files = draw(files(["model.json", "model.onnx"]))
    return IndexManifest(
        prefix=draw(index_prefixes),
        created=draw(moments),
        models=tuple(ModelReference(prefix, draw(digests), dimensions, model_files) for prefix in prefixes),
        lookup="items.lookup",
        partitions=partitions,
        golden_queries=draw(st.sampled_from([(), (golden,)])),
        files=tuple(_large_enough(file, partitions) for file in draw(files(used))),
        detector=draw(st.none() | detectors),
    )


channels = st.tuples(*[st.floats(min_value=1e-3, max_value=1e6)] * 3)
inputs = st.builds(
    ModelInput,
    st.integers(min_value=8, max_value=4096),
    st.sampled_from(Layout),
    st.just(PixelType.FLOAT32),
    st.sampled_from(Resize),
    channels,
    channels,
) | st.builds(ModelInput, st.integers(min_value=8, max_value=4096), dtype=st.just(PixelType.UINT8))
model_manifests = st.builds(
    ModelManifest,
    prefix=model_prefixes,
    created=moments,
    runtime=st.just("onnx"),
    file=st.just("model.onnx"),
    input=inputs,
    dimensions=st.integers(min_value=1, max_value=65536),
    golden_images=st.sampled_from([(), (GoldenImage("golden/0.jpg", "golden/0.f32"),)]),
    files=files(["golden/0.f32", "golden/0.jpg", "model.onnx"]),
    normalised=st.booleans(),
    least_cosine=st.floats(min_value=-1, max_value=1),
)
golden_detections = st.builds(
    GoldenDetection,
    st.just("golden/0.jpg"),
    st.tuples(st.builds(GoldenRegion, st.just((0.25, 0.0, 1.0, 0.5)), st.just("Chair"), st.floats(0, 1))),
)
detector_manifests = st.builds(
    DetectorManifest,
    prefix=model_prefixes,
    created=moments,
    runtime=st.just("onnx"),
    file=st.just("model.onnx"),
    input=inputs.map(lambda takes: replace(takes, resize=Resize.SQUARE)),
    classes=st.lists(printable(20, 1), max_size=3, unique=True).map(lambda names: ("Chair", *(set(names) - {"Chair"}))),
    golden_images=st.just(()) | st.tuples(golden_detections),
    files=files(["golden/0.jpg", "model.onnx"]),
    least_overlap=st.floats(min_value=0, max_value=1),
)
figures = st.floats(min_value=0, max_value=1e6)
many = st.integers(min_value=0, max_value=10**9)
tracks = st.builds(TrackFigures, many, many, many, st.none() | figures, many, many, st.none() | figures)
canaries = st.builds(CanaryFigures, st.booleans(), figures, many, many, tracks, tracks)
traceparents = st.just("") | st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True)
receipts = st.builds(
    Receipt,
    target=targets,
    generation=generations,
    outcome=st.sampled_from(Outcome),
    index_prefix=st.none() | index_prefixes,
    detail=printable(200),
    started=moments,
    finished=moments,
    code=printable(20),
    by=printable(100),
    reason=printable(100),
    canary=st.none() | canaries,
)


filter_receipts = st.builds(
    FilterReceipt,
    target=targets,
    generation=generations,
    outcome=st.sampled_from(FilterOutcome),
    hidden=st.integers(0, 10**8),
    pods=st.integers(0, 10**4),
    detail=printable(200),
    started=moments,
    finished=moments,
    code=printable(20),
    by=printable(100),
    reason=printable(100),
)


@st.composite
def requests(draw: st.DrawFn) -> DeploymentRequest:
    target = draw(targets)
    return DeploymentRequest(
        target=target,
        generation=draw(generations),
        bucket=draw(st.from_regex(r"[a-z0-9][-a-z0-9_.]{1,61}[a-z0-9]", fullmatch=True)),
        index_prefix=IndexPrefix(target.index, draw(names)),
        index_generation=draw(generations),
        index_digest=draw(digests),
        models=tuple(draw(st.lists(model_prefixes, max_size=3))),
        footprint=draw(st.builds(Footprint, counts, counts, counts, counts | st.just(0))),
        by=draw(printable(100)),
        reason=draw(printable(100)),
        traceparent=draw(traceparents),
    )


@given(targets, names, printable(200), printable(1000), st.booleans())
@settings(max_examples=25)
def test_a_commit_is_read_as_it_was_written(target: Target, build: str, by: str, reason: str, hold: bool) -> None:
    commit = Commit(IndexPrefix(target.index, build), by, reason, hold)
    assert parse_commit(format_commit(commit), target) == commit


@given(index_manifests())
@settings(max_examples=25)
def test_an_index_manifest_is_read_as_it_was_written(manifest: IndexManifest) -> None:
    assert parse_index_manifest(format_index_manifest(manifest), manifest.prefix) == manifest


@given(model_manifests)
@settings(max_examples=25)
def test_a_model_manifest_is_read_as_it_was_written(manifest: ModelManifest) -> None:
    assert parse_model_manifest(format_model_manifest(manifest), manifest.prefix) == manifest


@given(receipts)
@settings(max_examples=25)
def test_a_receipt_is_read_as_it_was_written(receipt: Receipt) -> None:
    assert parse_receipt(format_receipt(receipt), receipt.target, receipt.generation) == receipt


hosts = st.from_regex(r"https?://[a-z][-a-z0-9.]{0,30}[a-z](:[1-9][0-9]{0,3})?(/[-a-z0-9./_~%]{0,30})?", fullmatch=True)


@given(st.builds(Address, targets, generations, hosts, st.just("") | hosts))
@settings(max_examples=25)
def test_an_address_is_read_as_it_was_written(address: Address) -> None:
    assert parse_address(format_address(address), address.target, address.generation) == address


shares = st.floats(0, 1)
latencies = st.none() | st.builds(Latency, st.floats(0, 1e9), st.floats(0, 1e9))
differences = st.lists(st.builds(Difference, printable(1000, 1), shares, shares), max_size=20).map(tuple)
counted = st.integers(0, 10**9)
answers = st.builds(
    AnswersCompared,
    *(st.sampled_from(Questions), st.integers(1, 10**9), counted, counted, shares, shares),
    *(latencies, latencies, differences),
)
shadowed = st.from_regex(r"[a-z]([-a-z0-9]{0,31}[a-z0-9])?", fullmatch=True)
comparisons = st.tuples(labels, shadowed, names, names).flatmap(
    lambda of: st.builds(
        ShadowComparison,
        *(st.just(Target(of[0], of[1]).shadow), generations),
        *(st.just(IndexPrefix(of[1], build)) for build in of[2:]),
        *(moments, st.lists(answers, max_size=2).map(tuple), shares, printable(1000)),
    )
)


@given(comparisons)
@settings(max_examples=25)
def test_a_comparison_of_a_shadow_is_read_as_it_was_written(found: ShadowComparison) -> None:
    assert parse_shadow_comparison(format_shadow_comparison(found), found.target, found.generation) == found


@given(targets, st.builds(ItemFilter, st.integers(0, 10**8), digests, printable(200), printable(1000)))
@settings(max_examples=25)
def test_a_filter_is_read_as_it_was_written(target: Target, item_filter: ItemFilter) -> None:
    assert parse_item_filter(format_item_filter(item_filter), target) == item_filter
    assert Target.from_filter_name(target.filter_name) == target


@given(filter_receipts)
@settings(max_examples=25)
def test_a_filter_s_receipt_is_read_as_it_was_written(receipt: FilterReceipt) -> None:
    assert parse_filter_receipt(format_filter_receipt(receipt), receipt.target, receipt.generation) == receipt


@given(st.sets(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=50))
def test_a_filter_s_data_are_the_hashes_by_which_items_are_looked_up(items: set[str]) -> None:
    item_filter, data = make_filter(items, by="shop")
    assert item_filter.hidden == len(items)
    hashes = decode_hidden(data, item_filter, "data")
    assert list(hashes) == sorted(hashes)
    assert {item for item in {*items, "another"} if hash_item(item) in set(hashes)} == items


@given(requests())
@settings(max_examples=25)
def test_a_request_is_read_from_the_parameters_that_it_wrote(request: DeploymentRequest) -> None:
    parameters = request.to_parameters()
    assert all(isinstance(value, str) for value in parameters.values())
    assert DeploymentRequest.from_parameters(parameters) == request


@given(index_manifests(), generations, generations, digests)
@settings(max_examples=25)
def test_what_any_readable_build_needs_can_be_asked_for(
    manifest: IndexManifest, commit_generation: int, index_generation: int, digest: str
) -> None:
    target = Target("staging", manifest.prefix.index)
    live = LiveCommit(target, commit_generation, Commit(manifest.prefix))
    request = DeploymentRequest.of(live, Build(manifest, index_generation, digest), bucket="a-bucket")
    assert request.footprint == footprint(manifest)
    assert DeploymentRequest.from_parameters(request.to_parameters()) == request


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_a_crc32c_is_read_as_it_was_written(value: int) -> None:
    assert parse_crc32c(format_crc32c(value)) == value


@given(prefix=index_prefixes | model_prefixes)
def test_a_prefix_is_read_as_it_was_written(prefix: IndexPrefix | ModelPrefix) -> None:
    assert type(prefix).parse(str(prefix)) == prefix


@given(targets, generations)
def test_a_target_is_read_from_the_name_of_its_commit(target: Target, generation: int) -> None:
    assert Target.from_commit_name(target.commit_name) == target
    assert target.receipt_name(generation) == f"deployments/{target.environment}/{target.index}/{generation}.json"


@given(st.binary(max_size=200))
def test_no_bytes_at_all_crash_the_reader_of_commits(data: bytes) -> None:
    with pytest.raises(DocumentMalformed):
        parse_commit(data, Target("staging", "home"))


def test_a_receipt_keeps_a_detail_that_holds_a_terminal_escape_but_not_the_escape() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=1)))
    target = Target("staging", "home")
    receipt = Receipt(target, 5, Outcome.UNDONE, None, "bad\x1b[31m\nfile \ud800", now, now)
    read = parse_receipt(format_receipt(receipt), target, 5)
    assert read.detail == "bad [31m file  "
    assert read.started == now
    assert read.started.tzinfo is UTC


def test_a_hand_written_commit_stays_as_short_as_a_person_would_write_it() -> None:
    assert format_commit(Commit(IndexPrefix("home", "b1"))) == b'{\n  "index_prefix": "indexes/home/b1"\n}\n'


@given(detector_manifests)
@settings(max_examples=25)
def test_a_detector_manifest_is_read_as_it_was_written(manifest: DetectorManifest) -> None:
    assert parse_detector_manifest(format_detector_manifest(manifest), manifest.prefix) == manifest
