"""What the benchmark from commit to answer writes into its page."""

from __future__ import annotations

import pytest

from benchmarks.commit.results import MARKS, OURS, Idle, Results, Run, engine_table, tables, written


def run(design: str, seconds: float, image: int = 0) -> Run:
    return Run(
        size=1_000_000_000,
        design=design,
        seconds=seconds,
        steps={"pull": seconds / 2},
        cpu={"kubelet": 1.0, "serving pod": 2.0},
        registry=image,
        image_store=2 * image,
        volume=0,
    )


def test_the_baseline_s_time_is_given_as_a_multiple_of_ours() -> None:
    found = tables(Results([run(OURS, 6), run("usual", 48, 1_000_000_000), run(OURS, 4), run(OURS, 5)]))
    ours, theirs = [line for line in found.splitlines() if line.startswith("| 1 GB")][:2]
    assert "| 3 | 5.0 (4.0 to 6.0) | 1.0 | 0 + 0 |" in ours
    assert "| 1 | 48.0 (48.0 to 48.0) | 9.6 | 1.00 GB + 2.00 GB |" in theirs


def test_engines_are_told_as_shares_of_the_first() -> None:
    found = engine_table([run("annoy", 20), run("faiss-hnsw", 10), run("annoy", 22), run("faiss-hnsw", 11)])
    annoy, hnsw = found.splitlines()[2:]
    assert annoy.startswith("| annoy | 1.00 GB | 2 | 21.0 (20.0 to 22.0) | 1.00 | pull 10.5 | 3.0 |")
    assert hnsw.startswith("| faiss-hnsw | 1.00 GB | 2 | 10.5 (10.0 to 11.0) | 0.50 | pull 5.2 | 3.0 |")


def test_without_ours_there_is_no_ratio() -> None:
    assert "| 48.0 (48.0 to 48.0) |  |" in tables(Results([run("usual", 48)]))


def test_an_idle_part_is_told_once_and_by_the_hour() -> None:
    parts = [Idle("watcher", "watcher", 120, cpu, 50_000_000, 2880) for cpu in (9.0, 0.1)]
    found = tables(Results(idle=parts)).splitlines()
    assert [line for line in found if line.startswith("| watcher")] == ["| watcher | watcher | 3.0 | 50 | 2880 |"]


def test_a_page_gets_the_newest_tables_between_its_marks_and_keeps_the_rest() -> None:
    page = f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n"
    once = written(page, Results([run(OURS, 5)]))
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "old" not in once
    assert written(once, Results([run(OURS, 5)])) == once


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="measured"):
        written("a page", Results())
