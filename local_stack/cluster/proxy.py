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
from typing import cast
from uuid import uuid4

from local_stack.cluster.changes import timestamp
from local_stack.cluster.fields import ManifestRefused
from local_stack.cluster.node import Node
from local_stack.cluster.pod import Pod
from local_stack.cluster.specification import Json, ServiceSpec

_RESET = struct.pack("ii", 1, 0)
ADDRESS = "local-stack/address"
"""The annotation of a Service that tells where its proxy listens."""


class Service:
    """One Service. pods: all pods of the cluster."""

    def __init__(self, spec: ServiceSpec, node: Node, pods: Callable[[], list[Pod]]) -> None:
        self.spec = spec
        self.version = node.changes.tick()
        self.generation = 1
        self._node = node
        self._pods = pods
        self._uid = str(uuid4())
        self._created = timestamp()
        self._turn = count()
        self._server: asyncio.Server | None = None
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._port = int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Front(self.endpoint), sock=self._socket)

    def apply(self, spec: ServiceSpec) -> None:
        """Send elsewhere from now on; raises `ManifestRefused`."""
        if spec.namespace != self.spec.namespace:
            raise ManifestRefused(
                "metadata.namespace", f"the local cluster has one {spec.name!r}, and it is in {self.spec.namespace!r}"
            )
        if spec != self.spec:
            self.spec = spec
            self.version = self._node.changes.tick()

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()

    def endpoint(self) -> tuple[str, int] | None:
        """Where the next connection goes, or None if no pod is ready."""
        target = self.spec.ports[0].target
        found = [
            (pod.address, port)
            for pod in self._pods()
            if pod.ready and not pod.deleting and self.spec.selector.items() <= pod.labels.items()
            for port in [target if isinstance(target, int) else pod.port_names.get(target)]
            if port is not None
        ]
        return found[next(self._turn) % len(found)] if found else None

    def manifest(self) -> Json:
        """The Service as the API shows it; status and an annotation tell where it listens."""
        address = f"127.0.0.1:{self._port}"
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": self.spec.name,
                "namespace": self.spec.namespace,
                "uid": self._uid,
                "resourceVersion": self.version,
                "creationTimestamp": self._created,
                "labels": dict(self.spec.labels),
                "annotations": {**self.spec.annotations, ADDRESS: address},
            },
            "spec": self.spec.raw_spec,
            "status": {
                "loadBalancer": {"ingress": [{"ip": "127.0.0.1", "ports": [{"port": self._port, "protocol": "TCP"}]}]}
            },
        }


class _End(asyncio.Protocol):
    """One end of a proxied connection; what comes in goes out at the other."""

    other: _End | None = None
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None:
            # The other side may have gone already.
            with contextlib.suppress(OSError):
                self.other.transport.write_eof()
        return True  # only this direction is over

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            if exc is not None:
                self.other.transport.abort()
            else:
                self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class _Front(_End):
    """The client's end: finds a pod for it."""

    def __init__(self, endpoint: Callable[[], tuple[str, int] | None]) -> None:
        self._endpoint = endpoint
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        endpoint = self._endpoint()
        if endpoint is None:
            self._reset()
            return
        self.transport.pause_reading()
        self._connecting = asyncio.create_task(self._connect(*endpoint))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        super().connection_lost(exc)

    async def _connect(self, address: str, port: int) -> None:
        try:
            _transport, back = await asyncio.get_running_loop().create_connection(_End, address, port)
        except OSError:
            self._reset()  # as if the pod itself had refused
            return
        back.other, self.other = self, back
        self.transport.resume_reading()

    def _reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
