"""What a batch installs, with a CUDA device and without."""

from __future__ import annotations

import re
from pathlib import Path

_LOCKS = Path(__file__).parents[2] / "requirements"


def _pins(lock: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^([a-z0-9-]+)==(\S+)", (_LOCKS / lock).read_text(), re.MULTILINE))


def test_with_a_device_only_the_runtime_and_its_libraries_are_others() -> None:
    without, device = _pins("embedding_batch.txt"), _pins("embedding_batch_cuda.txt")
    (gone,) = without - device
    new = {(name, version) for name, version in device - without if not name.startswith("nvidia-")}
    # Both are the one Python package onnxruntime: side by side, the later installed one would overwrite the other.
    assert gone[0] == "onnxruntime"
    assert new == {("onnxruntime-gpu", gone[1])}
