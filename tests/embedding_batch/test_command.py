"""`python -m embedding_batch` as an operator runs it, on a real bucket server."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embedding_batch.command_line.console import Console
from embedding_batch.errors import (
    CatalogueMalformed,
    CatalogueUnavailable,
    IndexUnsound,
    ItemsDropped,
    NameTaken,
    RecallTooLow,
    StateDamaged,
    StepMissing,
    TooManyBroken,
    WorkersDied,
)
from embedding_batch.events import Progress, StepEnded, Warned
from embedding_batch.main import main
from image_embedder import PictureUnreadable
from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import ObjectInfo, StoredObject
from model_repository.errors import (
    AccessDenied,
    BucketMissing,
    BucketUnavailable,
    BuildIncomplete,
    DocumentMalformed,
    GenerationConflict,
    Misconfigured,
    NameRefused,
)
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit
from tests.embedding_batch.conftest import lines
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


def command_line(shop: Shop, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "embedding_batch",
        *("--catalogue", str(shop.folder), "--index", "shop", "--environment", "production"),
        *("--cache", str(shop.config.cache), "--build", "b1", *more),
    ]


def run(shop: Shop, bucket: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MODEL_REPOSITORY": f"gs://{bucket}"}
    return subprocess.run(
        command_line(shop, *more), env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def how_far(done: subprocess.CompletedProcess[str], step: str) -> list[tuple[object, object]]:
    """How many of how many, from line to line."""
    return [(line["done"], line["total"]) for line in lines(done.stderr) if line.get("step") == step and "done" in line]


def test_a_run_ends_with_its_summary_on_standard_output(shop: Shop, new_bucket: Callable[[], str]) -> None:
    bucket = new_bucket()
    done = run(shop, bucket)
    assert done.returncode == 0, done.stderr
    (summary,) = lines(done.stdout)
    store = GcsStore(bucket)
    live = read_live_commit(store, Target("production", "shop"))
    manifest = read_build(store, live.commit.index_prefix).manifest
    assert {key: summary[key] for key in ("outcome", "generation", "index_prefix", "items", "embedded", "recall")} == {
        "outcome": "committed",
        "generation": live.generation,
        "index_prefix": "indexes/shop/b1",
        "items": manifest.items,
        "embedded": 15,
        "recall": 1.0,
    }
    assert {"severity", "message"} <= set.intersection(*(set(line) for line in lines(done.stderr)))
    assert how_far(done, "embed")[:: len(how_far(done, "embed")) - 1] == [(0, 15), (15, 15)]
    for picture in shop.folder.rglob("*.*"):
        os.utime(picture, (0, 0))  # looked at again, and found as it was
    again = run(shop, bucket, "--build", "b2")
    assert set(how_far(again, "embed")) == {(15, 15)}, "those that have an embedding are done"


def test_a_batch_that_is_killed_leaves_nothing_that_could_go_live(shop: Shop, new_bucket: Callable[[], str]) -> None:
    bucket = new_bucket()
    environment = {**os.environ, "MODEL_REPOSITORY": f"gs://{bucket}"}
    with subprocess.Popen(command_line(shop), env=environment, stderr=subprocess.PIPE, text=True) as batch:
        assert batch.stderr
        for line in batch.stderr:
            if json.loads(line).get("step") == "build" and "seconds" in json.loads(line):
                batch.kill()
    assert batch.returncode == -signal.SIGKILL
    store = GcsStore(bucket)
    names = {info.name for info in store.listing("")}
    assert not names & {"indexes/shop/b1/index.json", "commits/production/shop.json"}
    done = run(shop, bucket)
    said = json.loads(done.stdout)
    assert (said["outcome"], said["embedded"]) == ("committed", 15)
    told = [line for line in lines(done.stderr) if "seconds" in line]
    assert [line["step"] for line in told][-3:] == ["publish", "diff", "commit"]
    assert not [line for line in told if line["step"] in ("list", "fetch", "embed")], "what was done isn't done again"
    assert read_live_commit(store, Target("production", "shop")).commit.index_prefix == IndexPrefix("shop", "b1")


def test_a_bad_catalogue_is_status_65_and_one_line_that_says_why(shop: Shop, new_bucket: Callable[[], str]) -> None:
    (shop.folder / "catalogue.jsonl").write_text("{}")
    done = run(shop, new_bucket())
    assert done.returncode == 65
    assert done.stdout == ""
    last = lines(done.stderr)[-1]
    assert (last["severity"], last["code"]) == ("ERROR", "catalogue-malformed")


def test_a_bucket_that_is_not_named_is_status_64(shop: Shop) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MODEL_REPOSITORY"}
    done = subprocess.run(command_line(shop), env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "MODEL_REPOSITORY" in done.stderr


def test_check_touches_everything_and_writes_nothing(shop: Shop, new_bucket: Callable[[], str]) -> None:
    bucket = new_bucket()
    done = run(shop, bucket, "--check")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == 15
    assert GcsStore(bucket).listing("") == []


def test_check_says_what_would_stop_a_run_after_all_its_work(shop: Shop, new_bucket: Callable[[], str]) -> None:
    bucket = new_bucket()
    GcsStore(bucket).write("commits/production/shop.json", b"{}", if_generation_match=0)
    done = run(shop, bucket, "--check")
    assert done.returncode == 65
    assert "commits/production/shop.json: field 'index_prefix' is missing" in str(lines(done.stderr)[-1]["message"])


def test_an_option_that_is_missing_is_status_64_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], {}) == 64
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert json.loads(line)["code"] == "misconfigured"
    assert "--catalogue" in line


STATUS = (
    (Misconfigured("x"), 64, "misconfigured"),
    (NameRefused("x"), 64, "name-refused"),
    (CatalogueMalformed("x"), 65, "catalogue-malformed"),
    (TooManyBroken("x"), 65, "too-many-broken"),
    (ItemsDropped("x"), 65, "items-dropped"),
    (RecallTooLow("x"), 65, "recall-too-low"),
    (IndexUnsound("x"), 65, "index-unsound"),
    (NameTaken("x"), 65, "name-taken"),
    (StepMissing("x"), 64, "step-missing"),
    (StateDamaged("x"), 65, "state-damaged"),
    (CatalogueUnavailable("x"), 75, "catalogue-unavailable"),
    (WorkersDied("x"), 75, "workers-died"),
    (DocumentMalformed("x", "y"), 65, "document-malformed"),
    (BuildIncomplete("x", "1", "2"), 65, "build-incomplete"),
    (PictureUnreadable("x"), 65, "picture-unreadable"),
    (BucketMissing("x"), 69, "bucket-missing"),
    (GenerationConflict("x", 1), 75, "generation-conflict"),
    (BucketUnavailable("x"), 75, "bucket-unavailable"),
    (AccessDenied("x"), 77, "access-denied"),
    (OSError(errno.ENOSPC, "No space left on device"), 75, "disk-trouble"),
    (OSError("Unable to write"), 75, "disk-trouble"),
    (OSError(errno.EROFS, "Read-only file system", "/cache"), 64, "misconfigured"),
    (PermissionError(errno.EACCES, "Permission denied", "/cache"), 64, "misconfigured"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (ZeroDivisionError("x"), 70, "defect"),
)
"""What docs/operations.md says of every command."""


@pytest.mark.parametrize("stopped", STATUS, ids=lambda row: f"{row[1]} {type(row[0]).__name__}")
def test_what_stops_the_batch_is_one_line_and_the_status_of_the_handbook(
    stopped: tuple[BaseException, int, str],
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error, status, code = stopped

    class Stopping(MemoryStore):
        """Stops the batch at its last write."""

        def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
            if name.startswith("commits/"):
                raise error
            return super().write(name, data, if_generation_match=if_generation_match)

    monkeypatch.setattr("embedding_batch.main.GcsStore", Stopping)
    assert main(command_line(shop)[3:], {"MODEL_REPOSITORY": "gs://memory"}) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert lines(said.err)[-1]["code"] == code


def test_an_interruption_that_comes_out_as_something_else_is_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Importing(MemoryStore):
        """Stops the batch as a package does that was interrupted while it was imported."""

        def stat(self, name: str) -> ObjectInfo | None:
            raise ImportError(f"numpy's C extensions failed, and {name}")

        def read(self, name: str, *, limit: int) -> StoredObject:
            raise ImportError(f"numpy's C extensions failed, and {name}, {limit}")

    monkeypatch.setattr("embedding_batch.main.GcsStore", Importing)
    environment = {"MODEL_REPOSITORY": "gs://memory"}
    assert main(command_line(shop)[3:], environment) == 70
    assert main(command_line(shop)[3:], environment, interrupted=lambda: True) == 130
    assert [line["code"] for line in lines(capsys.readouterr().err)][-1] == "interrupted"


def test_the_handbook_s_table_has_every_status_of_the_batch() -> None:
    handbook = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert all(f"| `{status}` |" in handbook for _, status, _ in STATUS)


def test_a_committed_build_that_may_not_be_read_stops_the_batch_at_once(shop: Shop) -> None:
    shop.batch("b1")
    read = shop.store.read

    def deny(name: str, *, limit: int) -> StoredObject:
        if name.endswith("/index.json"):
            raise AccessDenied(name)
        return read(name, limit=limit)

    shop.store.read = deny  # type: ignore[method-assign]
    with pytest.raises(AccessDenied):
        shop.batch("b2")
    assert not [name for name, _ in shop.store.writes if name.startswith("indexes/shop/b2")]


def test_a_disk_that_takes_no_more_is_status_75_and_one_line(shop: Shop, new_bucket: Callable[[], str]) -> None:
    most = 20_000  # bytes of a file: less than the embeddings of the shop
    limited = f'ulimit -f {most // 1024}; exec "$@"'
    environment = {**os.environ, "MODEL_REPOSITORY": f"gs://{new_bucket()}"}
    done = subprocess.run(
        ["bash", "-c", limited, "bash", *command_line(shop)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 75, done.stderr
    assert lines(done.stderr)[-1]["code"] == "disk-trouble"


def test_a_cache_that_is_no_folder_is_status_64_before_any_work(shop: Shop, new_bucket: Callable[[], str]) -> None:
    (shop.folder / "file").touch()
    done = run(shop, new_bucket(), "--cache", str(shop.folder / "file"))
    assert done.returncode == 64, done.stderr
    (last,) = lines(done.stderr)
    assert "--cache" in str(last["message"])


def test_progress_is_told_a_few_seconds_apart_but_always_first_and_last() -> None:
    stream, seconds = io.StringIO(), iter(number / 33 for number in range(10_000))
    log = Console(stream, clock=lambda: next(seconds))
    for done in range(1001):
        log(Progress("embed", done, 1000))
    told = [line["done"] for line in lines(stream.getvalue())]
    assert (told[0], told[-1]) == (0, 1000)
    assert 8 < len(told) < 15


def test_at_a_terminal_a_person_sees_a_bar_and_plain_words() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    log = Console(stream)
    log(Progress("embed", 1, 2))
    log(Warned("chair:heart:[red]1: skipped"))
    log(StepEnded("embed", 1.234, "2 embedded"))
    log.close()
    assert re.search(r"embed.*1/2", stream.getvalue())
    assert "WARNING: chair:heart:[red]1: skipped" in stream.getvalue()
    assert "embed: 2 embedded (1.234 s)" in stream.getvalue()


def test_of_two_runs_at_once_one_commits_and_the_other_says_so_with_status_73(
    shop: Shop, new_bucket: Callable[[], str]
) -> None:
    bucket = new_bucket()
    assert run(shop, bucket).returncode == 0  # the embeddings are there: both runs that follow take as long
    named = command_line(shop)
    unnamed = [word for word in named if word not in ("--build", "b1")]
    environment = {**os.environ, "MODEL_REPOSITORY": f"gs://{bucket}"}
    runs = [
        subprocess.Popen(unnamed, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [(*run.communicate(timeout=100), run.returncode) for run in runs]
    won = [json.loads(out)["index_prefix"] for out, _, code in said if code == 0]
    lost = [(code, lines(err)[-1]["code"]) for _, err, code in said if code != 0]
    live = read_live_commit(GcsStore(bucket), Target("production", "shop")).commit.index_prefix
    assert str(live) in won, said
    assert lost in ([], [(73, "commit-lost")]), said  # none: the second one looked after the first had committed
    builds = GcsStore(bucket).folders("indexes/shop/")
    assert len(builds) == 3, (builds, said)
    assert {f"{prefix}/" for prefix in ("indexes/shop/b1", *won)} <= set(builds)
