"""What the cluster understands of a manifest; what it doesn't understand is refused by name.

The schemas are complete: they have every field that is understood, those without effect included, and nothing else is
passed over in silence. What was read is the manifest itself, so a default stands where its field is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model_repository.errors import PermanentError

Json = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON has it."""

_FIELD_PATHS = ("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.podIP")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


class ManifestRefused(PermanentError, code="manifest-refused"):
    """A manifest has a field, or a value, that this cluster doesn't understand. field: its path."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


# The schemas: an object is a dict of its fields, a list has one kind of entry, and all else is a `_Value`.


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that is no object and no list of objects. expected: what is said to whoever has another one."""

    expected: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class _Required:
    """A field without a default."""

    schema: _Schema


_Schema = _Value | _Required | dict[str, Any] | list[Any]


def _only(*allowed: object) -> _Value:
    choices = " or ".join(repr(choice) for choice in allowed)
    return _Value(f"the local cluster only understands {choices}", lambda value: value in allowed)


def _whole(least: int, most: int = 2**63 - 1) -> _Value:
    return _Value(f"expected a whole number from {least}", lambda value: type(value) is int and least <= value <= most)


def _matching(pattern: str, expected: str) -> _Value:
    return _Value(expected, lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value, re.ASCII)))


def _without_effect(*names: str) -> dict[str, _Value]:
    return dict.fromkeys(names, _Value("", lambda _value: True))


def _are_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _begins_with_python(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return _are_words(value) and bool(value) and bool(re.fullmatch(r"python(3(\.\d+)?)?", value[0], re.ASCII))


def _are_strings(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values())


_TEXT = _Value("expected a string", lambda value: isinstance(value, str))
_NAME = _matching(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "can't be the name of anything")
_WORDS = _Value("expected a list of strings", _are_words)
_COMMAND = _Value("must begin with python: the local cluster's images hold nothing else", _begins_with_python)
_STRINGS = _Value("expected an object whose values are all strings", _are_strings)
_PORT = _whole(1, 65535)
_PORT_REFERENCE = _Value(
    "expected a number or the name of a container's port", lambda value: isinstance(value, str) or _PORT.fits(value)
)
_MARKS = {"labels": _STRINGS, "annotations": _STRINGS}

_PROBE = {
    "httpGet": _Required(
        {
            "path": _TEXT,
            "port": _Required(_PORT_REFERENCE),
            "scheme": _only("HTTP"),
            "httpHeaders": [{"name": _Required(_TEXT), "value": _Required(_TEXT)}],
        }
    ),
    "initialDelaySeconds": _whole(0),
    "periodSeconds": _whole(1),
    "timeoutSeconds": _whole(1),
    "failureThreshold": _whole(1),
    "successThreshold": _whole(1),
}
_FIELD_REFERENCE = {"apiVersion": _only("v1"), "fieldPath": _Required(_only(*_FIELD_PATHS))}
_INIT_CONTAINER = {
    "name": _Required(_NAME),
    "image": _Required(_TEXT),
    "command": _Required(_COMMAND),
    "args": _WORDS,
    "env": [
        {
            "name": _Required(_TEXT),
            "value": _TEXT,
            "valueFrom": {"fieldRef": _Required(_FIELD_REFERENCE)},
        }
    ],
    "ports": [{"name": _TEXT, "containerPort": _Required(_PORT), "protocol": _only("TCP")}],
    "volumeMounts": [
        {
            "name": _Required(_TEXT),
            "mountPath": _Required(_matching(r"/.*[^/]/*", "expected an absolute path below /")),
            **_without_effect("readOnly"),  # a process can't be kept from writing to its own folder
        }
    ],
    "terminationMessagePath": _only("/dev/termination-log"),
    "terminationMessagePolicy": _only("File", "FallbackToLogsOnError"),
    **_without_effect("resources", "securityContext", "imagePullPolicy"),
}
_CONTAINER = {
    **_INIT_CONTAINER,  # Kubernetes allows what follows only to init containers that go on running
    **dict.fromkeys(PROBES, _PROBE),
    "lifecycle": {"preStop": {"sleep": {"seconds": _whole(0)}}},
}
_POD = {
    "initContainers": [_INIT_CONTAINER],
    "containers": _Required([_CONTAINER]),
    # Either kind is a folder of the pod's own, which goes with it.
    "volumes": [
        {
            "name": _Required(_NAME),
            "emptyDir": _without_effect("sizeLimit", "medium"),
            "ephemeral": _without_effect("volumeClaimTemplate"),
        }
    ],
    "terminationGracePeriodSeconds": _whole(0),
    "restartPolicy": _only("Always"),
    "dnsPolicy": _only("ClusterFirst"),
    # Where a pod runs: there is one node.
    **_without_effect("topologySpreadConstraints", "affinity", "nodeSelector", "tolerations"),
    **_without_effect("priorityClassName", "schedulerName"),
    # What a pod may do: a process runs as whoever started the cluster.
    **_without_effect("securityContext", "serviceAccountName", "automountServiceAccountToken"),
    **_without_effect("enableServiceLinks", "imagePullSecrets", "runtimeClassName"),
}
_SURGE = _Value(
    "expected a number of pods, or a percentage, and not 0: none could be replaced",
    lambda value: _whole(1).fits(value) or _matching("[1-9][0-9]{0,2}%", "").fits(value),
)
_ROLLING_UPDATE = {"maxUnavailable": _Required(_only(0, "0%")), "maxSurge": _SURGE}
_DEPLOYMENT = {
    "replicas": _whole(0),
    "selector": _Required({"matchLabels": _Required(_STRINGS)}),
    "template": _Required({"metadata": _MARKS, "spec": _Required(_POD)}),
    # maxUnavailable 0: this cluster stops no pod before another one is ready
    "strategy": _Required({"type": _only("RollingUpdate"), "rollingUpdate": _Required(_ROLLING_UPDATE)}),
    "minReadySeconds": _whole(0),
    "progressDeadlineSeconds": _whole(1),
    "paused": _only(False),  # noqa: FBT003 - a value of the manifest
    **_without_effect("revisionHistoryLimit"),  # old pods are gone when they are gone
}
_SERVICE_PORT = {
    "port": _Required(_PORT),
    "targetPort": _PORT_REFERENCE,
    "protocol": _only("TCP"),
    **_without_effect("appProtocol", "name"),
}
_SERVICE = {
    "type": _only("ClusterIP"),
    "selector": _Required(_STRINGS),
    "ports": _Required([_SERVICE_PORT]),
    "sessionAffinity": _only("None"),
    **_without_effect("ipFamilyPolicy", "ipFamilies", "internalTrafficPolicy", "publishNotReadyAddresses"),
}
_OWNER = {"apiVersion": _TEXT, "kind": _only("Deployment"), "name": _TEXT, "uid": _Required(_TEXT)}
_METADATA = {
    "name": _Required(_NAME),
    "namespace": _TEXT,
    **_MARKS,
    "resourceVersion": _TEXT,
    "ownerReferences": [_OWNER],
}
_OBJECTS: dict[object, tuple[str, Json]] = {"Deployment": ("apps/v1", _DEPLOYMENT), "Service": ("v1", _SERVICE)}


def read_manifest(manifest: object) -> Json:
    """Read a Deployment or a Service; raises `ManifestRefused`.

    As for Kubernetes, null is the same as absent. What is read has a namespace, labels and annotations.
    """
    found = _without_nulls(manifest)
    kind = found.get("kind") if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in _OBJECTS:
        raise ManifestRefused("kind", f"{str(kind)[:80]!r} isn't understood by the local cluster")
    api_version, spec = _OBJECTS[kind]
    head = {"apiVersion": _only(api_version), "kind": _only(kind), **_without_effect("status")}
    _check(found, {**head, "metadata": _Required(_METADATA), "spec": _Required(spec)}, "")
    if kind == "Deployment":
        _check_deployment(found["spec"])
    elif len(found["spec"]["ports"]) != 1 or not found["spec"]["selector"]:
        raise ManifestRefused("spec", "the local cluster serves exactly one port of a Service, and needs a selector")
    metadata = {"namespace": "default", "labels": {}, "annotations": {}, **found["metadata"]}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": found["spec"]}


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _check(value: object, schema: _Schema, path: str) -> None:
    match schema:
        case _Required():
            _check(value, schema.schema, path)
        case _Value():
            if not schema.fits(value):
                raise ManifestRefused(path, f"{str(value)[:80]!r}: {schema.expected}")
        case list():
            if not isinstance(value, list):
                raise ManifestRefused(path, "expected a list")
            for place, inner in enumerate(value):
                _check(inner, schema[0], f"{path}[{place}]")
        case dict():
            if not isinstance(value, dict):
                raise ManifestRefused(path, "expected an object")
            _check_fields(value, schema, f"{path}." if path else "")


def _check_fields(value: Json, schema: Json, prefix: str) -> None:
    for name in value:
        if name not in schema:
            raise ManifestRefused(f"{prefix}{name[:80]}", "isn't understood by the local cluster")
    for name, inner in schema.items():
        if name in value:
            _check(value[name], inner, f"{prefix}{name}")
        elif isinstance(inner, _Required):
            raise ManifestRefused(f"{prefix}{name}", "is missing")


def _check_deployment(spec: Json) -> None:
    """What one field asks of another."""
    pod, labels = spec["template"]["spec"], spec["template"].get("metadata", {}).get("labels", {})
    wanted = spec["selector"]["matchLabels"]
    if not wanted or not wanted.items() <= labels.items():
        raise ManifestRefused("spec.selector", "must select the labels of spec.template")
    names = [container["name"] for container in (*pod.get("initContainers", []), *pod["containers"])]
    if not pod["containers"] or len(set(names)) != len(names):
        raise ManifestRefused(
            "spec.template.spec.containers", "at least one is needed, and each needs a name of its own"
        )
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for kind in ("initContainers", "containers"):
        for place, container in enumerate(pod.get(kind, [])):
            path = f"spec.template.spec.{kind}[{place}]"
            for probe in PROBES:
                if probe in container and port_of(container, container[probe]["httpGet"]["port"]) is None:
                    raise ManifestRefused(f"{path}.{probe}.httpGet.port", "the container has no port of that name")
            for at, mount in enumerate(container.get("volumeMounts", [])):
                if mount["name"] not in volumes:
                    raise ManifestRefused(f"{path}.volumeMounts[{at}].name", f"there is no volume {mount['name']!r}")


# What more than one reader asks of a part


def port_of(container: Json, name_or_number: str | int) -> int | None:
    """The number of a port of the container."""
    if isinstance(name_or_number, int):
        return name_or_number
    ports: dict[str, int] = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
    return ports.get(name_or_number)


def template_hash(spec: Json) -> str:
    """Of the template of a Deployment's spec: pods with the same are the same."""
    return hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:10]


def surge_of(spec: Json, replicas: int) -> int:
    """How many pods a Deployment may have beyond `replicas`; a percentage is rounded up."""
    surge: int | str = spec["strategy"]["rollingUpdate"].get("maxSurge", "25%")
    return surge if isinstance(surge, int) else math.ceil(int(surge.rstrip("%")) * replicas / 100)
