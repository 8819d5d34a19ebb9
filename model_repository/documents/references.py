"""What a build refers to: its models, its detector and its tags, complete for whoever checks and pulls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from model_repository.digests import check_sha256
from model_repository.documents.files import FileName, Files, check_listed, format_files
from model_repository.documents.model_manifest import BY_PILLOW, ON_CPU
from model_repository.fields import Fields
from model_repository.names import ModelPrefix
from model_repository.records import Bound, Share, written

MOST_DIMENSIONS = 65536
_MANY = 10_000

Digest = Annotated[str, Bound(parse=check_sha256)]
Dimensions = Annotated[int, Bound(1, MOST_DIMENSIONS)]


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model that a build was made with, complete: whoever holds index.json can check and pull it.

    digest: sha256 of the bytes of model.json. dimensions: of what it makes, as model.json says.
    files: every object of the model's folder, model.json included.
    device, decode: what made the items' vectors: ``cpu`` or ``cuda``; ``pillow``, or ``nvjpeg`` where that decoded.
    """

    prefix: ModelPrefix
    digest: Digest
    dimensions: Dimensions
    files: Files
    device: Annotated[str, Bound(longest=40)] = ON_CPU
    decode: Annotated[str, Bound(longest=40)] = BY_PILLOW

    def check(self, fields: Fields) -> None:
        """Refuse one without its model.json."""
        check_listed(fields, self.files, "model.json")


@dataclass(frozen=True, slots=True)
class DetectorReference:
    """The detector that pictures were cut with, complete, as a model is.

    digest, files: see `ModelReference`. categories: the category of the index that things of a class belong to, for
    each class of the detector that has one. least_score: of a region, 0 to 1, to be taken for such a thing.
    """

    prefix: ModelPrefix
    digest: Digest
    files: Files
    categories: Annotated[Mapping[str, str], Bound(entries=_MANY)]
    least_score: Share

    def check(self, fields: Fields) -> None:
        """Refuse one without its model.json, or that finds nothing."""
        check_listed(fields, self.files, "model.json")
        if not self.categories:
            fields.refuse("categories: at least one class needs one")

    def classes_of(self, category: str) -> frozenset[str]:
        """The classes whose things belong to a category."""
        return frozenset(name for name, its in self.categories.items() if its == category)


@dataclass(frozen=True, slots=True)
class TagsReference:
    """What items are tagged with. file: see `item_tags`. names: of its tags, ascending."""

    file: FileName
    names: Annotated[tuple[str, ...], Bound(entries=_MANY, longest=40)]

    def check(self, fields: Fields) -> None:
        """Refuse tags that nothing has."""
        if not self.names:
            fields.refuse("names: at least one is needed")


def format_detector(detector: DetectorReference) -> dict[str, Any]:
    """Write what an index.json says of its detector."""
    its = {"files": format_files(detector.files), "categories": dict(sorted(detector.categories.items()))}
    return written(detector, *its) | its
