"""The function, its schedules, and the webhook.

The fields are those of Cloud Functions' API (https://cloud.google.com/functions/docs/reference/rest/v2), which names
Cloud Run functions as well, and of Cloud Scheduler's (https://cloud.google.com/scheduler/docs/reference/rest).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from model_repository.errors import Misconfigured
from model_repository.programs.function_config import Config
from operator_cli.check.finding import Finding, Resource, hint, ok, unknown, wrong

DEFAULT_ACCOUNT: Final = "-compute@developer.gserviceaccount.com"
_URL: Final = "CD_WEBHOOK_URL"
_ENTRY: Final = "on_commit"
_OFTEN: Final = re.compile(r"\S+ (\*|\*/1)( \*){3}|every (\d+ (minutes|mins)|1 hours)")
"""Schedules that begin at least once an hour."""
_JOB: Final = re.compile(r"https://run\.googleapis\.com/v2/(projects/[^/]+/locations/[^/]+/jobs/[^/]+):run")
_ITSELF: Final = ("localhost", "127.0.0.1", "::1")


def functions_of(functions: list[Resource], topics: set[str]) -> list[Resource]:
    """Those of commits that a trigger of their own wakes for what is published on the topics."""
    return [each for each in _of_commits(functions) if each.get("eventTrigger", {}).get("pubsubTopic") in topics]


def functions_at(functions: list[Resource], urls: set[str]) -> list[Resource]:
    """Those of commits that are at one of the URLs, to which subscriptions push."""
    return [each for each in _of_commits(functions) if url_of(each) in urls]


def _of_commits(functions: list[Resource]) -> list[Resource]:
    # others may hear of the same uploads: functions/notify does
    return [each for each in functions if each.get("buildConfig", {}).get("entryPoint", _ENTRY) == _ENTRY]


def url_of(function: Resource) -> str:
    """Where it answers, without a slash at the end."""
    return str(function.get("serviceConfig", {}).get("uri", "")).rstrip("/")


def settings_of(function: Resource) -> Resource:
    """Its environment variables, but for secrets."""
    found: Resource = function.get("serviceConfig", {}).get("environmentVariables", {})
    return found


def account_of(function: Resource) -> str:
    """The e-mail of the service account that it runs as."""
    return str(function.get("serviceConfig", {}).get("serviceAccountEmail", ""))


def webhooks_of(function: Resource, environment: str | None) -> dict[str, str | None]:
    """The URLs that it calls for an environment, or (None) for all; each with whose it is, None: of all others."""
    settings = settings_of(function)
    urls: dict[str, str | None] = {str(settings.get(_URL, "")): environment}
    own = {name.removeprefix(f"{_URL}_"): str(url) for name, url in settings.items() if name.startswith(f"{_URL}_")}
    names = {variable.lower().replace("_", "-"): url for variable, url in own.items()}
    if environment is None:
        urls |= {url: name for name, url in names.items()}
    elif environment in names:
        urls = {names[environment]: environment}
    return {url: name for url, name in urls.items() if urlsplit(url).scheme in {"http", "https"}}


def seconds_of(function: Resource) -> int:
    """For so long it may work on one event."""
    return int(function.get("serviceConfig", {}).get("timeoutSeconds", 60))


def reads(function: Resource, bucket: str) -> bool:
    """Whether it is told that the bucket is the Model Repository."""
    return str(settings_of(function).get("MODEL_REPOSITORY")).removesuffix("/") == f"gs://{bucket}"


def tells_people(function: Resource) -> bool:
    """Whether it is functions/notify."""
    return bool(function.get("buildConfig", {}).get("entryPoint") == "notify")


def judge_state(function: Resource) -> Iterator[Finding]:
    """Whether it runs."""
    if (state := function.get("state")) != "ACTIVE":
        said = "; ".join(str(each.get("message", "")) for each in function.get("stateMessages", []))
        entry = function.get("buildConfig", {}).get("entryPoint", _ENTRY)
        what = f"it is {state}{f' ({said})' if said else ''}"
        yield wrong(short(function), what, f"deploy it again (functions/{entry}/README.md)")


def judge_function(function: Resource, bucket: str, environment: str | None) -> Iterator[Finding]:
    """How it is set up."""
    name, settings = short(function), settings_of(function)
    trigger = function.get("eventTrigger", {})
    yield from judge_state(function)
    if trigger and trigger.get("retryPolicy") != "RETRY_POLICY_RETRY":  # a subscription of its own always does
        yield wrong(
            name,
            "it isn't retried: a commit whose event met a hiccup is not deployed before the next sweep",
            "deploy it with --retry",
        )
    if not reads(function, bucket):
        yield wrong(
            name,
            f"its MODEL_REPOSITORY is {settings.get('MODEL_REPOSITORY')!r}: it passes over what is told of gs://{bucket}",
            f"deploy it with MODEL_REPOSITORY=gs://{bucket}",
        )
    yield from _judge_settings(name, function, environment)
    if "CD_WEBHOOK_TOKEN" in settings:
        yield wrong(
            name,
            "CD_WEBHOOK_TOKEN is a plain variable: who may look at the function reads the secret",
            "replace the token (docs/operations.md), and hand it over with --set-secrets",
        )
    if settings.get("CD_WEBHOOK_AUTH", "none") == "none" and webhooks_of(function, environment):
        yield hint(
            name,
            "it calls the webhook without credentials: whoever reaches the webhook may deploy",
            "CD_WEBHOOK_AUTH=bearer, or google-id-token, on both sides",
        )
    if not settings.get("NOTIFY_TOPIC"):
        yield hint(name, "it has no NOTIFY_TOPIC: refusals are told by log and receipt alone", "name a topic there")
    if account_of(function).endswith(DEFAULT_ACCOUNT):
        yield hint(
            name,
            f"it runs as {account_of(function)}, which by default may change everything in the project",
            "make it a service account of its own (docs/threat-model.md says what that needs)",
        )
    hears = trigger.get("pubsubTopic", "what a subscription pushes to it")
    yield ok(name, f"hears of {hears}, and calls {', '.join(webhooks_of(function, environment)) or 'nobody'}")


def _judge_settings(name: str, function: Resource, environment: str | None) -> Iterator[Finding]:
    secrets = function.get("serviceConfig", {}).get("secretEnvironmentVariables", [])
    try:
        read = Config.from_environment(
            {**settings_of(function), **{each.get("key", ""): "a secret" for each in secrets}}
        )
    except Misconfigured as error:
        yield wrong(name, f"it does nothing with such settings: {error}", "deploy it with others (its README.md)")
        return
    if environment and not read.webhook_for(environment):
        yield wrong(
            name,
            f"it knows no webhook of {environment}: nothing is deployed there",
            f"deploy it with {_URL}=<url>, or {_URL}_<ENVIRONMENT> for each",
        )
    for url in webhooks_of(function, environment):
        if urlsplit(url).hostname in _ITSELF:
            yield wrong(name, f"{url} is the function's own machine: no webhook is there", f"correct {_URL}")
    sweep = read.limits.sweep_budget / timedelta(seconds=1)
    if (most := seconds_of(function)) <= sweep:
        said = f"it is ended after {most} s, and a sweep may take {sweep:.0f}"
        yield wrong(name, said, "deploy it with --timeout=540s")


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
        yield from _judge_job(job, "sweeps")
        if not _OFTEN.fullmatch(str(job.get("schedule"))):
            yield hint(
                short(job),
                f"it sweeps at {job['schedule']}: what a lost event leaves waits that long, and after two hours "
                "IndexpushSweepMissing fires",
                f"gcloud scheduler jobs update pubsub {short(job).rpartition('/')[2]} --location={location} "
                "--schedule='*/15 * * * *'",
            )
    prunes = [job for job in jobs if "prune" in f"{job.get('name')} {job.get('httpTarget', {}).get('uri')}"]
    for job in prunes:
        yield from _judge_job(job, "prunes")
    if not prunes:
        yield hint(
            f"schedules in {location}",
            "no job prunes: builds stay for ever",
            "run indexpush prune --apply daily; or nothing, if something else runs it",
        )


def job_of(schedule: Resource) -> str:
    """The job of Cloud Run that it starts, as its API names it; empty: it starts something else."""
    found = _JOB.fullmatch(str(schedule.get("httpTarget", {}).get("uri")))
    return found[1] if found else ""


def judge_run(job: Resource) -> Iterator[Finding]:
    """How a job of Cloud Run ended last; that it was started is all that its schedule knows."""
    last = job.get("latestCreatedExecution", {})
    if last.get("completionStatus") == "EXECUTION_FAILED":
        name, region = str(last.get("name", "")).rpartition("/")[2], "".join(str(job.get("name", "")).split("/")[3:4])
        yield wrong(
            short(job),
            f"its last run {name} failed",
            f"gcloud run jobs executions describe {name} --region={region}, and see its log",
        )


def _judge_job(job: Resource, does: str) -> Iterator[Finding]:
    name, location = short(job), str(job.get("name", "")).split("/")[3:4]
    if job.get("state") != "ENABLED":
        resume = f"gcloud scheduler jobs resume {name.rpartition('/')[2]} --location={''.join(location)}"
        yield wrong(name, f"it is {job.get('state')}: nobody {does}", resume)
    elif code := int(job.get("status", {}).get("code", 0)):
        why = job["status"].get("message") or f"code {code}"
        yield wrong(name, f"its last attempt failed: {why}", "see its log, and its service account's grants")
    else:
        yield ok(name, f"{does} at {job.get('schedule')}")


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


def judge_path(url: str) -> Iterator[Finding]:
    """Whether a function asks a webhook where it deploys. url: the function's."""
    if not re.search(r"/webhooks/webhook/[^/]+$", urlsplit(url).path):
        yield wrong(
            url,
            "the webhook deploys at /webhooks/webhook/<source>, and answers 404 there",
            f"deploy the function with {_URL}=https://<host>/webhooks/webhook/indexpush",
        )


def judge_refusal(url: str, status: int) -> Finding:
    """An answer of the webhook that isn't what it says of itself."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return unknown(url, f"it refuses to say ({status})", "set CD_WEBHOOK_TOKEN to the webhook's token")
    if status == HTTPStatus.NOT_FOUND:
        return hint(url, "it can't say how it is (404): an older webhook, or a Spinnaker", "look at it by hand")
    if status in range(300, 400):
        return wrong(
            url,
            f"it leads elsewhere ({status}), as a sign-in of Identity-Aware Proxy or a redirect to https does: the "
            "function follows nobody",
            "let the function reach it as it is: it checks callers itself (WEBHOOK_AUTH)",
        )
    return wrong(url, f"it answers {status}", "see its log")


def short(resource: Resource) -> str:
    """Kind and name, of projects/p/locations/l/functions/on-commit."""
    return "/".join(str(resource.get("name", "?")).split("/")[-2:])
