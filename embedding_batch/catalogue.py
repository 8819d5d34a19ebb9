"""`python -m embedding_batch catalogue`: is a catalogue right, and what does the batch see in it?"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from embedding_batch.command_line.parsers import Parser
from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources import read_catalogue


def look_at_catalogue(arguments: Sequence[str]) -> dict[str, object]:
    """Read all of a catalogue; returns its counts. Opens no picture.

    Raises Misconfigured, CatalogueMalformed for the first row that is wrong or an id that stands twice, and what
    `read_catalogue` does.
    """
    options = _parser().parse_args(arguments)
    categories: Counter[str] = Counter()
    ids: set[str] = set()
    with options.write.open("w", encoding="utf-8") if options.write else contextlib.nullcontext() as file:
        for batch in read_catalogue(options.catalogue):
            for row in batch.to_pylist():
                if row["id"] in ids:
                    raise CatalogueMalformed(f"{options.catalogue}: the id {row['id']!r} stands twice")
                ids.add(row["id"])
                categories[row["category"]] += 1
                if file is not None:
                    file.write(json.dumps({name: value for name, value in row.items() if value is not None}) + "\n")
    return {"items": len(ids), "categories": dict(sorted(categories.items()))}


def _parser() -> Parser:
    parser = Parser(
        prog="python -m embedding_batch catalogue",
        description="Check a catalogue, and count its items by category. The first row that is wrong is named.",
    )
    parser.add_argument("--catalogue", required=True, help="as the batch's")
    parser.add_argument("--write", type=Path, help="a .jsonl file for what the batch sees, with pictures' whole places")
    return parser
