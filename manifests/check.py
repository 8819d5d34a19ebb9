"""What must hold of the rendered objects before anything is sent.

The templates are ours, so these are the promises that the rest of the system relies on, not all of Kubernetes' schema
(the tests hold the output to that).
"""

from __future__ import annotations

import re
from typing import Any

from manifests import metadata as marks
from model_repository.errors import DocumentMalformed

_DNS_1035 = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_EVERY_POD = (marks.COMMIT_GENERATION, marks.INDEX_PREFIX, marks.INDEX_DIGEST)


def check_deployment(value: dict[str, Any], *, name: str, namespace: str) -> None:
    """Raise `DocumentMalformed` unless `value` is the Deployment that the rollout's rules expect."""
    _check_head(value, "apps/v1", "Deployment", name, namespace)
    try:
        spec = value["spec"]
        template = spec["template"]
        pod = template["spec"]
        rolling = spec["strategy"]["rollingUpdate"]
        containers = [*pod["initContainers"], *pod["containers"]]
        wrong = _first(
            (
                spec["selector"]["matchLabels"] != marks.deployment_selector(name),
                "spec.selector: must be name, instance and track",
            ),
            (
                not _within(spec["selector"]["matchLabels"], template["metadata"]["labels"]),
                "the selector misses its pods",
            ),
            (rolling["maxUnavailable"] != 0, "maxUnavailable: must be 0, or a rollout stops pods that serve"),
            (not _positive(spec["progressDeadlineSeconds"]), "progressDeadlineSeconds: must be a positive number"),
            (spec["progressDeadlineSeconds"] <= spec["minReadySeconds"], "minReadySeconds: must be below the deadline"),
            (
                any(not template["metadata"]["annotations"].get(key) for key in _EVERY_POD),
                "the pod template must carry generation, prefix and digest",
            ),
            (len({container["image"] for container in containers}) != 1, "both containers must run the one image"),
            (any(_twice(container["env"]) for container in containers), "a variable is set twice"),
            (
                any(
                    not isinstance(variable["value"], str) for container in containers for variable in container["env"]
                ),
                "a variable's value must be a string",
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DocumentMalformed(f"Deployment {name}", f"{error} is missing or of the wrong type") from None
    if wrong:
        raise DocumentMalformed(f"Deployment {name}", wrong)


def check_service(value: dict[str, Any], *, name: str, namespace: str) -> None:
    """Raise `DocumentMalformed` unless `value` is a Service that finds the pods of its index."""
    _check_head(value, "v1", "Service", name, namespace)
    spec = value.get("spec")
    if not isinstance(spec, dict) or spec.get("selector") != marks.selector(name) or not spec.get("ports"):
        raise DocumentMalformed(f"Service {name}", "must select name and instance, and have a port")


def _check_head(value: dict[str, Any], api_version: str, kind: str, name: str, namespace: str) -> None:
    if not _DNS_1035.fullmatch(name):
        raise DocumentMalformed(
            f"{kind} {name}",
            "a Service's name must begin with a letter; give the index such a name, and commit it anew",
        )
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        raise DocumentMalformed(f"{kind} {name}", "metadata is missing")
    found = (value.get("apiVersion"), value.get("kind"), metadata.get("name"), metadata.get("namespace"))
    if found != (api_version, kind, name, namespace):
        raise DocumentMalformed(f"{kind} {name}", f"rendered {found}, not {(api_version, kind, name, namespace)}")
    labels = metadata.get("labels")
    if not isinstance(labels, dict) or not _within(marks.labels(name), labels):
        raise DocumentMalformed(f"{kind} {name}", "lacks one of the recommended labels")


def _within(part: dict[str, str], whole: dict[str, str]) -> bool:
    return part.items() <= whole.items()


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _twice(env: list[dict[str, Any]]) -> bool:
    names = [variable["name"] for variable in env]
    return len(names) != len(set(names))


def _first(*rules: tuple[bool, str]) -> str:
    return next((sentence for broken, sentence in rules if broken), "")
