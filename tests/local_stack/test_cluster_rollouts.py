"""Deployments and Services of the local cluster: pods come, are swapped, and get requests."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass

import pytest

from tests.local_stack.cluster_scene import (
    Client,
    condition,
    deployment,
    served,
    service,
)


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


def test_a_deployment_becomes_ready_and_its_service_answers(cluster: Client) -> None:
    pull = "import os; os.mkdir(os.environ['DESTINATION']); open(os.environ['DESTINATION'] + '/index', 'w').write('x')"
    cluster.apply(service("first"))
    cluster.apply(deployment("first", pull=pull))
    cluster.until_served("first")

    assert cluster.ask("first").startswith("1 ")
    (pod,) = cluster.pods("first")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("127.")
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "True"
    (init,) = pod["status"]["initContainerStatuses"]
    assert init["state"]["terminated"]["exitCode"] == 0
    folder = cluster.folder / "state" / "pods" / pod["metadata"]["name"] / "volumes" / "data"
    assert (folder / "current" / "index").read_text() == "x"
    said = cluster.folder / "state" / "logs" / f"{pod['metadata']['name']}_{pod['spec']['containers'][0]['name']}.log"
    assert said.read_text() == f"serving 1 {folder}/current\n"


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
    assert live["status"]["updatedReplicas"] == 1
    assert live["status"]["unavailableReplicas"] == 1
    assert cluster.ask("stuck") == before

    cluster.apply(deployment("stuck", "good"))
    cluster.until("stuck", lambda it, pods: served(it) and len(pods) == 1)
    assert cluster.ask("stuck") == before, "an undo finds the old pod, which never stopped"


def test_a_service_without_ready_pods_refuses_connections(cluster: Client) -> None:
    cluster.apply(service("nobody"))

    with pytest.raises(OSError, match=r".+"):
        cluster.ask("nobody")
