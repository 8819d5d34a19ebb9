"""Strict reading of JSON documents that anyone may have written.

A typo must not be silently ignored, and hostile input must end in a clear error: duplicate keys, NaN, unknown or
missing fields, wrong types, and sizes or depths out of bounds are refused by name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from model_repository.errors import DocumentMalformed, NameRefused

T = TypeVar("T")

_LARGEST = sys.float_info.max


def parse_document(data: bytes, name: str, *, limit: int) -> Document:
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
    return Document(value, name, "")


def format_document(value: dict[str, Any]) -> bytes:
    """Write a JSON object for people and programs: indented, in the given order, a newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


class Document:
    """One JSON object being read field by field; `done` refuses what nobody asked for."""

    def __init__(self, value: object, name: str, path: str) -> None:
        """Read `value`, found at `path` (empty: the top) of the document at `name`."""
        self._name = name
        self._path = path
        if not isinstance(value, dict):
            self.refuse(f"expected an object, found {_kind(value)}")
        self._fields: dict[str, Any] = dict(value)

    def refuse(self, what: str) -> NoReturn:
        """Raise `DocumentMalformed` about this place in the document."""
        raise DocumentMalformed(self._name, f"{self._path}: {what}" if self._path else what)

    def _at(self, field: str) -> str:
        return f"{self._path}.{field}" if self._path else field

    def _take(self, field: str, kind: type, word: str) -> Any:  # noqa: ANN401 - the callers' types are exact
        if field not in self._fields:
            self.refuse(f"field {field!r} is missing")
        value = self._fields.pop(field)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise DocumentMalformed(self._name, f"{self._at(field)}: expected {word}, found {_kind(value)}")
        return value

    def has(self, field: str) -> bool:
        """Whether the field is there and not yet read."""
        return field in self._fields

    def text(self, field: str, *, longest: int = 1000, default: str | None = None) -> str:
        """Read a string of 1 to `longest` printable characters; `default` (may be empty) stands for a missing field."""
        if default is not None and field not in self._fields:
            return default
        value: str = self._take(field, str, "a string")
        shortest = 0 if default == "" else 1
        if not shortest <= len(value) <= longest or not value.isprintable():
            raise DocumentMalformed(
                self._name, f"{self._at(field)}: expected {shortest} to {longest} printable characters"
            )
        return value

    def whole(self, field: str, *, least: int = 0, most: int = 2**63 - 1) -> int:
        """Read an integer between `least` and `most`."""
        value: int = self._take(field, int, "a whole number")
        if not least <= value <= most:
            raise DocumentMalformed(self._name, f"{self._at(field)}: expected {least} to {most}, found {value}")
        return value

    def number(self, field: str, *, least: float, most: float) -> float:
        """Read a number between `least` and `most`."""
        value: float = self._take(field, int | float, "a number")  # type: ignore[arg-type] # isinstance takes a union
        if not least <= value <= most:  # NaN is refused before, infinity here
            raise DocumentMalformed(self._name, f"{self._at(field)}: expected {least} to {most}, found {value}")
        return float(value)

    def flag(self, field: str, *, default: bool) -> bool:
        """Read true or false."""
        if field not in self._fields:
            return default
        value: bool = self._take(field, bool, "true or false")
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
        raise DocumentMalformed(
            self._name, f"{self._at(field)}: expected a time such as 2026-11-21T12:00:00Z, found {value!r}"
        )

    def parsed(self, field: str, parse: Callable[[str], T]) -> T:
        """Read a string through `parse`, whose `NameRefused` becomes an error about this field."""
        value: str = self._take(field, str, "a string")
        try:
            return parse(value)
        except NameRefused as error:
            raise DocumentMalformed(self._name, f"{self._at(field)}: {error}") from None

    def objects(self, field: str, *, most: int) -> list[Document]:
        """Read a list of at most `most` objects."""
        values: list[Any] = self._take(field, list, "a list")
        if len(values) > most:
            raise DocumentMalformed(self._name, f"{self._at(field)}: more than {most} entries")
        return [Document(value, self._name, f"{self._at(field)}[{i}]") for i, value in enumerate(values)]

    def object(self, field: str) -> Document:
        """Read an object."""
        return Document(self._take(field, dict, "an object"), self._name, self._at(field))

    def texts(self, field: str, *, most: int, longest: int = 1000) -> tuple[str, ...]:
        """Read a list of at most `most` strings, each of 1 to `longest` printable characters."""
        values: list[Any] = self._take(field, list, "a list")
        fine = all(isinstance(value, str) and 0 < len(value) <= longest and value.isprintable() for value in values)
        if len(values) > most or not fine:
            raise DocumentMalformed(
                self._name, f"{self._at(field)}: expected at most {most} strings of 1 to {longest} printable characters"
            )
        return tuple(values)

    def numbers(self, field: str, *, most: int) -> tuple[float, ...]:
        """Read a list of at most `most` finite numbers."""
        values: list[Any] = self._take(field, list, "a list")
        if len(values) > most or not all(_is_finite_number(value) for value in values):
            raise DocumentMalformed(self._name, f"{self._at(field)}: expected at most {most} numbers")
        return tuple(float(value) for value in values)

    def strings(self, field: str, *, most: int = 100) -> dict[str, str]:
        """Read an object whose values are all strings."""
        values: dict[str, Any] = self._take(field, dict, "an object")
        if len(values) > most or not all(isinstance(value, str) for value in values.values()):
            raise DocumentMalformed(self._name, f"{self._at(field)}: expected at most {most} fields, all strings")
        return values

    def schema_version(self, expected: int) -> None:
        """Read `schema_version` and refuse any but the expected one."""
        found = self.whole("schema_version")
        if found != expected:
            self.refuse(f"schema_version {found}; this release reads {expected}: use a matching release")

    def done(self) -> None:
        """Refuse the fields that nobody read, by name: a typo must not be silently ignored."""
        if self._fields:
            names = ", ".join(repr(field[:80]) for field in sorted(self._fields)[:5])
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
