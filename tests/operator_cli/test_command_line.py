from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model_repository.errors import BucketMissing, DeliveryError, PermanentError, SetupFault, TransientError
from model_repository.exit_codes import ExitCode
from operator_cli.signature import default_signature
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.operator_cli.conftest import Operator

ROOT = Path(__file__).parents[2]
HANDBOOK = ROOT / "docs" / "operations.md"


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("deploy",),
        ("commit", "clothing"),
        ("commit", "clothing", "b1", "--wat"),
        ("commit", "clothing", "b1", "--wait", "soon"),
        ("commit", "clothing", "b1", "--wait", "-3"),
        ("commit", "clothing", "b1", "--wait=nan"),
        ("history", "clothing", "--limit", "0"),
        ("history", "clothing", "--limit", "1000000"),  # which is not 100,000
        ("history", "Clothing"),
        ("history", "../etc"),
        ("status", "--environment", "pro.duction", "clothing"),
        ("status", "--output", "yaml"),
        ("status", "--repository", "shop"),
        ("status", "--repository", "gs://shop/indexes"),
        ("status", "--repository", "gs://"),
        ("promote", "clothing", "--to", "production"),
        ("compare", "clothing", "--stable", "shop", "--shadow", "http://shop"),
    ],
)
def test_wrong_usage_is_one_line_and_64(operator: Operator, argv: tuple[str, ...]) -> None:
    result = operator(*argv)

    assert result.code == 64
    assert result.err.startswith("indexpush: ")
    assert result.err.count("\n") == 1
    assert not result.out


def test_wrong_usage_is_json_too_if_json_was_asked_for(operator: Operator) -> None:
    assert operator("deploy", "--output", "json").value["error"]["code"] == "usage"
    assert operator("--output=json", "history", "UPPER").value["error"]["code"] == "name-refused"


def test_what_a_command_does_not_know_is_refused_by_that_commands_own_help(operator: Operator) -> None:
    said = operator("prune", "--environment", "production")
    assert (said.code, "unrecognized arguments: --environment production; see indexpush prune --help" in said.err) == (
        64,
        True,
    )


def test_an_environment_must_be_named_for_a_change(operator: Operator) -> None:
    del operator.environ["INDEXPUSH_ENVIRONMENT"]

    result = operator("redeploy", "clothing")

    assert result.code == 64
    assert "INDEXPUSH_ENVIRONMENT" in result.err


def test_a_bucket_must_be_named(operator: Operator) -> None:
    del operator.environ["MODEL_REPOSITORY"]

    assert "MODEL_REPOSITORY" in operator("status").err
    assert operator("status", "--repository", "gs://shop").code == 0


@pytest.mark.parametrize(
    "argv", [("status",), ("history", "clothing"), ("commit", "clothing", "b1"), ("redeploy", "clothing")]
)
def test_a_bucket_that_is_not_there_is_named_and_69(
    operator_of: Callable[[Any], Operator], argv: tuple[str, ...]
) -> None:
    class Gone(MemoryStore):
        def listing(self, *_: Any) -> Any:
            raise BucketMissing(self.bucket)

        folders = listing

    result = operator_of(Gone("shop"))(*argv, "--output", "json")

    assert result.code == 69
    assert result.value["error"]["code"] == "bucket-missing"
    assert "gs://shop: no such bucket" in result.err


def test_a_defect_shows_its_traceback_and_has_a_code_of_its_own(operator_of: Callable[[Any], Operator]) -> None:
    class Broken(MemoryStore):
        def listing(self, prefix: str) -> Any:
            raise ZeroDivisionError(prefix)

    result = operator_of(Broken("shop"))("status")

    assert result.code == 70
    assert "Traceback" in result.err


def test_every_error_has_an_exit_code() -> None:
    def descendants(kind: type[DeliveryError]) -> set[type[DeliveryError]]:
        return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))

    for kind in descendants(PermanentError) | descendants(TransientError):
        code = kind.exit_code
        assert code not in (ExitCode.OK, ExitCode.NOT_LIVE, ExitCode.SOFTWARE)
        if issubclass(kind, TransientError) and not issubclass(kind, SetupFault):
            assert code is ExitCode.TRY_AGAIN  # a fault of the set-up says which it is


def test_the_handbook_documents_every_exit_code() -> None:
    rows = re.findall(r"^\| `(\d+)` \|", HANDBOOK.read_text("utf-8"), re.MULTILINE)

    assert sorted({int(row) for row in rows}) == sorted(ExitCode)


def test_commits_are_signed_with_the_gcloud_account_or_user_and_host(tmp_path: Path) -> None:
    assert "@" in default_signature({"HOME": str(tmp_path)})
    (tmp_path / ".config/gcloud/configurations").mkdir(parents=True)
    (tmp_path / ".config/gcloud/active_config").write_text("work\n")
    (tmp_path / ".config/gcloud/configurations/config_work").write_text("[core]\naccount = ada@example.org\n")
    assert default_signature({"HOME": str(tmp_path)}) == "ada@example.org"
    assert default_signature({"HOME": str(tmp_path), "CLOUDSDK_CORE_ACCOUNT": "bot@example.org"}) == "bot@example.org"


@pytest.mark.parametrize("lock", ["operator_cli", "local_stack"])
def test_wherever_the_command_is_installed_is_all_that_it_imports(lock: str) -> None:
    """The demo's environment is what docs/install.md runs it from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=!\[ ]", each)[0] for each in project["dependencies"]}
    locked = re.findall(r"^([^ =]+)==", (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert needed - set(locked) == set()
