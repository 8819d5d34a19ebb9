"""A proxy of the shell that starts the local stack doesn't stand between its parts."""

from __future__ import annotations

import os
import urllib.error
import urllib.request

import pytest
import requests

from local_stack.processes import spare_loopback
from tests.answering import Answer, http_server


def test_what_is_on_this_machine_is_asked_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "example.org")
    with http_server(lambda _: Answer(status=204)) as url:
        with pytest.raises(urllib.error.URLError):
            urllib.request.build_opener().open(url, timeout=10)
        spare_loopback()
        spare_loopback()
        with urllib.request.build_opener().open(url, timeout=10) as answer:
            assert answer.status == 204
        assert requests.get(url, timeout=10).status_code == 204
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1"
