"""What monitoring asks of each index, as one look at the cluster shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cd_webhook.cluster import Object, name_of
from cd_webhook.state import NEVER, Rollout, read_deployed
from manifests.metadata import is_canary
from model_repository.bucket.store import Store
from model_repository.errors import PermanentError, TransientError
from model_repository.names import SHADOW, IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit
from model_repository.telemetry.log import Log


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """One index.

    build: the one that serves; None: none ever did, or nobody is to be told how old it is (a shadow).
    rolling_out_since: when the rollout that goes on was taken up; None: none does, or it is still a canary.
    asked: the generation of the newest request.
    pods_wanted, pods_ready: of its Deployment. receipts_owed: that are decided, and not in the bucket yet.
    """

    index: str
    build: IndexPrefix | None
    rolling_out_since: datetime | None
    pods_wanted: int
    pods_ready: int
    receipts_owed: int
    asked: int = 0


def figures(deployments: Iterable[Object]) -> Iterator[IndexFigures]:
    """Of each index; a canary is part of its index and has none of its own."""
    for live in deployments:
        index, deployed = name_of(live), read_deployed(live)
        if is_canary(index):
            continue
        serves = None if deployed.last_good is None or index.endswith(SHADOW) else deployed.last_good.index_prefix
        rolling_out = deployed.rollout is Rollout.IN_PROGRESS and deployed.started > NEVER
        yield IndexFigures(
            index=index,
            build=serves,
            rolling_out_since=(deployed.promoted or deployed.started) if rolling_out else None,
            pods_wanted=live["spec"].get("replicas", 1),
            pods_ready=(live.get("status") or {}).get("readyReplicas") or 0,
            receipts_owed=len(deployed.owed),
            asked=deployed.generation,
        )


class BuildTimes:
    """Remembers when builds were made: each index.json is read once."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store, self._log = store, log
        self._known: dict[IndexPrefix, datetime] = {}

    def of(self, builds: Iterable[IndexPrefix]) -> dict[IndexPrefix, datetime]:
        """When each of these was made, as far as the bucket says; the others are forgotten."""
        known: dict[IndexPrefix, datetime] = {}
        answers = True
        for prefix in builds:
            if prefix in self._known:
                known[prefix] = self._known[prefix]
            elif answers:
                try:
                    known[prefix] = read_build(self._store, prefix).manifest.created
                except PermanentError as error:
                    self._log.warning(f"{prefix} serves, and its age isn't known: {error}", code=error.code)
                except TransientError as error:  # nor for the others, and each would be waited for
                    answers = False
                    self._log.warning(f"ages of builds not read: {error}", code=error.code)
        self._known = known
        return known


class Holds:
    """Remembers which indexes are on hold: a live commit is read once for each request that reaches the cluster."""

    def __init__(self, environment: str, store: Store, log: Log) -> None:
        self._environment, self._store, self._log = environment, store, log
        self._known: dict[tuple[str, int], datetime | None] = {}

    def of(self, indexes: Iterable[IndexFigures]) -> dict[str, datetime]:
        """By index, since when its live commit holds it, as far as the bucket says; a shadow isn't held."""
        known: dict[tuple[str, int], datetime | None] = {}
        answers = True
        for it in indexes:
            key = (it.index, it.asked)
            if it.index.endswith(SHADOW):
                continue
            if key in self._known:
                known[key] = self._known[key]
            elif answers:
                try:
                    known[key] = self._since(Target(self._environment, it.index))
                except PermanentError:  # deleted, or it makes no sense: others tell people of that
                    known[key] = None
                except TransientError as error:
                    answers = False
                    self._log.warning(f"holds not read: {error}", code=error.code)
        self._known = known
        return {index: since for (index, _), since in known.items() if since is not None}

    def _since(self, target: Target) -> datetime | None:
        live, info = read_live_commit(self._store, target), self._store.stat(target.commit_name)
        return info.updated if live.commit.hold and info is not None else None
