"""The design that indexpush replaces: watches the bucket around the clock and bakes each new index into an image.

Every POLL_SECONDS it lists the builds of INDEX. A new index.json means: pull the build, bake it into an image on top of
the search server's (buildah), push that to the registry, and set it in the Deployment, which is scaled up if need be.

It runs in a privileged pod, since buildah mounts. What it did stands, with the time, in WORK/events.jsonl.
COMPRESSION (gzip or none) says how layers are pushed; the file WORK/compression, if there is one, overrules it.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Config:
    """What to watch and where to put it. work: a folder on a disk on which overlays can be mounted."""

    storage: str
    bucket: str
    index: str
    repository: str
    namespace: str
    deployment: str
    compression: str
    poll_seconds: float
    work: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Config:
        """Read the variables; raises KeyError for a missing one."""
        return cls(
            storage=environment["STORAGE_EMULATOR_HOST"],
            bucket=environment["BUCKET"],
            index=environment["INDEX"],
            repository=environment["REPOSITORY"],
            namespace=environment["NAMESPACE"],
            deployment=environment["DEPLOYMENT"],
            compression=environment.get("COMPRESSION", "gzip"),
            poll_seconds=float(environment.get("POLL_SECONDS", "30")),
            work=Path(environment["WORK"]),
        )


class Watcher:
    """Knows the builds that it has seen; those that are there when it starts count as seen."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._buildah("pull", "--quiet", "--tls-verify=false", f"{config.repository}:base")
        self._seen = self._builds()
        self._note(0, "started")

    def watch(self) -> None:
        """Go on for ever."""
        while True:
            time.sleep(self._config.poll_seconds)
            found = self._builds()
            for name, generation in found.items():
                if self._seen.get(name) != generation:
                    self._seen = found
                    self._bake(name.removesuffix("/index.json"), generation)

    def _builds(self) -> dict[str, str]:
        """index.json's name -> its generation, of every build."""
        query = {"prefix": f"indexes/{self._config.index}/", "fields": "items(name,generation),nextPageToken"}
        found: dict[str, str] = {}
        while True:
            url = f"{self._config.storage}/storage/v1/b/{self._config.bucket}/o?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                page = json.load(answer)
            items = page.get("items", [])
            found |= {item["name"]: item["generation"] for item in items if item["name"].endswith("/index.json")}
            if not page.get("nextPageToken"):
                return found
            query["pageToken"] = page["nextPageToken"]

    def _bake(self, prefix: str, generation: str) -> None:
        work, note = self._config.work, partial(self._note, int(generation))
        note("noticed")
        context = work / "context"
        variables = {"INDEX_PREFIX": prefix, "DESTINATION": str(context / "current"), "PROGRESS_SECONDS": "0"}
        context.mkdir()
        variables |= {"MODEL_REPOSITORY": f"gs://{self._config.bucket}", "TERMINATION_LOG": str(work / "last-words")}
        subprocess.run([sys.executable, "-m", "init_container"], env={**os.environ, **variables}, check=True)
        note("downloaded")
        tag = f"{self._config.repository}:{generation}"
        (context / "Containerfile").write_text(self._recipe(context, prefix, generation))
        self._buildah("build", "--quiet", "--tls-verify=false", "--layers=false", "--tag", tag, str(context))
        note("built")
        compression = ["--disable-compression"] if self._compression() == "none" else []
        self._buildah("push", "--quiet", "--tls-verify=false", *compression, tag)
        note("pushed")
        self._roll_out(tag)
        note("rolled out")
        shutil.rmtree(context)
        self._buildah("rmi", tag)

    def _recipe(self, context: Path, prefix: str, generation: str) -> str:
        digest = subprocess.run(
            ["sha256sum", context / "current" / "index" / "index.json"], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        return (
            f"FROM {self._config.repository}:base\n"
            f"COPY current /data/current\n"
            f"ENV DATA=/data/current COMMIT_GENERATION={generation}\n"
            f"ENV INDEX_PREFIX={prefix} INDEX_DIGEST=sha256:{digest}\n"
        )

    def _compression(self) -> str:
        chosen = self._config.work / "compression"
        return chosen.read_text().strip() if chosen.exists() else self._config.compression

    def _buildah(self, *arguments: str) -> None:
        store = ("--root", str(self._config.work / "images"), "--runroot", "/run/images", "--storage-driver", "overlay")
        subprocess.run(["buildah", *store, *arguments], check=True, stdout=subprocess.DEVNULL)

    def _roll_out(self, tag: str) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        path = f"apis/apps/v1/namespaces/{self._config.namespace}/deployments/{self._config.deployment}"
        template = {"spec": {"containers": [{"name": "search-server", "image": tag}]}}
        body = json.dumps({"spec": {"replicas": 1, "template": template}}).encode()
        asked = urllib.request.Request(f"https://{host}:{port}/{path}", body, method="PATCH")
        asked.add_header("Authorization", f"Bearer {(_ACCOUNT / 'token').read_text()}")
        asked.add_header("Content-Type", "application/strategic-merge-patch+json")
        trust = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        with urllib.request.urlopen(asked, context=trust, timeout=30) as answer:
            answer.read()

    def _note(self, generation: int, event: str) -> None:
        line = json.dumps({"event": event, "generation": generation, "at": time.time()})
        with (self._config.work / "events.jsonl").open("a") as events:
            events.write(line + "\n")


if __name__ == "__main__":
    Watcher(Config.from_environment(os.environ)).watch()
