"""The lists that a person at a terminal gets in columns; `people` has the same as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from model_repository.documents.receipts.receipt import Receipt
from model_repository.repository import CommitObject
from operator_cli.commands.builds import BuildRow
from operator_cli.commands.status import TargetStatus
from operator_cli.live import UnreadableReceipt
from operator_cli.output import people
from operator_cli.output.listing import Column, Line, Listing
from operator_cli.webhook import Said


def targets(found: Sequence[TargetStatus | CommitObject], now: datetime, said: Sequence[Said] = ()) -> Listing:
    """What is committed where, and what became of it."""
    columns = (
        Column("target", verdict=True),
        Column("outcome", verdict=True),
        Column("build"),
        Column("generation", right=True),
        Column("age", right=True, spare=True),
    )
    return Listing(columns, tuple(_target(each, now, said) for each in found))


def _target(found: TargetStatus | CommitObject, now: datetime, said: Sequence[Said]) -> Line:
    if isinstance(found, CommitObject):
        return Line((repr(found.name), "IGNORED", "", "", ""), (people.WHY_IGNORED,))
    live = found.live
    if found.denied:
        return Line((str(live.target), "DENIED", "", "", ""), (found.denied,))
    rows = people.rows_of_target(found, now, said)
    told = next(text for name, text in rows if name == "outcome")
    outcome = told.partition(":")[0]
    shown = {"commit"}
    if told == outcome:
        shown.add("outcome")
    if found.serving and found.serving.generation == live.generation and not found.serving_gone:
        shown.add("serving")
    notes = [f"{name:<12}{text}" if name else text for name, text in rows if name not in shown and text]
    if live.commit is None:
        notes.insert(0, f"{'commit':<12}{live.malformed}")
    elif live.commit.hold:
        notes.insert(0, "ON HOLD")
    build = live.commit.index_prefix.build if live.commit else "MALFORMED"
    age = people.aged(found.seconds(now))
    return Line((str(live.target), outcome, build, str(live.generation), age), tuple(notes))


def receipts(found: Sequence[Receipt | UnreadableReceipt], held: int = 0) -> Listing:
    """What became of an index's commits, newest first. held: the generation that is on hold."""
    columns = (
        Column("generation", right=True),
        Column("finished"),
        Column("outcome", verdict=True),
        Column("build"),
        Column("hold", verdict=True),
        Column("took", right=True, spare=True),
        Column("by", spare=True),
    )
    return Listing(columns, tuple(_receipt(receipt, held=receipt.generation == held) for receipt in found))


def _receipt(receipt: Receipt | UnreadableReceipt, *, held: bool) -> Line:
    if isinstance(receipt, UnreadableReceipt):
        return Line((str(receipt.generation), "", "UNREADABLE", "", "", "", ""), (receipt.why,))
    cells = (
        str(receipt.generation),
        people.dated(receipt.finished),
        receipt.outcome.value,
        receipt.index_prefix.build if receipt.index_prefix else "(unreadable commit)",
        "ON HOLD" if held else "",
        people.took(receipt),
        receipt.by or "not stated",
    )
    return Line(cells, tuple(people.notes_of_receipt(receipt)))


def builds(found: Sequence[BuildRow]) -> Listing:
    """The builds of an index, newest first."""
    columns = (
        Column("build"),
        Column("created"),
        Column("items", right=True),
        Column("size", right=True),
        Column("recall", right=True, spare=True),
        Column("live in", spare=True),
    )
    return Listing(columns, tuple(_build(row) for row in found))


def _build(row: BuildRow) -> Line:
    if row.manifest is None:
        return Line((row.prefix.build, "", "", "", "", ""), (row.why,))
    size = sum(file.size for file in row.manifest.files) / 1e6
    cells = (
        row.prefix.build,
        people.dated(row.manifest.created),
        f"{row.manifest.items:,}",
        f"{size:,.1f} MB",
        f"{row.manifest.recall.value:.3f}",
        ", ".join(row.live_in),
    )
    return Line(cells)
