"""Tries a new build out beside what serves, where an environment asks for it.

The door is `tried_out`, the state that a trial begins with, `Canaries`, which takes it on from there, `limit`, and
`so_far`, what is told of one that goes on.
`canaries` makes, watches and removes the second Deployment; `comparison` asks its pods and the stable ones (`golden`,
`pod_client`); `judgement` says what the figures mean, and `plan` how the state goes on: both pure.
"""

from __future__ import annotations

from cd_webhook.canary.canaries import Canaries
from cd_webhook.canary.judgement import limit, so_far
from cd_webhook.canary.plan import tried_out

__all__ = ["Canaries", "limit", "so_far", "tried_out"]
