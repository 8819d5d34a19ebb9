"""What an environment adds to the pod template, so that a mesh, an agent or a private registry needs no fork.

A patch is merged as Kubernetes' strategic merge does it: mappings key by key, lists of named things entry by entry. It
adds and changes nothing: the merged template is compared with the one before, and every difference that isn't an
addition at one of the places below is refused by its path.
"""

from __future__ import annotations

import copy
import itertools
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from manifests.kubernetes_fields import OURS, KubernetesFields
from manifests.metadata import PREFIX
from model_repository.errors import DocumentMalformed

PodPatch = Mapping[str, Any]
"""What is added to a pod template: ``metadata``, ``spec``, or both, as JSON has it."""

DATA_VOLUME, DATA_PATH = "data", "/data"
"""Where the index and its models are, as the template names it."""
_DEEPEST = 30

_KEYS = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name"}
_KEYS |= {"volumeMounts": "mountPath", "topologySpreadConstraints": "topologyKey"}
"""What tells the entries of a list apart, as Kubernetes' own merge keys do. Other lists are one value."""

_CONTAINERS = ("containers", "initContainers")
_WHOLE: tuple[str, ...] = ("affinity", "dnsConfig", "dnsPolicy", "hostAliases", "imagePullSecrets", "readinessGates")
_WHOLE += ("runtimeClassName", "schedulerName")
_NAMED = (*_CONTAINERS, "topologySpreadConstraints", "volumes")
_OF_OURS = ("env", "volumeMounts")
_ADDITIONS = frozenset(
    {("metadata", field, "*") for field in ("annotations", "labels")}
    | {("spec", field) for field in _WHOLE}
    | {("spec", field, "*") for field in _NAMED}
    | {("spec", kind, "*", field, "*") for kind in _CONTAINERS for field in _OF_OURS}
)
"""Where a patch may add what wasn't there; a star is any name."""

_DEFAULT = (
    "a patch may add labels and annotations of metadata; "
    f"{', '.join(sorted((*_WHOLE, *_NAMED)))} of spec; and {' and '.join(_OF_OURS)} of our containers; "
    "nothing else, and it changes nothing that is there"
)
_MENDS = {
    "annotations": "an annotation of ours, or one for the values' `pod_annotations` to change",
    "labels": "a label of ours, or one that the values' `labels` set; choose another name",
    "image": "the values' `image` names it",
    "imagePullPolicy": "the values' `image_pull_policy` says it",
    "resources": "the values' `cpu`, `cpu_limit`, `pull_cpu` and `pull_cpu_limit` say it; memory and disk come from "
    "index.json",
    "nodeSelector": "the values' `node_selector` says it",
    "tolerations": "the values' `tolerations` say it",
    "priorityClassName": "the values' `priority_class` names it",
    "serviceAccountName": "the values' `service_account` names it",
    "terminationGracePeriodSeconds": "it follows from the values' `pre_stop_seconds` and `drain_seconds`",
    "containers": f"the container's name is taken, or it mounts our volume {DATA_VOLUME!r}: name it otherwise, and "
    "give it a volume of its own",
    "env": "a variable that the template sets, or the values' `env`; choose another name",
    "volumes": "the volume is ours; the values' `storage_class` says of what kind, and index.json how large it is. Add "
    "one of another name",
    "volumeMounts": f"{DATA_PATH} and the volume {DATA_VOLUME!r} are ours: mount another volume at another path",
}
_MENDS["initContainers"] = _MENDS["containers"]
"""What to do instead, by the field that was touched."""

_TO_A_CONTAINER = 3
"""Parts of the path to one."""
_Path = tuple[str, ...]


def parse_pod_patch(fields: KubernetesFields, field: str) -> PodPatch:
    """Read a patch as it is written; whether it only adds is seen where it is merged. Raises `DocumentMalformed`."""
    found = fields.take(field, {})
    if not isinstance(found, dict):
        fields.refuse("expected a mapping: metadata, spec, or both, as in a pod template", field)
    for path, what in _unfit(found, (field,)):
        raise fields.error(_shown(path), what)
    patch: PodPatch = found
    return patch


def patched(template: dict[str, Any], patch: PodPatch, place: str, set_by_template: frozenset[str]) -> dict[str, Any]:
    """The pod template with what the patch adds.

    place: the file and field of the patch. set_by_template: variables that no patch may give to our containers.
    Raises `DocumentMalformed`, naming the path and the mend, for a patch that does more than add.
    """
    after: dict[str, Any] = _merged(template, patch, ())
    taken = {entry["name"] for kind in _CONTAINERS for entry in template["spec"].get(kind, [])}
    for path, was, now in _touched(template, after, ()):
        if was is not None or not _may_be_added(path) or _reaches_for_ours(path, now, taken, set_by_template):
            raise DocumentMalformed(place, f"{_shown(path)}: {_mend(path, was, now)}")
    return after


def _unfit(value: object, path: _Path) -> Iterator[tuple[_Path, str]]:
    """What is no JSON, or would do something else than add."""
    if len(path) > _DEEPEST:
        yield path[:3], "nested too deeply"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str) and not key.startswith("$"):
                yield from _unfit(inner, (*path, key))
            else:
                yield path, f"{str(key)[:80]!r} names no field: a patch has no directives, it only adds"
    elif isinstance(value, list):
        yield from _unfit_list(value, path)
    elif value is None:
        yield path, "null would take something away, and a patch only adds: leave the field out"
    elif not isinstance(value, str | int):
        yield path, f"{str(value)[:80]!r} is neither text nor a whole number; put it in quotes"


def _unfit_list(entries: list[Any], path: _Path) -> Iterator[tuple[_Path, str]]:
    key, seen = _KEYS.get(path[-1]), set()
    for position, entry in enumerate(entries):
        if key is None:
            yield from _unfit(entry, (*path, str(position)))
        elif not isinstance(entry, dict) or not isinstance(entry.get(key), str):
            yield (*path, str(position)), f"expected a mapping with a {key}"
        elif entry[key] in seen:
            yield (*path, entry[key]), "stands twice"
        else:
            seen.add(entry[key])
            yield from _unfit(entry, (*path, entry[key]))


def _merged(before: Any, patch: Any, path: _Path) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(before, dict) and isinstance(patch, Mapping):
        return {**copy.deepcopy(before), **{k: _merged(before.get(k), v, (*path, k)) for k, v in patch.items()}}
    key = _KEYS.get(path[-1]) if path else None
    if key is None or not isinstance(before, list) or not isinstance(patch, list):
        return copy.deepcopy(patch)
    wanted = {entry[key]: entry for entry in patch}
    kept = [_merged(entry, wanted.pop(entry[key], {}), (*path, entry[key])) for entry in before]
    added = copy.deepcopy(list(wanted.values()))
    # What is there before the pull can carry it: a proxy, a bundle of authorities.
    return [*added, *kept] if path[-1] == "initContainers" else [*kept, *added]


def _touched(before: object, after: object, path: _Path) -> Iterator[tuple[_Path, object, Any]]:
    """Where `after` differs, what stood there (None: nothing), and what stands there now."""
    key = _KEYS.get(path[-1]) if path else None
    if isinstance(before, dict) and isinstance(after, dict):
        was, now = before, after
    elif key and isinstance(before, list) and isinstance(after, list):
        was, now = ({entry[key]: entry for entry in entries} for entries in (before, after))
    else:
        if before != after:
            yield path, before, after
        return
    for name in {**was, **now}:
        yield from _touched(was.get(name), now.get(name), (*path, name))


def _may_be_added(path: _Path) -> bool:
    starred = tuple("*" if at in {2, 4} else part for at, part in enumerate(path))
    return starred in _ADDITIONS


def _reaches_for_ours(path: _Path, added: Any, taken: set[str], set_by_template: frozenset[str]) -> bool:  # noqa: ANN401 - any JSON
    """Whether what may stand there changes something of ours all the same."""
    match path[-2]:
        case "labels":
            return path[-1].startswith(OURS)
        case "annotations":
            return path[-1].startswith(PREFIX)
        case "env":
            return path[-1] in set_by_template
        case "volumeMounts":
            return _mounts_data(added) or _overlaps(path[-1])
        case "containers" | "initContainers":
            mounts = added.get("volumeMounts", [])
            return path[-1] in taken or any(map(_mounts_data, mounts if isinstance(mounts, list) else []))
    return False


def _mend(path: _Path, was: object, now: object) -> str:
    if isinstance(was, list | dict) and type(was) is not type(now):
        return f"expected a {'list' if isinstance(was, list) else 'mapping'}, as Kubernetes has it there"
    inside = _CONTAINERS if len(path) > _TO_A_CONTAINER else ()
    return next((_MENDS[part] for part in reversed(path) if part in _MENDS and part not in inside), _DEFAULT)


def _mounts_data(mount: dict[str, Any]) -> bool:
    return mount.get("name") == DATA_VOLUME


def _overlaps(mount_path: str) -> bool:
    """Whether what is mounted there hides our data, or stands in it."""
    normal = posixpath.normpath(f"/{mount_path.lstrip('/')}")
    return posixpath.commonpath([DATA_PATH, normal]) in {DATA_PATH, normal}


def _shown(path: _Path) -> str:
    """The path for a person: ``spec.containers[search-server].image``."""
    shown = path[0]
    for before, part in itertools.pairwise(path):
        shown += f"[{part}]" if before in _KEYS else f".{part}"
    return shown
