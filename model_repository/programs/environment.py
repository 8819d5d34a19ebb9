"""Reads settings from environment variables, and says everything that is wrong with them at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from model_repository.errors import Misconfigured, NameRefused
from model_repository.names import parse_bucket_url

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_TOPIC = re.compile(r"projects/[^/\s]+/topics/[A-Za-z][-A-Za-z0-9._~+%]{2,254}", re.ASCII)
_WRONG: Any = None
"""What a reader returns where it noted a problem: nobody sees it, for `done` raises."""


class Environment:
    """Variables being read one by one; blanks around a value are dropped, and an empty one counts as unset.

    What is wrong is noted, and `done` raises `Misconfigured` with all of it:

        read = Environment(os.environ)
        config = Config(bucket=read.bucket(), port=read.whole("PORT", 8080, least=1, most=65535))
        read.done()
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._problems: list[str] = []

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong so far."""
        return tuple(self._problems)

    def refuse(self, problem: str) -> None:
        """Note a problem: a sentence that begins with the variable's name."""
        self._problems.append(problem)

    def done(self) -> None:
        """Raise `Misconfigured` if anything was wrong."""
        if self._problems:
            raise Misconfigured(*self._problems)

    def expected(self, name: str, what: str) -> Any:  # noqa: ANN401 - stands for a value of any type
        """Note that a variable isn't what is expected of it."""
        text = self.text(name)
        self.refuse(f"{name} is {text[:200]!r}: expected {what}" if text else f"{name} is not set: expected {what}")
        return _WRONG

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        return self._variables.get(name, "").strip() or default

    def required(self, name: str, what: str) -> str:
        """A string that must be there. what: one is, for whoever forgot it."""
        text = self.text(name)
        if not text:
            self.expected(name, what)
        return text

    def parsed(self, name: str, parse: Callable[[str], T], what: str) -> T:
        """A string that must be there, read through `parse`, whose `NameRefused` is noted."""
        text = self.required(name, what)
        if text:
            try:
                return parse(text)
            except NameRefused as error:
                self.refuse(f"{name}: {error}")
        wrong: T = _WRONG
        return wrong

    def bucket(self, name: str = "MODEL_REPOSITORY") -> str:
        """The name of the bucket that a ``gs://<bucket>`` URL names."""
        return self.parsed(name, parse_bucket_url, "gs://<bucket>, without a path")

    def topic(self) -> str:
        """The Pub/Sub topic that NOTIFY_TOPIC names, or an empty string."""
        text = self.text("NOTIFY_TOPIC")
        if text and not _TOPIC.fullmatch(text):
            self.expected("NOTIFY_TOPIC", "projects/<project>/topics/<topic>")
        return text

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        """A number from `least` to `most`."""
        text = self.text(name)
        try:
            number = float(text) if text else default
        except ValueError:
            number = least - 1
        if least <= number <= most:
            return number
        self.expected(name, f"a number from {least:g} to {most:g}")
        return default

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        text = self.text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:  # noqa: PLR2004 - 64 bits
            return int(text)
        self.expected(name, f"a whole number from {least} to {most}")
        return default

    def flag(self, name: str) -> bool:
        """1 or true; 0, false or nothing."""
        text = self.text(name).lower()
        if text not in {"", "0", "1", "false", "true"}:
            self.expected(name, "1 or 0")
        return text in {"1", "true"}

    def one_of(self, name: str, kinds: type[E], default: E) -> E:
        """One of an enumeration's values."""
        text = self.text(name)
        if not text:
            return default
        try:
            return kinds(text)
        except ValueError:
            self.expected(name, f"one of {', '.join(kind.value for kind in kinds)}")
            return default
