"""What is misconfigured: everything is tried once, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cd_webhook.cluster import Cluster, ClusterRefused, load_connect
from cd_webhook.config import Config
from manifests.render import Rendered, render
from manifests.values import Values, load_values
from model_repository.bucket.gcs_store import GcsStore
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.errors import DeliveryError, GenerationConflict
from model_repository.names import IndexPrefix, Target
from model_repository.notify import PubSubNotifier
from model_repository.telemetry.log import Log

LEAST_KUBERNETES = (1, 30)
"""From there on a pod may sleep before it is stopped (`preStop.sleep`) without a feature gate."""


@dataclass(frozen=True, slots=True)
class Checked:
    """what: was tried, in a word. text: what was found, or what is wrong and the mend."""

    what: str
    text: str
    ok: bool = True


def check(variables: Mapping[str, str], log: Log) -> Iterator[Checked]:
    """Try the settings and whatever they point at; without values nobody knows the cluster's namespace."""
    config, problems = Config.read(variables)
    for problem in problems:
        yield Checked("settings", problem, ok=False)
    values = None
    if config.environment:
        try:
            values = rendering_values(config, variables)
        except DeliveryError as error:
            yield Checked("values", str(error), ok=False)
        else:
            yield Checked("values", f"namespace {values.namespace}, image {values.image}")
    if config.bucket:
        yield _tried("bucket", lambda: _bucket(config.bucket, config.environment))
    if config.notify_topic or values:
        yield _tried("topic", lambda: _topic(config.notify_topic))
    if values is None:
        return
    try:
        cluster = load_connect(config.cluster)(variables, values.namespace, log)
        found = _cluster(cluster)
    except DeliveryError as error:
        yield Checked("cluster", str(error), ok=False)
    else:
        yield Checked("cluster", found)
        yield _tried("rights", lambda: _rights(cluster, values.namespace))
        yield _tried("manifests", lambda: _manifests(cluster, values))


def rendering_values(config: Config, variables: Mapping[str, str]) -> Values:
    """The values, of which a Deployment was made once: what they can't make shows now, not with the first commit.

    Raises as `load_values` and `render` do.
    """
    values = load_values(config.environment, folder=config.environments, variables=variables)
    _sample(values)
    return values


def _sample(values: Values) -> Rendered:
    """What the values make of a build that doesn't exist; only names and sizes would be others."""
    build = IndexPrefix("indexpush-check", "no-build")
    request = DeploymentRequest(
        target=Target(values.environment, build.index),
        generation=1,
        bucket="no-bucket",
        index_prefix=build,
        index_generation=1,
        index_digest=f"sha256:{'0' * 64}",
        models=(),
        footprint=Footprint(memory_mib=1024, volume_mib=1024, deadline_seconds=600),
    )
    return render(request, values)


def _tried(what: str, look: Callable[[], str]) -> Checked:
    try:
        return Checked(what, look())
    except DeliveryError as error:
        return Checked(what, str(error), ok=False)


def _bucket(bucket: str, environment: str) -> str:
    store = GcsStore(bucket, patience=5.0)
    found = store.folders("commits/")
    if environment:
        target = Target(environment, "indexpush-check")
        for name in (target.receipt_name(1), target.last_good_filter_name):
            with suppress(GenerationConflict):  # it may: that it is no generation that ever was is all that stops it
                store.write(name, b"", if_generation_match=1)
    return f"{len(found)} environments have commits in gs://{bucket}"


def _topic(topic: str) -> str:
    if not topic:
        return "NOTIFY_TOPIC isn't set: what is refused or undone is told by log and receipt alone"
    PubSubNotifier(topic).check()
    return topic


def _cluster(cluster: Cluster) -> str:
    return f"{len(cluster.deployments())} indexes deployed, {_version(cluster)}"


def _version(cluster: Cluster) -> str:
    """What the cluster is; raises `ClusterRefused` for one that is too old for what the manifests ask of it."""
    found = cluster.version()
    if found is None:
        return "no Kubernetes"
    said = f"Kubernetes {found[0]}.{found[1]}"
    if found < LEAST_KUBERNETES:
        least = f"{LEAST_KUBERNETES[0]}.{LEAST_KUBERNETES[1]}"
        raise ClusterRefused(f"{said}: the pods need {least} at least (preStop.sleep); upgrade the cluster")
    return said


def _manifests(cluster: Cluster, values: Values) -> str:
    cluster.validate(_sample(values).deployment)
    return "the cluster takes a Deployment of these values"


def _rights(cluster: Cluster, namespace: str) -> str:
    """Whether they are those of the Role, no fewer and, where that would matter, no more."""
    missing, needless = cluster.rights()
    if missing:
        raise ClusterRefused(f"may not {', '.join(missing)} in {namespace}; apply manifests/webhook/role.yaml")
    if needless:
        raise ClusterRefused(
            f"may {', '.join(needless)} in {namespace}, and needs not; find what grants it: "
            f"kubectl -n {namespace} get rolebindings,clusterrolebindings -o wide"
        )
    return f"those of the Role, in {namespace}"
