"""Searches of each kind, and how good they are: step 4 of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_stack.demo import checks
from local_stack.demo.console import Console
from local_stack.demo.evaluation import evaluate, histogram_neighbors
from local_stack.demo.search import Search
from local_stack.demo.shop.products import Product
from local_stack.demo.shop.things import ROOM, THINGS


@dataclass(frozen=True, slots=True)
class Searching:
    """Searches one index, and checks and tells what is found. labels: of products whose names say what they are."""

    search: Search
    console: Console
    products: Mapping[str, Product]
    labels: Mapping[str, str]

    def each_way(self, item: str) -> None:
        """The most similar of one item: by its id, its vector and its picture."""
        search, product = self.search, self.products[item]
        k = min(5, search.status()["items"] - 1)
        by_item = search.similar(item, k)
        checks.answered(by_item, k, "item")
        by_vector = search.by_vector(search.vector(item), k)
        checks.answered(by_vector, k, "vector")
        checks.found_itself(by_vector, item, "vector")
        found = {"item": by_item, "vector": by_vector}
        if product["picture"].startswith("/"):
            picture = Path(product["picture"]).read_bytes()
            found["picture"] = search.by_picture(picture, k, product["category"])
            checks.found_itself(found["picture"], item, "picture")
        for way, neighbors in found.items():
            answer = ", ".join(f"{neighbor['id']} {neighbor['score']:.2f}" for neighbor in neighbors)
            self.console.note(f"by {way:8} {item}: {answer}")

    def in_a_room(self, photo: Path) -> None:
        """The things in a photo of a room, and the products that are most like each."""
        regions = self.search.things_in(photo.read_bytes(), 3)
        self.console.note(f"in a photo of a room with {', '.join(ROOM)}:")
        for region in regions:
            near = ", ".join(f"{neighbor['id']} {neighbor['score']:.2f}" for neighbor in region["neighbors"])
            self.console.note(f"    a thing of {region['category']} ({region['score']:.2f}): {near}")
        checks.found_things(regions, THINGS, self.labels)

    def measure(self) -> None:
        """How often the nearest products are of the same kind, beside what colours alone find."""
        labels, search = self.labels, self.search
        pictures = {item: Path(self.products[item]["picture"]) for item in labels}
        with self.console.bar() as advance:
            asked = iter(range(1, len(labels) + 1))

            def nearest(name: str) -> list[str]:
                advance("asking", next(asked), len(labels))
                return [neighbor["id"] for neighbor in search.similar(name, 200)]

            model = evaluate(labels, nearest)
        histogram = evaluate(labels, histogram_neighbors(pictures))
        for name, found in (("embeddings", model), ("colour histogram", histogram)):
            self.console.note(
                f"{name:16} precision@1 {found.precision_at_1:.2f}, precision@5 {found.precision_at_5:.2f} "
                f"(over {found.queries} products whose names say what they are)"
            )
        checks.beats_histogram(model, histogram)
