"""The command: compile the pipeline of an index; upload it; have it run on a schedule."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from embedding_batch.kubeflow.pipeline import compile_pipeline, pipeline_name
from embedding_batch.kubeflow.server import Server
from embedding_batch.kubeflow.values import load_values
from model_repository.errors import DeliveryError, Misconfigured, NameRefused
from model_repository.exit_codes import ExitCode
from model_repository.names import Target, parse_bucket_url

WORDS = {
    "compile": "write the pipeline as YAML, for Kubeflow or Vertex AI",
    "upload": "upload it as a new version; what is scheduled stays as it is",
    "schedule": "upload it, and have that version run on the values' schedule in place of what ran before",
}


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command; its last line on standard output is JSON, and what stopped it one line on standard error."""
    try:
        answer = _run(_read(arguments, environment), environment, datetime.now(UTC))
    except DeliveryError as error:
        sys.stderr.write(f"{error} ({error.code})\n")
        return error.exit_code
    sys.stdout.write(json.dumps(answer) + "\n")
    return ExitCode.OK


def _run(options: argparse.Namespace, environment: Mapping[str, str], now: datetime) -> dict[str, Any]:
    try:
        target = Target(options.environment, options.index)
        parse_bucket_url(options.repository)
    except NameRefused as error:
        raise Misconfigured(str(error)) from None
    values, name = load_values(options.values), pipeline_name(target)
    if options.word == "compile":
        compile_pipeline(target, options.repository, values, options.output)
        return {"pipeline": name, "file": str(options.output)}
    if options.word == "schedule" and values.schedule is None:
        raise Misconfigured(f"{options.values}: has no schedule; add one, such as schedule: '17 * * * *'")
    server = Server(options.host, options.namespace, environment.get("KUBEFLOW_TOKEN", "").strip(), options.ca)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(target, options.repository, values, file)
        version = options.version or now.strftime("%Y%m%dt%H%M%Sz")
        uploaded = server.upload(file, name, version)
    answer = {"pipeline": name, "pipeline_id": uploaded.pipeline_id, "version_id": uploaded.version_id}
    if options.word == "upload" or values.schedule is None:
        return answer
    recurring = server.schedule(uploaded, name, values.schedule, values.service_account)
    return {**answer, "recurring_run_id": recurring, "cron": values.schedule}


class _Parser(argparse.ArgumentParser):
    """One whose failures are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise Misconfigured(f"{message}; see {self.prog} --help")


def _read(arguments: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m embedding_batch.kubeflow", description="The batch as a pipeline of an index.")
    words = parser.add_subparsers(dest="word", required=True, metavar=", ".join(WORDS))
    for word, what in WORDS.items():
        add = words.add_parser(word, help=what, description=what).add_argument
        add("--index", required=True, help="name of the index")
        add("--environment", required=True, help="where its builds are to serve")
        given = environment.get("MODEL_REPOSITORY", "")
        add("--repository", default=given, required=not given, help="gs://<bucket> (MODEL_REPOSITORY)")
        add("--values", type=Path, required=True, help="what the team decides; embedding_batch/kubeflow/example.yaml")
        if word == "compile":
            add("--output", type=Path, default=Path("pipeline.yaml"), help="file to write (%(default)s)")
            continue
        host = environment.get("KF_PIPELINES_ENDPOINT", "")
        add("--host", default=host, help="URL of Kubeflow's API (KF_PIPELINES_ENDPOINT; that of this cluster)")
        add("--namespace", default="", help="of a Kubeflow with several users; KUBEFLOW_TOKEN is the token")
        add("--ca", type=Path, help="file with the authority of its certificate")
        add("--version", default="", help="name of the version (the time, as 20261121t120000z)")
    return parser.parse_args(arguments)
