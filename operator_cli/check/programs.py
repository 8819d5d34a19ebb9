"""The function, its schedules, and the webhook.

The fields are those of Cloud Functions' API (https://cloud.google.com/functions/docs/reference/rest/v2), which names
Cloud Run functions as well, and of Cloud Scheduler's (https://cloud.google.com/scheduler/docs/reference/rest).
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from operator_cli.check.finding import Finding, Resource, hint, ok, unknown, wrong

_DEFAULT_ACCOUNT: Final = "-compute@developer.gserviceaccount.com"
_URL: Final = "CD_WEBHOOK_URL"
_ENTRY: Final = "on_commit"


def functions_of(functions: list[Resource], topics: set[str]) -> list[Resource]:
    """Those of commits that a trigger of their own wakes for what is published on the topics."""
    return [each for each in _of_commits(functions) if each.get("eventTrigger", {}).get("pubsubTopic") in topics]


def functions_at(functions: list[Resource], urls: set[str]) -> list[Resource]:
    """Those of commits that are at one of the URLs, to which subscriptions push."""
    at = {url.rstrip("/") for url in urls}
    return [each for each in _of_commits(functions) if each.get("serviceConfig", {}).get("uri", "").rstrip("/") in at]


def _of_commits(functions: list[Resource]) -> list[Resource]:
    # others may hear of the same uploads: functions/notify does
    return [each for each in functions if each.get("buildConfig", {}).get("entryPoint", _ENTRY) == _ENTRY]


def settings_of(function: Resource) -> Resource:
    """Its environment variables, but for secrets."""
    found: Resource = function.get("serviceConfig", {}).get("environmentVariables", {})
    return found


def account_of(function: Resource) -> str:
    """The e-mail of the service account that it runs as."""
    return str(function.get("serviceConfig", {}).get("serviceAccountEmail", ""))


def webhook_of(function: Resource, environment: str | None) -> str:
    """The URL that deploys to the environment; empty: none."""
    settings = settings_of(function)
    own = settings.get(f"{_URL}_{environment.upper().replace('-', '_')}", "") if environment else ""
    return str(own or settings.get(_URL, ""))


def judge_function(function: Resource, bucket: str, environment: str | None) -> Iterator[Finding]:
    """How it is set up."""
    name, settings = short(function), settings_of(function)
    config, trigger = function.get("serviceConfig", {}), function.get("eventTrigger", {})
    if (state := function.get("state")) != "ACTIVE":
        said = "; ".join(str(each.get("message", "")) for each in function.get("stateMessages", []))
        yield wrong(
            name, f"it is {state}{f' ({said})' if said else ''}", "deploy it again (functions/on_commit/README.md)"
        )
    if trigger and trigger.get("retryPolicy") != "RETRY_POLICY_RETRY":  # a subscription of its own always does
        yield wrong(
            name,
            "it isn't retried: a commit whose event met a hiccup is not deployed before the next sweep",
            "deploy it with --retry",
        )
    if settings.get("MODEL_REPOSITORY") != f"gs://{bucket}":
        yield wrong(
            name,
            f"its MODEL_REPOSITORY is {settings.get('MODEL_REPOSITORY')!r}: it passes over what is told of gs://{bucket}",
            f"deploy it with MODEL_REPOSITORY=gs://{bucket}",
        )
    if not webhook_of(function, environment) and (environment or not any(key.startswith(_URL) for key in settings)):
        yield wrong(
            name,
            f"it knows no webhook{f' of {environment}' if environment else ''}: nothing is deployed there",
            f"deploy it with {_URL}=<url>, or {_URL}_<ENVIRONMENT> for each",
        )
    if "CD_WEBHOOK_TOKEN" in settings:
        yield wrong(
            name,
            "CD_WEBHOOK_TOKEN is a plain variable: who may look at the function reads the secret",
            "replace the token (docs/operations.md), and hand it over with --set-secrets",
        )
    if settings.get("CD_WEBHOOK_AUTH", "none") == "none" and webhook_of(function, environment):
        yield hint(
            name,
            "it calls the webhook without credentials: whoever reaches the webhook may deploy",
            "CD_WEBHOOK_AUTH=bearer, or google-id-token, on both sides",
        )
    sweep = int(settings.get("SWEEP_SECONDS", 45))
    if (most := int(config.get("timeoutSeconds", 60))) <= sweep:
        yield wrong(name, f"it is ended after {most} s, and a sweep may take {sweep}", "deploy it with --timeout=540s")
    if not settings.get("NOTIFY_TOPIC"):
        yield hint(name, "it has no NOTIFY_TOPIC: refusals are told by log and receipt alone", "name a topic there")
    if account_of(function).endswith(_DEFAULT_ACCOUNT):
        yield hint(
            name,
            f"it runs as {account_of(function)}, which by default may change everything in the project",
            "make it a service account of its own (docs/threat-model.md says what that needs)",
        )
    hears = trigger.get("pubsubTopic", "what a subscription pushes to it")
    yield ok(name, f"hears of {hears}, and calls {webhook_of(function, environment) or 'nobody'}")


def judge_door(function: Resource, status: int) -> Iterator[Finding]:
    """What it answered to somebody without credentials."""
    url = function.get("serviceConfig", {}).get("uri", "")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:  # 404: internal ingress alone
        yield ok(url, "answers nobody without credentials")
    else:
        yield wrong(
            url,
            f"it answers anybody ({status}): a stranger may have it look and sweep, as often as they like",
            "take roles/run.invoker from allUsers",
        )


def judge_schedules(jobs: list[Resource], topics: set[str], location: str) -> Iterator[Finding]:
    """Whether somebody sweeps, and prunes."""
    create = (
        f"gcloud scheduler jobs create pubsub sweep-commits --location={location} --schedule='*/15 * * * *' "
        f"--topic={min(topics, default='<topic>')} --message-body=sweep --attributes=sweep=true"
    )
    to_topic = [job for job in jobs if job.get("pubsubTarget", {}).get("topicName") in topics]
    sweeps = [job for job in to_topic if _attribute(job, "sweep") == "true"]
    if not sweeps:
        elsewhere = [job for job in jobs if job not in to_topic and _attribute(job, "sweep")]
        text = "no job has the function sweep: what a lost event or a deleted Deployment leaves is never repaired"
        if to_topic:
            text += f" ({short(to_topic[0])} goes to the topic, without the attribute sweep=true)"
        elif elsewhere:
            text += f" ({short(elsewhere[0])} goes to {elsewhere[0]['pubsubTarget'].get('topicName')})"
        yield wrong(f"schedules in {location}", text, create)
    for job in sweeps:
        if job.get("state") != "ENABLED":
            yield wrong(short(job), f"it is {job.get('state')}: nobody sweeps", "gcloud scheduler jobs resume it")
        elif code := int(job.get("status", {}).get("code", 0)):
            why = job["status"].get("message") or f"code {code}"
            yield wrong(short(job), f"its last attempt failed: {why}", "see its log, and its service account's grants")
        else:
            yield ok(short(job), f"sweeps at {job.get('schedule')}")
    prunes = [job for job in jobs if "prune" in f"{job.get('name')} {job.get('httpTarget', {}).get('uri')}"]
    if not prunes:
        yield hint(
            f"schedules in {location}",
            "no job prunes: builds stay for ever",
            "run indexpush prune --apply daily; or nothing, if something else runs it",
        )


def _attribute(job: Resource, name: str) -> str:
    return str(job.get("pubsubTarget", {}).get("attributes", {}).get(name, "")).lower()


def judge_webhook(
    url: str, answer: Resource, *, bucket: str, environment: str | None, version: str, contract: int
) -> Iterator[Finding]:
    """What it says of itself, at /v1/check. version, contract: this command's."""
    its, theirs = answer.get("environment"), answer.get("bucket")
    if environment and its != environment:
        yield wrong(url, f"it deploys {its}, not {environment}", f"correct {_URL} of the function, or its ENVIRONMENT")
    if theirs != bucket:
        yield wrong(url, f"it deploys from gs://{theirs}, not gs://{bucket}", "correct its MODEL_REPOSITORY")
    if (spoken := int(answer.get("contract", 0))) < contract:
        yield wrong(
            url,
            f"it speaks contract {spoken}, this command {contract}: it may refuse what is committed",
            "deploy the webhook's image of this release, before the function",
        )
    elif (release := answer.get("version")) != version:
        yield hint(url, f"it is release {release}, this command is {version}", "bring both to one release")
    for each in answer.get("checks", []):
        subject = f"{url}, {each.get('what')}"
        if each.get("ok"):
            yield ok(subject, str(each.get("text")))
        else:
            yield wrong(subject, str(each.get("text")), "mend that; python -m cd_webhook --check says it there as well")


def judge_refusal(url: str, status: int) -> Finding:
    """An answer of the webhook that isn't what it says of itself."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return unknown(url, f"it refuses to say ({status})", "set CD_WEBHOOK_TOKEN to the webhook's token")
    if status == HTTPStatus.NOT_FOUND:
        return hint(url, "it can't say how it is (404): an older webhook, or a Spinnaker", "look at it by hand")
    return wrong(url, f"it answers {status}", "see its log")


def short(resource: Resource) -> str:
    """Kind and name, of projects/p/locations/l/functions/on-commit."""
    return "/".join(str(resource.get("name", "?")).split("/")[-2:])
