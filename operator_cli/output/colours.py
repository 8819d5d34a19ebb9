"""What a person at a terminal gets: lists in columns, and colours for the words that say how something is."""

from __future__ import annotations

from typing import ClassVar, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from operator_cli.output.listing import GAP, Listing, fit

_BEGINS = r"(?:^|(?<=  ))"
"""Such words stand at the beginning of a line or of a column; a reason that somebody wrote may have them too."""
_ENDS = r"(?=[ :]|$)"


class _Verdicts(RegexHighlighter):
    base_style = "said."
    highlights: ClassVar[list[str]] = [
        rf"(?m){_BEGINS}(?P<good>served|applied|ok){_ENDS}",
        rf"(?m){_BEGINS}(?P<bad>undone|rejected|DENIED|MALFORMED|UNREADABLE|IGNORED|INCIDENT|WRONG|worse){_ENDS}",
        rf"(?m){_BEGINS}(?P<wait>waiting|rolling out|trying out|superseded|hint|unknown|ON HOLD){_ENDS}",
        r"(?m)^(?P<title>[a-z0-9-]+/[a-z0-9-]+)$",
    ]


_WIDEST = 10_000
"""Cells of a line, beyond which it would be cut."""

_NOTE = 4
"""Cells before a note."""

_STYLES = Theme({"said.good": "green", "said.bad": "bold red", "said.wait": "yellow", "said.title": "bold"})


def write(stream: TextIO, text: str) -> None:
    """Write a result. NO_COLOR and TERM=dumb are obeyed; lines stay as long as they are."""
    _console(stream).print(text, soft_wrap=True)


def write_listing(stream: TextIO, listing: Listing) -> None:
    """Write a list in columns, and below each line its notes. What is too wide is left to the terminal, and not cut."""
    console = _console(stream)
    fitted = fit(listing, console.width, cell_len)
    table = _table(fitted)
    head, *lines = console.render_lines(table, console.options.update(width=_WIDEST), pad=False)
    for line, notes in ((head, ()), *((line, each.notes) for line, each in zip(lines, fitted.lines, strict=True))):
        text = Text.assemble(*((part.text, part.style or "") for part in line))
        text.rstrip()
        console.print(text, soft_wrap=True)
        for note in notes:
            console.print(f"{'':<{_NOTE}}{note}", soft_wrap=True)


def _table(listing: Listing) -> Table:
    verdicts = _Verdicts()
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold underline")
    for column in listing.columns:
        table.add_column(column.name, justify="right" if column.right else "left", no_wrap=True)
    for line in listing.lines:
        cells = zip(listing.columns, line.cells, strict=True)
        table.add_row(*(verdicts(text) if column.verdict else Text(text) for column, text in cells))
    return table


def _console(stream: TextIO) -> Console:
    return Console(file=stream, theme=_STYLES, highlighter=_Verdicts(), markup=False, emoji=False)
