from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.notify.scene import Scene
from tests.notify.slack_server import SlackServer, serve_slack


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    """Slack's API behind HTTP."""
    with serve_slack() as found:
        yield found


@pytest.fixture
def scene(slack: SlackServer) -> Scene:
    """The function over a bucket in memory."""
    return Scene(slack)
