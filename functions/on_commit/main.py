"""Cloud Function `on_commit`: hears of a commit, checks that the build is whole, calls the CD webhook.

Wiring alone. Deploy with ``--entry-point on_commit`` and this folder as the source; ``python main.py --check`` says
what is misconfigured.
"""

from __future__ import annotations

import os
import sys
from functools import cache

import flask
import functions_framework
from cloudevents.http import CloudEvent

from on_commit.__main__ import run
from on_commit.service import Service


@cache
def _service() -> Service:
    return Service.from_environment(os.environ)


@functions_framework.cloud_event  # type: ignore[untyped-decorator]
def on_commit(event: CloudEvent) -> None:
    """Take one event: Cloud Storage's own, or a Pub/Sub message that carries a bucket's notification."""
    _service().take(event.get_attributes(), event.get_data(), dict(flask.request.headers))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
