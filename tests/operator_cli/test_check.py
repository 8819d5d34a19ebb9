"""`indexpush check`: an installation that is well has nothing to mend, and each of many faults is named."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest

from model_repository import CONTRACT, __version__
from model_repository.errors import AccessDenied, BucketUnavailable, ObjectMissing
from operator_cli.check.finding import Level, Resource
from operator_cli.context import Context
from operator_cli.main import main
from tests.fake_clock import FakeClock
from tests.memory_store import MemoryStore
from tests.operator_cli.conftest import Said

STORAGE = "https://storage.googleapis.com/storage/v1/b/shop"
BUCKET = f"{STORAGE}?projection=full"
NOTIFICATIONS = f"{STORAGE}/notificationConfigs"
GRANTS = f"{STORAGE}/iam?optionsRequestedPolicyVersion=3"
TOPIC = "projects/acme/topics/indexpush-commits"
REPORTS = "projects/acme/topics/indexpush-reports"
PUBLISHERS = f"https://pubsub.googleapis.com/v1/{TOPIC}:getIamPolicy?options.requestedPolicyVersion=3"
HEARD = f"https://pubsub.googleapis.com/v1/{TOPIC}/subscriptions"
REPORTS_HEARD = f"https://pubsub.googleapis.com/v1/{REPORTS}/subscriptions"
SUBSCRIPTION = "https://pubsub.googleapis.com/v1/projects/acme/subscriptions/indexpush-on-commit"
FUNCTIONS = "https://cloudfunctions.googleapis.com/v2/projects/acme/locations/-/functions"
JOBS = "https://cloudscheduler.googleapis.com/v1/projects/acme/locations/europe-west4/jobs"
DOOR = "https://on-commit-x.a.run.app"
WEBHOOK = "https://cd.example/v1/check"
SERVICE = (
    "https://run.googleapis.com/v2/projects/acme/locations/europe-west4/services/on-commit:getIamPolicy"
    "?options.requestedPolicyVersion=3"
)
SECRET = "https://secretmanager.googleapis.com/v1/projects/acme/secrets/token/versions/1"
DEAD = "projects/acme/topics/indexpush-on-commit-dead"
PUTS_ASIDE = f"https://pubsub.googleapis.com/v1/{DEAD}:getIamPolicy?options.requestedPolicyVersion=3"
TAKES_OFF = f"{SUBSCRIPTION}:getIamPolicy?options.requestedPolicyVersion=3"
DEAD_HEARD = f"https://pubsub.googleapis.com/v1/{DEAD}/subscriptions"
PRUNE = "https://run.googleapis.com/v2/projects/acme/locations/europe-west4/jobs/prune"
PODS = (
    "principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/acme.svc.id.goog"
    "/subject/ns/search/sa/indexpush-search"
)
FUNCTION_ACCOUNT = "on-commit@acme.iam.gserviceaccount.com"


def _notification(number: str, prefix: str) -> dict[str, Any]:
    return {
        "id": number,
        "topic": f"//pubsub.googleapis.com/{TOPIC}",
        "event_types": ["OBJECT_FINALIZE"],
        "payload_format": "JSON_API_V1",
        "object_name_prefix": prefix,
    }


def _grant(role: str, account: str, folder: str) -> dict[str, Any]:
    return {
        "role": f"roles/storage.{role}",
        "members": [f"serviceAccount:{account}"],
        "condition": {"expression": f'resource.name.startsWith("projects/_/buckets/shop/objects/{folder}")'},
    }


def _well() -> dict[str, Any]:
    """An installation as docs/threat-model.md and the README want it, by the URLs that say so."""
    return {
        BUCKET: {
            "name": "shop",
            "projectNumber": "42",
            "storageClass": "STANDARD",
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": True},
                "publicAccessPrevention": "enforced",
            },
            "softDeletePolicy": {"retentionDurationSeconds": "604800"},
            "lifecycle": {
                "rule": [
                    {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["pictures/", "shards/"]}},
                    {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 7}},
                    {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}},
                ]
            },
        },
        NOTIFICATIONS: {"items": [_notification("1", "commits/"), _notification("2", "filters/")]},
        GRANTS: {
            "version": 3,
            "bindings": [
                {
                    "role": "roles/storage.objectViewer",
                    "members": [f"serviceAccount:{FUNCTION_ACCOUNT}", PODS],
                },
                _grant("objectUser", "batch@acme.example", "indexes/"),
                _grant("objectCreator", FUNCTION_ACCOUNT, "deployments/"),
                _grant("objectUser", FUNCTION_ACCOUNT, "incidents/"),
                {"role": "roles/storage.legacyBucketOwner", "members": ["projectOwner:acme", "projectEditor:acme"]},
            ],
        },
        PUBLISHERS: {
            "bindings": [
                {
                    "role": "roles/pubsub.publisher",
                    "members": ["serviceAccount:service-42@gs-project-accounts.iam.gserviceaccount.com"],
                }
            ]
        },
        HEARD: {"subscriptions": ["projects/acme/subscriptions/eventarc-1"]},
        REPORTS_HEARD: {"subscriptions": ["projects/acme/subscriptions/people"]},
        FUNCTIONS: {
            "functions": [
                {
                    "name": "projects/acme/locations/europe-west4/functions/on-commit",
                    "state": "ACTIVE",
                    "serviceConfig": {
                        "uri": DOOR,
                        "timeoutSeconds": 540,
                        "serviceAccountEmail": FUNCTION_ACCOUNT,
                        "environmentVariables": {
                            "MODEL_REPOSITORY": "gs://shop",
                            "CD_WEBHOOK_URL": "https://cd.example/webhooks/webhook/indexpush",
                            "CD_WEBHOOK_AUTH": "bearer",
                            "NOTIFY_TOPIC": REPORTS,
                        },
                        "secretEnvironmentVariables": [{"key": "CD_WEBHOOK_TOKEN", "secret": "token", "version": "1"}],
                    },
                    "eventTrigger": {"pubsubTopic": TOPIC, "retryPolicy": "RETRY_POLICY_RETRY"},
                }
            ]
        },
        JOBS: {
            "jobs": [
                {
                    "name": "projects/acme/locations/europe-west4/jobs/sweep-commits",
                    "state": "ENABLED",
                    "schedule": "*/15 * * * *",
                    "pubsubTarget": {"topicName": TOPIC, "attributes": {"sweep": "true"}},
                },
                {
                    "name": "projects/acme/locations/europe-west4/jobs/prune",
                    "state": "ENABLED",
                    "httpTarget": {"uri": f"{PRUNE}:run"},
                },
            ]
        },
        SECRET: {"state": "ENABLED"},
        PRUNE: {
            "name": "projects/acme/locations/europe-west4/jobs/prune",
            "latestCreatedExecution": {"name": "prune-x"},
        },
        DOOR: (403, {}),
        WEBHOOK: (
            200,
            {
                "version": __version__,
                "contract": CONTRACT,
                "environment": "production",
                "bucket": "shop",
                "pods": "search/indexpush-search",
                "checks": [
                    {"what": "cluster", "ok": True, "text": "2 indexes deployed, Kubernetes 1.34"},
                    {"what": "rights", "ok": True, "text": "those of the Role, in search"},
                ],
            },
        ),
    }


class FakeWeb:
    """Implements `Web` from a table. Values that are exceptions are raised."""

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table
        self.authorizations: list[str] = []

    def google(self, url: str) -> Resource:
        found = self._table.get(url, ObjectMissing(url))
        if isinstance(found, Exception):
            raise found
        value: Resource = found
        return value

    def other(self, url: str, authorization: str = "") -> tuple[int, Resource]:
        self.authorizations.append(authorization)
        found = self._table.get(url, BucketUnavailable(f"{url}: ConnectionError"))
        if isinstance(found, Exception):
            raise found
        status, said = found
        return status, said


def _check(table: dict[str, Any], *more: str, **environ: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    variables = {"MODEL_REPOSITORY": "gs://shop", "INDEXPUSH_ENVIRONMENT": "production"} | environ
    context = Context(
        variables, lambda _bucket, _patience: MemoryStore("shop"), FakeClock(), out, err, lambda: FakeWeb(table)
    )
    return Said(main(["check", *more], context), out.getvalue(), err.getvalue())


def test_of_an_installation_that_is_well_nothing_is_to_be_mended() -> None:
    said = _check(_well(), "--output", "json")
    assert said.code == 0, said.out
    assert {each["level"] for each in said.value["findings"]} == {"ok"}
    assert any("can't be seen here" in str(each) for each in said.value["findings"])
    assert not [each for each in said.value["findings"] if each["mend"]]


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
    table = _well()
    table[GRANTS]["bindings"] = grants
    said = _check(table, "--output", "json")
    assert [each for each in said.value["findings"] if each["level"] == "wrong"] == []


@pytest.mark.parametrize(
    "plant",
    [
        lambda it: _settings(it).update(MODEL_REPOSITORY="gs://shop/"),
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
def test_what_is_only_said_otherwise_is_no_fault(plant: Callable[[dict[str, Any]], object]) -> None:
    table = _well()
    plant(table)
    said = _check(table, "--output", "json")
    assert {each["level"] for each in said.value["findings"]} == {"ok"}, said.out


def _function(table: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = table[FUNCTIONS]["functions"][0]
    return function


def _settings(table: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = _function(table)["serviceConfig"]["environmentVariables"]
    return settings


def _pushed(table: dict[str, Any], endpoint: str = DOOR) -> None:
    """As terraform/ makes it: a subscription with a dead-letter topic pushes to a function without a trigger."""
    del _function(table)["eventTrigger"]
    table[HEARD] = {"subscriptions": ["projects/acme/subscriptions/indexpush-on-commit"]}
    table[SUBSCRIPTION] = {
        "name": "projects/acme/subscriptions/indexpush-on-commit",
        "pushConfig": {"pushEndpoint": endpoint, "oidcToken": {"serviceAccountEmail": "push@acme.example"}},
        "ackDeadlineSeconds": 600,
        "deadLetterPolicy": {"deadLetterTopic": DEAD},
    }
    agent = "serviceAccount:service-42@gcp-sa-pubsub.iam.gserviceaccount.com"
    table[SERVICE] = {"bindings": [{"role": "roles/run.invoker", "members": ["serviceAccount:push@acme.example"]}]}
    table[PUTS_ASIDE] = {"bindings": [{"role": "roles/pubsub.publisher", "members": [agent]}]}
    table[TAKES_OFF] = {"bindings": [{"role": "roles/pubsub.subscriber", "members": [agent]}]}
    table[DEAD_HEARD] = {"subscriptions": ["projects/acme/subscriptions/indexpush-on-commit-dead"]}


def _subscription(**more: Any) -> Callable[[dict[str, Any]], object]:
    def plant(table: dict[str, Any]) -> None:
        _pushed(table)
        table[SUBSCRIPTION] |= more

    return plant


def test_a_function_that_a_subscription_pushes_to_is_found_and_needs_no_trigger() -> None:
    table = _well()
    _pushed(table)
    said = _check(table, "--output", "json")
    assert said.code == 0, said.out
    assert {each["level"] for each in said.value["findings"]} == {"ok"}


def test_the_mend_of_a_notification_too_many_deletes_that_one_alone() -> None:
    table = _well()
    HINTS["told twice"][0](table)
    said = _check(table).out
    assert "gcloud storage buckets notifications delete projects/_/buckets/shop/notificationConfigs/3\n" in said


def test_a_subscription_that_pushes_to_something_else_is_named() -> None:
    table = _well()
    _pushed(table, "https://elsewhere.example/")
    assert "indexpush-on-commit hears of it, which is no Cloud Run function" in _check(table).out


def test_another_function_that_hears_of_commits_is_not_taken_for_the_one_that_deploys() -> None:
    table = _well()
    other = copy.deepcopy(_function(table)) | {"name": "projects/acme/locations/europe-west4/functions/notify"}
    table[FUNCTIONS]["functions"].append(other | {"buildConfig": {"entryPoint": "notify"}})
    said = _check(table, "--output", "json")
    assert {each["level"] for each in said.value["findings"]} == {"ok"}


def _after(*plants: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    def plant(table: dict[str, Any]) -> None:
        for each in plants:
            each(table)

    return plant


def _rules(*rules: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda it: it[BUCKET].update(lifecycle={"rule": list(rules)})


def _rule(condition: dict[str, Any], **action: str) -> dict[str, Any]:
    return {"action": {"type": "Delete"} | action, "condition": condition}


def _tells_people(table: dict[str, Any]) -> None:
    """functions/notify, of a topic of its own, whose service lets nobody in."""
    topic, subscription = "projects/acme/topics/notices", "projects/acme/subscriptions/notify"
    table[NOTIFICATIONS]["items"].append(
        _notification("9", "incidents/") | {"topic": f"//pubsub.googleapis.com/{topic}"}
    )
    function = copy.deepcopy(_function(table)) | {"name": "projects/acme/locations/europe-west4/functions/notify"}
    del function["eventTrigger"]
    function["serviceConfig"] |= {"uri": "https://notify-x.a.run.app", "secretEnvironmentVariables": []}
    table[FUNCTIONS]["functions"].append(function | {"buildConfig": {"entryPoint": "notify"}})
    table[f"https://pubsub.googleapis.com/v1/{topic}/subscriptions"] = {"subscriptions": [subscription]}
    table[f"https://pubsub.googleapis.com/v1/{subscription}"] = {
        "name": subscription,
        "pushConfig": {
            "pushEndpoint": "https://notify-x.a.run.app/",
            "oidcToken": {"serviceAccountEmail": "push@acme.example"},
        },
        "ackDeadlineSeconds": 600,
    }
    table[SERVICE.replace("on-commit", "notify")] = {}


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "access by object": (
        lambda it: it[BUCKET]["iamConfiguration"]["uniformBucketLevelAccess"].update(enabled=False),
        "uniform access is off",
    ),
    "a retention policy": (lambda it: it[BUCKET].update(retentionPolicy={"retentionPeriod": "3600"}), "3600 s"),
    "holds by default": (lambda it: it[BUCKET].update(defaultEventBasedHold=True), "event-based hold"),
    "requester pays": (lambda it: it[BUCKET].update(billing={"requesterPays": True}), "requester pays"),
    "a rule for all that is old": (_rules(_rule({"age": 30})), "deletes by age 30"),
    "a rule for old builds": (_rules(_rule({"age": 30, "matchesPrefix": ["indexes/"]})), "below indexes/"),
    "a rule for one index": (_rules(_rule({"age": 9, "matchesPrefix": ["indexes/shoes/"]})), "below indexes/"),
    "a rule for old models": (
        _rules(_rule({"createdBefore": "2026-01-01", "matchesPrefix": ["features/", "model"]})),
        "below models/",
    ),
    "public": (
        lambda it: it[GRANTS]["bindings"].append({"role": "roles/storage.objectViewer", "members": ["allUsers"]}),
        "everybody in the world",
    ),
    "the function may not read": (
        lambda it: it[GRANTS]["bindings"][0]["members"].pop(0),
        f"{FUNCTION_ACCOUNT}, as which the functions/on-commit runs, may not read",
    ),
    "no notification": (lambda it: it.update({NOTIFICATIONS: {}}), "no notification tells of uploads below commits/"),
    "a notification of another folder": (
        lambda it: it[NOTIFICATIONS]["items"][0].update(object_name_prefix="commits/staging/"),
        "there is one for 'commits/staging/'",
    ),
    "a notification of deletions": (
        lambda it: it[NOTIFICATIONS]["items"][0].update(event_types=["OBJECT_DELETE"]),
        "no notification tells of uploads below commits/",
    ),
    "empty messages": (
        lambda it: it[NOTIFICATIONS]["items"][0].update(payload_format="NONE"),
        "its messages are empty",
    ),
    "a topic that was deleted": (lambda it: it.pop(PUBLISHERS), f"{TOPIC}: the bucket tells it"),
    "a topic that the bucket may not publish to": (lambda it: it.update({PUBLISHERS: {}}), "may not publish"),
    "nobody listens": (lambda it: it.update({FUNCTIONS: {}, HEARD: {}}), "nobody hears of what is published"),
    "a function that failed to deploy": (lambda it: _function(it).update(state="FAILED"), "it is FAILED"),
    "the function that tells people failed to deploy": (
        lambda it: it[FUNCTIONS]["functions"].append(
            copy.deepcopy(_function(it))
            | {
                "name": "projects/acme/locations/europe-west4/functions/notify",
                "buildConfig": {"entryPoint": "notify"},
                "state": "FAILED",
            }
            | {"stateMessages": [{"message": "no secret indexpush-slack-token"}]}
        ),
        "functions/notify: it is FAILED (no secret indexpush-slack-token)",
    ),
    "no retry": (
        lambda it: _function(it)["eventTrigger"].update(retryPolicy="RETRY_POLICY_DO_NOT_RETRY"),
        "it isn't retried",
    ),
    "another bucket": (lambda it: _settings(it).update(MODEL_REPOSITORY="gs://other"), "'gs://other'"),
    "no webhook": (lambda it: _settings(it).pop("CD_WEBHOOK_URL"), "CD_WEBHOOK_URL is not set"),
    "a webhook of a mistyped environment alone": (
        lambda it: _settings(it).update(CD_WEBHOOK_URL_PRODUCTIN=_settings(it).pop("CD_WEBHOOK_URL")),
        "knows no webhook of production",
    ),
    "a webhook on the function's own machine": (
        lambda it: (
            _settings(it).update(CD_WEBHOOK_URL="http://localhost:8080/webhooks/webhook/x"),
            it.update({"http://localhost:8080/v1/check": it[WEBHOOK]}),
        ),
        "is the function's own machine",
    ),
    "a webhook's URL without its path": (
        lambda it: _settings(it).update(CD_WEBHOOK_URL="https://cd.example/"),
        "https://cd.example/: the webhook deploys at /webhooks/webhook/<source>",
    ),
    "a webhook's URL that is none": (
        lambda it: _settings(it).update(CD_WEBHOOK_URL="cd.example/webhooks/webhook/x"),
        "CD_WEBHOOK_URL is 'cd.example/webhooks/webhook/x': expected an http:// or https:// URL",
    ),
    "a mistyped kind of credentials": (
        lambda it: _settings(it).update(CD_WEBHOOK_AUTH="google_id_token"),
        "CD_WEBHOOK_AUTH is 'google_id_token'",
    ),
    "a secret that isn't handed over": (
        lambda it: _function(it)["serviceConfig"].pop("secretEnvironmentVariables"),
        "CD_WEBHOOK_TOKEN must hold the secret",
    ),
    "a number with its unit": (lambda it: _settings(it).update(SWEEP_SECONDS="45s"), "SWEEP_SECONDS is '45s'"),
    "a freshness that is no number": (
        lambda it: _settings(it).update(FRESHNESS_SECONDS_PRODUCTION="6h"),
        "FRESHNESS_SECONDS_PRODUCTION is '6h'",
    ),
    "a topic by its last name alone": (
        lambda it: _settings(it).update(NOTIFY_TOPIC="indexpush-reports"),
        "NOTIFY_TOPIC is 'indexpush-reports': expected projects/<project>/topics/<topic>",
    ),
    "refusals told to the function itself": (
        lambda it: _settings(it).update(NOTIFY_TOPIC=TOPIC),
        f"{TOPIC}: the function tells refusals to itself",
    ),
    "the function reads commits alone": (
        lambda it: (
            it[GRANTS]["bindings"][0]["members"].pop(0),
            it[GRANTS]["bindings"].append(_grant("objectViewer", FUNCTION_ACCOUNT, "commits/")),
        ),
        f"{FUNCTION_ACCOUNT}, as which the functions/on-commit runs, may not read it",
    ),
    "the function may write no receipts": (
        lambda it: it[GRANTS]["bindings"].pop(2),
        "may not create receipts below deployments/",
    ),
    "the function creates receipts of staging alone": (
        lambda it: it[GRANTS]["bindings"].__setitem__(
            2, _grant("objectCreator", FUNCTION_ACCOUNT, "deployments/staging/")
        ),
        "may not create receipts below deployments/",
    ),
    "a condition of another bucket": (
        lambda it: it[GRANTS]["bindings"][2]["condition"].update(
            expression='resource.name.startsWith("projects/_/buckets/shpo/objects/deployments/")'
        ),
        "may not create receipts below deployments/",
    ),
    "a condition that names the project": (
        lambda it: it[GRANTS]["bindings"][3]["condition"].update(
            expression='resource.name.startsWith("projects/acme/buckets/shop/objects/incidents/")'
        ),
        "may not note faults below incidents/",
    ),
    "a grant that is over": (
        lambda it: it[GRANTS]["bindings"][2]["condition"].update(
            expression='request.time < timestamp("2020-01-01T00:00:00Z")'
        ),
        "may not create receipts below deployments/",
    ),
    "a push with somebody else's audience": (
        _subscription(pushConfig={"pushEndpoint": DOOR, "oidcToken": {"audience": "https://old-x.a.run.app"}}),
        "its token is for 'https://old-x.a.run.app'",
    ),
    "the function may note no faults": (
        lambda it: it[GRANTS]["bindings"][3].update(role="roles/storage.objectCreator"),
        "may not note faults below incidents/",
    ),
    "a push without an identity": (
        _subscription(pushConfig={"pushEndpoint": DOOR}),
        "subscriptions/indexpush-on-commit: it shows no identity",
    ),
    "a push without its envelope": (
        _subscription(pushConfig={"pushEndpoint": DOOR, "oidcToken": {}, "noWrapper": {}}),
        "without Pub/Sub's envelope",
    ),
    "a subscription that is detached": (_subscription(detached=True), "it is detached from its topic"),
    "a subscription with a filter": (
        _subscription(filter='attributes.eventType="OBJECT_FINALIZE"'),
        "may keep commits and sweeps back",
    ),
    "prune is paused": (lambda it: it[JOBS]["jobs"][1].update(state="PAUSED"), "it is PAUSED: nobody prunes"),
    "prune runs and fails": (
        lambda it: it[PRUNE]["latestCreatedExecution"].update(completionStatus="EXECUTION_FAILED"),
        "jobs/prune: its last run prune-x failed",
    ),
    "a schedule of a job that isn't there": (lambda it: it.pop(PRUNE), "a schedule starts it, and it isn't there"),
    "each upload is a sweep": (
        lambda it: it[NOTIFICATIONS]["items"][0].update(custom_attributes={"sweep": "true"}),
        "makes each upload a sweep",
    ),
    "a webhook behind a sign-in": (lambda it: it.update({WEBHOOK: (302, {})}), "it leads elsewhere (302)"),
    "prune fails": (lambda it: it[JOBS]["jobs"][1].update(status={"code": 7}), "its last attempt failed: code 7"),
    "a rule for versions that no newer one need follow": (_rules(_rule({"numNewerVersions": 0})), "below commits/"),
    "a secret for all to see": (lambda it: _settings(it).update(CD_WEBHOOK_TOKEN="s3cret"), "plain variable"),
    "a function that is ended in a sweep": (
        lambda it: _function(it)["serviceConfig"].update(timeoutSeconds=30),
        "it is ended after 30 s, and a sweep may take 45",
    ),
    "a function open to anybody": (lambda it: it.update({DOOR: (400, {})}), "answers anybody (400)"),
    "reports to a topic that isn't there": (lambda it: it.pop(REPORTS_HEARD), f"{REPORTS}: the function tells it"),
    "nobody sweeps": (lambda it: it[JOBS]["jobs"].pop(0), "no job has the function sweep"),
    "a sweep without its attribute": (
        lambda it: it[JOBS]["jobs"][0]["pubsubTarget"].pop("attributes"),
        "jobs/sweep-commits goes to the topic, without the attribute",
    ),
    "a sweep of another topic": (
        lambda it: it[JOBS]["jobs"][0]["pubsubTarget"].update(topicName="projects/acme/topics/old"),
        "jobs/sweep-commits goes to projects/acme/topics/old",
    ),
    "a sweep that is paused": (lambda it: it[JOBS]["jobs"][0].update(state="PAUSED"), "it is PAUSED"),
    "a sweep that fails": (
        lambda it: it[JOBS]["jobs"][0].update(status={"code": 7, "message": "denied"}),
        "its last attempt failed: denied",
    ),
    "a webhook of another environment": (lambda it: it[WEBHOOK][1].update(environment="staging"), "deploys staging"),
    "a webhook of another bucket": (lambda it: it[WEBHOOK][1].update(bucket="old"), "deploys from gs://old"),
    "a webhook of the release before": (
        lambda it: it[WEBHOOK][1].update(contract=1),
        f"speaks contract 1, this command {CONTRACT}",
    ),
    "a Role that lacks something": (
        lambda it: it[WEBHOOK][1]["checks"].append(
            {"what": "rights", "ok": False, "text": "may not patch deployments.apps in search"}
        ),
        "may not patch deployments.apps",
    ),
    "a push by an account that may not call the function": (
        _after(_pushed, lambda it: it.update({SERVICE: {"bindings": []}})),
        "push@acme.example, as which messages are pushed to it, may not call it",
    ),
    "a trigger by an account that may not call the function": (
        lambda it: (
            _function(it)["eventTrigger"].update(serviceAccountEmail="eventarc@acme.example"),
            it.update(
                {
                    SERVICE: {
                        "bindings": [{"role": "roles/run.viewer", "members": ["serviceAccount:eventarc@acme.example"]}]
                    }
                }
            ),
        ),
        "eventarc@acme.example, as which messages are pushed to it, may not call it",
    ),
    "a secret that is disabled": (
        lambda it: it[SECRET].update(state="DISABLED"),
        "projects/acme/secrets/token/versions/1 is disabled",
    ),
    "a secret that is destroyed": (
        lambda it: it[SECRET].update(state="DESTROYED"),
        "projects/acme/secrets/token/versions/1 is destroyed",
    ),
    "a secret of a project that hasn't it": (
        lambda it: _function(it)["serviceConfig"]["secretEnvironmentVariables"][0].update(projectId="acme-security"),
        "projects/acme-security/secrets/token/versions/1 is not there",
    ),
    "a secret in a file whose newest version is disabled": (
        lambda it: (
            _function(it)["serviceConfig"].update(secretVolumes=[{"mountPath": "/s", "secret": "slack"}]),
            it.update({SECRET.replace("token/versions/1", "slack/versions/latest"): {"state": "DISABLED"}}),
        ),
        "projects/acme/secrets/slack/versions/latest is disabled",
    ),
    "the function that tells people is pushed to by one who may not call it": (
        _tells_people,
        "push@acme.example, as which messages are pushed to it, may not call it",
    ),
    "a webhook that fails": (lambda it: it.update({WEBHOOK: (502, {})}), "it answers 502"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_mend_and_nothing_else_is(name: str) -> None:
    table = _well()
    plant, named = WRONG[name]
    plant(table)
    said = _check(table, "--output", "json")
    found = [each for each in said.value["findings"] if each["level"] == "wrong"]
    assert len(found) == 1, said.out
    assert named in f"{found[0]['subject']}: {found[0]['text']}"
    assert found[0]["mend"]
    assert said.code == 1


HINTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "could be made public": (lambda it: it[BUCKET]["iamConfiguration"].pop("publicAccessPrevention"), "made public"),
    "an IP filter": (lambda it: it[BUCKET].update(ipFilter={"mode": "Enabled"}), "its IP filter is on"),
    "versions that are kept for ever": (
        lambda it: it[BUCKET].update(versioning={"enabled": True}, lifecycle={}),
        "what prune deletes stays",
    ),
    "a sweep once a month": (
        lambda it: it[JOBS]["jobs"][0].update(schedule="0 0 1 * *"),
        "it sweeps at 0 0 1 * *",
    ),
    "a message that comes again while it is worked on": (
        _subscription(ackDeadlineSeconds=10),
        "it delivers again after 10 s, and the function may work for 540",
    ),
    "a sweep four times a day": (
        lambda it: it[JOBS]["jobs"][0].update(schedule="0 */6 * * *"),
        "it sweeps at 0 */6 * * *",
    ),
    "a sweep on Mondays": (lambda it: it[JOBS]["jobs"][0].update(schedule="*/15 * * * 1"), "sweeps at */15 * * * 1"),
    "a sweep in App Engine's words": (
        lambda it: it[JOBS]["jobs"][0].update(schedule="every 24 hours"),
        "it sweeps at every 24 hours",
    ),
    "five tries": (
        _subscription(deadLetterPolicy={"maxDeliveryAttempts": 5}),
        "it puts aside what failed 5 times",
    ),
    "ten minutes": (
        _subscription(messageRetentionDuration="600s"),
        "it keeps what isn't delivered for 600 s",
    ),
    "pods that nothing lets read": (
        lambda it: it[GRANTS]["bindings"][0]["members"].remove(PODS),
        "lets the pods read it (service account indexpush-search of namespace search)",
    ),
    "pods of another namespace may read": (
        lambda it: it[GRANTS]["bindings"][0]["members"].__setitem__(1, PODS.replace("/ns/search", "/ns/research")),
        "lets the pods read it",
    ),
    "a dead-letter topic that isn't there": (_after(_pushed, lambda it: it.pop(PUTS_ASIDE)), "which isn't there"),
    "a dead-letter topic that Pub/Sub may not publish to": (
        _after(_pushed, lambda it: it.update({PUTS_ASIDE: {}})),
        "may not publish to its dead-letter topic",
    ),
    "a subscription that Pub/Sub may take nothing off": (
        _after(_pushed, lambda it: it.update({TAKES_OFF: {}})),
        "may not take messages off it",
    ),
    "dead letters that nobody keeps": (
        _after(_pushed, lambda it: it.update({DEAD_HEARD: {}})),
        "nobody hears of what is put aside",
    ),
    "no soft delete": (lambda it: it[BUCKET].pop("softDeletePolicy"), "soft delete is off"),
    "a cold bucket": (lambda it: it[BUCKET].update(storageClass="COLDLINE"), "its class is COLDLINE"),
    "builds that grow cold": (
        _rules(_rule({"age": 30}, type="SetStorageClass", storageClass="NEARLINE")),
        "to NEARLINE",
    ),
    "embeddings that go": (_rules(_rule({"age": 180, "matchesPrefix": ["features/"]})), "all are made anew at once"),
    "receipts that go": (_rules(_rule({"age": 30, "matchesPrefix": ["deployments/"]})), "receipts"),
    "a rule by suffix": (_rules(_rule({"age": 30, "matchesSuffix": [".tmp"]})), "matchesSuffix ['.tmp']"),
    "one who may do anything": (
        lambda it: it[GRANTS]["bindings"][1].pop("condition"),
        "batch@acme.example has roles/storage.objectUser without a condition",
    ),
    "told twice": (
        lambda it: it[NOTIFICATIONS]["items"].append(_notification("3", "commits/")),
        "2 notifications tell one topic",
    ),
    "filters aren't told": (lambda it: it[NOTIFICATIONS]["items"].pop(), "below filters/"),
    "everything is told": (
        lambda it: it[NOTIFICATIONS].update(items=[_notification("1", "")]),
        "every file of every build wakes the function",
    ),
    "deletions, too": (
        lambda it: it[NOTIFICATIONS]["items"][0]["event_types"].append("OBJECT_DELETE"),
        "it tells of OBJECT_DELETE as well",
    ),
    "two functions": (
        lambda it: it[FUNCTIONS]["functions"].append(copy.deepcopy(_function(it))),
        "each commit is looked at as many times",
    ),
    "no credentials": (lambda it: _settings(it).pop("CD_WEBHOOK_AUTH"), "without credentials"),
    "no reports": (lambda it: _settings(it).pop("NOTIFY_TOPIC"), "no NOTIFY_TOPIC"),
    "reports that nobody reads": (lambda it: it.update({REPORTS_HEARD: {}}), "nobody hears of refusals"),
    "nobody prunes": (lambda it: it[JOBS]["jobs"].pop(), "no job prunes"),
    "another release": (lambda it: it[WEBHOOK][1].update(version="0.0.9"), "release 0.0.9"),
    "a Spinnaker": (lambda it: it.update({WEBHOOK: (404, {})}), "or a Spinnaker"),
}


@pytest.mark.parametrize("name", HINTS)
def test_what_is_more_or_less_than_it_should_be_is_named_and_no_failure(name: str) -> None:
    table = _well()
    plant, named = HINTS[name]
    plant(table)
    said = _check(table, "--output", "json")
    found = [each for each in said.value["findings"] if each["level"] != "ok"]
    assert {each["level"] for each in found} == {"hint"}, said.out
    assert any(named in f"{each['subject']}: {each['text']}" for each in found), said.out
    assert all(each["mend"] for each in found)
    assert said.code == 0


@pytest.mark.parametrize("url", [NOTIFICATIONS, GRANTS, PUBLISHERS, FUNCTIONS, JOBS, REPORTS_HEARD, SECRET])
def test_what_nobody_may_look_at_is_said_and_the_rest_is_looked_at(url: str) -> None:
    table = _well() | {url: AccessDenied("denied for you")}
    said = _check(table, "--output", "json")
    levels = [each["level"] for each in said.value["findings"]]
    assert levels.count("unknown") >= 1
    assert "wrong" not in levels
    assert levels.count("ok") >= 1
    assert said.code == 77


def test_without_an_environment_the_webhook_of_each_is_asked() -> None:
    table = _well()
    url = _settings(table).pop("CD_WEBHOOK_URL")
    _settings(table).update(
        CD_WEBHOOK_URL_PRODUCTION=url, CD_WEBHOOK_URL_QA_EU="https://qa.example/webhooks/webhook/indexpush"
    )
    table["https://qa.example/v1/check"] = _well()[WEBHOOK]
    found = _check(table, "--output", "json", INDEXPUSH_ENVIRONMENT="").value["findings"]
    (wrong,) = [each for each in found if each["level"] == "wrong"]
    assert (wrong["subject"], wrong["text"]) == ("https://qa.example/v1/check", "it deploys production, not qa-eu")
    assert any(f"calls {url}, https://qa.example/" in each["text"] for each in found)


def test_a_webhook_that_is_not_reached_from_here_is_asked_where_one_says() -> None:
    table = _well()
    del table[WEBHOOK]
    said = _check(table)
    assert said.code == 77
    assert "port-forward" in said.out
    table["http://127.0.0.1:8080/v1/check"] = _well()[WEBHOOK]
    assert _check(table, "--webhook", "http://127.0.0.1:8080").code == 0


def test_a_webhook_that_refuses_says_which_token_it_needs() -> None:
    said = _check(_well() | {WEBHOOK: (401, {})})
    assert said.code == 77
    assert "CD_WEBHOOK_TOKEN" in said.out


def test_a_bucket_that_is_not_there_ends_it() -> None:
    table = _well()
    del table[BUCKET]
    said = _check(table)
    assert said.code == 69
    assert "gs://shop: no such bucket" in said.err


def test_an_emulator_is_no_installation() -> None:
    said = _check(_well(), STORAGE_EMULATOR_HOST="http://127.0.0.1:1")
    assert said.code == 64
    assert "STORAGE_EMULATOR_HOST" in said.err


def test_the_worst_comes_first_and_what_is_to_be_done_stands_below() -> None:
    table = _well()
    WRONG["no retry"][0](table)
    HINTS["nobody prunes"][0](table)
    lines = _check(table).out.splitlines()
    assert lines[0].startswith("WRONG    functions/on-commit: it isn't retried")
    assert lines[1].strip() == "deploy it with --retry"
    assert lines[2].startswith("hint ")
    assert lines[-1].endswith(" ok")
    assert "1 WRONG, 1 hint" in lines[-1]


def test_levels_are_what_the_page_says() -> None:
    assert [level.value for level in Level] == ["ok", "hint", "WRONG", "unknown"]
