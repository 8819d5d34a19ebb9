"""The bucket's own settings: its access, its lifecycle rules, and who may do what in it.

The fields are those of Cloud Storage's JSON API: https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Final

from operator_cli.check.finding import Finding, Resource, hint, ok, wrong

_SERVED: Final = ("commits/", "filters/", "indexes/", "models/")
"""What live commits reach: deleting by age what is there would delete what serves, as old as it may be."""
_REMEMBERED: Final = ("deployments/",)
"""Receipts: history, rollback and prune go by them."""
_EMBEDDED: Final = ("features/",)
"""What every run of the batch reads, as old as it may be."""
_NONCURRENT: Final = ("numNewerVersions", "daysSinceNoncurrentTime", "noncurrentTimeBefore")
_UNSET: Final = ("daysSinceCustomTime", "customTimeBefore")
"""Conditions that no object of ours meets: none has a custom time."""
_COLD: Final = ("NEARLINE", "COLDLINE", "ARCHIVE")
_EVERYBODY: Final = ("allUsers", "allAuthenticatedUsers")
_WRITES: Final = (
    "roles/storage.admin",
    "roles/storage.objectAdmin",
    "roles/storage.objectUser",
    "roles/storage.legacyBucketOwner",
    "roles/storage.legacyBucketWriter",
)
_REPLACES: Final = _WRITES[:3]
_READS: Final = ("roles/storage.objectViewer", "roles/storage.legacyObjectReader", *_REPLACES)
_OBJECTS: Final = "projects/_/buckets/{}/objects/"
"""How conditions name what is in a bucket: https://cloud.google.com/iam/docs/conditions-resource-attributes"""
_POOL: Final = ".svc.id.goog"
_FUNCTION: Final = (
    ("read it", "", _READS),
    ("create receipts below deployments/", "deployments/", ("roles/storage.objectCreator", *_REPLACES)),
    ("note faults below incidents/", "incidents/", tuple(reversed(_REPLACES))),
)
"""What a function must be allowed, below which prefix, and the roles that do; the least one comes first."""
_PROJECTS: Final = ("projectOwner:", "projectEditor:")


def judge_bucket(bucket: Resource) -> Iterator[Finding]:
    """Its settings, but for lifecycle and grants."""
    name = f"gs://{bucket.get('name')}"
    access = bucket.get("iamConfiguration", {})
    if not access.get("uniformBucketLevelAccess", {}).get("enabled"):
        yield wrong(
            name,
            "uniform access is off: grants by prefix don't hold, and single objects can be shared",
            f"gcloud storage buckets update {name} --uniform-bucket-level-access",
        )
    if access.get("publicAccessPrevention") != "enforced":
        yield hint(
            name,
            "its own setting doesn't prevent that it is made public; a policy of the organisation may",
            f"gcloud storage buckets update {name} --public-access-prevention",
        )
    if seconds := int(bucket.get("retentionPolicy", {}).get("retentionPeriod", 0)):
        yield wrong(
            name,
            f"its retention policy keeps every object for {seconds} s: no commit can be replaced before",
            "it is locked for ever: begin with another bucket"
            if bucket["retentionPolicy"].get("isLocked")
            else f"gcloud storage buckets update {name} --clear-retention-period",
        )
    if bucket.get("defaultEventBasedHold"):
        yield wrong(
            name,
            "new objects are on an event-based hold: no commit can be replaced",
            f"gcloud storage buckets update {name} --no-default-event-based-hold",
        )
    if bucket.get("billing", {}).get("requesterPays"):
        yield wrong(
            name,
            "requester pays is on: pods name no project that would pay, and are refused",
            f"gcloud storage buckets update {name} --no-requester-pays",
        )
    if not int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)):
        yield hint(
            name,
            "soft delete is off: a build that is deleted by mistake is gone",
            f"gcloud storage buckets update {name} --soft-delete-duration=7d",
        )
    if bucket.get("ipFilter", {}).get("mode") == "Enabled":
        yield hint(
            name,
            "its IP filter is on: who isn't in a network that it lists is denied, whatever is granted",
            "see that it lists where function, webhook, pods, batch and people come from",
        )
    if bucket.get("storageClass", "STANDARD") in _COLD:
        yield hint(
            name,
            f"its class is {bucket['storageClass']}: each pull of each pod is paid for by the byte",
            f"gcloud storage buckets update {name} --default-storage-class=STANDARD",
        )


def judge_lifecycle(bucket: Resource) -> Iterator[Finding]:
    """Rules that would delete or freeze what a live commit reaches."""
    name = f"gs://{bucket.get('name')}"
    rules = bucket.get("lifecycle", {}).get("rule", [])
    if bucket.get("versioning", {}).get("enabled") and not any(
        _of_noncurrent(rule.get("condition", {})) for rule in rules
    ):
        yield hint(
            name,
            "versioning is on, and no rule deletes old versions: what prune deletes stays, and is paid for",
            f"gcloud storage buckets update {name} --no-versioning, or a rule by daysSinceNoncurrentTime",
        )
    for number, rule in enumerate(rules, 1):
        action, condition = rule.get("action", {}), rule.get("condition", {})
        subject = f"{name}, lifecycle rule {number}"
        served, remembered = _met(condition, _SERVED), _met(condition, _REMEMBERED)
        if action.get("type") == "Delete" and served:
            said = wrong if "matchesSuffix" not in condition else hint
            yield said(
                subject,
                f"it deletes by {_conditions(condition)} what is below {', '.join(served)}, also what serves",
                "restrict it by matchesPrefix to what the batch can make anew (docs/batch.md), and let indexpush prune "
                "delete builds: it knows which are live",
            )
        elif action.get("type") == "Delete" and remembered:
            yield hint(
                subject,
                f"it deletes by {_conditions(condition)} receipts: history, rollback and prune go by them",
                "restrict it by matchesPrefix",
            )
        elif action.get("type") == "Delete" and _met(condition, _EMBEDDED):
            yield hint(
                subject,
                f"it deletes by {_conditions(condition)} embeddings that each run reads: all are made anew at once",
                "leave features/ to indexpush prune, which knows what no run counts on",
            )
        elif action.get("type") == "SetStorageClass" and action.get("storageClass") in _COLD and served:
            yield hint(
                subject,
                f"it moves what is below {', '.join(served)} to {action['storageClass']}: each pull is paid for",
                "restrict it by matchesPrefix",
            )


def _met(condition: Resource, folders: tuple[str, ...]) -> list[str]:
    """The folders in which live versions may meet the condition."""
    if _of_noncurrent(condition) or any(each in condition for each in _UNSET):
        return []
    prefixes = condition.get("matchesPrefix") or [""]
    return [
        folder for folder in folders if any(folder.startswith(each) or each.startswith(folder) for each in prefixes)
    ]


def _of_noncurrent(condition: Resource) -> bool:
    # no live version has a newer one, but 0 of them it has
    return condition.get("isLive") is False or any(condition.get(each, 0) != 0 for each in _NONCURRENT)


def _conditions(condition: Resource) -> str:
    kept = [f"{key} {value}" for key, value in sorted(condition.items()) if key != "matchesPrefix"]
    return ", ".join(kept) or "no condition"


def judge_grants(bucket: Resource, policy: Resource, accounts: dict[str, str], now: datetime) -> Iterator[Finding]:
    """Who may do what. accounts: of functions, by the name of the function."""
    name = f"gs://{bucket.get('name')}"
    bindings = policy.get("bindings", [])
    for binding in bindings:
        role, members = binding.get("role", ""), binding.get("members", [])
        for member in members:
            if member in _EVERYBODY:
                yield wrong(
                    name,
                    f"{role} is granted to {member}: everybody in the world",
                    f"gcloud storage buckets remove-iam-policy-binding {name} --member={member} --role={role}",
                )
            elif role in _WRITES and "condition" not in binding and not member.startswith(_PROJECTS):
                yield hint(
                    name,
                    f"{member} has {role} without a condition: it may commit to every environment, and delete builds",
                    "grant it on the prefixes that it needs (docs/threat-model.md)",
                )
    for program, account in accounts.items():
        member, objects = f"serviceAccount:{account}", _OBJECTS.format(bucket.get("name"))
        for what, folder, roles in _FUNCTION:
            if not any(_allows(each, (member,), roles, f"{objects}{folder}", now) for each in bindings):
                below = f'resource.name.startsWith("{objects}{folder}")'
                where = f" --condition='title={folder},expression={below}'" if folder else ""
                yield wrong(
                    name,
                    f"{account}, as which the {program} runs, may not {what}, as far as the bucket's own grants say",
                    f"gcloud storage buckets add-iam-policy-binding {name} --member={member} --role={roles[0]}{where}",
                )
    yield ok(
        name,
        f"its own grants ({len(bindings)}) looked at; what the project's, a folder's or the organisation's allow "
        "can't be seen here: gcloud projects get-ancestors-iam-policy PROJECT lists them",
    )


def judge_pods(name: str, policy: Resource, pods: str, now: datetime) -> Iterator[Finding]:
    """Whether they may read the bucket. name: the bucket's. pods: their namespace and service account, by a slash."""
    namespace, _, account = pods.partition("/")
    subject = f"/subject/ns/{namespace}/sa/{account}"
    ends = (f"{_POOL}{subject}", f"{_POOL}[{namespace}/{account}]", f"{_POOL}/namespace/{namespace}")
    if not any(_allows(each, ends, _READS, _OBJECTS.format(name), now) for each in policy.get("bindings", [])):
        yield hint(
            f"gs://{name}",
            f"no grant of its own lets the pods read it (service account {account} of namespace {namespace}): unless "
            "that stands for a Google service account, or the project grants it, no new pod becomes ready",
            f"gcloud storage buckets add-iam-policy-binding gs://{name} --role={_READS[0]} --member=principal://"
            f"iam.googleapis.com/projects/<number>/locations/global/workloadIdentityPools/<project>{_POOL}{subject}",
        )


def _allows(binding: Resource, members: tuple[str, ...], roles: tuple[str, ...], objects: str, now: datetime) -> bool:
    """Whether a binding allows it, or may: what a role of somebody's own allows, and other conditions, aren't seen.

    members: how the names of any of them end. objects: how the names of all begin that it is about.
    """
    role, expression = str(binding.get("role", "")), str(binding.get("condition", {}).get("expression", ""))
    prefixes = re.findall(r"['\"](projects/[^'\"]*/objects/[^'\"]*)['\"]", expression) or [""]
    known = role in roles or role.startswith(("projects/", "organizations/"))
    theirs = any(member.endswith(members) for member in binding.get("members", []))
    return known and theirs and any(objects.startswith(each) for each in prefixes) and not _over(expression, now)


def _over(expression: str, now: datetime) -> bool:
    """Whether the time is over until which a condition holds."""
    until = re.search(r"request\.time\s*<=?\s*timestamp\(['\"]([^'\"]+)['\"]\)", expression)
    with suppress(ValueError, TypeError):  # no time, or without its zone
        return until is not None and datetime.fromisoformat(until[1]) < now
    return False
