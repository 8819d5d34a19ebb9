"""What a listing leaves out of objects that a customer's own key encrypts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from model_repository.bucket.store import ObjectInfo, Store

_AT_ONCE: Final = 8


def with_checksums(store: Store, infos: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """Return what a listing says, each object with its crc32c; one that was deleted meanwhile is left out.

    Of an object that a customer-managed key encrypts, a listing of GCS says none: it is asked for by itself
    (https://cloud.google.com/storage/docs/encryption/customer-managed-keys#restrictions). Raises what the store does.
    """
    silent = [info.name for info in infos if not info.crc32c]
    if not silent:
        return list(infos)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = dict(zip(silent, pool.map(store.stat, silent), strict=True))
    whole = (info if info.crc32c else asked[info.name] for info in infos)
    return [info for info in whole if info is not None]
