"""A stand-in for Clouddriver and a cluster: what its five operations do to objects, without any pod.

The parts that the pipeline relies on behave as the real ones do: `kubectl apply` keeps what it didn't write before,
`rollout undo` takes the template and the annotations of the last revision, and Clouddriver marks what it deploys.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fields = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
GENERATION = "indexpush.dev/commit-generation"


class OperationFailed(Exception):
    """What Clouddriver says instead of a result."""


@dataclass
class Object:
    """One object of the cluster. revisions: of a Deployment, oldest first: annotations and pod template."""

    live: Fields
    last_applied: Fields
    revisions: list[Fields] = field(default_factory=list)


@dataclass
class Clouddriver:
    """Operations on objects, by ``<kind> <name>``.

    deployed: every manifest as it came in, after Orca evaluated it. operations: what ran, in order.
    never_ready: commit generations whose pods never become ready. refused: those that the API server refuses.
    down: whether the cluster can't be asked. while_deploying: called during every Deploy of a Deployment.
    """

    objects: dict[str, Object] = field(default_factory=dict)
    deployed: list[Fields] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    never_ready: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    down: bool = False
    while_deploying: Callable[[], None] = lambda: None

    def live(self, name: str) -> Fields:
        return self.objects[name].live

    def annotation(self, name: str, mark: str) -> str | None:
        found: str | None = self.live(name)["metadata"].get("annotations", {}).get(mark)
        return found

    def deployManifest(self, context: Fields) -> Fields:  # noqa: N802 - the stage's own name
        applied = []
        for manifest in context["manifests"]:
            self.deployed.append(copy.deepcopy(manifest))
            marked = mark(manifest, context["moniker"]["app"])
            name = f"{manifest['kind'].lower()} {manifest['metadata']['name']}"
            generation = manifest["metadata"].get("annotations", {}).get(GENERATION)
            if generation in self.refused:
                raise OperationFailed(f"{name}: admission webhook denied the request: exceeded quota")
            applied.append(self._apply(name, marked))
            if manifest["kind"] == "Deployment":
                self.while_deploying()
                if generation in self.never_ready:
                    raise OperationFailed(f"'{name}': Deployment exceeded its progress deadline")
        return {"outputs.manifests": applied}

    def findArtifactsFromResource(self, context: Fields) -> Fields:  # noqa: N802
        if self.down:
            raise OperationFailed("503 Service Unavailable")
        name = context["manifestName"]
        if name not in self.objects:
            raise OperationFailed(f"Manifest {name} not found in {context['location']}")
        return {"manifest": self.live(name), "artifacts": []}

    def patchManifest(self, context: Fields) -> Fields:  # noqa: N802
        (body,) = context["patchBody"]
        annotations = self.live(context["manifestName"])["metadata"].setdefault("annotations", {})
        annotations.update(body["metadata"]["annotations"])
        return {}

    def undoRolloutManifest(self, context: Fields) -> Fields:  # noqa: N802
        found = self.objects[context["manifestName"]]
        back = context["numRevisionsBack"]
        if len(found.revisions) <= back:
            raise OperationFailed(f"There are {len(found.revisions)} revision(s) in total, cannot rollback {back}")
        revision = found.revisions.pop(-1 - back)
        found.revisions.append(revision)
        found.live["metadata"]["annotations"] = copy.deepcopy(revision["annotations"])
        found.live["spec"]["template"] = copy.deepcopy(revision["template"])
        return {}

    def scaleManifest(self, context: Fields) -> Fields:  # noqa: N802
        self.live(context["manifestName"])["spec"]["replicas"] = int(context["replicas"])
        return {}

    def _apply(self, name: str, manifest: Fields) -> Fields:
        found = self.objects.get(name) or Object(live={}, last_applied={})
        live = merge(found.last_applied, manifest, found.live)
        if "template" in live["spec"]:
            revision = {"annotations": live["metadata"].get("annotations", {}), "template": live["spec"]["template"]}
            if not found.revisions or found.revisions[-1]["template"] != revision["template"]:
                found.revisions.append(copy.deepcopy(revision))
        self.objects[name] = Object(live, copy.deepcopy(manifest), found.revisions)
        return live


def mark(manifest: Fields, application: str) -> Fields:
    """The manifest with the labels and annotations that Clouddriver puts on whatever it deploys."""
    marked = copy.deepcopy(manifest)
    metadata = [marked["metadata"]]
    if "template" in marked["spec"]:
        metadata.append(marked["spec"]["template"]["metadata"])
    for each in metadata:
        each["labels"] = {"app.kubernetes.io/name": application, **each.get("labels", {}), MANAGED_BY: "spinnaker"}
        each["annotations"] = {**each.get("annotations", {}), "moniker.spinnaker.io/application": application}
    return marked


def merge(last_applied: Fields, manifest: Fields, live: Fields) -> Fields:
    """`kubectl apply`: what it wrote before and doesn't write now goes; what others wrote stays."""
    merged = {key: value for key, value in live.items() if key not in last_applied or key in manifest}
    for key, value in manifest.items():
        before, now = last_applied.get(key), live.get(key)
        if isinstance(value, dict):
            merged[key] = merge(before if isinstance(before, dict) else {}, value, now if isinstance(now, dict) else {})
        else:
            merged[key] = copy.deepcopy(value)
    return merged


class Server:
    """Clouddriver behind HTTP, for the stages of the lab."""

    def __init__(self, port: int = 0) -> None:
        self.clouddriver = Clouddriver()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(server.act(self.path.removeprefix("/"), body["context"])).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def act(self, operation: str, context: Fields) -> Fields:
        self.clouddriver.operations.append(f"{context.get('stageName') or ''}{operation}")
        try:
            outputs = getattr(self.clouddriver, operation)(context)
        except OperationFailed as error:
            return {"status": "TERMINAL", "context": {"exception": {"details": {"errors": [str(error)]}}}}
        except Exception as error:  # noqa: BLE001 - a defect of the stand-in must show in the run
            return {"status": "TERMINAL", "context": {"exception": {"details": {"errors": [f"defect: {error!r}"]}}}}
        return {"status": "SUCCEEDED", "context": outputs, "outputs": outputs}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
