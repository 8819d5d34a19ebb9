"""What the cluster understands of a manifest, as values; what it doesn't understand is refused by name.

The lists of fields without effect are complete: nothing else is passed over in silence.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from model_repository.errors import PermanentError
from model_repository.fields import REQUIRED, Fields

Json = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON has it."""

_T = TypeVar("_T")

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
"""What Kubernetes takes for a name."""
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_HIGHEST_PORT = 65535
_FIELD_PATHS = ("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.podIP")

_DEPLOYMENT_WITHOUT_EFFECT = ("revisionHistoryLimit",)  # old pods are gone when they are gone
_POD_WITHOUT_EFFECT = (
    # Where a pod runs: there is one node.
    "topologySpreadConstraints", "affinity", "nodeSelector", "tolerations", "priorityClassName", "schedulerName",
    # What a pod may do: a process runs as whoever started the cluster.
    "securityContext", "serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "imagePullSecrets",
)  # fmt: skip
_CONTAINER_WITHOUT_EFFECT = ("resources", "securityContext", "imagePullPolicy")
_SERVICE_WITHOUT_EFFECT = ("ipFamilyPolicy", "ipFamilies", "internalTrafficPolicy", "publishNotReadyAddresses")


class ManifestRefused(PermanentError):
    """A manifest has a field, or a value, that this cluster doesn't understand. field: its path."""

    code = "manifest-refused"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


class _Manifest(Fields):
    """A part of a manifest. As for Kubernetes, null is the same as absent."""

    null_is_absent = True

    def error(self, path: str, what: str) -> ManifestRefused:
        return ManifestRefused(path or "the manifest", what)

    def string(self, name: str, default: str = REQUIRED) -> str:
        """A string of any characters."""
        return self._of(name, str, "a string", self.take(name, default))

    def words(self, name: str) -> tuple[str, ...]:
        """A list of strings; none if it is absent."""
        found = self._of(name, list, "a list", self.take(name, []))
        return tuple(self._of(f"{name}[{place}]", str, "a string", word) for place, word in enumerate(found))

    def _of(self, name: str, kind: type[_T], word: str, value: object) -> _T:
        if not isinstance(value, kind):
            self.refuse(f"expected {word}", name)
        return value

    def only(self, name: str, *allowed: object) -> None:
        """A field that may be absent, or have one of these values: this cluster can do nothing else."""
        if self.has(name) and (value := self.take(name)) not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            self.refuse(f"{str(value)[:80]!r} isn't understood by the local cluster; only {choices}", name)

    def done(self) -> None:
        for name in self._left:
            self.refuse("isn't understood by the local cluster", name)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an object is called. resource_version: a guard of the write, not a wish."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    resource_version: str | None = field(compare=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP probe. Times are in seconds; port is a number."""

    path: str
    port: int
    headers: Mapping[str, str]
    initial_delay: int
    period: int
    timeout: int
    failure_threshold: int
    success_threshold: int


@dataclass(frozen=True, slots=True)
class Container:
    """One container.

    command: with its arguments. variables: name and value, or a field's path of the pod in place of the value.
    ports: by name. mounts: mount path to the volume's name. logs_are_last_words: FallbackToLogsOnError.
    """

    name: str
    image: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str, str], ...]
    ports: Mapping[str, int]
    mounts: Mapping[str, str]
    startup: Probe | None
    readiness: Probe | None
    liveness: Probe | None
    pre_stop_seconds: int
    logs_are_last_words: bool


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What every pod of a Deployment is made from. hash: of `raw`. grace: seconds from deletion to SIGKILL."""

    hash: str
    raw: Json
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]
    volumes: frozenset[str]
    grace: int


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """A Deployment as it was applied. replicas: None if the manifest leaves them to somebody else.

    max_surge: pods, or with a % a share of the wanted ones, rounded up. Times are in seconds.
    """

    metadata: Metadata
    replicas: int | None
    selector: Mapping[str, str]
    template: PodTemplate
    max_surge: int | str
    min_ready: int
    deadline: int
    raw: Json

    def surge(self, replicas: int) -> int:
        """How many pods there may be beyond `replicas`."""
        if isinstance(self.max_surge, int):
            return self.max_surge
        return math.ceil(int(self.max_surge.rstrip("%")) * replicas / 100)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A Service as it was applied. target: the name or number of a container's port."""

    metadata: Metadata
    selector: Mapping[str, str]
    target: str | int
    raw: Json


def parse_deployment(manifest: object) -> DeploymentSpec:
    """Read a Deployment; raises `ManifestRefused`."""
    metadata, spec, raw = _head(manifest, "apps/v1", "Deployment")
    spec.ignore(*_DEPLOYMENT_WITHOUT_EFFECT)
    spec.only("paused", False)  # noqa: FBT003 - a value of the manifest
    selector = spec.object("selector", default={})
    match_labels = selector.strings("matchLabels", default={})
    selector.done()
    template = _template(spec.object("template", default={}), raw.get("template"))
    if not match_labels or not match_labels.items() <= template.labels.items():
        raise ManifestRefused("spec.selector", "must select the labels of spec.template")
    deployment = DeploymentSpec(
        metadata=metadata,
        replicas=spec.whole("replicas") if spec.has("replicas") else None,
        selector=match_labels,
        template=template,
        max_surge=_max_surge(spec.object("strategy", default={})),
        min_ready=spec.whole("minReadySeconds", default=0),
        deadline=spec.whole("progressDeadlineSeconds", default=600, least=1),
        raw=raw,
    )
    spec.done()
    return deployment


def parse_service(manifest: object) -> ServiceSpec:
    """Read a Service; raises `ManifestRefused`."""
    metadata, spec, raw = _head(manifest, "v1", "Service")
    spec.ignore(*_SERVICE_WITHOUT_EFFECT)
    spec.only("type", "ClusterIP")
    spec.only("sessionAffinity", "None")
    selector, ports = spec.strings("selector", default={}), spec.objects("ports", default=[])
    spec.done()
    if len(ports) != 1 or not selector:
        raise ManifestRefused("spec", "the local cluster serves exactly one port of a Service, and needs a selector")
    (port,) = ports
    port.only("protocol", "TCP")
    port.ignore("appProtocol", "name")
    number = port.whole("port", least=1, most=_HIGHEST_PORT)
    target = port.take("targetPort", number)
    port.done()
    if not isinstance(target, str | int) or isinstance(target, bool):
        port.refuse("expected a number or the name of a container's port", "targetPort")
    return ServiceSpec(metadata, selector, target, raw)


def _head(manifest: object, api_version: str, kind: str) -> tuple[Metadata, _Manifest, Json]:
    fields = _Manifest(manifest, "")
    fields.only("apiVersion", api_version)
    fields.only("kind", kind)
    fields.ignore("status")
    inner = fields.object("metadata", default={})
    metadata = Metadata(
        name=_name(inner),
        namespace=inner.string("namespace", "default"),
        labels=inner.strings("labels", default={}),
        annotations=inner.strings("annotations", default={}),
        resource_version=inner.string("resourceVersion", "") or None,
    )
    inner.done()
    raw: Json = fields.take("spec", {})
    fields.done()
    return metadata, _Manifest(raw, "", "spec"), raw


def _name(fields: _Manifest) -> str:
    name = fields.string("name")
    if not _NAME.fullmatch(name):
        fields.refuse(f"{name[:80]!r} can't be the name of anything", "name")
    return name


def _max_surge(strategy: _Manifest) -> int | str:
    strategy.only("type", "RollingUpdate")
    rolling = strategy.object("rollingUpdate", default={})
    strategy.done()
    if rolling.take("maxUnavailable", "25%") not in (0, "0%"):
        rolling.refuse("must be 0: this cluster stops no pod before another one is ready", "maxUnavailable")
    surge: int | str = rolling.take("maxSurge", "25%")
    rolling.done()
    share = isinstance(surge, str) and re.fullmatch(r"[1-9][0-9]{0,2}%", surge, re.ASCII)
    if not share and (type(surge) is not int or surge < 1):
        rolling.refuse("expected a number of pods, or a percentage, and not 0: none could be replaced", "maxSurge")
    return surge


def _template(fields: _Manifest, raw: object) -> PodTemplate:
    metadata, spec = fields.object("metadata", default={}), fields.object("spec", default={})
    fields.done()
    labels, annotations = metadata.strings("labels", default={}), metadata.strings("annotations", default={})
    metadata.done()
    spec.ignore(*_POD_WITHOUT_EFFECT)
    spec.only("restartPolicy", "Always")
    spec.only("dnsPolicy", "ClusterFirst")
    volumes = frozenset(_volume(volume) for volume in spec.objects("volumes", default=[]))
    template = PodTemplate(
        hash=hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:10],
        raw=raw if isinstance(raw, dict) else {},
        labels=labels,
        annotations=annotations,
        init_containers=tuple(
            _container(one, volumes, init=True) for one in spec.objects("initContainers", default=[])
        ),
        containers=tuple(_container(one, volumes, init=False) for one in spec.objects("containers", default=[])),
        volumes=volumes,
        grace=spec.whole("terminationGracePeriodSeconds", default=30),
    )
    spec.done()
    names = [container.name for container in template.init_containers + template.containers]
    if not template.containers or len(set(names)) != len(names):
        spec.refuse("at least one is needed, and each needs a name of its own", "containers")
    return template


def _volume(fields: _Manifest) -> str:
    name = _name(fields)
    empty_dir = fields.object("emptyDir")
    empty_dir.ignore("sizeLimit", "medium")
    empty_dir.done()
    fields.done()
    return name


def _container(fields: _Manifest, volumes: frozenset[str], *, init: bool) -> Container:
    fields.ignore(*_CONTAINER_WITHOUT_EFFECT)
    fields.only("terminationMessagePath", "/dev/termination-log")
    if init:  # Kubernetes allows these only to init containers that go on running
        for name in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
            if fields.has(name):
                fields.refuse("an init container has none", name)
    ports = dict(_port(port) for port in fields.objects("ports", default=[]))
    policy = fields.string("terminationMessagePolicy", "File")
    if policy not in {"File", "FallbackToLogsOnError"}:
        fields.refuse("expected File or FallbackToLogsOnError", "terminationMessagePolicy")
    container = Container(
        name=_name(fields),
        image=fields.string("image"),
        command=fields.words("command") + fields.words("args"),
        variables=tuple(_variable(variable) for variable in fields.objects("env", default=[])),
        ports=ports,
        mounts=dict(_mount(mount, volumes) for mount in fields.objects("volumeMounts", default=[])),
        startup=_probe(fields, "startupProbe", ports),
        readiness=_probe(fields, "readinessProbe", ports),
        liveness=_probe(fields, "livenessProbe", ports),
        pre_stop_seconds=_pre_stop(fields.object("lifecycle", default={})),
        logs_are_last_words=policy == "FallbackToLogsOnError",
    )
    fields.done()
    if not container.command or not _PYTHON.fullmatch(container.command[0]):
        fields.refuse("must be there and begin with python: the local cluster's images hold nothing else", "command")
    return container


def _port(fields: _Manifest) -> tuple[str, int]:
    number = fields.whole("containerPort", least=1, most=_HIGHEST_PORT)
    name = fields.string("name", str(number))
    fields.only("protocol", "TCP")
    fields.done()
    return name, number


def _variable(fields: _Manifest) -> tuple[str, str, str]:
    name, value, path = fields.string("name"), fields.string("value", ""), ""
    if fields.has("valueFrom"):
        source = fields.object("valueFrom")
        reference = source.object("fieldRef", default={})
        source.done()
        reference.only("apiVersion", "v1")
        path = reference.string("fieldPath")
        reference.done()
        if path not in _FIELD_PATHS:
            reference.refuse(f"expected one of {', '.join(_FIELD_PATHS)}", "fieldPath")
    fields.done()
    return name, value, path


def _mount(fields: _Manifest, volumes: frozenset[str]) -> tuple[str, str]:
    volume, path = fields.string("name"), fields.string("mountPath").rstrip("/")
    fields.ignore("readOnly")  # a process can't be kept from writing to its own folder
    fields.done()
    if volume not in volumes:
        fields.refuse(f"there is no volume {volume!r}", "name")
    if not path.startswith("/"):
        fields.refuse("expected an absolute path below /", "mountPath")
    return path, volume


def _probe(container: _Manifest, name: str, ports: Mapping[str, int]) -> Probe | None:
    if not container.has(name):
        return None
    fields = container.object(name)
    get = fields.object("httpGet", default={})
    get.only("scheme", "HTTP")
    port = get.take("port")
    number = ports.get(port) if isinstance(port, str) else port
    if type(number) is not int or not 0 < number <= _HIGHEST_PORT:
        get.refuse(f"expected a number or the name of a port of the container ({', '.join(ports)})", "port")
    probe = Probe(
        path=get.string("path", "/"),
        port=number,
        headers={one.string("name"): one.string("value") for one in get.objects("httpHeaders", default=[])},
        initial_delay=fields.whole("initialDelaySeconds", default=0),
        period=fields.whole("periodSeconds", default=10, least=1),
        timeout=fields.whole("timeoutSeconds", default=1, least=1),
        failure_threshold=fields.whole("failureThreshold", default=3, least=1),
        success_threshold=fields.whole("successThreshold", default=1, least=1),
    )
    get.done()
    fields.done()
    return probe


def _pre_stop(lifecycle: _Manifest) -> int:
    pre_stop = lifecycle.object("preStop", default={})
    lifecycle.done()
    sleep = pre_stop.object("sleep", default={})
    pre_stop.done()
    seconds = sleep.whole("seconds", default=0)
    sleep.done()
    return seconds
