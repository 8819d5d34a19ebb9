"""The layout of the bucket, and the only code that turns names into paths and back.

models/<model>/<version>/...
indexes/<index>/<build>/...
commits/<environment>/<index>.json
deployments/<environment>/<index>/<generation>.json
deployments/<environment>/<index>/<generation>.address.json
comparisons/<environment>/<index>-shadow/<generation>.json
filters/<environment>/<index>.json
filters/<environment>/<index>/<sha256>.hidden
filters/<environment>/<index>/<generation>.json
filters/<environment>/<index>/last-good.json
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_repository.errors import NameRefused

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?", re.ASCII)
_LABEL = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]", re.ASCII)
_GENERATION = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)

NAME_LIMIT = 63
"""Longest name of a model, version or build: they become Kubernetes label values."""

LABEL_LIMIT = 40
"""Longest name of an index or environment: they become parts of resource names, which Kubernetes adds suffixes to."""

FILE_LIMIT = 200
"""Longest name of a file within a build or a model."""


def check_name(kind: str, name: str) -> str:
    """Return `name`, the name of a `kind` (model, version or build), or raise `NameRefused`."""
    if len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
        raise NameRefused(
            f"{kind} {name[:80]!r}: use at most {NAME_LIMIT} of a-z, 0-9, '-' and '.', "
            "beginning and ending with a letter or digit"
        )
    return name


def check_label(kind: str, name: str) -> str:
    """Return `name`, the name of a `kind` (index or environment), or raise `NameRefused`.

    Names of Kubernetes Services must be RFC 1035 labels, which begin with a letter.
    """
    if len(name) > LABEL_LIMIT or not _LABEL.fullmatch(name):
        raise NameRefused(
            f"{kind} {name[:80]!r}: use at most {LABEL_LIMIT} of a-z, 0-9 and '-', "
            "beginning with a letter and ending with a letter or digit"
        )
    return name


def check_file(name: str) -> str:
    """Return `name`, a file's name relative to its build or model, or raise `NameRefused`.

    Refused are absolute names, ``..``, empty parts, hidden parts, control characters and anything a file system might
    read differently from the bucket.
    """
    if len(name) > FILE_LIMIT or not _FILE.fullmatch(name):
        raise NameRefused(
            f"file {name[:80]!r}: use at most {FILE_LIMIT} of letters, digits, '.', '_', '-', with '/' between parts; "
            "no part may begin with '.' or '-'"
        )
    return name


def check_bucket(name: str) -> str:
    """Return `name`, a bucket's, or raise `NameRefused`."""
    if not _BUCKET.fullmatch(name):
        raise NameRefused(f"bucket {name[:80]!r}: expected a bucket's name, without gs://")
    return name


def parse_bucket_url(url: str) -> str:
    """Read ``gs://<bucket>`` (a slash at the end is fine): the bucket's name. Raises `NameRefused`."""
    name = url.removeprefix("gs://").removesuffix("/")
    if not url.startswith("gs://") or not _BUCKET.fullmatch(name):
        raise NameRefused(f"{url[:200]!r}: expected gs://<bucket>, 3 characters or more, without a path")
    return name


def _split(path: str, folder: str, form: str) -> tuple[str, str]:
    """The two parts of a path of that form, which begins with the folder."""
    ending = ".json" if form.endswith(".json") else ""
    parts = path.removesuffix(ending).split("/")
    if len(parts) != 3 or parts[0] != folder or not path.endswith(ending):  # noqa: PLR2004 - folder, name, version
        raise NameRefused(f"{path[:200]!r}: expected {form}")
    return parts[1], parts[2]


@dataclass(frozen=True, slots=True, order=True)
class IndexPrefix:
    """Where one build of an index stands: ``indexes/<index>/<build>``."""

    index: str
    build: str

    def __post_init__(self) -> None:
        """Refuse names that may not stand in a path."""
        check_label("index", self.index)
        check_name("build", self.build)

    @classmethod
    def parse(cls, path: str) -> IndexPrefix:
        """Read ``indexes/<index>/<build>`` (no slash at the end)."""
        return cls(*_split(path, "indexes", "indexes/<index>/<build>"))

    def __str__(self) -> str:
        return f"indexes/{self.index}/{self.build}"

    @property
    def manifest(self) -> str:
        """The name of the build's manifest, which is written last."""
        return f"{self}/index.json"


@dataclass(frozen=True, slots=True, order=True)
class ModelPrefix:
    """Where one version of a model stands: ``models/<model>/<version>``."""

    model: str
    version: str

    def __post_init__(self) -> None:
        """Refuse names that may not stand in a path."""
        check_name("model", self.model)
        check_name("version", self.version)

    @classmethod
    def parse(cls, path: str) -> ModelPrefix:
        """Read ``models/<model>/<version>`` (no slash at the end)."""
        return cls(*_split(path, "models", "models/<model>/<version>"))

    def __str__(self) -> str:
        return f"models/{self.model}/{self.version}"

    @property
    def manifest(self) -> str:
        """The name of the model's manifest, which is written last."""
        return f"{self}/model.json"


SHADOW = "-shadow"
"""How the name of what serves a build beside an index ends, to nobody but who asks it by that name."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One index in one environment: what a commit object decides about."""

    environment: str
    index: str

    def __post_init__(self) -> None:
        """Refuse names that may not stand in a path or a Kubernetes name."""
        check_label("environment", self.environment)
        check_label("index", self.index)

    @classmethod
    def from_commit_name(cls, name: str) -> Target:
        """Read ``commits/<environment>/<index>.json``, or raise `NameRefused`."""
        return cls(*_split(name, "commits", "commits/<environment>/<index>.json"))

    def __str__(self) -> str:
        return f"{self.environment}/{self.index}"

    @property
    def shadow(self) -> Target:
        """Where another build of the index serves beside it. Raises `NameRefused` for a name that is too long."""
        return Target(self.environment, f"{self.index}{SHADOW}")

    def takes(self, prefix: IndexPrefix) -> bool:
        """Whether a build may serve here: one of this index, or of the index that this is the shadow of."""
        return prefix.index == self.index or self.is_shadow_of(prefix)

    def is_shadow_of(self, prefix: IndexPrefix) -> bool:
        """Whether a build that serves here does so beside its index."""
        return self.index == f"{prefix.index}{SHADOW}"

    @property
    def commit_name(self) -> str:
        """The name of the commit object: the only mutable object, and the only trigger."""
        return f"commits/{self.environment}/{self.index}.json"

    @property
    def receipts_prefix(self) -> str:
        """The folder of the receipts, with a slash at the end."""
        return f"deployments/{self.environment}/{self.index}/"

    @property
    def incidents_name(self) -> str:
        """The name of the record of what lasts that may pass."""
        return f"incidents/{self.environment}/{self.index}.json"

    def receipt_name(self, generation: int) -> str:
        """The name of the receipt of the commit with that generation."""
        return f"{self.receipts_prefix}{generation}.json"

    def address_name(self, generation: int) -> str:
        """The name of what says where the build of that commit answers; no reader takes it for a receipt's."""
        return f"{self.receipts_prefix}{generation}.address.json"

    @property
    def comparisons_prefix(self) -> str:
        """The folder of what compared this shadow with its index, with a slash at the end."""
        return f"comparisons/{self.environment}/{self.index}/"

    def comparison_name(self, generation: int) -> str:
        """The name of how the shadow of the commit with that generation answered; mutable."""
        return f"{self.comparisons_prefix}{generation}.json"

    @classmethod
    def from_filter_name(cls, name: str) -> Target:
        """Read ``filters/<environment>/<index>.json``, or raise `NameRefused`."""
        return cls(*_split(name, "filters", "filters/<environment>/<index>.json"))

    @property
    def filter_name(self) -> str:
        """The name of the filter object, which is mutable, and the second trigger."""
        return f"filters/{self.environment}/{self.index}.json"

    def filter_data(self, sha256: str) -> str:
        """The name of a filter's data; sha256: of them, as ``sha256:<64 hex digits>``."""
        return f"filters/{self.environment}/{self.index}/{sha256.removeprefix('sha256:')}.hidden"

    @property
    def last_good_filter_name(self) -> str:
        """The name of the copy of the filter that was last in force on every pod, which is mutable."""
        return f"filters/{self.environment}/{self.index}/last-good.json"

    def filter_receipt_name(self, generation: int) -> str:
        """The name of the receipt of the filter with that generation."""
        return f"filters/{self.environment}/{self.index}/{generation}.json"


def environment_incidents_name(environment: str) -> str:
    """The name of the record of what lasts and concerns every index of an environment."""
    return f"incidents/{check_label('environment', environment)}.json"


def parse_generation(text: str) -> int:
    """Read a GCS generation (a positive int64 in decimal), or raise `NameRefused`."""
    if not _GENERATION.fullmatch(text) or int(text) >= 2**63:
        raise NameRefused(f"generation {text[:40]!r}: expected a positive 64-bit number")
    return int(text)
