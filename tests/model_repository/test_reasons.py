"""Why a server didn't answer is said in a few words, whatever stands between."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from model_repository.errors import reason_of


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """One that answers a request with these bytes and hangs up; None: it never answers. Its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            caller, _ = listening.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        if answer is not None:
            thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        if answer is not None:
            thread.join()


def reason(url: str) -> str:
    with pytest.raises(requests.RequestException) as caught:
        requests.get(url, timeout=(5, 0.2 if "silent" in url else 5)).json()
    return reason_of(caught.value)


def test_a_reason_is_the_machine_s_own_and_no_layer_s_of_a_client() -> None:
    assert reason("http://127.0.0.1:1/") == "Connection refused"  # nothing listens on port 1
    with server(b"") as address:
        assert reason(f"http://{address}/") == "Remote end closed connection without response"
    with server(None) as address:
        assert reason(f"http://{address}/silent") == "timed out"
    with server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello") as address:
        assert reason(f"http://{address}/") == "Expecting value: line 1 column 1 (char 0)"


def test_what_was_handled_before_is_no_reason() -> None:
    try:
        int("somebody else's fault")
    except ValueError:
        assert reason("http://127.0.0.1:1/") == "Connection refused"


def test_an_error_without_words_says_what_it_is() -> None:
    class Silent(Exception):
        pass

    assert (reason_of(Silent()), reason_of(TimeoutError())) == ("Silent", "TimeoutError")
