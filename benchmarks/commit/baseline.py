"""The design that indexpush replaces, in the same cluster: a registry, a watcher that bakes images, a Deployment."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.commit.lab import PATIENCE, Lab, Uploaded
from benchmarks.commit.meter import Meter
from benchmarks.commit.node import disk_bytes
from benchmarks.commit.pods import watched
from benchmarks.commit.results import Idle, Run
from benchmarks.made_index import INDEX
from model_repository.deployment import footprint
from model_repository.documents.index_manifest import parse_index_manifest
from tests.kubernetes.installation import BUCKET, SEARCH_IMAGE, namespace
from tests.kubernetes.kube import Object, until

IMAGE = ("localhost/indexpush-baseline:0.1.0", "benchmarks/commit/watcher/Dockerfile")
NAMESPACE = "indexpush-baseline"
POLL_SECONDS = 30
_HOST = "localhost:5000"
_NAME = "search"
REPOSITORY = f"{_HOST}/{_NAME}"
_LABELS = {"app": INDEX}
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


class Baseline:
    """The watcher's design, installed when this is made."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        lab.kube.apply(namespace(NAMESPACE), *_account())
        lab.kube.apply(
            _daemon("registry", ["docker-registry", "serve", "/etc/registry.yml"], {}, "/registry", buildah=False)
        )
        lab.kube.rolled_out(NAMESPACE, "registry")
        until(lambda: self._asked("GET", "/v2/") is not None, "the registry")
        lab.node.push(SEARCH_IMAGE, f"{REPOSITORY}:base")
        lab.kube.apply(_service())
        variables = {
            "STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"],
            "BUCKET": BUCKET,
            "INDEX": INDEX,
            "REPOSITORY": REPOSITORY,
            "NAMESPACE": NAMESPACE,
            "DEPLOYMENT": INDEX,
            "POLL_SECONDS": str(POLL_SECONDS),
            "WORK": "/work",
        }
        lab.kube.apply(_daemon("watcher", ["python", "-m", "watcher"], variables, "/work", buildah=True))
        lab.kube.rolled_out(NAMESPACE, "watcher")
        until(lambda: self._event("started", 0), "the watcher")

    def prepare(self, build: Uploaded) -> None:
        """Make the Deployment as a build needs it, without a pod: its image comes with the watcher's commit."""
        memory = footprint(parse_index_manifest(build.manifest, build.prefix)).memory_mib
        self._lab.kube.apply(_search(memory))

    def commit(self, build: Uploaded, design: str) -> Run:
        """Put index.json into the bucket anew, and measure from when the watcher noticed."""
        lab = self._lab
        self._work().joinpath("way").write_text(design)
        images, registry, load = lab.node.image_bytes(), disk_bytes(self._registry()), os.getloadavg()[0]
        parts = {
            "bucket": lab.bucket_pods(),
            "watcher": lab.uids(NAMESPACE, {"app": "watcher"}),
            "registry": lab.uids(NAMESPACE, {"app": "registry"}),
        }
        with watched(lab.kube, NAMESPACE, _LABELS) as moments:
            written = time.time()
            stored = lab.scene.store.write(build.prefix.manifest, build.manifest, if_generation_match=None)
            began = until(lambda: self._event("noticed", stored.generation), "the watcher to notice", PATIENCE)
            meter = Meter(lab.node, parts)
            until(lambda: self._event("rolled out", stored.generation), "the watcher to roll out", PATIENCE)
            answered = lab.answered(NAMESPACE, stored.generation)
            uid, seen = moments.last()
            spent = meter.spent(uid)
        noted = self._events(stored.generation)
        run = Run(
            size=build.size,
            design=design,
            seconds=answered - began,
            steps={
                "download": noted["downloaded"] - began,
                "image build": noted["built"] - noted["downloaded"],
                "push": noted["pushed"] - noted["built"],
                "roll out to pod": seen["made"] - noted["pushed"],
                "pull and unpack": seen["running"] - seen["made"],
                "proof and ready": answered - seen["running"],
            },
            cpu=spent,
            registry=disk_bytes(self._registry()) - registry,
            image_store=lab.node.image_bytes() - images,
            volume=0,
            waited=began - written,
            load=load,
        )
        lab.alone(NAMESPACE, _LABELS, build.item)
        self._clear()
        return run

    def idle(self, seconds: float, spent: list[float]) -> Idle:
        """What stands around the clock: the watcher. spent: its CPU seconds over `seconds`."""
        memory = sum(self._lab.node.pod_memory(uid) for uid in self.watchers())
        return Idle(
            "watcher", f"watcher, polls every {POLL_SECONDS} s", seconds, sum(spent), memory, 86400 // POLL_SECONDS
        )

    def watchers(self) -> list[str]:
        """Uids of the watcher's pods."""
        return self._lab.uids(NAMESPACE, {"app": "watcher"})

    def _clear(self) -> None:
        """Take away what would fill the disk: the pod, and all images but the base, off the node and the registry."""
        until(lambda: not self._work().joinpath("context").exists(), "the watcher to clear up", PATIENCE)
        self._lab.kube.kubectl("-n", NAMESPACE, "scale", "deployment", INDEX, "--replicas=0")
        until(lambda: not self._lab.kube.pods(NAMESPACE, _LABELS), "the pods to leave", PATIENCE)
        self._lab.node.forget_images(REPOSITORY)
        for tag in (self._asked("GET", f"/v2/{_NAME}/tags/list") or {}).get("tags") or []:
            if tag != "base":
                self._asked("DELETE", f"/v2/{_NAME}/manifests/{self._digest(tag)}")
        arguments = ("exec", "deployment/registry", "--", "docker-registry", "garbage-collect", "/etc/registry.yml")
        self._lab.kube.kubectl("-n", NAMESPACE, *arguments)

    def _asked(self, method: str, path: str) -> dict[str, Any] | None:
        asked = urllib.request.Request(f"http://{_HOST}{path}", method=method)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                body = answer.read()
                return dict(json.loads(body)) if body else {}
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: the registry answered {error.code}") from error
        except OSError:
            return None

    def _digest(self, tag: str) -> str:
        asked = urllib.request.Request(f"http://{_HOST}/v2/{_NAME}/manifests/{tag}", method="HEAD")
        asked.add_header("Accept", _MANIFESTS)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return str(answer.headers["Docker-Content-Digest"])

    def _work(self) -> Path:
        return self._volume("watcher")

    def _registry(self) -> Path:
        return self._volume("registry")

    def _volume(self, name: str) -> Path:
        (uid,) = self._lab.uids(NAMESPACE, {"app": name})
        return self._lab.node.volume(uid, "work")

    def _event(self, event: str, generation: int) -> float | None:
        return self._events(generation).get(event)

    def _events(self, generation: int) -> dict[str, float]:
        """What the watcher noted of a build, and when, in seconds since the epoch."""
        events = self._work() / "events.jsonl"
        lines = events.read_text().splitlines() if events.exists() else []
        noted = [json.loads(line) for line in lines]
        return {one["event"]: one["at"] for one in noted if one["generation"] == generation}


def _account() -> list[Object]:
    named = {"name": "watcher", "namespace": NAMESPACE}
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": named, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": named,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "watcher"},
            "subjects": [{"kind": "ServiceAccount", **named}],
        },
    ]


def _daemon(name: str, command: list[str], variables: dict[str, str], folder: str, *, buildah: bool) -> Object:
    """One pod in the node's own network, so that the registry is localhost:5000 for it and for containerd alike."""
    container = {
        "name": name,
        "image": IMAGE[0],
        "command": command,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "securityContext": {"privileged": buildah},  # it mounts
        "volumeMounts": [{"name": "work", "mountPath": folder}],
    }
    pod = {
        "hostNetwork": True,
        "serviceAccountName": "watcher",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "work", "emptyDir": {}}],
    }
    return _deployment(name, 1, {"app": name}, pod)


def _service() -> Object:
    spec = {"selector": _LABELS, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": INDEX, "namespace": NAMESPACE}, "spec": spec}


def _search(memory_mib: int) -> Object:
    """The search server as manifests/ runs it, probes and all, but with the index in its image."""
    probe = {"httpGet": {"path": "/readyz", "port": 8080}, "timeoutSeconds": 2}
    container = {
        "name": "search-server",
        "image": f"{REPOSITORY}:base",
        "command": ["python", "-m", "search_server"],
        "env": [{"name": "DRAIN_SECONDS", "value": "2"}],
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": f"{memory_mib}Mi"}},
        "startupProbe": probe | {"periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": probe | {"periodSeconds": 2, "failureThreshold": 3},
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
    }
    return _deployment(INDEX, 0, _LABELS, {"terminationGracePeriodSeconds": 30, "containers": [container]})


def _deployment(name: str, replicas: int, labels: dict[str, str], pod: Object) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 1800,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
