"""Every task of the repository. `./noxw -l` lists them; `./noxw -s demo` and `./noxw -s tests` are the two to know."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent
ROOMS = (
    "model_repository",
    "image_embedder",
    "embedding_batch",
    "functions/on_commit",
    "manifests",
    "cd_webhook",
    "init_container",
    "base_image",
    "operator_cli",
    "local_stack",
)
CODE = (*ROOMS, "functions", "tests", "benchmarks", "noxfile.py")
LOCKS = {
    "requirements": ("nox", "demo", "dev"),
    "embedding_batch": ("requirements",),
    "cd_webhook": ("requirements",),
    "init_container": ("requirements",),
    "base_image": ("requirements", "build"),
    "operator_cli": ("requirements",),
}


def install(session: nox.Session, lock: str) -> None:
    """Install the locked packages and the rooms, unless this environment already has exactly them."""
    requirements = ROOT / "requirements" / f"{lock}.txt"
    inputs = [requirements, *(ROOT / room / "pyproject.toml" for room in ROOMS)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    stamp = Path(session.virtualenv.location) / "indexpush-installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    session.install("--require-hashes", "-r", str(requirements))
    session.install("--no-deps", *(part for room in ROOMS for part in ("-e", str(ROOT / room))))
    stamp.write_text(digest)


@nox.session
def demo(session: nox.Session) -> None:
    """The whole path on this machine, with product pictures; `-- --once` makes it end by itself."""
    install(session, "demo")
    # After Ctrl-C it needs a moment to stop what it started and to clear up; nox would kill it after half a second.
    session.run("python", "-m", "local_stack.demo", *session.posargs, interrupt_timeout=20)


@nox.session
def tests(session: nox.Session) -> None:
    """Every test that needs neither Kubernetes nor Spinnaker; arguments go to pytest."""
    install(session, "dev")
    session.run("python", "functions/vendor.py")
    session.run(
        "pytest",
        "-m",
        "not kubernetes and not spinnaker",
        "--ignore=tests/kubernetes",
        "--ignore=tests/spinnaker",
        *session.posargs,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, and the arrows between the rooms."""
    install(session, "dev")
    session.run("ruff", "format", "--check", *CODE)
    session.run("ruff", "check", *CODE)
    session.run("mypy", *(str(path) for path in source_folders()))
    for folder in ("tests/kubernetes", "tests/spinnaker"):  # they run seldom: here is where a slip shows first
        session.run("mypy", folder, env={"MYPYPATH": folder})
    session.run("lint-imports", "--config", "pyproject.toml")
    session.run("python", "functions/vendor.py", "--check")


def source_folders() -> list[Path]:
    """Where the rooms' code is."""
    return [room for name in ROOMS if (room := ROOT / name / "src").exists()] + [ROOT / "functions" / "on_commit"]


@nox.session
def kubernetes(session: nox.Session) -> None:
    """The same path on a real Kubernetes node (or the cluster that KUBECONFIG names)."""
    install(session, "dev")
    session.run("python", "functions/vendor.py")
    session.run("python", "tests/kubernetes/run.py", *session.posargs)


@nox.session
def spinnaker(session: nox.Session) -> None:
    """The generated pipeline on Spinnaker's real orchestration engine."""
    install(session, "dev")
    session.run("python", "functions/vendor.py")
    session.run("pytest", "-m", "spinnaker", "tests/spinnaker", *session.posargs)


@nox.session
def vendor(session: nox.Session) -> None:
    """Build the contract's wheel into each function's folder: before `gcloud functions deploy`."""
    install(session, "dev")
    session.run("python", "functions/vendor.py", *session.posargs)


@nox.session
def bench_search(session: nox.Session) -> None:
    """Queries a second of the search server against raw Annoy and its peers."""
    install(session, "dev")
    session.run("python", "benchmarks/bench_search.py", *session.posargs)


@nox.session
def bench_pull(session: nox.Session) -> None:
    """The puller against its peers."""
    install(session, "dev")
    session.run("python", "benchmarks/bench_pull.py", *session.posargs)


@nox.session
def bench_commit(session: nox.Session) -> None:
    """From a commit to an answer, beside a watcher that bakes each index into an image; on a real Kubernetes node."""
    install(session, "dev")
    session.run("python", "functions/vendor.py")
    session.run("python", "benchmarks/bench_commit.py", *session.posargs, interrupt_timeout=20)


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Resolve every lock anew (requirements files with hashes); `-- --upgrade` takes newer versions."""
    compile_lock = ("uv", "pip", "compile", "-q", "--generate-hashes", "--no-header", "--no-emit-index-url")
    for folder, names in LOCKS.items():
        for name in names:
            source, target = f"{folder}/{name}.in", f"{folder}/{name}.txt"
            arguments = ("--universal", "--python-version", "3.11", source, "-o", target)
            session.run(*compile_lock, *arguments, *session.posargs, external=True)
    session.run(sys.executable, "functions/vendor.py", "--lock", *session.posargs, external=True, env=dict(os.environ))
