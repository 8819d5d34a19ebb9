"""Two runs at once, in processes of their own on a real bucket server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.files import check_files
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit
from tests.embedding_batch.conftest import CHAIRS

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

TARGET = Target("production", "shop")
ALONE = ("fetch --shard=0", "embed --shard=0", "collect", "build --part=0", "publish", "diff")
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def bucket(new_bucket: Callable[[], str]) -> str:
    return new_bucket()


@pytest.fixture
def begin(shop: Shop, bucket: str) -> Begin:
    """Begins a command of the batch, which sells one category."""
    shop.sells(CHAIRS)

    def popen(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "embedding_batch", *words, "--index", "shop", "--cache"]
        own = {**os.environ, "MODEL_REPOSITORY": f"gs://{bucket}"}
        return subprocess.Popen(
            [*command, str(shop.config.cache)], env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return popen


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Its status, and what it said last: of one that ended well on standard output."""
    out, err = process.communicate(timeout=100)
    last: dict[str, Any] = json.loads((err if process.returncode else out).splitlines()[-1])
    assert "Traceback" not in err
    return process.returncode, last


def test_of_two_that_commit_in_one_moment_one_does_and_the_other_ends_with_73_each_time(
    shop: Shop, bucket: str, begin: Begin
) -> None:
    catalogue = ("--catalogue", str(shop.folder), "--environment", "production")
    for build in ("one", "other"):  # both have looked at what is live before one of them commits
        assert ended(begin("step", "list", "--build", build, *catalogue))[0] == 0
    for build in ("one", "other"):
        for step in ALONE:
            assert ended(begin("step", *step.split(), "--build", build))[0] == 0, step
    both = {build: begin("step", "commit", "--build", build) for build in ("one", "other")}
    result = {build: ended(process) for build, process in both.items()}
    (winner,) = (build for build, (status, _) in result.items() if status == 0)
    (loser,) = {"one", "other"} - {winner}
    store = GcsStore(bucket)
    assert read_live_commit(store, TARGET).commit.index_prefix == IndexPrefix("shop", winner)
    for status, said in (result[loser], ended(begin("step", "commit", "--build", loser))):
        assert (status, said["code"]) == (73, "commit-lost")
        assert f"indexes/shop/{winner} was committed by embedding_batch" in said["message"]
        assert f"indexes/shop/{loser} is published and not committed" in said["message"]
    assert read_build(store, IndexPrefix("shop", loser)).manifest.items == len(CHAIRS)
    assert ended(begin("step", "report", "--build", loser))[1]["outcome"] == "failed"
    assert ended(begin("step", "report", "--build", winner))[1]["outcome"] == "committed"


def test_two_runs_of_one_name_make_one_build_and_one_commit(shop: Shop, bucket: str, begin: Begin) -> None:
    words = ("run", "--catalogue", str(shop.folder), "--environment", "production", "--build", "b1")
    both = [ended(process) for process in [begin(*words), begin(*words)]]
    store = GcsStore(bucket)
    live = read_live_commit(store, TARGET)
    manifest = read_build(store, live.commit.index_prefix).manifest
    check_files(str(manifest.prefix), manifest.files, store.listing(f"{manifest.prefix}/"))
    assert manifest.items == len(CHAIRS)
    assert 0 in {status for status, _ in both}
    for status, said in both:
        if status:  # it began when the other was done
            assert (status, said["code"]) == (65, "name-taken")
        else:
            assert (said["outcome"], said["generation"]) == ("committed", live.generation)
