"""How soon the board shows a hundred indexes, and a receipt that has just been written.

    python -m benchmarks.bench_board [--indexes 100] [--rounds 10]

A bucket in memory, the board's real server, and a real Chromium that has nothing cached: milliseconds from the start of
the navigation to the first paint, and to the last row; and from writing a receipt to its row.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import timedelta

from playwright.sync_api import Browser

from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix, Target
from operator_cli.board.identity import OwnMachine
from tests import builds
from tests.chromium import chromium
from tests.operator_cli.board_scene import Running, running
from tests.operator_cli.conftest import Operator

_SIGN_IN = OwnMachine("somebody@example.com")
_PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_ROWS = "count => document.querySelectorAll('#rows .open').length === count ? performance.now() : null"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--indexes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    operator = Operator()
    operator.clock.moment = builds.NOW + timedelta(hours=1)
    targets = [Target("production", f"index-{number}") for number in range(options.indexes)]
    prefixes = [operator.build("b1", index=target.index) for target in targets]
    for target, prefix in zip(targets, prefixes, strict=True):
        operator.deployed(prefix, target=target)
    with running(operator, _SIGN_IN) as board, chromium() as browser:
        opened = [_open(browser, board, options.indexes) for _ in range(options.rounds)]
        seen = [_receipt(browser, board, operator, prefixes[-1]) for _ in range(options.rounds)]
    print(f"| {options.indexes} indexes | median, ms | slowest, ms |\n|---|---|---|")
    _row("first paint", [paint for paint, _ in opened])
    _row("all rows", [rows for _, rows in opened])
    _row("a receipt's row", seen)


def _open(browser: Browser, board: Running, indexes: int) -> tuple[float, float]:
    with browser.new_context() as context:
        context.request.get(f"{board.url}/?key={_SIGN_IN.secret}")
        page = context.new_page()
        page.goto(board.url)
        rows = float(page.wait_for_function(_ROWS, arg=indexes).json_value())
        return float(page.wait_for_function(_PAINTED).json_value()), rows


def _receipt(browser: Browser, board: Running, operator: Operator, prefix: IndexPrefix) -> float:
    target = Target("production", prefix.index)
    with browser.new_page() as page:
        page.goto(f"{board.url}/?key={_SIGN_IN.secret}")
        generation = operator.commit(prefix, target=target)
        row = page.locator("#rows > tr").filter(has_text=prefix.index)
        row.get_by_text("rolling out").wait_for()
        begun = time.perf_counter()
        operator.receipt(generation, Outcome.SERVED, prefix, target=target)
        row.get_by_text("serving").wait_for()
        return (time.perf_counter() - begun) * 1000


def _row(name: str, values: list[float]) -> None:
    print(f"| {name} | {statistics.median(values):.0f} | {max(values):.0f} |")


if __name__ == "__main__":
    main()
