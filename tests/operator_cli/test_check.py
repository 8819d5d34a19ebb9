"""`indexpush check`: an installation that is well has nothing to mend, and what can't be looked at is said."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from google.auth.exceptions import DefaultCredentialsError

from model_repository.errors import AccessDenied
from operator_cli.check.finding import Level
from tests.operator_cli.installation import (
    BUCKET,
    FUNCTION_ACCOUNT,
    FUNCTIONS,
    GRANTS,
    JOBS,
    NOTIFICATIONS,
    PODS,
    PUBLISHERS,
    REPORTS_HEARD,
    SECRET,
    WEBHOOK,
    FakeWeb,
    Plant,
    check,
    findings,
    function,
    notification,
    pushed,
    settings,
    well,
)


def test_of_an_installation_that_is_well_nothing_is_to_be_mended() -> None:
    assert check(well()).code == 0
    found = findings(well())
    assert {each["level"] for each in found} == {"ok"}
    assert any("can't be seen here" in str(each) for each in found)
    assert not [each for each in found if each["mend"]]


@pytest.mark.parametrize(
    "grants",
    [
        [{"role": "projects/acme/roles/indexpushFunction", "members": [f"serviceAccount:{FUNCTION_ACCOUNT}"]}],
        [{"role": "roles/storage.objectAdmin", "members": [f"serviceAccount:{FUNCTION_ACCOUNT}"]}],
        [
            {
                "role": "roles/storage.objectUser",
                "members": [f"serviceAccount:{FUNCTION_ACCOUNT}"],
                "condition": {"expression": "request.time < timestamp('2126-01-01T00:00:00Z')"},
            }
        ],
    ],
)
def test_what_a_role_of_somebodys_own_or_another_condition_allows_is_no_fault(grants: list[dict[str, Any]]) -> None:
    table = well()
    table[GRANTS]["bindings"] = grants
    assert "wrong" not in {each["level"] for each in findings(table)}


@pytest.mark.parametrize(
    "plant",
    [
        lambda it: settings(it).update(MODEL_REPOSITORY="gs://shop/"),
        lambda it: it[JOBS]["jobs"][0].update(schedule="every 15 minutes"),
        lambda it: it[JOBS]["jobs"][0].update(schedule="0,30 */1 * * *"),
        lambda it: it[WEBHOOK][1].pop("pods"),  # as releases before this one answer
        lambda it: it[GRANTS]["bindings"][0]["members"].__setitem__(
            1, "serviceAccount:acme.svc.id.goog[search/indexpush-search]"
        ),
        lambda it: it[GRANTS]["bindings"][0]["members"].__setitem__(
            1, PODS.replace("principal:", "principalSet:").replace("/subject/ns/search/sa/", "/namespace/search#")[:-17]
        ),
    ],
)
def test_what_is_only_said_otherwise_is_no_fault(plant: Plant) -> None:
    table = well()
    plant(table)
    assert findings(table, "ok") == []


def test_a_function_that_a_subscription_pushes_to_is_found_and_needs_no_trigger() -> None:
    table = well()
    pushed(table)
    assert findings(table, "ok") == []


def test_the_mend_of_a_notification_too_many_deletes_that_one_alone() -> None:
    table = well()
    table[NOTIFICATIONS]["items"].append(notification("3", "commits/"))
    said = check(table).out
    assert "gcloud storage buckets notifications delete projects/_/buckets/shop/notificationConfigs/3\n" in said


def test_a_subscription_that_pushes_to_something_else_is_named() -> None:
    table = well()
    pushed(table, "https://elsewhere.example/")
    assert "indexpush-on-commit hears of it, which is no Cloud Run function" in check(table).out


def test_another_function_that_hears_of_commits_is_not_taken_for_the_one_that_deploys() -> None:
    table = well()
    other = copy.deepcopy(function(table)) | {"name": "projects/acme/locations/europe-west4/functions/notify"}
    table[FUNCTIONS]["functions"].append(other | {"buildConfig": {"entryPoint": "notify"}})
    assert findings(table, "ok") == []


@pytest.mark.parametrize("url", [NOTIFICATIONS, GRANTS, PUBLISHERS, FUNCTIONS, JOBS, REPORTS_HEARD, SECRET])
def test_what_nobody_may_look_at_is_said_and_the_rest_is_looked_at(url: str) -> None:
    table = well() | {url: AccessDenied("denied for you")}
    said = check(table, "--output", "json")
    levels = [each["level"] for each in said.value["findings"]]
    assert levels.count("unknown") >= 1
    assert "wrong" not in levels
    assert levels.count("ok") >= 1
    assert said.code == 77


def test_without_an_environment_the_webhook_of_each_is_asked() -> None:
    table = well()
    url = settings(table).pop("CD_WEBHOOK_URL")
    settings(table).update(
        CD_WEBHOOK_URL_PRODUCTION=url, CD_WEBHOOK_URL_QA_EU="https://qa.example/webhooks/webhook/indexpush"
    )
    table["https://qa.example/v1/check"] = well()[WEBHOOK]
    found = check(table, "--output", "json", INDEXPUSH_ENVIRONMENT="").value["findings"]
    (wrong,) = [each for each in found if each["level"] == "wrong"]
    assert (wrong["subject"], wrong["text"]) == ("https://qa.example/v1/check", "it deploys production, not qa-eu")
    assert any(f"calls {url}, https://qa.example/" in each["text"] for each in found)


def test_a_webhook_that_is_not_reached_from_here_is_asked_where_one_says() -> None:
    table = well()
    del table[WEBHOOK]
    said = check(table)
    assert said.code == 77
    assert "port-forward" in said.out
    table["http://127.0.0.1:8080/v1/check"] = well()[WEBHOOK]
    assert check(table, "--webhook", "http://127.0.0.1:8080").code == 0


def test_a_webhook_that_refuses_says_which_token_it_needs() -> None:
    said = check(well() | {WEBHOOK: (401, {})})
    assert said.code == 77
    assert "CD_WEBHOOK_TOKEN" in said.out


def test_a_webhook_is_shown_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, str]] = []

    def other(_web: FakeWeb, url: str, authorization: str = "") -> tuple[int, Any]:
        if url.endswith("/v1/check"):
            shown.append((url, authorization))
        answer: tuple[int, Any] = well()[WEBHOOK if url.endswith("/v1/check") else url]
        return answer

    def fetch(audience: str, **_options: object) -> SimpleNamespace:
        if "other" in audience:
            raise DefaultCredentialsError("none")
        return SimpleNamespace(valid=True, token=f"of {audience}")

    monkeypatch.setattr(FakeWeb, "other", other)
    monkeypatch.setattr("google.oauth2.id_token.fetch_id_token_credentials", fetch)
    check(well(), CD_WEBHOOK_TOKEN="secret")
    check(well(), CD_WEBHOOK_AUTH="google-id-token", CD_WEBHOOK_TOKEN="unused")
    said = check(well(), "--webhook", "http://other:8080", CD_WEBHOOK_AUTH="google-id-token")
    assert shown == [(WEBHOOK, "Bearer secret"), (WEBHOOK, f"Bearer of {WEBHOOK.removesuffix('/v1/check')}")]
    assert said.code == 77
    assert "no identity token (none)" in said.out


def test_a_bucket_that_is_not_there_ends_it() -> None:
    table = well()
    del table[BUCKET]
    said = check(table)
    assert said.code == 69
    assert "gs://shop: no such bucket" in said.err


def test_an_emulator_is_no_installation() -> None:
    said = check(well(), STORAGE_EMULATOR_HOST="http://127.0.0.1:1")
    assert said.code == 64
    assert "STORAGE_EMULATOR_HOST" in said.err


def test_the_worst_comes_first_and_what_is_to_be_done_stands_below() -> None:
    table = well()
    function(table)["eventTrigger"].update(retryPolicy="RETRY_POLICY_DO_NOT_RETRY")
    table[JOBS]["jobs"].pop()
    lines = check(table).out.splitlines()
    assert lines[0].startswith("WRONG    functions/on-commit: it isn't retried")
    assert lines[1].strip() == "deploy it with --retry"
    assert lines[2].startswith("hint ")
    assert lines[-1].endswith(" ok")
    assert "1 WRONG, 1 hint" in lines[-1]


def test_levels_are_what_the_page_says() -> None:
    assert [level.value for level in Level] == ["ok", "hint", "WRONG", "unknown"]
