"""Every code that a log line, a receipt or a termination message may carry is explained in docs/errors.md."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from model_repository import errors
from model_repository.errors import DeliveryError, PermanentError, TransientError

ROOT = Path(__file__).resolve().parents[2]
BASES = {"delivery-error", "permanent", "transient", "setup-fault", "webhook-fault", "rejected", "request-refused"}


def codes_in(path: Path) -> Iterator[str]:
    """What classes of errors say their code is: as a keyword of the class, or as an attribute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ClassDef):
            continue
        said = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        for statement in node.body:
            match statement:
                case ast.AnnAssign(target=ast.Name("code"), value=value) | ast.Assign([ast.Name("code")], value):
                    said += [value] if value else []
        yield from (value.value for value in said if isinstance(value, ast.Constant) and isinstance(value.value, str))


def sources() -> list[Path]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = project["tool"]["indexpush"]["rooms"]
    return [path for room in rooms for path in (ROOT / room).rglob("*.py")]


def codes_of_the_rooms() -> dict[str, Path]:
    return {code: path for path in sources() for code in codes_in(path) if code}


def literals_of_the_rooms() -> set[str]:
    nodes = (node for path in sources() for node in ast.walk(ast.parse(path.read_text())))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def codes_of_rollouts() -> set[str]:
    """What `Trouble` and `Failed` are made with in cd_webhook."""
    found = set()
    for path in (ROOT / "cd_webhook").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"Trouble", "Failed"}:
                found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def documented() -> list[str]:
    return re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)


def test_every_code_is_documented() -> None:
    unexplained = {c: str(p.relative_to(ROOT)) for c, p in codes_of_the_rooms().items() if c not in documented()}
    assert {code: path for code, path in unexplained.items() if code not in BASES} == {}


def test_nothing_is_documented_that_no_part_says() -> None:
    assert set(documented()) - literals_of_the_rooms() == set()


def test_every_code_of_a_rollout_is_documented() -> None:
    assert len(codes_of_rollouts()) > 5
    assert codes_of_rollouts() - set(documented()) == set()


def test_a_code_means_one_thing_in_the_contract() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, DeliveryError)]
    assert len({c.code for c in classes}) == len(classes)


def test_every_error_is_of_one_family() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, DeliveryError)]
    for found in set(classes) - {DeliveryError}:
        assert issubclass(found, PermanentError) != issubclass(found, TransientError)
