"""A sweep compares the bucket with the clusters, and has only what differs looked at."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from model_repository.bucket.store import Store
from model_repository.builds import check_build
from model_repository.clock import Clock
from model_repository.documents.commit import LONGEST_HOLD
from model_repository.errors import DeliveryError, NameRefused, PermanentError, TransientError
from model_repository.names import SHADOW, Target
from model_repository.repository import FILTERS, CommitObject, list_commits, read_live_commit
from model_repository.telemetry.log import Log
from on_commit.compare import BUILD_GONE, COMMIT_LOST, FINDINGS, INDEX_STALE, Compared, IndexStatus, compare
from on_commit.deploy import Deployer
from on_commit.filters import FILTER_WAITS, FilterLooker
from on_commit.incidents import Incidents
from on_commit.webhook import Webhook

BREAKER = 3
"""Looks of one environment that fail in a row: the rest of it waits for the next sweep."""
SAMPLE = 20
"""Builds that serve and are checked in one sweep."""
INCIDENTS = "incidents/"
LOOKED_FOR = frozenset({COMMIT_LOST})
"""What a look finds: an index that needs none has none of it."""
COMPARED = FINDINGS - {BUILD_GONE} - LOOKED_FOR
"""What comparing finds: `BUILD_GONE` is looked for by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Sweeps one Model Repository.

    budget: for so long looks are begun. environments: those that have a webhook of their own. freshness: the longest
    that an index may go without a new commit, by environment.
    """

    store: Store
    webhook: Webhook
    deployer: Deployer
    filters: FilterLooker
    incidents: Incidents
    clock: Clock
    budget: timedelta
    environments: tuple[str, ...] = ()
    freshness: Mapping[str, timedelta] = field(default_factory=dict)
    chance: random.Random = field(default_factory=random.Random)

    def sweep(self, log: Log) -> None:
        """Look at what differs. Never raises what may pass: the next sweep comes by itself, and this one is over.

        Three listings of the bucket, one for each environment's filters and a read for each of those, a read of each
        commit that is older than it should be, one request to each environment's webhook, a check of `SAMPLE` builds,
        and a look for each index whose cluster was last asked for another commit than the live one, and for each filter
        that has no receipt.
        """
        try:
            commits = list_commits(self.store)
            noted = {info.name for info in self.store.listing(INCIDENTS)}
        except DeliveryError as error:
            log.warning(f"not swept: {error}", code=error.code)
            return
        targets = {found.target: found for found in commits if found.target}
        waiting: dict[Target, Compared] = {}
        serving: list[tuple[Target, IndexStatus]] = []
        environments = {target.environment for target in targets} | set(self.environments)
        there: dict[str, set[str] | None] = {}
        for environment in sorted(environments):
            statuses = self._statuses(environment, log)
            mine = {target: found for target, found in targets.items() if target.environment == environment}
            compared = self._compare(environment, mine, statuses)
            there[environment] = None if statuses is None else {target.index for target in compared}
            for target, seen in compared.items():
                codes = COMPARED if seen.look or seen.pending else COMPARED | LOOKED_FOR
                self._note(target, seen.findings, codes, noted, log)
            waiting |= {target: seen for target, seen in compared.items() if seen.look}
            serving += [(Target(environment, name), status) for name, status in (statuses or {}).items()]
            self._withdraw([target for target, seen in compared.items() if seen.withdraw], log)
        until = self.clock.now() + self.budget
        looked, failed = self._look_at(waiting, until, noted, log)
        self._look_at_filters(environments, until, log)
        self._check_sample(serving, noted, log)
        self._end_what_is_gone(noted, there, log)
        log.info(
            f"swept: {len(targets)} commits, looked at {looked}, {failed} to be tried again",
            looked=looked,
            oldest_commit_seconds=self._ages(targets),
        )

    def _ages(self, targets: Mapping[Target, CommitObject]) -> dict[str, int]:
        """By environment, the age of the index that got no commit for longest: a metric of what the batches do."""
        now, oldest = self.clock.now(), dict[str, int]()
        for target, commit in targets.items():
            age = int((now - commit.updated).total_seconds())
            oldest[target.environment] = max(age, oldest.get(target.environment, 0))
        return oldest

    def _statuses(self, environment: str, log: Log) -> dict[str, IndexStatus] | None:
        """What the cluster of an environment has; None: nobody can say, so each of its indexes is looked at."""
        try:
            found = self.webhook.statuses(environment)
        except DeliveryError as error:
            self.incidents.of_environment(environment, {error.code: str(error)}, log)
            return None
        if found is not None:
            self.incidents.of_environment(environment, {}, log)
        return found

    def _compare(
        self, environment: str, mine: dict[Target, CommitObject], statuses: dict[str, IndexStatus] | None
    ) -> dict[Target, Compared]:
        if statuses is None:
            return {target: Compared(look=True) for target in mine}
        now = self.clock.now()
        indexes = {target.index: found for target, found in mine.items()}
        compared: dict[Target, Compared] = {}
        for index in sorted(indexes.keys() | statuses.keys()):
            commit = indexes.get(index)
            seen = compare(commit.generation if commit else None, statuses.get(index), now)
            compared[Target(environment, index)] = self._with_age(seen, environment, commit, now)
        return compared

    def _with_age(self, seen: Compared, environment: str, commit: CommitObject | None, now: datetime) -> Compared:
        longest = self.freshness.get(environment)
        is_shadow = commit is not None and commit.target is not None and commit.target.index.endswith(SHADOW)
        if commit is None or longest is None or is_shadow or now - commit.updated <= longest:
            return seen
        why = self._why_stale(commit.target, now - commit.updated)
        if why is None:
            return seen
        age = f"the newest commit is of {commit.updated:%Y-%m-%d %H:%M} UTC, and one was due every {longest}; "
        return replace(seen, findings={**seen.findings, INDEX_STALE: age + why})

    def _why_stale(self, target: Target | None, age: timedelta) -> str | None:
        """What to do about a commit of that age; None: nothing, it is on hold, and not for too long."""
        try:
            held = target is not None and read_live_commit(self.store, target).commit.hold
        except DeliveryError:  # a look at it says what is wrong
            held = False
        if not held:
            return "see why the batch doesn't commit"
        if age <= LONGEST_HOLD:
            return None
        return f"it has been on hold for {age.days} days: ask who holds it; indexpush redeploy --release ends that"

    def _look_at(self, waiting: dict[Target, Compared], until: datetime, noted: set[str], log: Log) -> tuple[int, int]:
        """Look at each, in an order that no two sweeps share, while there is time; how many, and how many failed."""
        order = self.chance.sample(sorted(waiting), len(waiting))
        failures: Counter[str] = Counter()
        looked = failed = 0
        for target in order:
            if failures[target.environment] >= BREAKER:
                continue
            if self.clock.now() >= until:
                log.warning(f"out of time: {len(order) - looked} indexes wait for the next sweep")
                break
            looked += 1
            try:
                found = self.deployer.look(target, log, waiting[target])
                self._note(target, found, LOOKED_FOR, noted, log)
                failures[target.environment] = 0
            except TransientError as error:
                failures[target.environment] += 1
                failed += 1
                log.warning(f"not now: {error}", code=error.code, environment=target.environment, index=target.index)
            except Exception as error:  # noqa: BLE001 - one index keeps no other from being looked at
                failed += 1
                log.crash(f"{target}: unexpected: {error!r}", error)
        return looked, failed

    def _withdraw(self, shadows: list[Target], log: Log) -> None:
        """Have those deleted whose commit somebody deleted; what fails is tried by the next sweep."""
        for target in shadows:
            try:
                log.info(self.webhook.withdraw(target), environment=target.environment, index=target.index)
            except DeliveryError as error:
                log.warning(f"not withdrawn: {error}", code=error.code, index=target.index)

    def _look_at_filters(self, environments: set[str], until: datetime, log: Log) -> None:
        """Have those put in force whose event was lost; an environment whose webhook fails waits."""
        for environment in sorted(environments):
            try:
                for target in self.filters.owed(environment):
                    if self.clock.now() >= until:
                        return
                    self.filters.look(target, log)
            except DeliveryError as error:
                log.warning(f"not now: {error}", code=error.code, environment=environment)
            except Exception as error:  # noqa: BLE001 - one environment keeps no other from being looked at
                log.crash(f"{environment}: unexpected: {error!r}", error)

    def _check_sample(self, serving: list[tuple[Target, IndexStatus]], noted: set[str], log: Log) -> None:
        """See whether a few of the builds that serve could still be pulled by a new pod."""
        for target, status in self.chance.sample(serving, min(SAMPLE, len(serving))):
            if status.serving is None:
                continue
            found: dict[str, str] = {}
            try:
                check_build(self.store, status.serving)
            except PermanentError as error:
                found[BUILD_GONE] = f"{status.serving} serves, and no new pod could pull it: {error}"
            except TransientError as error:
                log.warning(f"not now: {error}", code=error.code, index=target.index)
                continue
            self._note(target, found, frozenset({BUILD_GONE}), noted, log)

    def _end_what_is_gone(self, noted: set[str], there: Mapping[str, set[str] | None], log: Log) -> None:
        """What was wrong with what isn't there any more is over: nobody looks at it again.

        there: by environment, the indexes that have a commit or a Deployment; None: nobody can say.
        """
        try:
            filtered = {folder.split("/")[1] for folder in self.store.folders(FILTERS)}
        except DeliveryError as error:
            log.warning(f"not now: {error}", code=error.code)
            return
        for name in sorted(noted):
            environment, _, index = name.removeprefix(INCIDENTS).removesuffix(".json").partition("/")
            gone = environment not in there and environment not in filtered
            indexes = there.get(environment)
            with suppress(NameRefused):  # nothing of ours
                if gone and not index:
                    self.incidents.of_environment(environment, {}, log)
                elif index and (gone or (indexes is not None and index not in indexes)):
                    # a filter may stand there without a commit, and is looked at by itself
                    self.incidents.of_index(Target(environment, index), {}, lambda code: code != FILTER_WAITS, log)

    def _note(self, target: Target, found: Mapping[str, str], codes: frozenset[str], noted: set[str], log: Log) -> None:
        """Note what was found, and what is no longer. noted: the records that are there, the only ones to close."""
        if found or target.incidents_name in noted:
            self.incidents.of_index(target, found, codes.__contains__, log, patience=timedelta(0))
