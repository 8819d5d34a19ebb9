"""Notices that a Deployment or one of its pods changed: two watches for a whole namespace, whatever is watched for.

A watch ends by itself every few minutes, breaks, or is told that its version is too old (410 Gone). It is taken up
where it was (bookmarks keep that place recent); where that can't be, the list is read anew and everything counts as
changed.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from http import HTTPStatus
from typing import Any

from cd_webhook.kubernetes_api import Expired, KubernetesApi
from cd_webhook.log import Log
from manifests import annotations as marks
from model_repository.errors import DeliveryError

_SERVER_SECONDS = 240
"""After this the server ends a watch, and it is taken up again."""
_SILENCE_SECONDS = 90.0
"""Bookmarks come about every minute; a connection that is silent for longer is dead."""
_LONGEST_PAUSE = 30.0


class ChangeFeed:
    """Counts changes by index."""

    def __init__(self, api: KubernetesApi, paths: tuple[str, ...], selector: str, log: Log) -> None:
        """paths: the collections to watch. selector: label selector of the objects that count."""
        self._api = api
        self._selector = selector
        self._log = log
        self._changed = threading.Condition()
        self._counts: dict[str, int] = defaultdict(int)
        self._seen: dict[str, int] = defaultdict(int)
        self._everything = 0
        self._threads = [
            threading.Thread(target=self._follow_forever, args=(path,), name=f"watch {path}", daemon=True)
            for path in paths
        ]
        self._started = False

    def wait(self, name: str, timeout_s: float) -> None:
        """Return when something of the index `name` changed since the last call for it, or time is up."""
        with self._changed:
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()
            self._changed.wait_for(lambda: self._count(name) != self._seen[name], timeout_s)
            self._seen[name] = self._count(name)

    def _count(self, name: str) -> int:
        return self._counts[name] + self._everything

    def _follow_forever(self, path: str) -> None:
        version, failures = "", 0
        while True:
            try:
                if not version:
                    version = self._list(path)
                version = self._follow(path, version)
                failures = 0
            except Expired:
                version = ""
            except Exception as error:  # noqa: BLE001 - the feed must outlive whatever happens
                failures += 1
                if not isinstance(error, DeliveryError):
                    version = ""
                self._log.line("WARNING", f"watch of {path}: {error}; taking it up again", failures=failures)
                with self._changed:  # changes may be missed meanwhile: whoever waits shall look
                    self._everything += 1
                    self._changed.notify_all()
                threading.Event().wait(min(_LONGEST_PAUSE, 0.5 * 2 ** min(failures, 10)))

    def _list(self, path: str) -> str:
        found = self._api.get(path, labelSelector=self._selector, limit="1")
        with self._changed:
            self._everything += 1
            self._changed.notify_all()
        return str(found["metadata"]["resourceVersion"])

    def _follow(self, path: str, version: str) -> str:
        """Follow one watch to its end; the version to take it up from."""
        events = self._api.watch(
            path,
            read_seconds=_SILENCE_SECONDS,
            labelSelector=self._selector,
            resourceVersion=version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(_SERVER_SECONDS),
        )
        try:
            for event in events:
                version = self._take(event, version)
        except Expired:
            raise
        except DeliveryError as error:
            self._log.line("INFO", f"watch of {path}: {error}; taking it up again")
        return version

    def _take(self, event: dict[str, Any], version: str) -> str:
        value = event.get("object") or {}
        if event.get("type") == "ERROR":
            sentence = str(value.get("message") or value)
            if value.get("code") == HTTPStatus.GONE:
                raise Expired(sentence)
            raise RuntimeError(sentence)
        metadata = value.get("metadata") or {}
        if event.get("type") != "BOOKMARK":
            name = (metadata.get("labels") or {}).get(marks.INSTANCE, "")
            with self._changed:
                self._counts[name] += 1
                self._changed.notify_all()
        return str(metadata.get("resourceVersion") or version)
