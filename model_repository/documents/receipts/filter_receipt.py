"""The receipt of a filter: what became of it. Written once, never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from model_repository.documents.receipts.receipt import format_head, open_receipt, printable
from model_repository.fields import format_document
from model_repository.names import Target
from model_repository.records import read, written


class FilterOutcome(StrEnum):
    """How a filter ended."""

    APPLIED = "applied"
    """Every pod that serves hides what it names."""
    REJECTED = "rejected"
    """It can't be read, or its data can't: the one before goes on."""
    SUPERSEDED = "superseded"
    """A newer one of the same index came first."""


@dataclass(frozen=True, slots=True)
class FilterReceipt:
    """What became of the filter of `target` with `generation`.

    hidden: items that it hides; 0 if it couldn't be read. pods: that confirmed it.
    detail: one sentence for a person: for all but `applied`, what is wrong and what to do.
    started: when it was taken up. finished: when this was known.
    """

    target: Target
    generation: int
    outcome: FilterOutcome
    hidden: int
    pods: int
    detail: str
    started: datetime
    finished: datetime
    code: str = ""
    by: str = ""
    reason: str = ""


def parse_filter_receipt(data: bytes, target: Target, generation: int) -> FilterReceipt:
    """Read a receipt that stands at `target.filter_receipt_name(generation)`; raises `DocumentMalformed`."""
    fields = open_receipt(data, target.filter_receipt_name(generation), target, generation)
    detail = fields.text("detail", longest=10_000, default="")
    return read(FilterReceipt, fields, target=target, generation=generation, detail=detail)


def format_filter_receipt(receipt: FilterReceipt) -> bytes:
    """Write a receipt: parse(format(x)) == x."""
    said = replace(receipt, detail=printable(receipt.detail))
    return format_document(format_head(receipt.target, receipt.generation) | written(said, "target", "generation"))
