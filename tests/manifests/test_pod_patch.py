"""A patch of the pod template adds what a mesh, an agent or a registry needs, and changes nothing that is ours."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manifests.metadata import COMMIT_GENERATION, SAFE_TO_EVICT, TRACK
from manifests.pod_patch import patched
from manifests.render import render
from manifests.values import SET_BY_TEMPLATE, Values, parse_values
from model_repository.errors import DocumentMalformed
from tests.manifests import LEAST, request_for


def values(**fields: Any) -> Values:
    return parse_values(LEAST + (yaml.safe_dump(fields) if fields else ""), "dev.yaml", "dev", {})


def template(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = render(request_for("dev"), values(**fields)).deployment["spec"]["template"]
    return found


def on_server(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "search-server", **fields}]}}


def on_pod(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for kind in ("initContainers", "containers") for each in pod["spec"][kind] if each["name"] == name)
    it: dict[str, Any] = found
    return it


def test_what_is_added_stands_there_and_all_else_is_as_it_was() -> None:
    authorities = {"name": "authorities", "configMap": {"name": "authorities"}}
    mount = {"name": "authorities", "mountPath": "/etc/authorities", "readOnly": True}
    variable = {"name": "SSL_CERT_FILE", "value": "/etc/authorities/ca.crt"}
    patch = on_pod(
        imagePullSecrets=[{"name": "registry"}],
        volumes=[authorities],
        initContainers=[{"name": "pull", "env": [variable], "volumeMounts": [mount]}],
        containers=[{"name": "agent", "image": "agent:1"}],
    )
    before, after = template(), template(pod_patch=patch)
    assert after["spec"].pop("imagePullSecrets") == [{"name": "registry"}]
    assert after["spec"]["volumes"].pop() == authorities
    assert after["spec"]["containers"].pop() == {"name": "agent", "image": "agent:1"}
    assert container(after, "pull")["env"].pop() == variable
    assert container(after, "pull")["volumeMounts"].pop() == mount
    assert after == before


def test_an_init_container_more_runs_before_the_pull_and_a_container_more_stands_last() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
    spec = template(pod_patch=on_pod(initContainers=[sidecar], containers=[{"name": "agent", "image": "a:1"}]))["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["proxy", "pull"]
    assert [each["name"] for each in spec["containers"]] == ["search-server", "agent"]


@pytest.mark.parametrize(
    ("patch", "path", "mend"),
    [
        (on_server(image="evil:1"), "spec.containers[search-server].image", "the values' `image` names it"),
        (on_server(imagePullPolicy="Always"), "spec.containers[search-server].imagePullPolicy", "`image_pull_policy`"),
        (on_server(command=["sh"]), "spec.containers[search-server].command", "changes nothing that is there"),
        (on_server(args=["x"]), "spec.containers[search-server].args", "a patch may add labels"),
        (on_server(workingDir="/x"), "spec.containers[search-server].workingDir", "a patch may add"),
        (on_server(envFrom=[{"secretRef": {"name": "x"}}]), "spec.containers[search-server].envFrom", "may add"),
        (on_server(ports=[]), "spec.containers[search-server].ports", "a patch may add"),
        (
            on_server(readinessProbe={"periodSeconds": 60}),
            "spec.containers[search-server].readinessProbe.periodSeconds",
            "changes nothing",
        ),
        (
            on_server(startupProbe={"tcpSocket": {"port": 1}}),
            "spec.containers[search-server].startupProbe.tcpSocket",
            "a patch may add",
        ),
        (
            on_server(securityContext={"readOnlyRootFilesystem": False}),
            "spec.containers[search-server].securityContext.readOnlyRootFilesystem",
            "changes nothing",
        ),
        (
            on_server(securityContext={"runAsUser": 0}),
            "spec.containers[search-server].securityContext.runAsUser",
            "a patch may add",
        ),
        (
            on_server(resources={"limits": {"memory": "1Gi"}}),
            "resources.limits.memory",
            "memory and disk come from index",
        ),
        (on_server(env=[{"name": "PORT", "value": "1"}]), "env[PORT].value", "choose another name"),
        (
            on_server(env=[{"name": "DESTINATION", "value": "/x"}]),
            "env[DESTINATION]",
            "a variable that the template sets",
        ),
        (on_server(env=[{"name": "MINE", "value": "2"}]), "env[MINE].value", "or the values' `env`"),
        (on_server(volumeMounts=[{"name": "x", "mountPath": "/data"}]), "volumeMounts[/data].name", "are ours: mount"),
        (on_server(volumeMounts=[{"name": "x", "mountPath": "/data/"}]), "volumeMounts[/data/]", "at another path"),
        (
            on_server(volumeMounts=[{"name": "x", "mountPath": "/x/../data/a"}]),
            "volumeMounts[/x/../data/a]",
            "are ours",
        ),
        (on_server(volumeMounts=[{"name": "x", "mountPath": "/"}]), "volumeMounts[/]", "are ours"),
        (on_server(volumeMounts=[{"name": "data", "mountPath": "/x"}]), "volumeMounts[/x]", "mount another volume"),
        (on_pod(securityContext={"runAsUser": 0}), "spec.securityContext.runAsUser", "changes nothing"),
        (on_pod(securityContext={"sysctls": []}), "spec.securityContext.sysctls", "a patch may add"),
        (on_pod(serviceAccountName="root"), "spec.serviceAccountName", "the values' `service_account` names it"),
        (on_pod(serviceAccount="root"), "spec.serviceAccount", "a patch may add"),
        (on_pod(automountServiceAccountToken=True), "spec.automountServiceAccountToken", "changes nothing"),
        (on_pod(hostNetwork=True), "spec.hostNetwork", "a patch may add labels and annotations of metadata"),
        (on_pod(nodeSelector={"a": "b"}), "spec.nodeSelector", "the values' `node_selector` says it"),
        (on_pod(tolerations=[{"operator": "Exists"}]), "spec.tolerations", "the values' `tolerations` say it"),
        (on_pod(terminationGracePeriodSeconds=1), "spec.terminationGracePeriodSeconds", "`pre_stop_seconds`"),
        (
            on_pod(volumes=[{"name": "data", "hostPath": {"path": "/"}}]),
            "spec.volumes[data].hostPath",
            "`storage_class`",
        ),
        (
            on_pod(volumes=[{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]),
            "volumes[data].emptyDir.sizeLimit",
            "is ours",
        ),
        (on_pod(containers={}), "spec.containers", "expected a list"),
        (on_pod(containers=[{"name": "pull", "image": "x"}]), "spec.containers[pull]", "the container's name is taken"),
        (
            on_pod(containers=[{"name": "a", "volumeMounts": [{"name": "data", "mountPath": "/x"}]}]),
            "spec.containers[a]",
            "it mounts our volume 'data'",
        ),
        (
            on_pod(topologySpreadConstraints=[{"topologyKey": "kubernetes.io/hostname", "maxSkew": 9}]),
            "spec.topologySpreadConstraints[kubernetes.io/hostname].maxSkew",
            "changes nothing",
        ),
        ({"metadata": {"labels": {TRACK: "canary"}}}, f"metadata.labels.{TRACK}", "a label of ours"),
        ({"metadata": {"labels": {"app.kubernetes.io/x": "y"}}}, "metadata.labels.app.kubernetes.io/x", "of ours"),
        (
            {"metadata": {"annotations": {COMMIT_GENERATION: "1"}}},
            f"metadata.annotations.{COMMIT_GENERATION}",
            "of ours",
        ),
        ({"metadata": {"annotations": {"indexpush.dev/x": "1"}}}, "metadata.annotations.indexpush.dev/x", "of ours"),
        (
            {"metadata": {"annotations": dict.fromkeys(SAFE_TO_EVICT, "x")}},
            f"metadata.annotations.{next(iter(SAFE_TO_EVICT))}",
            "`pod_annotations` to change",
        ),
        ({"metadata": {"name": "x"}}, "metadata.name", "a patch may add"),
        ({"replicas": 3}, "replicas", "a patch may add"),
    ],
)
def test_what_is_ours_is_refused_by_its_path_with_the_mend(patch: dict[str, Any], path: str, mend: str) -> None:
    with pytest.raises(DocumentMalformed, match=r"^dev\.yaml: pod_patch: ") as raised:
        template(env={"MINE": "1"}, pod_patch=patch)
    assert f"{path}: " in str(raised.value)
    assert mend in str(raised.value)


@pytest.mark.parametrize(
    ("patch", "complaint"),
    [
        ([], "pod_patch: expected a mapping"),
        (on_server(image=None), "pod_patch.spec.containers[search-server].image: null would take something away"),
        (on_pod(containers=[{"$patch": "replace"}]), "pod_patch.spec.containers[0]: expected a mapping with a name"),
        (on_pod(**{"$retainKeys": ["x"]}), "pod_patch.spec: '$retainKeys' names no field"),
        (
            on_pod(hostAliases=[{"ip": 1.5}]),
            "pod_patch.spec.hostAliases.0.ip: '1.5' is neither text nor a whole number",
        ),
        (on_pod(volumes=[{"name": "a"}, {"name": "a"}]), "pod_patch.spec.volumes[a]: stands twice"),
        (on_pod(volumes=["a"]), "pod_patch.spec.volumes[0]: expected a mapping with a name"),
        ({1: 2}, "pod_patch: '1' names no field"),
    ],
)
def test_a_patch_that_can_only_be_a_mistake_is_refused_when_it_is_read(patch: object, complaint: str) -> None:
    with pytest.raises(DocumentMalformed) as raised:
        values(pod_patch=patch)
    assert str(raised.value).startswith(f"dev.yaml: {complaint}")


def test_a_patch_without_a_bottom_is_refused() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"a": deep}
    with pytest.raises(DocumentMalformed, match="nested too deeply"):
        values(pod_patch=on_pod(affinity=deep))


WORDS = (
    "search-server pull agent data /data spec metadata containers initContainers volumes env volumeMounts name image"
)
NAMES = st.sampled_from([*WORDS.split(), "labels", "annotations", "PORT", "MINE", TRACK, "securityContext"])
LEAVES = NAMES | st.integers(0, 3) | st.booleans()
ENTRIES = st.dictionaries(NAMES, LEAVES, max_size=3)
PATCHES = st.recursive(
    LEAVES | st.lists(st.builds(lambda n, more: {**more, "name": n, "mountPath": n}, NAMES, ENTRIES), max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["spec", "metadata"]), st.dictionaries(NAMES, PATCHES, max_size=4)))
def test_no_patch_takes_anything_away(patch: dict[str, Any]) -> None:
    before = template()
    try:
        chosen = values(pod_patch=patch)
        after = patched(copy.deepcopy(before), chosen.pod_patch, "dev.yaml: pod_patch", SET_BY_TEMPLATE)
    except DocumentMalformed:
        return
    assert_contains(after, before)


def assert_contains(after: Any, before: Any) -> None:
    """Everything of `before` is in `after`; written apart from the code that it tests."""
    if isinstance(before, dict):
        for key, value in before.items():
            assert_contains(after[key], value)
    elif isinstance(before, list) and before and isinstance(before[0], dict):
        for entry in before:
            name = next(key for key in ("name", "topologyKey", "mountPath", "containerPort") if key in entry)
            assert_contains(next(each for each in after if each[name] == entry[name]), entry)
    else:
        assert after == before


def test_annotations_of_pods_stand_beside_ours_and_not_on_the_deployment() -> None:
    deployment = render(request_for("dev"), values(pod_annotations={"inject": "true"})).deployment
    of_pods = deployment["spec"]["template"]["metadata"]["annotations"]
    assert of_pods == {**deployment["metadata"]["annotations"], **SAFE_TO_EVICT, "inject": "true"}


def test_the_data_may_be_lost_with_a_node_unless_an_environment_says_which_volumes_may_be() -> None:
    (key,) = SAFE_TO_EVICT
    assert template()["metadata"]["annotations"][key] == "data"
    assert template(pod_annotations={key: "data,istio-envoy"})["metadata"]["annotations"][key] == "data,istio-envoy"


@pytest.mark.parametrize("key", ["indexpush.dev/x", "a b"])
def test_an_annotation_that_is_ours_or_none_is_refused(key: str) -> None:
    with pytest.raises(DocumentMalformed, match=r"dev.yaml: pod_annotations: "):
        values(pod_annotations={key: "x"})
