"""Reading what Kubernetes takes: quantities, labels, tolerations, variables; each in the form that it wants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, ClassVar

from manifests.metadata import PREFIX
from manifests.yaml_documents import parse_yaml
from model_repository.errors import DocumentMalformed
from model_repository.fields import REQUIRED, Fields

DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
DNS_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,499}", re.ASCII)
_CPU = re.compile(r"[1-9][0-9]{0,3}|[1-9][0-9]{0,5}m", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
OURS = ("app.kubernetes.io/", PREFIX)
"""How the labels begin that templates set."""


class KubernetesFields(Fields):
    """One mapping of a YAML file. Null means absent, as it does in Kubernetes' own YAML.

    What isn't in the form that Kubernetes wants raises `DocumentMalformed` naming the file and the field.
    """

    null_is_absent: ClassVar[bool] = True

    def __init__(self, value: object, name: str, path: str = "") -> None:
        """Read `value`, found at `path` (empty: the top) of the file at `name`."""
        super().__init__(value, name, path)
        self.named = frozenset(value) if isinstance(value, dict) else frozenset()
        """The fields that stand there, null ones too."""

    def matching(self, field: str, form: re.Pattern[str], *, default: str = REQUIRED) -> str:
        """Read a string of that form."""
        text = self.text(field, longest=500, default=default)
        if not form.fullmatch(text):
            self.refuse(f"{text[:80]!r} doesn't have the form that Kubernetes wants", field)
        return text

    def matching_or_none(self, field: str, form: re.Pattern[str]) -> str | None:
        """Read a string of that form that may be absent."""
        return self.matching(field, form) if self.has(field) else None

    def cpu(self, field: str, *, default: str = REQUIRED) -> str:
        """Read a quantity of cores."""
        cores = self.text(field, default=default)
        if not _CPU.fullmatch(cores):
            self.refuse(f"{cores[:80]!r} is no number of cores; use '4' or '500m'", field)
        return cores

    def one_of(self, field: str, *choices: str) -> str:
        """Read one of `choices`; the first is the default."""
        text = self.text(field, default=choices[0])
        if text not in choices:
            self.refuse(f"{text[:80]!r}; use one of {', '.join(choices)}", field)
        return text

    def labels(self, field: str) -> Mapping[str, str]:
        """Read labels, or a selector of them."""
        found = self.strings(field, default={})
        for key, value in found.items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
                self.refuse(f"{key[:80]!r}: {value[:80]!r} can't be a Kubernetes label", field)
        return found

    def own_labels(self, field: str) -> Mapping[str, str]:
        """Read labels that stand beside those of the templates."""
        found = self.labels(field)
        for key in found:
            if key.startswith(OURS):
                self.refuse(f"{key!r} is set by the template", field)
        return found

    def annotations(self, field: str) -> Mapping[str, str]:
        """Read annotations."""
        found = self.strings(field, default={})
        for key in found:
            if not _LABEL_KEY.fullmatch(key.lower()):
                self.refuse(f"{key[:80]!r} can't name a Kubernetes annotation", field)
        return found

    def own_annotations(self, field: str) -> Mapping[str, str]:
        """Read annotations that stand beside those of the templates."""
        found = self.annotations(field)
        for key in found:
            if key.startswith(PREFIX):
                self.refuse(f"{key!r} is set by the template", field)
        return found

    def tolerations(self, field: str) -> tuple[Mapping[str, str], ...]:
        """Read a list of tolerations."""
        return tuple(each._toleration() for each in self.objects(field, most=50, default=[]))  # noqa: SLF001 - our own

    def _toleration(self) -> Mapping[str, str]:
        toleration = {
            "key": self.text("key", default=""),
            "operator": self.one_of("operator", "Equal", "Exists"),
            "value": self.text("value", default=""),
            "effect": self.text("effect", default=""),
        }
        self.done()
        return {key: text for key, text in toleration.items() if text}

    def variables(self, variables: Mapping[str, str], set_by_template: AbstractSet[str]) -> Mapping[str, str]:
        """Read `env`, variables of containers, and `pass_env`, the names of those to be taken from `variables`."""
        env, passed = self.env(), self.texts("pass_env", most=50, default=())
        for name in (*env, *passed):
            self._check_variable(name)
            if name in set_by_template:
                self.refuse(f"{name} is set by the template", "env")
        return {**{name: variables[name] for name in passed if name in variables}, **env}

    def env(self) -> Mapping[str, str]:
        """Read `env`, variables of containers."""
        env = self.strings("env", default={})
        for name in env:
            self._check_variable(name)
        return env

    def _check_variable(self, name: str) -> None:
        if not _ENV_NAME.fullmatch(name):
            self.refuse(f"{name[:80]!r} can't name a variable", "env")


def read_fields(text: str, name: str) -> KubernetesFields:
    """Read the one YAML mapping in `text`, which stands at `name`; raises `DocumentMalformed`."""
    documents = parse_yaml(text, name)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise DocumentMalformed(name, "expected one YAML mapping")
    given: dict[str, Any] = {str(key): value for key, value in documents[0].items()}
    return KubernetesFields(given, name)


def read_file(file: Path) -> str:
    """The text of a file of values; raises `DocumentMalformed` where it isn't UTF-8, and `OSError`."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DocumentMalformed(str(file), f"not UTF-8 (byte {error.start})") from None
