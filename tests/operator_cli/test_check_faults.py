"""`indexpush check`: each of many faults, planted in an installation that is well, is named with its mend."""

from __future__ import annotations

import copy

import pytest

from model_repository import CONTRACT
from tests.operator_cli.installation import (
    BUCKET,
    DOOR,
    FUNCTION_ACCOUNT,
    FUNCTIONS,
    GRANTS,
    HEARD,
    JOBS,
    NOTIFICATIONS,
    PRUNE,
    PUBLISHERS,
    REPORTS,
    REPORTS_HEARD,
    SECRET,
    SERVICE,
    TOPIC,
    WEBHOOK,
    Plant,
    Table,
    after,
    check,
    findings,
    function,
    grant,
    notification,
    pushed,
    rule,
    rules,
    settings,
    subscription,
    well,
)


def tells_people(table: Table) -> None:
    """functions/notify, of a topic of its own, whose service lets nobody in."""
    topic, subscription = "projects/acme/topics/notices", "projects/acme/subscriptions/notify"
    table[NOTIFICATIONS]["items"].append(
        notification("9", "incidents/") | {"topic": f"//pubsub.googleapis.com/{topic}"}
    )
    notify = copy.deepcopy(function(table)) | {"name": "projects/acme/locations/europe-west4/functions/notify"}
    del notify["eventTrigger"]
    notify["serviceConfig"] |= {"uri": "https://notify-x.a.run.app", "secretEnvironmentVariables": []}
    table[FUNCTIONS]["functions"].append(notify | {"buildConfig": {"entryPoint": "notify"}})
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


WRONG: dict[str, tuple[Plant, str]] = {
    "access by object": (
        lambda it: it[BUCKET]["iamConfiguration"]["uniformBucketLevelAccess"].update(enabled=False),
        "uniform access is off",
    ),
    "a retention policy": (lambda it: it[BUCKET].update(retentionPolicy={"retentionPeriod": "3600"}), "3600 s"),
    "holds by default": (lambda it: it[BUCKET].update(defaultEventBasedHold=True), "event-based hold"),
    "requester pays": (lambda it: it[BUCKET].update(billing={"requesterPays": True}), "requester pays"),
    "a rule for all that is old": (rules(rule({"age": 30})), "deletes by age 30"),
    "a rule for old builds": (rules(rule({"age": 30, "matchesPrefix": ["indexes/"]})), "below indexes/"),
    "a rule for one index": (rules(rule({"age": 9, "matchesPrefix": ["indexes/shoes/"]})), "below indexes/"),
    "a rule for old models": (
        rules(rule({"createdBefore": "2026-01-01", "matchesPrefix": ["features/", "model"]})),
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
    "a function that failed to deploy": (lambda it: function(it).update(state="FAILED"), "it is FAILED"),
    "the function that tells people failed to deploy": (
        lambda it: it[FUNCTIONS]["functions"].append(
            copy.deepcopy(function(it))
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
        lambda it: function(it)["eventTrigger"].update(retryPolicy="RETRY_POLICY_DO_NOT_RETRY"),
        "it isn't retried",
    ),
    "another bucket": (lambda it: settings(it).update(MODEL_REPOSITORY="gs://other"), "'gs://other'"),
    "no webhook": (lambda it: settings(it).pop("CD_WEBHOOK_URL"), "CD_WEBHOOK_URL is not set"),
    "a webhook of a mistyped environment alone": (
        lambda it: settings(it).update(CD_WEBHOOK_URL_PRODUCTIN=settings(it).pop("CD_WEBHOOK_URL")),
        "knows no webhook of production",
    ),
    "a webhook on the function's own machine": (
        lambda it: (
            settings(it).update(CD_WEBHOOK_URL="http://localhost:8080/webhooks/webhook/x"),
            it.update({"http://localhost:8080/v1/check": it[WEBHOOK]}),
        ),
        "is the function's own machine",
    ),
    "a webhook's URL without its path": (
        lambda it: settings(it).update(CD_WEBHOOK_URL="https://cd.example/"),
        "https://cd.example/: the webhook deploys at /webhooks/webhook/<source>",
    ),
    "a webhook's URL that is none": (
        lambda it: settings(it).update(CD_WEBHOOK_URL="cd.example/webhooks/webhook/x"),
        "CD_WEBHOOK_URL is 'cd.example/webhooks/webhook/x': expected an http:// or https:// URL",
    ),
    "a mistyped kind of credentials": (
        lambda it: settings(it).update(CD_WEBHOOK_AUTH="google_id_token"),
        "CD_WEBHOOK_AUTH is 'google_id_token'",
    ),
    "a secret that isn't handed over": (
        lambda it: function(it)["serviceConfig"].pop("secretEnvironmentVariables"),
        "CD_WEBHOOK_TOKEN must hold the secret",
    ),
    "a number with its unit": (lambda it: settings(it).update(SWEEP_SECONDS="45s"), "SWEEP_SECONDS is '45s'"),
    "a freshness that is no number": (
        lambda it: settings(it).update(FRESHNESS_SECONDS_PRODUCTION="6h"),
        "FRESHNESS_SECONDS_PRODUCTION is '6h'",
    ),
    "a topic by its last name alone": (
        lambda it: settings(it).update(NOTIFY_TOPIC="indexpush-reports"),
        "NOTIFY_TOPIC is 'indexpush-reports': expected projects/<project>/topics/<topic>",
    ),
    "refusals told to the function itself": (
        lambda it: settings(it).update(NOTIFY_TOPIC=TOPIC),
        f"{TOPIC}: the function tells refusals to itself",
    ),
    "the function reads commits alone": (
        lambda it: (
            it[GRANTS]["bindings"][0]["members"].pop(0),
            it[GRANTS]["bindings"].append(grant("objectViewer", FUNCTION_ACCOUNT, "commits/")),
        ),
        f"{FUNCTION_ACCOUNT}, as which the functions/on-commit runs, may not read it",
    ),
    "the function may write no receipts": (
        lambda it: it[GRANTS]["bindings"].pop(2),
        "may not create receipts below deployments/",
    ),
    "the function creates receipts of staging alone": (
        lambda it: it[GRANTS]["bindings"].__setitem__(
            2, grant("objectCreator", FUNCTION_ACCOUNT, "deployments/staging/")
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
        subscription(pushConfig={"pushEndpoint": DOOR, "oidcToken": {"audience": "https://old-x.a.run.app"}}),
        "its token is for 'https://old-x.a.run.app'",
    ),
    "the function may note no faults": (
        lambda it: it[GRANTS]["bindings"][3].update(role="roles/storage.objectCreator"),
        "may not note faults below incidents/",
    ),
    "a push without an identity": (
        subscription(pushConfig={"pushEndpoint": DOOR}),
        "subscriptions/indexpush-on-commit: it shows no identity",
    ),
    "a push without its envelope": (
        subscription(pushConfig={"pushEndpoint": DOOR, "oidcToken": {}, "noWrapper": {}}),
        "without Pub/Sub's envelope",
    ),
    "a subscription that is detached": (subscription(detached=True), "it is detached from its topic"),
    "a subscription with a filter": (
        subscription(filter='attributes.eventType="OBJECT_FINALIZE"'),
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
    "a rule for versions that no newer one need follow": (rules(rule({"numNewerVersions": 0})), "below commits/"),
    "a secret for all to see": (lambda it: settings(it).update(CD_WEBHOOK_TOKEN="s3cret"), "plain variable"),
    "a function that is ended in a sweep": (
        lambda it: function(it)["serviceConfig"].update(timeoutSeconds=30),
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
        after(pushed, lambda it: it.update({SERVICE: {"bindings": []}})),
        "push@acme.example, as which messages are pushed to it, may not call it",
    ),
    "a trigger by an account that may not call the function": (
        lambda it: (
            function(it)["eventTrigger"].update(serviceAccountEmail="eventarc@acme.example"),
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
        lambda it: function(it)["serviceConfig"]["secretEnvironmentVariables"][0].update(projectId="acme-security"),
        "projects/acme-security/secrets/token/versions/1 is not there",
    ),
    "a secret in a file whose newest version is disabled": (
        lambda it: (
            function(it)["serviceConfig"].update(secretVolumes=[{"mountPath": "/s", "secret": "slack"}]),
            it.update({SECRET.replace("token/versions/1", "slack/versions/latest"): {"state": "DISABLED"}}),
        ),
        "projects/acme/secrets/slack/versions/latest is disabled",
    ),
    "the function that tells people is pushed to by one who may not call it": (
        tells_people,
        "push@acme.example, as which messages are pushed to it, may not call it",
    ),
    "a webhook that fails": (lambda it: it.update({WEBHOOK: (502, {})}), "it answers 502"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_mend_and_nothing_else_is(name: str) -> None:
    table = well()
    plant, named = WRONG[name]
    plant(table)
    (found,) = findings(table, "ok", "hint", "unknown")
    assert named in f"{found['subject']}: {found['text']}"
    assert found["mend"]
    assert check(table).code == 1
