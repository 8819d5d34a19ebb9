"""The module as a person gets it, in a folder of its own; terraform and providers are real, and have no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL = Path(__file__).parent / "install.sh"
SMALLEST: dict[str, Any] = {
    "project": {"id": "acme-search", "number": 123456789012},
    "region": "europe-west4",
    "bucket": "acme-models",
    "environments": {"production": {}},
}
"""What the module can't do without."""

Plan = Callable[[str, dict[str, Any]], dict[str, Any]]
"""From a folder below terraform/ and its variables to the plan's JSON."""


class Terraform:
    """The program, with a copy of terraform/ and of the functions beside it."""

    def __init__(self, program: Path, top: Path) -> None:
        """program: of what `install.sh` built. top: an empty folder."""
        self.program = program
        self.top = top / "terraform"
        shutil.copytree(
            ROOT / "terraform", self.top, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars*")
        )
        for function in (path.parent for path in ROOT.glob("functions/*/main.py")):
            copy = top / "functions" / function.name
            shutil.copytree(function, copy, ignore=shutil.ignore_patterns("__pycache__", "model_repository"))
            subprocess.run([sys.executable, str(ROOT / "functions" / "vendor.py"), str(copy)], check=True)
        settings = top / "terraform.rc"
        mirror = f'filesystem_mirror {{ path = "{program.parents[1] / "providers"}" }}'
        settings.write_text(f"provider_installation {{\n  {mirror}\n}}\n", encoding="utf-8")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(top),
            "TF_CLI_CONFIG_FILE": str(settings),
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            "TF_CLI_ARGS": "-no-color",
            "GOOGLE_OAUTH_ACCESS_TOKEN": "nobody's",
        }

    def run(self, folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it in a folder below terraform/."""
        command = [str(self.program), *arguments]
        return subprocess.run(
            command, cwd=self.top / folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def said(self, folder: str, *arguments: str) -> str:
        """What it prints; fails with its own words if it fails."""
        done = self.run(folder, *arguments)
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout

    def plan(self, folder: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The plan of a first `apply`."""
        (self.top / folder / "test.auto.tfvars.json").write_text(json.dumps(variables), encoding="utf-8")
        self.said(folder, "init", "-backend=false", "-input=false")
        self.said(folder, "plan", "-input=false", "-lock=false", "-out=plan")
        planned: dict[str, Any] = json.loads(self.said(folder, "show", "-json", "plan"))
        return planned


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The program with the providers; the first time it is built, which takes minutes."""
    built = subprocess.run([str(INSTALL)], check=True, capture_output=True, text=True).stdout.strip()
    return Terraform(Path(built) / "bin" / "terraform", tmp_path_factory.mktemp("module"))


@pytest.fixture(scope="session")
def smallest(terraform: Terraform) -> dict[str, Any]:
    """The plan of the module with nothing but what it can't do without."""
    return terraform.plan(".", SMALLEST)


@pytest.fixture(scope="session")
def example(terraform: Terraform) -> Callable[[str], dict[str, Any]]:
    """The plan of an example, by its name."""
    variables = {
        "staging": {"project": {"id": "acme-try", "number": 123456789012}, "bucket": "acme-try-models"},
        "production": {},
    }
    return cache(lambda name: terraform.plan(f"examples/{name}", variables[name]))
