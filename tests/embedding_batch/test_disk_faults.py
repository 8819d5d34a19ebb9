"""Full disks, and caches that are somebody else's or become read-only: one line, a status, and it goes on right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model_repository.bucket.gcs_store import GcsStore
from tests.embedding_batch.conftest import CHAIRS
from tests.embedding_batch.test_own_models import cells

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

BATCH = (sys.executable, "-m", "embedding_batch")
ON_A_FULL_DISK = """
import json, os, subprocess, sys
from pathlib import Path

cache, commands = Path(sys.argv[1]), json.loads(sys.argv[2])


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    left = [str(path) for path in (cache / "scratch").glob("*/**")]
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr, "left": left}


def fill():
    with (cache / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass


for command in commands:
    fill()
    full = run(command)
    (cache / "filler").unlink()
    print(json.dumps([full, run(command)]))
"""
"""Runs each command on a disk that has no byte left, and again on one that has enough."""
MORTAL = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown") if os.geteuid() == 0 else ()
"""Root without the rights that make it root."""


def command_line(shop: Shop, *more: str) -> list[str]:
    """A run's, in the shop's cache."""
    what = ["--catalogue", str(shop.folder), "--index", "shop", "--environment", "production"]
    return [*BATCH, *what, "--cache", str(shop.config.cache), *more]


def steps(shop: Shop) -> list[list[str]]:
    """Of one build of one category, in their order."""
    cache = ["--cache", str(shop.config.cache), "--workers", "2"]
    _, _, _, *options = command_line(shop, "--build", "b1")
    numbered = [
        "fetch --shard=0",
        "embed --shard=0",
        "collect",
        "build --part=0",
        "publish",
        "diff",
        "commit",
        "report",
    ]
    others = [[*BATCH, "step", *one.split(), "--index", "shop", "--build", "b1", *cache] for one in numbered]
    return [[*BATCH, "step", "list", *options], *others]


def environment(bucket: str) -> dict[str, str]:
    return {**os.environ, "MODEL_REPOSITORY": f"gs://{bucket}"}


def check_said(status: int, out: str, err: str, expected: tuple[int, str]) -> str:
    """That it is one line of this code, and no traceback; returns its message."""
    last: dict[str, Any] = json.loads(err.splitlines()[-1])
    assert (status, last["code"]) == expected, err
    assert err.count('"ERROR"') == 1
    assert "Traceback" not in err
    assert out == ""
    return str(last["message"])


@pytest.fixture
def small_disk(shop: Shop) -> Callable[[str, Sequence[str]], subprocess.CompletedProcess[str]]:
    """Runs a command where the shop's cache is a file system of its own, which goes with the command."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    cache = shop.config.cache
    models = (cache / "models").resolve()

    def run(bucket: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        script = 'mount -t tmpfs -o size=8m tmpfs "$0" && ln -s "$1" "$0/models" && shift && exec "$@"'
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", script, str(cache), str(models), *command],
            env=environment(bucket), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


def test_a_step_on_a_full_disk_ends_with_75_and_one_line_leaves_why_and_is_done_when_there_is_room(
    shop: Shop,
    new_bucket: Callable[[], str],
    small_disk: Callable[[str, Sequence[str]], subprocess.CompletedProcess[str]],
) -> None:
    bucket, cache = new_bucket(), shop.config.cache
    shop.sells(CHAIRS)
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(cache), json.dumps(steps(shop))]
    done = small_disk(bucket, command)
    assert done.returncode == 0, done.stderr
    failed = set()
    for words, (full, free) in zip(steps(shop), map(json.loads, done.stdout.splitlines()), strict=True):
        if full["status"]:
            check_said(full["status"], full["out"], full["err"], (75, "disk-trouble"))
            failed.add(words[4])
        assert full["left"] == free["left"] == []
        assert free["status"] == 0, free["err"]
    assert failed >= {"list", "embed", "collect", "build", "publish"}
    assert not failed & {"commit", "report"}, "who needs no disk works without one"
    store = GcsStore(bucket)
    noted = {info.name.rpartition("/")[2].partition(".")[0] for info in store.listing("shards/shop/b1/failed/")}
    assert {name.partition("-")[0] for name in noted} == failed
    report = json.loads(store.read("reports/shop/b1.json", limit=2**20).data)
    assert (report["outcome"], report["errors"]) == ("committed", [])


@pytest.fixture
def foreign_cache(shop: Shop) -> Path:
    """Everybody may read it, and its owner, who is somebody else if we may say so, not even write."""
    cache = shop.folder / "foreign"
    cache.mkdir()
    if os.geteuid() == 0:
        os.chown(cache, 12345, 12345)
    cache.chmod(0o555)
    return cache


def test_a_cache_of_somebody_else_is_status_64_and_one_line_before_any_work(
    shop: Shop, new_bucket: Callable[[], str], foreign_cache: Path
) -> None:
    bucket = new_bucket()
    command = [*MORTAL, *command_line(shop, "--cache", str(foreign_cache), "--build", "b1")]
    done = subprocess.run(
        command, env=environment(bucket), capture_output=True, text=True, timeout=100, check=False
    )  # fmt: skip
    message = check_said(done.returncode, done.stdout, done.stderr, (64, "misconfigured"))
    assert str(foreign_cache) in message
    assert "Permission denied" in message
    assert list(foreign_cache.iterdir()) == []
    assert GcsStore(bucket).listing("") == []


def test_a_step_whose_cache_is_somebody_else_s_is_refused_and_the_report_says_why(
    shop: Shop, new_bucket: Callable[[], str], foreign_cache: Path
) -> None:
    bucket = new_bucket()
    first, second, *_, last = steps(shop)
    subprocess.run(first, env=environment(bucket), capture_output=True, timeout=100, check=True)
    command = [*MORTAL, *second, "--cache", str(foreign_cache)]
    done = subprocess.run(
        command, env=environment(bucket), capture_output=True, text=True, timeout=100, check=False
    )  # fmt: skip
    message = check_said(done.returncode, done.stdout, done.stderr, (64, "misconfigured"))
    reported = subprocess.run(
        last, env=environment(bucket), capture_output=True, text=True, timeout=100, check=True
    )  # fmt: skip
    assert json.loads(reported.stdout)["outcome"] == "failed"
    report = json.loads(GcsStore(bucket).read("reports/shop/b1.json", limit=2**20).data)
    assert report["errors"] == [{"step": "fetch", "number": 0, "code": "misconfigured", "message": message}]


@pytest.mark.parametrize("step", ["list", "fetch", "embed", "collect"])
def test_a_cache_that_becomes_read_only_in_the_midst_is_one_line_and_the_next_run_ends_right(
    shop: Shop, new_bucket: Callable[[], str], step: str
) -> None:
    bucket, cache = new_bucket(), shop.config.cache
    command = [*MORTAL, *command_line(shop, "--build", "b1")]

    def closed(mode: int) -> None:
        for folder in [*(path for path in cache.rglob("*") if path.is_dir() and not path.is_symlink()), cache]:
            folder.chmod(mode)

    with subprocess.Popen(
        command, env=environment(bucket), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as batch:  # fmt: skip
        assert batch.stderr
        assert batch.stdout
        err = ""
        for line in batch.stderr:
            err += line
            if json.loads(line).get("step") == step and "seconds" in json.loads(line):
                closed(0o555)
        out = batch.stdout.read()
    closed(0o755)
    message = check_said(batch.returncode, out, err, (64, "misconfigured"))
    assert str(cache) in message
    done = subprocess.run(
        command, env=environment(bucket), capture_output=True, text=True, timeout=100, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "committed"
    assert [path.name for path in (cache / "scratch").iterdir()] == ["lock"]


def test_a_model_that_no_temporary_folder_takes_is_one_line_that_names_it(
    shop: Shop, tmp_path: Path, new_bucket: Callable[[], str]
) -> None:
    options = ["--onnx", str(cells(tmp_path / "m.onnx")), "--name", "own", "--input-size", "16", "--golden", "a.jpg"]
    done = subprocess.run(
        ["prlimit", "--fsize=0", *BATCH, "model", "publish", *options, "--repository", f"gs://{new_bucket()}"],
        cwd=shop.folder, env=environment("unused"), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    message = check_said(done.returncode, done.stdout, done.stderr, (64, "misconfigured"))
    assert "No usable temporary directory" in message
    assert "TMPDIR" in message


@pytest.mark.parametrize(
    ("words", "stream", "status"),
    [
        (["--catalogue", "."], "stderr", 0),
        (["--catalogue", "none.csv"], "stderr", 65),
        (["--catalogue", "."], "stdout", 75),
    ],
)
def test_a_log_or_an_answer_that_nobody_takes_changes_no_status_and_an_answer_may_be_had_again(
    shop: Shop, words: list[str], stream: str, status: int
) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        command = [*BATCH, "catalogue", *words]
        done = subprocess.run(command, cwd=shop.folder, **streams, text=True, timeout=100, check=False)  # type: ignore[call-overload]
    assert done.returncode == status
    if stream == "stdout":
        assert "standard output: No space left" in check_said(status, "", done.stderr, (75, "disk-trouble"))


@pytest.mark.parametrize(("catalogue", "status"), [(".", 0), ("none.csv", 65)])
def test_streams_that_whoever_began_it_closed_change_no_status(shop: Shop, catalogue: str, status: int) -> None:
    command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *BATCH, "catalogue", "--catalogue", catalogue]
    assert subprocess.run(command, cwd=shop.folder, timeout=100, check=False).returncode == status
