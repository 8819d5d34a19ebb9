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

_NAMED = 3


def look_at_catalogue(arguments: Sequence[str]) -> dict[str, object]:
    """Read all of a catalogue; returns its counts, and which files it names that aren't there. Opens no picture.

    Raises Misconfigured, CatalogueMalformed for the first row that is wrong or an id that stands twice, and what
    `read_catalogue` does.
    """
    options = _parser().parse_args(arguments)
    categories: Counter[str] = Counter()
    ids: set[str] = set()
    missing: list[str] = []
    with options.write.open("w", encoding="utf-8") if options.write else contextlib.nullcontext() as file:
        for batch in read_catalogue(options.catalogue):
            for row in batch.to_pylist():
                if row["id"] in ids:
                    raise CatalogueMalformed(f"{options.catalogue}: the id {row['id']!r} stands twice")
                ids.add(row["id"])
                categories[row["category"]] += 1
                if row["picture"].startswith("/") and not Path(row["picture"]).is_file():
                    missing.append(row["picture"])
                if file is not None:
                    file.write(json.dumps({name: value for name, value in row.items() if value is not None}) + "\n")
    found: dict[str, object] = {"items": len(ids), "categories": dict(sorted(categories.items()))}
    return found | ({"pictures_missing": len(missing), "first": missing[:_NAMED]} if missing else {})


def _parser() -> Parser:
    parser = Parser(
        prog="python -m embedding_batch catalogue",
        description="Check a catalogue, and count its items by category. The first row that is wrong is named.",
    )
    parser.add_argument("--catalogue", required=True, help="as the batch's")
    parser.add_argument("--write", type=Path, help="a .jsonl file for what the batch sees, with pictures' whole places")
    return parser
