"""Notices that a Deployment or one of its pods changed: two watches for a whole namespace, whatever is watched for.

A watch ends by itself every few minutes, breaks, or is told that its version is too old (410 Gone). It is taken up
where it was (bookmarks keep that place recent); where that can't be, or one that said nothing broke, the list is read
anew and everything counts as changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from cd_webhook.cluster.api import Expired, KubernetesApi
from cd_webhook.cluster.interface import ClusterUnavailable
from manifests.metadata import INSTANCE
from model_repository.telemetry.log import Log

_SERVER_SECONDS = 240
"""After this the server ends a watch, and it is taken up again."""
_SILENCE_SECONDS = 90.0
"""Bookmarks come about every minute; a connection that is silent for longer is dead."""
_LONGEST_PAUSE = 15.0
_STEADY_SECONDS = 5.0
"""A watch that lasted so long worked."""


class ChangeFeed:
    """Collects the names of the indexes of which something changed."""

    def __init__(
        self,
        api: KubernetesApi,
        paths: tuple[str, ...],
        selector: str,
        log: Log,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """paths: the collections to watch. selector: label selector of the objects that count."""
        self._sleep = sleep
        self._api = api
        self._selector = selector
        self._log = log
        self._changed = threading.Condition()
        self._names: set[str] = set()
        self._everything = False
        self._threads = [
            threading.Thread(target=self._follow_forever, args=(path,), name=f"watch {path}", daemon=True)
            for path in paths
        ]
        self._started = False

    def wait(self, timeout_s: float) -> frozenset[str] | None:
        """See `cluster.Cluster.wait_for_changes`."""
        with self._changed:
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()
            self._changed.wait_for(lambda: self._names or self._everything, timeout_s)
            found = None if self._everything else frozenset(self._names)
            self._names.clear()
            self._everything = False
            return found

    def _follow_forever(self, path: str) -> None:
        version, failures = "", 0
        while True:
            begun, began_at = time.monotonic(), ""
            try:
                began_at = version = version or self._list(path)
                for version in self._versions(path, version):  # noqa: B007, B020 - kept for the next watch
                    pass
            except Expired:
                version = ""
            except Exception as error:  # noqa: BLE001 - the feed must outlive whatever happens
                if version == began_at:  # a cluster that was restored from a backup is silent until it gets there again
                    version = ""
                self._log.warning(f"watch of {path}: {error}; taking it up again", failures=failures)
                self._note_everything()  # something may be missed meanwhile: whoever waits shall look
            # However a watch ended: one that doesn't last is not taken up again at once.
            failures = 0 if time.monotonic() - begun > _STEADY_SECONDS else failures + 1
            self._sleep(min(_LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)))

    def _list(self, path: str) -> str:
        found = self._api.get(path, labelSelector=self._selector, limit="1")
        self._note_everything()
        return str(found["metadata"]["resourceVersion"])

    def _versions(self, path: str, version: str) -> Iterator[str]:
        """Follow one watch to its end; after each event, the version to take it up from."""
        events = self._api.watch(
            path,
            read_seconds=_SILENCE_SECONDS,
            labelSelector=self._selector,
            resourceVersion=version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(_SERVER_SECONDS),
        )
        for event in events:
            value = event.get("object") or {}
            if event.get("type") == "ERROR":
                sentence = str(value.get("message") or value)
                raise Expired(sentence) if value.get("code") == HTTPStatus.GONE else ClusterUnavailable(sentence)
            metadata = value.get("metadata") or {}
            if event.get("type") != "BOOKMARK":
                self._note((metadata.get("labels") or {}).get(INSTANCE, ""))
            yield str(metadata.get("resourceVersion") or "")

    def _note(self, name: str) -> None:
        with self._changed:
            self._names.add(name)
            self._changed.notify_all()

    def _note_everything(self) -> None:
        with self._changed:
            self._everything = True
            self._changed.notify_all()
