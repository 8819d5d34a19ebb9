"""Render, parse, check: a request and the values of its environment become a Deployment and a Service.

A value enters the YAML only as a JSON scalar or collection (JSON is YAML), so no value can break out of its place.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import jinja2

from manifests import metadata as marks
from manifests.check import check_deployment, check_service
from manifests.values import Values
from manifests.yaml_documents import parse_yaml
from model_repository.deployment import DeploymentRequest
from model_repository.errors import DocumentMalformed

_PAIR = re.compile(r"\\\\|\\u(d[89ab]..)\\u(d[c-f]..)")
_LOG_MIB = 64
"""Disk for a container's own log, on top of the volume."""
_EXIT_SECONDS = 40
"""After drain: 30 for a body that is on its way; the rest for its answer and the interpreter's end."""
_STARTUP_SECONDS = 120
"""What the server may take to map and prove an index once it is pulled."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of one index, checked, as Kubernetes takes them."""

    deployment: dict[str, Any]
    service: dict[str, Any]


def render(request: DeploymentRequest, values: Values) -> Rendered:
    """The objects that serve `request`.

    Raises `DocumentMalformed` when the templates or the values make something that Kubernetes would refuse, or that
    isn't what was asked for.
    """
    if values.environment != request.target.environment:
        raise DocumentMalformed(
            "parameters", f"environment {request.target.environment!r}; these are the values of {values.environment!r}"
        )
    context = _context(request, values)
    deployment = _render_one("deployment.yaml.j2", context)
    service = _render_one("service.yaml.j2", context)
    check_deployment(deployment, name=request.target.index, namespace=values.namespace)
    check_service(service, name=request.target.index, namespace=values.namespace)
    return Rendered(deployment, service)


def _context(request: DeploymentRequest, values: Values) -> dict[str, Any]:
    chosen = {key: value for key, value in asdict(values).items() if key not in {"environment", "labels", "canary"}}
    return {
        **chosen,
        "name": request.target.index,
        "labels": {**values.labels, **marks.labels(request.target.index)},
        "deployment_labels": {**values.labels, **marks.labels(request.target.index), marks.TRACK: marks.STABLE},
        "selector": marks.selector(request.target.index),
        "deployment_selector": marks.deployment_selector(request.target.index),
        "annotations": marks.build_annotations(request),
        "bucket": request.bucket,
        "generation": str(request.generation),
        "index_prefix": str(request.index_prefix),
        "index_digest": request.index_digest,
        "memory_mib": request.footprint.memory_mib,
        "volume_mib": request.footprint.volume_mib,
        "disk_mib": request.footprint.volume_mib + _LOG_MIB,
        "deadline_seconds": request.footprint.deadline_seconds + values.min_ready_seconds,
        "grace_seconds": values.pre_stop_seconds + values.drain_seconds + _EXIT_SECONDS,
        "startup_failures": _STARTUP_SECONDS,
    }


def _to_json(value: object) -> str:
    # ASCII only: no line separator or control character gets through unescaped. YAML reads JSON's escapes, but not the
    # pairs that JSON needs beyond 16 bits.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, default=_unknown)
    return _PAIR.sub(_yaml_escape, text)


def _yaml_escape(found: re.Match[str]) -> str:
    if found[1] is None:  # an escaped backslash: what follows it is no escape
        return found[0]
    character = bytes.fromhex(found[1] + found[2]).decode("utf-16-be")
    return f"\\U{ord(character):08x}"


def _unknown(value: object) -> str:
    return str(value) if isinstance(value, jinja2.Undefined) else _refuse(value)


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} can't stand in a manifest")


def _finalize(value: object) -> object:
    if not isinstance(value, str):
        raise TypeError("a template printed a value without to_json")
    return value


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("manifests", ""),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML, not HTML: values are quoted by to_json
    )
    environment.filters["to_json"] = _to_json
    return environment


_TEMPLATES = _templates()


def _render_one(template: str, context: dict[str, Any]) -> dict[str, Any]:
    try:
        text = _TEMPLATES.get_template(template).render(context)
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise DocumentMalformed(template, f"can't be rendered: {error}") from None
    documents = parse_yaml(text, template)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise DocumentMalformed(template, "expected one Kubernetes object")
    found: dict[str, Any] = documents[0]
    return found
