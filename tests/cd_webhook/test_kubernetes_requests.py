"""The Kubernetes client against a small API server: versions, conflicts, refusals, TLS."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from kubernetes import client

from cd_webhook import check
from cd_webhook.cluster import ClusterForbids, ClusterRefused, ClusterUnavailable, Conflict, Object, kubernetes
from cd_webhook.cluster.api import Expired, InternalFault, KubernetesApi, Missing, error_of
from cd_webhook.cluster.kubernetes import KubernetesCluster
from model_repository.errors import TransientError
from model_repository.telemetry.log import Log
from tests.cd_webhook.api_server import DEPLOYMENTS, ApiServer
from tests.cd_webhook.fake_cluster import FakeCluster

ROLES = Path(__file__).parents[2] / "manifests" / "webhook"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ApiServer()
    yield server
    server.http.shutdown()


def manifest() -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "shop"}, "spec": {}}


def test_an_apply_names_the_version_its_decision_was_made_on(server: ApiServer) -> None:
    server.cluster().apply(manifest(), resource_version="7")
    kind, query, body = server.patches[-1]
    assert kind == "application/apply-patch+yaml"
    assert (query["fieldManager"], query["force"]) == (["indexpush"], ["true"])
    assert body["metadata"]["resourceVersion"] == "7"
    with pytest.raises(Conflict):
        server.cluster().apply(manifest(), resource_version="7")


def test_what_others_wrote_into_the_pod_template_is_taken_over_first_under_the_same_guard(server: ApiServer) -> None:
    theirs = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {"f:x": {}}}}}
    server.live["metadata"]["managedFields"] = [theirs]
    server.cluster().apply(manifest(), resource_version="7")
    (first, _, patch), (second, _, applied) = server.patches
    assert (first, second) == ("application/json-patch+json", "application/apply-patch+yaml")
    assert patch[1] == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    assert applied["metadata"]["resourceVersion"] == "8"


def test_an_unguarded_apply_names_no_version(server: ApiServer) -> None:
    server.cluster().apply({"kind": "Service", "metadata": {"name": "shop"}}, resource_version=None)
    assert "resourceVersion" not in server.patches[-1][2]["metadata"]


def test_nothing_but_deployments_and_services_is_applied(server: ApiServer) -> None:
    with pytest.raises(ClusterRefused):
        server.cluster().apply({"kind": "Secret", "metadata": {"name": "x"}}, resource_version=None)


def test_a_list_is_read_to_its_last_page(server: ApiServer) -> None:
    found = server.cluster().deployments()
    assert len(found) == 2
    assert found[0]["kind"] == "Deployment"


def test_an_unknown_deployment_is_none(server: ApiServer) -> None:
    assert server.cluster().deployment("other") is None


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (409, Conflict),
        (404, Missing),
        (410, Expired),
        (401, ClusterForbids),
        (403, ClusterForbids),
        (422, ClusterRefused),
        (400, ClusterRefused),
        (408, ClusterUnavailable),
        (429, ClusterUnavailable),
        (500, ClusterUnavailable),
        (503, ClusterUnavailable),
        (302, ClusterUnavailable),
        (405, ClusterUnavailable),
        (413, ClusterUnavailable),
        (415, ClusterUnavailable),
        (511, ClusterUnavailable),
        (521, ClusterUnavailable),
    ],
)
def test_each_answer_belongs_to_a_family(status: int, family: type[Exception]) -> None:
    error = error_of(status, "GET /x", b'{"kind": "Status", "message": "the reason"}')
    assert isinstance(error, family)
    assert isinstance(error, TransientError)  # of commit and build it says nothing
    assert "the reason" in str(error)


@pytest.mark.parametrize("status", [400, 404, 422])
@pytest.mark.parametrize("page", [b"<html>who are you?</html>", b'{"message": "bad gateway"}', b"[]", b""])
def test_what_kubernetes_did_not_say_is_no_verdict(status: int, page: bytes) -> None:
    error = error_of(status, "POST /x", page)
    assert isinstance(error, TransientError)
    assert not isinstance(error, Missing)


@pytest.mark.usefixtures("server")
def test_a_server_that_is_not_there_may_pass() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ClusterUnavailable):
        KubernetesApi(configuration).get("/x")


@pytest.mark.parametrize("trusted", [True, False])
def test_an_authority_may_lack_extensions_but_must_be_trusted(
    server: ApiServer, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    configuration = client.Configuration()
    configuration.host = f"https://localhost:{server.http.server_address[1]}"
    configuration.ssl_ca_cert = str(authority[0]) if trusted else None
    create = urllib3.util.ssl_.create_urllib3_context

    def strict(*arguments: Any, **named: Any) -> ssl.SSLContext:
        """What Python 3.13 and later make of it."""
        made = create(*arguments, **named)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        return made

    monkeypatch.setattr(urllib3.util.ssl_, "create_urllib3_context", strict)
    monkeypatch.setattr(urllib3.connection, "create_urllib3_context", strict)
    api = KubernetesApi(configuration)
    if trusted:
        assert api.get(f"{DEPLOYMENTS}/shop")["metadata"]["name"] == "shop"
    else:
        with pytest.raises(ClusterUnavailable, match=r"certificate verify failed.*check .* KUBECONFIG"):
            api.get(f"{DEPLOYMENTS}/shop")


def test_what_is_only_validated_is_tried_out_strictly(server: ApiServer) -> None:
    server.cluster().validate(manifest())
    _, query, _ = server.patches[-1]
    assert query == {"dryRun": ["All"], "fieldValidation": ["Strict"]}


class Unwilling:
    """An API server that answers an apply with 500, and a create that only validates with `validated`."""

    def __init__(self, validated: Exception) -> None:
        self.validated = validated
        self.posted: list[tuple[Any, dict[str, str]]] = []

    def patch(self, *_: object, **__: str) -> dict[str, Any]:
        raise InternalFault("500: failed to create typed patch object")

    def post(self, _: str, body: Any, **query: str) -> dict[str, Any]:
        self.posted.append((body, query))
        raise self.validated


@pytest.mark.parametrize(
    ("validated", "family"),
    [(ClusterRefused("400: unknown field"), ClusterRefused), (Conflict("it exists"), ClusterUnavailable)],
)
def test_a_field_that_the_server_does_not_know_is_told_from_a_failure_of_the_server(
    validated: Exception, family: type[Exception]
) -> None:
    api = Unwilling(validated)
    cluster = KubernetesCluster(api, "search", Log(stream=io.StringIO()))  # type: ignore[arg-type]
    value = {"kind": "Service", "metadata": {"name": "shop"}, "spec": {}}
    with pytest.raises(family):
        cluster.apply(value, resource_version="7")
    assert api.posted == [(value, {"dryRun": "All", "fieldValidation": "Strict"})]


@pytest.mark.parametrize(("found", "least"), [((1, 29), False), ((1, 30), True), ((2, 0), True), (None, True)])
def test_a_cluster_that_is_too_old_is_named(found: tuple[int, int] | None, least: bool) -> None:
    class Aged(FakeCluster):
        def version(self) -> tuple[int, int] | None:
            return found

    if least:
        assert check._version(Aged()).startswith("no Kubernetes" if found is None else "Kubernetes ")
    else:
        with pytest.raises(ClusterRefused, match=r"Kubernetes 1.29: the pods need 1.30 at least"):
            check._version(Aged())


def test_an_event_is_about_the_deployment_that_was_read_and_fits_what_kubernetes_takes(server: ApiServer) -> None:
    deployment = {"metadata": {"name": "shop", "namespace": "search", "uid": "u-1"}}
    server.cluster().note(deployment, "IndexUndone", "x" * 5000, warning=True)
    _, query, event = server.patches[-1]
    assert query["fieldManager"] == ["indexpush"]
    assert (event["involvedObject"]["name"], event["involvedObject"]["uid"]) == ("shop", "u-1")
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "IndexUndone", 1)
    assert len(event["message"]) <= 1024
    server.cluster().note(deployment, "IndexUndone", "x" * 5000, warning=True)
    assert server.patches[-1][2]["metadata"] == event["metadata"]  # so Kubernetes has one
    server.cluster().note(deployment, "IndexUndone", "x" * 4999, warning=True)
    assert server.patches[-1][2]["metadata"] != event["metadata"]


def test_the_rights_that_are_looked_for_are_the_roles() -> None:
    role, _ = yaml.safe_load_all((ROLES / "role.yaml").read_text())
    granted = {
        (verb, resource, group)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb != "delete"  # a namespace without canaries and shadows may go without
    }
    assert {(each.verb, each.resource, each.group) for each in kubernetes.NEEDED} == granted


def test_a_right_is_asked_for_by_itself_and_named_as_kubectl_names_it() -> None:
    class Reviewing:
        def post(self, path: str, body: Object) -> Object:
            assert path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            asked = body["spec"]["resourceAttributes"]
            assert asked["namespace"] == "search"
            right = (asked["verb"], asked["group"], asked["resource"], asked["subresource"])
            refused = {("patch", "apps", "deployments", ""), ("create", "", "events", "")}
            needless = {("create", "", "pods", "exec")}
            good = right not in refused and (asked["verb"], asked["resource"]) in wanted
            return {"status": {"allowed": good or right in needless}}

    wanted = {(each.verb, each.resource) for each in kubernetes.NEEDED}
    cluster = KubernetesCluster(Reviewing(), "search", Log(stream=io.StringIO()))  # type: ignore[arg-type]
    assert cluster.rights() == (["patch deployments.apps", "create events"], ["create pods/exec"])
    with pytest.raises(ClusterRefused, match=r"may not patch deployments.apps, create events in search; apply .*role"):
        check._rights(cluster, "search")
