"""An installation that is well, as Google's APIs and the webhook tell of it, and what may be planted in it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from model_repository import CONTRACT, __version__
from model_repository.errors import BucketUnavailable, ObjectMissing
from operator_cli.check.finding import Resource
from operator_cli.context import Context
from operator_cli.main import main
from tests.fake_clock import FakeClock
from tests.memory_store import MemoryStore
from tests.operator_cli.conftest import Said

Table = dict[str, Any]
"""What each URL answers; exceptions are raised."""
Plant = Callable[[Table], object]

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


def notification(number: str, prefix: str) -> dict[str, Any]:
    return {
        "id": number,
        "topic": f"//pubsub.googleapis.com/{TOPIC}",
        "event_types": ["OBJECT_FINALIZE"],
        "payload_format": "JSON_API_V1",
        "object_name_prefix": prefix,
    }


def grant(role: str, account: str, folder: str) -> dict[str, Any]:
    return {
        "role": f"roles/storage.{role}",
        "members": [f"serviceAccount:{account}"],
        "condition": {"expression": f'resource.name.startsWith("projects/_/buckets/shop/objects/{folder}")'},
    }


def well() -> dict[str, Any]:
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
        NOTIFICATIONS: {"items": [notification("1", "commits/"), notification("2", "filters/")]},
        GRANTS: {
            "version": 3,
            "bindings": [
                {
                    "role": "roles/storage.objectViewer",
                    "members": [f"serviceAccount:{FUNCTION_ACCOUNT}", PODS],
                },
                grant("objectUser", "batch@acme.example", "indexes/"),
                grant("objectCreator", FUNCTION_ACCOUNT, "deployments/"),
                grant("objectUser", FUNCTION_ACCOUNT, "incidents/"),
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

    def __init__(self, table: Table) -> None:
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


def check(table: Table, *more: str, **environ: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    variables = {"MODEL_REPOSITORY": "gs://shop", "INDEXPUSH_ENVIRONMENT": "production"} | environ
    context = Context(
        variables, lambda _bucket, _patience: MemoryStore("shop"), FakeClock(), out, err, lambda: FakeWeb(table)
    )
    return Said(main(["check", *more], context), out.getvalue(), err.getvalue())


def findings(table: Table, *but: str) -> list[dict[str, Any]]:
    """What is found, but for these levels."""
    return [each for each in check(table, "--output", "json").value["findings"] if each["level"] not in but]


def function(table: Table) -> dict[str, Any]:
    function: dict[str, Any] = table[FUNCTIONS]["functions"][0]
    return function


def settings(table: Table) -> dict[str, Any]:
    settings: dict[str, Any] = function(table)["serviceConfig"]["environmentVariables"]
    return settings


def pushed(table: Table, endpoint: str = DOOR) -> None:
    """As terraform/ makes it: a subscription with a dead-letter topic pushes to a function without a trigger."""
    del function(table)["eventTrigger"]
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


def subscription(**more: Any) -> Plant:
    def plant(table: Table) -> None:
        pushed(table)
        table[SUBSCRIPTION] |= more

    return plant


def after(*plants: Plant) -> Plant:
    def plant(table: Table) -> None:
        for each in plants:
            each(table)

    return plant


def rules(*rules: dict[str, Any]) -> Plant:
    return lambda it: it[BUCKET].update(lifecycle={"rule": list(rules)})


def rule(condition: dict[str, Any], **action: str) -> dict[str, Any]:
    return {"action": {"type": "Delete"} | action, "condition": condition}
