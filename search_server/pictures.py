"""Pictures wait for the model in a short queue, off the event loop, so that they can't slow the searches down."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from http_limits.refusals import Overloaded
from image_embedder import PictureUnreadable
from search_server.build.model import Model
from search_server.errors import ImageUnreadable


class PictureQueue:
    """Embeds one picture at a time and lets a few wait; whoever comes then is asked to come back."""

    def __init__(self, longest: int) -> None:
        """At most `longest` pictures are waiting or being embedded."""
        self._longest = longest
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self.length = 0

    async def embed(self, model: Model, picture: bytes) -> list[float]:
        """What the model makes of an encoded picture; raises `Overloaded` or `ImageUnreadable`."""
        if self.length >= self._longest:
            raise Overloaded(f"{self.length} pictures are waiting already; try again in a second")
        self.length += 1
        try:
            vector = await asyncio.get_running_loop().run_in_executor(self._thread, model.embed, picture)
        except PictureUnreadable as error:
            raise ImageUnreadable(str(error)) from None
        finally:
            self.length -= 1
        values: list[float] = vector.tolist()
        return values
