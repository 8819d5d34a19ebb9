"""What a step prints, for the engine that runs it."""

from __future__ import annotations

import json

from embedding_batch.main import _counts

ARGO_KEEPS = 256 * 1024
"""Bytes of what a step prints; of more it keeps the end, which is no JSON."""


def test_a_step_prints_counts_and_words_and_no_list_that_an_engine_could_not_take() -> None:
    parts = [{"category": f"category-{number}", "model": 0, "items": 300} for number in range(9_999)]
    record = {"items": 3_000_000, "parts": len(parts), "of_parts": parts, "serving": {"generation": 1}, "seconds": 1.5}
    printed = _counts(record)
    assert printed == {"items": 3_000_000, "parts": 9_999, "seconds": 1.5}
    assert len(json.dumps(printed)) < ARGO_KEEPS < len(json.dumps(record))
