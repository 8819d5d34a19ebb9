"""What becomes of a request and of its environment's values."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from manifests.metadata import COMMIT_GENERATION
from manifests.render import render
from manifests.values import Values, parse_values
from model_repository.deployment import ELSEWHERE_MIB, TRACES_MIB, DeploymentRequest, Footprint
from model_repository.errors import DocumentMalformed
from search_server.config import Limits
from tests.manifests import LEAST, request_for, shipped


def pod_of(request: DeploymentRequest, values: Values) -> dict[str, Any]:
    pod: dict[str, Any] = render(request, values).deployment["spec"]["template"]["spec"]
    return pod


def test_a_pod_gets_the_memory_disk_and_deadline_of_its_index() -> None:
    request = request_for("staging", footprint=Footprint(5000, 4200, 333))
    spec = render(request, shipped("staging")).deployment["spec"]
    pod = spec["template"]["spec"]
    server = pod["containers"][0]["resources"]
    assert server["requests"]["memory"] == server["limits"]["memory"] == "5000Mi"
    assert pod["volumes"] == [{"name": "data", "emptyDir": {"sizeLimit": "4200Mi"}}]
    assert server["requests"]["ephemeral-storage"] == "4264Mi"
    assert pod["initContainers"][0]["resources"]["limits"]["ephemeral-storage"] == "4264Mi"
    assert spec["progressDeadlineSeconds"] == 333 + spec["minReadySeconds"]


def test_a_volume_of_its_own_is_as_large_as_the_index_and_what_a_file_system_takes() -> None:
    values = parse_values(LEAST + "storage_class: fast\nmin_ready_seconds: 7\n", "dev.yaml", "dev", {})
    spec = render(request_for("dev", footprint=Footprint(5000, 4200, 333)), values).deployment["spec"]
    (volume,) = spec["template"]["spec"]["volumes"]
    claim = volume["ephemeral"]["volumeClaimTemplate"]
    assert (volume["name"], claim["metadata"]["labels"]["app.kubernetes.io/instance"]) == ("data", "home-store")
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": f"{4200 + 4200 // 8 + 64}Mi"}},
    }
    for container in (*spec["template"]["spec"]["initContainers"], *spec["template"]["spec"]["containers"]):
        # of the node's own disk it takes no more than its log
        assert container["resources"]["requests"]["ephemeral-storage"] == "64Mi"
        assert container["resources"]["limits"]["ephemeral-storage"] == "64Mi"
    assert spec["progressDeadlineSeconds"] == 333 + 7 + 120


@pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="mkfs.ext4 says what ext4 takes (Debian's e2fsprogs)")
@pytest.mark.parametrize("mib", [1, 65, 200, 1024, 4200, 40_000])
def test_what_a_pod_needs_fits_into_an_ext4_of_the_size_that_is_asked_for(mib: int, tmp_path: Path) -> None:
    values = parse_values(LEAST + "storage_class: fast\n", "dev.yaml", "dev", {})
    (volume,) = pod_of(request_for("dev", footprint=Footprint(1, mib, 1)), values)["volumes"]
    asked = volume["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(int(asked.removesuffix("Mi")) * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    said = subprocess.run(["dumpe2fs", "-h", str(disk)], check=True, capture_output=True, text=True).stdout
    disk.unlink()
    figures = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    free, reserved, block = (int(figures[name]) for name in ("Free blocks", "Reserved block count", "Block size"))
    assert (free - reserved) * block >= mib * 2**20


def test_a_pod_whose_photos_are_embedded_elsewhere_needs_no_memory_for_models() -> None:
    request = request_for("dev", footprint=Footprint(5000, 4200, 333, model_mib=3000))
    elsewhere = parse_values(LEAST + 'env: {EMBEDDING_URL: "grpc://pool:9000"}\n', "dev.yaml", "dev", {})
    memory = [
        pod_of(request, values)["containers"][0]["resources"]["limits"]["memory"]
        for values in (parse_values(LEAST, "dev.yaml", "dev", {}), elsewhere)
    ]
    assert memory == ["5000Mi", f"{5000 - 3000 + ELSEWHERE_MIB}Mi"]


def test_a_pod_that_tells_a_collector_of_its_start_has_memory_for_that() -> None:
    request = request_for("dev", footprint=Footprint(5000, 4200, 333))
    told = parse_values(LEAST + 'env: {OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318"}\n', "dev.yaml", "dev", {})
    limits = pod_of(request, told)["containers"][0]["resources"]["limits"]
    assert limits["memory"] == f"{5000 + TRACES_MIB}Mi"


def test_no_rollout_stops_a_pod_that_serves() -> None:
    strategy = render(request_for("production"), shipped("production")).deployment["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}


def test_a_pod_has_time_to_leave_the_endpoints_to_drain_and_to_end() -> None:
    chosen = shipped("production")
    pod = pod_of(request_for("production"), chosen)
    leaving = chosen.pre_stop_seconds + chosen.drain_seconds + Limits().body_seconds
    assert pod["terminationGracePeriodSeconds"] > leaving
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == chosen.pre_stop_seconds


def test_every_container_is_locked_down() -> None:
    pod = pod_of(request_for("production"), shipped("production"))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip


def test_a_new_generation_of_the_same_build_makes_new_pods() -> None:
    first = render(request_for("local"), shipped("local")).deployment
    again = render(request_for("local", generation=1700000000000009), shipped("local")).deployment
    assert first["spec"]["template"] != again["spec"]["template"]
    assert again["metadata"]["annotations"][COMMIT_GENERATION] == "1700000000000009"
    assert first["spec"]["selector"] == again["spec"]["selector"]


def test_the_same_request_renders_the_same_bytes() -> None:
    assert render(request_for("local"), shipped("local")) == render(request_for("local"), shipped("local"))


def test_replicas_are_left_to_an_autoscaler_that_owns_them() -> None:
    values = parse_values(LEAST.replace("replicas: 2", "replicas: null"), "dev.yaml", "dev", {})
    assert "replicas" not in render(request_for("dev"), values).deployment["spec"]


def test_the_bucket_emulator_reaches_the_pods_only_where_the_environment_says_so() -> None:
    def names(environment: str) -> set[str]:
        pod = pod_of(request_for(environment), shipped(environment, STORAGE_EMULATOR_HOST="http://127.0.0.1:4443"))
        return {v["name"] for c in [*pod["initContainers"], *pod["containers"]] for v in c["env"]}

    assert "STORAGE_EMULATOR_HOST" in names("local")
    assert "STORAGE_EMULATOR_HOST" not in names("production")


def test_the_values_of_another_environment_are_refused() -> None:
    with pytest.raises(DocumentMalformed, match="values of 'production'"):
        render(request_for("staging"), shipped("production"))
