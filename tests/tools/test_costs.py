"""The cost page is what the script prints, and the script adds up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.costs import Prices, Use, main, ours, table, watchers

PAGE = Path(__file__).parents[2] / "docs" / "costs.md"


def test_the_page_has_the_table_that_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out in PAGE.read_text()


def test_a_price_that_is_said_counts(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = [word for field in Prices.__dataclass_fields__ for word in (f"--{field.replace('_', '-')}", "0")]
    assert main([*nothing, "--image-gb-month", "730", "--kept", "2", "--indexes", "1", "--gigabytes", "1"]) == 0
    rows = dict(line.strip("| ").split(" | ", 1) for line in capsys.readouterr().out.splitlines()[2:])
    assert rows["**indexpush**"] == "0.0000 | 0.000 | 0.00"
    assert rows["images that are kept"] == "2.0400 | 0.000 | 1489.20"  # two images of 1.02 GB at a dollar an hour


def test_a_month_is_what_stands_and_what_each_commit_adds() -> None:
    use, prices = Use(indexes=1, commits_a_day=24), Prices()
    for costs, name in ((ours(use, prices), "indexpush"), (watchers(use, prices), "the watcher")):
        found = list(costs)
        month = 730 * (sum(each.standing for each in found) + sum(each.commit for each in found))
        assert f"| **{name}** |" in table(use, prices)
        (row,) = [line for line in table(use, prices).splitlines() if f"**{name}**" in line]
        assert row.endswith(f"| {month:.2f} |")


def test_twice_the_bytes_cost_twice_the_build_and_nothing_more_here() -> None:
    small, large = Use(gigabytes=1), Use(gigabytes=2)
    assert list(ours(small, Prices())) == list(ours(large, Prices()))
    build = [next(each for each in watchers(use, Prices()) if "build" in each.what).commit for use in (small, large)]
    assert build[1] == pytest.approx(2 * build[0])
