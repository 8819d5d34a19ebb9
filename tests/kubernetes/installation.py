"""Puts the shipped manifests, as they are but for names of images and bucket, and the stand-ins into a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from manifests import metadata as marks
from tests.kubernetes.kube import Kube, Object, until

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "production"
NAMESPACE = "indexpush-production"
STAND_INS = "indexpush-stand-ins"
BUCKET = "model-repository"
TOKEN = "a-token-for-the-tests-alone"
WEBHOOK = "indexpush-cd-webhook"

SEARCH_IMAGE = os.environ.get("INDEXPUSH_IMAGE", "localhost/indexpush:0.1.0")
WEBHOOK_IMAGE = os.environ.get("INDEXPUSH_WEBHOOK_IMAGE", "localhost/indexpush-cd-webhook:0.1.0")
STAND_INS_IMAGE = os.environ.get("INDEXPUSH_STAND_INS_IMAGE", "localhost/indexpush-stand-ins:0.1.0")

VALUES: dict[str, Any] = {
    "namespace": NAMESPACE,
    "image": SEARCH_IMAGE,
    "replicas": 1,
    "cpu": "50m",  # several indexes share a small node
    "pull_cpu": "50m",
    "pre_stop_seconds": 3,
    "drain_seconds": 2,
    "service_account": "indexpush-search",
}


def install(kube: Kube) -> str:
    """Install everything and wait until it works; gives the bucket's address as this process and pods reach it."""
    kube.apply(
        namespace(STAND_INS), service(STAND_INS, "google", 4443, 8085, 8090), service(STAND_INS, "on-commit", 80)
    )
    google = kube.service_address(STAND_INS, "google")
    storage = {"STORAGE_EMULATOR_HOST": f"http://{google}:4443"}
    kube.apply(_google(f"{google}:4443"), _function(storage, f"{google}:8085"))
    install_webhook(kube, VALUES | {"env": storage}, storage)
    for where, name in ((STAND_INS, "google"), (STAND_INS, "on-commit"), (NAMESPACE, WEBHOOK)):
        kube.rolled_out(where, name)
    until(lambda: kube.pods(NAMESPACE, {marks.NAME: WEBHOOK}), "the webhook's pods")
    return f"{google}:4443"


def install_webhook(kube: Kube, values: dict[str, Any], storage: dict[str, str]) -> None:
    """Apply manifests/webhook in the order of its file names, with these values in its ConfigMap."""
    shipped = [one for path in sorted((ROOT / "manifests" / "webhook").glob("*.yaml")) for one in documents(path)]
    kube.apply(*(one for one in shipped if one["kind"] == "Namespace"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": WEBHOOK, "namespace": NAMESPACE}}
    kube.apply(secret | {"stringData": {"token": TOKEN}})
    kube.apply(*(prepared(one, WEBHOOK, values, storage) for one in shipped if one["kind"] != "Namespace"))


@contextmanager
def second_webhook(kube: Kube, name: str, values: dict[str, Any]) -> Iterator[str]:
    """Another webhook in the same namespace, which renders with other values; gives the address of its one pod."""
    storage = {"STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"]}
    chosen = {**VALUES, **values, "env": storage | values.get("env", {})}
    folder = ROOT / "manifests" / "webhook"
    shipped = [*documents(folder / "1-values.yaml"), *documents(folder / "deployment.yaml")]
    values_map, deployment = (prepared(one, name, chosen, storage) for one in shipped)
    deployment["metadata"]["name"] = name
    deployment["spec"] |= {"replicas": 1, "selector": {"matchLabels": {"app": name}}}
    deployment["spec"]["template"]["metadata"]["labels"] = {"app": name}
    kube.apply(values_map, deployment)
    try:
        kube.rolled_out(NAMESPACE, name)
        (pod,) = kube.pods(NAMESPACE, {"app": name})
        yield f"{pod['status']['podIP']}:8080"
    finally:
        kube.kubectl("-n", NAMESPACE, "delete", "deployment", name, "--wait=false")


def documents(path: Path) -> list[Object]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def prepared(value: Object, name: str, values: dict[str, Any], storage: dict[str, str]) -> Object:
    """A shipped object, with what everybody must fill in filled in: the values, the bucket, the image."""
    if value["kind"] == "ConfigMap":
        value["metadata"]["name"] = f"{name}-values"
        value["data"] = {f"{ENVIRONMENT}.yaml": yaml.safe_dump(values)}
    if value["kind"] == "Deployment":
        pod = value["spec"]["template"]["spec"]
        pod["volumes"][0]["configMap"]["name"] = f"{name}-values"
        container = pod["containers"][0]
        container["image"] = WEBHOOK_IMAGE
        for variable in container["env"]:
            if variable["name"] == "MODEL_REPOSITORY":
                variable["value"] = f"gs://{BUCKET}"
        container["env"] += [{"name": key, "value": text} for key, text in storage.items()]
    return value


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service(where: str, name: str, *ports: int) -> Object:
    named = [{"name": f"p{port}", "port": port, "targetPort": 8080 if port == 80 else port} for port in ports]
    # a busy machine may miss a probe, and no test is about the stand-ins
    spec = {"selector": {"app": name}, "ports": named, "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": where}, "spec": spec}


def _google(address: str) -> Object:
    variables = {
        "BUCKET": BUCKET,
        "BUCKET_ADDRESS": address,
        "FUNCTION_URL": f"http://on-commit.{STAND_INS}.svc.cluster.local/",
    }
    return _deployment("google", ["python", "-m", "stand_ins"], variables, {"path": "/healthz", "port": 8090})


def _function(storage: dict[str, str], pubsub: str) -> Object:
    command = ["functions-framework", "--source", "/function/main.py", "--target", "on_commit"]
    variables = storage | {
        "MODEL_REPOSITORY": f"gs://{BUCKET}",
        "PUBSUB_EMULATOR_HOST": pubsub,
        "NOTIFY_TOPIC": "projects/local/topics/notify",
        "CD_WEBHOOK_URL": f"http://{WEBHOOK}.{NAMESPACE}.svc.cluster.local/webhooks/webhook/model-repository",
        "CD_WEBHOOK_AUTH": "bearer",
        "CD_WEBHOOK_TOKEN": TOKEN,
    }
    return _deployment("on-commit", [*command, "--signature-type", "cloudevent", "--port", "8080"], variables, None)


def _deployment(name: str, command: list[str], variables: dict[str, str], ready: Object | None) -> Object:
    container: Object = {
        "name": name,
        "image": STAND_INS_IMAGE,
        "command": command,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "readinessProbe": ({"httpGet": ready} if ready else {"tcpSocket": {"port": 8080}})
        | {"periodSeconds": 1, "timeoutSeconds": 5},
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": STAND_INS},
        "spec": {
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 2},
            },
        },
    }
