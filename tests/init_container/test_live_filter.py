"""The live filter, fetched for a server that runs: by a program, from a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_repository.documents.items.item_filter import (
    LiveFilter,
    format_item_filter,
    format_last_good_filter,
    make_filter,
)
from model_repository.names import Target
from tests.init_container.faulty_bucket import FaultyBucket
from tests.init_container.pull_scene import Puller

TARGET = Target("production", "shop")


def run(puller: Puller, folder: Path, *options: str, **changes: str) -> tuple[int, str, str]:
    """Exit status, standard output, and the log's last message."""
    environment = puller.environment(FILTER=TARGET.filter_name, **changes)
    command = [sys.executable, "-m", "init_container.live_filter", str(folder), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    lines = done.stderr.splitlines()
    return done.returncode, done.stdout, json.loads(lines[-1])["message"] if lines else ""


def upload(bucket: FaultyBucket, items: list[str]) -> tuple[int, bytes]:
    """A filter; its generation, and its data."""
    item_filter, data = make_filter(items)
    bucket.put(TARGET.filter_data(item_filter.sha256), data)
    bucket.put(TARGET.filter_name, format_item_filter(item_filter))
    return bucket.objects[TARGET.filter_name].generation, data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "filters").mkdir()
    return tmp_path / "filters"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_live_filter_is_fetched_under_its_generation(puller: Puller, bucket: FaultyBucket, folder: Path) -> None:
    generation, data = upload(bucket, ["a", "b"])
    status, said, _ = run(puller, folder)
    assert (status, json.loads(said)) == (0, {"generation": generation, "hidden": 2})
    assert files(folder) == {f"{generation}.hidden": data}


def test_where_there_is_no_filter_that_is_said(puller: Puller, folder: Path) -> None:
    status, said, _ = run(puller, folder)
    assert (status, json.loads(said), files(folder)) == (0, {"generation": 0, "hidden": 0}, {})


def spoil(bucket: FaultyBucket, how: str) -> None:
    """Make a live filter that nobody can read."""
    item_filter, data = make_filter(["sold", "out"])
    bucket.put(TARGET.filter_name, b"{" if how == "document" else format_item_filter(item_filter))
    if how == "data":
        bucket.put(TARGET.filter_data(item_filter.sha256), data[:-1] + b"?")


OR_LAST_GOOD = "--or-last-good"
SPOILT = pytest.mark.parametrize("how", ["document", "missing data", "data"])


@SPOILT
def test_a_first_filter_that_makes_no_sense_hides_nothing(
    puller: Puller, bucket: FaultyBucket, folder: Path, how: str
) -> None:
    spoil(bucket, how)
    assert run(puller, folder)[:2] == (65, "")
    status, said, words = run(puller, folder, OR_LAST_GOOD)
    assert (status, json.loads(said), files(folder)) == (0, {"generation": 0, "hidden": 0}, {})
    assert words.startswith("the last good filter goes on: ")


@SPOILT
def test_the_last_good_filter_goes_on_where_the_live_one_makes_no_sense(
    puller: Puller, bucket: FaultyBucket, folder: Path, how: str
) -> None:
    generation, data = upload(bucket, ["a"])
    item_filter, _ = make_filter(["a"])
    note = format_last_good_filter(LiveFilter(TARGET, generation, item_filter))
    bucket.put(TARGET.last_good_filter_name, note)
    spoil(bucket, how)
    assert (run(puller, folder)[0], files(folder)) == (65, {})  # it has one already, and keeps it
    status, said, words = run(puller, folder, OR_LAST_GOOD)
    assert (status, json.loads(said)) == (0, {"generation": generation, "hidden": 1})
    assert files(folder) == {f"{generation}.hidden": data}
    assert words.startswith("the last good filter goes on: ")


@pytest.mark.parametrize("note", [b"{", None])
def test_where_the_last_good_filter_makes_no_sense_either_nothing_is_left(
    puller: Puller, bucket: FaultyBucket, folder: Path, note: bytes | None
) -> None:
    spoil(bucket, "data")
    item_filter, _ = make_filter(["sold", "out"])
    bucket.put(TARGET.last_good_filter_name, note or format_last_good_filter(LiveFilter(TARGET, 7, item_filter)))
    status, said, words = run(puller, folder, OR_LAST_GOOD)
    assert (status, said, files(folder)) == (65, "", {})
    assert ("should be 32 bytes" in words) if note is None else ("last-good.json" in words)


def test_a_bucket_that_is_away_may_come_back(puller: Puller, folder: Path) -> None:
    status, said, _ = run(puller, folder, STORAGE_EMULATOR_HOST="http://127.0.0.1:9", ATTEMPTS="2")
    assert (status, said, files(folder)) == (75, "", {})


@pytest.mark.parametrize("name", ["", "commits/production/shop.json", "filters/production/Shop.json"])
def test_a_name_that_no_filter_has_is_misconfigured(puller: Puller, folder: Path, name: str) -> None:
    environment = puller.environment(FILTER=name)
    command = [sys.executable, "-m", "init_container.live_filter", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 64
    assert "FILTER" in done.stderr
