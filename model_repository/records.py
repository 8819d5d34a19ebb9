"""JSON objects as the frozen dataclasses that they stand for: the fields' types say how each is read and written.

A field may be text, a whole number, a number, true or false, a time, one of an enumeration, a name with a `parse` of
its own, a record, a mapping of texts, or a tuple of texts, numbers or records; `Bound` says of what size. A field that
may be None, or has a default, may be absent, and what is so is left out where it is written: parse(format(x)) == x.
A record that has a `check` is asked, once its fields are read, whether they make sense together.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache, partial
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from model_repository.fields import REQUIRED, Fields, format_moment

T = TypeVar("T")
_Reader = Callable[[Fields, str], Any]
_WORDS = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class Bound:
    """What a value of a field may be, as `Annotated` has it.

    least, most: of a number. entries: the most of a list or a mapping. longest: characters of a text, or of each.
    parse: what a text is read through; its `NameRefused` becomes an error about the field.
    """

    least: float = 0
    most: float = 2**63 - 1
    entries: int = 2**63 - 1
    longest: int = 1000
    parse: Callable[[str], Any] | None = None


Share = Annotated[float, Bound(0, 1)]
"""From 0 to 1."""


def read(kind: type[T], fields: Fields, **known: object) -> T:
    """Read what stands for a record, and refuse fields that it doesn't have; known: fields that don't stand there.

    Raises what `Fields` does.
    """
    record = read_among(kind, fields, **known)
    fields.done()
    if check := getattr(record, "check", None):
        check(fields)
    return record


def read_among(kind: type[T], fields: Fields, **known: object) -> T:
    """Read a record whose fields stand among others, which are for somebody else to read."""
    values = {name: reader(fields, name) for name, reader in _readers(cast("Any", kind)).items() if name not in known}
    return kind(**known, **values)


def written(record: Any, *known: str) -> dict[str, Any]:  # noqa: ANN401 - a dataclass of any kind
    """Write a record, as JSON has it; known: fields that stand elsewhere."""
    left = ((each, getattr(record, each.name)) for each in dataclasses.fields(record) if each.name not in known)
    return {each.name: _written(value) for each, value in left if value is not None and value != each.default}


def _written(value: Any) -> Any:  # noqa: ANN401 - JSON
    if dataclasses.is_dataclass(value) and not hasattr(value, "parse"):
        return written(value)
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime):
        return format_moment(value)
    return value if isinstance(value, _WORDS) and not isinstance(value, StrEnum) else str(value)


@cache
def _readers(kind: Any) -> dict[str, _Reader]:  # noqa: ANN401 - a dataclass
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: _reader(hints[each.name], each.default) for each in dataclasses.fields(kind)}


def _reader(hint: Any, default: object) -> _Reader:  # noqa: ANN401 - a type
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
        default = None if default is MISSING else default
    hint, bound = get_args(hint) if get_origin(hint) is Annotated else (hint, Bound())
    if hint is str and bound.parse is None:  # one that may be absent may be empty
        otherwise: Any = REQUIRED if default is MISSING else default
        return lambda fields, name: fields.text(name, longest=bound.longest, default=otherwise)
    present = _present(hint, bound)
    if default is MISSING:
        return present
    return lambda fields, name: present(fields, name) if fields.has(name) else default


def _present(hint: Any, bound: Bound) -> _Reader:  # noqa: ANN401 - a type
    parse = bound.parse or getattr(hint, "parse", None)
    if parse is not None:
        return lambda fields, name: fields.parsed(name, parse)
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint)[0], bound)
    if dataclasses.is_dataclass(hint):
        return lambda fields, name: read(cast("type[Any]", hint), fields.object(name))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return lambda fields, name: fields.choice(name, hint)
    plain: dict[Any, _Reader] = {
        int: partial(Fields.whole, least=int(bound.least), most=int(bound.most)),
        float: partial(Fields.number, least=bound.least, most=bound.most),
        bool: Fields.flag,
        datetime: Fields.moment,
        Mapping[str, str]: partial(Fields.strings, most=bound.entries),
    }
    return plain[hint]


def _tuple(hint: Any, bound: Bound) -> _Reader:  # noqa: ANN401 - a type
    if hint is str:
        return partial(Fields.texts, most=bound.entries, longest=bound.longest)
    if hint is float:
        return partial(Fields.numbers, most=bound.entries)
    return lambda fields, name: tuple(read(hint, each) for each in fields.objects(name, most=bound.entries))
