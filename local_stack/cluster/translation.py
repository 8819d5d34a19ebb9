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
from pathlib import Path

from local_stack.cluster.manifest import Json

TERMINATION_LOG = "/dev/termination-log"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


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


def process_of(
    container: Json, fields: Mapping[str, str], home: Path, places: Mapping[str, Path], interpreter: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command line of the container's process, and its whole environment: nothing is inherited from the cluster's.

    fields: what the process may know of its pod, by fieldPath. home: the pod's folder.
    """
    environment = {
        "PATH": f"{Path(interpreter).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),  # what a container that is killed leaves goes with its pod
        "HOSTNAME": fields["metadata.name"],
        "LANG": "C.UTF-8",
    }
    for variable in container.get("env", []):
        source = variable.get("valueFrom")
        value = fields[source["fieldRef"]["fieldPath"]] if source else variable.get("value", "")
        environment[variable["name"]] = translate(_expand(value, environment), places)
    environment["HOST"] = fields["status.podIP"]
    environment["TERMINATION_LOG"] = str(places[TERMINATION_LOG])
    written = [*container["command"][1:], *container.get("args", [])]
    arguments = (translate(_expand(argument, environment), places) for argument in written)
    return (interpreter, *arguments), environment


def _expand(text: str, environment: Mapping[str, str]) -> str:
    """Kubernetes' $(VARIABLE); one that isn't known stays as it is, and $$ is a dollar."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] is None else environment.get(found[1], found[0])

    return _REFERENCE.sub(value, text)
