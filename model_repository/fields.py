"""Strict reading of JSON objects that anyone may have written: documents, requests, manifests.

A typo must not be silently ignored, and hostile input must end in a clear error: duplicate keys, NaN, unknown or
missing fields, wrong types, and sizes or depths out of bounds are refused by name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, NoReturn, Self, TypeVar

from model_repository.errors import DocumentMalformed, NameRefused

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_LARGEST = sys.float_info.max
_MOST = 2**63 - 1

REQUIRED: Any = object()
"""The default of a field that must be there."""


def parse_document(data: bytes, name: str, *, limit: int) -> Fields:
    """Parse the JSON object in `data`, which stands at `name`; `limit` is the most bytes it may have.

    Raises `DocumentMalformed` for anything that isn't one strict JSON object in UTF-8.
    """
    if len(data) > limit:
        raise DocumentMalformed(name, f"{len(data)} bytes, more than the {limit} allowed")

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise DocumentMalformed(name, f"field {key[:80]!r} stands twice")
            seen[key] = value
        return seen

    def refuse_constant(constant: str) -> NoReturn:
        raise DocumentMalformed(name, f"{constant} is not JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=refuse_duplicates, parse_constant=refuse_constant)
    except UnicodeDecodeError as error:
        raise DocumentMalformed(name, f"not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise DocumentMalformed(name, "nested too deeply") from None
    except json.JSONDecodeError as error:
        raise DocumentMalformed(name, f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError as error:  # an integer of thousands of digits
        raise DocumentMalformed(name, f"not JSON: {error}") from None
    return Fields(value, name)


def format_document(value: dict[str, Any]) -> bytes:
    """Write a JSON object for people and programs: indented, in the given order, a newline at the end."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")  # as JSON escapes what UTF-8 can't hold, for the reader to judge


class Fields:
    """One JSON object being read field by field; `done` refuses what nobody asked for.

    Other dialects are subclasses: they say what an error is (`error`), whether null means absent (`null_is_absent`),
    and by what other names a field may go (`key`).
    """

    null_is_absent: ClassVar[bool] = False

    def __init__(self, value: object, name: str, path: str = "") -> None:
        """Read `value`, found at `path` (empty: the top) of the document at `name`."""
        self.name = name
        self.path = path
        if not isinstance(value, dict):
            self.refuse(f"expected an object, found {_kind(value)}")
        self._left: dict[str, Any] = {
            key: inner for key, inner in value.items() if not (self.null_is_absent and inner is None)
        }

    def error(self, path: str, what: str) -> Exception:
        """The error about the place at `path`."""
        return DocumentMalformed(self.name, f"{path}: {what}" if path else what)

    def key(self, field: str) -> str:
        """The name that a field goes by here."""
        return field

    def at(self, field: str) -> str:
        """The path of a field."""
        return f"{self.path}.{self.key(field)}" if self.path else self.key(field)

    def refuse(self, what: str, field: str = "") -> NoReturn:
        """Raise the error about this object, or about one field of it."""
        raise self.error(self.at(field) if field else self.path, what)

    def has(self, field: str) -> bool:
        """Whether the field is there and not yet read."""
        return self.key(field) in self._left

    def take(self, field: str, default: object = REQUIRED) -> Any:  # noqa: ANN401 - the callers' types are exact
        """The value as it is."""
        if self.has(field):
            return self._left.pop(self.key(field))
        if default is REQUIRED:
            self.refuse(f"field {field!r} is missing")
        return default

    def _typed(self, field: str, kind: type, word: str, default: object) -> Any:  # noqa: ANN401 - likewise
        if not self.has(field) and default is not REQUIRED:
            return default
        value = self.take(field)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(f"expected {word}, found {_kind(value)}", field)
        return value

    def text(self, field: str, *, longest: int = 1000, default: str = REQUIRED) -> str:
        """Read a string of 1 to `longest` printable characters; it may be empty if the default is."""
        value: str = self._typed(field, str, "a string", default)
        shortest = 0 if default == "" else 1
        if value is not default and (not shortest <= len(value) <= longest or not value.isprintable()):
            self.refuse(f"expected {shortest} to {longest} printable characters", field)
        return value

    def whole(self, field: str, *, least: int = 0, most: int = _MOST, default: int = REQUIRED) -> int:
        """Read an integer between `least` and `most`."""
        value: int = self._typed(field, int, "a whole number", default)
        if value is not default and not least <= value <= most:
            self.refuse(f"expected {least} to {most}, found {value}", field)
        return value

    def number(self, field: str, *, least: float, most: float) -> float:
        """Read a number between `least` and `most`."""
        value: float = self._typed(field, int | float, "a number", REQUIRED)  # type: ignore[arg-type] # isinstance takes a union
        if not least <= value <= most:  # NaN is refused before, infinity here
            self.refuse(f"expected {least} to {most}, found {value}", field)
        return float(value)

    def flag(self, field: str, *, default: bool = REQUIRED) -> bool:
        """Read true or false."""
        value: bool = self._typed(field, bool, "true or false", default)
        return value

    def moment(self, field: str) -> datetime:
        """Read an RFC 3339 time with its offset; the result is in UTC."""
        value = self.text(field, longest=40)
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        except (ValueError, OverflowError):  # overflow: the offset leads out of the years 1 to 9999
            pass
        raise self.error(self.at(field), f"expected a time such as 2026-11-21T12:00:00Z, found {value!r}")

    def parsed(self, field: str, parse: Callable[[str], T]) -> T:
        """Read a string through `parse`, whose `NameRefused` becomes an error about this field."""
        value: str = self._typed(field, str, "a string", REQUIRED)
        try:
            return parse(value)
        except NameRefused as error:
            self.refuse(str(error), field)

    def choice(self, field: str, choices: type[E]) -> E:
        """Read one of the values of an enumeration."""
        found = self.text(field)
        for value in choices:
            if value == found:
                return value
        return self.refuse(f"{found[:40]!r}; this release knows {', '.join(choices)}", field)

    def object(self, field: str, *, default: dict[str, Any] = REQUIRED) -> Self:
        """Read an object."""
        return type(self)(self._typed(field, dict, "an object", default), self.name, self.at(field))

    def objects(self, field: str, *, most: int = _MOST, default: list[Any] = REQUIRED) -> list[Self]:
        """Read a list of at most `most` objects."""
        values: list[Any] = self._typed(field, list, "a list", default)
        if len(values) > most:
            self.refuse(f"more than {most} entries", field)
        return [type(self)(value, self.name, f"{self.at(field)}[{i}]") for i, value in enumerate(values)]

    def texts(
        self, field: str, *, most: int = _MOST, longest: int = 1000, default: tuple[str, ...] = REQUIRED
    ) -> tuple[str, ...]:
        """Read a list of at most `most` strings, each of 1 to `longest` printable characters."""
        values: list[Any] = self._typed(field, list, "a list", default)
        fine = all(isinstance(value, str) and 0 < len(value) <= longest and value.isprintable() for value in values)
        if len(values) > most or not fine:
            self.refuse(f"expected at most {most} strings of 1 to {longest} printable characters", field)
        return tuple(values)

    def numbers(self, field: str, *, most: int) -> tuple[float, ...]:
        """Read a list of at most `most` finite numbers."""
        values: list[Any] = self._typed(field, list, "a list", REQUIRED)
        if len(values) > most or not all(_is_finite_number(value) for value in values):
            self.refuse(f"expected at most {most} numbers", field)
        return tuple(float(value) for value in values)

    def strings(self, field: str, *, most: int = 100, default: dict[str, str] = REQUIRED) -> dict[str, str]:
        """Read an object whose values are all strings."""
        values: dict[str, Any] = self._typed(field, dict, "an object", default)
        if len(values) > most or not all(isinstance(value, str) for value in values.values()):
            self.refuse(f"expected at most {most} fields, all strings", field)
        return values

    def schema_version(self, *known: int) -> int:
        """Read `schema_version` and refuse any but the known ones."""
        found = self.whole("schema_version")
        if found not in known:
            self.refuse(
                f"schema_version {found}; this release reads {' and '.join(map(str, known))}: use a matching release"
            )
        return found

    def ignore(self, *fields: str) -> None:
        """Fields that are understood and change nothing here."""
        for field in fields:
            self._left.pop(self.key(field), None)

    def done(self) -> None:
        """Refuse the fields that nobody read, by name: a typo must not be silently ignored."""
        if self._left:
            names = ", ".join(repr(field[:80]) for field in sorted(self._left)[:5])
            self.refuse(f"unknown field {names}; check the spelling, or remove it")


def format_moment(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the microsecond if it has any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _is_finite_number(value: object) -> bool:
    # by comparison: an integer of hundreds of digits is valid JSON, but no float
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _kind(value: object) -> str:
    words = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
