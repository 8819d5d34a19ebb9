"""The receipt: what became of one commit. Written once, never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from model_repository.documents.receipts.canary_figures import CanaryFigures
from model_repository.fields import Fields, format_document, parse_document
from model_repository.names import IndexPrefix, Target
from model_repository.records import read, written

RECEIPT_LIMIT = 64 * 1024
"""Most bytes of a receipt."""

RECEIPT_SCHEMA = 1


class Outcome(StrEnum):
    """How a commit ended."""

    SERVED = "served"
    """It went live."""
    UNDONE = "undone"
    """Its pods did not become ready, or its canary was worse; the last good commit went on serving."""
    REJECTED = "rejected"
    """It was refused before anything was applied."""
    SUPERSEDED = "superseded"
    """A newer commit of the same index came first."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of the commit of `target` with `generation`.

    index_prefix: what it named; None if it could not be read.
    detail: one sentence for a person: for all but `served`, what is wrong and what to do.
    code: the stable code of the error (docs/errors.md), or empty.
    started: when the CD side took it up (a rejected one: when it was read). finished: when this was known.
    canary: what its canary showed; None: it had none, or one that never became ready.
    """

    target: Target
    generation: int
    outcome: Outcome
    index_prefix: IndexPrefix | None
    detail: str
    started: datetime
    finished: datetime
    code: str = ""
    by: str = ""
    reason: str = ""
    canary: CanaryFigures | None = None

    @property
    def seconds(self) -> float:
        """How long it took; nothing where two clocks, or one that was set back, say that it ended first."""
        return max((self.finished - self.started) / timedelta(seconds=1), 0.0)


def parse_receipt(data: bytes, target: Target, generation: int) -> Receipt:
    """Read a receipt that stands at `target.receipt_name(generation)`; raises `DocumentMalformed`."""
    fields = open_receipt(data, target.receipt_name(generation), target, generation)
    detail = fields.text("detail", longest=10_000, default="")
    return read(Receipt, fields, target=target, generation=generation, detail=detail)


def open_receipt(data: bytes, name: str, target: Target, generation: int, limit: int = RECEIPT_LIMIT) -> Fields:
    """Read what every such document says of where it belongs, and return the rest; raises `DocumentMalformed`."""
    fields = parse_document(data, name, limit=limit)
    fields.schema_version(RECEIPT_SCHEMA)
    stated = (fields.text("environment"), fields.text("index"), fields.whole("generation"))
    if stated != (target.environment, target.index, generation):
        fields.refuse("says it belongs elsewhere; it must stand where it says")
    return fields


def format_head(target: Target, generation: int) -> dict[str, Any]:
    """Write what every such document has first."""
    return {
        "schema_version": RECEIPT_SCHEMA,
        "environment": target.environment,
        "index": target.index,
        "generation": generation,
    }


def format_receipt(receipt: Receipt) -> bytes:
    """Write a receipt: parse(format(x)) == x."""
    said = replace(receipt, detail=printable(receipt.detail))
    return format_document(format_head(receipt.target, receipt.generation) | written(said, "target", "generation"))


def printable(text: str) -> str:
    """The text as a document may hold it: what isn't printable becomes a space, and its end is cut off."""
    return "".join(character if character.isprintable() else " " for character in text)[:10_000]
