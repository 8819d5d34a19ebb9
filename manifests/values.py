"""What an environment decides: one YAML file per environment, read strictly.

Everything that depends on the index (memory, disk, deadline) is computed from the request; here stands only what a
platform team chooses: where, how many, as whom, with which image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from manifests.canary import Canary, parse_canary
from manifests.yaml_documents import parse_yaml
from model_repository.errors import DocumentMalformed
from model_repository.fields import REQUIRED, Fields
from model_repository.names import check_label

_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_DNS_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,499}", re.ASCII)
_CPU = re.compile(r"[1-9][0-9]{0,3}|[1-9][0-9]{0,5}m", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_PERCENT = re.compile(r"[1-9][0-9]?%|100%", re.ASCII)
_OURS = ("app.kubernetes.io/", "indexpush.dev/")
_SET_BY_TEMPLATE = frozenset(
    {"MODEL_REPOSITORY", "INDEX_PREFIX", "INDEX_DIGEST", "DESTINATION", "COMMIT_GENERATION", "DATA", "PORT"}
    | {"DRAIN_SECONDS", "TMPDIR"}
)


@dataclass(frozen=True, slots=True)
class Toleration:
    """Lets the pods onto tainted nodes; empty fields are left out."""

    key: str
    operator: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Values:
    """The choices of one environment.

    image: the one image that both containers run; the same for every index.
    replicas: None, an autoscaler owns them and no apply touches them.
    max_surge: extra pods during a rollout: a number, or a percentage such as ``"25%"``.
    cpu, cpu_limit: Kubernetes quantities; cpu_limit None: no limit (idle CPU may be used).
    pre_stop_seconds: a leaving pod goes on serving so long while it is taken out of the endpoints.
    drain_seconds: then, told to stop, it answers so long with ``Connection: close``.
    env: extra variables of both containers, passed ones included.
    canary: how a new build is tried out beside what serves; None: not at all.
    """

    environment: str
    namespace: str
    image: str
    image_pull_policy: str
    replicas: int | None
    max_surge: int | str
    min_ready_seconds: int
    revision_history_limit: int
    cpu: str
    cpu_limit: str | None
    pull_cpu: str
    pre_stop_seconds: int
    drain_seconds: int
    service_account: str
    priority_class: str | None
    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...]
    labels: Mapping[str, str]
    service_annotations: Mapping[str, str]
    env: Mapping[str, str]
    canary: Canary | None = None


def load_values(environment: str, *, folder: Path | None, variables: Mapping[str, str]) -> Values:
    """Read ``<environment>.yaml`` from `folder` (None: the shipped ones).

    variables: what `pass_env` may take over from the process that renders.
    Raises `DocumentMalformed` naming the file and the field.
    """
    check_label("environment", environment)
    files = resources.files("manifests") / "environments" if folder is None else folder
    file = files / f"{environment}.yaml"
    name = f"environments/{environment}.yaml" if folder is None else str(file)
    if not file.is_file():
        raise DocumentMalformed(name, f"no such file; write one for the environment {environment!r}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DocumentMalformed(name, f"not UTF-8 (byte {error.start})") from None
    return parse_values(text, name, environment, variables)


def parse_values(text: str, name: str, environment: str, variables: Mapping[str, str]) -> Values:
    """Read the values of an environment from YAML; raises `DocumentMalformed`, also for a field it doesn't know."""
    documents = parse_yaml(text, name)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise DocumentMalformed(name, "expected one YAML mapping")
    fields: dict[str, Any] = documents[0]
    if "replicas" not in fields:
        raise DocumentMalformed(name, "field 'replicas' is missing; a number, or null if an autoscaler owns them")
    given = {str(key): value for key, value in fields.items() if value is not None}
    document = Fields(given, name, "")
    values = Values(
        environment=environment,
        namespace=_matching(document, "namespace", _DNS_LABEL),
        image=_matching(document, "image", _IMAGE),
        image_pull_policy=_one_of(document, "image_pull_policy", ("IfNotPresent", "Always", "Never")),
        replicas=document.whole("replicas", least=1, most=1000) if document.has("replicas") else None,
        max_surge=_max_surge(document, given),
        min_ready_seconds=_whole(document, "min_ready_seconds", default=0, most=600),
        revision_history_limit=_whole(document, "revision_history_limit", default=5, least=1, most=50),
        cpu=_matching(document, "cpu", _CPU, default="250m"),
        cpu_limit=_matching(document, "cpu_limit", _CPU) if document.has("cpu_limit") else None,
        pull_cpu=_matching(document, "pull_cpu", _CPU, default="250m"),
        pre_stop_seconds=_whole(document, "pre_stop_seconds", default=5, least=1, most=120),
        drain_seconds=_whole(document, "drain_seconds", default=5, least=0, most=600),
        service_account=_matching(document, "service_account", _DNS_NAME),
        priority_class=_matching(document, "priority_class", _DNS_NAME) if document.has("priority_class") else None,
        node_selector=_labels(document, "node_selector"),
        tolerations=tuple(_toleration(item) for item in _objects(document, "tolerations")),
        labels=_own_labels(document),
        service_annotations=_strings(document, "service_annotations"),
        env=_env(document, variables),
        canary=parse_canary(document.object("canary")) if document.has("canary") else None,
    )
    document.done()
    return values


def _matching(document: Fields, field: str, form: re.Pattern[str], *, default: str = REQUIRED) -> str:
    text = document.text(field, longest=500, default=default)
    if not form.fullmatch(text):
        document.refuse(f"{field}: {text[:80]!r} doesn't have the form that Kubernetes wants")
    return text


def _one_of(document: Fields, field: str, choices: tuple[str, ...]) -> str:
    text = document.text(field, default=choices[0])
    if text not in choices:
        document.refuse(f"{field}: {text[:80]!r}; use one of {', '.join(choices)}")
    return text


def _whole(document: Fields, field: str, *, default: int, most: int, least: int = 0) -> int:
    return document.whole(field, least=least, most=most) if document.has(field) else default


def _max_surge(document: Fields, given: Mapping[str, Any]) -> int | str:
    if isinstance(given.get("max_surge"), str):
        return _matching(document, "max_surge", _PERCENT)
    return _whole(document, "max_surge", default=1, least=1, most=1000)


def _strings(document: Fields, field: str) -> dict[str, str]:
    return dict(document.strings(field)) if document.has(field) else {}


def _objects(document: Fields, field: str) -> list[Fields]:
    return document.objects(field, most=50) if document.has(field) else []


def _labels(document: Fields, field: str) -> dict[str, str]:
    found = _strings(document, field)
    for key, value in found.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            document.refuse(f"{field}: {key[:80]!r}: {value[:80]!r} can't be a Kubernetes label")
    return found


def _own_labels(document: Fields) -> dict[str, str]:
    found = _labels(document, "labels")
    for key in found:
        if key.startswith(_OURS):
            document.refuse(f"labels: {key!r} is set by the template")
    return found


def _toleration(document: Fields) -> Toleration:
    toleration = Toleration(
        key=document.text("key", default=""),
        operator=_one_of(document, "operator", ("Equal", "Exists")),
        value=document.text("value", default=""),
        effect=document.text("effect", default=""),
    )
    document.done()
    return toleration


def _env(document: Fields, variables: Mapping[str, str]) -> dict[str, str]:
    env = _strings(document, "env")
    passed = document.texts("pass_env", most=50) if document.has("pass_env") else ()
    for name in (*env, *passed):
        if not _ENV_NAME.fullmatch(name):
            document.refuse(f"env: {name[:80]!r} can't name a variable")
        if name in _SET_BY_TEMPLATE:
            document.refuse(f"env: {name} is set by the template")
    return {**{name: variables[name] for name in passed if name in variables}, **env}
