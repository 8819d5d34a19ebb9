"""How an upload becomes an event: the bucket's notifications, and the topics that they go to.

The fields are those of the JSON API (https://cloud.google.com/storage/docs/json_api/v1/notifications) and of Pub/Sub's
(https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.topics).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from operator_cli.check.access import PUBLISHES, allows
from operator_cli.check.finding import Finding, Resource, hint, ok, wrong

FINALIZE: Final = "OBJECT_FINALIZE"
_TOPIC: Final = "//pubsub.googleapis.com/"
_TRIES: Final = 20
"""Of one message at least, before it is put aside: two hours."""
_KEPT: Final = 24 * 3600


def topic_of(notification: Resource) -> str:
    """projects/<project>/topics/<topic>."""
    return str(notification.get("topic", "")).removeprefix(_TOPIC)


def hearing(notifications: list[Resource], folder: str) -> list[Resource]:
    """Those that tell of every upload below `folder`."""
    return [
        each
        for each in notifications
        if folder.startswith(each.get("object_name_prefix", "")) and FINALIZE in each.get("event_types", [FINALIZE])
    ]


def judge_notifications(bucket: str, notifications: list[Resource], environment: str | None) -> Iterator[Finding]:
    """Whether the uploads of commits and filters are told, once, and little else."""
    name = f"gs://{bucket}"
    commits = f"commits/{environment}/" if environment else "commits/"
    create = (
        f"gcloud storage buckets notifications create {name} --topic=<topic> --event-types={FINALIZE} "
        "--payload-format=json --object-prefix="
    )
    heard = hearing(notifications, commits)
    if not heard:
        near = [each for each in notifications if each.get("object_name_prefix", "").startswith("commits")]
        text = f"no notification tells of uploads below {commits}: a commit is seen by the next sweep at best"
        if near:
            text += f" (there is one for {near[0].get('object_name_prefix')!r}, {near[0].get('event_types', 'all')})"
        yield wrong(name, text, f"{create}commits/")
    else:
        yield ok(name, f"uploads below {commits} are told to {', '.join(topic_of(each) for each in heard)}")
    if len({topic_of(each) for each in heard}) < len(heard):
        yield hint(
            name,
            f"{len(heard)} notifications tell one topic of {commits}: each commit is looked at as many times",
            "gcloud storage buckets notifications delete "
            f"projects/_/buckets/{bucket}/notificationConfigs/{heard[-1].get('id')}",
        )
    if heard and not hearing(notifications, "filters/"):
        yield hint(
            name,
            "no notification tells of uploads below filters/: what is sold out is hidden with the next sweep only",
            f"{create}filters/; or nothing, if nobody hides anything",
        )
    for each in heard:
        yield from _judge_form(each)


def _judge_form(notification: Resource) -> Iterator[Finding]:
    subject = f"notification {notification.get('id')} to {topic_of(notification)}"
    if notification.get("payload_format") == "NONE":
        yield wrong(
            subject,
            "its messages are empty (payload format none): pushed to a function, they are refused with 400",
            "make it anew with --payload-format=json",
        )
    if str(notification.get("custom_attributes", {}).get("sweep", "")).lower() == "true":
        yield wrong(
            subject,
            "its custom attribute sweep=true makes each upload a sweep: what was uploaded isn't looked at first",
            "make it anew without custom attributes",
        )
    if not notification.get("object_name_prefix"):
        yield hint(
            subject,
            "it has no prefix: every file of every build wakes the function",
            "make it anew with --object-prefix=commits/, and one with filters/",
        )
    if more := sorted({*notification.get("event_types", ["every event"])} - {FINALIZE}):
        yield hint(
            subject,
            f"it tells of {', '.join(more)} as well, which the function passes over",
            f"make it anew with --event-types={FINALIZE}",
        )


def judge_publisher(topic: str, policy: Resource, agent: str) -> Iterator[Finding]:
    """Whether Cloud Storage's own service account may publish there: without that nothing is told."""
    member = f"serviceAccount:{agent}"
    if not allows(policy, (member,), PUBLISHES):
        yield wrong(
            topic,
            f"Cloud Storage's service account {agent} may not publish there, as far as the topic's own grants say",
            f"gcloud pubsub topics add-iam-policy-binding {topic} --member={member} --role=roles/pubsub.publisher",
        )


def judge_subscription(subscription: Resource, seconds: int, urls: tuple[str, ...]) -> Iterator[Finding]:
    """Whether a function gets what is pushed to it. seconds: for so long the function may work on one message.

    urls: where the function answers, without a slash at the end.

    The fields are those of https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions.
    """
    name, push = str(subscription.get("name", "?")), subscription.get("pushConfig", {})
    short = name.rpartition("/")[2]
    if subscription.get("detached"):
        yield wrong(name, "it is detached from its topic: nothing comes any more", "delete it, and make it anew")
    if subscription.get("filter"):
        yield wrong(
            name,
            f"its filter {subscription['filter']!r} may keep commits and sweeps back",
            "make it anew without a filter, which can't be changed",
        )
    if "noWrapper" in push:
        yield wrong(
            name,
            "it pushes payloads without Pub/Sub's envelope, which the function doesn't understand",
            f"gcloud pubsub subscriptions update {short} --clear-push-no-wrapper-config",
        )
    if "oidcToken" not in push:
        yield wrong(
            name,
            "it shows no identity: a function that answers nobody without credentials refuses each push",
            f"gcloud pubsub subscriptions update {short} --push-endpoint={push.get('pushEndpoint')} "
            "--push-auth-service-account=<account with roles/run.invoker>",
        )
    elif (audience := str(push["oidcToken"].get("audience", ""))) and audience.rstrip("/") not in urls:
        yield wrong(
            name,
            f"its token is for {audience!r}, which the function isn't: each push is refused",
            f"gcloud pubsub subscriptions update {short} --push-auth-token-audience={urls[0]}",
        )
    if (tries := int(subscription.get("deadLetterPolicy", {}).get("maxDeliveryAttempts", _TRIES))) < _TRIES:
        yield hint(
            name,
            f"it puts aside what failed {tries} times: where a webhook is away for longer, the next sweep finds it",
            f"gcloud pubsub subscriptions update {short} --max-delivery-attempts=100",
        )
    if (kept := int(str(subscription.get("messageRetentionDuration", "604800s")).split("s")[0].split(".")[0])) < _KEPT:
        yield hint(
            name,
            f"it keeps what isn't delivered for {kept} s: what a longer outage leaves, the next sweep finds",
            f"gcloud pubsub subscriptions update {short} --message-retention-duration=7d",
        )
    if (most := int(subscription.get("ackDeadlineSeconds", 10))) < seconds:
        yield hint(
            name,
            f"it delivers again after {most} s, and the function may work for {seconds}",
            f"gcloud pubsub subscriptions update {short} --ack-deadline=600",
        )
