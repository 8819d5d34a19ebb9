"""Kubernetes objects -> `specification`; what isn't understood is refused by name.

The lists of fields without effect are complete: nothing else is passed over in silence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import cast

from local_stack.cluster.container_parser import NAME, parse_container
from local_stack.cluster.fields import Fields, ManifestRefused
from local_stack.cluster.specification import (
    DeploymentSpec,
    Json,
    PodTemplate,
    ServicePort,
    ServiceSpec,
    Share,
)

_DEPLOYMENT_WITHOUT_EFFECT = ("revisionHistoryLimit",)
"""Old ReplicaSets without pods cost nothing here."""

_POD_WITHOUT_EFFECT = (
    # Where a pod runs: there is one node.
    "topologySpreadConstraints", "affinity", "nodeSelector", "tolerations", "priorityClassName", "schedulerName",
    # What a pod may do: a process runs as whoever started the cluster.
    "securityContext", "serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "imagePullSecrets",
)  # fmt: skip

_SERVICE_WITHOUT_EFFECT = ("ipFamilyPolicy", "ipFamilies", "internalTrafficPolicy", "publishNotReadyAddresses")


def parse_deployment(manifest: object) -> DeploymentSpec:
    """Read a Deployment; raises `ManifestRefused`."""
    fields = Fields(manifest, "")
    fields.only("apiVersion", "apps/v1")
    fields.only("kind", "Deployment")
    fields.without_effect("status")
    name, namespace, labels, annotations, version = _metadata(fields.inner("metadata"))
    raw_spec = cast("Json", fields.anything("spec", {}))
    fields.done()

    spec = Fields(raw_spec, "spec")
    spec.without_effect(*_DEPLOYMENT_WITHOUT_EFFECT)
    if spec.flag("paused"):
        spec.refuse("paused", "isn't understood by the local cluster")
    selector = spec.inner("selector")
    match_labels = selector.strings("matchLabels")
    selector.done()
    template = _template(spec.anything("template", {}), "spec.template")
    if not match_labels or not match_labels.items() <= template.labels.items():
        raise ManifestRefused("spec.selector", "must select the labels of spec.template")
    surge, unavailable = _strategy(spec.inner("strategy"))
    deployment = DeploymentSpec(
        name=name,
        namespace=namespace,
        labels=labels,
        annotations=annotations,
        resource_version=version,
        replicas=spec.whole("replicas") if spec.has("replicas") else None,
        selector=match_labels,
        template=template,
        max_surge=surge,
        max_unavailable=unavailable,
        min_ready=spec.whole("minReadySeconds", 0),
        deadline=spec.whole("progressDeadlineSeconds", 600, least=1),
        raw_spec=raw_spec,
    )
    spec.done()
    return deployment


def parse_service(manifest: object) -> ServiceSpec:
    """Read a Service; raises `ManifestRefused`."""
    fields = Fields(manifest, "")
    fields.only("apiVersion", "v1")
    fields.only("kind", "Service")
    fields.without_effect("status")
    name, namespace, labels, annotations, version = _metadata(fields.inner("metadata"))
    raw_spec = cast("Json", fields.anything("spec", {}))
    fields.done()

    spec = Fields(raw_spec, "spec")
    spec.without_effect(*_SERVICE_WITHOUT_EFFECT)
    spec.only("type", "ClusterIP")
    spec.only("sessionAffinity", "None")
    service = ServiceSpec(
        name=name,
        namespace=namespace,
        labels=labels,
        annotations=annotations,
        resource_version=version,
        selector=spec.strings("selector"),
        ports=tuple(_service_port(port) for port in spec.inners("ports")),
        raw_spec=raw_spec,
    )
    spec.done()
    if len(service.ports) != 1:
        raise ManifestRefused("spec.ports", "the local cluster serves exactly one port of a Service")
    if not service.selector:
        raise ManifestRefused("spec.selector", "is missing")
    return service


def _metadata(fields: Fields) -> tuple[str, str, Mapping[str, str], Mapping[str, str], str | None]:
    name = fields.text("name")
    if not NAME.fullmatch(name):
        fields.refuse("name", f"{name[:80]!r} can't be the name of an object")
    found = (
        name,
        fields.text("namespace", "default"),
        fields.strings("labels"),
        fields.strings("annotations"),
        fields.text("resourceVersion", "") or None,
    )
    fields.done()
    return found


def _strategy(fields: Fields) -> tuple[Share, Share]:
    fields.only("type", "RollingUpdate")
    rolling = fields.inner("rollingUpdate")
    surge, unavailable = _share(rolling, "maxSurge"), _share(rolling, "maxUnavailable")
    rolling.done()
    fields.done()
    if surge.amount == 0 and unavailable.amount == 0:
        rolling.refuse("maxSurge", "and maxUnavailable can't both be 0: no pod could ever be replaced")
    return surge, unavailable


def _share(fields: Fields, name: str) -> Share:
    value = fields.anything(name, "25%")
    if type(value) is int and value >= 0:
        return Share(value, percent=False)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}%", value, re.ASCII):
        return Share(int(value[:-1]), percent=True)
    return fields.refuse(name, "expected a number of pods, or a percentage")


def _template(raw: object, path: str) -> PodTemplate:
    fields = Fields(raw, path)
    metadata = fields.inner("metadata")
    labels, annotations = metadata.strings("labels"), metadata.strings("annotations")
    metadata.done()
    spec = fields.inner("spec")
    fields.done()
    spec.without_effect(*_POD_WITHOUT_EFFECT)
    spec.only("restartPolicy", "Always")
    spec.only("dnsPolicy", "ClusterFirst")
    volumes = frozenset(_volume(volume) for volume in spec.inners("volumes"))
    template = PodTemplate(
        hash=hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:10],
        raw=cast("Json", raw),
        labels=labels,
        annotations=annotations,
        init_containers=tuple(parse_container(item, volumes, init=True) for item in spec.inners("initContainers")),
        containers=tuple(parse_container(item, volumes, init=False) for item in spec.inners("containers")),
        volumes=volumes,
        grace=spec.whole("terminationGracePeriodSeconds", 30),
    )
    spec.done()
    names = [container.name for container in template.init_containers + template.containers]
    if not template.containers or len(set(names)) != len(names):
        spec.refuse("containers", "at least one is needed, and each needs a name of its own")
    return template


def _volume(fields: Fields) -> str:
    name = fields.text("name")
    if not NAME.fullmatch(name):
        fields.refuse("name", f"{name[:80]!r} can't be a volume's name")
    if not fields.has("emptyDir"):
        fields.refuse("emptyDir", "is missing: the local cluster has no other volumes")
    empty_dir = fields.inner("emptyDir")
    empty_dir.without_effect("sizeLimit", "medium")
    empty_dir.done()
    fields.done()
    return name


def _service_port(fields: Fields) -> ServicePort:
    fields.only("protocol", "TCP")
    fields.without_effect("appProtocol")
    number = fields.whole("port", least=1)
    target = fields.anything("targetPort", number)
    if not isinstance(target, str | int) or isinstance(target, bool):
        fields.refuse("targetPort", "expected a number or the name of a container's port")
    port = ServicePort(fields.text("name", ""), number, target)
    fields.done()
    return port
