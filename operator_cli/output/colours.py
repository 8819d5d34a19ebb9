"""Colours for a person at a terminal: the words that say how something is, and nothing else."""

from __future__ import annotations

from typing import ClassVar, TextIO

from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.theme import Theme

_BEGINS = r"(?:^|(?<=  ))"
"""Such words stand at the beginning of a line or of a column; a reason that somebody wrote may have them too."""
_ENDS = r"(?=[ :]|$)"


class _Verdicts(RegexHighlighter):
    base_style = "said."
    highlights: ClassVar[list[str]] = [
        rf"(?m){_BEGINS}(?P<good>served|applied|ok){_ENDS}",
        rf"(?m){_BEGINS}(?P<bad>undone|rejected|DENIED|MALFORMED|UNREADABLE|IGNORED|INCIDENT|WRONG|worse){_ENDS}",
        rf"(?m){_BEGINS}(?P<wait>waiting|superseded|hint|unknown|ON HOLD){_ENDS}",
        r"(?m)^(?P<title>[a-z0-9-]+/[a-z0-9-]+)$",
    ]


_STYLES = Theme({"said.good": "green", "said.bad": "bold red", "said.wait": "yellow", "said.title": "bold"})


def write(stream: TextIO, text: str) -> None:
    """Write a result. NO_COLOR and TERM=dumb are obeyed; lines stay as long as they are."""
    console = Console(file=stream, theme=_STYLES, highlighter=_Verdicts(), markup=False, emoji=False)
    console.print(text, soft_wrap=True)
