"""`indexpush board`: the server as a person starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from model_repository.bucket.gcs_store import GcsStore
from tests import plain_http
from tests.operator_cli.board_scene import events
from tests.operator_cli.conftest import Operator


def test_the_command_serves_what_stands_in_a_real_bucket_until_it_is_interrupted(
    new_bucket: Callable[[], str], bucket_server: str
) -> None:
    bucket = new_bucket()
    operator = Operator(store=GcsStore(bucket))
    operator.commit(operator.build("b1"))
    environment = {**os.environ, "MODEL_REPOSITORY": f"gs://{bucket}", "STORAGE_EMULATOR_HOST": bucket_server}
    command = [
        sys.executable,
        "-c",
        "from operator_cli.main import main; raise SystemExit(main())",
        "board",
        "--by",
        "eve@example.com",
    ]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with plain_http.Client(timeout=60, follow_redirects=True) as client:
            assert client.get(address).status_code == 200
            with client.stream("GET", str(httpx.URL(address).join("/api/events"))) as answer:
                (row,) = next(events(answer))["rows"].values()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert (row["index"], row["state"], row["commit"]["by"]) == ("clothing", "waiting", "batch")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "other machines need a sign-in"),
        (["--sign-in", "iap"], "say --audience"),
        (["--audience", "/projects/1/global/backendServices/2"], "--audience is for"),
        (["--port", "65536"], "no port"),
        (["--freshness", "0"], "no number"),
    ],
)
def test_options_that_do_not_fit_are_refused(operator: Operator, options: list[str], words: str) -> None:
    said = operator("board", *options)
    assert (said.code, words in said.err) == (64, True), said.err


def test_a_port_that_is_taken_is_named_before_the_bucket_is_asked(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator.store, "listing", pytest.fail)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = operator("board", "--port", str(taken.getsockname()[1]))
    assert (said.code, "name another" in said.err) == (64, True)
