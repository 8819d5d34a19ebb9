"""A Spinnaker application, and one pipeline per index, that deploy what the function asks for.

The pipeline is `spinnaker_pipeline.yaml.j2`, to be read there. The objects that it deploys are those of the ordinary
templates, with Spinnaker's expressions in the places of what a request decides.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from manifests.render import FILE_SYSTEM_MIB, LOG_MIB, Requested, further_mib, further_seconds, render_objects
from manifests.templates import PLAIN, render_template, texts_of
from manifests.values import Values
from model_repository.errors import DocumentMalformed, NameRefused
from model_repository.names import Target
from model_repository.telemetry.spans import spans_wanted


@dataclass(frozen=True, slots=True)
class Installation:
    """How a team's Spinnaker is set up.

    account: the Kubernetes account to deploy with. source: last part of the webhook's URL.
    slack: a channel, without the #; empty: no notifications. run_as: the service account that a trigger runs as where
    authorization is on; empty: none.
    """

    application: str
    account: str
    source: str
    email: str
    slack: str
    run_as: str

    def __post_init__(self) -> None:
        """Refuse what Spinnaker would evaluate, which it does with ${...} wherever it stands."""
        for field, text in asdict(self).items():
            if not PLAIN.fullmatch(text):
                option = field.replace("_", "-")
                raise NameRefused(f"--{option} {text[:80]!r}: use letters, digits, blanks and '-_.@' alone")


def application(installation: Installation) -> dict[str, Any]:
    """The application that owns the pipelines."""
    return {
        "name": installation.application,
        "email": installation.email,
        "description": "Similarity-search indexes, deployed when a commit is uploaded",
        "cloudProviders": "kubernetes",
    }


def pipeline(target: Target, bucket: str, values: Values, installation: Installation) -> dict[str, Any]:
    """The pipeline that deploys `target` from `bucket`.

    Raises `DocumentMalformed` for values that Spinnaker would evaluate, and for values that ask for a canary: a
    Spinnaker judges canaries by a service of its own, and a pipeline that passed over it would promise what it doesn't.
    """
    _check(values)
    expressions = _expressions(values)
    rendered = render_objects(target.index, bucket, expressions, values)
    return render_template(
        "spinnaker_pipeline.yaml.j2",
        {
            **asdict(installation),
            "environment": target.environment,
            "index": target.index,
            "bucket": bucket,
            "namespace": values.namespace,
            "expressions": asdict(expressions),
            "service": rendered.service,
            "deployment": rendered.deployment,
        },
    )


def _expressions(values: Values) -> Requested:
    volume = "#toInt(trigger['parameters']['volume_mib'])"
    return Requested(
        generation="${trigger['parameters']['generation']}",
        index_prefix="${trigger['parameters']['index_prefix']}",
        index_digest="${trigger['parameters']['index_digest']}",
        memory=f"${{#toInt(trigger['parameters']['memory_mib']) + {further_mib(values)}}}Mi",
        volume="${trigger['parameters']['volume_mib']}Mi"
        if values.storage_class is None
        else f"${{{volume} + {volume} / 8 + {FILE_SYSTEM_MIB}}}Mi",
        disk=f"${{{volume} + {LOG_MIB}}}Mi" if values.storage_class is None else f"{LOG_MIB}Mi",
        progress_deadline=f"${{#toInt(trigger['parameters']['deadline_seconds']) + {further_seconds(values)}}}",
        # Nobody records a span of a Spinnaker's rollout, so pods go on from who asked for it.
        traceparent="${trigger['parameters']['traceparent'] ?: ''}" if spans_wanted(values.env) else "",
    )


def _check(values: Values) -> None:
    name = f"{values.environment}.yaml"
    if values.canary is not None:
        raise DocumentMalformed(
            name, "canary: the pipeline has none; take it out of the values for Spinnaker, or deploy with cd_webhook"
        )
    for place, text in texts_of(asdict(values)):
        # There is no way to write it so that it stays: Spinnaker evaluates what an evaluation gave once more.
        if "${" in text:
            raise DocumentMalformed(name, f"{place}: {text[:80]!r} would be evaluated by Spinnaker; take ${{ out of it")
