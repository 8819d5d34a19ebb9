"""What the function asks of the CD side: one request, complete, all strings.

The parameters hold everything that the manifests need, so that a webhook, or a Spinnaker pipeline, renders without
reading the bucket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

from model_repository.digests import check_sha256
from model_repository.documents.commit import LiveCommit
from model_repository.documents.index_manifest import Build, IndexManifest
from model_repository.errors import NameRefused
from model_repository.fields import Fields, parse_document
from model_repository.names import IndexPrefix, ModelPrefix, Target, check_bucket, check_label, parse_generation
from model_repository.records import Bound, read, read_among
from model_repository.resources.pictures import MODEL_COPIES, picture_process_bytes
from model_repository.resources.serving import elsewhere_bytes, further_worker_bytes, server_bytes, traces_bytes
from model_repository.telemetry.log import Trace, parse_traceparent

PAYLOAD_LIMIT = 64 * 1024
"""Bytes of the longest body that the CD side reads."""

_MIB = 1024 * 1024
WORKER_MIB = math.ceil(further_worker_bytes() / _MIB)
"""What each further worker needs. How many there are, an environment says."""
ELSEWHERE_MIB = math.ceil(elsewhere_bytes() / _MIB)
"""What a pod needs whose photos are embedded elsewhere, in place of its models. Whether they are, values say."""
TRACES_MIB = math.ceil(traces_bytes() / _MIB)
"""What a pod needs that tells a collector of its start. Whether it does, values say."""
_COUNT_DIGITS = 15
"""More than any footprint has, and short enough for every reader's integers."""
_TEXT_LIMIT = 2000
"""Characters; a commit's own text is half as long, and making it inert lengthens it."""
SLOWEST_PULL = 20 * _MIB
"""Bytes a second that a pull reaches on a bad day; the deadline gives up on anything slower."""
_START_SECONDS = 120
"""What a pod may take besides the pull: scheduling, the image on a new node, the proof, the probes."""


class AuthKind(StrEnum):
    """How whoever asks for a deployment proves to the CD side who it is."""

    NONE = "none"
    BEARER = "bearer"
    """A secret that both sides hold."""
    GOOGLE_ID_TOKEN = "google-id-token"  # noqa: S105 - a kind of token, not one
    """An identity token of the sender's service account."""


class AnswerOutcome(StrEnum):
    """What the CD side answers to a request, in the field ``outcome``."""

    ACCEPTED = "accepted"
    ALREADY_DEPLOYED = "already-deployed"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > _COUNT_DIGITS or int(text) == 0:
        raise NameRefused(f"{text[:40]!r}: expected a positive whole number")
    return int(text)


Count = Annotated[int, Bound(parse=_parse_count)]
Generation = Annotated[int, Bound(parse=parse_generation)]
Text = Annotated[str, Bound(longest=_TEXT_LIMIT)]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a pod that serves a build needs; computed from index.json, not configured by hand.

    memory_mib: memory of a server of one worker, the mapped index included. volume_mib: disk for index and model.
    deadline_seconds: within this a rollout becomes ready, or is undone. model_mib: of memory_mib what the models that
    embed take; a pod whose photos are embedded elsewhere needs ELSEWHERE_MIB in its place.
    """

    memory_mib: Count
    volume_mib: Count
    deadline_seconds: Count
    model_mib: Count = 0


def footprint(manifest: IndexManifest) -> Footprint:
    """The footprint of a build."""
    index_bytes = sum(file.size for file in manifest.files)
    model_bytes = manifest.model_bytes
    embedding_bytes = picture_process_bytes(model_bytes) if manifest.models else 0
    return Footprint(
        memory_mib=math.ceil((server_bytes() + index_bytes * 1.1 + embedding_bytes) / _MIB),
        volume_mib=64 + math.ceil((index_bytes + model_bytes) * 1.05 / _MIB),
        deadline_seconds=_START_SECONDS + math.ceil((index_bytes + model_bytes) / SLOWEST_PULL),
        model_mib=MODEL_COPIES * sum(file.size for model in manifest.models for file in model.files) // _MIB,
    )


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """Serve this build in that environment.

    generation: of the live commit object: the version of the deployment.
    index_digest: sha256 of the bytes of index.json; index_generation: that object's generation.
    models: what made the vectors, for people: index.json, whose digest this is, has theirs.
    by, reason: from the commit, for people; may be empty.
    restores: the generation of a live commit that can't be deployed: `generation` and the build are those of an earlier
        commit that a receipt says served, for an index whose Deployment is gone. None: an ordinary request.
    traceparent: the span in which it is asked for, and then in which the CD side took it up (W3C Trace Context); empty:
        no spans are recorded.
    """

    target: Target
    generation: Generation
    bucket: Annotated[str, Bound(parse=check_bucket)]
    index_prefix: IndexPrefix
    index_generation: Generation
    index_digest: Annotated[str, Bound(parse=check_sha256)]
    models: tuple[ModelPrefix, ...]
    footprint: Footprint
    by: Text = ""
    reason: Text = ""
    restores: Generation | None = None
    traceparent: str = ""

    @classmethod
    def of(cls, live: LiveCommit, build: Build, *, bucket: str) -> DeploymentRequest:
        """The request that a live commit and the build that it names make."""
        return cls(
            target=live.target,
            generation=live.generation,
            bucket=bucket,
            index_prefix=build.manifest.prefix,
            index_generation=build.generation,
            index_digest=build.digest,
            models=tuple(model.prefix for model in build.manifest.models),
            footprint=footprint(build.manifest),
            by=live.commit.by,
            reason=live.commit.reason,
        )

    @property
    def rollout(self) -> Trace | None:
        """The place of its rollout in its trace, which pods go on from; None: no spans are recorded."""
        taken_up = parse_traceparent(self.traceparent)
        return taken_up.child("rollout") if taken_up else None

    def to_parameters(self) -> dict[str, str]:
        """The request as Spinnaker's trigger parameters, all strings."""
        return {
            "environment": self.target.environment,
            "index": self.target.index,
            "generation": str(self.generation),
            "bucket": self.bucket,
            "index_prefix": str(self.index_prefix),
            "index_generation": str(self.index_generation),
            "index_digest": self.index_digest,
            "models": ",".join(map(str, self.models)),
            "memory_mib": str(self.footprint.memory_mib),
            "volume_mib": str(self.footprint.volume_mib),
            "deadline_seconds": str(self.footprint.deadline_seconds),
            **({"model_mib": str(self.footprint.model_mib)} if self.footprint.model_mib else {}),
            "by": self.by,
            "reason": self.reason,
            **({"restores": str(self.restores)} if self.restores is not None else {}),
            **({"traceparent": self.traceparent} if self.traceparent else {}),
        }

    def to_payload(self) -> dict[str, Any]:
        """The body for ``POST /webhooks/webhook/<source>``.

        Environment and index stand at the top as well: a Spinnaker's trigger chooses its pipeline by top-level fields.
        """
        name = f"gs://{self.bucket}/{self.index_prefix.manifest}"
        generation = str(self.index_generation)
        artifact = {"type": "gcs/object", "name": name, "reference": f"{name}#{generation}", "version": generation}
        return {
            "environment": self.target.environment,
            "index": self.target.index,
            "parameters": self.to_parameters() | {"by": _inert(self.by), "reason": _inert(self.reason)},
            "artifacts": [artifact],
        }

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> DeploymentRequest:
        """Read what `to_parameters` wrote; raises `DocumentMalformed` naming the parameter."""
        fields = Fields(dict(parameters), "parameters")
        fields.ignore("model_prefix", "model_digest")  # of a function, or on a Deployment, of the first release
        target = Target(
            fields.parsed("environment", partial(check_label, "environment")),
            fields.parsed("index", partial(check_label, "index")),
        )
        models = fields.parsed("models", _models) if fields.has("models") else ()
        request = read(cls, fields, target=target, models=models, footprint=read_among(Footprint, fields))
        if not request.target.takes(request.index_prefix):
            fields.refuse(f"{request.index_prefix} is a build of another index than {request.target.index!r}")
        return request


def parse_payload(body: bytes) -> DeploymentRequest:
    """Read the body that `DeploymentRequest.to_payload` makes; raises `DocumentMalformed`.

    Of the artifacts only the reference counts, as in Spinnaker, and it must name what the parameters name; so must
    environment and index at the top.
    """
    fields = parse_document(body, "the request", limit=PAYLOAD_LIMIT)
    request = DeploymentRequest.from_parameters(fields.strings("parameters"))
    for field, said in (("environment", request.target.environment), ("index", request.target.index)):
        if fields.text(field, default=said) != said:
            fields.refuse(f"expected {said!r}, as the parameters say", field)
    expected = request.to_payload()["artifacts"][0]["reference"]
    if any(
        each.text("reference", longest=2000) != expected for each in fields.objects("artifacts", most=10, default=[])
    ):
        fields.refuse(f"expected {expected}, as the parameters say", "artifacts")
    fields.done()
    return request


def _inert(text: str) -> str:
    # A Spinnaker evaluates ${...} wherever it finds it in a trigger. What a person writes into a commit is no program.
    return text.replace("${", "$ {")


def _models(text: str) -> tuple[ModelPrefix, ...]:
    return tuple(ModelPrefix.parse(prefix) for prefix in text.split(",")) if text else ()
