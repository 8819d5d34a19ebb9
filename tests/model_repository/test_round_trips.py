"""parse(format(x)) == x, for whatever x."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_repository.deployment import DeploymentRequest, footprint
from model_repository.digests import format_crc32c, parse_crc32c
from model_repository.documents.commit import Commit, LiveCommit, format_commit, parse_commit
from model_repository.documents.detector_manifest import (
    DetectorManifest,
    format_detector_manifest,
    parse_detector_manifest,
)
from model_repository.documents.index_manifest import (
    Build,
    IndexManifest,
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
    ModelManifest,
    format_model_manifest,
    parse_model_manifest,
)
from model_repository.documents.receipts.address import Address, format_address, parse_address
from model_repository.documents.receipts.filter_receipt import (
    FilterReceipt,
    format_filter_receipt,
    parse_filter_receipt,
)
from model_repository.documents.receipts.receipt import Outcome, Receipt, format_receipt, parse_receipt
from model_repository.documents.receipts.shadow_comparison import (
    ShadowComparison,
    format_shadow_comparison,
    parse_shadow_comparison,
)
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix, ModelPrefix, Target
from tests.model_repository.documents import (
    comparisons,
    detector_manifests,
    digests,
    filter_receipts,
    generations,
    hosts,
    index_manifests,
    index_prefixes,
    model_manifests,
    model_prefixes,
    names,
    printable,
    receipts,
    requests,
    targets,
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


@given(st.builds(Address, targets, generations, hosts, st.just("") | hosts))
@settings(max_examples=25)
def test_an_address_is_read_as_it_was_written(address: Address) -> None:
    assert parse_address(format_address(address), address.target, address.generation) == address


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
