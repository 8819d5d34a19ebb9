"""The board behind Identity-Aware Proxy: whoever Google names makes a change, and nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth import crypt, jwt

from operator_cli.board.identity import Iap
from tests.operator_cli.board_scene import Running, running, shop
from tests.operator_cli.conftest import Operator

AUDIENCE = "/projects/1/global/backendServices/2"


class Google:
    """Signs as IAP does, with keys of its own. fetched: how often they were asked for."""

    def __init__(self) -> None:
        self.fetched = 0
        self._keys = {"one": ec.generate_private_key(ec.SECP256R1())}

    def __call__(self, url: str, **_: Any) -> Any:
        assert url == "https://www.gstatic.com/iap/verify/public_key"
        self.fetched += 1
        keys = {
            name: key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
            for name, key in self._keys.items()
        }
        return SimpleNamespace(status=200, data=json.dumps(keys).encode())

    def assertion(self, *, key: str = "one", stranger: bool = False, age: int = 0, **claims: Any) -> str:
        now = int(time.time()) - age
        private = ec.generate_private_key(ec.SECP256R1()) if stranger else self._keys["one"]
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        said = {
            "iss": "https://cloud.google.com/iap",
            "aud": AUDIENCE,
            "email": "ada@example.com",
            "sub": "accounts.google.com:1",
            "iat": now,
            "exp": now + 600,
        }
        signer = crypt.EsSigner.from_string(pem, key)
        return bytes(jwt.encode(signer, said | claims)).decode()  # type: ignore[no-untyped-call]


@pytest.fixture
def google() -> Google:
    return Google()


@pytest.fixture
def behind_iap(operator: Operator, google: Google) -> Iterator[Running]:
    shop(operator)
    with running(operator, Iap(AUDIENCE, google), hosts=()) as board:
        yield board


def asserted(operator: Operator, board: Running, assertion: str) -> httpx.Response:
    body = {"environment": "production", "index": "clothing", "action": "redeploy", "reason": "x"}
    body |= {"seen": str(operator.generation())}
    headers = {"origin": board.url, "x-goog-iap-jwt-assertion": assertion}
    return board.client.post("/api/changes", json=body, headers=headers)


def test_behind_iap_a_change_is_made_as_the_person_whom_google_names(
    operator: Operator, behind_iap: Running, google: Google
) -> None:
    for _ in range(3):
        assert asserted(operator, behind_iap, google.assertion()).status_code == 200
    assert operator.live()["by"] == "ada@example.com"
    assert google.fetched == 1


def test_an_assertion_that_is_not_googles_changes_nothing(
    operator: Operator, behind_iap: Running, google: Google
) -> None:
    seen = str(operator.generation())
    unsigned = ".".join(google.assertion().split(".")[:2]) + "."
    for bad in (
        "",
        "nonsense",
        "a.b.c",
        unsigned,
        google.assertion(stranger=True),
        google.assertion(key="two"),
        google.assertion(age=3600),
        google.assertion(aud="/projects/1/global/backendServices/3"),
        google.assertion(iss="https://accounts.google.com"),
        google.assertion(email=""),
    ):
        answer = asserted(operator, behind_iap, bad)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "sign-in-needed"), bad
    assert str(operator.generation()) == seen
    assert google.fetched <= 2  # keys that nobody knows aren't looked for again and again


def test_an_expired_sign_in_says_to_reload(operator: Operator, behind_iap: Running, google: Google) -> None:
    message = asserted(operator, behind_iap, google.assertion(age=3600)).json()["error"]["message"]
    assert "reload the page" in message
