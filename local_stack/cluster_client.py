"""What the rest of the stack asks of the cluster, over its HTTP API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode

from local_stack.cluster.service import ADDRESS

_NOT_FOUND = 404


class ClusterClient:
    """Reads from the cluster at `url`. Objects are Kubernetes-shaped dicts; OSError when it doesn't answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def deployment(self, name: str) -> dict[str, Any] | None:
        """The Deployment, or None."""
        return self._object(f"/deployments/{quote(name)}")

    def pods(self, name: str) -> list[dict[str, Any]]:
        """The pods of a Deployment, those that are leaving included; none if there is no such Deployment."""
        return list((self._object(f"/deployments/{quote(name)}/pods") or {"items": []})["items"])

    def service_url(self, name: str) -> str | None:
        """Where the Service answers (http://127.0.0.1:port) for as long as the cluster runs; None: no such Service."""
        service = self._object(f"/services/{quote(name)}")
        return None if service is None else f"http://{service['metadata']['annotations'][ADDRESS]}"

    def events(self, deployment: str) -> list[dict[str, Any]]:
        """What happened to its pods, oldest first.

        Each has time (seconds since the epoch), pod, reason (PodCreated, Started, Ended, Ready, Killing, Gone) and,
        where it is about one, container and exitCode.
        """
        return list(json.loads(self._get(f"/events?{urlencode({'deployment': deployment})}"))["items"])

    def logs(self, pod: str, container: str | None = None) -> str:
        """What a container printed, also when its pod is gone; empty if there never was one."""
        query = f"?{urlencode({'container': container})}" if container else ""
        try:
            return self._get(f"/pods/{quote(pod)}/logs{query}").decode(errors="replace")
        except urllib.error.HTTPError as error:
            if error.code == _NOT_FOUND:
                return ""
            raise

    def _object(self, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._get(path))
        except urllib.error.HTTPError as error:
            if error.code == _NOT_FOUND:
                return None
            raise
        return found

    def _get(self, path: str) -> bytes:
        with self._opener.open(f"{self.url}{path}", timeout=10.0) as answer:
            return bytes(answer.read())
