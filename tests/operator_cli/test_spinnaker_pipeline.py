"""`indexpush spinnaker-pipeline`: the definitions as Spinnaker takes them; the bucket is not touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifests.spinnaker import Installation, application, pipeline
from model_repository.exit_codes import ExitCode
from model_repository.names import Target
from tests.manifests import EXAMPLES, shipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.operator_cli.conftest import Operator, Said

VALUES = "namespace: n\nimage: indexpush:1\nservice_account: s\nreplicas: 1\n"


class Untouched:
    """A bucket that nobody may open."""

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"the bucket was asked for {name}")


@pytest.fixture
def command(operator_of: Callable[[Any], Operator]) -> Callable[..., Said]:
    operator = operator_of(Untouched())
    return lambda *arguments: operator("spinnaker-pipeline", "--values", str(EXAMPLES), *arguments)


def test_the_command_prints_what_spinnaker_takes(command: Callable[..., Said]) -> None:
    chosen = ["--account", "prod-gke", "--email", "team@example.com", "--slack", "#indexes", "--output", "json"]
    said = command("--index", "home-store", "bags", *chosen)
    assert said.code == ExitCode.OK
    installation = Installation("indexpush", "prod-gke", "indexpush", "team@example.com", "indexes", "")
    values = shipped("production")
    targets = [Target("production", "home-store"), Target("production", "bags")]
    assert said.value == {
        "application": application(installation),
        "pipelines": [pipeline(target, "shop", values, installation) for target in targets],
    }


def test_the_command_writes_a_file_for_each_definition(command: Callable[..., Said], tmp_path: Path) -> None:
    said = command("--index", "home-store", "--into", str(tmp_path / "definitions"))
    assert said.code == ExitCode.OK
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "definitions").iterdir()}
    assert written == {
        "application.json": said.value["application"],
        "production-home-store.json": said.value["pipelines"][0],
    }


def test_a_folder_that_cannot_be_written_is_named(command: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = command("--index", "home-store", "--into", str(tmp_path / "file"))
    assert said.code == ExitCode.USAGE
    assert "--into" in said.err


def test_without_a_channel_nobody_is_notified(command: Callable[..., Said]) -> None:
    (printed,) = command("--index", "home-store").value["pipelines"]
    assert printed["notifications"] == []
    assert not any("notifications" in stage for stage in printed["stages"])


def test_a_trigger_runs_as_the_account_that_is_named_and_as_nobody_else(command: Callable[..., Said]) -> None:
    (without,) = command("--index", "home-store").value["pipelines"]
    assert "runAsUser" not in without["triggers"][0]
    (printed,) = command("--index", "home-store", "--run-as", "indexpush@example.com").value["pipelines"]
    assert printed["triggers"][0]["runAsUser"] == "indexpush@example.com"


def test_values_of_ones_own_are_taken_from_their_folder(command: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "production.yaml").write_text(VALUES)
    said = command("--index", "home-store", "--values", str(tmp_path))
    assert said.code == ExitCode.OK
    assert '"namespace": "n"' in said.out


@pytest.mark.parametrize(
    ("arguments", "complaint", "expected"),
    [
        (["--index", "Home"], "index 'Home'", ExitCode.USAGE),
        (["--index", "a", "--application", "${1}"], "--application '${1}'", ExitCode.USAGE),
        (["--index", "a", "--environment", "nowhere"], "environments/nowhere.yaml: No such file", ExitCode.USAGE),
        ([], "--index", ExitCode.USAGE),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    command: Callable[..., Said], arguments: list[str], complaint: str, expected: ExitCode
) -> None:
    said = command(*arguments)
    assert (said.code, said.out) == (expected, "")
    assert complaint in said.err
    assert said.err.count("\n") == 1
