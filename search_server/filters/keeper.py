"""Keeps the live filter in force: fetches it when it is told of one, and has all workers map what it means here.

All work is other programs': the puller's way to the bucket, and numpy. The supervisor's loop only waits for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from model_repository.errors import TransientError
from model_repository.exit_codes import ExitCode
from model_repository.telemetry.log import Log
from search_server.config import Config
from search_server.processes.pod import PodState

_AGAIN_SECONDS = 2.0
"""Between tries at the start, where a pod isn't ready without the filter."""
_SECONDS = 60.0
"""For each program."""
_SWAP_SECONDS = 10.0
_POLL_SECONDS = 0.02


def folder_of(supervisor: int) -> Path:
    """Where a pod keeps its filter, by the process id of its supervisor."""
    return Path(tempfile.gettempdir()) / f"filters-{supervisor}"


def masks_file(folder: Path, number: int) -> Path:
    """The file of the masks that `PodState.filter` numbers; none is there where everything may be found."""
    return folder / f"{number}.masks"


class FilterUnavailable(TransientError, code="filter-unavailable"):
    """The live filter couldn't be fetched, or not all workers have it in force yet; the one before goes on."""


class FilterKeeper:
    """The filter of one pod. generation: of that in force, 0 for none."""

    def __init__(self, config: Config, pod: PodState, log: Log) -> None:
        """Fetch nothing yet."""
        self.generation = 0
        self.folder = folder_of(os.getpid())
        shutil.rmtree(self.folder, ignore_errors=True)  # of a container before this one in the same pod
        self.folder.mkdir()
        self._config, self._pod, self._log = config, pod, log
        self._one_at_a_time = asyncio.Lock()

    async def begin(self) -> None:
        """Read the live filter before the pod is ready, however often that must be tried."""
        while self._config.filter:
            try:
                await self._look("--or-last-good")
                break
            except (FilterUnavailable, OSError, ValueError) as error:
                self._log.warning(f"not ready without the filter: {error}", code=FilterUnavailable.code)
                await asyncio.sleep(_AGAIN_SECONDS)
        self._pod.filter_read = 1

    async def refresh(self, told: int) -> int:
        """Have the live filter in force; returns its generation. told: of the one that is said to be live, or 0.

        Raises `FilterUnavailable`; then the one before goes on.
        """
        if not self._config.filter:
            return 0
        async with self._one_at_a_time:
            if told and told == self.generation:
                return told
            return await self._look()

    async def _look(self, *options: str) -> int:
        said = await self._run("init_container.live_filter", str(self.folder), *options)
        found = json.loads(said)
        generation = int(found["generation"])
        if generation != self.generation:
            await self._put_in_force(generation)
            self._log.info("filter in force", filter=generation, hidden=found["hidden"])
        return generation

    async def _put_in_force(self, generation: int) -> None:
        masks = masks_file(self.folder, self._pod.filter + 1)
        if generation:
            hidden = self.folder / f"{generation}.hidden"
            arguments = (self._config.data / "index", self._config.prefix, hidden, generation, masks)
            await self._run("search_server.filters.masks", *map(str, arguments))
            hidden.unlink(missing_ok=True)
        self._pod.filter += 1
        for _ in range(int(_SWAP_SECONDS / _POLL_SECONDS)):
            if all(worker.filter == self._pod.filter for worker in self._pod.workers if worker.ready):
                break
            await asyncio.sleep(_POLL_SECONDS)
        else:
            raise FilterUnavailable("a worker doesn't map it; it is taken up when that answers again")
        self.generation = generation
        for old in self.folder.glob("*.masks"):
            if old != masks:  # who maps it keeps it
                old.unlink(missing_ok=True)

    async def _run(self, module: str, *arguments: str) -> str:
        """Run a program of this image to its end; returns its standard output. Raises `FilterUnavailable`."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env={**os.environ, "FILTER": self._config.filter},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), _SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise FilterUnavailable(f"{module}: took longer than {_SECONDS:g} s") from None
        if process.returncode != ExitCode.OK:
            raise FilterUnavailable(f"{module}: ended with {process.returncode}; its log says why")
        return said.decode()

    def close(self) -> None:
        """Delete what was fetched."""
        shutil.rmtree(self.folder, ignore_errors=True)
