"""What is to be said of what the bucket shows: in which words, and with which command to type. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model_repository.documents.commit import Commit
from model_repository.documents.incidents import Incident
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.names import IndexPrefix
from notify.state import TEXT_LIMIT, Stage, State
from notify.subject import Subject

_POSTED = timedelta(minutes=1)
"""So long a commit counts as just posted."""


@dataclass(frozen=True, slots=True)
class LiveCommitFacts:
    """The live commit. commit: None: it can't be read. since: when it was uploaded."""

    generation: int
    commit: Commit | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of the batch reported. outcome: committed, held, unchanged, published, stopped, failed, unfinished."""

    prefix: IndexPrefix
    outcome: str
    created: datetime
    errors: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a bucket says of a subject. receipts: by generation. incidents: all that are open; None: nobody knows.

    around: those of the whole environment, which keep a commit waiting and have a message of their own.
    """

    bucket: str
    subject: Subject
    live: LiveCommitFacts | None = None
    receipts: Mapping[int, Receipt] = field(default_factory=dict)
    incidents: tuple[Incident, ...] | None = ()
    report: Report | None = None
    around: tuple[Incident, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """What the message about `key` should be.

    since: when that became true. repeats: other words at the same stage are another occurrence, told in the thread.
    first: whether it is worth a message where nothing was told of it before.
    """

    key: str
    text: str
    stage: Stage
    since: datetime
    repeats: bool = False
    first: bool = True


def statements(facts: Facts, state: State, now: datetime, patience: timedelta) -> Iterator[Statement]:
    """What should be said of a subject now.

    patience: so long a commit may go without a receipt; zero: nobody writes receipts here.
    """
    words = _Words(facts.bucket, facts.subject)
    yield from _of_commits(words, facts, state, now, patience)
    if facts.incidents is not None:
        yield from _of_incidents(words, facts.incidents, state, now)
    if facts.report is not None:
        yield from _of_report(words, facts.report, state)


@dataclass(frozen=True, slots=True)
class _Words:
    bucket: str
    subject: Subject

    def line(self, sign: str, said: str, more: str = "") -> str:
        where = f"*{self.subject.index}* in " if self.subject.index else ""
        text = f":{sign}: {where}*{self.subject.environment}*: {said}" + (f"\n{more}" if more else "")
        return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 3]}..."

    def command(self, verb: str, *words: str, environment: bool = True) -> str:
        """A line to type as it stands."""
        of = ("--environment", self.subject.environment) if environment else ()
        return f"`{' '.join(('indexpush', verb, *words, *of, '--repository', f'gs://{self.bucket}'))}`"


_LONG = TEXT_LIMIT // 3
_SHORT = TEXT_LIMIT // 10
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"})


def escaped(text: str, most: int = _LONG) -> str:
    """Somebody's words, within Slack's markup: they mention nobody.

    most: characters, as they are written there: so that all that a message says of others leaves room for its commands.
    """
    if len(said := text.translate(_ENTITIES)) <= most:
        return said
    kept = 0
    for length, character in enumerate(text):
        kept += len(character.translate(_ENTITIES))
        if kept > most - 3:
            return text[:length].translate(_ENTITIES) + "..."
    return said


_REPLACED = "\nNo longer live."


def _of_commits(words: _Words, facts: Facts, state: State, now: datetime, patience: timedelta) -> Iterator[Statement]:
    live = facts.live
    for generation, receipt in facts.receipts.items():
        if live is None or generation != live.generation:
            yield _ended(words, receipt, replaced=True)
    if live is not None:
        ended = facts.receipts.get(live.generation)
        faults = (*(facts.incidents or ()), *facts.around)
        yield _ended(words, ended) if ended else _waiting(words, live, faults, now, patience)
    known = {f"commit {generation}" for generation in (*facts.receipts, *((live.generation,) if live else ()))}
    for told in state.told:
        if told.key.startswith("commit ") and told.stage is not Stage.DONE and told.key not in known:
            # replaced without a receipt: nobody needs to look after it, and one that rolls out may yet get its receipt
            stage = Stage.DONE if told.stage is Stage.BAD else Stage.OPEN
            yield Statement(told.key, f"{told.text.removesuffix(_REPLACED)}{_REPLACED}", stage, told.at)


def _build(prefix: IndexPrefix | None) -> str:
    return f"build `{prefix.build}`" if prefix else "a commit that can't be read"


def _by(by: str, reason: str) -> str:
    return (f" by {escaped(by, _SHORT)}" if by else "") + (f' ("{escaped(reason, 2 * _SHORT)}")' if reason else "")


def _waiting(
    words: _Words, live: LiveCommitFacts, incidents: tuple[Incident, ...], now: datetime, patience: timedelta
) -> Statement:
    """What is said while there is no receipt. That it rolls out is inferred: it was heard of, and no fault is known."""
    commit = live.commit
    said = (
        f"{_build(commit.index_prefix if commit else None)}, committed{_by(commit.by, commit.reason) if commit else ''}"
    )
    look = words.command("status", words.subject.index)
    stage, sign, more = Stage.OPEN, "hourglass_flowing_sand", ""
    if not patience:
        stage, sign = Stage.DONE, "package"
    elif now - live.since >= patience:
        stage, sign = Stage.BAD, "warning"
        more = f"No receipt for {patience // timedelta(minutes=1)} minutes: nobody knows what became of it. See {look}"
    elif incidents:
        more = f"Waiting: {escaped(incidents[0].detail)}"
    elif now - live.since >= _POSTED:
        sign, more = "truck", "Rolling out."
    return Statement(f"commit {live.generation}", words.line(sign, said, more), stage, live.since)


def _ended(words: _Words, receipt: Receipt, *, replaced: bool = False) -> Statement:
    """What is said of a commit that has its receipt. replaced: another one is live by now."""
    who = f"{_build(receipt.index_prefix)}, committed{_by(receipt.by, receipt.reason)}"
    stage, detail = Stage.DONE, escaped(receipt.detail)
    match receipt.outcome:
        case Outcome.SERVED:
            text = words.line("white_check_mark", who, f"Served after {receipt.seconds:.0f} s.")
        case Outcome.SUPERSEDED:
            text = words.line("fast_forward", who, f"Superseded: {detail}")
        case _:
            index = words.subject.index
            more = "No longer live."
            if not replaced:
                stage = Stage.BAD
                back, again = words.command("rollback", index, "--hold", "--wait"), words.command("redeploy", index)
                more = f"Go back, and keep the batch from it: {back}\nOr mend it, then: {again}"
            code = f" ({receipt.code})" if receipt.code else ""
            # what an undo left is in its detail; nothing may have served before
            still = "Nothing of it was rolled out. " if receipt.outcome is Outcome.REJECTED else ""
            said = f"{receipt.outcome.value.capitalize()}{code}: {detail}\n{still}{more}"
            text = words.line("x", who, said)
    first = not replaced and receipt.outcome is not Outcome.SUPERSEDED
    return Statement(f"commit {receipt.generation}", text, stage, receipt.finished, first=first)


def _of_incidents(words: _Words, incidents: tuple[Incident, ...], state: State, now: datetime) -> Iterator[Statement]:
    open_keys = set()
    index = words.subject.index
    command = words.command("status", index) if index else words.command("check")
    for each in incidents:
        key = f"incident {each.code} {each.since.isoformat()}"
        open_keys.add(key)
        if each.told:  # it has lasted
            said = f"{each.code} since {each.since:%Y-%m-%d %H:%M} UTC: {escaped(each.detail)}"
            yield Statement(key, words.line("warning", said, f"See {command}"), Stage.BAD, now)
    for told in state.told:
        if told.key.startswith("incident ") and told.stage is Stage.BAD and told.key not in open_keys:
            yield Statement(told.key, f"{told.text}\nOver at {now:%Y-%m-%d %H:%M} UTC.", Stage.DONE, now)


def _of_report(words: _Words, report: Report, state: State) -> Iterator[Statement]:
    """A run that failed opens a message; the next ones that fail are told in its thread, until one ends well."""
    runs = [each for each in state.told if each.key.startswith("batch ")]
    if any(each.stage is Stage.DONE and report.created <= each.since for each in runs):  # heard of late, or twice
        return
    told = next((each for each in runs if each.stage is Stage.BAD), None)
    key = told.key if told else f"batch {report.prefix.build} {report.created.isoformat()}"
    index, build = report.prefix.index, report.prefix.build
    if report.outcome in {"failed", "stopped"}:
        why = "; ".join(f"{code}: {escaped(message, 2 * _SHORT)}" for code, message in report.errors) or report.outcome
        more = f"The run: gs://{words.bucket}/reports/{index}/{build}.html"
        if report.outcome == "stopped":
            diff, commit = words.command("diff", index, build, environment=False), words.command("commit", index, build)
            more = f"Look: {diff}\nIf it is right: {commit}\n{more}"
        text = words.line("x", f"the batch's run for build `{build}` {report.outcome}: {why}", more)
        yield Statement(key, text, Stage.BAD, report.created, repeats=True)
    elif told is not None and report.outcome != "unfinished" and report.created >= told.since:
        over = f"{told.text}\nOver: the run for build `{build}` ended well."
        yield Statement(key, over, Stage.DONE, report.created, repeats=True)
