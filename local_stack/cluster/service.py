"""A Service: a TCP proxy on 127.0.0.1 with one port for as long as the cluster runs.

As kube-proxy: a new connection goes to one of the pods that are ready now, in turn; with none it is refused (reset).
Established connections are left alone, also when their pod leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from itertools import count

from local_stack.cluster.manifest import Json
from local_stack.cluster.node import Node
from local_stack.cluster.pod import Pod
from local_stack.cluster.stored import Stored

_RESET = struct.pack("ii", 1, 0)
_CHUNK = 256 * 1024
ADDRESS = "local-stack/address"
"""The annotation of a Service that tells where its proxy listens."""


class Service(Stored):
    """One Service. pods: all pods of the cluster."""

    def __init__(self, manifest: Json, node: Node, pods: Callable[[], list[Pod]]) -> None:
        super().__init__(node, manifest["metadata"])
        self._spec: Json = manifest["spec"]
        self._pods = pods
        self._turn = count()
        self._server: asyncio.Server | None = None
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)

    async def start(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    def apply(self, manifest: Json) -> None:
        """Send elsewhere from now on."""
        if (manifest["metadata"], manifest["spec"]) != (self.metadata, self._spec):
            self.metadata, self._spec = manifest["metadata"], manifest["spec"]
            self.touch()

    def is_owned_by(self, uid: str) -> bool:
        """Whether it goes when the object with that uid goes."""
        return any(owner["uid"] == uid for owner in self.metadata.get("ownerReferences", []))

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()

    def _endpoint(self) -> tuple[str, int] | None:
        """Where the next connection goes, or None if no pod is ready."""
        (port,), selector = self._spec["ports"], self._spec["selector"]
        found = [
            (pod.address, number)
            for pod in self._pods()
            if pod.ready and not pod.deleting and selector.items() <= pod.metadata["labels"].items()
            if (number := pod.port(port.get("targetPort", port["port"]))) is not None
        ]
        return found[next(self._turn) % len(found)] if found else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        endpoint = self._endpoint()
        try:
            if endpoint is None:
                raise ConnectionRefusedError
            from_pod, to_pod = await asyncio.open_connection(*endpoint)
        except OSError:  # also as if the pod itself had refused
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, to_pod, writer), _copy(from_pod, writer, to_pod))
        for end in (writer, to_pod):
            end.close()

    def manifest(self) -> Json:
        """The Service as the API shows it; an annotation tells where it listens."""
        metadata = self.shown_metadata()
        address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        metadata["annotations"] = {**metadata["annotations"], ADDRESS: address}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": self._spec}


async def _copy(reader: asyncio.StreamReader, to: asyncio.StreamWriter, back: asyncio.StreamWriter) -> None:
    """Copy one direction of a connection to its end, and end it there; a reset ends both."""
    try:
        while data := await reader.read(_CHUNK):
            to.write(data)
            await to.drain()
        with contextlib.suppress(OSError):  # the other side may have gone already
            to.write_eof()
    except OSError:
        for end in (to, back):
            end.transport.abort()
