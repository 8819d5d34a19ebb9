"""Photos that were embedded are remembered: in the pod, and where there is one in a cache that pods share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from model_repository.resources.serving import REMEMBERED_BYTES
from search_server.pictures.answers import fits, name_of, sealed, unsealed
from search_server.pictures.messages import Answer, Question
from search_server.processes.pod import PodState

Picture = Callable[[], Awaitable[bytes]]
"""Asks for the bytes of a picture, when its turn comes."""

_ENTRY_BYTES: Final = 300
"""What keeping one answer costs besides its own bytes."""


class Embeds(Protocol):
    """Whatever answers questions about pictures."""

    async def embed(self, question: Question, picture: Picture) -> Answer:
        """Return the answer to a question; see `PictureProcesses.embed`."""


class SharedCache(Protocol):
    """What other pods remember too; see `redis_cache`."""

    async def get(self, name: bytes) -> bytes | None:
        """Return what is kept under a name; None, soon, if there is nothing or nobody to ask. Raises nothing."""

    def put(self, name: bytes, value: bytes) -> None:
        """Have it kept, some time, if somebody can. Raises nothing."""


class RecentAnswers:
    """The answers that were of use last, as many as so many bytes hold."""

    def __init__(self, limit: int = REMEMBERED_BYTES) -> None:
        self._limit = limit
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()
        self.bytes = 0

    def get(self, name: bytes) -> Answer | None:
        """Return an answer, which then is the last that was of use."""
        answer = self._answers.get(name)
        if answer is not None:
            self._answers.move_to_end(name)
        return answer

    def put(self, name: bytes, answer: Answer) -> None:
        """Keep an answer; those go that were of no use for the longest time."""
        self._drop(name)
        self._answers[name] = answer
        self.bytes += _cost(answer)
        while self.bytes > self._limit:
            self._drop(next(iter(self._answers)))

    def _drop(self, name: bytes) -> None:
        answer = self._answers.pop(name, None)
        if answer is not None:
            self.bytes -= _cost(answer)


def _cost(answer: Answer) -> int:
    return _ENTRY_BYTES + len(answer[1])


class _Meanwhile(Exception):
    """Somebody else's same photo was answered while this one waited for its turn."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class RememberedPictures:
    """Answers what was answered before; whatever else is asked for.

    Only vectors and regions are remembered: a refusal may depend on how much a picture may cost today. A golden image
    never is: it is to prove whoever embeds.
    """

    def __init__(self, pictures: Embeds, pod: PodState, shared: SharedCache | None = None) -> None:
        """Ask `pictures` for what is new. pod: where is counted."""
        self._pictures = pictures
        self._pod = pod
        self._shared = shared
        self._own = RecentAnswers()

    async def answer(self, question: Question, photo: bytes, picture: Picture) -> Answer:
        """Return the answer about a picture. photo: its sha256; empty: not to be remembered.

        Raises what `picture` raises.
        """
        name = name_of(question, photo)
        if name is None:
            return await self._pictures.embed(question, picture)
        return await self._remembered(name, question) or await self._embedded(name, question, picture)

    async def _remembered(self, name: bytes, question: Question) -> Answer | None:
        pod = self._pod
        answer = self._own.get(name)
        if answer is not None:
            pod.remembered_here += 1
            return answer
        pod.unknown_here += 1
        kept = await self._shared.get(name) if self._shared else None
        if kept is None:
            return None
        answer = unsealed(name, question, kept)
        if answer is None:
            pod.garbled += 1
            return None
        self._keep(name, answer)
        return answer

    async def _embedded(self, name: bytes, question: Question, picture: Picture) -> Answer:
        async def unless_answered_meanwhile() -> bytes:
            if (answer := self._own.get(name)) is not None:
                raise _Meanwhile(answer)
            return await picture()

        try:
            answer = await self._pictures.embed(question, unless_answered_meanwhile)
        except _Meanwhile as meanwhile:
            return meanwhile.answer
        if fits(question, answer):
            self._keep(name, answer)
            if self._shared:
                self._shared.put(name, sealed(name, answer))
        return answer

    def _keep(self, name: bytes, answer: Answer) -> None:
        self._own.put(name, answer)
        self._pod.remembered_bytes = self._own.bytes
