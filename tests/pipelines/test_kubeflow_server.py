"""Uploading and scheduling with kfp's client, against a server that answers as Kubeflow's API does."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from embedding_batch.kubeflow.command import main

ARGUMENTS = ["--index", "home-store", "--environment", "staging", "--repository", "gs://models"]
NAME = "home-store-staging"
PAGE = 2
"""Recurring runs in one answer."""


@dataclass
class Request:
    """What was asked. path: without /apis/v2beta1/."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.body)
        return said


class Refused(Exception):
    """Answered with this status."""


@dataclass
class Kubeflow:
    """The part of Kubeflow's API (v2beta1) that is asked, with pipelines, experiments and recurring runs in memory."""

    token: str = ""
    broken: int = 0
    requests: list[Request] = field(default_factory=list)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, asked: Request) -> dict[str, Any]:  # noqa: C901, PLR0911 - one arm for each question
        self.requests.append(asked)
        if self.broken:
            raise Refused(self.broken)
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(401)
        match asked.method, asked.path:
            case "GET", "pipelines":
                return {"pipelines": self._filtered(self.pipelines, asked)}
            case "POST", "pipelines/upload":
                said = {"display_name": asked.query["name"], "namespace": asked.query.get("namespace")}
                if any(said.items() <= one.items() for one in self.pipelines.values()):
                    raise Refused(409)
                made = {"pipeline_id": f"p{len(self.pipelines)}", **said}
                self.pipelines[made["pipeline_id"]] = made
                self._add_version(made["pipeline_id"], asked.query["name"], asked)
                return made
            case "POST", "pipelines/upload_version":
                return self._add_version(asked.query["pipelineid"], asked.query["name"], asked)
            case "GET", "experiments":
                return {"experiments": self._filtered(self.experiments, asked)}
            case "POST", "experiments":
                made = {**asked.json, "experiment_id": f"e{len(self.experiments)}"}
                self.experiments[made["experiment_id"]] = made
                return made
            case "GET", "recurringruns":
                its = [o for o in self.recurring.values() if o["experiment_id"] == asked.query["experiment_id"]]
                start = int(asked.query.get("page_token") or 0)
                more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(its) else {}
                return {"recurringRuns": its[start : start + PAGE], **more}
            case "POST", "recurringruns":
                made = {**asked.json, "recurring_run_id": f"r{sum(r.path == 'recurringruns' for r in self.requests)}"}
                self.recurring[made["recurring_run_id"]] = made
                return made
        if asked.method == "GET" and (found := re.fullmatch(r"pipelines/(\w+)/versions", asked.path)):
            return {"pipeline_versions": self.versions[found[1]][::-1][: int(asked.query["page_size"])]}
        if asked.method == "DELETE" and (found := re.fullmatch(r"recurringruns/(\w+)", asked.path)):
            del self.recurring[found[1]]
            return {}
        raise Refused(404)

    def _add_version(self, pipeline: str, name: str, asked: Request) -> dict[str, Any]:
        versions = self.versions.setdefault(pipeline, [])
        if any(one["display_name"] == name for one in versions):
            raise Refused(409)
        uploaded = yaml.safe_load(re.split(rb"\r\n\r\n", asked.body, maxsplit=1)[1].split(b"\r\n--")[0])
        assert uploaded["pipelineInfo"]["name"] == NAME
        made = {"pipeline_id": pipeline, "pipeline_version_id": f"{pipeline}v{len(versions)}", "display_name": name}
        versions.append(made)
        return made

    @staticmethod
    def _filtered(kept: Mapping[str, dict[str, Any]], asked: Request) -> list[dict[str, Any]]:
        [wanted] = json.loads(asked.query["filter"])["predicates"]
        value = wanted.get("stringValue") or wanted["string_value"]
        namespace = asked.query.get("namespace") or None
        return [
            one for one in kept.values() if one["display_name"] == value and (one.get("namespace") or None) == namespace
        ]


@dataclass
class Command:
    """The command, as somebody types it."""

    kubeflow: Kubeflow
    host: str
    values: Path
    capfd: pytest.CaptureFixture[str]

    def run(self, word: str, *options: str, code: int = 0, **environment: str) -> dict[str, Any]:
        words = [word, *ARGUMENTS, "--values", str(self.values), *options]
        found = main(words, {"KF_PIPELINES_ENDPOINT": self.host, **environment})
        printed = self.capfd.readouterr()
        assert found == code, printed.err
        if code:
            [line] = printed.err.splitlines()
            return {"error": line}
        said: dict[str, Any] = json.loads(printed.out.splitlines()[-1])
        return said


@pytest.fixture
def kubeflow() -> Kubeflow:
    return Kubeflow()


@pytest.fixture
def command(
    kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    monkeypatch.setenv("HOME", str(tmp_path))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Request(self.command, url.path.removeprefix("/apis/v2beta1/"), query, headers, body)
            try:
                status, said = 200, kubeflow.answer(asked)
            except Refused as refused:
                status, said = refused.args[0], {"error": "because"}
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server wants

        def log_message(self, *_: object) -> None:
            pass

    values = tmp_path / "values.yaml"
    values.write_text('{"image": "an/image:1", "schedule": "0 3 * * *", "service_account": "batch"}')
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield Command(kubeflow, f"http://127.0.0.1:{server.server_port}", values, capfd)
        server.shutdown()
        thread.join()


def test_the_first_upload_makes_the_pipeline_and_others_add_versions(command: Command) -> None:
    first = command.run("upload")
    assert first == {"pipeline": NAME, "pipeline_id": "p0", "version_id": "p0v0"}
    assert command.run("upload", "--version", "two")["version_id"] == "p0v1"
    assert command.run("upload", "--version", "three")["version_id"] == "p0v2"
    assert [one["display_name"] for one in command.kubeflow.versions["p0"]] == [NAME, "two", "three"]
    assert command.kubeflow.recurring == {}, "an upload schedules nothing"


def test_a_schedule_runs_its_version_alone_and_without_what_was_missed(command: Command) -> None:
    said = command.run("schedule")
    [made] = command.kubeflow.recurring.values()
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}, "nightly, in a form that has seconds first"
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == (1, True, "ENABLE")
    assert made["pipeline_version_reference"] == {"pipeline_id": "p0", "pipeline_version_id": "p0v0"}
    assert (made["display_name"], made["service_account"]) == (NAME, "batch")
    assert made["experiment_id"] == "e0"
    assert (said["cron"], said["recurring_run_id"]) == ("0 0 3 * * *", made["recurring_run_id"])


def test_a_schedule_takes_the_place_of_the_one_before_and_of_no_other(command: Command) -> None:
    command.run("schedule")
    [experiment] = command.kubeflow.experiments
    others = {f"x{n}": {"experiment_id": experiment, "display_name": f"other {n}"} for n in range(3)}
    kept = {id_: {**one, "recurring_run_id": id_} for id_, one in others.items()}
    before = dict(command.kubeflow.recurring)
    command.kubeflow.recurring = {**kept, **before}  # on the second page

    command.run("schedule", "--version", "two")
    left = {id_: one for id_, one in command.kubeflow.recurring.items() if id_ not in kept}
    assert len(left) == 1
    assert not set(left) & set(before)
    [made] = left.values()
    assert made["pipeline_version_reference"]["pipeline_version_id"] == "p0v1"
    assert set(kept) < set(command.kubeflow.recurring)
    changes = [asked.method for asked in command.kubeflow.requests if asked.path.startswith("recurringruns")]
    assert changes[-2:] == ["POST", "DELETE"], "none would be left if the server failed in between"


def test_a_namespace_has_pipelines_and_schedules_of_its_own(command: Command) -> None:
    command.run("schedule", "--namespace", "team-a")
    said = command.run("upload", "--namespace", "team-b")
    assert said["pipeline_id"] == "p1"
    assert [one["namespace"] for one in command.kubeflow.pipelines.values()] == ["team-a", "team-b"]
    [experiment] = command.kubeflow.experiments.values()
    assert experiment["namespace"] == "team-a"


def test_the_token_is_sent_and_a_wrong_one_is_said(command: Command) -> None:
    command.kubeflow.token = "secret"
    command.run("schedule", KUBEFLOW_TOKEN="secret\n")
    said = command.run("upload", code=77, KUBEFLOW_TOKEN="other")
    assert "401" in said["error"]
    assert "KUBEFLOW_TOKEN" in said["error"]
    assert said["error"].endswith("(pipelines-refused)")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_that_is_busy_or_fails_may_be_tried_again(command: Command, status: int) -> None:
    command.kubeflow.broken = status
    assert command.run("upload", code=75)["error"].endswith("(pipelines-unavailable)")


def test_a_server_that_is_not_there_may_be_tried_again(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = command.run("upload", "--host", f"http://127.0.0.1:{port}", code=75)
    assert said["error"].endswith("(pipelines-unavailable)")


def test_without_a_schedule_nothing_is_uploaded(command: Command) -> None:
    command.values.write_text("image: an/image:1")
    said = command.run("schedule", code=64)
    assert "schedule: '17 * * * *'" in said["error"]
    assert command.kubeflow.requests == []


def test_compiling_writes_the_file_and_asks_no_server(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "out.yaml"
    assert command.run("compile", "--output", str(file)) == {"pipeline": NAME, "file": str(file)}
    assert yaml.safe_load(file.read_text())["pipelineInfo"]["name"] == NAME
    assert command.kubeflow.requests == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--repository", "models"], "gs://<bucket>"),
        (["--index", "Home Store"], "Home Store"),
        (["--values", "/nowhere/values.yaml"], "example.yaml"),
        (["--output", "/nowhere/pipeline.yaml"], "/nowhere/pipeline.yaml"),
        (["--outputs", "x"], "--help"),
    ],
)
def test_what_is_misconfigured_is_one_line(command: Command, options: list[str], said: str) -> None:
    assert said in command.run("compile", *options, code=64)["error"]
