"""The loop: one thread, one epoll, and as many connections as it takes to be never kept waiting."""

from __future__ import annotations

import os
import select
import ssl
import time
from collections.abc import Callable
from urllib.parse import quote

from init_container.config import LEAST_DEADLINE, Config
from init_container.crc32c import Buffer
from init_container.disk.layout import DiskTrouble
from init_container.network.answers import Busy, TokenExpired
from init_container.network.backoff import Backoff
from init_container.network.credentials import Tokens
from init_container.network.jobs import Job, Source
from init_container.network.pipeline import Pipeline
from init_container.network.transport import WRITE, Address, Connection, Route, Trust
from model_repository.errors import AccessDenied, BucketUnavailable, DeliveryError, PermanentError

_TICK = 0.05
_FIRST_CONNECTIONS = 4
_CONNECTIONS = 16
"""More than one processor can keep busy, where a connection gives 100 MB/s."""
_SMALL = 256 * 1024
"""Files up to this size are asked for in a row on one connection, without waiting for the answers."""
_ROW = 16
_CONNECTIONS_FOR_SMALL = 64
"""Small files wait for first bytes, not for bandwidth: more connections then help."""
_MOST_CONNECTIONS = 160
"""Of all processes together, had they no memory of their own: each costs some 80 KiB over TLS."""
_FEWER_CONNECTIONS = 24
"""So many less for each process: then even four of them stay within 48 MB."""
_IDLE = 0.3
"""The share of time spent waiting above which another connection is worth opening."""
_SLOWEST = 4096.0
_PROGRESS = 64 * 1024


def _random() -> float:
    """Between 0 and 1; importing `random` would take longer than the first request may."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


class Downloader:
    """Fetches jobs over a set of connections that live as long as the downloader.

    tick: called some times a second. deadline: on the monotonic clock. received: bytes of bodies so far.
    opened: connections so far. processes: how many there are besides and with this one: they share what is allowed.
    """

    def __init__(self, config: Config, credentials: Tokens, trust: Trust | None = None) -> None:
        """Connect to nothing yet. trust: what another downloader has read already."""
        self._config = config
        self._credentials = credentials
        self.tick: Callable[[], None] = lambda: None
        self._route = Route.of(config.endpoint, config.proxy)
        self._trust = trust or (Trust(config.certificates) if self._route.tls else None)
        self._addresses: list[Address] = []
        self._epoll = select.epoll()
        self._pipelines: dict[int, Pipeline] = {}
        self._masks: dict[int, int] = {}
        self._buffer = Buffer()
        self._wanted = 1
        self._refused = 0
        self._rows = True
        self._row_troubles = 0
        self._trouble = ""
        self._waited = 0.0
        self._watched_at = time.monotonic()
        self.backoff = Backoff(_random)
        self.opened = 0
        self.processes = 1
        self.received = 0
        self.deadline = time.monotonic() + (config.deadline or LEAST_DEADLINE)
        project = f"&userProject={quote(config.user_project, safe='')}" if config.user_project else ""
        self._query = f"?alt=media{project}"
        self._base = f"/download/storage/v1/b/{config.bucket}/o/"

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._pipelines)

    def close(self) -> None:
        """Close all connections."""
        for pipeline in list(self._pipelines.values()):
            self._drop(pipeline)
        self._epoll.close()

    def for_a_fork(self) -> Downloader:
        """One for the process that was forked from this one's: it trusts the same, and has no connections yet.

        This one's connections are the parent's: they are let go of here without a word to the other side.
        """
        self._epoll.close()
        for pipeline in self._pipelines.values():
            pipeline.connection.close()
        other = Downloader(self._config, self._credentials, self._trust)
        other.deadline, other.processes, other._addresses = self.deadline, self.processes, self._addresses
        return other

    def ask(self, source: Source) -> None:
        """Only send the requests for what the source has; raises as `run`, which takes in the answers."""
        self._wanted = self._begin_with(source)
        while source.waiting:
            self._turn(source)

    def run(self, source: Source) -> None:
        """Fetch until the source is finished; raises `PermanentError` or `TransientError`."""
        self._wanted = self._begin_with(source)
        try:
            while not source.finished:
                self._turn(source)
        finally:
            source.flush()

    def _begin_with(self, source: Source) -> int:
        # Also for index.json alone: the others open while it is on its way, and its files wait for none. Unless
        # somebody counts them: the processes to come have a share, which isn't known yet.
        needed = 1 + source.waiting // _SMALL if self._config.connections else _FIRST_CONNECTIONS
        return max(len(self._pipelines), min(needed, _FIRST_CONNECTIONS, self._most(source)))

    def _turn(self, source: Source) -> None:
        now = time.monotonic()
        if now > self.deadline:
            raise BucketUnavailable(
                f"gs://{self._config.bucket} at {self._config.endpoint}: the deadline passed before all bytes "
                f"came{self._trouble}; what came is kept, try again"
            )
        self._staff(source, now)
        timeout = _TICK if now >= self.backoff.not_before else min(_TICK, self.backoff.not_before - now + 0.001)
        events = self._epoll.poll(timeout)
        woken = time.monotonic()
        self._waited += woken - now
        for descriptor, mask in events:
            pipeline = self._pipelines.get(descriptor)
            if pipeline is not None:
                self._serve(pipeline, mask, source)
        source.flush()
        if woken - self._watched_at >= _TICK:
            self._watch(source, woken, woken - self._watched_at)
            self._watched_at = woken

    def _most(self, source: Source) -> int:
        if self._config.connections:
            return max(1, self._config.connections // self.processes)
        if source.next_bytes() > _SMALL:
            return _CONNECTIONS
        return max(_CONNECTIONS, min(_CONNECTIONS_FOR_SMALL, _MOST_CONNECTIONS // self.processes - _FEWER_CONNECTIONS))

    def _staff(self, source: Source, now: float) -> None:
        """Give work to the connections that have none, and open the ones that are wanted."""
        if now < self.backoff.not_before:
            return
        for pipeline in list(self._pipelines.values()):
            if pipeline.connection.opened and not pipeline.doomed:
                self._fill(pipeline, source, now)
        while source.waiting and len(self._pipelines) < self._wanted and now >= self.backoff.not_before:
            self._open(now)

    def _fill(self, pipeline: Pipeline, source: Source, now: float) -> None:
        # A row is filled up when it is half empty, so that several requests leave in one packet.
        if pipeline.jobs and (
            not self._rows or pipeline.closing or len(pipeline.jobs) > _ROW // 2 or pipeline.jobs[-1].span.left > _SMALL
        ):
            return
        token = self._credentials.token()  # before a job is taken: it may raise
        jobs: list[Job] = []
        room = self._row(source) - len(pipeline.jobs)
        while len(jobs) < room:
            small = 0 < source.next_bytes() <= _SMALL
            if (jobs or pipeline.jobs) and not (small and self._rows):
                break
            job = source.take(pipeline.speed, max(len(self._pipelines), self._wanted))
            if job is None:
                break
            jobs.append(job)
            if not small:
                break
        if not jobs and not pipeline.jobs and (half := self._relieve(source)) is not None:
            jobs.append(half)
        if not jobs:
            return
        try:
            pipeline.ask(jobs, b"".join(self._request(job, token) for job in jobs), token, now)
        except OSError as error:
            self._failed(pipeline, error, source)

    def _row(self, source: Source) -> int:
        """How many requests may be on their way on a connection: no more than half its fair share of what is left.

        A server answers them one after another, and some take 30 ms for each.
        """
        connections = self.processes * max(len(self._pipelines), self._wanted)
        return max(1, min(_ROW, source.waiting_spans() // (2 * connections)))

    def _relieve(self, source: Source) -> Job | None:
        """Half of the job that would be the last to end, if the connection that does it is what we wait for."""
        slowest, longest = None, 0.5
        for pipeline in self._pipelines.values():
            if pipeline.jobs and pipeline.speed and pipeline.jobs[0].span.left / pipeline.speed > longest:
                slowest, longest = pipeline.jobs[0], pipeline.jobs[0].span.left / pipeline.speed
        return source.split(slowest) if slowest is not None and self._idle else None

    def _request(self, job: Job, token: str) -> bytes:
        pinned = f"&generation={job.generation}" if job.generation else ""
        lines = [
            f"GET {self._base}{quote(job.name, safe='')}{self._query}{pinned} HTTP/1.1",
            f"Host: {self._route.authority}",
            "User-Agent: indexpush-init-container/0.1",
            # As stored: what the manifest sums up is the object, not what a server would unpack from it.
            "Accept-Encoding: gzip",
        ]
        if job.ranged:
            lines.append(f"Range: bytes={job.span.start}-{job.span.end - 1}")
        if token:
            lines.append(f"Authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode()

    def _open(self, now: float) -> None:
        try:
            if not self._addresses:
                self._addresses = self._route.resolve()
            # The addresses take turns: a bucket's name has many, and one may be ill.
            address = self._addresses[self.opened % len(self._addresses)]
            self.opened += 1
            context = self._trust.context if self._trust else None
            pipeline = Pipeline(Connection(self._route, address, context), now)
        except OSError as error:
            self._unreachable(error, now, now)
            return
        self._pipelines[pipeline.connection.fileno] = pipeline
        self._masks[pipeline.connection.fileno] = pipeline.connection.wants
        self._epoll.register(pipeline.connection.fileno, pipeline.connection.wants)

    def _unreachable(self, error: OSError, now: float, since: float) -> None:
        self._addresses = []
        if now >= self.backoff.not_before:
            self._refused += 1
        self.backoff.failed(now, since, None)
        if self._refused >= self._config.attempts:
            where = "{}:{}".format(*self._route.proxy) if self._route.proxy else self._config.endpoint
            raise BucketUnavailable(f"no connection to {where} after {self._refused} tries ({error}); it may pass")

    def _serve(self, pipeline: Pipeline, mask: int, source: Source) -> None:
        connection = pipeline.connection
        before = pipeline.received
        failure: Exception | None = None
        try:
            if not connection.opened:
                if connection.advance():
                    self._refused = 0
            else:
                if mask & WRITE:
                    connection.flush()
                if mask & ~WRITE:
                    pipeline.pump(self._buffer, self.backoff.succeeded)
        except (OSError, DeliveryError) as error:
            failure = error
        self.received += pipeline.received - before
        if failure is not None:
            self._failed(pipeline, failure, source)
        elif pipeline.doomed:
            self._retire(pipeline, source)
        elif connection.opened and source.waiting and time.monotonic() >= self.backoff.not_before:
            self._fill(pipeline, source, time.monotonic())
        if connection.fileno in self._pipelines and connection.wants != self._masks[connection.fileno]:
            self._masks[connection.fileno] = connection.wants
            self._epoll.modify(connection.fileno, connection.wants)

    def _retire(self, pipeline: Pipeline, source: Source) -> None:
        """Close a connection that did its work; what it was asked for besides goes to others."""
        for job in reversed(pipeline.jobs):
            source.give_back(job)
        self._drop(pipeline)

    def _drop(self, pipeline: Pipeline) -> None:
        del self._pipelines[pipeline.connection.fileno]
        self._epoll.unregister(pipeline.connection.fileno)
        pipeline.connection.close()

    def _failed(self, pipeline: Pipeline, error: Exception, source: Source) -> None:
        """One connection failed: the jobs go back, and either all is lost or it is tried again later."""
        if pipeline.connection.fileno not in self._pipelines:
            return
        now = time.monotonic()
        jobs = list(pipeline.jobs)
        self._retire(pipeline, source)
        if isinstance(error, ssl.SSLCertVerificationError):
            if self._trust and self._trust.widen():
                return
            raise AccessDenied(f"{self._config.endpoint}: {error.verify_message}; set SSL_CERT_FILE") from error
        if isinstance(error, PermanentError | DiskTrouble):
            raise error
        if not pipeline.connection.opened:
            if not isinstance(error, OSError):
                error = OSError(str(error))
            self._unreachable(error, now, pipeline.sent_at)
            return
        if isinstance(error, TokenExpired):
            self._credentials.rejected(pipeline.token)
        self._row_troubles += len(jobs) > 1
        self._rows = self._rows and self._row_troubles < 2  # noqa: PLR2004 - once may be chance
        if not jobs:  # an idle connection that the server closed: nothing was lost
            return
        job = jobs[0]
        job.span.attempts = 0 if pipeline.received - pipeline.progress >= _PROGRESS else job.span.attempts + 1
        if job.span.attempts >= self._config.attempts:
            raise _given_up(job, error)
        self._trouble = f" (last met: {error})"
        self.backoff.failed(now, pipeline.sent_at, error.wait if isinstance(error, Busy) else None)

    def _watch(self, source: Source, now: float, elapsed: float) -> None:
        """A few times a second: who is stalled, who is slow, and are we kept waiting?"""
        self._idle = self._waited / elapsed > _IDLE
        self._waited = 0.0
        for pipeline in list(self._pipelines.values()):
            pipeline.measure(now)
            if pipeline.stalled(now, self._config.stall, _SLOWEST):
                stall = TimeoutError(f"no byte, or hardly any, in {self._config.stall:g} s")
                self._failed(pipeline, stall, source)
        if self._idle and source.waiting and len(self._pipelines) >= self._wanted:
            self._wanted = min(self._wanted + max(self._wanted // 2, 2), self._most(source))
        self.tick()

    _idle = False


def _given_up(job: Job, error: Exception) -> DeliveryError:
    """What was met last, of its own kind; a connection's error is the bucket's."""
    message = f"{job.name}: gave up after {job.span.attempts} tries: {error}"
    if not isinstance(error, DeliveryError):
        return BucketUnavailable(message)
    error.args = (message,)
    return error
