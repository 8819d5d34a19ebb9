"""What an environment decides: one YAML file per environment, read strictly.

Everything that depends on the index (memory, disk, deadline) is computed from the request; here stands only what a
platform team chooses: where, how many, as whom, with which image. `environments/` beside has examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.canary import Canary, parse_canary
from manifests.yaml_documents import parse_yaml
from model_repository.errors import DocumentMalformed, Misconfigured
from model_repository.fields import REQUIRED, Fields
from model_repository.names import check_label

FOLDER = Path("/etc/indexpush/environments")
"""Where the values are unless ENVIRONMENTS says otherwise: there the webhook's Deployment mounts its ConfigMap."""

_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_DNS_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,499}", re.ASCII)
_CPU = re.compile(r"[1-9][0-9]{0,3}|[1-9][0-9]{0,5}m", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_PERCENT = re.compile(r"[1-9][0-9]?%|100%", re.ASCII)
_MOST_PODS = 1000
_OURS = ("app.kubernetes.io/", "indexpush.dev/")
SET_BY_TEMPLATE = frozenset(
    {"MODEL_REPOSITORY", "INDEX_PREFIX", "INDEX_DIGEST", "DESTINATION", "COMMIT_GENERATION", "DATA", "PORT"}
    | {"DRAIN_SECONDS", "TMPDIR"}
)
"""Variables of the containers that no environment may set."""


@dataclass(frozen=True, slots=True)
class Values:
    """The choices of one environment.

    image: the one image that both containers run; the same for every index.
    replicas: None, an autoscaler owns them and no apply touches them.
    max_surge: extra pods during a rollout: a number, or a percentage such as ``"25%"``.
    cpu, cpu_limit, pull_cpu, pull_cpu_limit: Kubernetes quantities, of the server and of the puller; a limit of None:
        no limit (idle CPU may be used). A quota on limits.cpu needs both.
    pre_stop_seconds: a leaving pod goes on serving so long while it is taken out of the endpoints.
    drain_seconds: then, told to stop, it answers so long with ``Connection: close``.
    tolerations: as Kubernetes takes them; they let the pods onto tainted nodes.
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
    pull_cpu_limit: str | None
    pre_stop_seconds: int
    drain_seconds: int
    service_account: str
    priority_class: str | None
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...]
    labels: Mapping[str, str]
    service_annotations: Mapping[str, str]
    env: Mapping[str, str]
    canary: Canary | None = None


class _Fields(Fields):
    """Null means absent, as it does in Kubernetes' own YAML."""

    null_is_absent = True


def load_values(environment: str, *, folder: Path, variables: Mapping[str, str]) -> Values:
    """Read ``<environment>.yaml`` in `folder`.

    variables: what `pass_env` may take over from the process that renders.
    Raises `Misconfigured` where there is no such file, `DocumentMalformed` naming the file and the field.
    """
    file = folder / f"{check_label('environment', environment)}.yaml"
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DocumentMalformed(str(file), f"not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise Misconfigured(
            f"{file}: {error.strerror}; the values of {environment!r} belong there (the webhook mounts them from a "
            "ConfigMap: manifests/webhook/1-values.yaml), or let ENVIRONMENTS name the folder that has them"
        ) from None
    return parse_values(text, str(file), environment, variables)


def parse_values(text: str, name: str, environment: str, variables: Mapping[str, str]) -> Values:
    """Read the values of an environment from YAML; raises `DocumentMalformed`, also for a field it doesn't know."""
    documents = parse_yaml(text, name)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise DocumentMalformed(name, "expected one YAML mapping")
    given = {str(key): value for key, value in documents[0].items()}
    fields = _Fields(given, name)
    if "replicas" not in given:
        fields.refuse("field 'replicas' is missing; a number, or null if an autoscaler owns them")
    values = Values(
        environment=environment,
        namespace=_matching(fields, "namespace", _DNS_LABEL),
        image=_matching(fields, "image", _IMAGE),
        image_pull_policy=_one_of(fields, "image_pull_policy", "IfNotPresent", "Always", "Never"),
        replicas=fields.whole("replicas", least=1, most=_MOST_PODS) if fields.has("replicas") else None,
        max_surge=_max_surge(fields),
        min_ready_seconds=fields.whole("min_ready_seconds", most=600, default=0),
        revision_history_limit=fields.whole("revision_history_limit", least=1, most=50, default=5),
        cpu=_matching(fields, "cpu", _CPU, default="250m"),
        cpu_limit=_matching(fields, "cpu_limit", _CPU) if fields.has("cpu_limit") else None,
        pull_cpu=_matching(fields, "pull_cpu", _CPU, default="250m"),
        pull_cpu_limit=_matching(fields, "pull_cpu_limit", _CPU) if fields.has("pull_cpu_limit") else None,
        pre_stop_seconds=fields.whole("pre_stop_seconds", least=1, most=120, default=5),
        drain_seconds=fields.whole("drain_seconds", most=600, default=5),
        service_account=_matching(fields, "service_account", _DNS_NAME),
        priority_class=_matching(fields, "priority_class", _DNS_NAME) if fields.has("priority_class") else None,
        node_selector=_labels(fields, "node_selector"),
        tolerations=tuple(_toleration(item) for item in fields.objects("tolerations", most=50, default=[])),
        labels=_own_labels(fields),
        service_annotations=_annotations(fields),
        env=_env(fields, variables),
        canary=parse_canary(fields.object("canary")) if fields.has("canary") else None,
    )
    fields.done()
    return values


def _matching(fields: Fields, field: str, form: re.Pattern[str], *, default: str = REQUIRED) -> str:
    text = fields.text(field, longest=500, default=default)
    if not form.fullmatch(text):
        fields.refuse(f"{text[:80]!r} doesn't have the form that Kubernetes wants", field)
    return text


def _one_of(fields: Fields, field: str, *choices: str) -> str:
    text = fields.text(field, default=choices[0])
    if text not in choices:
        fields.refuse(f"{text[:80]!r}; use one of {', '.join(choices)}", field)
    return text


def _max_surge(fields: Fields) -> int | str:
    surge = fields.take("max_surge", 1)
    number = isinstance(surge, int) and not isinstance(surge, bool) and 1 <= surge <= _MOST_PODS
    if not number and not (isinstance(surge, str) and _PERCENT.fullmatch(surge)):
        fields.refuse(f"expected 1 to {_MOST_PODS} pods, or 1% to 100%, found {str(surge)[:80]!r}", "max_surge")
    chosen: int | str = surge
    return chosen


def _labels(fields: Fields, field: str) -> Mapping[str, str]:
    found = fields.strings(field, default={})
    for key, value in found.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            fields.refuse(f"{key[:80]!r}: {value[:80]!r} can't be a Kubernetes label", field)
    return found


def _own_labels(fields: Fields) -> Mapping[str, str]:
    found = _labels(fields, "labels")
    for key in found:
        if key.startswith(_OURS):
            fields.refuse(f"{key!r} is set by the template", "labels")
    return found


def _annotations(fields: Fields) -> Mapping[str, str]:
    found = fields.strings("service_annotations", default={})
    for key in found:
        if not _LABEL_KEY.fullmatch(key.lower()):
            fields.refuse(f"{key[:80]!r} can't name a Kubernetes annotation", "service_annotations")
    return found


def _toleration(fields: Fields) -> Mapping[str, str]:
    toleration = {
        "key": fields.text("key", default=""),
        "operator": _one_of(fields, "operator", "Equal", "Exists"),
        "value": fields.text("value", default=""),
        "effect": fields.text("effect", default=""),
    }
    fields.done()
    return {key: text for key, text in toleration.items() if text}


def _env(fields: Fields, variables: Mapping[str, str]) -> Mapping[str, str]:
    env, passed = fields.strings("env", default={}), fields.texts("pass_env", most=50, default=())
    for name in (*env, *passed):
        if not _ENV_NAME.fullmatch(name):
            fields.refuse(f"{name[:80]!r} can't name a variable", "env")
        if name in SET_BY_TEMPLATE:
            fields.refuse(f"{name} is set by the template", "env")
    return {**{name: variables[name] for name in passed if name in variables}, **env}
