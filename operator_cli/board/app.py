"""The board's answers: a page of static files, rows that come by themselves, one index whole, and the changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.errors import AccessDenied, DeliveryError, GenerationConflict, TransientError
from model_repository.fields import format_moment, parse_document
from model_repository.names import Target, parse_generation
from operator_cli.board.details import details, diff
from operator_cli.board.identity import OwnMachine, SignIn, SignInNeeded
from operator_cli.board.overview import Overview, Row, for_scripts
from operator_cli.board.rollouts import Rollouts
from operator_cli.commands import changes
from operator_cli.commands.changes import Change, Options
from operator_cli.errors import BuildMissing, CommitMissing, CommitOnHold, NothingServed, UsageRefused
from operator_cli.output import programs

_LOOK_SECONDS = 1.0
_ASK_SECONDS = 2.0
"""Between two questions to webhooks, which are asked only while a rollout goes on that somebody watches."""
_QUIET_SECONDS = 15.0
"""Nothing is sent for so long at most, so that proxies keep the stream open."""
_MOST_STREAMS = 256
"""Browsers that are kept up to date at once; each keeps a connection and what it was sent last."""
_BODY_LIMIT = 16 * 1024
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (SignInNeeded, 401),
    (BuildMissing, 404),
    (CommitMissing, 404),
    (NothingServed, 404),
    (CommitOnHold, 409),
    (GenerationConflict, 409),
    (AccessDenied, 403),
    (TransientError, 503),
    (DeliveryError, 400),
)
"""The first that fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What the answers need.

    rollouts: what webhooks say. hosts: the names by which browsers may call this server; empty: any, a proxy checks.
    """

    store: Store
    overview: Overview
    rollouts: Rollouts
    clock: Clock
    sign_in: SignIn
    hosts: tuple[str, ...] = ()


def application(board: Board) -> ASGIApp:
    """The board as an ASGI application."""
    api = _Api(board)
    page = _read_page()

    async def static(request: Request) -> Response:
        if isinstance(board.sign_in, OwnMachine) and board.sign_in.opens(request):
            answer: Response = RedirectResponse("/", 303)
            cookie = board.sign_in.cookie(request)
            answer.set_cookie(cookie, board.sign_in.secret, httponly=True, samesite="strict")
            return answer
        found = page.get(request.url.path)
        return Response(found[0], media_type=found[1]) if found else Response(status_code=404)

    routes = [
        *(Route(path, static) for path in page),
        Route("/api/events", api.events),
        Route("/api/indexes/{environment}/{index}", api.index),
        Route("/api/diffs/{index}/{build}", api.diff),
        Route("/api/changes", api.change, methods=["POST"]),
    ]
    handlers: Mapping[Any, Callable[..., Any]] = {kind: _refuse for kind, _ in _STATUS}
    return _Guarded(Starlette(routes=routes, exception_handlers=handlers, lifespan=api.lifespan), board.hosts)


class _Guarded:
    """No other site's page may frame this one, or ask it for anything; no other name may lead to it."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        if scope["type"] == "http" and (why := self._stranger(scope)):
            await _error(403, "foreign-request", why)(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _stranger(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and host.partition(":")[0] not in self._hosts:
            return f"this board isn't called {host[:100]!r}"  # a name that somebody else's DNS points here
        # browsers send both with what a page asks for, and no page can change them
        site, origin = headers.get("sec-fetch-site", "same-origin"), headers.get("origin", "")
        if scope["method"] in ("GET", "HEAD"):
            # it couldn't read an answer; but neither may it have people's browsers ask for many
            foreign = scope["path"].startswith("/api/") and site not in ("same-origin", "none")
            return "only the board's own page may ask this" if foreign else ""
        if site != "same-origin" or origin.partition("://")[2] != host:
            return "only the board's own page may ask for a change"
        return ""


class _Api:
    """What the page asks for."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._changed = asyncio.Event()
        """Of the next change: each has an event of its own, so nobody holds a lock while they wait."""
        self._watchers = 0
        self._somebody = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Look at the bucket while somebody watches, and beside that ask webhooks, which may be slow."""
        board = self._board
        tasks = [asyncio.create_task(self._keep(board.overview.look, _LOOK_SECONDS))]
        if board.rollouts.asks:
            tasks.append(asyncio.create_task(self._keep(self._ask, _ASK_SECONDS)))
        yield
        for task in tasks:
            task.cancel()

    def _ask(self) -> bool:
        waiting = any(row.get("state") == "waiting" for row in self._board.overview.rows)
        return waiting and self._board.rollouts.look()

    async def _keep(self, look: Callable[[], bool], pause: float) -> None:
        while True:
            await self._somebody.wait()
            if await run_in_threadpool(look):
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(pause)

    def _rows(self) -> dict[str, Row]:
        board = self._board
        return {_name(row): row | {"rollout": board.rollouts.of(row)} for row in board.overview.rows}

    async def events(self, request: Request) -> Response:
        """All rows, and then those that change, as server-sent events."""
        self._board.sign_in.reader(request)
        if self._watchers >= _MOST_STREAMS:
            return _error(503, "too-many-watch", f"{_MOST_STREAMS} pages of this board are open already")
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        self._watchers += 1
        self._somebody.set()
        sent: dict[str, Row] | None = None
        problem = ""
        try:
            while True:
                changed, rows = self._changed, self._rows()
                if sent is None or (rows, self._board.overview.problem) != (sent, problem):
                    problem = self._board.overview.problem
                    yield _event(rows, sent or {}, problem, format_moment(self._board.clock.now()), all=sent is None)
                    sent = rows
                else:
                    yield ": still here\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _QUIET_SECONDS)
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._somebody.clear()

    async def index(self, request: Request) -> Response:
        """One index whole."""
        board = self._board
        board.sign_in.reader(request)
        target = Target(request.path_params["environment"], request.path_params["index"])
        return JSONResponse(await run_in_threadpool(details, board.store, board.overview.builds, target))

    async def diff(self, request: Request) -> Response:
        """How a build differs from what served when it was made, or from another one."""
        self._board.sign_in.reader(request)
        asked = (request.path_params["index"], request.path_params["build"], request.query_params.get("against"))
        return JSONResponse(await run_in_threadpool(diff, self._board.store, *asked))

    async def change(self, request: Request) -> Response:
        """Do, or explain, what the command would do."""
        board = self._board
        by = board.sign_in.writer(request)
        if request.headers.get("content-type") != "application/json":
            raise UsageRefused("a change is one JSON object, as application/json")
        asked = _parse(await _body(request), by)
        done = await run_in_threadpool(asked, board.store)
        return JSONResponse(for_scripts(programs.change(done, None)))


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise UsageRefused(f"a change has {_BODY_LIMIT} bytes at most")
    return body


def _parse(body: bytes, by: str) -> Callable[[Store], Change]:
    """Read a change; what it gives does it. Raises `DocumentMalformed`, `NameRefused` or `UsageRefused`."""
    fields = parse_document(body, "the change", limit=_BODY_LIMIT)
    action = fields.text("action")
    target = Target(fields.text("environment"), fields.text("index"))
    options = Options(
        by=by[:200],
        reason=fields.text("reason", longest=1000, default=""),
        hold=fields.flag("hold", default=False) if fields.has("hold") else None,
        release=fields.flag("release", default=False),
        dry_run=fields.flag("dry_run", default=False),
        seen=fields.parsed("seen", lambda text: parse_generation(text) if text != "0" else 0),
    )
    build = fields.text("build", default="")
    source = fields.text("source", default="")
    fields.done()
    if not options.reason.strip() and not options.dry_run:
        raise UsageRefused("say why: it stands in the record of every commit")
    match action:
        case "redeploy":
            return lambda store: changes.redeploy(store, target, options)
        case "rollback":
            return lambda store: changes.rollback(store, target, build or None, options)
        case "commit" if build:
            return lambda store: changes.commit(store, target, build, options)
        case "promote" if source:
            return lambda store: changes.promote(store, Target(source, target.index), target, options)
        case _:
            raise UsageRefused(
                f"{action!r}: a board does redeploy, rollback, commit (of a build), promote (of a source)"
            )


def _name(row: Row) -> str:
    return f"{row['environment']}/{row['index']}" if "index" in row else row["name"]


def _event(rows: Mapping[str, Row], sent: Mapping[str, Row], problem: str, now: str, *, all: bool) -> str:  # noqa: A002
    changed = {name: row for name, row in rows.items() if sent.get(name) != row}
    gone = [name for name in sent if name not in rows]
    value = {"rows": changed, "gone": gone, "all": all, "problem": problem, "now": now}
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _refuse(_: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    code = error.code if isinstance(error, DeliveryError) else "sign-in-needed"
    return _error(status, code, str(error))


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)


def _read_page() -> dict[str, tuple[bytes, str]]:
    page = {}
    for file in files("operator_cli").joinpath("board", "page").iterdir():
        kind = _TYPES.get("." + file.name.rpartition(".")[2])
        if kind:
            page["/" if file.name == "index.html" else f"/page/{file.name}"] = (file.read_bytes(), kind)
    return page
