"""Who may call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from google.auth import exceptions as google_errors

from cd_webhook.config import Config
from cd_webhook.http.auth import (
    KeysUnavailable,
    NotAllowed,
    Unauthenticated,
    bearer_check,
    google_check,
    make_checks,
)
from model_repository.programs.identity_tokens import verify_for

AUDIENCE = "https://webhook.example"
CALLER = "function@acme.iam.gserviceaccount.com"


def bearer(token: str) -> str:
    return f"Bearer {token}"


@pytest.mark.parametrize("header", ["", "secret", "Basic secret", "Bearer", "Bearer  ", "Bearer Secret"])
def test_only_the_very_token_gets_in(header: str) -> None:
    with pytest.raises(Unauthenticated):
        bearer_check("secret")(header)
    bearer_check("secret")("bearer secret")


def test_while_a_token_is_replaced_both_get_in_and_the_log_can_say_which() -> None:
    check = bearer_check("new-secret", "old-secret")
    assert check(bearer("new-secret")) == "WEBHOOK_TOKEN"
    assert check(bearer("old-secret")) == "WEBHOOK_TOKEN_PREVIOUS"
    with pytest.raises(Unauthenticated):
        check(bearer("older-secret"))


def test_both_tokens_are_compared_whatever_the_first_said(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    bearer_check("new-secret", "old-secret")(bearer("new-secret"))
    assert compared == [b"new-secret", b"old-secret"]


class Google:
    """Signs identity tokens, and publishes the keys for them as Google does."""

    def __init__(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._signer = crypt.RSASigner.from_string(key.private_bytes(*form), "k1")  # type: ignore[no-untyped-call]
        self.asked = 0
        self.status = 200

    def token(self, *, begins: float = 0, ends: float = 3600, **changes: Any) -> str:
        """A token. begins, ends: seconds from now."""
        now = time.time()
        payload = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "email": CALLER,
            "email_verified": True,
            "iat": int(now + begins),
            "exp": int(now + ends),
        }
        signed: bytes = jwt.encode(self._signer, payload | changes)  # type: ignore[no-untyped-call]
        return signed.decode()

    def __call__(self, url: str, **_: Any) -> Any:
        assert url.startswith("https://www.googleapis.com/")
        self.asked += 1
        return SimpleNamespace(status=self.status, data=json.dumps({"k1": self._certificate}).encode())


@pytest.fixture(scope="module")
def google() -> Google:
    return Google()


def identity_check(google: Google, clock: Callable[[], float] = time.monotonic) -> Callable[[str], str]:
    return google_check(verify_for(AUDIENCE, google, clock=clock), frozenset({CALLER}))


@pytest.mark.parametrize("times", [(0, 3600), (5, 3600), (-3600, -5)])
def test_an_identity_token_gets_in_although_the_clocks_are_seconds_apart(
    google: Google, times: tuple[float, float]
) -> None:
    begins, ends = times
    assert identity_check(google)(bearer(google.token(begins=begins, ends=ends))) == CALLER


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"begins": 60}, "too early"),
        ({"begins": -3600, "ends": -60}, "expired"),
        ({"aud": "https://other.example"}, "audience"),
        ({"iss": "https://evil.example"}, "issuer"),
    ],
)
def test_any_other_identity_token_is_refused(google: Google, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Unauthenticated, match=complaint):
        identity_check(google)(bearer(google.token(**change)))


def test_a_token_that_another_signed_is_refused(google: Google) -> None:
    with pytest.raises(Unauthenticated, match="signature"):
        identity_check(google)(bearer(Google().token()))


def test_strangers_can_not_make_the_webhook_ask_for_keys_again_and_again() -> None:
    google, now = Google(), [0.0]
    check = identity_check(google, lambda: now[0])
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            check(bearer("no.such.token"))
    assert google.asked == 1
    now[0] += 301
    google.status = 503
    for _ in range(2):  # what wasn't fetched isn't kept
        with pytest.raises(KeysUnavailable):
            check(bearer(google.token()))
    google.status = 200
    assert check(bearer(google.token())) == CALLER


def claims(**changes: Any) -> Any:
    def verify(token: str) -> dict[str, Any]:
        assert token == "t"
        return {"email": "function@acme", "email_verified": True, **changes}

    return verify


def test_a_reader_may_look_and_a_caller_may_do_both() -> None:
    google = {"WEBHOOK_AUTH": "google-id-token", "WEBHOOK_AUDIENCE": AUDIENCE, "WEBHOOK_CALLERS": "function@acme"}
    config = Config.from_environment(
        {"ENVIRONMENT": "test", "MODEL_REPOSITORY": "gs://acme"} | google | {"WEBHOOK_READERS": "board@acme, ada@acme"}
    )
    checks = make_checks(config, lambda _: {"email": "board@acme", "email_verified": True})
    assert checks.look(bearer("t")) == "board@acme"
    with pytest.raises(NotAllowed, match="WEBHOOK_READERS if it is only to look"):
        checks.call(bearer("t"))
    checks = make_checks(config, claims())
    assert checks.look(bearer("t")) == checks.call(bearer("t")) == "function@acme"


def test_a_service_account_that_may_call_gets_in() -> None:
    assert google_check(claims(), frozenset({"function@acme"}))(bearer("t")) == "function@acme"


@pytest.mark.parametrize("change", [{"email": "other@acme"}, {"email_verified": False}, {"email": None}])
def test_any_other_does_not(change: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed):
        google_check(claims(**change), frozenset({"function@acme"}))(bearer("t"))


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (ValueError("Token expired"), Unauthenticated),
        (google_errors.InvalidValue("wrong audience"), Unauthenticated),  # type: ignore[no-untyped-call]
        (google_errors.TransportError("no network"), KeysUnavailable),  # type: ignore[no-untyped-call]
    ],
)
def test_a_bad_token_and_missing_keys_are_told_apart(error: Exception, family: type[Exception]) -> None:
    def verify(_: str) -> dict[str, Any]:
        raise error

    with pytest.raises(family):
        google_check(verify, frozenset())(bearer("t"))
