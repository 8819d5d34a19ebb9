"""How the puller's output reaches a person; a stand-in puller says what the test wants."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from operator_cli.commands.pull import progress_bar
from operator_cli.context import Context
from operator_cli.main import main

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator

Puller = Callable[[str], tuple[int, str, str]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def pull(operator: Operator, tmp_path: Path) -> Puller:
    """Pulls with a puller made of these Python statements: exit code, standard output, what the terminal got."""
    operator.build("b1")

    def run(statements: str) -> tuple[int, str, str]:
        package = tmp_path / "init_container"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(f"import json, os, sys\n{statements}\n")
        out, terminal = io.StringIO(), Terminal()
        environ = operator.environ | {"PYTHONPATH": str(tmp_path)}
        context = Context(environ, lambda _url, _patience: operator.store, operator.clock, out, terminal)
        code = main(["pull", "indexes/clothing/b1", "relative/folder", "--output", "json"], context)
        return code, out.getvalue(), terminal.getvalue()

    return run


def test_the_puller_is_told_the_exact_build_and_an_absolute_folder(pull: Puller) -> None:
    told = "[os.environ[name] for name in ('MODEL_REPOSITORY', 'INDEX_PREFIX', 'INDEX_DIGEST', 'DESTINATION')]"
    code, out, _ = pull(f"print(json.dumps({{'message': ' '.join({told})}}), file=sys.stderr)")

    assert code == 0
    assert "gs://shop" in out
    assert "indexes/clothing/b1" in out
    assert "sha256:" in out
    assert str(Path.cwd() / "relative/folder") in out


def test_progress_lines_become_a_bar_on_a_terminal(pull: Puller) -> None:
    code, _, terminal = pull('print(json.dumps({"severity": "INFO", "message": "", "bytes": 1}), file=sys.stderr)')

    assert code == 0
    assert "% of " in terminal
    assert terminal.endswith("\r\x1b[2K")


def test_a_puller_that_dies_is_a_defect_and_its_own_words_are_shown(pull: Puller) -> None:
    code, out, terminal = pull("raise ZeroDivisionError('inside the puller')")

    assert code == 70
    assert "inside the puller" in terminal
    assert "ended with status 1" in out


def test_a_puller_that_is_killed_is_a_defect(pull: Puller) -> None:
    code, out, _ = pull("os.kill(os.getpid(), 9)")

    assert code == 70
    assert "ended with status -9" in out


def test_the_pullers_own_reason_and_code_are_passed_on(pull: Puller) -> None:
    line = '{"severity": "ERROR", "message": "a.ann: cut short", "code": "build-incomplete"}'
    code, out, terminal = pull(f"print('{line}', file=sys.stderr)\nsys.exit(65)")

    assert code == 65
    assert '"code": "build-incomplete"' in out
    assert "indexpush: a.ann: cut short" in terminal


def test_the_progress_bar_fits_its_terminal_and_never_exceeds_the_whole() -> None:
    assert progress_bar(5_000_000, 10_000_000, 80) == "[###############...............]  50% of 10.0 MB"
    assert progress_bar(20, 10, 80).startswith(f"[{'#' * 30}] 100%")
    assert len(progress_bar(5, 10, 12)) <= 12
    assert "100%" in progress_bar(0, 0, 80)
