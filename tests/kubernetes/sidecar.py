"""What a mesh does, in small: an admission webhook that injects an init container and a sidecar, and the sidecar.

The sidecar ends TLS before the bucket server, on the pod's own 127.0.0.1: who is to reach the bucket through it must
wait until it is there, and trust its authority.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.kubernetes.installation import NAMESPACE, SEARCH_IMAGE
from tests.kubernetes.kube import Kube, Object

INJECT = "mesh.example/inject"
"""The annotation of pods that want the sidecar."""
PORT = 8443
ADDRESS = f"https://127.0.0.1:{PORT}"
_RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}

PROXY = """
import asyncio, os, ssl, time

async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
    except OSError:
        writer.close()

async def serve(reader, writer):
    print("a connection", flush=True)
    upstream = await asyncio.open_connection(os.environ["UPSTREAM"], 4443)
    await asyncio.gather(pipe(reader, upstream[1]), pipe(upstream[0], writer))

async def main():
    assert open("/mesh/prepared").read() == "yes", "the init container ran first"
    await asyncio.sleep(2)  # a proxy takes its time
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/mesh-key/server.pem")
    server = await asyncio.start_server(serve, "0.0.0.0", 8443, ssl=context)
    await server.serve_forever()

asyncio.run(main())
"""


def injected(upstream: str) -> dict[str, list[Object]]:
    """What is put before a pod's own init containers and volumes."""
    key = {"name": "mesh-key", "mountPath": "/mesh-key", "readOnly": True}
    mounts = [{"name": "mesh", "mountPath": "/mesh"}, key]
    common = {"image": SEARCH_IMAGE, "securityContext": _RESTRICTED, "volumeMounts": mounts}
    prepare = "import time; time.sleep(1); open('/mesh/prepared', 'w').write('yes')"
    return {
        "initContainers": [
            {"name": "mesh-init", "command": ["python", "-c", prepare], **common},
            {
                "name": "mesh-proxy",
                "restartPolicy": "Always",
                "command": ["python", "-c", PROXY],
                "env": [{"name": "UPSTREAM", "value": upstream}],
                "startupProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 60},
                **common,
            },
        ],
        "volumes": [{"name": "mesh", "emptyDir": {}}, {"name": "mesh-key", "secret": {"secretName": "mesh-key"}}],
    }


@contextmanager
def injector(kube: Kube, authority: tuple[Path, Path], upstream: str) -> Iterator[None]:
    """An admission webhook of this process, beside the API server."""
    answer = _answer(injected(upstream))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(answer(review)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    bundle = base64.b64encode(authority[0].read_bytes()).decode()
    name = "mesh.indexpush.example"
    hook = {
        "name": name,
        "clientConfig": {"url": f"https://127.0.0.1:{server.server_address[1]}/", "caBundle": bundle},
        "rules": [pods],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "matchConditions": [
            {"name": "asked", "expression": f"'{INJECT}' in object.metadata.?annotations.orValue({{}})"}
        ],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kube.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [hook],
        }
    )
    try:
        yield
    finally:
        kube.kubectl("delete", "mutatingwebhookconfiguration", name)
        server.shutdown()


def _answer(added: dict[str, list[Object]]) -> Any:
    def answer(review: Object) -> Object:
        pod = review["request"]["object"]["spec"]
        patch = [
            {"op": "replace", "path": f"/spec/{kind}", "value": [*entries, *pod.get(kind, [])]}
            for kind, entries in added.items()
        ]
        said = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": said}

    return answer
