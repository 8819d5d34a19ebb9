"""Cloud Function `notify`: tells people on Slack, or any webhook, what becomes of each commit.

The entry point alone. Deploy with ``--entry-point notify`` and this folder as the source; ``python main.py --check``
says what is misconfigured.
"""

from __future__ import annotations

import os
import sys
from functools import cache

import flask
import functions_framework
from cloudevents.http import CloudEvent

from notify.main import Function, main


@cache
def _function() -> Function:
    return Function.from_environment(os.environ)


@functions_framework.cloud_event  # type: ignore[untyped-decorator]
def notify(event: CloudEvent) -> None:
    """Take one event: Cloud Storage's own, or a Pub/Sub message that carries a bucket's notification."""
    _function().take(event.get_attributes(), event.get_data(), dict(flask.request.headers))


if __name__ == "__main__":
    sys.exit(main())
