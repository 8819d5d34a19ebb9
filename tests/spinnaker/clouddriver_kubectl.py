"""Clouddriver's five operations with kubectl, as Clouddriver itself does them, on the cluster that KUBECONFIG names."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.spinnaker.clouddriver_stand_in import Clouddriver, OperationFailed, mark

Fields = dict[str, Any]


@dataclass
class KubectlClouddriver(Clouddriver):
    """On a real cluster, in one namespace."""

    namespace: str = "default"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = ["kubectl", "--namespace", self.namespace, "--request-timeout=60s", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0:
            raise OperationFailed(done.stderr.strip())
        return done.stdout

    def live(self, name: str) -> Fields:
        return dict(json.loads(self.kubectl("get", *name.split(), "--output=json")))

    def deployManifest(self, context: Fields) -> Fields:  # noqa: N802 - the stage's own name
        for manifest in context["manifests"]:
            self.deployed.append(manifest)
            marked = mark(manifest, context["moniker"]["app"])
            self.kubectl("apply", "--output=json", "--filename=-", stdin=json.dumps(marked))
            if manifest["kind"] == "Deployment":
                self.kubectl("rollout", "status", "deployment", manifest["metadata"]["name"], "--timeout=240s")
        return {}

    def findArtifactsFromResource(self, context: Fields) -> Fields:  # noqa: N802
        return {"manifest": self.live(context["manifestName"]), "artifacts": []}

    def patchManifest(self, context: Fields) -> Fields:  # noqa: N802
        (body,) = context["patchBody"]
        kind = context["options"]["mergeStrategy"]
        self.kubectl("patch", *context["manifestName"].split(), f"--type={kind}", f"--patch={json.dumps(body)}")
        return {}

    def undoRolloutManifest(self, context: Fields) -> Fields:  # noqa: N802
        history = self.kubectl("rollout", "history", *context["manifestName"].split())
        revisions = sorted(int(line.split()[0]) for line in history.splitlines() if line[:1].isdigit())
        back = len(revisions) - context["numRevisionsBack"] - 1
        if back < 0:
            raise OperationFailed(f"There are {len(revisions)} revision(s) in total")
        self.kubectl("rollout", "undo", *context["manifestName"].split(), f"--to-revision={revisions[back]}")
        return {}

    def scaleManifest(self, context: Fields) -> Fields:  # noqa: N802
        self.kubectl("scale", *context["manifestName"].split(), f"--replicas={context['replicas']}")
        return {}
