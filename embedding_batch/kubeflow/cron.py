"""Kubeflow's cron counts seconds first."""

from __future__ import annotations

import re
from typing import Final

from model_repository.errors import Misconfigured

_FIELD: Final = re.compile(r"[-0-9A-Za-z*/,?]+", re.ASCII)
_FAMILIAR, _WITH_SECONDS = 5, 6


def with_seconds(schedule: str) -> str:
    """The schedule in Kubeflow's form: five fields, as crontab has them, get `0` seconds; six are Kubeflow's own.

    `0 3 * * *`, which is nightly, becomes `0 0 3 * * *`: left as it is, Kubeflow would read it as at 3 minutes past
    each hour. Raises Misconfigured.
    """
    fields = schedule.split()
    if len(fields) not in (_FAMILIAR, _WITH_SECONDS) or not all(_FIELD.fullmatch(field) for field in fields):
        raise Misconfigured(
            f"schedule {schedule[:80]!r}: expected five fields of cron, as '17 * * * *', or six that begin with seconds"
        )
    return " ".join(fields if len(fields) == _WITH_SECONDS else ["0", *fields])
