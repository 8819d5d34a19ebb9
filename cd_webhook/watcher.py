"""Keeps looking at every rollout until it is finished: one thread for each, and a sweep that finds those of others.

Several webhooks may watch the same rollout: every step is guarded, so the second one to act is told `Conflict`, looks
again, and finds it done. That is also how a restart resumes: the first sweep finds what is in progress.
"""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass

from cd_webhook.cluster import Conflict, name_of
from cd_webhook.deliver import Delivery
from cd_webhook.state import read_deployed
from manifests.metadata import index_of, is_canary
from model_repository.errors import DeliveryError, TransientError

_LEAST_SECONDS = 0.05
"""Shortest time between two steps: a cluster in motion must not keep a core busy."""
_LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class _Watched:
    thread: threading.Thread
    again: bool = False


class Watcher:
    """Watches rollouts in the background."""

    def __init__(self, delivery: Delivery, *, sweep_seconds: float = 30.0) -> None:
        self._delivery = delivery
        self._cluster = delivery.cluster
        self._log = delivery.log
        self._sweep_seconds = sweep_seconds
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._swept = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_forever, name="sweep", daemon=True)

    @property
    def swept(self) -> bool:
        """Whether every rollout that was in progress at the start is being watched."""
        return self._swept.is_set()

    @property
    def watching(self) -> int:
        """How many rollouts are being watched."""
        with self._lock:
            return len(self._watched)

    def start(self) -> None:
        """Resume what is in progress, and go on sweeping."""
        self._sweeper.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop looking; what is in progress goes on in the cluster, and whoever starts next resumes it."""
        self._stopped.set()
        with self._lock:
            threads = [watched.thread for watched in self._watched.values()]
        for thread in threads:
            thread.join(timeout_s)

    def watch(self, name: str) -> None:
        """Look at the index `name` until its rollout is finished."""
        with self._lock:
            if name in self._watched:
                self._watched[name].again = True
                return
            context = contextvars.copy_context()  # the thread's log lines carry the trace of who started it
            thread = threading.Thread(target=context.run, args=(self._watch, name), name=f"watch-{name}", daemon=True)
            self._watched[name] = _Watched(thread)
        thread.start()

    def sweep(self) -> None:
        """Watch every rollout that is unfinished; raises as the cluster does."""
        found = {name_of(deployment): deployment for deployment in self._cluster.deployments()}
        for name, deployment in found.items():
            # A canary that its index knows nothing of is removed by looking at the index.
            if is_canary(name) or read_deployed(deployment).unfinished:
                self.watch(index_of(name))
        self._swept.set()

    def _sweep_forever(self) -> None:
        while True:
            pause = self._sweep_seconds
            try:
                self.sweep()
            except DeliveryError as error:
                self._log.warning(f"sweep: {error}", code=error.code)
                pause = min(pause, 5.0)
            except Exception as error:  # noqa: BLE001 - the sweep must outlive whatever happens
                self._log.crash(f"sweep: {error!r}", error)
            if self._stopped.wait(pause):
                return

    def _watch(self, name: str) -> None:
        failures = 0
        sentence = ""
        while not self._stopped.is_set():
            try:
                step = self._delivery.advance(name)
                failures = 0
                if step.finished:
                    if self._leave(name):
                        return
                    continue
                if step.sentence != sentence:
                    sentence = step.sentence
                    self._log.info(f"{name}: {sentence}", index=name)
                if step.version:
                    self._cluster.wait(name, step.version, step.pause)
                self._stopped.wait(_LEAST_SECONDS if step.version else step.pause)
            except Conflict:
                self._stopped.wait(_LEAST_SECONDS)
            except Exception as error:  # noqa: BLE001 - a rollout is watched to its end whatever happens
                failures += 1
                severity = "WARNING" if isinstance(error, TransientError) else "ERROR"
                self._log.line(severity, f"{name}: {error}; looking again", index=name, error=type(error).__name__)
                self._stopped.wait(min(_LONGEST_PAUSE, 0.2 * 2**failures))

    def _leave(self, name: str) -> bool:
        with self._lock:
            if self._watched[name].again:
                self._watched[name].again = False
                return False
            del self._watched[name]
            return True
