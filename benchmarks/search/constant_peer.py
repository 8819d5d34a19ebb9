"""Always the same answer, as long as a real one: what uvicorn alone takes."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from benchmarks.made_index import item_id

_NEIGHBORS = [
    {"id": item_id(number), "category": "all", "score": 0.9123456789012345, "distance": 0.4187146789012345}
    for number in range(20)
]
_BODY = orjson.dumps({"item": item_id(0), "category": "all", "generation": 1, "neighbors": _NEIGHBORS})
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"etag", b'"1-0"'),
    (b"cache-control", b"no-cache"),
    (b"content-length", b"%d" % len(_BODY)),
]


async def app(scope: object, receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Answer, as ASGI has it, whatever is asked."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
