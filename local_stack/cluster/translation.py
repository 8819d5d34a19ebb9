"""From a container to a process.

A process has no file system and no network of its own, so this is translated:

1. a volume's mount path, where it begins a path in an environment value or an argument, becomes the pod's own folder,
   and /dev/termination-log likewise (TERMINATION_LOG);
2. every pod has its own loopback address (HOST, POD_IP by fieldRef), so each can listen on the port of the manifest;
3. an image is a Python interpreter, and ``python`` is that interpreter.

Nothing else: no value is changed, and what stands in the manifest is what the process gets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_stack.cluster.manifest import Container

TERMINATION_LOG = "/dev/termination-log"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a process may know of its pod. fields: by fieldPath. address: its loopback address."""

    name: str
    address: str
    home: Path
    fields: Mapping[str, str]


def interpreter_of(image: str, images: Mapping[str, str]) -> str | None:
    """The interpreter that stands for `image`: by its full name, its name without tag and digest, or ``*``."""
    without_digest = image.partition("@")[0]
    head, slash, last = without_digest.rpartition("/")
    return images.get(image) or images.get(head + slash + last.partition(":")[0]) or images.get("*")


def translate(text: str, places: Mapping[str, Path]) -> str:
    """`text` with every path below one of `places` (mount paths) replaced; longer mount paths win."""
    for mount in sorted(places, key=len, reverse=True):
        folder = str(places[mount])
        # A path begins where the text does, or after what separates paths from other things.
        found = re.compile(rf"(?:(?<=^)|(?<=[=:,])){re.escape(mount)}(?=$|[/:,])")
        text = found.sub(lambda _match, to=folder: to, text)  # type: ignore[misc]
    return text


def process_environment(
    container: Container, pod: PodFacts, places: Mapping[str, Path], interpreter: str
) -> dict[str, str]:
    """The whole environment of the container's process; nothing is inherited from the cluster's own."""
    environment = {
        "PATH": f"{Path(interpreter).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(pod.home),
        "HOSTNAME": pod.name,
        "LANG": "C.UTF-8",
    }
    for name, value, path in container.variables:
        environment[name] = translate(_expand(pod.fields[path] if path else value, environment), places)
    environment["HOST"] = pod.address
    environment["TERMINATION_LOG"] = str(places[TERMINATION_LOG])
    return environment


def process_command(
    container: Container, environment: Mapping[str, str], places: Mapping[str, Path], interpreter: str
) -> tuple[str, ...]:
    """The command line of the container's process."""
    arguments = (translate(_expand(argument, environment), places) for argument in container.command[1:])
    return (interpreter, *arguments)


def _expand(text: str, environment: Mapping[str, str]) -> str:
    """Kubernetes' $(VARIABLE); one that isn't known stays as it is, and $$ is a dollar."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] is None else environment.get(found[1], found[0])

    return _REFERENCE.sub(value, text)
