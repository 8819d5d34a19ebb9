"""A stand-in for Echo, Spinnaker's webhook service, as one recorded exchange and its source show it.

It answers 200 to everything; what it posts to Orca is the pipeline, with the trigger and artifacts filled in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

Fields = dict[str, Any]

_PIPELINE = {"parallel": False, "maxConcurrentExecutions": 0, "plan": False, "respectQuietPeriod": False}
_PIPELINE_FIELDS = {
    *("application", "name", "id", "spelEvaluator", "disabled", "limitConcurrent", "keepWaitingPipelines"),
    *("triggers", "type", "schema", "stages", "notifications", "expectedArtifacts", "parameterConfig"),
}
"""Others, the description for one, don't come through."""
_TRIGGER = {"preferred": False, "rebake": False, "dryRun": False}
_ARTIFACT_FIELDS = {"type", "customKind", "name", "version", "location", "reference", "artifactAccount", "provenance"}


def triggered(pipelines: Iterable[Fields], source: str, body: Fields, event_id: str) -> list[Fields]:
    """What is posted to Orca's /orchestrate when `body` arrives at /webhooks/webhook/`source`: one per pipeline."""
    return [
        _started(pipeline, trigger, body, event_id)
        for pipeline in pipelines
        for trigger in pipeline["triggers"]
        if _matches(pipeline, trigger, source, body)
    ]


def _matches(pipeline: Fields, trigger: Fields, source: str, body: Fields) -> bool:
    constraints = trigger.get("payloadConstraints") or {}
    return (
        not pipeline.get("disabled", False)
        and trigger["enabled"]
        and (trigger["type"], trigger["source"]) == ("webhook", source)
        and all(
            body.get(key) is not None and re.search(pattern, str(body[key])) for key, pattern in constraints.items()
        )
        and _has_artifact(pipeline, trigger, body)
    )


def _has_artifact(pipeline: Fields, trigger: Fields, body: Fields) -> bool:
    wanted = trigger.get("expectedArtifactIds") or []
    expected = [artifact["matchArtifact"] for artifact in pipeline["expectedArtifacts"] if artifact["id"] in wanted]
    if not wanted:
        return True
    return any(_fits(match, artifact) for artifact in body.get("artifacts", []) for match in expected)


def _fits(match: Fields, artifact: Fields) -> bool:
    # The account is not compared where the sender names none (seen on the real services).
    compared = [field for field in ("type", "name", "version", "location", "reference") if match.get(field)]
    return all(re.fullmatch(match[field], str(artifact.get(field) or "")) for field in compared)


def _started(pipeline: Fields, trigger: Fields, body: Fields, event_id: str) -> Fields:
    known = {key: value for key, value in pipeline.items() if key in _PIPELINE_FIELDS}
    fired = {
        **_TRIGGER,
        **trigger,
        "parameters": body.get("parameters", {}),
        "payload": body,
        "eventId": event_id,
    }
    started = {
        **_PIPELINE,
        **known,
        "triggers": [_TRIGGER | each for each in pipeline["triggers"]],
        "expectedArtifacts": [_expected(artifact) for artifact in pipeline["expectedArtifacts"]],
        "receivedArtifacts": [_artifact(artifact) for artifact in body.get("artifacts", [])],
        "trigger": fired,
    }
    return copy.deepcopy(started)


def _expected(artifact: Fields) -> Fields:
    return {
        "id": artifact["id"],
        "matchArtifact": _artifact(artifact["matchArtifact"]),
        "usePriorArtifact": artifact["usePriorArtifact"],
        "useDefaultArtifact": artifact["useDefaultArtifact"],
        "defaultArtifact": _artifact(artifact["defaultArtifact"]),
    }


def _artifact(value: Fields) -> Fields:
    known = {key: item for key, item in value.items() if key in _ARTIFACT_FIELDS}
    unknown = {key: item for key, item in value.items() if key not in _ARTIFACT_FIELDS}
    return {"customKind": False, **known, "metadata": unknown}
