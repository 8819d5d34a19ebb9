"""The rendered objects with Spinnaker's expressions in the places of a request's values.

The templates are rendered for two made-up requests. What comes out the same is fixed; what differs must be one of the
request's values, or a number of it plus a constant, and becomes the expression that says so. So the templates stay the
only place where the objects are described, and a template that computes something else is refused, not guessed at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifests.render import Rendered, render
from manifests.values import Values
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix, ModelPrefix, Target

_NUMBERS = ("memory_mib", "volume_mib", "deadline_seconds")
_TEXTS = ("generation", "index_prefix", "index_generation", "index_digest", "model_prefix", "model_digest")
_FARTHEST = 10_000
"""How far a number may stand from the parameter that it is computed from."""


def parameter(name: str) -> str:
    """The expression, without its braces, for a parameter of the trigger."""
    return f"trigger['parameters']['{name}']"


def render_expressions(target: Target, bucket: str, values: Values) -> Rendered:
    """The objects for every request that asks for `target`, with expressions.

    Raises `DocumentMalformed` as `render` does, and when the templates or values can't be put so.
    """
    first, second = _Probe.of(1, target, bucket), _Probe.of(2, target, bucket)
    one, other = render(first.request, values), render(second.request, values)
    merge = _Merge(first.parameters, second.parameters)
    return Rendered(
        deployment=merge.objects(one.deployment, other.deployment, f"Deployment {target.index}"),
        service=merge.objects(one.service, other.service, f"Service {target.index}"),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """A made-up request, with values that nobody else has."""

    request: DeploymentRequest
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, number: int, target: Target, bucket: str) -> _Probe:
        def digest(of: str) -> str:
            return f"sha256:{hashlib.sha256(f'{of} {number}'.encode()).hexdigest()}"

        request = DeploymentRequest(
            target=target,
            generation=910_000_000_000_000 + number,
            bucket=bucket,
            index_prefix=IndexPrefix(target.index, f"probe-build-{number}"),
            index_generation=920_000_000_000_000 + number,
            index_digest=digest("index"),
            model_prefix=ModelPrefix("probe-model", f"probe-version-{number}"),
            model_digest=digest("model"),
            footprint=Footprint(
                memory_mib=1_000_000 + number * 100_003,
                volume_mib=3_000_000 + number * 200_003,
                deadline_seconds=5_000_000 + number * 400_009,
            ),
        )
        return cls(request, request.to_parameters())


class _Merge:
    """Puts two renderings of the same templates together."""

    def __init__(self, first: Mapping[str, str], second: Mapping[str, str]) -> None:
        self._first = first
        self._second = second

    def objects(self, one: dict[str, Any], other: dict[str, Any], path: str) -> dict[str, Any]:
        if list(one) != list(other):
            raise _refused(path, "the templates write other fields for another request")
        return {key: self._any(one[key], other[key], f"{path}.{_checked(key, path)}") for key in one}

    def _any(self, one: object, other: object, path: str) -> object:
        if isinstance(one, dict) and isinstance(other, dict):
            return self.objects(one, other, path)
        if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            return [self._any(*pair, f"{path}[{n}]") for n, pair in enumerate(zip(one, other, strict=True))]
        if isinstance(one, str) and isinstance(other, str):
            return self._text(one, other, path)
        if one == other and type(one) is type(other):
            return one
        if type(one) is int and type(other) is int:
            return self._number(one, other, path)
        raise _refused(path, f"neither fixed nor computed from the request: {one!r}, {other!r}")

    def _text(self, one: str, other: str, path: str) -> str:
        if one == other:
            return _checked(one, path)
        pieces, others = _split(one, self._first), _split(other, self._second)
        if len(pieces) != len(others):
            raise _refused(path, f"differs in more than the request's values: {one!r}, {other!r}")
        if len(pieces) == 1 and one.isdigit() and one not in self._first.values():
            raise _refused(path, "a computed number that must stay text: Spinnaker would make it a number")
        return "".join(self._piece(*pair, path) for pair in zip(pieces, others, strict=True))

    def _piece(self, one: str, other: str, path: str) -> str:
        for name in (*_TEXTS, *_NUMBERS):
            if (one, other) == (self._first[name], self._second[name]):
                return f"${{{parameter(name)}}}"
        if one == other:
            return _checked(one, path)
        if one.isdigit() and other.isdigit():
            return self._number(int(one), int(other), path)
        raise _refused(path, f"differs in more than the request's values: {one!r}, {other!r}")

    def _number(self, one: int, other: int, path: str) -> str:
        for name in _NUMBERS:
            more = one - int(self._first[name])
            if more == other - int(self._second[name]) and abs(more) <= _FARTHEST:
                plus = f" {'+' if more > 0 else '-'} {abs(more)}" if more else ""
                return f"${{#toInt({parameter(name)}){plus}}}"
        raise _refused(path, f"{one} and {other} are no parameter plus a constant")


def _split(text: str, parameters: Mapping[str, str]) -> list[str]:
    known = "|".join(re.escape(parameters[name]) for name in _TEXTS)
    return [piece for piece in re.split(f"({known}|[0-9]+)", text) if piece]


def _checked(text: str, path: str) -> str:
    # There is no way to write it so that it stays: Spinnaker evaluates what an evaluation gave once more.
    if "${" in text:
        raise _refused(path, f"{text[:80]!r} would be evaluated by Spinnaker; take ${{ out of the environment's values")
    return text


def _refused(path: str, what: str) -> DocumentMalformed:
    return DocumentMalformed(f"the Spinnaker pipeline, {path}", what)
