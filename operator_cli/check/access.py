"""What a function needs of what stands around it: who may call it, which secrets it reads, where failures are kept.

The fields are those of Cloud Run's API (https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services)
and Secret Manager's (https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from operator_cli.check.finding import Finding, Resource, hint, wrong
from operator_cli.check.programs import DEFAULT_ACCOUNT, short

_INVOKES: Final = ("roles/run.invoker", "roles/run.servicesInvoker", "roles/run.admin", "roles/owner")
PUBLISHES: Final = ("roles/pubsub.publisher", "roles/pubsub.editor", "roles/pubsub.admin", "roles/owner")
_SUBSCRIBES: Final = ("roles/pubsub.subscriber", "roles/pubsub.editor", "roles/pubsub.admin", "roles/owner")
_OF_SOMEBODY: Final = ("projects/", "organizations/")
"""How roles begin of which nobody here knows what they allow."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A version of a secret that a function is given; it may be `latest`."""

    project: str
    name: str
    version: str

    @property
    def path(self) -> str:
        """As Secret Manager's API names it."""
        return f"projects/{self.project}/secrets/{self.name}/versions/{self.version}"


def service_of(function: Resource) -> str:
    """The Cloud Run service behind it, as its API names it."""
    named = str(function.get("serviceConfig", {}).get("service", ""))
    return named or str(function.get("name", "")).replace("/functions/", "/services/")


def secrets_of(function: Resource) -> list[Secret]:
    """Those that it is given, in variables and in files."""
    config, own = function.get("serviceConfig", {}), str(function.get("name", "")).split("/")[1:2]
    given = [(each, str(each.get("version", "latest"))) for each in config.get("secretEnvironmentVariables", [])]
    for volume in config.get("secretVolumes", []):
        given += [(volume, str(each.get("version"))) for each in volume.get("versions") or [{"version": "latest"}]]
    found = {
        Secret(str(it.get("projectId") or "".join(own)), str(it.get("secret")), version): None for it, version in given
    }
    return list(found)


def judge_secret(function: Resource, secret: Secret, version: Resource | None) -> Iterator[Finding]:
    """Whether a secret can be read. version: as Secret Manager says; None: there is none."""
    state = "not there" if version is None else str(version.get("state", "")).lower()
    if state == "enabled":
        return
    flags = f"--secret={secret.name} --project={secret.project}"
    mend = (
        f"gcloud secrets versions add {secret.name} --project={secret.project} --data-file=<file>, and deploy it anew"
    )
    if state == "disabled":
        mend = f"gcloud secrets versions enable {secret.version} {flags}"
    yield wrong(short(function), f"{secret.path} is {state}: none of its instances starts any more", mend)


def judge_invoker(function: Resource, policy: Resource, account: str) -> Iterator[Finding]:
    """Whether an account that pushes to it may call it. policy: of the service behind it."""
    if not allows(policy, ("allUsers", "allAuthenticatedUsers", f"serviceAccount:{account}"), _INVOKES):
        service = service_of(function).split("/")
        # that one is the project's Editor, unless the organisation forbids it
        said = hint if account.endswith(DEFAULT_ACCOUNT) else wrong
        yield said(
            short(function),
            f"{account}, as which messages are pushed to it, may not call it, as far as its own grants say: each push "
            "is refused with 403",
            f"gcloud run services add-iam-policy-binding {service[-1]} --region={service[3]} "
            f"--member=serviceAccount:{account} --role={_INVOKES[0]}",
        )


def judge_dead_letters(
    subscription: Resource, policy: Resource, topic: Resource | None, agent: str, *, heard: bool
) -> Iterator[Finding]:
    """What becomes of a message that nobody could handle.

    policy, topic: grants on the subscription, and on the topic that it names; None: that isn't there. agent: Pub/Sub's
    service account. heard: somebody keeps what is published there.
    """
    name = str(subscription.get("name", "?"))
    dead, member = str(subscription["deadLetterPolicy"]["deadLetterTopic"]), f"serviceAccount:{agent}"
    if topic is None:
        yield hint(
            name, f"what nobody can handle goes to {dead}, which isn't there", f"gcloud pubsub topics create {dead}"
        )
        return
    for what, role, right, its in (
        (f"topics add-iam-policy-binding {dead}", PUBLISHES[0], "publish to its dead-letter topic", topic),
        (f"subscriptions add-iam-policy-binding {name}", _SUBSCRIBES[0], "take messages off it", policy),
    ):
        if not allows(its, (member,), PUBLISHES if its is topic else _SUBSCRIBES):
            yield hint(
                name,
                f"Pub/Sub's service account {agent} may not {right}, as far as its own grants say: what nobody can "
                "handle is tried for as long as it is kept, and is gone then",
                f"gcloud pubsub {what} --member={member} --role={role}",
            )
    if not heard:
        yield hint(
            name,
            f"nobody hears of what is put aside in {dead}: it is gone at once",
            f"gcloud pubsub subscriptions create {dead.rpartition('/')[2]} --topic={dead} --expiration-period=never",
        )


def allows(policy: Resource, members: tuple[str, ...], roles: tuple[str, ...]) -> bool:
    """Whether a policy gives any of the members any of the roles, or one of which nobody knows here what it allows."""
    return any(
        any(member in each.get("members", []) for member in members)
        for each in policy.get("bindings", [])
        if each.get("role") in roles or str(each.get("role")).startswith(_OF_SOMEBODY)
    )
