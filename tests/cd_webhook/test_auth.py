"""Who may call."""

from __future__ import annotations

from typing import Any

import pytest
from google.auth import exceptions as google_errors

from cd_webhook.auth import KeysUnavailable, NotAllowed, Unauthenticated, bearer_check, google_check


def bearer(token: str) -> str:
    return f"Bearer {token}"


@pytest.mark.parametrize("header", ["", "secret", "Basic secret", "Bearer", "Bearer  ", "Bearer Secret"])
def test_only_the_very_token_gets_in(header: str) -> None:
    with pytest.raises(Unauthenticated):
        bearer_check("secret")(header)
    bearer_check("secret")("bearer secret")


def claims(**changes: Any) -> Any:
    def verify(token: str) -> dict[str, Any]:
        assert token == "t"
        return {"email": "function@acme", "email_verified": True, **changes}

    return verify


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
