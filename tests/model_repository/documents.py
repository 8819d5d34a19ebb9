"""Documents of every kind, as hypothesis makes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from itertools import accumulate

from hypothesis import strategies as st

from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.digests import format_crc32c
from model_repository.documents.detector_manifest import (
    DetectorManifest,
    GoldenDetection,
    GoldenRegion,
)
from model_repository.documents.files import BLOCK_BYTES, SIZE_LIMIT, File
from model_repository.documents.index_manifest import (
    Engine,
    GoldenQuery,
    IndexManifest,
    Partition,
    Recall,
    Storage,
)
from model_repository.documents.model_manifest import (
    GoldenImage,
    Layout,
    ModelInput,
    ModelManifest,
    PixelType,
    Resize,
)
from model_repository.documents.receipts.canary_figures import CanaryFigures, TrackFigures
from model_repository.documents.receipts.filter_receipt import (
    FilterOutcome,
    FilterReceipt,
)
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.documents.receipts.shadow_comparison import (
    AnswersCompared,
    Difference,
    Latency,
    Questions,
    ShadowComparison,
)
from model_repository.documents.references import DetectorReference, ModelReference
from model_repository.names import IndexPrefix, ModelPrefix, Target

labels = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", fullmatch=True)
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


hosts = st.from_regex(r"https?://[a-z][-a-z0-9.]{0,30}[a-z](:[1-9][0-9]{0,3})?(/[-a-z0-9./_~%]{0,30})?", fullmatch=True)
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
