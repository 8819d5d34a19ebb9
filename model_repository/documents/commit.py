"""The commit: the only mutable object, and the only trigger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from model_repository.fields import format_document, parse_document
from model_repository.names import IndexPrefix, Target
from model_repository.records import Bound, read, written

COMMIT_LIMIT = 64 * 1024
"""Most bytes of a commit object."""
REASON_LIMIT = 1000
"""Most characters of a reason."""
LONGEST_HOLD = timedelta(days=7)
"""What is on hold is old on purpose. After so long people are asked whether they still mean it; `monitoring/rules.yaml`
has the same."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What somebody wants to serve.

    index_prefix: the build that should serve.
    by, reason: for people; free text, may be empty.
    hold: the batch may publish builds but must not replace this commit: a rollback that sticks.
    """

    index_prefix: IndexPrefix
    by: Annotated[str, Bound(longest=200)] = ""
    reason: Annotated[str, Bound(longest=REASON_LIMIT)] = ""
    hold: bool = False


@dataclass(frozen=True, slots=True)
class LiveCommit:
    """A commit as it stands in the bucket now.

    generation: the GCS generation of the commit object. Every upload of that object, also of the same bytes, has
        another one, so it is the name of a deployment and tells a forced redeploy from a duplicate event.
    """

    target: Target
    generation: int
    commit: Commit


def parse_commit(data: bytes, target: Target) -> Commit:
    """Read the commit object of `target`; ``{"index_prefix": "indexes/<index>/<build>"}`` is enough.

    Raises `DocumentMalformed`, also when the commit names a build of another index.
    """
    fields = parse_document(data, target.commit_name, limit=COMMIT_LIMIT)
    commit = read(Commit, fields)
    if not target.takes(commit.index_prefix):
        fields.refuse(
            f"index_prefix: {commit.index_prefix} is a build of another index than {target.index!r}; "
            f"commit it to commits/{target.environment}/{commit.index_prefix.index}.json"
        )
    return commit


def format_commit(commit: Commit) -> bytes:
    """Write a commit; fields at their defaults are left out, as a person would."""
    return format_document(written(commit))
