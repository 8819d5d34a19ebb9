"""Pictures are decoded by the pod's own process, and embedded elsewhere, by a pool of servers that has proved itself.

The pool may be away, slow, or another one tomorrow. Each model is proved by its golden images before any photo is sent,
again every few seconds, and after whatever went wrong; while it isn't proved, photos are refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from model_repository.documents.model_manifest import Layout, PixelType
from model_repository.errors import PermanentError
from model_repository.resources.serving import PIXELS_BYTES
from model_repository.telemetry.log import Log
from search_server.pictures.messages import (
    AWAY,
    OVERLOADED,
    PIXEL_REGIONS,
    PIXELS,
    REGION,
    REGIONS,
    UNREADABLE,
    VECTOR,
    Answer,
    Detect,
    Embed,
    ModelFile,
    Prove,
    Question,
)
from search_server.pictures.remembered import Embeds, Picture
from search_server.processes.pod import PodState
from search_server.remote.golden import Golden, ProvableModel, check_same
from search_server.remote.inference import (
    FP32,
    UINT8,
    Inference,
    RemoteAway,
    RemoteModel,
    RemoteNotFinite,
    RemoteUnfit,
    Tensor,
    floats,
    normalised,
)

_REQUESTS: Final = 16
"""Most to the pool at one time."""
_PROOF_SECONDS: Final = 15.0
"""Between two proofs of a pool that is well."""
_LOOK_SECONDS: Final = 2.0
"""Between two looks at one that isn't."""
_PATIENCE_SECONDS: Final = 0.05
"""Until a golden image is brought again to a queue that was full."""
_FAILURES: Final = 3
"""In a row, after which no photo asks until the pool was proved again: one may be an accident."""
_DEFAULT_INPUT: Final = "images"
"""For servers that don't say what their model's input is called."""


@dataclass(frozen=True, slots=True)
class _Proved:
    """A model that may be asked, and how. input, output: their names; an empty output: the first."""

    inference: Inference
    input: str
    output: str


class _NothingButZeros(Exception):
    """The vector of a picture has no direction."""


class RemoteEmbedding:
    """Answers questions about pictures by models that are elsewhere."""

    def __init__(
        self,
        pictures: Embeds,
        ways: Sequence[Inference],
        models: Callable[[], Sequence[ProvableModel]],
        pod: PodState,
        log: Log,
        *,
        proof_seconds: float = _PROOF_SECONDS,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        """Ask nobody before `begin`.

        pictures: what decodes, and detects. ways: to speak with the pool; the first that proves a model is taken.
        models: reads them from the build. pod: where is counted.
        """
        self._pictures = pictures
        self._ways: Sequence[Inference] = ways
        self._models = models
        self._pod = pod
        self._log = log
        self._proof_seconds = proof_seconds
        self._look_seconds = look_seconds
        self._proved: Mapping[str, _Proved] = {}
        self._provable: Sequence[ProvableModel] = ()
        self._names: dict[str, RemoteModel] = {}
        self._why = "it has not proved itself yet"
        self._failures = 0
        self._look = asyncio.Event()
        self._room = _Room(PIXELS_BYTES)
        self._requests = asyncio.Semaphore(_REQUESTS)
        self._proving: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Prove the pool, now and ever again, on the running event loop."""
        self._proving = asyncio.ensure_future(self._keep_proved())

    async def close(self) -> None:
        """Leave at once."""
        if self._proving:
            self._proving.cancel()
        for way in self._ways:
            await way.close()

    # photos

    async def embed(self, question: Question, picture: Picture) -> Answer:
        """Return the answer to a question; AWAY where the pool can't be asked. Raises what `picture` raises."""
        match question:
            case Prove():
                return await self._pictures.embed(question, picture)
            case Embed():
                here: Question = replace(question, model=_elsewhere(question.model))
                models = [question.model]
            case Detect():
                its = {category: _elsewhere(model) for category, model in question.models.items()}
                whole = _elsewhere(question.whole) if question.whole else None
                here = replace(question, models=its, whole=whole)
                models = [*question.models.values(), *([question.whole] if question.whole else [])]
        if any(model.digest not in self._proved for model in models):
            return self._away(self._why)
        return await self._embed(question, here, picture)

    async def _embed(self, question: Embed | Detect, here: Question, picture: Picture) -> Answer:
        with self._room.turn() as enter:

            async def when_there_is_room() -> bytes:
                await enter(here.longest)
                return await picture()

            kind, said = await self._pictures.embed(here, when_there_is_room)
            try:
                return await self._with_vectors(question, kind, said)
            except _NothingButZeros:  # not the pool's fault: the same model gives the same here
                return UNREADABLE, b"the model gave nothing but zeros for the picture"
            except RemoteAway as error:
                self._note_failure(str(error))
                return self._away(str(error))
            except RemoteNotFinite as error:  # the picture's fault or the pool's: its golden images tell, soon
                self._look.set()
                return self._away(str(error))
            except RemoteUnfit as error:
                self._distrust(str(error))
                return self._away(str(error))

    async def _with_vectors(self, question: Embed | Detect, kind: int, said: bytes) -> Answer:
        """Return an answer with what the models make of the pixels in it, if it has any."""
        if kind == PIXEL_REGIONS and isinstance(question, Detect):
            return REGIONS, await self._infer_regions(question, said)
        model = question.model if isinstance(question, Embed) else question.whole
        if kind == PIXELS and model:
            return VECTOR, await self._infer(model, said)
        return kind, said

    async def _infer_regions(self, question: Detect, said: bytes) -> bytes:
        heads, asked, at = [], [], 0
        while at < len(said):
            number = REGION.unpack_from(said, at)[0]
            model = question.models[question.categories[question.detector.classes[number]]]
            heads.append(said[at : at + REGION.size])
            at += REGION.size
            end = at + _pixels_bytes(model)
            asked.append(self._infer(model, said[at:end]))
            at = end
        vectors = await asyncio.gather(*asked)
        return b"".join(head + vector for head, vector in zip(heads, vectors, strict=True))

    async def _infer(self, model: ModelFile, pixels: bytes) -> bytes:
        proved = self._proved.get(model.digest)
        if proved is None:
            raise RemoteAway(self._why)
        async with self._requests:
            tensor = _tensor(model, proved.input, pixels)
            numbers = await proved.inference.infer(self._names[model.digest], tensor, proved.output)
        vector = normalised(numbers, model.dimensions, already=model.normalised)
        self._failures = 0
        if not any(floats(vector)):
            raise _NothingButZeros
        return vector

    def _away(self, why: str) -> Answer:
        self._pod.remote_refusals += 1
        return AWAY, f"photos can't be embedded now: {why}; try again in a few seconds".encode()

    # whether the pool may be asked

    def _note_failure(self, why: str) -> None:
        self._failures += 1
        self._pod.remote_failures += 1
        if self._failures >= _FAILURES:
            self._distrust(why)

    def _distrust(self, why: str) -> None:
        """Send no photo until all models were proved again."""
        self._why = why
        if self._proved:
            self._log.warning(f"EMBEDDING_URL: {why}; no photo is sent there until it has proved itself again")
        self._proved = {}
        self._pod.remote_proved = 0
        self._look.set()

    async def _keep_proved(self) -> None:
        told = ""
        while True:
            self._look.clear()
            try:
                self._provable = self._provable or await asyncio.to_thread(self._models)
                proved = await self._prove_all(self._provable)
            except Exception as error:  # noqa: BLE001 - whatever it is: without this task no photo is ever embedded again
                known = isinstance(error, RemoteAway | RemoteUnfit | OSError | PermanentError)
                why = str(error) if known else repr(error)
                self._distrust(why)
                if why != told:
                    told = why
                    self._log.warning(f"EMBEDDING_URL: not proved: {why}")
                await asyncio.sleep(self._look_seconds)
                continue
            if not self._proved:
                self._log.info("EMBEDDING_URL: proved itself", models=[str(name) for name in self._names.values()])
            told, self._failures = "", 0
            self._proved, self._pod.remote_proved = proved, 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._proof_seconds):
                    await self._look.wait()
                    await asyncio.sleep(self._look_seconds)

    async def _prove_all(self, models: Sequence[ProvableModel]) -> Mapping[str, _Proved]:
        """Return how each model may be asked; raises `RemoteAway` or `RemoteUnfit` for the first that may not."""
        self._names = {model.digest: model.name for model in models}
        return {model.digest: await self._prove(model) for model in models}

    async def _prove(self, model: ProvableModel) -> _Proved:
        problems: list[RemoteAway | RemoteUnfit] = []
        for way in self._ways:
            try:
                proved = await self._prove_way(way, model)
            except (RemoteAway, RemoteUnfit) as error:  # MLServer answers 500 to a form that it doesn't know
                problems.append(error)
            else:
                self._ways = sorted(self._ways, key=lambda each: each is not way)  # the first to be tried next time
                return proved
        raise problems[-1] if problems else RemoteUnfit("there is no way to ask")

    async def _prove_way(self, way: Inference, model: ProvableModel) -> _Proved:
        name, file = model.name, _file(model)
        said = await way.describe(name)
        if len(said.inputs) > 1:
            raise RemoteUnfit(f"{name} takes {len(said.inputs)} inputs, not one")
        inputs, outputs = said.inputs or ((_DEFAULT_INPUT, ""),), said.outputs or (("", ""),)
        proved = _Proved(way, inputs[0][0], outputs[0][0])
        for golden in model.golden_images():
            pixels = await self._pixels(model, golden)
            async with self._requests:
                numbers = await way.infer(name, _tensor(file, proved.input, pixels), proved.output)
            vector = floats(normalised(numbers, file.dimensions, already=file.normalised))
            check_same(golden, vector, model.manifest.least_cosine)
        return proved

    async def _pixels(self, model: ProvableModel, golden: Golden) -> bytes:
        """What the model takes of a golden image; raises `RemoteAway` where it can't be had now."""

        async def picture() -> bytes:
            return golden.picture

        question = Embed(_file(model))
        while True:
            kind, said = await self._pictures.embed(question, picture)
            if kind != OVERLOADED:  # that photos wait here says nothing of the pool
                break
            await asyncio.sleep(_PATIENCE_SECONDS)
        if kind != PIXELS:
            raise RemoteAway(f"golden image {golden.name!r}: {said[:300].decode(errors='replace')}")
        return said


class _Room:
    """So many bytes of what models take are in memory at one time; whoever comes then waits."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._less = asyncio.Event()

    @contextlib.contextmanager
    def turn(self) -> Iterator[Callable[[int], Awaitable[None]]]:
        """Give a way in, for so many bytes, which are free again at the end."""
        mine = 0

        async def enter(size: int) -> None:
            nonlocal mine
            while self._held and self._held + size > self._limit:
                self._less.clear()
                await self._less.wait()
            mine = size
            self._held += size

        try:
            yield enter
        finally:
            self._held -= mine
            self._less.set()


def _file(model: ProvableModel) -> ModelFile:
    manifest = model.manifest
    path = str(model.folder / manifest.file)
    return ModelFile(path, manifest.input, manifest.normalised, model.digest, manifest.dimensions, elsewhere=True)


def _elsewhere(model: ModelFile) -> ModelFile:
    return replace(model, elsewhere=True)


def _shape(model: ModelFile) -> tuple[int, ...]:
    edge = model.takes.size
    return (1, 3, edge, edge) if model.takes.layout is Layout.NCHW else (1, edge, edge, 3)


def _pixels_bytes(model: ModelFile) -> int:
    return math.prod(_shape(model)) * (4 if model.takes.dtype is PixelType.FLOAT32 else 1)


def _tensor(model: ModelFile, name: str, pixels: bytes) -> Tensor:
    datatype = FP32 if model.takes.dtype is PixelType.FLOAT32 else UINT8
    return Tensor(name, datatype, _shape(model), pixels)
