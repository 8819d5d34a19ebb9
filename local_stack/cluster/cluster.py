"""The cluster: the objects by name, and what may be done with them."""

from __future__ import annotations

import asyncio

from local_stack.cluster.deployment import Deployment
from local_stack.cluster.manifest import Json, ManifestRefused, read_manifest
from local_stack.cluster.node import Node
from local_stack.cluster.pod import Pod
from local_stack.cluster.service import Service
from model_repository.errors import PermanentError


class ObjectUnknown(PermanentError, code="object-unknown"):
    """There is no object of that name."""


class ObjectChanged(PermanentError, code="object-changed"):
    """The object isn't the one on which the write was decided."""


class Cluster:
    """All objects. Everything happens on the event loop of its thread."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.deployments: dict[str, Deployment] = {}
        self.services: dict[str, Service] = {}
        self._closing = False
        self._leaving: list[Deployment] = []
        """Deleted ones whose pods are still on their way out."""

    async def close(self, grace: float) -> None:
        """End all pods: SIGTERM, and SIGKILL after `grace` seconds. Nobody waits for a change any more."""
        self._closing = True
        self.node.next_version()
        for service in self.services.values():
            service.close()
        everything = (*self.deployments.values(), *self._leaving)
        await asyncio.gather(*(deployment.close(grace) for deployment in everything))

    def deployment(self, name: str) -> Deployment:
        """The Deployment; raises `ObjectUnknown`."""
        if name not in self.deployments:
            raise ObjectUnknown(f'deployments.apps "{name}" not found')
        return self.deployments[name]

    def service(self, name: str) -> Service:
        """The Service; raises `ObjectUnknown`."""
        if name not in self.services:
            raise ObjectUnknown(f'services "{name}" not found')
        return self.services[name]

    def delete(self, name: str, resource_version: str | None) -> Json:
        """Remove a Deployment at once, with the Services that it owns, and its pods with their own grace.

        Gives what it was.

        Raises `ObjectUnknown` and `ObjectChanged`.
        """
        live = self.deployment(name)
        _check_version(name, live, resource_version)
        found = live.manifest()
        del self.deployments[name]
        live.wind_down()
        for owned in [its for its, service in self.services.items() if service.is_owned_by(found["metadata"]["uid"])]:
            self.services.pop(owned).close()
        self._leaving = [deployment for deployment in self._leaving if deployment.pods] + [live]
        return found

    async def apply(self, manifest: object, resource_version: str | None) -> Json:
        """Server-side apply by our one field manager: what is there is replaced.

        resource_version: of the object on which this was decided; the manifest may carry it instead. None: unguarded.
        Raises `ManifestRefused` and `ObjectChanged`.
        """
        wanted = read_manifest(manifest)
        name, decided_on = wanted["metadata"]["name"], wanted["metadata"].pop("resourceVersion", None)
        live = (self.deployments if wanted["kind"] == "Deployment" else self.services).get(name)
        _check_version(name, live, resource_version or decided_on)
        if live is not None and wanted["metadata"]["namespace"] != live.namespace:
            there = f"the local cluster has one {name!r}, in {live.namespace!r}"
            raise ManifestRefused("metadata.namespace", there)
        if live is not None:
            live.apply(wanted)
        elif wanted["kind"] == "Deployment":
            live = self.deployments[name] = Deployment(wanted, self.node)
        else:
            live = self.services[name] = Service(wanted, self.node, self.pods)
            await live.start()
        return live.manifest()

    def pods(self) -> list[Pod]:
        """Every pod."""
        return [pod for deployment in self.deployments.values() for pod in deployment.pods]

    async def changes(self, since: int, timeout: float) -> tuple[int, list[str]]:  # noqa: ASYNC109 - part of the API
        """The newest version, and the Deployments that changed after the version `since`; waits for one to do so.

        A Deployment's version also moves when one of its pods changes.
        """

        def changed() -> list[str]:
            return [name for name, live in self.deployments.items() if int(live.version) > since]

        await self.node.until(lambda: self._closing or bool(changed()), timeout)
        return max([since, *(int(live.version) for live in self.deployments.values())]), changed()


def _check_version(name: str, live: Deployment | Service | None, expected: str | None) -> None:
    if expected is not None and (live is None or live.version != expected):
        found = "it is gone" if live is None else f"it is {live.version} now"
        raise ObjectChanged(
            f'"{name}" was decided on at resourceVersion {expected}, and {found}: read it again, then decide anew'
        )
