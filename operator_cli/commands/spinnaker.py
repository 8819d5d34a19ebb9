"""``indexpush spinnaker-pipeline``: what a team with a Spinnaker installs instead of our webhook."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from manifests.spinnaker import Installation, application, pipeline
from manifests.values import FOLDER, load_values
from model_repository.errors import NameRefused
from model_repository.names import Target
from operator_cli.context import Context


def spinnaker_pipeline(
    arguments: argparse.Namespace, environment: str, bucket: str, context: Context
) -> dict[str, Any]:
    """The application and one pipeline for each index, as Spinnaker's own JSON; with --into, written there as well.

    Raises `NameRefused`, `DocumentMalformed` when the environment's values don't do.
    """
    folder = Path(arguments.values or context.environ.get("ENVIRONMENTS") or FOLDER)
    values = load_values(environment, folder=folder, variables=context.environ)
    installation = Installation(
        application=arguments.application,
        account=arguments.account or environment,
        source=arguments.source,
        email=arguments.email,
        slack=arguments.slack.removeprefix("#"),
        run_as=arguments.run_as,
    )
    targets = [Target(environment, index) for index in dict.fromkeys(arguments.index)]
    found: dict[str, Any] = {
        "application": application(installation),
        "pipelines": [pipeline(target, bucket, values, installation) for target in targets],
    }
    if arguments.into:
        _write(Path(arguments.into), found)
    return found


def _write(folder: Path, found: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        documents = {"application": found["application"]} | {each["name"]: each for each in found["pipelines"]}
        for name, document in documents.items():
            (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise NameRefused(f"--into {str(folder)[:200]!r}: {error.strerror}") from None
