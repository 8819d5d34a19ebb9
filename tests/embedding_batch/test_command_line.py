"""What a command line says, read: one frozen value, or a fault in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embedding_batch.command_line.reading import read_command, read_step
from model_repository.errors import (
    Misconfigured,
)
from model_repository.names import IndexPrefix

if TYPE_CHECKING:
    pass


NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
LEAST = ("--catalogue", "shop", "--index", "shop", "--environment", "production")
HERE = {"MODEL_REPOSITORY": "gs://bucket"}


def test_a_machine_s_workers_are_what_its_container_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedding_batch.command_line.parsers.processors", lambda: 3)
    run = read_command(LEAST, HERE, NOW)
    _, step = read_step(["embed", "--shard=0", "--index=shop", "--build=b1"], HERE)
    assert (run.workers, step(run.options).workers) == (3, 3)
    assert read_command((*LEAST, "--workers", "7"), HERE, NOW).workers == 7


def test_a_build_is_named_by_the_time() -> None:
    config = read_command(LEAST, HERE, NOW)
    assert config.prefix == IndexPrefix("shop", "20261121t123456.000000z")


def test_the_cache_lies_where_the_desktop_convention_says() -> None:
    environment = HERE | {"XDG_CACHE_HOME": "/somewhere"}
    assert read_command(LEAST, environment, NOW).cache == Path("/somewhere/indexpush")
    environment = HERE | {"HOME": "/home/ann"}
    assert read_command(LEAST, environment, NOW).cache == Path("/home/ann/.cache/indexpush")


@pytest.mark.parametrize("words", [("rum", *LEAST), ("model",), ("detector", "show"), ("run", "shop")])
def test_a_first_word_that_there_is_not_is_named_with_those_that_there_are(words: tuple[str, ...]) -> None:
    wrong = words[1] if words[0] == "run" else words[0]
    with pytest.raises(Misconfigured, match=f"'{wrong}' is no option; .* catalogue, model publish, detector publish"):
        read_command(words, HERE, NOW)


@pytest.mark.parametrize(
    "wrong", [("--index", "Shop!"), ("--environment", "../x"), ("--build", "a/b"), ("--repository", "")]
)
def test_names_that_may_not_stand_in_a_path_are_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(Misconfigured):
        read_command((*LEAST, *wrong), {}, NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--trees", "0"),
        ("--workers", "x"),
        ("--most-broken", "2"),
        ("--least-recall", "-1"),
        ("--model", "other"),
        ("--engine", "scann"),
        ("--engine", "chairs=scann"),
        ("--storage", "int8"),
        ("--storage", "chairs=fp16"),
        ("--by", "x" * 201),
        ("--by", "\udcff"),
        ("--reason", "two\nlines"),
        ("--reason", "y" * 1001),
    ],
)
def test_what_is_out_of_range_or_no_commit_can_say_is_refused_before_any_work(wrong: Sequence[str]) -> None:
    with pytest.raises(Misconfigured, match=wrong[0]):
        read_command((*LEAST, *wrong), HERE, NOW)


@pytest.mark.parametrize("short", ["--inde=other", "--env=staging", "--repo=gs://theirs", "--buil=b2", "--expect"])
def test_an_option_is_written_out_since_values_are_searched_for_those_that_are_not_theirs(short: str) -> None:
    with pytest.raises(Misconfigured, match=f"unrecognized arguments: {short}"):
        read_command((*LEAST, short), HERE, NOW)


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ("CDN.example", "cdn.example"),
        ("cdn.example.", "cdn.example"),
        ("xn--bcher-kva.example", "bücher.example"),
        ("[::1]", "::1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_host_s_rate_holds_for_it_however_it_is_written(said: str, host: str) -> None:
    read = read_command((*LEAST, "--host-rate", f"{said}=2"), HERE, NOW)
    assert (read.politeness.rate(host), read.politeness.rate("another.example")) == (2, 10)


@pytest.mark.parametrize(
    "said", ["https://cdn.example", "cdn.example:8080", "cdn.example/a", "*.example", "me@cdn.example", "::1"]
)
def test_a_rate_that_would_hold_for_no_host_is_refused(said: str) -> None:
    with pytest.raises(Misconfigured, match=f"--host-rate: expected N or HOST=N, .* found '{re.escape(said)}=2'"):
        read_command((*LEAST, "--host-rate", f"{said}=2"), HERE, NOW)


def test_many_connections_bring_the_bytes_that_they_need() -> None:
    read = read_command((*LEAST, "--connections", "1000"), HERE, NOW)
    assert (read.politeness.connections, read.politeness.room) == (1000, 1032 * 2**20)
