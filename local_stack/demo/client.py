"""A client that asks without pause, as callers do while an index is replaced."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.002  # two cores also embed, pull and prove meanwhile


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the client saw.

    generations: those that answered, in the order of their first answer. mixed: answers whose header and body name
    different generations.
    """

    requests: int
    failures: tuple[str, ...]
    generations: tuple[int, ...]
    mixed: int


class Client:
    """Asks for similar items over kept-alive connections, from entering the context until leaving it.

    A connection is left when the server says ``Connection: close``, as every HTTP client does; any other lost request
    counts as failed and is not tried again.
    """

    def __init__(self, url: str, items: Sequence[str], *, connections: int = 2) -> None:
        """Ask the server at `url` about `items` in turn."""
        self._address = urlsplit(url).netloc
        self._items = items
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._requests = 0
        self._mixed = 0
        self._failures: list[str] = []
        self._generations: dict[int, None] = {}
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(connections)]

    def __enter__(self) -> Self:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def traffic(self) -> Traffic:
        """What was seen so far."""
        with self._lock:
            return Traffic(self._requests, tuple(self._failures), tuple(self._generations), self._mixed)

    def wait_for(self, generation: int, timeout: float) -> bool:
        """Wait until `generation` has answered a request."""
        clock = threading.Event()
        for _ in range(int(timeout / 0.02)):
            with self._lock:
                if generation in self._generations:
                    return True
            clock.wait(0.02)
        return False

    def _ask(self, start: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=_PATIENCE_SECONDS)
        for item in itertools.cycle((*self._items[start:], *self._items[:start])):
            if self._stop.wait(_PAUSE_SECONDS):
                break
            self._ask_once(connection, item)
        connection.close()

    def _ask_once(self, connection: http.client.HTTPConnection, item: str) -> None:
        try:
            connection.request("GET", f"/v1/items/{quote(item, safe='')}/similar?k=5")
            answer = connection.getresponse()
            body = json.loads(answer.read())
            failure = None if answer.status == http.HTTPStatus.OK else f"{item}: {answer.status} {body}"
            named = answer.headers.get("x-indexpush-generation", "")
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            failure, body, named = f"{item}: {error!r}", {}, ""
        with self._lock:
            self._requests += 1
            if failure:
                self._failures.append(failure)
            else:
                self._generations.setdefault(int(body["generation"]))
                self._mixed += named != str(body["generation"])
