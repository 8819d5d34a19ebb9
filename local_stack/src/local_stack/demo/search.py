"""A caller of the search server: by item, by picture, by vector."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import quote


class Search:
    """Asks the Service at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def status(self) -> dict[str, Any]:
        """What is served."""
        return self._ask("/v1/status")

    def similar(self, item: str, k: int) -> list[dict[str, Any]]:
        """The `k` items most similar to an indexed one, without it."""
        return list(self._ask(f"/v1/items/{quote(item, safe='')}/similar?k={k}")["neighbors"])

    def by_picture(self, picture: bytes, k: int) -> list[dict[str, Any]]:
        """The `k` items most similar to an encoded picture."""
        return list(self._ask(f"/v1/search?k={k}", picture, "image/jpeg")["neighbors"])

    def vector(self, item: str) -> list[float]:
        """The embedding of an indexed item."""
        query = {"datapoint": {"datapointId": item}, "neighborCount": 1}
        body = {"queries": [query], "returnFullDatapoint": True}
        found = self._ask("/v1/findNeighbors", json.dumps(body).encode(), "application/json")
        return list(found["nearestNeighbors"][0]["neighbors"][0]["datapoint"]["featureVector"])

    def by_vector(self, vector: list[float], k: int) -> list[dict[str, Any]]:
        """The `k` items nearest to a vector, in Vertex AI Vector Search's form (distance: 1 - cosine)."""
        body = {"queries": [{"datapoint": {"featureVector": vector}, "neighborCount": k}]}
        found = self._ask("/v1/findNeighbors", json.dumps(body).encode(), "application/json")
        return [
            {"id": neighbor["datapoint"]["datapointId"], "score": 1.0 - neighbor["distance"]}
            for neighbor in found["nearestNeighbors"][0]["neighbors"]
        ]

    def _ask(self, path: str, body: bytes | None = None, kind: str = "") -> dict[str, Any]:
        request = urllib.request.Request(f"{self._url}{path}", data=body)  # noqa: S310 - our own server, by http
        if kind:
            request.add_header("Content-Type", kind)
        with self._opener.open(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
