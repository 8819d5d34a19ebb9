"""Step `commit`: the one object that puts a build live."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedding_batch.errors import ChangeUnexpected, CommitLost
from embedding_batch.events import Listener, Warned
from embedding_batch.run import Run
from model_repository.bucket.store import Store
from model_repository.documents.commit import Commit, LiveCommit, format_commit, parse_commit
from model_repository.errors import (
    BucketUnavailable,
    DocumentMalformed,
    GenerationConflict,
    ObjectMissing,
)
from model_repository.fields import format_document
from model_repository.mistyped import new_environment
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit, write_commit


@dataclass(frozen=True, slots=True)
class Serving:
    """What is committed when the batch looks.

    live: None: there is no commit. items: of the committed build; None: not known.
    """

    live: LiveCommit | None
    items: int | None

    @property
    def generation(self) -> int:
        """The precondition for replacing the commit: 0 for one that must not exist."""
        return self.live.generation if self.live else 0

    def said(self) -> dict[str, Any]:
        """As a step's record has it."""
        commit = None if self.live is None else json.loads(format_commit(self.live.commit))
        return {"generation": self.generation, "commit": commit, "items": self.items}

    @classmethod
    def of(cls, said: Mapping[str, Any], target: Target) -> Serving:
        """Read it from there."""
        if said["commit"] is None:
            return cls(None, said["items"])
        commit = parse_commit(format_document(said["commit"]), target)
        return cls(LiveCommit(target, said["generation"], commit), said["items"])


def describe_commit(live: LiveCommit | None) -> str:
    """Say in a few words what became of the commit; see `commit`. None: the batch was told not to commit."""
    if live is None:
        return "none asked for"
    if not live.commit.hold:
        return f"generation {live.generation}"
    return f"none: generation {live.generation} is on hold{_by(live.commit)}; release it to let new builds go live"


def look(store: Store, target: Target, listener: Listener) -> Serving:
    """Read what is committed now.

    Raises DocumentMalformed for a commit that makes no sense: whether it was to hold can't be known. A committed build
    that can't be read is no reason not to replace it: that is told, and its items count as unknown. So is an
    environment in which nothing was committed before: it may be mistyped.
    """
    try:
        live = read_live_commit(store, target)
    except ObjectMissing:
        if new := new_environment(store, target):
            listener(Warned(new))
        return Serving(None, None)
    try:
        manifest = read_build(store, live.commit.index_prefix).manifest
    except (ObjectMissing, DocumentMalformed) as error:
        listener(Warned(f"the committed build can't be read, so nothing is compared with it: {error}"))
        return Serving(live, None)
    return Serving(live, manifest.items)


def commit(store: Store, target: Target, commit: Commit, serving: Serving) -> LiveCommit:
    """Replace the commit that was `serving`, unless that is on hold; return the one that stands then.

    Raises CommitLost when somebody else committed since the batch looked: what they want counts, and another try of
    this run would find the same; and BucketUnavailable, when nobody can tell whether the commit was written.
    """
    if serving.live is not None and serving.live.commit.hold:
        return serving.live
    try:
        return write_commit(store, target, commit, if_generation_match=serving.generation)
    except (GenerationConflict, BucketUnavailable) as error:
        # The answer may have got lost on its way: then what is live now is the very commit that was written.
        live = None
        try:
            live = read_live_commit(store, target)
            generation, what = live.generation, f"{live.commit.index_prefix} was committed{_by(live.commit)}"
        except ObjectMissing:
            generation, what = 0, "the commit was deleted"
        except DocumentMalformed as malformed:
            generation, what = None, f"a commit was written that can't be read ({malformed})"
        if generation == serving.generation:
            raise error from None
        if live is not None and live.commit == commit:
            return live
        raise CommitLost(
            f"{target.commit_name}: {what} while this run worked; {commit.index_prefix} is published and not "
            "committed: a new run begins with what is live then, or indexpush commit puts this build live"
        ) from None


def _by(commit: Commit) -> str:
    who = f" by {commit.by}" if commit.by else ""
    return f"{who} ({commit.reason})" if commit.reason else who


def commit_build(run: Run) -> dict[str, Any]:
    """Commit the published build, unless the run is not to; returns the step's record.

    Raises ChangeUnexpected for a build that the gates stop, StepMissing, and what `commit` does.
    """
    folder, config = run.folder, run.config
    folder.recorded("publish")
    if config.commits:
        _check_gates(config.target, config.prefix, folder.recorded("diff"))
    with run.timed("commit") as details:
        serving = Serving.of(folder.recorded("list")["serving"], config.target)
        live = commit(run.store, config.target, config.commit, serving) if config.commits else None
        details.append(describe_commit(live))
    return committed(live)


def _check_gates(target: Target, prefix: IndexPrefix, compared: Mapping[str, Any]) -> None:
    if stops := compared["stops"]:
        what = "; ".join(f"{stop['gate']}: {stop['detail']}" for stop in stops)
        raise ChangeUnexpected(
            f"{prefix} is published and not committed: it differs too much from what serves, {compared['against']} "
            f"({what}); look at it with indexpush diff {target.index} {prefix.build}; if it is right, indexpush commit "
            f"{target.index} {prefix.build} --environment {target.environment} puts it live, and --expect-change lets "
            "the next such run"
        )


def committed(live: LiveCommit | None) -> dict[str, Any]:
    """What became of the commit; `generation` is the live commit's, None if the batch was not to commit."""
    if live is None:
        return {"outcome": "published", "generation": None}
    if not live.commit.hold:
        return {"outcome": "committed", "generation": live.generation}
    held = {"held_by": live.commit.by, "held_because": live.commit.reason}
    return {"outcome": "held", "generation": live.generation, **held}
