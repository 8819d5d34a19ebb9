"""What a person at a terminal gets besides: colours, and completion in their shell."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

import pytest

from model_repository.documents.receipts.receipt import Outcome
from operator_cli.context import Context
from operator_cli.main import main
from operator_cli.output.colours import write

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator

GREEN, RED, YELLOW = "\x1b[32m", "\x1b[1;31m", "\x1b[33m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def _at_a_terminal(operator: Operator, *argv: str) -> str:
    out = Terminal()
    context = Context(operator.environ, lambda _bucket, _patience: operator.store, operator.clock, out, io.StringIO())
    assert main(list(argv), context) == 0
    return out.getvalue()


def test_at_a_terminal_alone_verdicts_have_a_colour(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    operator.deployed(operator.build("b2"), Outcome.UNDONE, detail="served nothing: undone, says the pod")
    seen = _at_a_terminal(operator, "status")
    assert f"{RED}undone\x1b[0m: served nothing: undone" in seen
    piped = operator("status").out
    assert "\x1b" not in piped
    assert "\x1b" not in _at_a_terminal(operator, "status", "--output", "json")


def test_colours_change_no_text_and_break_no_line(operator: Operator) -> None:
    operator.deployed(operator.build("b1"), detail=f"a long [reason] :smile: {'x' * 400}")
    text, out = operator("history", "clothing").out, Terminal()
    write(out, text.removesuffix("\n"))
    assert GREEN in out.getvalue()
    assert out.getvalue().replace(GREEN, "").replace("\x1b[0m", "") == text


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_whoever_wants_no_colour_gets_none(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    operator.deployed(operator.build("b1"))
    assert GREEN not in _at_a_terminal(operator, "status")
    text, out = operator("history", "clothing").out, Terminal()
    write(out, text.removesuffix("\n"))
    assert out.getvalue() == text


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("  outcome     served", GREEN),
        ("12  2026-11-27 12:00:00Z  superseded       1.0 s", YELLOW),
        ("WRONG    gs://shop: gone", RED),
        ("hint     gs://shop: cold", YELLOW),
        ("a reason: it served well", ""),
        ("look at shop.served", ""),
    ],
)
def test_a_word_has_its_colour_where_it_is_a_verdict(text: str, colour: str) -> None:
    out = Terminal()
    write(out, text)
    assert ("\x1b[" in out.getvalue()) is bool(colour)
    assert colour in out.getvalue()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("ro", "rollback"), ("rollback clothing --ho", "--hold"), ("completion z", "zsh"), ("status --output j", "json")],
)
def test_a_shell_completes_the_command_line(operator: Operator, typed: str, offered: str) -> None:
    del operator.environ["MODEL_REPOSITORY"]  # none is needed for that
    words = ["indexpush", *typed.split()]
    array = " ".join(f"'{word}'" for word in words)
    at = f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}"
    asked = f"{at}; _shtab_indexpush indexpush; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    script = operator("completion", "bash").out
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, timeout=60, check=False)
    assert offered in done.stdout.split(), done.stderr


def test_the_version_names_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == "indexpush 0.1.0, contract 2\n"


def test_in_an_image_the_version_names_the_commit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEXPUSH_REVISION", "0123abcd-dirty")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == "indexpush 0.1.0 (0123abcd-dirty), contract 2\n"
