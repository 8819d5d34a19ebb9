from __future__ import annotations

import copy
import http.client
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_stack import processes

WEB = str(Path(__file__).with_name("images") / "web.py")
Json = dict[str, Any]


@dataclass
class Client:
    url: str
    folder: Path

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def get(self, path: str) -> Any:
        status, answer = self.call("GET", path)
        assert status == 200, answer
        return answer

    def apply(self, manifest: Json, version: str = "") -> Json:
        status, answer = self.call("PATCH", f"/apply?resourceVersion={version}", manifest)
        assert status == 200, answer
        return dict(answer)

    def pods(self, name: str) -> list[Json]:
        return list(self.get(f"/deployments/{name}/pods")["items"])

    def until(self, name: str, wanted: Callable[[Json, list[Json]], bool], timeout: float = 15.0) -> Json:
        deadline = time.monotonic() + timeout
        while True:
            deployment, pods = self.get(f"/deployments/{name}"), self.pods(name)
            if wanted(deployment, pods):
                return dict(deployment)
            assert time.monotonic() < deadline, json.dumps(
                [deployment["status"], [p["status"] for p in pods]], indent=1
            )
            self.get(f"/deployments/{name}/wait?timeout=1&resourceVersion={deployment['metadata']['resourceVersion']}")

    def until_served(self, name: str) -> Json:
        return self.until(name, lambda deployment, _pods: served(deployment))

    def address(self, name: str) -> str:
        return str(self.get(f"/services/{name}")["metadata"]["annotations"]["local-stack/address"])

    def ask(self, name: str, path: str = "/") -> str:
        return ask(self.address(name), path)


def ask(address: str, path: str = "/") -> str:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return body


def condition(deployment: Json, kind: str) -> Json:
    return next((c for c in deployment["status"].get("conditions", []) if c["type"] == kind), {})


def served(deployment: Json) -> bool:
    status, generation = deployment["status"], deployment["metadata"]["generation"]
    return bool(
        status.get("observedGeneration") == generation
        and condition(deployment, "Progressing").get("reason") == "NewReplicaSetAvailable"
        and status.get("updatedReplicas", 0) == deployment["spec"]["replicas"] == status.get("availableReplicas", 0)
    )


def restarted_and_ready(pod: Json) -> bool:
    (container,) = pod["status"]["containerStatuses"]
    return bool(container["restartCount"] == 1 and container["ready"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("cluster")
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-m", "local_stack.cluster", "--port", str(port), "--state", str(folder / "state"))
    running = processes.RunningProgram.start(
        processes.Program(
            name="cluster",
            command=(*command, "--image", f"web={sys.executable}", "--first-restart-wait", "0.2"),
            environment=processes.base_environment(),
            log=folder / "cluster.log",
            ready_url=f"{url}/readyz",
        )
    )
    running.wait_ready()
    yield Client(url, folder)
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _is_pod(path)]
    running.stop()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert "Traceback" not in (folder / "cluster.log").read_text()


def _is_pod(path: Path) -> bool:
    try:
        return WEB.encode() in (path / "cmdline").read_bytes()
    except OSError:
        return False


def deployment(name: str, version: str = "1", *, replicas: int | None = 1, **more: Any) -> Json:
    labels = {"app": name, "app.kubernetes.io/managed-by": "indexpush"}
    probe = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 60}
    container = {
        "name": "web",
        "image": "web:1.0",
        "command": ["python", WEB, "/data/current"],
        "env": [{"name": "VERSION", "value": version}, {"name": "PORT", "value": "8080"}]
        + [{"name": key, "value": value} for key, value in more.get("env", {}).items()],
        "ports": [{"name": "http", "containerPort": 8080}],
        "startupProbe": probe,
        "readinessProbe": {**probe, "failureThreshold": 1},
        "resources": {"requests": {"cpu": "1"}},
        "lifecycle": {"preStop": {"sleep": {"seconds": more.get("pre_stop", 0)}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pull = {
        "name": "pull",
        "image": "web:1.0",
        "command": ["python", "-c", more.get("pull", "pass")],
        "env": [{"name": "DESTINATION", "value": "/data/current"}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "initContainers": [pull],
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}],
        "terminationGracePeriodSeconds": more.get("grace", 5),
        "securityContext": {"runAsNonRoot": True},
    }
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "progressDeadlineSeconds": more.get("deadline", 20),
        "minReadySeconds": more.get("min_ready", 0),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels, "annotations": {"version": version}},
        "spec": spec,
    }


def service(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "ClusterIP", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    }


def test_a_deployment_becomes_ready_and_its_service_answers(cluster: Client) -> None:
    pull = "import os; os.mkdir(os.environ['DESTINATION']); open(os.environ['DESTINATION'] + '/index', 'w').write('x')"
    began = time.monotonic()
    cluster.apply(service("first"))
    cluster.apply(deployment("first", pull=pull))
    live = cluster.until_served("first")

    assert time.monotonic() - began < 3
    assert cluster.ask("first").startswith("1 ")
    assert condition(live, "Available")["status"] == "True"
    (pod,) = cluster.pods("first")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("127.")
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "True"
    (init,) = pod["status"]["initContainerStatuses"]
    assert init["state"]["terminated"]["exitCode"] == 0
    folder = cluster.folder / "state" / "pods" / pod["metadata"]["name"] / "volumes" / "data"
    assert (folder / "current" / "index").read_text() == "x"
    request = f"{cluster.url}/pods/{pod['metadata']['name']}/logs"
    assert urllib.request.urlopen(request).read().decode() == f"serving 1 {folder}/current\n"


def test_a_process_gets_the_manifests_environment_translated_and_nothing_else(
    cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the cluster")
    cluster.apply(service("env"))
    cluster.apply(deployment("env", env={"DATA": "/data/current", "HOST": "0.0.0.0", "DATABASE": "/database"}))
    cluster.until_served("env")

    found = dict(line.split("=", 1) for line in cluster.ask("env", "/env").splitlines())
    (pod,) = cluster.pods("env")

    home = cluster.folder / "state" / "pods" / pod["metadata"]["name"]
    assert found["DATA"] == f"{home}/volumes/data/current"
    assert found["DATABASE"] == "/database"
    assert found["HOST"] == pod["status"]["podIP"]
    assert found["TERMINATION_LOG"] == f"{home}/last-words/web"
    assert found["HOSTNAME"] == pod["metadata"]["name"]
    assert set(found) - {"LC_CTYPE"} == {
        *("DATA", "DATABASE", "HOME", "HOST", "HOSTNAME", "LANG", "PATH", "PORT", "TERMINATION_LOG", "VERSION")
    }


@dataclass
class Caller:
    """Asks all the time, on new and on kept connections."""

    address: str
    answers: list[str]
    failures: list[str]
    stopped: threading.Event

    def run(self) -> None:
        while not self.stopped.is_set():
            connection = http.client.HTTPConnection(self.address, timeout=5)
            try:
                for _ in range(7):
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    self.answers.append(answer.read().decode())
                    if answer.getheader("Connection") == "close":
                        break
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()


def test_a_rolling_update_fails_no_request(cluster: Client) -> None:
    cluster.apply(service("rolling"))
    cluster.apply(deployment("rolling", "old", replicas=2, pre_stop=1))
    cluster.until_served("rolling")
    callers = [Caller(cluster.address("rolling"), [], [], threading.Event()) for _ in range(2)]
    threads = [threading.Thread(target=caller.run) for caller in callers]
    for thread in threads:
        thread.start()

    cluster.apply(deployment("rolling", "new", replicas=2, pre_stop=1))
    cluster.until("rolling", lambda live, pods: served(live) and len(pods) == 2)
    time.sleep(0.1)
    for caller in callers:
        caller.stopped.set()
    for thread in threads:
        thread.join()

    answers = [answer for caller in callers for answer in caller.answers]
    assert [failure for caller in callers for failure in caller.failures] == []
    assert {answer.split()[0] for answer in answers} == {"old", "new"}
    assert len({answer.split()[1] for answer in answers}) == 4
    assert answers[-1].startswith("new")


def test_a_pod_that_never_becomes_ready_leaves_the_old_ones_serving_and_ends_at_the_deadline(cluster: Client) -> None:
    cluster.apply(service("stuck"))
    cluster.apply(deployment("stuck", "good"))
    cluster.until_served("stuck")
    before = cluster.ask("stuck")

    cluster.apply(deployment("stuck", "bad", deadline=1, env={"READY_AFTER": "600"}))
    live = cluster.until("stuck", lambda it, _pods: condition(it, "Progressing")["status"] == "False")

    assert condition(live, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert condition(live, "Available")["status"] == "True"
    assert live["status"]["updatedReplicas"] == 1
    assert live["status"]["unavailableReplicas"] == 1
    assert cluster.ask("stuck") == before

    cluster.apply(deployment("stuck", "good"))
    live = cluster.until("stuck", lambda it, pods: served(it) and len(pods) == 1)
    assert cluster.ask("stuck") == before, "an undo finds the old pod, which never stopped"
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_an_init_container_that_finds_bad_data_is_reported_with_its_last_words(cluster: Client) -> None:
    pull = "import os, sys; open(os.environ['TERMINATION_LOG'], 'w').write('crc32c differs'); sys.exit(65)"
    cluster.apply(deployment("bad-data", pull=pull))

    def crashed(_live: Json, pods: list[Json]) -> bool:
        return bool(pods) and pods[0]["status"]["initContainerStatuses"][0]["restartCount"] >= 2

    cluster.until("bad-data", crashed)

    (pod,) = cluster.pods("bad-data")
    (status,) = pod["status"]["initContainerStatuses"]
    ended = status["lastState"].get("terminated") or status["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (65, "Error", "crc32c differs")
    assert pod["status"]["phase"] == "Pending"
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    cluster.until("bad-data", lambda _live, pods: "CrashLoopBackOff" in json.dumps(pods[0]["status"]))
    live = cluster.apply(deployment("bad-data", replicas=0, pull=pull))
    assert live["spec"]["replicas"] == 0
    cluster.until("bad-data", lambda it, pods: not pods and served(it))


def test_without_a_termination_message_the_end_of_the_log_is_the_last_word(cluster: Client) -> None:
    cluster.apply(deployment("log", pull="raise SystemExit('no such bucket')"))

    cluster.until("log", lambda _live, pods: "no such bucket" in json.dumps([p["status"] for p in pods]))
    cluster.apply(deployment("log", replicas=0))


def test_a_container_that_ends_is_started_again(cluster: Client) -> None:
    cluster.apply(service("restart"))
    cluster.apply(deployment("restart"))
    cluster.until_served("restart")

    with pytest.raises((OSError, http.client.HTTPException)):
        cluster.ask("restart", "/exit")
    # The pod alone tells, in one reading: the Deployment's own status may still be that of before the end.
    cluster.until("restart", lambda _it, pods: restarted_and_ready(pods[0]))

    (status,) = cluster.pods("restart")[0]["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert cluster.ask("restart").startswith("1 ")


def test_a_failed_liveness_probe_restarts_the_container(cluster: Client) -> None:
    manifest = deployment("liveness", grace=1)
    probe = {"httpGet": {"path": "/livez", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    manifest["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = probe
    cluster.apply(service("liveness"))
    cluster.apply(manifest)
    cluster.until_served("liveness")

    before = cluster.ask("liveness", "/die")
    cluster.until("liveness", lambda it, pods: served(it) and '"restartCount": 1' in json.dumps(pods[0]["status"]))

    assert cluster.ask("liveness") != before


def test_a_process_that_ignores_sigterm_is_killed_when_its_grace_is_over(cluster: Client) -> None:
    cluster.apply(service("stubborn"))
    cluster.apply(deployment("stubborn", grace=1, env={"STUBBORN": "1"}))
    cluster.until_served("stubborn")
    pid = int(cluster.ask("stubborn").split()[1])
    (pod,) = cluster.pods("stubborn")

    began = time.monotonic()
    cluster.apply(deployment("stubborn", grace=1, replicas=0, env={"STUBBORN": "1"}))
    cluster.until("stubborn", lambda _live, pods: not pods)

    assert 0.9 < time.monotonic() - began < 3
    assert not Path(f"/proc/{pid}").exists()
    assert not (cluster.folder / "state" / "pods" / pod["metadata"]["name"]).exists()


def test_replicas_that_the_manifest_leaves_out_belong_to_whoever_scaled(cluster: Client) -> None:
    cluster.apply(deployment("scaled", replicas=None))
    cluster.until_served("scaled")

    status, _ = cluster.call("PUT", "/deployments/scaled/scale", {"replicas": 2})
    assert status == 200
    cluster.until("scaled", lambda it, pods: served(it) and len(pods) == 2)
    live = cluster.apply(deployment("scaled", "2", replicas=None))

    assert live["spec"]["replicas"] == 2
    cluster.until_served("scaled")


def test_a_write_decided_on_an_older_version_is_a_conflict(cluster: Client) -> None:
    cluster.apply(deployment("guarded"))
    live = cluster.until_served("guarded")
    version = live["metadata"]["resourceVersion"]

    changed = deployment("guarded")
    changed["metadata"]["annotations"]["by"] = "me"
    cluster.apply(changed, version)
    status, answer = cluster.call("PATCH", f"/apply?resourceVersion={version}", deployment("guarded", "3"))

    assert status == 409
    assert answer["reason"] == "Conflict"
    assert cluster.get("/deployments/guarded")["metadata"]["annotations"]["by"] == "me"
    status, _ = cluster.call("PATCH", f"/apply?resourceVersion={version}", deployment("never-there"))
    assert status == 409


def test_applying_the_same_again_changes_nothing(cluster: Client) -> None:
    cluster.apply(deployment("same"))
    before = cluster.until_served("same")

    assert cluster.apply(deployment("same")) == before
    annotated = deployment("same")
    annotated["metadata"]["annotations"]["note"] = "only metadata"
    after = cluster.apply(annotated)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert len(cluster.pods("same")) == 1


def test_wait_returns_at_once_when_something_has_changed_and_late_when_not(cluster: Client) -> None:
    cluster.apply(deployment("waiting"))
    version = cluster.until_served("waiting")["metadata"]["resourceVersion"]

    began = time.monotonic()
    assert cluster.get("/deployments/waiting/wait?timeout=5&resourceVersion=1")["resourceVersion"] == version
    assert time.monotonic() - began < 1
    assert cluster.get(f"/deployments/waiting/wait?timeout=0.3&resourceVersion={version}")["resourceVersion"] == version
    assert time.monotonic() - began > 0.3
    assert cluster.call("GET", "/deployments/nobody/wait")[0] == 404


def set_in(manifest: Json, path: str, value: object) -> Json:
    changed = copy.deepcopy(manifest)
    inner: Any = changed
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    for part in parents:
        inner = inner[int(part)] if part.isdigit() else inner.setdefault(part, {})
    inner[int(last) if last.isdigit() else last] = value
    return changed


CONTAINER = "spec.template.spec.containers[0]"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("spec.template.spec.hostNetwork", True, ""),
        ("spec.template.spec.restartPolicy", "Never", ""),
        ("spec.template.spec.volumes[0].hostPath", {"path": "/"}, ""),
        ("spec.replicaz", 1, ""),
        ("spec.replicas", -1, ""),
        ("spec.replicas", "1", ""),
        ("spec.strategy.type", "Recreate", ""),
        ("spec.strategy.rollingUpdate.maxSurge", 0, ""),
        ("metadata.finalizers", ["x"], ""),
        (f"{CONTAINER}.envFrom", [], ""),
        (f"{CONTAINER}.env[0].valueFrom", {"secretKeyRef": {}}, f"{CONTAINER}.env[0].valueFrom.secretKeyRef"),
        (f"{CONTAINER}.command", ["sh", "-c", "true"], ""),
        (f"{CONTAINER}.startupProbe.exec", {"command": ["true"]}, ""),
        (f"{CONTAINER}.startupProbe.httpGet.port", "metrics", ""),
        (f"{CONTAINER}.volumeMounts[0].subPath", "x", ""),
        (f"{CONTAINER}.lifecycle.preStop.exec", {"command": ["sleep", "1"]}, ""),
        ("spec.selector.matchLabels", {"app": "other"}, "spec.selector"),
        ("kind", "DaemonSet", ""),
    ],
)
def test_what_it_does_not_understand_is_refused_by_name(cluster: Client, path: str, value: object, named: str) -> None:
    status, answer = cluster.call("PATCH", "/apply", set_in(deployment("refused"), path, value))

    assert status == 422
    assert answer["details"]["causes"][0]["field"] == (named or path)
    assert answer["message"].startswith(named or path)
    assert cluster.call("GET", "/deployments/refused")[0] == 404


def test_an_image_that_is_not_there_is_an_image_pull_error(cluster: Client) -> None:
    manifest = set_in(deployment("image"), f"{CONTAINER}.image", "nginx:1")
    del manifest["spec"]["template"]["spec"]["initContainers"]
    cluster.apply(manifest)

    cluster.until("image", lambda _live, pods: "ErrImagePull" in json.dumps([pod["status"] for pod in pods]))
    cluster.apply(set_in(manifest, "spec.replicas", 0))


def test_a_service_without_ready_pods_refuses_connections(cluster: Client) -> None:
    cluster.apply(service("nobody"))

    with pytest.raises(OSError, match=r".+"):
        cluster.ask("nobody")


def test_pods_end_with_the_cluster_even_if_it_is_killed(tmp_path: Path) -> None:
    port = processes.free_port()
    command = (sys.executable, "-m", "local_stack.cluster", "--port", str(port), "--state", str(tmp_path / "state"))
    url = f"http://127.0.0.1:{port}"
    running = processes.RunningProgram.start(
        processes.Program("cluster", command, processes.base_environment(), tmp_path / "log", f"{url}/readyz")
    )
    running.wait_ready()
    client = Client(url, tmp_path)
    client.apply(service("web"))
    client.apply(deployment("web"))
    client.until_served("web")
    pid = int(client.ask("web").split()[1])

    os.kill(running.pid, signal.SIGKILL)
    running.stop()

    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    assert "for trying things out on one machine" in (tmp_path / "log").read_text()
