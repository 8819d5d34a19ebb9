"""A caller of the search server: by item, by picture, by vector."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote, urlsplit

from local_stack.demo.checks import Misbehaved

_PATIENCE_SECONDS = 30.0


class Search:
    """Asks the Service at `url`, over one connection while its pod lets it."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_SECONDS)

    def status(self) -> dict[str, Any]:
        """What is served."""
        return self._ask("/v1/status")

    def similar(self, item: str, k: int) -> list[dict[str, Any]]:
        """The `k` items most similar to an indexed one, without it."""
        return list(self._ask(f"/v1/items/{quote(item, safe='')}/similar?k={k}")["neighbors"])

    def by_picture(self, picture: bytes, k: int, category: str | None = None) -> list[dict[str, Any]]:
        """The `k` items, of a category or of all, most similar to the best thing that is found in an encoded picture.

        Where nothing is found, or the build has no detector, to all of it.
        """
        within = f"&category={quote(category, safe='')}" if category else ""
        found = self._ask(f"/v1/search?k={k}{within}", picture, "image/jpeg")
        regions = found.get("regions")
        return list(regions[0]["neighbors"] if regions else found["neighbors"])

    def things_in(self, picture: bytes, k: int) -> list[dict[str, Any]]:
        """What the build's detector finds in an encoded picture, best first: box, category, score, `k` neighbors."""
        return list(self._ask(f"/v1/search?detect=true&k={k}", picture, "image/jpeg")["regions"])

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
        headers = {"Content-Type": kind} if kind else {}
        self._connection.request("POST" if body else "GET", path, body, headers)
        answer = self._connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        if answer.status != http.HTTPStatus.OK:
            raise Misbehaved(f"{path} should be answered, but was with {answer.status}: {found}")
        return found
