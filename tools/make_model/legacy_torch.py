"""Read the tensors of a legacy `torch.save` stream (before PyTorch 1.6) with numpy alone.

The stream is a pickle that names classes to build. The unpickler here builds none but the few below, all of them inert,
so no code from a file can run; and PyTorch, forty times the size of the weights, isn't needed.
"""

from __future__ import annotations

import collections
import pickle
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC: Final = 0x1950A86A20F9469CFC6C
PROTOCOL: Final = 1001

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
}


class NotALegacyStream(Exception):
    """The file is not a legacy torch.save stream of plain tensors."""


class _Storage(NamedTuple):
    """A run of numbers that tensors look into; its bytes come later in the file."""

    key: str
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    """A view of a storage, as the stream has it; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(*arguments: Any) -> _Tensor:  # noqa: ANN401 - what a file says
    return _Tensor(*arguments[:4])


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that knows an ordered dict of tensors and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the type that pickle.Unpickler has
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in DTYPES:
            return name
        raise NotALegacyStream(f"the stream asks for {module}.{name}, which a file of plain tensors doesn't need")

    def persistent_load(self, pid: Any) -> _Storage:  # noqa: ANN401 - the type that pickle.Unpickler has
        match pid:
            case ("storage", str(name), str(key), *_) if name in DTYPES:
                return _Storage(key, DTYPES[name])
        raise NotALegacyStream(f"the stream asks for {pid!r}, which is no storage of plain numbers")


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors by name, in the file's order, with the dtypes they were saved in.

    Raises NotALegacyStream for anything but an ordered dict of plain tensors, OSError when the file can't be read.
    """
    with path.open("rb") as stream:
        try:
            if _TensorsOnly(stream).load() != MAGIC or _TensorsOnly(stream).load() != PROTOCOL:
                raise NotALegacyStream(f"{path} is not a legacy torch.save stream")
            _TensorsOnly(stream).load()  # the sizes of C types on the machine that wrote it
            tensors: dict[str, _Tensor] = _TensorsOnly(stream).load()
            keys: list[str] = _TensorsOnly(stream).load()
            dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
            numbers = {key: _read_storage(stream, dtypes[key]) for key in keys}
        except (
            pickle.UnpicklingError,
            struct.error,
            EOFError,
            KeyError,
            AttributeError,
            TypeError,
            ValueError,
        ) as error:
            raise NotALegacyStream(f"{path} is damaged, or not a legacy torch.save stream: {error}") from error
    return {name: _view(tensor, numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_storage(stream: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    (count,) = struct.unpack("<q", stream.read(8))
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype, count=count)


def _view(tensor: _Tensor, numbers: NDArray[Any]) -> NDArray[Any]:
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if min((tensor.offset, last, *tensor.shape, *tensor.strides, 0)) < 0 or last >= numbers.size:
        raise NotALegacyStream(f"a tensor of shape {tensor.shape} looks outside its {numbers.size} numbers")
    strides = [step * numbers.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()
