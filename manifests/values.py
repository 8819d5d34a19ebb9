"""What an environment decides: one YAML file per environment, read strictly.

Everything that depends on the index (memory, disk, deadline) is computed from the request; here stands only what a
platform team chooses: where, how many, as whom, with which image. `environments/` beside has examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manifests.canary import Canary, parse_canary
from manifests.kubernetes_fields import DNS_LABEL, DNS_NAME, IMAGE, KubernetesFields, read_fields, read_file
from manifests.pod_patch import PodPatch, parse_pod_patch
from model_repository.documents.receipts.address import parse_url_of_indexes
from model_repository.errors import Misconfigured
from model_repository.names import check_label

FOLDER = Path("/etc/indexpush/environments")
"""Where the values are unless ENVIRONMENTS says otherwise: there the webhook's Deployment mounts its ConfigMap."""

_PERCENT = re.compile(r"[1-9][0-9]?%|100%", re.ASCII)
_MOST_PODS = 1000
_MOST_WORKERS = 256
SET_BY_TEMPLATE = frozenset(
    {"MODEL_REPOSITORY", "INDEX_PREFIX", "INDEX_DIGEST", "DESTINATION", "COMMIT_GENERATION", "DATA", "PORT"}
    | {"FILTER", "PROBE_PORT", "WORKERS", "DRAIN_SECONDS", "TMPDIR", "PULL_FIGURES", "TRACEPARENT"}
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
    workers: processes of a pod that answer; each has memory of its own. One for each CPU of `cpu_limit`, or of `cpu`,
        unless it is said.
    pre_stop_seconds: a leaving pod goes on serving so long while it is taken out of the endpoints.
    drain_seconds: then, told to stop, it answers so long with ``Connection: close``.
    tolerations: as Kubernetes takes them; they let the pods onto tainted nodes.
    env: extra variables of both containers, passed ones included.
    canary: how a new build is tried out beside what serves; None: not at all.
    storage_class: of a volume that each pod gets for index and models (a generic ephemeral volume); None: the node's
        own disk (an emptyDir). How large it is follows from the index.
    pod_annotations, pod_patch: what else the pods are to have; see `pod_patch`.
    url: where callers outside of the cluster reach an index: ``{index}`` stands for its name. None: people are told the
        URL within the cluster alone.
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
    workers: int
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
    storage_class: str | None = None
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    pod_patch: PodPatch = field(default_factory=dict)
    url: str | None = None


def load_values(environment: str, *, folder: Path, variables: Mapping[str, str]) -> Values:
    """Read ``<environment>.yaml`` in `folder`.

    variables: what `pass_env` may take over from the process that renders.
    Raises `Misconfigured` where there is no such file, `DocumentMalformed` naming the file and the field.
    """
    file = folder / f"{check_label('environment', environment)}.yaml"
    try:
        text = read_file(file)
    except OSError as error:
        raise Misconfigured(
            f"{file}: {error.strerror}; the values of {environment!r} belong there (the webhook mounts them from a "
            "ConfigMap: manifests/webhook/1-values.yaml), or let ENVIRONMENTS name the folder that has them"
        ) from None
    return parse_values(text, str(file), environment, variables)


def parse_values(text: str, name: str, environment: str, variables: Mapping[str, str]) -> Values:
    """Read the values of an environment from YAML; raises `DocumentMalformed`, also for a field it doesn't know."""
    fields = read_fields(text, name)
    if "replicas" not in fields.named:
        fields.refuse("field 'replicas' is missing; a number, or null if an autoscaler owns them")
    cpu = fields.cpu("cpu", default="250m")
    cpu_limit = fields.cpu("cpu_limit") if fields.has("cpu_limit") else None
    values = Values(
        environment=environment,
        namespace=fields.matching("namespace", DNS_LABEL),
        image=fields.matching("image", IMAGE),
        image_pull_policy=fields.one_of("image_pull_policy", "IfNotPresent", "Always", "Never"),
        replicas=fields.whole("replicas", least=1, most=_MOST_PODS) if fields.has("replicas") else None,
        max_surge=_max_surge(fields),
        min_ready_seconds=fields.whole("min_ready_seconds", most=600, default=0),
        revision_history_limit=fields.whole("revision_history_limit", least=1, most=50, default=5),
        cpu=cpu,
        cpu_limit=cpu_limit,
        pull_cpu=fields.cpu("pull_cpu", default="250m"),
        pull_cpu_limit=fields.cpu("pull_cpu_limit") if fields.has("pull_cpu_limit") else None,
        workers=fields.whole("workers", least=1, most=_MOST_WORKERS, default=_cpus(cpu_limit or cpu)),
        pre_stop_seconds=fields.whole("pre_stop_seconds", least=1, most=120, default=5),
        drain_seconds=fields.whole("drain_seconds", most=600, default=5),
        service_account=fields.matching("service_account", DNS_NAME),
        priority_class=fields.matching_or_none("priority_class", DNS_NAME),
        node_selector=fields.labels("node_selector"),
        tolerations=fields.tolerations("tolerations"),
        labels=fields.own_labels("labels"),
        service_annotations=fields.annotations("service_annotations"),
        env=fields.variables(variables, SET_BY_TEMPLATE),
        canary=parse_canary(fields.object("canary")) if fields.has("canary") else None,
        storage_class=fields.matching_or_none("storage_class", DNS_NAME),
        pod_annotations=fields.own_annotations("pod_annotations"),
        pod_patch=parse_pod_patch(fields, "pod_patch"),
        url=fields.parsed("url", parse_url_of_indexes) if fields.has("url") else None,
    )
    fields.done()
    return values


def _cpus(quantity: str) -> int:
    """Whole CPUs of a quantity, rounded up, within the bounds of `workers`."""
    thousandths = int(quantity[:-1]) if quantity.endswith("m") else 1000 * int(quantity)
    return min(_MOST_WORKERS, -(-thousandths // 1000))


def _max_surge(fields: KubernetesFields) -> int | str:
    surge = fields.take("max_surge", 1)
    number = isinstance(surge, int) and not isinstance(surge, bool) and 1 <= surge <= _MOST_PODS
    if not number and not (isinstance(surge, str) and _PERCENT.fullmatch(surge)):
        fields.refuse(f"expected 1 to {_MOST_PODS} pods, or 1% to 100%, found {str(surge)[:80]!r}", "max_surge")
    chosen: int | str = surge
    return chosen
