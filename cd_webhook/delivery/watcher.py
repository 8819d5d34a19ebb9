"""Keeps looking at every rollout until it is finished: one schedule, a few workers, one feed of changes.

However many rollouts go on, the cluster is asked by `WORKERS` threads at most, each of which rests between two steps.
Several webhooks may watch the same rollout: every step is guarded, so the second one to act is told `Conflict`, looks
again, and finds it done. That is also how a restart resumes: the first sweep finds what is in progress.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cd_webhook.cluster import Conflict, Object, name_of
from cd_webhook.delivery.deliver import Delivery
from cd_webhook.delivery.step import Step
from cd_webhook.state import Rollout, read_deployed
from manifests.metadata import index_of, is_canary
from model_repository.errors import DeliveryError, TransientError

WORKERS = 8
_LEAST_SECONDS = 0.05
"""A worker's rest between two steps: a cluster in motion must not keep a core busy."""
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
STUCK_SECONDS = 1800.0
"""A rollout that can't be looked at for so long is told of."""
_FEED_SECONDS = 30.0
_AFTER_FAILURE = 5.0


@dataclass(slots=True)
class _Watched:
    """A rollout that isn't finished.

    due: when it is looked at next, in the schedule's seconds. woken: something changed since the last look began.
    running: a worker is at it. wakeable: a change brings the next look forward.
    failures: looks that failed, in a row, since `failing_since`. told: somebody was told that it is stuck.
    """

    context: contextvars.Context
    due: float
    woken: bool = False
    running: bool = False
    wakeable: bool = True
    sentence: str = ""
    failures: int = 0
    failing_since: float = 0.0
    told: bool = False


@dataclass
class Schedule:
    """Which index is looked at when. May be shared by threads.

    clock: seconds that never run backwards.
    """

    clock: Callable[[], float] = time.monotonic
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _moved: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False

    def __len__(self) -> int:
        with self._moved:
            return len(self._watched)

    def add(self, name: str) -> None:
        """Look at the index `name` now, and until it is finished; log lines carry the caller's trace."""
        with self._moved:
            found = self._watched.get(name)
            if found:
                found.woken, found.due = True, self.clock()
            else:
                self._watched[name] = _Watched(contextvars.copy_context(), self.clock())
            self._moved.notify_all()

    def wake(self, names: frozenset[str] | None) -> None:
        """Something of these indexes changed; None: perhaps of any."""
        with self._moved:
            for name, found in self._watched.items():
                if found.wakeable and (names is None or name in names):
                    found.woken, found.due = True, self.clock()
            self._moved.notify_all()

    def take(self) -> tuple[str, _Watched] | None:
        """Wait for one that is due, the longest due first; None: the schedule was closed. Give it back by `put`."""
        with self._moved:
            while not self._closed:
                idle = [(found.due, name) for name, found in self._watched.items() if not found.running]
                due, name = min(idle, default=(float("inf"), ""))
                pause = due - self.clock()
                if pause <= 0:
                    found = self._watched[name]
                    found.running, found.woken = True, False
                    return name, found
                self._moved.wait(None if pause == float("inf") else pause)
            return None

    def put(self, name: str, pause: float | None, *, wakeable: bool = True) -> None:
        """The look is over; the next one in `pause` seconds, or None: it is finished, unless it was woken meanwhile."""
        with self._moved:
            found = self._watched[name]
            found.running, found.wakeable = False, wakeable
            if pause is None and not found.woken:
                del self._watched[name]
            elif found.woken and (wakeable or pause is None):
                found.due = self.clock()
            else:
                found.due = self.clock() + (pause or 0.0)
            self._moved.notify_all()

    def close(self) -> None:
        """Nothing is due any more."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()


class Watcher:
    """Watches rollouts in the background."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        sweep_seconds: float = 30.0,
        schedule: Schedule | None = None,
        on_sweep: Callable[[Sequence[Object]], None] = lambda _: None,
    ) -> None:
        """on_sweep: called with all Deployments, after each look at them."""
        self._delivery = delivery
        self._cluster = delivery.cluster
        self._log = delivery.log
        self._on_sweep = on_sweep
        self._stopped = threading.Event()
        self._swept = threading.Event()
        self._rewound: set[tuple[str, int]] = set()
        """Deployments that were rewound, and the commits that this took back: looked at once."""
        self._schedule = Schedule() if schedule is None else schedule
        self._workers = [threading.Thread(target=self._work, name=f"watch-{n}", daemon=True) for n in range(WORKERS)]
        self._feeder = threading.Thread(target=self._forever, args=(self._feed, 0.0), name="feed", daemon=True)
        self._sweeper = threading.Thread(
            target=self._forever, args=(self.sweep, sweep_seconds), name="sweep", daemon=True
        )

    @property
    def swept(self) -> bool:
        """Whether every rollout that was in progress at the start is being watched."""
        return self._swept.is_set()

    @property
    def watching(self) -> int:
        """How many rollouts are being watched."""
        return len(self._schedule)

    def start(self) -> None:
        """Resume what is in progress, and go on sweeping."""
        for thread in (*self._workers, self._feeder, self._sweeper):
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop looking; what is in progress goes on in the cluster, and whoever starts next resumes it."""
        self._stopped.set()
        self._schedule.close()
        for thread in self._workers:
            thread.join(timeout_s)

    def watch(self, name: str) -> None:
        """Look at the index `name` until its rollout is finished."""
        self._schedule.add(name)

    def sweep(self) -> None:
        """Watch every rollout that is unfinished; raises as the cluster does."""
        deployments = self._cluster.deployments()
        for deployment in deployments:
            name, deployed = name_of(deployment), read_deployed(deployment)
            rewound = (name, deployed.generation) if deployed.rollout is Rollout.REWOUND else None
            # A canary that its index knows nothing of is removed by looking at the index.
            if is_canary(name) or deployed.unfinished or (rewound and rewound not in self._rewound):
                self.watch(index_of(name))
            if rewound:
                self._rewound.add(rewound)
        self._swept.set()
        self._on_sweep(deployments)

    def look(self, name: str, watched: _Watched) -> None:
        """Take the rollout one step on, and say when the next one is due."""
        try:
            step = self._delivery.advance(name)
        except Conflict:
            self._schedule.put(name, _LEAST_SECONDS)
        except Exception as error:  # noqa: BLE001 - a rollout is watched to its end whatever happens
            self._failed(name, watched, error)
        else:
            self._went_on(name, watched, step)

    def _went_on(self, name: str, watched: _Watched, step: Step) -> None:
        watched.failures, watched.told = 0, False
        if step.finished:
            self._schedule.put(name, None)
            return
        if step.sentence != watched.sentence:
            watched.sentence = step.sentence
            self._log.info(f"{name}: {step.sentence}", index=name)
        self._schedule.put(name, step.pause, wakeable=bool(step.version))

    def _failed(self, name: str, watched: _Watched, error: Exception) -> None:
        now = self._schedule.clock()
        watched.failing_since = watched.failing_since if watched.failures else now
        watched.failures += 1
        severity = "WARNING" if isinstance(error, TransientError) else "ERROR"
        self._log.line(severity, f"{name}: {error}; looking again", index=name, error=type(error).__name__)
        if not watched.told and now - watched.failing_since >= STUCK_SECONDS:
            watched.told = self._delivery.receipts.tell_stuck(name, f"{error}")
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(watched.failures, 10))
        self._schedule.put(name, pause, wakeable=False)

    def _work(self) -> None:
        while (taken := self._schedule.take()) is not None:
            name, watched = taken
            watched.context.run(self.look, name, watched)
            self._stopped.wait(_LEAST_SECONDS)

    def _feed(self) -> None:
        changed = self._cluster.wait_for_changes(_FEED_SECONDS)
        self._schedule.wake(None if changed is None else frozenset(map(index_of, changed)))

    def _forever(self, act: Callable[[], None], pause: float) -> None:
        while True:
            wait = pause
            try:
                act()
            except Exception as error:  # noqa: BLE001 - it must outlive whatever happens
                wait = min(pause or _AFTER_FAILURE, _AFTER_FAILURE)
                what = threading.current_thread().name
                if isinstance(error, DeliveryError):
                    self._log.warning(f"{what}: {error}", code=error.code)
                else:
                    self._log.crash(f"{what}: {error!r}", error)
            if self._stopped.wait(wait):
                return
