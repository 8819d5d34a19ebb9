"""Looks at an installation, from its bucket on: what the bucket names, what that names, and so on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote

from model_repository.errors import AccessDenied, BucketMissing, BucketUnavailable, DeliveryError, ObjectMissing
from model_repository.programs.identity_tokens import NoIdentityToken, audience_of
from operator_cli.check import access, events, programs
from operator_cli.check import bucket as buckets
from operator_cli.check.finding import Finding, Resource, hint, unknown, wrong
from operator_cli.check.google import FUNCTIONS, PUBSUB, RUN, SCHEDULER, SECRETS, STORAGE, Web, listed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be looked at.

    environment: None: nothing that is of one alone. webhook: where it is reached from here; empty: where the function
    reaches it. tokens: for the origin of a webhook; see `webhook.tokens_from`. version, contract: this command's.
    now: a grant may be over.
    """

    bucket: str
    environment: str | None
    webhook: str
    tokens: Callable[[str], str]
    version: str
    contract: int
    now: datetime


class _Unseen(Exception):
    """A part that couldn't be looked at; the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def check(web: Web, asked: Asked) -> Iterator[Finding]:
    """Look at everything; what can't be looked at is a finding, too.

    Raises BucketMissing, and AccessDenied or BucketUnavailable where not even the bucket can be looked at.
    """
    name = quote(asked.bucket, safe="")
    try:
        bucket = web.google(f"{STORAGE}/b/{name}?projection=full")
    except ObjectMissing:
        raise BucketMissing(asked.bucket) from None
    yield from buckets.judge_bucket(bucket)
    yield from buckets.judge_lifecycle(bucket)
    functions: list[Resource] = []
    try:
        notifications = _seen(
            f"notifications of gs://{asked.bucket}",
            "roles/storage.legacyBucketReader, or storage.buckets.get and list",
            lambda: listed(web, f"{STORAGE}/b/{name}/notificationConfigs", "items"),
        )
        yield from events.judge_notifications(asked.bucket, notifications, asked.environment)
        topics = {events.topic_of(each) for each in events.hearing(notifications, _folder(asked))}
        for topic in sorted(topics):
            yield from _topic(web, topic, bucket)
        if topics:
            others = {events.topic_of(each) for each in notifications} - topics
            functions = yield from _functions(web, asked, topics, others, str(bucket.get("projectNumber")))
    except _Unseen as unseen:
        yield unseen.finding
    accounts = {programs.short(each): programs.account_of(each) for each in functions}
    policy: Resource | None = None
    try:
        policy = _seen(
            f"grants on gs://{asked.bucket}",
            "storage.buckets.getIamPolicy",
            lambda: web.google(f"{STORAGE}/b/{name}/iam?optionsRequestedPolicyVersion=3"),
        )
        yield from buckets.judge_grants(bucket, policy, accounts, asked.now)
    except _Unseen as unseen:
        yield unseen.finding
    for answer in (yield from _webhook(web, asked, functions)):
        if policy is not None and "pods" in answer:
            yield from buckets.judge_pods(asked.bucket, policy, str(answer["pods"]), asked.now)


def _folder(asked: Asked) -> str:
    return f"commits/{asked.environment}/" if asked.environment else "commits/"


def _seen(what: str, right: str, look: Callable[[], T]) -> T:
    try:
        return look()
    except AccessDenied as error:
        mend = f"get {right}, unless that names another reason: a perimeter of services, an API that isn't enabled"
        raise _Unseen(unknown(what, f"denied: {error}", mend)) from error
    except (BucketUnavailable, ObjectMissing) as error:
        raise _Unseen(unknown(what, str(error), "try again")) from error


def _topic(web: Web, topic: str, bucket: Resource) -> Iterator[Finding]:
    agent = f"service-{bucket.get('projectNumber')}@gs-project-accounts.iam.gserviceaccount.com"
    try:
        policy = web.google(f"{PUBSUB}/{topic}:getIamPolicy?options.requestedPolicyVersion=3")
    except ObjectMissing:
        yield wrong(topic, "the bucket tells it of uploads, and it isn't there", "make it, and the notification anew")
    except DeliveryError as error:
        yield unknown(topic, str(error), "get pubsub.topics.getIamPolicy")
    else:
        yield from events.judge_publisher(topic, policy, agent)


def _functions(
    web: Web, asked: Asked, topics: set[str], others: set[str], number: str
) -> Generator[Finding, None, list[Resource]]:
    """Judge who hears, and when it is swept; returns the functions.

    others: topics of what else the bucket tells. number: of the project.
    """
    project = min(topics).split("/")[1]
    everything = _seen(
        f"functions of {project}",
        "roles/cloudfunctions.viewer",
        lambda: listed(web, f"{FUNCTIONS}/projects/{project}/locations/-/functions", "functions"),
    )
    pushed = _pushing(web, topics)
    found = programs.functions_of(everything, topics) or programs.functions_at(everything, set(pushed))
    if not found:
        yield from _somebody_else(web, topics)
    if len(found) > 1:
        several = ", ".join(programs.short(each) for each in found)
        yield hint(min(topics), f"{several} hear of it: each commit is looked at as many times", "delete all but one")
    for other in everything:
        if programs.tells_people(other) and programs.reads(other, asked.bucket):
            yield from programs.judge_state(other)
            yield from _around(web, other, _pushing(web, others).get(programs.url_of(other), []), number)
    for function in found:
        yield from programs.judge_function(function, asked.bucket, asked.environment)
        yield from _door(web, function)
        yield from _around(web, function, pushed.get(programs.url_of(function), []), number)
        yield from _notified(web, function, topics)
        yield from _schedules(web, project, str(function.get("name")).split("/")[3], topics)
    return found


def _around(web: Web, function: Resource, subscriptions: list[Resource], number: str) -> Iterator[Finding]:
    """Judge what reaches a function, and what it is given. subscriptions: that push to it."""
    urls = programs.url_of(function), str(function.get("url", "")).rstrip("/")
    pushes = {str(function.get("eventTrigger", {}).get("serviceAccountEmail", ""))}
    for subscription in subscriptions:
        yield from events.judge_subscription(subscription, programs.seconds_of(function), urls)
        if subscription.get("deadLetterPolicy", {}).get("deadLetterTopic"):
            yield from _dead_letters(web, subscription, number)
        pushes.add(str(subscription.get("pushConfig", {}).get("oidcToken", {}).get("serviceAccountEmail", "")))
    for account in sorted(pushes - {""}):
        service = access.service_of(function)
        try:
            policy = web.google(f"{RUN}/{service}:getIamPolicy?options.requestedPolicyVersion=3")
        except DeliveryError as error:
            yield unknown(service, str(error), "get run.services.getIamPolicy")
        else:
            yield from access.judge_invoker(function, policy, account)
    for secret in access.secrets_of(function):
        try:
            version = _or_none(web, f"{SECRETS}/{secret.path}")
        except DeliveryError as error:
            yield unknown(secret.path, str(error), "get roles/secretmanager.viewer")
        else:
            yield from access.judge_secret(function, secret, version)


def _dead_letters(web: Web, subscription: Resource, number: str) -> Iterator[Finding]:
    name, topic = str(subscription["name"]), str(subscription["deadLetterPolicy"]["deadLetterTopic"])
    try:
        granted = _or_none(web, f"{PUBSUB}/{topic}:getIamPolicy?options.requestedPolicyVersion=3")
        policy = web.google(f"{PUBSUB}/{name}:getIamPolicy?options.requestedPolicyVersion=3")
        heard = granted is not None and bool(listed(web, f"{PUBSUB}/{topic}/subscriptions", "subscriptions"))
    except DeliveryError as error:
        yield unknown(topic, str(error), "get pubsub.topics.getIamPolicy and pubsub.subscriptions.getIamPolicy")
    else:
        agent = f"service-{number}@gcp-sa-pubsub.iam.gserviceaccount.com"
        yield from access.judge_dead_letters(subscription, policy, granted, agent, heard=heard)


def _or_none(web: Web, url: str) -> Resource | None:
    """None: it isn't there. Raises as `Web.google` else."""
    try:
        return web.google(url)
    except ObjectMissing:
        return None


def _schedules(web: Web, project: str, location: str, topics: set[str]) -> Iterator[Finding]:
    url = f"{SCHEDULER}/projects/{project}/locations/{location}/jobs"
    try:
        jobs = _seen(f"schedules in {location}", "roles/cloudscheduler.viewer", lambda: listed(web, url, "jobs"))
    except _Unseen as unseen:
        yield unseen.finding
    else:
        yield from programs.judge_schedules(jobs, topics, location)
        for job in sorted({programs.job_of(each) for each in jobs} - {""}):
            try:
                found = _or_none(web, f"{RUN}/{job}")
            except DeliveryError as error:
                yield unknown(job, str(error), "get roles/run.viewer")
            else:
                missing = wrong(job, "a schedule starts it, and it isn't there", "make it, or delete the schedule")
                yield from (missing,) if found is None else programs.judge_run(found)


def _pushing(web: Web, topics: set[str]) -> dict[str, list[Resource]]:
    """The subscriptions that push what is published on the topics, by where to, as far as can be seen."""
    found: dict[str, list[Resource]] = {}
    for topic in sorted(topics):
        with suppress(DeliveryError):  # whoever is left out is told of as somebody else
            for name in listed(web, f"{PUBSUB}/{topic}/subscriptions", "subscriptions"):
                subscription = web.google(f"{PUBSUB}/{name}")
                url = str(subscription.get("pushConfig", {}).get("pushEndpoint", "")).rstrip("/")
                found.setdefault(url, []).append(subscription)
    return {url: subscriptions for url, subscriptions in found.items() if url}


def _somebody_else(web: Web, topics: set[str]) -> Iterator[Finding]:
    for topic in sorted(topics):
        try:
            heard = listed(web, f"{PUBSUB}/{topic}/subscriptions", "subscriptions")
        except DeliveryError as error:
            yield unknown(topic, str(error), "get roles/pubsub.viewer")
            continue
        if heard:
            yield unknown(topic, f"{', '.join(heard)} hears of it, which is no Cloud Run function", "look by hand")
        else:
            yield wrong(topic, "nobody hears of what is published there", "deploy functions/on_commit on this topic")


def _door(web: Web, function: Resource) -> Iterator[Finding]:
    url = programs.url_of(function)
    try:
        status, _ = web.other(url)
    except BucketUnavailable as error:
        yield hint(url or programs.short(function), f"the function doesn't answer: {error}", "see its log")
    else:
        yield from programs.judge_door(function, status)


def _notified(web: Web, function: Resource, topics: set[str]) -> Iterator[Finding]:
    topic = str(programs.settings_of(function).get("NOTIFY_TOPIC", ""))
    if topic in topics:
        yield wrong(topic, "the function tells refusals to itself: it is woken by this topic", "name another there")
    if not topic.startswith("projects/") or topic in topics:
        return
    try:
        heard = listed(web, f"{PUBSUB}/{topic}/subscriptions", "subscriptions")
    except ObjectMissing:
        yield wrong(topic, "the function tells it of refusals, and it isn't there", "make it")
    except DeliveryError as error:
        yield unknown(topic, str(error), "get roles/pubsub.viewer")
    else:
        if not heard:
            yield hint(topic, "nobody hears of refusals that are told there", "subscribe, or deploy a function")


def _webhook(web: Web, asked: Asked, functions: list[Resource]) -> Generator[Finding, None, list[Resource]]:
    """Judge what webhooks say of themselves; returns that."""
    said: list[Resource] = []
    named = {asked.webhook: asked.environment} if asked.webhook else {}
    for function in () if asked.webhook else functions:
        named |= programs.webhooks_of(function, asked.environment)
    for url, environment in sorted(named.items()):
        origin = audience_of(url)
        where = f"{origin}/v1/check"
        try:
            token = asked.tokens(origin)
            status, answer = web.other(where, f"Bearer {token}" if token else "")
        except NoIdentityToken as error:
            yield unknown(where, str(error), "CD_WEBHOOK_AUTH=bearer and CD_WEBHOOK_TOKEN show it a token of its own")
            continue
        except BucketUnavailable as error:
            yield unknown(
                where,
                f"the webhook isn't reached from here: {error}",
                "kubectl port-forward service/indexpush-cd-webhook 8080:80, and --webhook http://127.0.0.1:8080",
            )
            continue
        if "checks" in answer:
            said.append(answer)
            if not asked.webhook:
                yield from programs.judge_path(url)
            yield from programs.judge_webhook(
                where,
                answer,
                bucket=asked.bucket,
                environment=environment,
                version=asked.version,
                contract=asked.contract,
            )
        else:
            yield programs.judge_refusal(where, status)
    return said
