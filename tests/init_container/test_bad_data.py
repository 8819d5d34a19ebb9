"""Objects that aren't what index.json says end a pull with status 65, and nothing of them is used."""

from __future__ import annotations

import os

import pytest

from tests.init_container.faulty_bucket import FaultyBucket
from tests.init_container.pull_scene import MODEL, PREFIX, Build, Puller
from tests.init_container.spoiling_proxy import on_both_servers

BIG = f"{PREFIX}/big.ann"


@on_both_servers
def test_an_object_replaced_in_the_middle_is_a_clear_error(
    bucket: FaultyBucket, build: Build, puller: Puller, processes: str
) -> None:
    bucket.rate = 20e6

    def replace(reply) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
        reply.whole()
        bucket.put(BIG, build.objects[BIG][::-1])

    bucket.fail(replace, match="big.ann")
    outcome = puller.run(RANGE_MIB="1", CONNECTIONS=processes)
    assert outcome.code == os.EX_DATAERR
    assert "replaced" in outcome.message
    assert bucket.asked("big.ann")[-1].query["generation"]
    puller.check_nothing_there()


@on_both_servers
def test_an_object_of_the_wrong_size_is_bad_data(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.put(BIG, build.objects[BIG][:-1000])
    outcome = puller.run()
    assert outcome.code == os.EX_DATAERR
    assert "the manifest says 6291456 bytes, the bucket has 6290456 bytes" in outcome.message
    puller.check_nothing_there()


@on_both_servers
def test_other_bytes_of_the_same_size_are_bad_data_at_once(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.put(BIG, build.objects[BIG][::-1])
    outcome = puller.run()
    assert outcome.code == os.EX_DATAERR
    assert "crc32c" in outcome.message
    assert len(bucket.asked("big.ann")) < 6


@on_both_servers
def test_another_model_than_the_index_was_built_with_is_bad_data(
    bucket: FaultyBucket, build: Build, puller: Puller
) -> None:
    digest = build.objects[PREFIX.manifest].split(b'"digest": "sha256:')[1][:64]
    lying = build.replaced(digest, b"0" * 64)
    bucket.put(PREFIX.manifest, lying.objects[PREFIX.manifest])
    outcome = puller.run(INDEX_DIGEST=lying.digest)
    assert outcome.code == os.EX_DATAERR
    assert f"{MODEL}/model.json" in outcome.message
    puller.check_nothing_there()


@on_both_servers
def test_an_index_json_of_another_digest_is_bad_data(puller: Puller) -> None:
    outcome = puller.run(INDEX_DIGEST="sha256:" + "0" * 64)
    assert outcome.code == os.EX_DATAERR
    assert "index.json" in outcome.message


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "a/../../evil", "nul\\u0000", "x" * 300, ".journal"], ids=lambda n: n[:12]
)
@on_both_servers
def test_a_name_that_leads_elsewhere_is_refused_before_a_byte_is_written(
    name: str, bucket: FaultyBucket, build: Build, puller: Puller
) -> None:
    evil = build.replaced(b'"small/7.bin"', f'"{name}"'.encode())
    bucket.put(PREFIX.manifest, evil.objects[PREFIX.manifest])
    outcome = puller.run(INDEX_DIGEST=evil.digest)
    assert outcome.code == os.EX_DATAERR
    assert "files" in outcome.message
    assert len(bucket.requests) == 1
    puller.check_nothing_there()


@on_both_servers
def test_a_missing_build_is_bad_data(puller: Puller) -> None:
    outcome = puller.run(INDEX_PREFIX="indexes/shop/none")
    assert outcome.code == os.EX_DATAERR
    assert "indexes/shop/none/index.json: no such object" in outcome.message
