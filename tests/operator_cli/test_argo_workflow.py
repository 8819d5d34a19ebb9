"""`indexpush argo-workflow`: the objects as kubectl takes them; the bucket is not touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from manifests.argo.workflow import workflow_objects
from model_repository.exit_codes import ExitCode
from tests.manifests.test_argo import EXAMPLE, TARGET, values_of
from tests.operator_cli.test_spinnaker_pipeline import Untouched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from tests.operator_cli.conftest import Operator, Said


@pytest.fixture
def command(operator_of: Callable[[Any], Operator]) -> Callable[..., Said]:
    operator = operator_of(Untouched())
    return lambda *arguments: operator("argo-workflow", "--index", "home-store", *arguments)


def test_the_command_prints_what_kubectl_takes(command: Callable[..., Said]) -> None:
    said = command("--values", str(EXAMPLE))
    assert said.code == ExitCode.OK
    assert list(yaml.safe_load_all(said.out)) == workflow_objects(TARGET, "shop", values_of("argo-example"))


def test_in_json_it_is_one_list(command: Callable[..., Said]) -> None:
    said = command("--values", str(EXAMPLE), "--output", "json")
    assert said.value["kind"] == "List"
    assert said.value["items"] == workflow_objects(TARGET, "shop", values_of("argo-example"))


@pytest.mark.parametrize(
    ("text", "code"), [(None, ExitCode.USAGE), ("namespace: n\nimage: i:1\nretries: many\n", ExitCode.DATA)]
)
def test_values_that_do_not_do_are_one_line(
    command: Callable[..., Said], tmp_path: Path, text: str | None, code: ExitCode
) -> None:
    file = tmp_path / "batch.yaml"
    if text is not None:
        file.write_text(text)
    said = command("--values", str(file))
    assert said.code == code
    assert str(file) in said.err
    assert said.out == ""
