"""The annotations of a Deployment that hold the state of its rollout: their names, and how a value becomes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from cd_webhook.cluster import Object
from cd_webhook.state.deployed import NEVER, Deployed, Rollout, Trial
from manifests.canary import Canary, parse_canary
from manifests.metadata import COMMIT_GENERATION, PREFIX, STATE, build_annotations
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.canary_figures import CanaryFigures
from model_repository.documents.receipts.receipt import Receipt, format_receipt, parse_receipt
from model_repository.errors import PermanentError
from model_repository.fields import Fields, format_moment
from model_repository.names import Target, parse_generation
from model_repository.records import read as read_record
from model_repository.records import written

T = TypeVar("T")

REQUEST = f"{PREFIX}request"
"""JSON: the parameters of the newest request."""
MANIFEST = f"{PREFIX}manifest"
"""JSON: the Deployment's spec as it was last applied; what differs from it was changed by hand."""
LAST_GOOD = f"{PREFIX}last-good"
"""JSON: the parameters of the request that served last; empty: none ever did."""
LAST_GOOD_MANIFEST = f"{PREFIX}last-good-manifest"
"""JSON: the spec that `LAST_GOOD` was served with, so that an undo also takes back a bad image or bad values."""
ROLLOUT = f"{PREFIX}rollout"
"""canary, in-progress, served or undone."""
DETAIL = f"{PREFIX}detail"
"""One sentence for people: how the newest request ended."""
STARTED = f"{PREFIX}started"
"""RFC 3339: when the newest request was taken up."""
CANARY = f"{PREFIX}canary"
"""JSON: by what rules the canary of the newest request is judged; empty: there is none to judge."""
CANARY_SPEC = f"{PREFIX}canary-spec"
"""JSON: the spec that the canary tries out, and that its promotion makes the Deployment's own; else empty."""
CANARY_FIGURES = f"{PREFIX}canary-figures"
"""JSON: what the promoted canary of the newest request showed; else empty."""
PROMOTED = f"{PREFIX}promoted"
"""RFC 3339: when that canary was promoted; else empty."""
ACCEPTED = f"{PREFIX}accepted"
"""JSON: the Deployment's spec as the cluster made it of `MANIFEST`; what differs from it was changed since."""
DISPLACED = f"{PREFIX}displaced"
"""true: the newest request took the place of a rollout that hadn't ended; else empty."""
WAITING = f"{PREFIX}waiting"
"""JSON: the parameters of the request that is taken up when the newest one has ended; else empty."""
RECEIPTS_OWED = f"{PREFIX}receipts-owed"
"""JSON: receipts that are decided and perhaps not yet in the bucket; a restart writes them."""

TRACES = f"{PREFIX}traces"
"""JSON: by generation, the traceparent of the delivery of each of those whose rollout is to be a span; else empty."""


def read_deployed(live: Object | None) -> Deployed:
    """Read the state from a Deployment; None: there is none.

    What a person broke by hand reads as missing, and the next deploy mends it.
    """
    annotations: dict[str, str] = (live or {"metadata": {}})["metadata"].get("annotations") or {}

    def read(name: str, parse: Callable[[str], T]) -> T | None:
        text = annotations.get(name)
        if not text:
            return None
        try:
            return parse(text)
        except (PermanentError, ValueError, TypeError, KeyError, AttributeError):
            return None

    newest = _rewound_from(live) if live else None
    rollout = read(ROLLOUT, Rollout) or Rollout.UNKNOWN
    request = read(REQUEST, _parse_request)
    rules, spec = read(CANARY, _parse_canary), read(CANARY_SPEC, _parse_object)
    trial = Trial(rules, spec) if rules and spec else None
    if (rollout is Rollout.IN_PROGRESS and not request) or (rollout is Rollout.CANARY and not (request and trial)):
        rollout = Rollout.UNKNOWN  # nobody can say any more what is rolled out
    if newest is not None and annotations.get(REQUEST):
        return _rewound(newest, request, read(MANIFEST, _parse_object))
    return Deployed(
        generation=read(COMMIT_GENERATION, parse_generation) or 0,
        request=request,
        rollout=rollout,
        started=read(STARTED, _parse_moment) or NEVER,
        spec=read(MANIFEST, _parse_object),
        last_good=read(LAST_GOOD, _parse_request),
        last_good_spec=read(LAST_GOOD_MANIFEST, _parse_object),
        owed=read(RECEIPTS_OWED, _parse_receipts) or (),
        detail=annotations.get(DETAIL, ""),
        trial=trial,
        figures=read(CANARY_FIGURES, _parse_figures),
        promoted=read(PROMOTED, _parse_moment),
        displaced=annotations.get(DISPLACED) == "true",
        waiting=read(WAITING, _parse_request),
        accepted=read(ACCEPTED, _parse_object),
        traces=read(TRACES, _parse_traces) or {},
    )


def _rewound(newest: int, serving: DeploymentRequest | None, spec: Object | None) -> Deployed:
    """The state after a `kubectl rollout undo`: what was put back serves; of the newest request nothing is left."""
    what = (
        f"{serving.index_prefix} (commit {serving.generation}) serves on" if serving else "what was put back serves on"
    )
    return Deployed(
        newest,
        rollout=Rollout.REWOUND,
        spec=spec,
        last_good=serving,
        last_good_spec=spec,
        detail=f"rewound by hand (kubectl rollout undo): {what}; commit again to deploy something else",
    )


def format_deployed(deployed: Deployed) -> dict[str, str]:
    """All annotations of a state. What isn't there is empty, so that nothing of an earlier one stays."""
    trial = deployed.trial
    return {
        **(build_annotations(deployed.request) if deployed.request else {}),
        REQUEST: _format_request(deployed.request),
        MANIFEST: _compact(deployed.spec),
        LAST_GOOD: _format_request(deployed.last_good),
        LAST_GOOD_MANIFEST: _compact(deployed.last_good_spec),
        ROLLOUT: deployed.rollout.value,
        DETAIL: deployed.detail,
        STARTED: _format_moment(deployed.started),
        RECEIPTS_OWED: format_receipts(deployed.owed),
        CANARY: _compact(trial.rules.to_json() if trial else None),
        CANARY_SPEC: _compact(trial.spec if trial else None),
        CANARY_FIGURES: _compact(written(deployed.figures) if deployed.figures else None),
        PROMOTED: _format_moment(deployed.promoted or NEVER),
        DISPLACED: "true" if deployed.displaced else "",
        WAITING: _format_request(deployed.waiting),
        ACCEPTED: _compact(deployed.accepted),
        TRACES: _compact(dict(deployed.traces) or None),
    }


def marks(live: Object, changes: dict[str, str]) -> dict[str, dict[str, str]]:
    """The metadata to write for the Deployment `live` to hold these annotations: and the label that seals them."""
    annotations = {**(live["metadata"].get("annotations") or {}), **changes}
    return {"annotations": changes, "labels": {STATE: seal(annotations)}}


def changed(live: Object, deployed: Deployed) -> dict[str, dict[str, str]]:
    """The metadata to write for the Deployment `live` to hold this state."""
    annotations: dict[str, str] = live["metadata"].get("annotations") or {}
    changes = {name: text for name, text in format_deployed(deployed).items() if annotations.get(name, "") != text}
    return marks(live, changes)


def seal(annotations: dict[str, str]) -> str:
    """What the label `STATE` says of annotations: the newest commit, and a digest of all that is this project's.

    `kubectl rollout undo` puts the annotations of an older ReplicaSet back and leaves labels alone: then they differ.
    """
    ours = {name: text for name, text in annotations.items() if name.startswith(PREFIX) and text}
    digest = hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()[:16]
    return f"{annotations.get(COMMIT_GENERATION) or 0}.{digest}"


def _rewound_from(live: Object) -> int | None:
    """The newest commit that was asked for, if somebody put older annotations back since; None: nobody did."""
    sealed = (live["metadata"].get("labels") or {}).get(STATE)
    if not sealed or sealed == seal(live["metadata"].get("annotations") or {}):
        return None
    generation, _, digest = sealed.partition(".")
    return int(generation) if generation.isdecimal() and generation.isascii() and digest else None


def format_receipts(receipts: Iterable[Receipt]) -> str:
    """`RECEIPTS_OWED`."""
    return _compact([json.loads(format_receipt(receipt)) for receipt in receipts])


def _compact(value: object) -> str:
    return "" if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _format_request(request: DeploymentRequest | None) -> str:
    return _compact(request.to_parameters() if request else None)


def _format_moment(moment: datetime) -> str:
    return format_moment(moment) if moment > NEVER else ""


def _parse_request(text: str) -> DeploymentRequest:
    return DeploymentRequest.from_parameters(json.loads(text))


def _parse_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _parse_canary(text: str) -> Canary:
    return parse_canary(Fields(_parse_object(text), "the canary's annotation"))


def _parse_figures(text: str) -> CanaryFigures:
    return read_record(CanaryFigures, Fields(_parse_object(text), "the canary's figures"))


def _parse_receipts(text: str) -> tuple[Receipt, ...]:
    return tuple(
        parse_receipt(json.dumps(value).encode(), Target(value["environment"], value["index"]), value["generation"])
        for value in json.loads(text)
    )


def _parse_traces(text: str) -> dict[int, str]:
    return {int(generation): str(stated) for generation, stated in _parse_object(text).items()}


def _parse_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
