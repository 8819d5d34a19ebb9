"""From index.json on: the plan, the files, the rename."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from init_container.config import LEAST_DEADLINE, Config
from init_container.destination import Destination
from init_container.engine import Engine
from init_container.files import Files
from init_container.folder import MODEL_MANIFEST, disk
from init_container.parts import Parts
from init_container.plan import Plan, plan_pull
from model_repository.digests import sha256_digest
from model_repository.errors import BuildIncomplete
from model_repository.index_manifest import parse_index_manifest

_SLOWEST_PULL = 20 * 1024 * 1024
"""Bytes/s; the deadline gives up on anything slower, as the rollout's own deadline does."""


def fetch(
    config: Config,
    engine: Engine,
    destination: Destination,
    manifest: bytes,
    *,
    began: float,
    tick: Callable[[int, int], None],
) -> Plan:
    """Fetch, verify and publish what an index.json lists; returns the plan of it.

    manifest: the index.json's bytes. began: on the monotonic clock, for the deadline. tick: called about 20 times a
    second with the bytes on the disk and those of the whole build.
    """
    plan = _plan(config, manifest)
    destination.prepare(plan, manifest)
    engine.deadline = began + (config.deadline or LEAST_DEADLINE + plan.bytes / _SLOWEST_PULL)
    with closing(Parts(destination.partial, plan)) as parts:
        parts.make_empty_files()
        files, total = Files(plan, parts, range_bytes=config.range_bytes), plan.bytes
        engine.tick = lambda: tick(parts.have, total)
        engine.run(files)
        engine.tick()
    _check_model(plan, destination)
    destination.publish(config.index_prefix, plan)
    return plan


def _plan(config: Config, manifest: bytes) -> Plan:
    digest = sha256_digest(manifest)
    if config.index_digest not in ("", digest):
        raise BuildIncomplete(config.index_prefix.manifest, config.index_digest, digest)
    return plan_pull(parse_index_manifest(manifest, config.index_prefix), digest)


def _check_model(plan: Plan, destination: Destination) -> None:
    path = destination.partial / MODEL_MANIFEST
    with disk(path):
        digest = sha256_digest(path.read_bytes())
    if digest != plan.model_digest:
        name = next(file.name for file in plan.files if file.path == MODEL_MANIFEST)
        raise BuildIncomplete(name, plan.model_digest, digest)
