"""Strict reading of Kubernetes objects: a field that isn't understood is refused by its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from model_repository.errors import PermanentError


class ManifestRefused(PermanentError):
    """A manifest has a field, or a value, that this cluster doesn't understand. field: its path."""

    code = "manifest-refused"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


_NO_DEFAULT: Any = object()


class Fields:
    """One object of a manifest, whose fields are taken one by one; `done` refuses what is left over."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise ManifestRefused(path or "the manifest", "expected an object")
        self.path = path
        # As for Kubernetes, null is the same as absent.
        self._left: dict[str, Any] = {str(name): inner for name, inner in value.items() if inner is not None}

    def text(self, name: str, default: str = _NO_DEFAULT) -> str:
        """A string."""
        value: str = self._take(name, default)
        if not isinstance(value, str):
            self.refuse(name, "expected a string")
        return value

    def whole(self, name: str, default: int = _NO_DEFAULT, *, least: int = 0) -> int:
        """A whole number that is at least `least`."""
        value = self._take(name, default)
        if type(value) is not int or value < least:
            self.refuse(name, f"expected a whole number, at least {least}")
        return int(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean."""
        value = self._take(name, default)
        if type(value) is not bool:
            self.refuse(name, "expected true or false")
        return bool(value)

    def anything(self, name: str, default: object) -> object:
        """The value as it is."""
        value: object = self._take(name, default)
        return value

    def inner(self, name: str) -> Fields:
        """An object; without fields if it is absent."""
        return Fields(self._take(name, {}), self.at(name))

    def maybe_inner(self, name: str) -> Fields | None:
        """An object, or None if it is absent."""
        return self.inner(name) if self.has(name) else None

    def inners(self, name: str) -> list[Fields]:
        """A list of objects; none if it is absent."""
        return [Fields(item, f"{self.at(name)}[{position}]") for position, item in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; none if it is absent."""
        items = self._list(name)
        for position, item in enumerate(items):
            if not isinstance(item, str):
                self.refuse(f"{name}[{position}]", "expected a string")
        return tuple(items)

    def strings(self, name: str) -> dict[str, str]:
        """An object whose values are strings, such as labels; empty if it is absent."""
        value = self._take(name, {})
        if not isinstance(value, Mapping):
            self.refuse(name, "expected an object")
        for key, inner in value.items():
            if not isinstance(key, str) or not isinstance(inner, str):
                self.refuse(f"{name}.{key}", "expected a string")
        return dict(value)

    def only(self, name: str, *allowed: object) -> None:
        """A field that may be absent, or have one of these values: this cluster can do nothing else."""
        if self.has(name) and (value := self._left.pop(name)) not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            self.refuse(name, f"{str(value)[:80]!r} isn't understood by the local cluster; only {choices}")

    def without_effect(self, *names: str) -> None:
        """Fields that are understood and change nothing on one machine."""
        for name in names:
            self._left.pop(name, None)

    def has(self, name: str) -> bool:
        """Whether the field is there and was not taken yet."""
        return name in self._left

    def done(self) -> None:
        """Refuse the first field that nobody took."""
        for name in self._left:
            self.refuse(name, "isn't understood by the local cluster")

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise `ManifestRefused` about a field of this object."""
        raise ManifestRefused(self.at(name), why)

    def _take(self, name: str, default: object) -> Any:  # noqa: ANN401 - the caller checks the type
        if name in self._left:
            return self._left.pop(name)
        if default is _NO_DEFAULT:
            self.refuse(name, "is missing")
        return default

    def _list(self, name: str) -> list[Any]:
        value = self._take(name, [])
        if not isinstance(value, list):
            self.refuse(name, "expected a list")
        return list(value)
