"""The design that indexpush replaces: watches the bucket around the clock and bakes each new index into an image.

Every POLL_SECONDS it lists the builds of INDEX. A new index.json means: pull the build, bake it into an image on top of
the search server's (buildah), push that to the registry, and set it in the Deployment, which is scaled up if need be.

It runs in a privileged pod, since buildah mounts. What it did stands, with the time, in WORK/events.jsonl.

There are two ways of baking; the file WORK/way says which, or else it is the first:

    usual   buildah build, buildah push, which gzips: what one writes down without measuring
    tuned   the working container is committed straight into the registry, not compressed: the layer is written once
            instead of twice, the least work that buildah can be given
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

Note = Callable[[str], None]

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
        bake = self._bake_tuned if self._way() == "tuned" else self._bake_usual
        bake(context, tag, self._variables(context, prefix, generation), note)
        shutil.rmtree(context)

    def _bake_usual(self, context: Path, tag: str, variables: list[str], note: Note) -> None:
        recipe = [f"FROM {self._config.repository}:base", "COPY current /data/current", f"ENV {' '.join(variables)}"]
        (context / "Containerfile").write_text("\n".join(recipe))
        self._buildah("build", "--quiet", "--tls-verify=false", "--layers=false", "--tag", tag, str(context))
        note("built")
        self._buildah("push", "--quiet", "--tls-verify=false", tag)
        note("pushed")
        self._roll_out(tag)
        note("rolled out")
        self._buildah("rmi", tag)

    def _bake_tuned(self, context: Path, tag: str, variables: list[str], note: Note) -> None:
        container = "baked"
        self._buildah("from", "--quiet", "--pull-never", "--name", container, f"{self._config.repository}:base")
        self._buildah("copy", "--quiet", container, str(context / "current"), "/data/current")
        self._buildah("config", *(f"--env={variable}" for variable in variables), container)
        note("built")
        way = ("--quiet", "--tls-verify=false", "--disable-compression")
        self._buildah("commit", *way, container, f"docker://{tag}")
        note("pushed")
        self._roll_out(tag)
        note("rolled out")
        self._buildah("rm", container)

    @staticmethod
    def _variables(context: Path, prefix: str, generation: str) -> list[str]:
        """The environment that the search server wants, baked as well."""
        with (context / "current" / "index" / "index.json").open("rb") as manifest:
            digest = hashlib.file_digest(manifest, "sha256").hexdigest()
        where = ["DATA=/data/current", f"COMMIT_GENERATION={generation}"]
        return [*where, f"INDEX_PREFIX={prefix}", f"INDEX_DIGEST=sha256:{digest}"]

    def _way(self) -> str:
        chosen = self._config.work / "way"
        return chosen.read_text().strip() if chosen.exists() else "usual"

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
        trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the node's authority lacks an extension
        with urllib.request.urlopen(asked, context=trust, timeout=30) as answer:
            answer.read()

    def _note(self, generation: int, event: str) -> None:
        line = json.dumps({"event": event, "generation": generation, "at": time.time()})
        with (self._config.work / "events.jsonl").open("a") as events:
            events.write(line + "\n")


if __name__ == "__main__":
    Watcher(Config.from_environment(os.environ)).watch()
