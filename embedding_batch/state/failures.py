"""Why a step of a run stopped: it leaves that in the bucket, for the report of a run whose steps are processes apart.

What a step left counts until it is done. Nothing is left of one that was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from embedding_batch.errors import said_of
from embedding_batch.state.folder import RunFolder, read_record
from model_repository.fields import format_document


@contextmanager
def noting(folder: RunFolder, step: str, number: int | None = None) -> Iterator[None]:
    """Leave why the step stopped, if the block raises; what it raises goes on, whether or not that can be written."""
    try:
        yield
    except Exception as error:
        said = {"step": step, "number": number, **describe(error)}
        name = step if number is None else f"{step}-{number:05}"
        with suppress(Exception):  # the bucket itself may be what stopped it
            folder.store.write(f"{_noted(folder)}{name}.json", format_document(said), if_generation_match=None)
        raise


def failures(folder: RunFolder) -> list[dict[str, Any]]:
    """What the last try of each step left that didn't end well: step, number, code and message."""
    names = [info.name for info in folder.store.listing(_noted(folder)) if info.name.endswith(".json")]
    return [read_record(folder.store, name) for name in names]


def describe(error: Exception) -> dict[str, str]:
    """The code and the message of what stopped the batch; bytes of a file's name that are no text come out as such."""
    said = said_of(error)
    return {"code": said.code, "message": str(said).encode(errors="backslashreplace").decode()}


def _noted(folder: RunFolder) -> str:
    return f"{folder}/failed/"
