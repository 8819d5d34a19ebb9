"""Lists at a real terminal: columns that fit, nothing cut that one must copy, and pipes get what they always got."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

from local_stack.processes import base_environment
from model_repository.names import IndexPrefix, Target
from operator_cli.commands.prune import Pruned
from operator_cli.live import UnreadableReceipt
from operator_cli.output import lists, pruned
from operator_cli.output.colours import write_listing
from operator_cli.output.listing import Column, Line, Listing, fit
from tests.operator_cli.at_a_terminal import END
from tests.operator_cli.test_terminal import Terminal

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.operator_cli.at_a_terminal"]
"""Its bucket's generations are the same every time."""
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")

BROKEN = "indexes/clothing/2026-11-21t110000z-3c4d/shirts.ann"
WHY = f"pod clothing-7d9f8: the pull ended with 65: {BROKEN} isn't what index.json says of it"
AT_80 = {
    "status": f"""\
target               outcome  build                             generation  age
production/clothing  undone   2026-11-21t110000z-3c4d  8738681121152269348  3 h
    by batch
    outcome     undone: {WHY}
    serving     indexes/clothing/2026-11-20t230000z-1a2b  generation 8390539026135319670  for 3 h
production/shoes     served   boots                    1228320887535867596  3 h
    ON HOLD
    by bob: 季節
""",
    "history clothing": f"""\
         generation  finished              outcome  build
8738681121152269348  2026-11-21 12:00:02Z  undone   2026-11-21t110000z-3c4d
    took 2.0 s  by not stated
    {WHY}
8390539026135319670  2026-11-21 12:00:02Z  served   2026-11-20t230000z-1a2b
    took 2.0 s  by alice@acme.com
    冬のカタログ: 新しい写真
""",
    "history shoes": """\
         generation  finished              outcome  build  hold      took
1228320887535867596  2026-11-21 12:00:02Z  served   boots  ON HOLD  2.0 s
    by not stated
""",
    "builds clothing": """\
build                    created               items    size  recall
2026-11-21t110000z-3c4d  2026-11-21 11:00:00Z      3  0.0 MB   0.990
    live in production/clothing
2026-11-20t230000z-1a2b  2026-11-20 23:00:00Z      3  0.0 MB   0.990
""",
}
AT_120 = """\
build                    created               items    size  recall  live in
2026-11-21t110000z-3c4d  2026-11-21 11:00:00Z      3  0.0 MB   0.990  production/clothing
2026-11-20t230000z-1a2b  2026-11-20 23:00:00Z      3  0.0 MB   0.990
"""


JSON = "builds clothing --output json"


@pytest.fixture(scope="module")
def at_80() -> dict[str, str]:
    """What the commands print at a terminal of 80 columns."""
    return at_a_terminal(*AT_80, JSON)


@pytest.mark.parametrize("command", AT_80)
def test_at_80_columns_a_list_is_lines_that_fit_with_the_rest_below_them(command: str, at_80: dict[str, str]) -> None:
    assert plain(at_80[command]) == AT_80[command]
    fixed = [line for line in AT_80[command].splitlines() if not line.startswith("    ")]
    assert max(cell_len(line) for line in fixed) <= 80


def test_a_wider_terminal_has_it_in_columns() -> None:
    (seen,) = at_a_terminal("builds clothing", columns=120).values()
    assert plain(seen) == AT_120


def test_a_terminal_that_is_too_narrow_cuts_and_breaks_nothing() -> None:
    (seen,) = at_a_terminal("status", columns=40).values()
    copied = {"2026-11-21t110000z-3c4d", "8738681121152269348", "indexes/clothing/2026-11-20t230000z-1a2b"}
    assert copied <= set(plain(seen).split())
    assert WHY in seen
    assert "…" not in seen


def test_verdicts_have_a_colour_unless_nobody_wants_one(at_80: dict[str, str]) -> None:
    assert "\x1b[1;31mundone\x1b[0m" in at_80["history clothing"]
    (without,) = at_a_terminal("history clothing", NO_COLOR="1").values()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", without)
    assert plain(without) == AT_80["history clothing"]
    assert at_a_terminal("history clothing", TERM="dumb") == {"history clothing": AT_80["history clothing"]}


def test_a_pipe_gets_neither_columns_nor_colours_and_json_is_the_same(at_80: dict[str, str]) -> None:
    seen = piped("status", "history shoes", JSON)
    first, second, *_ = seen["status"].splitlines()
    assert first == "production/clothing"
    build = "indexes/clothing/2026-11-21t110000z-3c4d"
    assert second.split() == ["commit", build, "generation", "8738681121152269348", "3", "h", "ago"]
    served = "1228320887535867596  2026-11-21 12:00:02Z  served         2.0 s  indexes/shoes/boots  ON HOLD"
    assert seen["history shoes"] == f"{served}  by: not stated\n"
    assert at_80[JSON] == seen[JSON]
    assert json.loads(seen[JSON])


def drawn(listing: Listing, monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> list[str]:
    """The lines of a list."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    write_listing(out, listing)
    return plain(out.getvalue()).splitlines()


def test_columns_begin_at_the_same_cell_whatever_script_a_name_has(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("alice", "山田太郎", "Zoë", "ㅎㅏㄴ글")
    lines = drawn(Listing((Column("by"), Column("build")), tuple(Line((name, "b1")) for name in names)), monkeypatch)
    assert {cell_len(line.removesuffix("b1")) for line in lines[1:]} == {cell_len("山田太郎") + 2}
    assert [line.split()[0] for line in lines[1:]] == list(names)


def test_what_looks_like_markup_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(Listing((Column("what"),), (Line(("[red]a[/red]",), ("[b]:smile:",)),)), monkeypatch)
    assert lines == ["what", "[red]a[/red]", "    [b]:smile:"]


def test_spare_columns_go_below_the_last_first_and_empty_ones_are_not_there() -> None:
    columns = (Column("a"), Column("b", spare=True), Column("c", spare=True), Column("empty"))
    listing = Listing(columns, (Line(("1234", "12", "12", ""), ("note",)), Line(("5", "", "6", ""))))
    assert [column.name for column in fit(listing, 12, len).columns] == ["a", "b", "c"]
    narrower = fit(listing, 11, len)
    assert [column.name for column in narrower.columns] == ["a", "b"]
    assert narrower.lines == (Line(("1234", "12"), ("c 12", "note")), Line(("5", ""), ("c 6",)))
    narrowest = fit(listing, 1, len)
    assert narrowest.lines == (Line(("1234",), ("b 12  c 12", "note")), Line(("5",), ("c 6",)))


def test_prune_lists_what_goes_and_how_large_it_is() -> None:
    gone = {IndexPrefix("shoes", "b1"): 1_234_500_000, IndexPrefix("shoes", "b2"): 100_000}
    features = {"features/0123/a.parquet": 2_000_000, "features/0123/b.parquet": 500_000}
    hats = {"hats": (Target("production", "hats"),)}
    records, filters = {"reports/a.json": 900_000}, {"filters/production/shoes/0.hidden": 8_000_000}
    found = Pruned("shop", gone, {}, records, filters, features, hats, (), unsaid="", denied={}, applied=False)
    assert pruned.for_people(found).splitlines() == [
        "indexes/shoes/b1    1,234.5 MB",
        "indexes/shoes/b2        0.1 MB",
        "features/0123           2.5 MB, 2 parts",
        (
            "hats: nothing goes, because commits/production/hats.json neither serves nor was undone, and what rolls "
            "out isn't known: indexpush status hats --environment production says why; if nothing is to serve there: "
            "gcloud storage rm gs://shop/commits/production/hats.json"
        ),
        (
            "would delete 2 builds (1234.6 MB), 0 models (0.0 MB), 2 parts of the features (2.5 MB), 1 record "
            "(0.9 MB), 1 list of hidden items (8.0 MB)"
        ),
        "nothing was deleted; say --apply",
    ]


def test_what_cannot_be_read_is_named_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable = UnreadableReceipt(7, "not JSON")
    assert drawn(lists.receipts([unreadable]), monkeypatch) == [
        "generation  outcome",
        "         7  UNREADABLE",
        "    not JSON",
    ]


def plain(text: str) -> str:
    """Without colours."""
    return ESCAPE.sub("", text)


def at_a_terminal(*commands: str, columns: int = 80, **environment: str) -> dict[str, str]:
    """What each command prints at a pseudo-terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    told = {**base_environment(), "TERM": "xterm", "LANG": "C.UTF-8", **environment}
    process = subprocess.Popen([*PROGRAM, *commands], cwd=ROOT, env=told, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    assert process.wait(60) == 0, seen.decode()
    return dict(zip(commands, seen.decode().replace("\r\n", "\n").split(END), strict=False))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says it so when nobody has the other end any more
        return b""


def piped(*commands: str) -> dict[str, str]:
    """What each prints into a pipe."""
    told = {**base_environment(), "LANG": "C.UTF-8"}
    done = subprocess.run([*PROGRAM, *commands], cwd=ROOT, env=told, capture_output=True, text=True, check=True)
    return dict(zip(commands, done.stdout.split(END), strict=False))
