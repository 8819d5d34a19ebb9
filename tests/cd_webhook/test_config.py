"""What the webhook says of a wrong environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cd_webhook.cluster import ClusterRefused, Object, load_connect
from cd_webhook.config import Config
from cd_webhook.main import main
from local_stack import webhook_cluster
from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import ObjectInfo
from model_repository.deployment import AuthKind
from model_repository.errors import AccessDenied, Misconfigured
from model_repository.telemetry.log import Log
from tests.cd_webhook.fake_cluster import FakeCluster

LEAST = {"ENVIRONMENT": "staging", "MODEL_REPOSITORY": "gs://acme", "WEBHOOK_TOKEN": "0123456789abcdef"}


def test_the_least_is_enough_and_asks_for_a_token() -> None:
    config = Config.from_environment(LEAST)
    assert (config.cluster, config.auth, config.port) == ("kubernetes", AuthKind.BEARER, 8080)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ENVIRONMENT": ""}, "ENVIRONMENT is not set"),
        ({"ENVIRONMENT": "Prod_1"}, "ENVIRONMENT: environment 'Prod_1'"),
        ({"MODEL_REPOSITORY": "acme"}, "expected gs://<bucket>"),
        ({"MODEL_REPOSITORY": "gs://acme/x"}, "without a path"),
        ({"WEBHOOK_TOKEN": ""}, "WEBHOOK_TOKEN is not set"),
        ({"WEBHOOK_TOKEN": "short"}, "at least 16"),
        ({"WEBHOOK_TOKEN_PREVIOUS": "short"}, "WEBHOOK_TOKEN_PREVIOUS: use at least 16"),
        ({"NOTIFY_TOPIC": "refusals"}, "NOTIFY_TOPIC is 'refusals': expected projects/"),
        ({"WEBHOOK_AUTH": "google-id-token"}, "WEBHOOK_AUDIENCE is not set"),
        ({"WEBHOOK_AUTH": "google-id-token", "WEBHOOK_AUDIENCE": "x"}, "WEBHOOK_CALLERS is not set"),
        ({"PORT": "http"}, "expected a whole number from 1 to 65535"),
    ],
)
def test_a_mistake_is_named(change: dict[str, str], complaint: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        Config.from_environment({**LEAST, **change})
    assert complaint in str(raised.value)


def test_check_says_what_is_misconfigured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing"))  # Google's client reads it itself
    (tmp_path / "staging.yaml").write_text("namespace: n\nimage: i\nservice_account: s\nreplicas: 1\n")
    environment = {**LEAST, "ENVIRONMENTS": str(tmp_path), "CLUSTER": "local_stack.webhook_cluster:connect"}
    assert main(["--check"], environment) == 64
    values, bucket, topic, cluster = capsys.readouterr().out.splitlines()
    assert values == "ok     values: namespace n, image i"
    assert bucket.startswith("WRONG  bucket: gs://acme: no valid credentials")
    assert topic == ("ok     topic: NOTIFY_TOPIC isn't set: what is refused or undone is told by log and receipt alone")
    assert cluster.startswith("WRONG  cluster: LOCAL_CLUSTER_URL is not set")


def checked(folder: Path, capsys: pytest.CaptureFixture[str], values: str) -> dict[str, str]:
    """What --check says of these values, and of a cluster, by its first words."""
    (folder / "staging.yaml").write_text(f"namespace: n\nimage: i\nservice_account: s\nreplicas: 1\n{values}\n")
    environment = {**LEAST, "ENVIRONMENTS": str(folder), "CLUSTER": "tests.cd_webhook.idle_cluster:connect"}
    assert main(["--check"], environment) == 64  # there is no bucket
    lines = [line.partition(": ") for line in capsys.readouterr().out.splitlines()]
    return {" ".join(head.split()): said for head, _, said in lines}


@pytest.fixture
def no_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing"))


@pytest.mark.usefixtures("no_bucket")
def test_check_asks_the_cluster_whether_it_would_take_what_the_values_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Object] = []
    monkeypatch.setattr(FakeCluster, "validate", lambda _, value: asked.append(value))
    said = checked(tmp_path, capsys, "pod_patch: {spec: {runtimeClassName: gvisor}}")
    assert said["ok manifests"] == "the cluster takes a Deployment of these values"
    (deployment,) = asked
    assert deployment["spec"]["template"]["spec"]["runtimeClassName"] == "gvisor"

    def refuse(_: FakeCluster, value: Object) -> None:
        raise ClusterRefused(f"{value['kind']}: unknown field")

    monkeypatch.setattr(FakeCluster, "validate", refuse)
    assert checked(tmp_path, capsys, "")["WRONG manifests"] == "Deployment: unknown field"


def test_check_says_whether_receipts_can_be_written_and_writes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], new_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    (tmp_path / "staging.yaml").write_text("namespace: n\nimage: i\nservice_account: s\nreplicas: 1\n")
    environment = {**LEAST, "MODEL_REPOSITORY": f"gs://{bucket}", "ENVIRONMENTS": str(tmp_path)}
    environment |= {"CLUSTER": "tests.cd_webhook.idle_cluster:connect"}
    assert main(["--check"], environment) == 0, capsys.readouterr().out
    assert f"ok     bucket: 0 environments have commits in gs://{bucket}" in capsys.readouterr().out
    assert GcsStore(bucket).listing("") == []
    write, asked = GcsStore.write, list[str]()

    def denied(self: GcsStore, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        asked.append(name)
        if name.startswith("filters/staging/"):
            raise AccessDenied(f"{name}: denied")
        return write(self, name, data, if_generation_match=if_generation_match)

    monkeypatch.setattr(GcsStore, "write", denied)
    assert main(["--check"], environment) == 64
    assert "WRONG  bucket: filters/staging/indexpush-check/last-good.json: denied" in capsys.readouterr().out
    assert asked[0] == "deployments/staging/indexpush-check/1.json"


@pytest.mark.usefixtures("no_bucket")
def test_check_names_a_patch_of_what_is_ours_and_the_webhook_does_not_start_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = "pod_patch: {spec: {containers: [{name: search-server, image: x}]}}"
    said = checked(tmp_path, capsys, patch)["WRONG values"]
    assert said == "staging.yaml: pod_patch: spec.containers[search-server].image: the values' `image` names it"
    assert main([], {**LEAST, "ENVIRONMENTS": str(tmp_path)}) == 64
    assert said in capsys.readouterr().err


def test_check_says_everything_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing"))
    change = {
        "WEBHOOK_TOKEN": "short",
        "PORT": "http",
        "ENVIRONMENTS": str(tmp_path),
        "NOTIFY_TOPIC": "projects/acme/topics/refusals",
    }
    assert main(["--check"], {**LEAST, **change}) == 64
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "WRONG  settings", "WRONG  settings", "WRONG  values", "WRONG  bucket", "WRONG  topic",
    ]  # fmt: skip
    assert "no credentials" in lines[-1]


def test_check_without_a_bucket_or_an_environment_says_that(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], {}) == 64
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["WEBHOOK_TOKEN", "ENVIRONMENT", "MODEL_REPOSITORY"]


@pytest.mark.parametrize("named", ["docker", "no_such_module:connect", "cd_webhook.cluster:nothing", ":x", "os:"])
def test_a_cluster_that_cannot_be_loaded_is_named_with_what_is_expected(named: str) -> None:
    with pytest.raises(Misconfigured, match=f"CLUSTER is '{named}': expected kubernetes, or <module>:<callable>"):
        load_connect(named)


def test_any_module_may_bring_the_cluster() -> None:
    assert load_connect("local_stack.webhook_cluster:connect") is webhook_cluster.connect


@pytest.mark.parametrize("url", ["", "file:///etc"])
def test_the_local_cluster_says_what_its_address_must_be(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"LOCAL_CLUSTER_URL is .*: expected http://127"):
        webhook_cluster.connect({"LOCAL_CLUSTER_URL": url}, "n", Log())


def test_values_are_looked_for_where_the_deployment_mounts_them_and_missing_ones_are_named_with_the_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Config.from_environment(LEAST).environments == Path("/etc/indexpush/environments")
    assert main([], {**LEAST, "ENVIRONMENTS": str(tmp_path)}) == 64
    said = capsys.readouterr().err
    assert f"{tmp_path}/staging.yaml: No such file or directory" in said
    assert "manifests/webhook/1-values.yaml" in said
