"""`indexpush check`: what is more or less than it should be, and works, is named with its mend."""

from __future__ import annotations

import copy

import pytest

from tests.operator_cli.installation import (
    BUCKET,
    DEAD_HEARD,
    FUNCTIONS,
    GRANTS,
    JOBS,
    NOTIFICATIONS,
    PODS,
    PUTS_ASIDE,
    REPORTS_HEARD,
    SERVICE,
    TAKES_OFF,
    WEBHOOK,
    Plant,
    after,
    check,
    findings,
    function,
    notification,
    pushed,
    rule,
    rules,
    settings,
    subscription,
    well,
)

HINTS: dict[str, tuple[Plant, str]] = {
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
        subscription(ackDeadlineSeconds=10),
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
        subscription(deadLetterPolicy={"maxDeliveryAttempts": 5}),
        "it puts aside what failed 5 times",
    ),
    "ten minutes": (
        subscription(messageRetentionDuration="600s"),
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
    "a dead-letter topic that isn't there": (after(pushed, lambda it: it.pop(PUTS_ASIDE)), "which isn't there"),
    "a dead-letter topic that Pub/Sub may not publish to": (
        after(pushed, lambda it: it.update({PUTS_ASIDE: {}})),
        "may not publish to its dead-letter topic",
    ),
    "a subscription that Pub/Sub may take nothing off": (
        after(pushed, lambda it: it.update({TAKES_OFF: {}})),
        "may not take messages off it",
    ),
    "dead letters that nobody keeps": (
        after(pushed, lambda it: it.update({DEAD_HEARD: {}})),
        "nobody hears of what is put aside",
    ),
    "no soft delete": (lambda it: it[BUCKET].pop("softDeletePolicy"), "soft delete is off"),
    "a cold bucket": (lambda it: it[BUCKET].update(storageClass="COLDLINE"), "its class is COLDLINE"),
    "builds that grow cold": (
        rules(rule({"age": 30}, type="SetStorageClass", storageClass="NEARLINE")),
        "to NEARLINE",
    ),
    "embeddings that go": (rules(rule({"age": 180, "matchesPrefix": ["features/"]})), "all are made anew at once"),
    "receipts that go": (rules(rule({"age": 30, "matchesPrefix": ["deployments/"]})), "receipts"),
    "a rule by suffix": (rules(rule({"age": 30, "matchesSuffix": [".tmp"]})), "matchesSuffix ['.tmp']"),
    "one who may do anything": (
        lambda it: it[GRANTS]["bindings"][1].pop("condition"),
        "batch@acme.example has roles/storage.objectUser without a condition",
    ),
    "told twice": (
        lambda it: it[NOTIFICATIONS]["items"].append(notification("3", "commits/")),
        "2 notifications tell one topic",
    ),
    "filters aren't told": (lambda it: it[NOTIFICATIONS]["items"].pop(), "below filters/"),
    "everything is told": (
        lambda it: it[NOTIFICATIONS].update(items=[notification("1", "")]),
        "every file of every build wakes the function",
    ),
    "deletions, too": (
        lambda it: it[NOTIFICATIONS]["items"][0]["event_types"].append("OBJECT_DELETE"),
        "it tells of OBJECT_DELETE as well",
    ),
    "two functions": (
        lambda it: it[FUNCTIONS]["functions"].append(copy.deepcopy(function(it))),
        "each commit is looked at as many times",
    ),
    "no credentials": (lambda it: settings(it).pop("CD_WEBHOOK_AUTH"), "without credentials"),
    "no reports": (lambda it: settings(it).pop("NOTIFY_TOPIC"), "no NOTIFY_TOPIC"),
    "reports that nobody reads": (lambda it: it.update({REPORTS_HEARD: {}}), "nobody hears of refusals"),
    "a trigger by an account that the project may let in": (
        lambda it: (
            function(it)["eventTrigger"].update(serviceAccountEmail="42-compute@developer.gserviceaccount.com"),
            it.update({SERVICE: {}}),
        ),
        "42-compute@developer.gserviceaccount.com, as which messages are pushed to it, may not call it",
    ),
    "nobody prunes": (lambda it: it[JOBS]["jobs"].pop(), "no job prunes"),
    "another release": (lambda it: it[WEBHOOK][1].update(version="0.0.9"), "release 0.0.9"),
    "a Spinnaker": (lambda it: it.update({WEBHOOK: (404, {})}), "or a Spinnaker"),
}


@pytest.mark.parametrize("name", HINTS)
def test_what_is_more_or_less_than_it_should_be_is_named_and_no_failure(name: str) -> None:
    table = well()
    plant, named = HINTS[name]
    plant(table)
    found = findings(table, "ok")
    assert {each["level"] for each in found} == {"hint"}
    assert any(named in f"{each['subject']}: {each['text']}" for each in found)
    assert all(each["mend"] for each in found)
    assert check(table).code == 0
