"""In each worker: maps the masks that the supervisor made, soon after it did."""

from __future__ import annotations

import asyncio
from pathlib import Path

from search_server.build.index import MappedIndex
from search_server.filters.keeper import masks_file
from search_server.filters.masks import NOTHING_HIDDEN, open_masks
from search_server.processes.pod import PodState, ProcessState

_LOOK_SECONDS = 0.1
"""Between two looks at a number in the pod's shared memory."""


async def map_filter(index: MappedIndex, pod: PodState, own: ProcessState, folder: Path) -> None:
    """Have the newest masks in force in this process."""
    sizes = [partition.promise.items for partition in index.partitions]
    while own.filter != (number := pod.filter):
        try:
            masks = await asyncio.to_thread(open_masks, masks_file(folder, number), sizes)
        except FileNotFoundError:
            if number != pod.filter:
                continue  # the next ones have come
            masks = NOTHING_HIDDEN
        await asyncio.to_thread(index.hide, masks)
        own.filter = number


async def keep_mapped(index: MappedIndex, pod: PodState, own: ProcessState, folder: Path) -> None:
    """Do so until cancelled."""
    while True:
        await map_filter(index, pod, own, folder)
        await asyncio.sleep(_LOOK_SECONDS)
