"""Whether a build is at the destination, whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

from init_container.disk.layout import INDEX_MANIFEST, MARK, boot, disk
from init_container.disk.parts import Part, good_parts
from init_container.plan import Plan, plan_pull
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import parse_index_manifest
from model_repository.errors import DocumentMalformed, Misconfigured
from model_repository.names import IndexPrefix


def published(path: Path, prefix: IndexPrefix, digest: str) -> Plan | None:
    """The plan of the build that is at `path`, whole; None if there is none.

    digest: that it must have, or empty. What was verified since this boot is taken by its sizes; after another boot
    every byte is read, since nothing was flushed to the disk when it was published. Raises `Misconfigured` if something
    else is there.
    """
    manifest = path / INDEX_MANIFEST
    try:
        data = manifest.read_bytes()
    except FileNotFoundError:
        with disk(path):
            foreign = path.is_dir() and any(path.iterdir())
        if foreign:
            raise Misconfigured(f"{path} is there but holds no build; choose another DESTINATION") from None
        return None
    except OSError as error:
        raise Misconfigured(f"{manifest}: {error.strerror}; choose another DESTINATION") from error
    found = sha256_digest(data)
    try:
        plan = plan_pull(parse_index_manifest(data, prefix), found)
    except DocumentMalformed:
        plan = None
    if plan is None or digest not in ("", found):
        if _mark(path).get("prefix") == str(prefix):
            return None  # torn by a power cut
        raise Misconfigured(f"{path} holds another build; remove it, or choose another DESTINATION")
    return plan if _whole(path, plan) else None


def _mark(path: Path) -> dict[str, object]:
    try:
        found = json.loads((path / MARK).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(path: Path, plan: Plan) -> bool:
    same_boot = _mark(path).get("boot") == boot() != ""
    for file in plan.files:
        try:
            size = os.lstat(path / file.path).st_size
        except OSError:
            return False
        if size != file.size:
            return False
        if not same_boot and not good_parts(path / file.path, [Part(0, size, file.crc32c)]):
            return False
    return True
