"""A container of a pod template -> `specification.Container`; see `manifest_parser`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from local_stack.cluster.fields import Fields
from local_stack.cluster.specification import Container, Probe, Variable

_CONTAINER_WITHOUT_EFFECT = ("resources", "securityContext", "imagePullPolicy")
"""A process takes what it needs, and images are interpreters that are there."""

_FIELD_PATHS = frozenset({"metadata.name", "metadata.namespace", "metadata.uid", "status.podIP", "spec.nodeName"})
NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
"""What Kubernetes takes for a name."""
_HIGHEST_PORT = 65535


def parse_container(fields: Fields, volumes: frozenset[str], *, init: bool) -> Container:
    """Read a container; `volumes` are the names that it may mount. Raises `ManifestRefused`."""
    fields.without_effect(*_CONTAINER_WITHOUT_EFFECT)
    fields.only("terminationMessagePath", "/dev/termination-log")
    if init:  # Kubernetes allows these only to init containers that go on running
        for name in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
            if fields.has(name):
                fields.refuse(name, "an init container has none")
    ports = dict(_container_port(port) for port in fields.inners("ports"))
    policy = fields.text("terminationMessagePolicy", "File")
    if policy not in {"File", "FallbackToLogsOnError"}:
        fields.refuse("terminationMessagePolicy", "expected File or FallbackToLogsOnError")
    container = Container(
        name=fields.text("name"),
        image=fields.text("image"),
        command=fields.texts("command") + fields.texts("args"),
        variables=tuple(_variable(variable) for variable in fields.inners("env")),
        ports=ports,
        mounts=dict(_mount(mount, volumes) for mount in fields.inners("volumeMounts")),
        startup=_probe(fields, "startupProbe", ports),
        readiness=_probe(fields, "readinessProbe", ports),
        liveness=_probe(fields, "livenessProbe", ports),
        pre_stop_seconds=_pre_stop(fields.inner("lifecycle")),
        logs_are_last_words=policy == "FallbackToLogsOnError",
    )
    fields.done()
    if not NAME.fullmatch(container.name):
        fields.refuse("name", f"{container.name[:80]!r} can't be a container's name")
    if not container.command or not re.fullmatch(r"python(3(\.\d+)?)?", container.command[0]):
        fields.refuse("command", "must be there and begin with python: the local cluster's images hold nothing else")
    return container


def _container_port(fields: Fields) -> tuple[str, int]:
    number = fields.whole("containerPort", least=1)
    if number > _HIGHEST_PORT:
        fields.refuse("containerPort", f"expected at most {_HIGHEST_PORT}")
    name = fields.text("name", str(number))
    fields.only("protocol", "TCP")
    fields.done()
    return name, number


def _variable(fields: Fields) -> Variable:
    name = fields.text("name")
    source = fields.maybe_inner("valueFrom")
    field_path = ""
    if source is not None:
        reference = source.inner("fieldRef")
        source.done()
        reference.only("apiVersion", "v1")
        field_path = reference.text("fieldPath")
        reference.done()
        if field_path not in _FIELD_PATHS:
            reference.refuse("fieldPath", f"expected one of {', '.join(sorted(_FIELD_PATHS))}")
    variable = Variable(name, fields.text("value", ""), field_path)
    fields.done()
    return variable


def _mount(fields: Fields, volumes: frozenset[str]) -> tuple[str, str]:
    volume, path = fields.text("name"), fields.text("mountPath").rstrip("/")
    fields.without_effect("readOnly")  # a process can't be kept from writing to its own folder
    fields.done()
    if volume not in volumes:
        fields.refuse("name", f"there is no volume {volume!r}")
    if not path.startswith("/"):
        fields.refuse("mountPath", "expected an absolute path below /")
    return path, volume


def _probe(container: Fields, name: str, ports: Mapping[str, int]) -> Probe | None:
    fields = container.maybe_inner(name)
    if fields is None:
        return None
    get = fields.inner("httpGet")
    get.only("scheme", "HTTP")
    probe = Probe(
        path=get.text("path", "/"),
        port=_probe_port(get, ports),
        headers={header.text("name"): header.text("value") for header in get.inners("httpHeaders")},
        initial_delay=fields.whole("initialDelaySeconds", 0),
        period=fields.whole("periodSeconds", 10, least=1),
        timeout=fields.whole("timeoutSeconds", 1, least=1),
        failure_threshold=fields.whole("failureThreshold", 3, least=1),
        success_threshold=fields.whole("successThreshold", 1, least=1),
    )
    get.done()
    fields.done()
    return probe


def _probe_port(fields: Fields, ports: Mapping[str, int]) -> int:
    port = fields.anything("port", None)
    if type(port) is int and 0 < port <= _HIGHEST_PORT:
        return port
    if isinstance(port, str) and port in ports:
        return ports[port]
    return fields.refuse("port", f"expected a number or the name of a port of the container ({', '.join(ports)})")


def _pre_stop(lifecycle: Fields) -> int:
    pre_stop = lifecycle.inner("preStop")
    lifecycle.done()
    sleep = pre_stop.inner("sleep")
    pre_stop.done()
    seconds = sleep.whole("seconds", 0)
    sleep.done()
    return seconds
