"""What a photo is answered: all of it, a box of it, or each thing that the build's detector finds in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from search_server.build.detector import BuildDetector
from search_server.build.index import MappedIndex, check_one_space
from search_server.build.model import Model
from search_server.build.partitions import Neighbors, Partition
from search_server.errors import NoModel, ParameterRefused
from search_server.http.requests import PhotoQuery
from search_server.http.responses import neighbors_json, region_json, search_json
from search_server.pictures.client import PictureClient
from search_server.queries.searches import Gone, Searches


@dataclass(frozen=True, slots=True)
class Opened:
    """A build that has proved itself. models: in the order of its manifest. detector: None: photos are taken whole."""

    index: MappedIndex
    models: tuple[Model, ...]
    detector: BuildDetector | None
    pictures: PictureClient
    searches: Searches


class PhotoSearch:
    """Answers one photo. gone: whether nobody waits for it any more."""

    def __init__(self, opened: Opened, asked: PhotoQuery, gone: Gone) -> None:
        """Raises `ParameterRefused` or `NoModel` for what this build can't be asked."""
        self._opened, self._asked, self._gone = opened, asked, gone
        self._partitions = opened.index.select(asked.category)
        self._detector = _detector(opened, asked)
        self._model = _model(opened, asked, self._partitions, self._detector)

    def pieces(self, generation: int, picture: bytes) -> AsyncGenerator[bytes, None]:
        """The answer about an encoded picture, in JSON.

        Raises, before the first piece, what `PictureClient` does, `ParameterRefused` or `Overloaded`; at any time
        `ClientGone`.
        """
        if self._detector is not None:
            return self._detected(self._detector, generation, picture)
        return self._whole_or_box(generation, picture)

    async def _detected(self, detector: BuildDetector, generation: int, picture: bytes) -> AsyncGenerator[bytes, None]:
        opened, asked = self._opened, self._asked
        regions, whole = await opened.pictures.detect(
            detector, opened.models, picture, asked.category, self._model, gone=self._gone
        )
        select = opened.index.select
        opened.searches.long.check(sum(opened.index.cost(select(region.category), asked.k) for region in regions))
        before = b'{"generation":%d,"regions":[' % generation
        for number, region in enumerate(regions):
            near = await self._nearest(region.vector, select(region.category), begun=number > 0)
            yield before + region_json(region.box, region.category, region.score, near)
            before = b","
        near = await self._nearest(whole, self._partitions) if whole else Neighbors([], [], [])
        yield (b"" if regions else before) + b'],"neighbors":%b}' % neighbors_json(near)

    async def _whole_or_box(self, generation: int, picture: bytes) -> AsyncGenerator[bytes, None]:
        if self._model is None:
            raise NoModel
        vector = await self._opened.pictures.embed(self._model, picture, self._asked.box, gone=self._gone)
        yield search_json(generation, await self._nearest(vector, self._partitions))

    async def _nearest(
        self, vector: Sequence[float], partitions: Sequence[Partition], *, begun: bool = False
    ) -> Neighbors:
        searches, asked = self._opened.searches, self._asked
        partitions = await searches.restricted(partitions, asked.restriction, self._gone)
        return await searches.nearest(vector, asked.k, partitions, self._gone, begun=begun)


def _detector(opened: Opened, asked: PhotoQuery) -> BuildDetector | None:
    """What is to look at the photo first."""
    if asked.detect and opened.detector is None:
        raise ParameterRefused("detect=true: this index has no detector; leave it out")
    return opened.detector if asked.detect is not False and asked.box is None else None


def _model(
    opened: Opened, asked: PhotoQuery, partitions: Sequence[Partition], detector: BuildDetector | None
) -> Model | None:
    """What embeds all of the photo, or the box; None, where things are detected first: there is no one model."""
    if detector is not None and asked.category is None and len({each.space for each in partitions}) > 1:
        return None
    model, _ = check_one_space(partitions)
    if model is None:
        raise NoModel
    return opened.models[model]
