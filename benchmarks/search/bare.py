"""A build that is searched with nothing around it: what a server adds its costs to."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import merge
from itertools import islice
from pathlib import Path

from benchmarks.made_index import FILES, item_id
from model_repository.documents.index_manifest import IndexManifest, parse_index_manifest
from model_repository.names import IndexPrefix
from vector_index import open_index


class Bare:
    """The parts of a build. Items are numbers, from 0."""

    def __init__(self, data: Path, manifest: IndexManifest) -> None:
        """Map the files below `data`; raises `IndexFileUnsound`."""
        self._parts = []
        self._starts = []
        self.items = 0
        for said in manifest.partitions:
            how = {"dimensions": said.dimensions, "items": said.items}
            self._parts.append((open_index(data / FILES / said.file, said.engine, said.storage, **how), said))
            self._starts.append(self.items)
            self.items += said.items

    def similar(self, item: int, k: int) -> list[tuple[float, int]]:
        """Angular distances and numbers of the `k` items most similar to one, nearest first, without itself."""
        home = max(part for part, start in enumerate(self._starts) if start <= item)
        position = item - self._starts[home]
        vector = self._parts[home][0].vector(position) if len(self._parts) > 1 else []
        each = []
        for part, (index, said) in enumerate(self._parts):
            start, width = self._starts[part], said.width_for(k)
            found = index.nearest_to(position, k + 1, width) if part == home else index.nearest(vector, k, width)
            each.append([(d, start + n) for n, d in zip(*found, strict=True) if start + n != item])
        return each[0][:k] if len(each) == 1 else list(islice(merge(*each), k))


class Peer:
    """What a peer answers with: the ids in a dict, nothing checked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Open the build that DATA and INDEX_PREFIX name, as the search server's own variables do."""
        data = Path(environment["DATA"])
        described = (data / FILES / "index.json").read_bytes()
        self._bare = Bare(data, parse_index_manifest(described, IndexPrefix.parse(environment["INDEX_PREFIX"])))
        self._ids = [item_id(number) for number in range(self._bare.items)]
        self._numbers = {item: number for number, item in enumerate(self._ids)}

    def similar(self, item: str, k: int) -> dict[str, object]:
        """The search server's answer."""
        found = [
            {"id": self._ids[number], "category": "all", "score": 1 - distance * distance / 2, "distance": distance}
            for distance, number in self._bare.similar(self._numbers[item], k)
        ]
        return {"item": item, "category": "all", "generation": 1, "neighbors": found}
