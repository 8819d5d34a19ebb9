"""What the person at the terminal sees: one line for each step with its seconds, a bar where something takes long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Advance = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, of how many)."""


class Console:
    """Prints the demo's story."""

    def __init__(self) -> None:
        """Print to standard output; a bar only where that is a terminal."""
        self._out = RichConsole(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[None]:
        """One numbered step; its line with the seconds is printed when it ends, its notes stand below its title."""
        self._out.print(f"[bold]{number}  {escape(title)}[/]")
        began = time.monotonic()
        yield
        self._out.print(f"   [green]done[/] in {time.monotonic() - began:.1f} s")

    def note(self, text: str) -> None:
        """A line below the current step."""
        self._out.print(f"   {escape(text)}")

    def failure(self, text: str) -> None:
        """Why the demo ends early."""
        self._out.print(f"[bold red]failed:[/] {escape(text)}")

    def end(self, text: str) -> None:
        """The last line, with the seconds of everything."""
        self._out.print(f"[bold]{escape(text)}[/] ({time.monotonic() - self._began:.1f} s in all)")

    @contextmanager
    def bar(self) -> Iterator[Advance]:
        """A progress bar for work that tells how far it is; it leaves no trace."""
        columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._out, transient=True, disable=not self._out.is_terminal) as progress:
            task = progress.add_task("list", total=None)

            def advance(what: str, done: int, total: int) -> None:
                progress.update(task, description=what, completed=done, total=total)

            yield advance
