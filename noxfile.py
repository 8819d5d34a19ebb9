"""Every task of the repository. `./noxw -l` lists them; `./noxw -s demo` and `./noxw -s tests` are the two to know."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
ROOMS: list[str] = PROJECT["tool"]["indexpush"]["rooms"]
CODE = (*ROOMS, "functions", "tests", "benchmarks", "noxfile.py")
PARTS = ("batch_but_onnxruntime", "batch", "bigquery", "traces")  # of other groups, nothing by themselves
GROUPS = [group for group in PROJECT["dependency-groups"] if group not in PARTS]
ALIKE = {"embedding_batch_cuda": "embedding_batch"}
"""Locks that have the versions of another one, wherever both have a package."""

ELSEWHERE = {
    "on_commit": "functions/on_commit/requirements.txt",
    "notify": "functions/notify/requirements.txt",
    "search_server": "base_image/requirements.txt",
    "annoy_build": "base_image/build.txt",
}
"""Locks that stand where they are installed from; every other group's is requirements/<group>.txt."""

SHIPPED = {
    "search": ELSEWHERE["search_server"],
    "cd-webhook": "requirements/cd_webhook.txt",
    "batch": "requirements/embedding_batch.txt",
    "batch-cuda": "requirements/embedding_batch_cuda.txt",
    "on-commit": ELSEWHERE["on_commit"],
    "notify": ELSEWHERE["notify"],
    "operator": "requirements/operator_cli.txt",
}
"""What runs in a cloud, the images (as in tools/images/recipes.py) and the two functions, and each one's lock."""


def install(session: nox.Session, group: str) -> None:
    """Install a group's locked packages and the rooms, unless this environment already has exactly them."""
    requirements = ROOT / "requirements" / f"{group}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = Path(session.virtualenv.location) / "indexpush-installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    session.install("--require-hashes", "-r", str(requirements))
    session.install("--no-deps", "-e", str(ROOT))
    stamp.write_text(digest)


def needs(session: nox.Session, *programs: str, mend: str) -> None:
    """End the session, before it does anything else, with one line that says which programs are missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        session.error(f"{', '.join(missing)}: not installed; {mend}")


@nox.session
def demo(session: nox.Session) -> None:
    """The whole path on this machine, with product pictures; `-- --once` makes it end by itself."""
    install(session, "local_stack")
    # After Ctrl-C it needs a moment to stop what it started and to clear up; nox would kill it after half a second.
    session.run("python", "-m", "local_stack.demo", *session.posargs, interrupt_timeout=20)


@nox.session
def tests(session: nox.Session) -> None:
    """Every test that needs neither Kubernetes nor Spinnaker, on up to four cores; arguments go to pytest, on one."""
    install(session, "dev")
    session.run(
        "pytest",
        *(() if session.posargs else ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")),
        "-m",
        "not kubernetes and not spinnaker",
        "--ignore=tests/kubernetes",
        "--ignore=tests/spinnaker",
        "--ignore=tests/pipelines",
        "--ignore=tests/inference",
        "--ignore=tests/terraform",
        *session.posargs,
    )


@nox.session
def pipelines(session: nox.Session) -> None:
    """The batch with BigQuery and Kubeflow Pipelines, whose clients can't be installed beside the webhook's."""
    install(session, "batch_dev")
    # bqemulator's own plugin for pytest wants containers
    session.run("pytest", "-p", "no:bqemulator", *(session.posargs or ["tests/pipelines"]))


@nox.session
def inference(session: nox.Session) -> None:
    """Photos embedded by a real server of the Open Inference Protocol, which can't be installed beside the rest."""
    install(session, "inference_dev")
    session.run("pytest", *(session.posargs or ["tests/inference"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, and the arrows between the rooms."""
    install(session, "dev")
    session.run("ruff", "format", "--check", *CODE)
    session.run("ruff", "check", *CODE)
    session.run("mypy", *ROOMS, "functions/on_commit/main.py", "functions/vendor.py")
    session.run("mypy", "functions/notify/main.py")  # apart: both functions have a main.py
    session.run("mypy", "tests/kubernetes", "tests/spinnaker")  # they run seldom: here is where a slip shows first
    session.run("lint-imports", "--config", "pyproject.toml")


@nox.session
def chaos(session: nox.Session) -> None:
    """SIGKILL for the parts of the local stack, and bursts of commits; `-- --rounds N --seed N --bursts N`."""
    install(session, "dev")
    session.run("python", "-m", "tests.chaos", *session.posargs, interrupt_timeout=20)


@nox.session
def prune_simulation(session: nox.Session) -> None:
    """A bucket that is pruned while people commit and batches run, 110,000 times; `-- --seeds N --first N`."""
    install(session, "dev")
    session.run("python", "-m", "tests.operator_cli.prune_simulation", *session.posargs)
    session.run("python", "-m", "tests.operator_cli.features_simulation", *session.posargs)


@nox.session
def batch_kills(session: nox.Session) -> None:
    """The batch, killed at random moments and begun again; `-- --rounds N --seed N`."""
    install(session, "dev")
    session.run("python", "-m", "tests.batch_kills", *session.posargs, interrupt_timeout=20)


@nox.session
def kubernetes(session: nox.Session) -> None:
    """The same path on a real Kubernetes node (or the cluster that KUBECONFIG names)."""
    install(session, "dev")
    session.run("python", "-m", "tests.kubernetes.run", *session.posargs)


@nox.session
def brown_outs(session: nox.Session) -> None:
    """API server and bucket that don't answer for seconds, 20 times, on a real node; ROUNDS and SEED choose others."""
    install(session, "dev")
    session.run(
        "python",
        "-m",
        "tests.kubernetes.run",
        "-m",
        "brown_out",
        "tests/kubernetes/test_brown_outs.py",
        *session.posargs,
    )


@nox.session
def spinnaker(session: nox.Session) -> None:
    """The generated pipeline on Spinnaker's real orchestration engine."""
    needs(session, "redis-server", "mvn", "javac", mend="tests/spinnaker/lab/install.sh does it (Debian, as root)")
    install(session, "dev")
    session.run("pytest", "-m", "spinnaker", "tests/spinnaker", *session.posargs)


@nox.session
def terraform(session: nox.Session) -> None:
    """The module for Google Cloud, planned by the real terraform and providers; the first time it builds them."""
    install(session, "dev")
    session.run("pytest", *(session.posargs or ["tests/terraform"]), env={"PYTEST_TIMEOUT": "3600"})


@nox.session
def vendor(session: nox.Session) -> None:
    """Copy the contract into each function's folder: before `gcloud functions deploy`."""
    session.run("python", "functions/vendor.py", *session.posargs)


@nox.session
def bench_search(session: nox.Session) -> None:
    """Queries a second of the search server against raw Annoy and its peers."""
    needs(session, "wrk", "taskset", mend="apt-get install wrk util-linux")
    install(session, "dev")
    session.run("python", "-m", "benchmarks.bench_search", *session.posargs)


@nox.session
def bench_pull(session: nox.Session) -> None:
    """The puller against its peers."""
    needs(session, "nginx", "curl", mend="apt-get install nginx-light curl")
    install(session, "dev")
    session.run("python", "-m", "benchmarks.bench_pull", *session.posargs)


@nox.session
def bench_commit(session: nox.Session) -> None:
    """From a commit to an answer, beside a watcher that bakes each index into an image; on a real Kubernetes node."""
    install(session, "dev")
    session.run("python", "-m", "benchmarks.bench_commit", *session.posargs, interrupt_timeout=20)


@nox.session
def bench_batch(session: nox.Session) -> None:
    """Pictures through a model by the batch's processes, beside the same work with nothing around it."""
    install(session, "dev")
    session.run("python", "-m", "benchmarks.bench_batch", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of every locked package. Needs the internet: PyPI's JSON API, or OSV with `-- -s osv`."""
    install(session, "supply_chain")
    locks = [ELSEWHERE.get(group, f"requirements/{group}.txt") for group in GROUPS]
    named = [word for file in (*locks, "requirements/operator_cli.txt") for word in ("-r", file)]
    # strict: a package that the service doesn't know is a failure, and not "no known vulnerabilities"
    session.run("pip-audit", "--strict", "--disable-pip", "--require-hashes", *named, *session.posargs)


@nox.session
def sbom(session: nox.Session) -> None:
    """A bill of materials (CycloneDX) of each lock that is shipped, in sbom/: no build and no network is needed."""
    install(session, "supply_chain")
    (ROOT / "sbom").mkdir(exist_ok=True)
    for name, file in SHIPPED.items():
        made = f"sbom/{name}.cdx.json"
        session.run(
            "cyclonedx-py", "requirements", file, "--pyproject", "pyproject.toml", "--output-reproducible", "-o", made
        )


@nox.session
def images(session: nox.Session) -> None:
    """Every image, with labels and a bill of materials, in dist/images; `-- --tag REGISTRY/NAME --push` pushes them."""
    install(session, "supply_chain")
    session.run("python", "-m", "tools.images", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The operator's command as one wheel in build/, tried in an environment that has nothing but it and its lock."""
    session.run("uv", "build", "-q", "--wheel", "--out-dir", "build", external=True)
    (wheel,) = (ROOT / "build").glob(f"indexpush-{_version()}-*.whl")
    session.install("--reinstall", str(wheel), "-c", str(ROOT / "requirements" / "operator_cli.txt"))
    elsewhere = session.create_tmp()  # the rooms of this folder aren't to be found from there
    with session.chdir(elsewhere):
        session.run("indexpush", "--version")
        session.run("indexpush", "completion", "bash", silent=True)
        values = str(ROOT / "manifests" / "examples" / "argo-batch.yaml")
        argo = ("argo-workflow", "--index", "shop", "--environment", "production", "--values", values)
        session.run("indexpush", "--repository", "gs://shop", *argo, silent=True)
        session.run("python", "-c", "import operator_cli.board.serve, operator_cli.check.installation, init_container")
    session.log(f"{wheel.relative_to(ROOT)}: uv tool install, pipx install or pip install it")


def _version() -> str:
    text = (ROOT / "model_repository" / "__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Resolve every lock anew (requirements files with hashes); `-- --upgrade` takes newer versions."""
    compile_lock = ("uv", "pip", "compile", "-q", "--generate-hashes", "--no-header", "--no-emit-index-url")
    compile_lock += ("--universal", "--python-version", "3.11")
    for group in GROUPS:
        target = ELSEWHERE.get(group, f"requirements/{group}.txt")
        alike = ("-c", f"requirements/{ALIKE[group]}.txt") if group in ALIKE else ()
        session.run(*compile_lock, *alike, "--group", group, "-o", target, *session.posargs, external=True)
    operator = ("pyproject.toml", "-o", "requirements/operator_cli.txt")
    session.run(*compile_lock, *operator, *session.posargs, external=True)
