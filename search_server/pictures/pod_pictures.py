"""What answers a pod's questions about pictures, put together: what is remembered, what embeds elsewhere, or here."""

from __future__ import annotations

from functools import partial

from model_repository.telemetry.log import Log
from search_server.config import Config
from search_server.pictures.door import PictureDoor
from search_server.pictures.processes import PictureProcesses
from search_server.pictures.remembered import RememberedPictures
from search_server.processes.pod import PodState


class PodPictures:
    """A door, and all that is behind it. file: the descriptor of the door, which a worker inherits."""

    def __init__(self, config: Config, pod: PodState, log: Log) -> None:
        """Start nothing yet. What few pods need is loaded where it is asked for: each brings a library of its own."""
        self._processes = PictureProcesses(log, queue=config.limits.pictures)
        self._shared = self._remote = None
        if config.cache_url:
            from search_server.pictures.redis_cache import RedisCache  # noqa: PLC0415

            self._shared = RedisCache(config.cache_url, pod, log)
        if config.embedding_url:
            from search_server.remote.embedding import RemoteEmbedding  # noqa: PLC0415
            from search_server.remote.golden import provable_models  # noqa: PLC0415
            from search_server.remote.ways import ways_to  # noqa: PLC0415

            models = partial(provable_models, config.data, config.prefix, config.digest, config.embedding_model)
            self._remote = RemoteEmbedding(self._processes, ways_to(config.embedding_url), models, pod, log)
        embeds = self._remote or self._processes
        self._door = PictureDoor(RememberedPictures(embeds, pod, self._shared))
        self.file = self._door.file

    def open(self) -> None:
        """Let in who comes, on the running event loop."""
        self._door.open()
        for each in (self._shared, self._remote):
            if each:
                each.begin()

    async def close(self) -> None:
        """End what is under way at once."""
        self._door.close()
        self._processes.close()
        for each in (self._shared, self._remote):
            if each:
                await each.close()
