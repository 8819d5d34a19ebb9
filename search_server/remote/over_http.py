"""The Open Inference Protocol over HTTP: with tensors as bytes (the binary data extension), or in JSON."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson

from search_server.remote.inference import (
    FP32,
    LONGEST_ANSWER,
    Described,
    RemoteAway,
    RemoteModel,
    RemoteUnfit,
    Tensor,
    floats,
)

_HEAD_LENGTH: Final = "Inference-Header-Content-Length"
_ID: Final = "photo"
"""Of every request: KServe 0.21 answers 500 to one in JSON that has none."""


class OverHttp:
    """Speaks with a server at a URL. binary: tensors as bytes, which not every server takes."""

    def __init__(self, url: str, *, binary: bool, connections: int, seconds: float) -> None:
        """connections: at most. seconds: for a whole answer, the connection included."""
        self._url = url.rstrip("/")
        self._binary = binary
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=seconds),
            headers={"Accept-Encoding": "identity"},  # its numbers hardly shrink
            trust_env=False,  # a proxy of the environment's isn't for the cluster's own
            auto_decompress=False,
        )

    async def describe(self, model: RemoteModel) -> Described:
        """See `Inference`."""
        _, body = await self._ask("GET", model.path)
        said = _object(body)
        return Described(_named(said.get("inputs")), _named(said.get("outputs")))

    async def infer(self, model: RemoteModel, tensor: Tensor, output: str) -> Sequence[float]:
        """See `Inference`."""
        asked: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
        request: dict[str, Any] = {"id": _ID, "inputs": [asked], **({"outputs": [{"name": output}]} if output else {})}
        if self._binary:
            asked["parameters"] = {"binary_data_size": len(tensor.data)}
            head = orjson.dumps({**request, "parameters": {"binary_data_output": True}})
            headers = {_HEAD_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
            body = head + tensor.data
        else:
            asked["data"] = _numbers(tensor)
            body = orjson.dumps(request)
            headers = {"Content-Type": "application/json"}
        answered, said = await self._ask("POST", f"{model.path}/infer", body, headers)
        return _output(answered, said, output)

    async def close(self) -> None:
        """See `Inference`."""
        await self._session.close()

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int | None, bytes]:
        """Return the length of the answer's head, None if it has none, and the answer."""
        try:
            async with self._session.request(
                method, self._url + path, data=body, headers=headers, allow_redirects=False
            ) as answer:
                said = await _read(answer)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise RemoteAway(str(error) or "no answer in time") from None
        if answer.status != HTTPStatus.OK:
            words = f"{method} {path}: {answer.status}: {said[:300].decode(errors='replace')}"
            raise (RemoteAway if _passes(answer.status) else RemoteUnfit)(words)
        length = answer.headers.get(_HEAD_LENGTH)
        if length is None:
            return None, said
        if not (length.isdecimal() and len(length) <= len(str(LONGEST_ANSWER)) and int(length) <= len(said)):
            raise RemoteUnfit(f"{_HEAD_LENGTH} is {length[:20]!r}, of {len(said)} bytes")
        return int(length), said


def _passes(status: int) -> bool:
    """Whether another try may pass."""
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        return True
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    said = bytearray()
    async for piece in answer.content.iter_any():
        said += piece
        if len(said) > LONGEST_ANSWER:
            raise RemoteUnfit(f"answered more than {LONGEST_ANSWER} bytes")
    return bytes(said)


def _numbers(tensor: Tensor) -> Sequence[float]:
    numbers = array.array("f" if tensor.datatype == FP32 else "B", tensor.data)
    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers.tolist()


def _output(head: int | None, said: bytes, wanted: str) -> Sequence[float]:
    """The numbers of an output; raises `RemoteUnfit`."""
    outputs = _object(said[:head]).get("outputs")
    at = len(said) if head is None else head
    for output in outputs if isinstance(outputs, list) else ():
        if not isinstance(output, dict):
            break
        parameters = output.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if isinstance(size, int):
            if not 0 <= size <= len(said) - at:
                break
            data, at = said[at : at + size], at + size
        if wanted not in ("", output.get("name")):
            continue
        if output.get("datatype") != FP32:
            raise RemoteUnfit(f"answered {str(output.get('datatype'))[:20]}, not {FP32}")
        return floats(data) if isinstance(size, int) else _flat(output.get("data"))
    raise RemoteUnfit(f"answered no output {wanted!r}")


def _flat(data: object) -> list[float]:
    """Numbers as JSON has them, flat or nested; raises `RemoteUnfit`."""
    while isinstance(data, list) and len(data) == 1 and isinstance(data[0], list):
        data = data[0]
    if not isinstance(data, list) or not all(isinstance(number, float | int) for number in data):
        raise RemoteUnfit("answered an output without numbers")
    return data


def _named(tensors: object) -> tuple[tuple[str, str], ...]:
    """Name and datatype of each; none where the server doesn't say."""
    found = tensors if isinstance(tensors, list) else []
    return tuple((str(each.get("name")), str(each.get("datatype"))) for each in found if isinstance(each, dict))


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise RemoteUnfit("answered no JSON object")
    return said
