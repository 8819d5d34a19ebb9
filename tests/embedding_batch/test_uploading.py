"""What a manifest says of a file."""

from __future__ import annotations

from pathlib import Path
from random import Random

import google_crc32c
import pytest

from embedding_batch.steps.publish.uploading import describe
from model_repository.digests import format_crc32c
from model_repository.documents.files import BLOCK_BYTES

LONG = Random(7).randbytes(BLOCK_BYTES + 5)


def crc32c(data: bytes) -> str:
    return format_crc32c(google_crc32c.value(data))


@pytest.mark.parametrize(
    ("data", "blocks"),
    [
        (b"", ()),
        (LONG[:BLOCK_BYTES], ()),
        (LONG, (crc32c(LONG[:BLOCK_BYTES]), crc32c(LONG[BLOCK_BYTES:]))),
    ],
    ids=["empty", "one block", "longer"],
)
def test_a_long_file_has_a_sum_for_each_block(data: bytes, blocks: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    (described,) = describe({"a.ann": path})
    assert (described,) == describe({"a.ann": data})
    assert (described.size, described.crc32c, described.blocks) == (len(data), crc32c(data), blocks)
