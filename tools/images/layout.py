"""An OCI image layout on disk, as a builder leaves it and as it is pushed.

The formats: https://github.com/opencontainers/image-spec (image-layout.md, manifest.md). Everything in `blobs` is named
by its SHA-256, so a change makes a new blob, and what nothing names any more is removed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.images.errors import BuildFailed

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
_TAR = "application/vnd.oci.image.layer.v1.tar"
_TAR_OF_DOCKER = "application/vnd.docker.image.rootfs.diff.tar"

BILL_TYPE = "application/vnd.cyclonedx+json"


@dataclass(frozen=True, slots=True)
class Layout:
    """A folder with one image for one platform, and what refers to it."""

    folder: Path

    def blob(self, digest: str) -> Path:
        """Where the bytes of this digest are."""
        return self.folder / "blobs" / Path(*digest.split(":", 1))

    def json(self, digest: str) -> dict[str, Any]:
        """The document of this digest."""
        found: dict[str, Any] = json.loads(self.blob(digest).read_bytes())
        return found

    @property
    def digest(self) -> str:
        """The image's, which is its manifest's. Raises `BuildFailed` where there isn't exactly one image."""
        found = [
            entry["digest"]
            for entry in self._images(self._index["manifests"])
            if "subject" not in self.json(entry["digest"])
        ]
        if len(found) != 1:
            raise BuildFailed(f"{self.folder}: holds {len(found)} images, and should one; build for one platform")
        return str(found[0])

    @property
    def manifest(self) -> dict[str, Any]:
        """The image's."""
        return self.json(self.digest)

    @property
    def config(self) -> dict[str, Any]:
        """The image's: labels, environment, layers' digests as unpacked."""
        return self.json(self.manifest["config"]["digest"])

    @property
    def layers(self) -> list[Path]:
        """The image's, the lowest first."""
        return [self.blob(layer["digest"]) for layer in self.manifest["layers"]]

    @property
    def referrers(self) -> list[str]:
        """Digests of the manifests that have the image as their subject."""
        return [entry["digest"] for entry in self._index["manifests"] if "subject" in self.json(entry["digest"])]

    def finish(self, tag: str, annotations: Mapping[str, str]) -> None:
        """Compress the layers, annotate the manifest, and have the index name nothing but that, by its tag."""
        manifest = self.manifest
        manifest["mediaType"] = MANIFEST
        manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
        manifest["layers"] = [self._compressed(layer) for layer in manifest["layers"]]
        manifest["annotations"] = dict(annotations)
        self._write_index([{**self._put_json(manifest), "annotations": {"org.opencontainers.image.ref.name": tag}}])
        self._remove_what_nothing_names()

    def attach(self, data: bytes, media_type: str, annotations: Mapping[str, str]) -> str:
        """Add an artifact that has the image as its subject (manifest.md, "Artifact Usage"); returns its digest."""
        image = self._index["manifests"][0]
        artifact = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": {"mediaType": EMPTY, **self._put(b"{}")},
            "layers": [{"mediaType": media_type, **self._put(data)}],
            "subject": {name: image[name] for name in ("mediaType", "digest", "size")},
            "annotations": dict(annotations),
        }
        entry = {**self._put_json(artifact), "artifactType": media_type, "annotations": dict(annotations)}
        self._write_index([*self._index["manifests"], entry])
        return str(entry["digest"])

    def entry(self, digest: str) -> dict[str, Any]:
        """The descriptor by which index.json names a manifest."""
        return next(entry for entry in self._index["manifests"] if entry["digest"] == digest)

    @property
    def _index(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "index.json").read_bytes())
        return found

    def _images(self, entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for entry in entries:
            if entry["mediaType"] == INDEX or entry["mediaType"].endswith("manifest.list.v2+json"):
                yield from self._images(self.json(entry["digest"])["manifests"])
            elif entry.get("annotations", {}).get("vnd.docker.reference.type") != "attestation-manifest":
                yield entry

    def _compressed(self, layer: dict[str, Any]) -> dict[str, Any]:
        if layer["mediaType"] not in (_TAR, _TAR_OF_DOCKER):
            return layer
        partial = self.folder / "layer.gz"
        with (
            self.blob(layer["digest"]).open("rb") as plain,
            partial.open("wb") as out,
            gzip.GzipFile("", "wb", 6, out, mtime=0) as packed,  # no name and no time: the same bytes every time
        ):
            shutil.copyfileobj(plain, packed, 1 << 20)
        with partial.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        size = partial.stat().st_size
        partial.replace(self.blob(digest))
        return {"mediaType": f"{_TAR}+gzip", "digest": digest, "size": size}

    def _put(self, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def _put_json(self, document: dict[str, Any]) -> dict[str, Any]:
        return {"mediaType": MANIFEST, **self._put(json.dumps(document, separators=(",", ":")).encode())}

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        (self.folder / "index.json").write_text(json.dumps(document, indent=2))

    def _remove_what_nothing_names(self) -> None:
        manifest = self.manifest
        named = {self.digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
        for path in self.folder.joinpath("blobs", "sha256").iterdir():
            if f"sha256:{path.name}" not in named:
                path.unlink()
        for name in ("manifest.json", "repositories"):  # docker save's own index, of what isn't here any more
            (self.folder / name).unlink(missing_ok=True)
