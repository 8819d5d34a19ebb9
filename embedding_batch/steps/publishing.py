"""A build into the bucket, and then the one object that puts it live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from embedding_batch.errors import NameTaken
from embedding_batch.events import Listener, Warned
from embedding_batch.steps.building import LOOKUP, Built
from embedding_batch.steps.checking import Checked
from embedding_batch.steps.uploading import describe, upload
from model_repository.documents.commit import Commit, LiveCommit
from model_repository.documents.index_manifest import (
    IndexManifest,
    ModelReference,
    format_index_manifest,
    parse_index_manifest,
)
from model_repository.errors import (
    BucketUnavailable,
    DeliveryError,
    DocumentMalformed,
    GenerationConflict,
    ObjectMissing,
)
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit, write_commit
from model_repository.store import Store


@dataclass(frozen=True, slots=True)
class Serving:
    """What is committed when the batch looks.

    live: None: there is no commit. items: of the committed build; None: not known.
    """

    live: LiveCommit | None
    items: int | None

    @property
    def generation(self) -> int:
        """The precondition for replacing the commit: 0 for one that must not exist."""
        return self.live.generation if self.live else 0


def describe_commit(live: LiveCommit | None) -> str:
    """Say in a few words what became of the commit; see `commit`. None: the batch was told not to commit."""
    if live is None:
        return "none asked for"
    if not live.commit.hold:
        return f"generation {live.generation}"
    who = f" by {live.commit.by}" if live.commit.by else ""
    why = f" ({live.commit.reason})" if live.commit.reason else ""
    return f"none: generation {live.generation} is on hold{who}{why}; release it to let new builds go live"


def look(store: Store, target: Target, listener: Listener) -> Serving:
    """Read what is committed now.

    Raises DocumentMalformed for a commit that makes no sense: whether it was to hold can't be known. A committed build
    that can't be read is no reason not to replace it: that is told, and its items count as unknown.
    """
    try:
        live = read_live_commit(store, target)
    except ObjectMissing:
        return Serving(None, None)
    try:
        manifest = read_build(store, live.commit.index_prefix).manifest
    except (ObjectMissing, DocumentMalformed) as error:
        listener(Warned(f"the committed build can't be read, so nothing is compared with it: {error}"))
        return Serving(live, None)
    return Serving(live, manifest.items)


def new_build(
    prefix: IndexPrefix, built: Built, checked: Checked, models: Sequence[ModelReference], created: datetime
) -> tuple[IndexManifest, bytes]:
    """Return what index.json says, and its bytes; raises DocumentMalformed if its own reader would not take them."""
    manifest = IndexManifest(
        prefix=prefix,
        created=created,
        models=tuple(models),
        lookup=LOOKUP,
        partitions=checked.partitions,
        golden_queries=checked.golden_queries,
        files=describe(built.contents),
    )
    data = format_index_manifest(manifest)
    parse_index_manifest(data, prefix)
    return manifest, data


def publish_build(store: Store, built: Built, manifest: IndexManifest, data: bytes) -> IndexManifest:
    """Upload a build; return it, or the one that stands there already and differs in nothing but how fast it was.

    data: the bytes of `manifest`. Raises NameTaken when another one stands there.
    """
    try:
        upload(store, manifest.prefix, built.contents, manifest.files, data)
    except NameTaken:
        standing = read_build(store, manifest.prefix).manifest
        if _unmeasured(standing) != _unmeasured(manifest):
            raise
        return standing
    return manifest


def _unmeasured(manifest: IndexManifest) -> IndexManifest:
    """The build without what is never measured the same twice."""
    partitions = (replace(partition, queries_per_second=None) for partition in manifest.partitions)
    return replace(manifest, partitions=tuple(partitions), files=tuple(sorted(manifest.files)))


def commit(store: Store, target: Target, commit: Commit, serving: Serving) -> LiveCommit:
    """Replace the commit that was `serving`, unless that is on hold; return the one that stands then.

    Raises GenerationConflict when somebody else committed since the batch looked: what they want counts; and
    BucketUnavailable, when nobody can tell whether the commit was written.
    """
    if serving.live is not None and serving.live.commit.hold:
        return serving.live
    try:
        return write_commit(store, target, commit, if_generation_match=serving.generation)
    except (GenerationConflict, BucketUnavailable) as error:
        # The answer may have got lost on its way: then what is live now is the very commit that was written.
        try:
            live = read_live_commit(store, target)
        except DeliveryError:
            raise error from None
        if live.generation == serving.generation or live.commit != commit:
            raise
        return live
