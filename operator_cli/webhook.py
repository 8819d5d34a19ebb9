"""Asks the CD webhook how the rollouts go: the bucket knows nothing of pods."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from manifests.canary import Canary, parse_canary
from model_repository.deployment import AuthKind
from model_repository.documents.receipts.address import parse_url
from model_repository.documents.receipts.canary_figures import CanaryFigures, SoFar
from model_repository.documents.receipts.receipt import printable
from model_repository.errors import DocumentMalformed, NameRefused, TransientError, reason_of
from model_repository.fields import Fields, parse_document
from model_repository.names import Target, parse_generation
from model_repository.records import read
from operator_cli.errors import UsageRefused

_SECONDS = 5.0
"""For the whole answer; a webhook that takes longer is as good as away."""
_LIMIT = 4 * 1024 * 1024
_MOST_PODS = 100_000
_MOST_SECONDS = 1e9


class WebhookSilent(TransientError, code="webhook-silent"):
    """The webhook doesn't say how the rollouts go."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a canary shows beside the live pods.

    why: in one sentence, of one that is worse; else empty. seconds_left: until it is judged; 0: its time is over.
    rules: by which it is judged; None: it was.
    """

    so_far: SoFar
    why: str
    seconds_left: float
    figures: CanaryFigures
    rules: Canary | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A rollout that goes on.

    canary: only some pods try the build out yet. seconds: since it was taken up, when the webhook was asked.
    ready, wanted: pods of the new build, of a canary its own. detail: what it waits for, in one sentence.
    given_up_in: the longest that it may still take, in seconds, until it is undone; None: the webhook doesn't say.
    comparison: of its canary; None: there is none to compare, or not yet, or the webhook doesn't say.
    """

    target: Target
    generation: int
    canary: bool
    seconds: float
    ready: int
    wanted: int
    detail: str
    given_up_in: float | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a webhook said: of each rollout of its environment that goes on."""

    environment: str
    rollouts: tuple[Progress, ...]

    def of(self, target: Target, generation: int) -> Progress | None:
        """The rollout of a commit; None: it isn't taken up."""
        found = (each for each in self.rollouts if (each.target, each.generation) == (target, generation))
        return next(found, None)


def tokens_from(environ: Mapping[str, str]) -> Callable[[str], str]:
    """What webhooks are shown, by their origin, as the function's CD_WEBHOOK_AUTH has it; empty: nothing.

    Where Google makes the tokens, it raises `NoIdentityToken`.
    """
    if environ.get("CD_WEBHOOK_AUTH") == AuthKind.GOOGLE_ID_TOKEN:
        # takes a while to import, and only those who ask by it pay for it (docs/operations.md)
        from model_repository.programs.identity_tokens import IdentityTokens  # noqa: PLC0415

        return IdentityTokens()
    return lambda _: environ.get("CD_WEBHOOK_TOKEN", "")


@dataclass(frozen=True, slots=True)
class Webhook:
    """url: where it is reached from here, with any path. token: what it asks for; empty: nothing.

    tokens: gives one for an audience, in place of that; raises `NoIdentityToken`.
    """

    url: str
    token: str = ""
    tokens: Callable[[str], str] | None = None

    @classmethod
    def named(cls, url: str, environ: Mapping[str, str]) -> Webhook:
        """The one that an option names; CD_WEBHOOK_AUTH is as the function has it. Raises `UsageRefused`."""
        try:
            parse_url(url)
        except NameRefused as error:
            raise UsageRefused(f"--webhook {error}") from None
        return cls(url, tokens=tokens_from(environ))

    def ask(self) -> Said:
        """Raises `WebhookSilent`."""
        parts = urlsplit(self.url)
        origin = f"{parts.scheme}://{parts.netloc}"
        where = f"{origin}/v1/rollouts"
        try:
            return _parse(self._get(where, self._token_for(origin)), where)
        except DocumentMalformed as error:
            raise WebhookSilent(f"no answer of a CD webhook: {error}") from None

    def _token_for(self, origin: str) -> str:
        try:
            return self.tokens(origin) if self.tokens else self.token
        except TransientError as error:
            raise WebhookSilent(str(error)) from None

    def _get(self, where: str, token: str) -> bytes:
        # takes a while to import, and only those who ask pay for it (docs/operations.md)
        import requests  # noqa: PLC0415

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        end, body = time.monotonic() + _SECONDS, b""
        try:
            with requests.get(where, headers=headers, timeout=_SECONDS, allow_redirects=False, stream=True) as answer:
                if answer.status_code != HTTPStatus.OK:
                    raise WebhookSilent(_refused(where, answer.status_code))
                for chunk in answer.iter_content(64 * 1024):
                    body += chunk
                    if len(body) > _LIMIT or time.monotonic() > end:
                        raise WebhookSilent(f"{where}: its answer is too long, or takes too long")
        except requests.RequestException as error:
            raise WebhookSilent(f"{where} isn't reached from here ({reason_of(error)})") from None
        return body


def _refused(where: str, status: int) -> str:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        mend = "set CD_WEBHOOK_TOKEN to the webhook's token, or let this account look (WEBHOOK_READERS)"
        return f"{where} refuses to say ({status}): {mend}"
    if status == HTTPStatus.NOT_FOUND:
        return f"{where} isn't there: an older webhook, or a Spinnaker"
    return f"{where} answers {status}: see its log"


def _parse(data: bytes, where: str) -> Said:
    """A webhook of a later release may say more: what isn't known here is passed over."""
    fields = parse_document(data, where, limit=_LIMIT)
    environment = fields.text("environment")
    return Said(environment, tuple(_parse_rollout(each, environment) for each in fields.objects("rollouts")))


def _parse_rollout(fields: Fields, environment: str) -> Progress:
    pods = fields.object("pods")
    return Progress(
        target=fields.parsed("index", lambda index: Target(environment, index)),
        generation=fields.parsed("generation", parse_generation),
        canary=fields.flag("canary"),
        seconds=_seconds(fields, "seconds"),
        ready=pods.whole("ready", most=_MOST_PODS),
        wanted=pods.whole("wanted", most=_MOST_PODS),
        detail=printable(str(fields.take("detail", ""))),
        given_up_in=_seconds(fields, "given_up_in") if fields.has("given_up_in") else None,
        comparison=_parse_comparison(fields),
    )


def _parse_comparison(rollout: Fields) -> Comparison | None:
    """None also where a webhook of another release says what isn't understood here: the pods are told even so."""
    with suppress(DocumentMalformed):
        fields = rollout.object("comparison")
        return Comparison(
            so_far=fields.choice("so_far", SoFar),
            why=printable(str(fields.take("why", ""))),
            seconds_left=_seconds(fields, "seconds_left"),
            figures=read(CanaryFigures, fields.object("figures")),
            rules=parse_canary(fields.object("rules")) if fields.has("rules") else None,
        )
    return None


def _seconds(fields: Fields, field: str) -> float:
    return fields.number(field, least=0, most=_MOST_SECONDS)


def progress_of(said: Sequence[Said], target: Target, generation: int) -> Progress | None:
    """The rollout of a commit, as the webhook of its environment says; None: nobody says that it is taken up."""
    here = (each.of(target, generation) for each in said if each.environment == target.environment)
    return next((found for found in here if found), None)


def going(progress: Progress | None) -> str:
    """In a word or two how it goes with a commit that has no receipt: in `indexpush status` as on the board."""
    if progress is None:
        return "waiting"
    return "trying out" if progress.canary else "rolling out"


def ask_all(webhooks: Sequence[Webhook]) -> tuple[list[Said], list[str]]:
    """What each said, and why those that said nothing didn't."""
    said, silent = [], []
    for webhook in webhooks:
        try:
            said.append(webhook.ask())
        except WebhookSilent as error:
            silent.append(str(error))
    return said, silent
