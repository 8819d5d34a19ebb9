"""The stages of a pipeline: check, refuse what is not newer, deploy, undo what fails.

Orca, Spinnaker's orchestrator, has no memory of its own for what was asked for last. It stands on the Service as
an annotation, where a rollback of the Deployment doesn't touch it: the Service is applied first and always alike, and
`kubectl apply`, which Spinnaker runs, keeps an annotation that a patch added. Runs of one pipeline follow one another
(`limitConcurrent`), so between reading the record and writing it nobody else writes it.

    Check the request > Service > Read the record > Compare > Only newer > Write the record > Deploy
        it serves:  Note what serves
        it failed:  Look at the rollout > Undo (something served before), or Stop (nothing ever did)
        then:       Outcome, which fails the run if Deploy failed
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from manifests import metadata as marks
from manifests.render import Rendered
from manifests.spinnaker_expressions import parameter
from model_repository.names import Target

Fields = dict[str, Any]

SERVED_GENERATION = f"{marks.PREFIX}served-generation"
"""On the Service: the commit generation that served last."""

GENERATION = f"${{{parameter('generation')}}}"
COMMIT = f"commit {GENERATION}"

_STABLE_MINUTES = 240
"""Only an outer bound: the Deployment's own progressDeadlineSeconds, computed from the request, ends a rollout."""
_GO_ON = {"failPipeline": False, "continuePipeline": True}
"""What follows sees to the failure, and the last stage fails the run."""

_RECORD = "#stage('Read the record')['outputs']['manifest']['metadata']['annotations']"
_SERVED = "#stage('Deploy')['status'].toString() == 'SUCCEEDED'"
_ROLLED_OUT = (
    "#stage('Look at the rollout')['status'].toString() == 'SUCCEEDED' && "
    "#stage('Look at the rollout')['outputs']['manifest']['metadata']['annotations']"
    f"['{marks.COMMIT_GENERATION}'] == {parameter('generation')}"
)
"""The Deployment that stands is this run's: where Kubernetes refused it, there is nothing to undo."""
_SERVED_BEFORE = "#stage('Compare')['outputs']['served'] != '0'"

_WHOLE = "[1-9][0-9]{0,8}"
_LONG = "[1-9][0-9]{0,17}"
_DIGEST = "sha256:[0-9a-f]{64}"


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


def stages(target: Target, bucket: str, namespace: str, installation: Installation, rendered: Rendered) -> list[Fields]:
    """The stages, in the order above. rendered: the objects with expressions."""
    cluster = _Cluster(installation, namespace)
    deployment, service = f"deployment {target.index}", f"service {target.index}"
    serves = f"{target}: ${{{parameter('index_prefix')}}} serves ({COMMIT})"
    return [
        _stage(1, "Check the request", "checkPreconditions", [], {"preconditions": _request_rules(target, bucket)}),
        _stage(2, "Service", "deployManifest", [1], cluster.deploy(rendered.service)),
        _stage(3, "Read the record", "findArtifactsFromResource", [2], cluster.on(service)),
        _stage(4, "Compare", "evaluateVariables", [3], {"variables": [*_comparison(), *_expressions(rendered)]}),
        # Stops quietly: late and repeated deliveries are the ordinary course of things, not failures.
        _stage(5, "Only newer", "checkPreconditions", [4], {"preconditions": [_only_newer()]}),
        _stage(6, "Write the record", "patchManifest", [5], cluster.annotate(service, marks.COMMIT_GENERATION)),
        _stage(7, "Deploy", "deployManifest", [6], cluster.deploy(rendered.deployment) | _GO_ON),
        _stage(
            8,
            "Note what serves",
            "patchManifest",
            [7],
            cluster.annotate(service, SERVED_GENERATION) | _only_if(_SERVED) | _say(installation, serves),
        ),
        _stage(
            9,
            "Look at the rollout",
            "findArtifactsFromResource",
            [7],
            cluster.on(deployment) | _only_if(f"!({_SERVED})") | _GO_ON,
        ),
        _stage(
            10,
            "Undo",
            "undoRolloutManifest",
            [9],
            cluster.on(deployment) | {"numRevisionsBack": 1} | _only_if(f"{_ROLLED_OUT} && {_SERVED_BEFORE}"),
        ),
        _stage(
            11,
            "Stop",
            "scaleManifest",
            [9],
            cluster.on(deployment) | {"replicas": "0"} | _only_if(f"{_ROLLED_OUT} && !({_SERVED_BEFORE})"),
        ),
        _stage(12, "Outcome", "checkPreconditions", [8, 10, 11], {"preconditions": [_outcome()]}),
    ]


def notifications(installation: Installation, level: str, when: str, text: str) -> list[Fields]:
    """The notifications block of a pipeline or stage; empty without a channel."""
    if not installation.slack:
        return []
    message = {when: {"text": text}}
    return [{"type": "slack", "address": installation.slack, "level": level, "when": [when], "message": message}]


def _stage(ref: int, name: str, kind: str, after: Sequence[int], fields: Fields) -> Fields:
    return {
        "refId": str(ref),
        "requisiteStageRefIds": [str(other) for other in after],
        "type": kind,
        "name": name,
        # Without it a run succeeds with a wrong expression as its own text.
        "failOnFailedExpressions": True,
        **fields,
    }


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What the stages that act on the cluster have in common."""

    installation: Installation
    namespace: str

    def deploy(self, manifest: Fields) -> Fields:
        return {
            "account": self.installation.account,
            "cloudProvider": "kubernetes",
            "moniker": {"app": self.installation.application},
            "source": "text",
            "manifests": [manifest],
            "skipExpressionEvaluation": False,
            "trafficManagement": {"enabled": False},
            "stableManifestTimeoutMinutes": _STABLE_MINUTES,
        }

    def on(self, manifest: str) -> Fields:
        return {
            "account": self.installation.account,
            "app": self.installation.application,
            "cloudProvider": "kubernetes",
            "location": self.namespace,
            "manifestName": manifest,
            "mode": "static",
        }

    def annotate(self, manifest: str, mark: str) -> Fields:
        return {
            **self.on(manifest),
            "source": "text",
            "options": {"mergeStrategy": "strategic", "record": False},
            "patchBody": [{"metadata": {"annotations": {mark: GENERATION}}}],
        }


def _request_rules(target: Target, bucket: str) -> list[Fields]:
    forms = {
        "generation": _LONG,
        "index_generation": _LONG,
        "index_prefix": rf"indexes/{target.index}/[a-z0-9]([-a-z0-9.]*[a-z0-9])?",
        "index_digest": _DIGEST,
        "model_digest": _DIGEST,
        "memory_mib": _WHOLE,
        "volume_mib": _WHOLE,
        "deadline_seconds": _WHOLE,
    }
    fixed = {"environment": target.environment, "index": target.index, "bucket": bucket}
    here = " && ".join(f"{parameter(name)} == '{value}'" for name, value in fixed.items())
    formed = " && ".join(f"{parameter(name)}.matches('{form}')" for name, form in forms.items())
    prefix, generation = parameter("index_prefix"), parameter("index_generation")
    named = f"'gs://{bucket}/' + {prefix} + '/index.json#' + {generation}"
    bound = "trigger['resolvedExpectedArtifacts'][0]['boundArtifact']['reference']"
    return [
        _must(here, f"the parameters are for another index, environment or bucket than {target} and {bucket}"),
        _must(formed, "a parameter doesn't have its form; is the function of another release than this pipeline?"),
        _must(f"{bound} == {named}", "the artifact is not the index.json that the parameters name"),
    ]


def _comparison() -> list[Fields]:
    asked = f"{_RECORD}['{marks.COMMIT_GENERATION}'] ?: '0'"
    served = f"{_RECORD}['{SERVED_GENERATION}'] ?: '0'"
    newer = f"{_long(parameter('generation'))} > {_long(asked)}"
    variables = {"asked": asked, "served": served, "newer": newer}
    return [{"key": key, "value": f"${{{expression}}}"} for key, expression in variables.items()]


def _expressions(rendered: Rendered) -> list[Fields]:
    """Every expression of the manifests, once.

    Orca fails a stage for a wrong expression only when its tasks are done: by then it is deployed.
    """
    text = json.dumps([rendered.service, rendered.deployment])
    found = dict.fromkeys(re.findall(r"\$\{[^}]*\}", text))
    return [{"key": f"expression_{number}", "value": expression} for number, expression in enumerate(found, 1)]


def _long(expression: str) -> str:
    return f"T(java.lang.Long).parseLong({expression})"


def _only_newer() -> Fields:
    message = f"{COMMIT} is not newer than ${{#stage('Compare')['outputs']['asked']}}, which was asked for before"
    return _precondition("#stage('Compare')['outputs']['newer']", message, fail=False)


def _outcome() -> Fields:
    return _must(
        _SERVED,
        f"{COMMIT} did not go live: the stage Deploy says why. Undo ran if something had served before, Stop if "
        "nothing had; if both were skipped, Kubernetes refused the Deployment, or could not be asked",
    )


def _must(expression: str, message: str) -> Fields:
    return _precondition(expression, message, fail=True)


def _precondition(expression: str, message: str, *, fail: bool) -> Fields:
    context = {"expression": expression, "failureMessage": message}
    return {"type": "expression", "failPipeline": fail, "context": context}


def _only_if(expression: str) -> Fields:
    return {"stageEnabled": {"type": "expression", "expression": expression}}


def _say(installation: Installation, text: str) -> Fields:
    said = notifications(installation, "stage", "stage.complete", text)
    return {"sendNotifications": True, "notifications": said} if said else {}
