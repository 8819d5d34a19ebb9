"""Who may do what, once it is installed: docs/threat-model.md as a table. What isn't in it fails, whoever it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.terraform.plan import Grant, grants, resources

READ, CREATE, REPLACE = "roles/storage.objectViewer", "roles/storage.objectCreator", "roles/storage.objectUser"
PUBLISH, INVOKE = "roles/pubsub.publisher", "roles/run.invoker"
DELETE = "projects/acme-search/roles/indexpush.delete"
"""Deletes objects, and nothing else: see below."""
BATCH_STATE = ("catalogues/", "shards/", "pictures/", "features/", "diffs/", "reports/")
ONCALL = "group:search-oncall@acme.example"


def account(name: str, project: str = "acme-search") -> str:
    return f"serviceAccount:indexpush-{name}@{project}.iam.gserviceaccount.com"


def agent(name: str) -> str:
    return f"serviceAccount:service-123456789012@{name}.iam.gserviceaccount.com"


def in_cluster(environment: str, name: str, project: str = "acme-search") -> str:
    pool = f"projects/123456789012/locations/global/workloadIdentityPools/{project}.svc.id.goog"
    return f"principal://iam.googleapis.com/{pool}/subject/ns/indexpush-{environment}/sa/indexpush-{name}"


def below(*prefixes: str, who: str, role: str, bucket: str = "acme-models") -> set[Grant]:
    """The same role on prefixes of the bucket; none: on all of it."""
    objects = f"projects/_/buckets/{bucket}/objects/"
    conditions = [f'resource.name.startsWith("{objects}{prefix}")' for prefix in prefixes] or [""]
    return {Grant(who, role, f"storage_bucket {bucket}", condition) for condition in conditions}


def commits(environments: tuple[str, ...], who: str, bucket: str = "acme-models") -> set[Grant]:
    """What a person or the board may: read, and commit."""
    prefixes = [f"commits/{environment}/" for environment in environments]
    return below(who=who, role=READ, bucket=bucket) | below(*prefixes, who=who, role=REPLACE, bucket=bucket)


def function(name: str, topic: str, project: str = "acme-search") -> set[Grant]:
    """What makes it run: the bucket tells its topic, and Pub/Sub pushes, and puts aside what can't be handled."""
    return {
        Grant(agent("gs-project-accounts"), PUBLISH, f"pubsub_topic indexpush-{topic}"),
        Grant(account("push", project), INVOKE, f"cloud_run_v2_service indexpush-{name}"),
        Grant(agent("gcp-sa-pubsub"), PUBLISH, f"pubsub_topic indexpush-{name}-dead"),
        Grant(agent("gcp-sa-pubsub"), "roles/pubsub.subscriber", f"pubsub_subscription indexpush-{name}"),
    }


def environment(name: str, project: str = "acme-search", bucket: str = "acme-models") -> set[Grant]:
    """A namespace: pods read; the webhook writes receipts once, and what belongs to filters."""
    pods, webhook = in_cluster(name, "search", project), in_cluster(name, "cd-webhook", project)
    return {
        *below(who=pods, role=READ, bucket=bucket),
        *below(who=webhook, role=READ, bucket=bucket),
        *below(f"deployments/{name}/", who=webhook, role=CREATE, bucket=bucket),
        *below(f"filters/{name}/", who=webhook, role=REPLACE, bucket=bucket),
        Grant(webhook, PUBLISH, "pubsub_topic indexpush-reports"),
    }


def everywhere(project: str = "acme-search", bucket: str = "acme-models") -> set[Grant]:
    """The function, the batch, and what builds and wakes the function."""
    on_commit, builder, batch = account("on-commit", project), account("builder", project), account("batch", project)
    return {
        *below(who=on_commit, role=READ, bucket=bucket),
        *below("deployments/", who=on_commit, role=CREATE, bucket=bucket),
        *below("incidents/", who=on_commit, role=REPLACE, bucket=bucket),
        Grant(on_commit, PUBLISH, "pubsub_topic indexpush-reports"),
        *below(who=batch, role=READ, bucket=bucket),
        *below("indexes/", "models/", who=batch, role=CREATE, bucket=bucket),
        *below(*BATCH_STATE, who=batch, role=REPLACE, bucket=bucket),
        *function("on-commit", "commits", project),
        Grant(builder, READ, f"storage_bucket {bucket}-functions"),
        Grant(builder, "roles/artifactregistry.writer", "artifact_registry_repository indexpush-functions"),
        Grant(builder, "roles/logging.logWriter", f"project {project}"),
        Grant(
            builder,
            READ,  # Cloud Run functions copies the source there, whoever's bucket it was in
            f"project {project}",
            'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-123456789012-europe-west4/")',
        ),
    }


SMALLEST = everywhere() | environment("production") | below("commits/production/", who=account("batch"), role=REPLACE)

STAGING = {
    *everywhere("acme-try", "acme-try-models"),
    *environment("staging", "acme-try", "acme-try-models"),
    *below("commits/staging/", who=account("batch", "acme-try"), role=REPLACE, bucket="acme-try-models"),
    Grant(account("nodes", "acme-try"), "roles/container.defaultNodeServiceAccount", "project acme-try"),
    Grant(account("nodes", "acme-try"), "roles/artifactregistry.reader", "artifact_registry_repository indexpush"),
}

PRODUCTION = {
    *everywhere(),
    *environment("staging"),
    *environment("production"),
    *below("commits/staging/", who=account("batch"), role=REPLACE),  # and not production's: people promote
    *commits(("staging", "production"), ONCALL),
    *below("comparisons/staging/", "comparisons/production/", who=ONCALL, role=REPLACE),
    *commits(("staging", "production"), account("board")),
    Grant(agent("gcp-sa-iap"), INVOKE, "cloud_run_v2_service indexpush-board"),
    Grant(ONCALL, "roles/iap.httpsResourceAccessor", "iap_web_cloud_run_service indexpush-board"),
    *below(who=account("prune"), role=READ),
    *below("indexes/", "models/", "catalogues/", "shards/", "features/", who=account("prune"), role=DELETE),
    *below("diffs/", "reports/", "comparisons/", who=account("prune"), role=DELETE),
    *(
        replace(each, condition=f'{each.condition} && resource.name.endsWith(".hidden")')  # and no filter
        for each in below("filters/", who=account("prune"), role=DELETE)
    ),
    Grant(account("scheduler"), INVOKE, "cloud_run_v2_job indexpush-prune"),
    *function("notify", "notices"),
    *below(who=account("notify"), role=READ),
    *below("notices/", who=account("notify"), role=REPLACE),
    Grant(account("notify"), "roles/secretmanager.secretAccessor", "secret_manager_secret indexpush-slack-token"),
}


def test_the_smallest_installation_grants_this_and_no_more(smallest: dict[str, Any]) -> None:
    assert sorted(grants(smallest)) == sorted(SMALLEST)


@pytest.mark.parametrize(("name", "expected"), [("staging", STAGING), ("production", PRODUCTION)])
def test_an_example_grants_this_and_no_more(
    name: str, expected: set[Grant], example: Callable[[str], dict[str, Any]]
) -> None:
    assert sorted(grants(example(name))) == sorted(expected)


def test_what_deletes_can_do_nothing_else(example: Callable[[str], dict[str, Any]]) -> None:
    roles = resources(example("production"), "google_project_iam_custom_role")
    assert [each["permissions"] for each in roles.values()] == [["storage.objects.delete"]]


def test_every_identity_is_used_and_no_key_is_made(example: Callable[[str], dict[str, Any]]) -> None:
    plan = example("production")
    made = {f"serviceAccount:{each['email']}" for each in resources(plan, "google_service_account").values()}
    granted = {grant.member for grant in grants(plan)}
    assert made <= granted
    assert resources(plan, "google_service_account_key") == {}
