"""The shipped Role is all that the webhook needs, and each rule of it is needed."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cd_webhook.cluster import ClusterForbids, Conflict
from cd_webhook.cluster.api import KubernetesApi
from cd_webhook.cluster.kubernetes import KubernetesCluster
from manifests.render import Rendered, render
from manifests.values import parse_values
from model_repository.telemetry.log import Log
from tests.kubernetes.installation import NAMESPACE, ROOT, WEBHOOK, documents
from tests.kubernetes.kube import Kube, until
from tests.kubernetes.node_scene import INDEX, Scene

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

ROLE, BINDING = documents(ROOT / "manifests" / "webhook" / "role.yaml")
RULES = [
    (group, resource, verb)
    for rule in ROLE["rules"]
    for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
]
ALONE = "indexpush-permissions"
"""A namespace with no webhook in it, where the Role can be cut without harm."""


class TestTheInstalledWebhook:
    def test_it_may_do_what_the_role_says_and_nothing_else(self, scene: Scene) -> None:
        account = f"system:serviceaccount:{NAMESPACE}:{WEBHOOK}"
        allowed = {
            (group, resource, verb)
            for group, resource in itertools.product(GROUPS, RESOURCES)
            for verb in VERBS
            if _may(scene.kube, account, NAMESPACE, (group, resource, verb))
        }
        assert allowed == set(RULES)
        assert not _may(scene.kube, account, "default", ("apps", "deployments", "get"))
        pods_own = f"system:serviceaccount:{NAMESPACE}:indexpush-search"
        assert not _may(scene.kube, pods_own, NAMESPACE, ("", "pods", "list"))

    def test_without_a_rule_a_commit_waits_and_goes_live_once_the_role_is_mended(self, scene: Scene) -> None:
        before = scene.settled(scene.build)
        with _cut(scene.kube, NAMESPACE, ("", "services", "patch")):
            waiting = scene.commit(scene.build)
            until(lambda: _answered_with(scene, waiting, 503), "the function to hear that it may pass")
            assert int(scene.search(INDEX).status()["generation"]) == before
            assert waiting not in scene.receipts(INDEX)
        assert scene.receipt(INDEX, waiting).outcome == "served"


def _answered_with(scene: Scene, generation: int, status: int) -> bool:
    attempts = scene.stand_ins("/attempts")
    return any(attempt["generation"] == str(generation) and attempt["status"] == status for attempt in attempts)


RESOURCES = (
    *("deployments", "deployments/scale", "deployments/status", "services", "services/status", "pods", "pods/exec"),
    *(
        "pods/log",
        "secrets",
        "configmaps",
        "events",
        "replicasets",
        "roles",
        "rolebindings",
        "jobs",
        "poddisruptionbudgets",
    ),
)
GROUPS = ("", "apps", "policy", "rbac.authorization.k8s.io", "batch")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


@pytest.fixture(scope="module")
def identity(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesApi]:
    """The webhook's ServiceAccount in a namespace of its own, and a connection as it."""
    accounts = documents(ROOT / "manifests" / "webhook" / "service-accounts.yaml")
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ALONE}})
    kube.apply(*(_moved(one) for one in (*accounts, ROLE, BINDING)))
    token = kube.kubectl("-n", ALONE, "create", "token", WEBHOOK).strip()
    yield _as(kube, token, tmp_path_factory.mktemp("identity") / "kubeconfig")
    kube.kubectl("delete", "namespace", ALONE, "--wait=false")


def test_with_the_shipped_role_everything_works(kube: Kube, identity: KubernetesApi, scene: Scene) -> None:
    until(lambda: _may(kube, f"system:serviceaccount:{ALONE}:{WEBHOOK}", ALONE, RULES[0]), "the role to be in force")
    _everything_that_the_webhook_does(identity, _rendered(scene, 1))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: " ".join(filter(None, rule)))
def test_without_one_rule_something_is_refused(
    kube: Kube, identity: KubernetesApi, scene: Scene, rule: tuple[str, str, str]
) -> None:
    kube.kubectl("-n", ALONE, "delete", "deployments,services,poddisruptionbudgets", "--all", "--wait=true")
    with _cut(kube, ALONE, rule), pytest.raises(ClusterForbids, match=r"role\.yaml"):
        _everything_that_the_webhook_does(identity, _rendered(scene, 1))


@pytest.mark.parametrize("rule", [("apps", "deployments", "patch"), ("", "events", "create")])
def test_the_webhook_names_a_right_that_it_lacks(
    kube: Kube, identity: KubernetesApi, rule: tuple[str, str, str]
) -> None:
    cluster = KubernetesCluster(identity, ALONE, Log(stream=io.StringIO()))
    assert cluster.rights() == ([], [])
    group, resource, verb = rule
    with _cut(kube, ALONE, rule):
        assert cluster.rights() == ([".".join(filter(None, (f"{verb} {resource}", group)))], [])


def test_the_webhook_names_a_right_that_it_must_not_have(kube: Kube, identity: KubernetesApi) -> None:
    cluster = KubernetesCluster(identity, ALONE, Log(stream=io.StringIO()))
    kube.kubectl(
        *("-n", ALONE, "create", "rolebinding", "too-much", "--clusterrole=admin"),
        f"--serviceaccount={ALONE}:{WEBHOOK}",
    )
    until(lambda: "get secrets" in cluster.rights()[1], "the authoriser to take note of the binding")
    kube.kubectl("-n", ALONE, "delete", "rolebinding", "too-much")
    until(lambda: cluster.rights() == ([], []), "the authoriser to forget the binding")


def _everything_that_the_webhook_does(api: KubernetesApi, rendered: Rendered) -> None:
    cluster = KubernetesCluster(api, ALONE, Log(stream=io.StringIO()))
    name = rendered.deployment["metadata"]["name"]
    for beside in (rendered.service, rendered.budget):
        cluster.read(beside["kind"], name)
        cluster.create(beside)
        cluster.apply(beside, resource_version=None)
    cluster.services()
    live = cluster.create(rendered.deployment)
    cluster.note(live, "IndexServed", "it serves", warning=False)
    for _ in range(20):
        live = cluster.deployment(name) or live
        try:
            cluster.apply(rendered.deployment, resource_version=live["metadata"]["resourceVersion"])
            break
        except Conflict:  # controllers write to it meanwhile
            continue
    assert [found["metadata"]["name"] for found in cluster.deployments()] == [name]
    cluster.pods(name)
    while True:
        try:
            cluster.delete(cluster.deployment(name) or live)
            break
        except Conflict:
            continue
    for collection in ("apis/apps/v1", "api/v1"):
        kind = "deployments" if "apps" in collection else "pods"
        path = f"/{collection}/namespaces/{ALONE}/{kind}"
        list(
            api.watch(path, read_seconds=5, timeoutSeconds="1", labelSelector="app.kubernetes.io/managed-by=indexpush")
        )


def _rendered(scene: Scene, generation: int) -> Rendered:
    values = parse_values(
        f"namespace: {ALONE}\nimage: localhost/none:1\nservice_account: s\nreplicas: 1\n", "v", "production", {}
    )
    return render(scene.request(scene.build, generation), values)


class _cut:  # noqa: N801 - reads as a word
    """The Role less one rule."""

    def __init__(self, kube: Kube, namespace: str, rule: tuple[str, str, str]) -> None:
        self._kube, self._namespace, self._rule = kube, namespace, rule

    def __enter__(self) -> None:
        left = [rule for rule in RULES if rule != self._rule]
        assert len(left) == len(RULES) - 1
        rules = [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for group, resource, verb in left]
        self._set(rules, wanted=False)

    def __exit__(self, *_error: object) -> None:
        self._set(ROLE["rules"], wanted=True)

    def _set(self, rules: list[dict[str, Any]], *, wanted: bool) -> None:
        role = _moved(ROLE, self._namespace) | {"rules": rules}
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self._namespace}/roles/{WEBHOOK}"
        self._kube.api.patch(path, {"rules": role["rules"]}, "application/merge-patch+json")
        account = f"system:serviceaccount:{self._namespace}:{WEBHOOK}"
        until(
            lambda: _may(self._kube, account, self._namespace, self._rule) is wanted,
            "the authoriser to take note of the role",
        )


def _may(kube: Kube, account: str, namespace: str, rule: tuple[str, str, str]) -> bool:
    group, resource, verb = rule
    kind, _, part = resource.partition("/")
    attributes = {"namespace": namespace, "group": group, "resource": kind, "subresource": part, "verb": verb}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": attributes},
    }
    answer = kube.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def _moved(value: dict[str, Any], namespace: str = ALONE) -> dict[str, Any]:
    moved = value | {"metadata": value["metadata"] | {"namespace": namespace}}
    if value["kind"] == "RoleBinding":
        moved["subjects"] = [subject | {"namespace": namespace} for subject in value["subjects"]]
    return moved


def _as(kube: Kube, token: str, path: Path) -> KubernetesApi:
    import yaml  # noqa: PLC0415

    config = yaml.safe_load(kube.kubectl("config", "view", "--raw", "--minify"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path.write_text(yaml.safe_dump(config))
    return KubernetesApi.connect(path)
