"""The stand-in for the webhook service does what the real one was seen to do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.spinnaker.echo_stand_in import triggered

pytestmark = pytest.mark.spinnaker

RECORDED = json.loads((Path(__file__).parent / "recorded" / "webhook-to-orca.json").read_text())
SENT = RECORDED["request to echo"]["body"]
POSTED = RECORDED["request of echo to orca"]["body"]
EVENT = RECORDED["answer of echo"]["body"]["eventId"]


def configured() -> dict[str, Any]:
    """The pipeline as its owner wrote it, for which the exchange was recorded."""
    return {
        **{key: POSTED[key] for key in ("application", "name", "id", "disabled", "limitConcurrent", "schema")},
        **{key: POSTED[key] for key in ("keepWaitingPipelines", "stages", "parameterConfig")},
        "triggers": [
            {key: item for key, item in POSTED["triggers"][0].items() if key not in {"preferred", "rebake", "dryRun"}}
        ],
        "expectedArtifacts": [
            {
                "id": "ea-manifest",
                "matchArtifact": {
                    "id": "m1",
                    "type": "gcs/object",
                    "name": "gs://similarsearch-indexes/products/[0-9]+/manifest\\.json",
                    "artifactAccount": "gcs-index",
                },
                "usePriorArtifact": False,
                "useDefaultArtifact": False,
                "defaultArtifact": {"id": "d1", "customKind": True},
            }
        ],
    }


def test_it_posts_to_orca_what_the_real_one_posted() -> None:
    assert triggered([configured()], "index-commit", SENT, EVENT) == [POSTED]


@pytest.mark.parametrize(
    "changes",
    [
        {"index": "Products"},
        {"index": "products-2"},
        {"index": None},
        {"artifacts": []},
        {"artifacts": [{**SENT["artifacts"][0], "name": "gs://similarsearch-indexes/products/x/manifest.json"}]},
    ],
    ids=["another case", "a longer name", "no such field", "no artifact", "another artifact"],
)
def test_it_posts_nothing_when_a_constraint_or_artifact_misses(changes: dict[str, Any]) -> None:
    assert triggered([configured()], "index-commit", copy.deepcopy(SENT) | changes, EVENT) == []
    assert triggered([configured()], "another-source", SENT, EVENT) == []
