"""The cluster: the objects by name, and what may be done with them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from local_stack.cluster.deployment import Deployment
from local_stack.cluster.fields import ManifestRefused
from local_stack.cluster.manifest_parser import parse_deployment, parse_service
from local_stack.cluster.node import Node, NodeOptions
from local_stack.cluster.pod import Pod
from local_stack.cluster.proxy import Service
from local_stack.cluster.specification import Json
from model_repository.errors import PermanentError


class ObjectUnknown(PermanentError):
    """There is no object of that name."""

    code = "object-unknown"


class ObjectChanged(PermanentError):
    """The object isn't the one on which the write was decided."""

    code = "object-changed"


class Cluster:
    """All objects. Everything happens on the event loop of its thread."""

    def __init__(self, options: NodeOptions) -> None:
        self.node = Node(options)
        self._deployments: dict[str, Deployment] = {}
        self._services: dict[str, Service] = {}
        self._leaving: dict[Deployment, asyncio.Task[None]] = {}
        """Deleted ones whose pods are still on their way out."""

    async def close(self, grace: float) -> None:
        """End all pods: SIGTERM, and SIGKILL after `grace` seconds."""
        for service in self._services.values():
            service.close()
        everything = (*self._deployments.values(), *self._leaving)
        for seen_off in self._leaving.values():
            seen_off.cancel()
        await asyncio.gather(*(deployment.close(grace) for deployment in everything))

    def pods(self) -> list[Pod]:
        """All pods."""
        return [pod for deployment in self._deployments.values() for pod in deployment.pods]

    def delete(self, name: str, resource_version: str | None) -> Json:
        """Remove a Deployment at once, and its pods with their own grace; gives what it was.

        Raises `ObjectUnknown` and `ObjectChanged`.
        """
        live = self.deployment(name)
        _check_version(name, live, resource_version)
        found = live.manifest()
        del self._deployments[name]
        self._leaving[live] = asyncio.create_task(self._see_off(live))
        return found

    async def _see_off(self, deployment: Deployment) -> None:
        deployment.scale(0)
        self.node.changes.tick()
        while deployment.pods:
            await self.node.changes.until(lambda: not deployment.pods, 60.0)
        await deployment.close(0)
        del self._leaving[deployment]

    def deployments(self, labels: Mapping[str, str]) -> list[Deployment]:
        """The Deployments that carry all `labels`."""
        return [it for it in self._deployments.values() if labels.items() <= it.spec.labels.items()]

    def deployment(self, name: str) -> Deployment:
        """The Deployment; raises `ObjectUnknown`."""
        if name not in self._deployments:
            raise ObjectUnknown(f'deployments.apps "{name}" not found')
        return self._deployments[name]

    def service(self, name: str) -> Service:
        """The Service; raises `ObjectUnknown`."""
        if name not in self._services:
            raise ObjectUnknown(f'services "{name}" not found')
        return self._services[name]

    async def apply(self, manifest: object, resource_version: str | None) -> Json:
        """Server-side apply by our one field manager: what is there is replaced.

        resource_version: of the object on which this was decided; the manifest may carry it instead. None: unguarded.
        Raises `ManifestRefused` and `ObjectChanged`.
        """
        kind = manifest.get("kind") if isinstance(manifest, dict) else None
        if kind == "Deployment":
            return self._apply_deployment(manifest, resource_version)
        if kind == "Service":
            return await self._apply_service(manifest, resource_version)
        raise ManifestRefused("kind", f"{str(kind)[:80]!r} isn't understood by the local cluster")

    def _apply_deployment(self, manifest: object, resource_version: str | None) -> Json:
        spec = parse_deployment(manifest)
        live = self._deployments.get(spec.name)
        _check_version(spec.name, live, resource_version or spec.resource_version)
        if live is None:
            live = self._deployments[spec.name] = Deployment(spec, self.node)
        else:
            live.apply(spec)
        return live.manifest()

    async def _apply_service(self, manifest: object, resource_version: str | None) -> Json:
        spec = parse_service(manifest)
        live = self._services.get(spec.name)
        _check_version(spec.name, live, resource_version or spec.resource_version)
        if live is None:
            live = self._services[spec.name] = Service(spec, self.node, self.pods)
            await live.start()
        else:
            live.apply(spec)
        return live.manifest()

    async def wait(self, name: str, resource_version: str, timeout: float) -> str:  # noqa: ASYNC109 - part of the API
        """Return the version of the Deployment when it isn't `resource_version` (any more), or after `timeout` seconds.

        A Deployment's version also moves when one of its pods changes. Raises `ObjectUnknown`.
        """
        self.deployment(name)
        await self.node.changes.until(lambda: self.deployment(name).version != resource_version, timeout)
        return self.deployment(name).version

    def log_file(self, pod_name: str, container: str | None) -> Path:
        """The log of a container, also of a pod that is gone; raises `ObjectUnknown`."""
        for pod in self.pods():
            if pod.name == pod_name:
                try:
                    return pod.log_file(container)
                except KeyError:
                    raise ObjectUnknown(f'pods "{pod_name}" has no container {container!r}') from None
        known = {path.name: path for path in self.node.options.logs.glob("*.log")}
        wanted = [path for name, path in known.items() if name.rpartition("_")[0] == pod_name]
        chosen = [path for path in wanted if container in (None, path.stem.rpartition("_")[2])]
        if not chosen:
            raise ObjectUnknown(f'pods "{pod_name}" not found')
        return chosen[-1]


def _check_version(name: str, live: Deployment | Service | None, expected: str | None) -> None:
    if expected is None:
        return
    if live is None or live.version != expected:
        found = "it is gone" if live is None else f"it is {live.version} now"
        raise ObjectChanged(
            f'"{name}" was decided on at resourceVersion {expected}, and {found}: read it again, then decide anew'
        )
