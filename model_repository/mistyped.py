"""What a person may have meant by a name that isn't there."""

from __future__ import annotations

import difflib

from model_repository.bucket.store import Store
from model_repository.names import Target
from model_repository.repository import list_commits

_SUGGESTIONS = 3


def new_environment(store: Store, target: Target) -> str:
    """For whoever commits to an environment in which nothing is committed yet, though something is elsewhere: which.

    Empty: there is nothing to tell. A first commit is nobody's mistake, but a mistyped environment looks the same.
    """
    others = sorted({found.target.environment for found in list_commits(store) if found.target})
    if not others or target.environment in others:
        return ""
    what = f"nothing was committed in {target.environment!r} before"
    return sentence(what, near_names(target.environment, others), f"there are the environments {', '.join(others)}")


def near_names(name: str, names: list[str]) -> str:
    """What a person may have meant, as a part of a sentence; empty if nothing comes near."""
    near = difflib.get_close_matches(name, names, n=_SUGGESTIONS, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


def sentence(*parts: str) -> str:
    """Join the parts that say something."""
    return "; ".join(part for part in parts if part).replace("?; ", "? ")
