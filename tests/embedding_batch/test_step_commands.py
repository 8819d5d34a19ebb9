"""One step after another on the command line, as an engine runs them, on a real bucket server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from embedding_batch.main import main
from model_repository.bucket.gcs_store import GcsStore
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit
from tests.embedding_batch.conftest import lines

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


STEPS = (
    "list",
    "fetch 0",
    "embed 0",
    "collect",
    "build 0",
    "build 1",
    "build 2",
    "build 3",
    "publish",
    "diff",
    "commit",
)


def do_step(shop: Shop, bucket: str, step: str, *more: str) -> int:
    """Run one step in this process, as an engine does; "fetch 3" is that of shard 3."""
    name, _, number = step.partition(" ")
    local = ["--cache", str(shop.config.cache), "--build", "b1", "--index", "shop"]
    if name == "list":
        local += ["--catalogue", str(shop.folder), "--environment", "production", "--trees", "5", "--exact-items", "0"]
    if number:
        local += ["--part" if name == "build" else "--shard", number]
    return main(["step", name, *local, *more], {"MODEL_REPOSITORY": f"gs://{bucket}"})


def test_steps_one_after_another_make_what_a_run_makes(
    shop: Shop, new_bucket: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    said = {}
    for step in (*STEPS, "report"):
        assert do_step(shop, bucket, step) == 0
        said[step] = json.loads(capsys.readouterr().out)
    assert (said["list"]["items"], said["list"]["shards"], said["embed 0"]["embedded"]) == (15, 1, 15)
    assert (said["collect"]["items"], said["collect"]["parts"]) == (15, 4)
    store = GcsStore(bucket)
    live = read_live_commit(store, Target("production", "shop"))
    assert live.commit.index_prefix == IndexPrefix("shop", "b1")
    assert said["commit"]["generation"] == live.generation
    assert (said["report"]["outcome"], said["report"]["embedded"]) == ("committed", 15)
    assert read_build(store, IndexPrefix("shop", "b1")).manifest.items == 15


def test_a_step_that_is_done_answers_with_its_record_and_works_no_more(
    shop: Shop, new_bucket: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    for step in STEPS:
        assert do_step(shop, bucket, step) == 0
    first = capsys.readouterr()
    before = GcsStore(bucket).listing("")
    shop.sells(["deer"])
    for step in STEPS:
        assert do_step(shop, bucket, step) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert again.err == ""
    assert GcsStore(bucket).listing("") == before


@pytest.mark.parametrize(
    "case",
    [
        ((), "fetch 0", "'list'"),
        (("list",), "embed 0", "'fetch'"),
        (("list", "fetch 0"), "collect", "'embed'"),
        (STEPS[:3], "build 0", "'collect'"),
        (STEPS[:7], "publish", "'build'"),
        (STEPS[:8], "commit", "'publish'"),
    ],
    ids=lambda case: case[1].split()[0],
)
def test_a_step_before_another_that_it_needs_is_status_64_and_names_that(
    shop: Shop,
    new_bucket: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
    case: tuple[tuple[str, ...], str, str],
) -> None:
    done, step, missing = case
    bucket = new_bucket()
    for earlier in done:
        assert do_step(shop, bucket, earlier) == 0
    capsys.readouterr()
    assert do_step(shop, bucket, step) == 64
    said = capsys.readouterr()
    last = lines(said.err)[-1]
    assert (said.out, last["code"]) == ("", "step-missing")
    assert missing in str(last["message"])


@pytest.mark.parametrize("step", ["fetch 1", "fetch 99", "embed 7", "build 4"], ids=lambda step: step.replace(" ", "-"))
def test_a_shard_or_part_that_there_is_not_is_status_64_and_no_defect(
    shop: Shop, new_bucket: Callable[[], str], capsys: pytest.CaptureFixture[str], step: str
) -> None:
    bucket = new_bucket()
    for earlier in STEPS[:4]:
        assert do_step(shop, bucket, earlier) == 0
    capsys.readouterr()
    assert do_step(shop, bucket, step) == 64
    assert step.split()[1] in str(lines(capsys.readouterr().err)[-1]["message"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["step", "fetch", "--index", "shop", "--build", "b1"], "--shard: is needed for the step 'fetch'"),
        (["step", "build", "--index", "shop", "--build", "b1", "--shard", "1"], "--shard: doesn't go with"),
        (["step", "commit", "--index", "shop", "--build", "b1", "--part", "1"], "--part: doesn't go with"),
        (["step", "fetch", "--index", "shop", "--build", "b1", "--shard", "-1"], "--shard"),
        (["step", "check", "--index", "shop", "--build", "b1"], "invalid choice: 'check'"),
        (["step", "commit", "--index", "Shop!", "--build", "b1"], "Shop!"),
        (["step", "commit", "--index", "shop"], "--build"),
        (["step"], "step"),
    ],
)
def test_a_step_s_command_line_that_makes_no_sense_is_refused_with_its_option(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, {"MODEL_REPOSITORY": "gs://bucket"}) == 64
    (line,) = lines(capsys.readouterr().err)
    assert says in str(line["message"])


def test_a_step_of_an_unknown_bucket_or_none_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "commit", "--index", "shop", "--build", "b1"], {}) == 64
    assert "MODEL_REPOSITORY" in capsys.readouterr().err


def test_listing_again_with_other_options_names_them(
    shop: Shop, new_bucket: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    assert do_step(shop, bucket, "list") == 0
    assert do_step(shop, bucket, "list", "--by", "bob", "--workers", "7") == 65
    last = lines(capsys.readouterr().err)[-1]
    assert last["code"] == "name-taken"
    assert "(by)" in str(last["message"])
