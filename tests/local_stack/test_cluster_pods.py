"""Pods of the local cluster: what a process gets, how it ends, what is told of it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from local_stack import processes
from tests.local_stack.cluster_scene import (
    Client,
    Json,
    deployment,
    restarted_and_ready,
    served,
    service,
    set_in,
)

CONTAINER = "spec.template.spec.containers[0]"


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
        *(
            "DATA",
            "DATABASE",
            "HOME",
            "HOST",
            "HOSTNAME",
            "LANG",
            "PATH",
            "PORT",
            "TERMINATION_LOG",
            "TMPDIR",
            "VERSION",
        )
    }


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

    assert time.monotonic() - began > 0.9
    assert not Path(f"/proc/{pid}").exists()
    assert not (cluster.folder / "state" / "pods" / pod["metadata"]["name"]).exists()


def test_an_image_that_is_not_there_is_an_image_pull_error(cluster: Client) -> None:
    manifest = set_in(deployment("image"), f"{CONTAINER}.image", "nginx:1")
    del manifest["spec"]["template"]["spec"]["initContainers"]
    cluster.apply(manifest)

    cluster.until("image", lambda _live, pods: "ErrImagePull" in json.dumps([pod["status"] for pod in pods]))
    cluster.apply(set_in(manifest, "spec.replicas", 0))


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

    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    assert "for trying things out on one machine" in (tmp_path / "log").read_text()


def test_a_cluster_that_ends_answers_who_waits_for_a_change(tmp_path: Path) -> None:
    port = processes.free_port()
    command = (sys.executable, "-m", "local_stack.cluster", "--port", str(port), "--state", str(tmp_path / "state"))
    url = f"http://127.0.0.1:{port}"
    running = processes.RunningProgram.start(
        processes.Program("cluster", command, processes.base_environment(), tmp_path / "log", f"{url}/readyz")
    )
    running.wait_ready()
    waiting = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    waiting.request("GET", "/changes?timeout=300&resourceVersion=1")
    Client(url, tmp_path).get("/deployments")  # asked later and answered: so the first is waiting by now

    running.ask_to_end()

    assert json.loads(waiting.getresponse().read()) == {"resourceVersion": "1", "deployments": []}
    running.stop(60)
    assert running.end == "ended with status 0"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_pod_whose_init_container_runs_is_not_ready_and_its_server_waits(cluster: Client) -> None:
    pull = "import os, time\nwhile not os.path.exists('/tmp/' + os.environ['HOSTNAME']): time.sleep(0.01)"
    cluster.apply(service("pulling"))
    cluster.apply(deployment("pulling", pull=pull))

    def pulls(_live: Json, pods: list[Json]) -> bool:
        return bool(pods) and "running" in pods[0]["status"]["initContainerStatuses"][0]["state"]

    cluster.until("pulling", pulls)
    (pod,) = cluster.pods("pulling")
    (init,), (server,) = pod["status"]["initContainerStatuses"], pod["status"]["containerStatuses"]
    states = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
    assert (init["ready"], server["ready"], server["state"]) == (
        False,
        False,
        {"waiting": {"reason": "PodInitializing"}},
    )
    assert (states["Initialized"], states["Ready"], pod["status"]["phase"]) == ("False", "False", "Pending")
    with pytest.raises(OSError, match=r".+"):
        cluster.ask("pulling")

    go = Path("/tmp") / pod["metadata"]["name"]
    go.touch()
    cluster.until_served("pulling")
    go.unlink()
    (init,) = cluster.pods("pulling")[0]["status"]["initContainerStatuses"]
    assert init["ready"]
