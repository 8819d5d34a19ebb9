"""``indexpush check``: what is missing or too much in an installation, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from model_repository import CONTRACT, __version__
from model_repository.exit_codes import ExitCode
from operator_cli.check.finding import Finding, Level
from operator_cli.check.installation import Asked, check
from operator_cli.context import Context
from operator_cli.webhook import tokens_from

_ORDER: Final = (Level.WRONG, Level.UNKNOWN, Level.HINT, Level.OK)


def look(context: Context, bucket: str, environment: str | None, webhook: str) -> list[Finding]:
    """Look at everything; the worst comes first. Raises as `installation.check`."""
    asked = Asked(
        bucket, environment, webhook, tokens_from(context.environ), __version__, CONTRACT, context.clock.now()
    )
    found = list(check(context.web(), asked))
    return sorted(found, key=lambda each: _ORDER.index(each.level))


def exit_code(found: Sequence[Finding]) -> int:
    """1 if something is wrong; 77 if nothing is, as far as one could look; else 0."""
    levels = {each.level for each in found}
    if Level.WRONG in levels:
        return 1
    return ExitCode.NOT_ALLOWED if Level.UNKNOWN in levels else ExitCode.OK


def for_people(found: Sequence[Finding]) -> str:
    """A line for each, its mend below it, and how many there are."""
    lines: list[str] = []
    for each in found:
        lines.append(f"{each.level.value:<8} {each.subject}: {each.text}")
        if each.mend:
            lines.append(f"{'':<8}   {each.mend}")
    count = Counter(each.level for each in found)
    said = ", ".join(f"{count[level]} {level.value}" for level in _ORDER if count[level])
    return "\n".join([*lines, f"{len(found)} things looked at: {said}"])


def for_programs(found: Sequence[Finding]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "findings": [
            {"level": each.level.value.lower(), "subject": each.subject, "text": each.text, "mend": each.mend}
            for each in found
        ]
    }
