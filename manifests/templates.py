"""The templates beside, and how a value enters them: so that none can change what is around it.

A value is printed as JSON (`to_json`), which is YAML, or inside of other text if it is plain: letters, digits and
``-_.@`` and blanks. A template that prints anything else is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from manifests.yaml_documents import parse_yaml
from model_repository.errors import DocumentMalformed

PLAIN = re.compile(r"[-A-Za-z0-9_.@ ]*", re.ASCII)
_NOT_ASCII = re.compile(r"[^ -~]")


def render_template(template: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """The one object that a template describes; raises `DocumentMalformed` naming the template."""
    try:
        text = TEMPLATES.get_template(template).render(context)
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise DocumentMalformed(template, f"can't be rendered: {error}") from None
    documents = parse_yaml(text, template)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise DocumentMalformed(template, "expected one object")
    found: dict[str, Any] = documents[0]
    return found


def texts_of(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a value of mappings and lists, the keys too, and where it stands."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            at = f"{place}.{key}" if place else str(key)
            yield from texts_of(key, at)
            yield from texts_of(inner, at)
    elif isinstance(value, tuple | list):
        for number, inner in enumerate(value):
            yield from texts_of(inner, f"{place}[{number}]")


def _to_json(value: object) -> Markup:
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, and says which
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # To YAML some characters beyond ASCII are ends of lines or not allowed; escaped, all are themselves.
    return Markup(_NOT_ASCII.sub(lambda found: f"\\U{ord(found[0]):08x}", text))  # noqa: S704 - to YAML, JSON is safe


def _finalize(value: object) -> Markup:
    if isinstance(value, Markup):
        return value
    if isinstance(value, str) and PLAIN.fullmatch(value):
        return Markup(value)  # noqa: S704 - so is plain text
    raise TypeError(f"{str(value)[:80]!r} was printed without to_json")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("manifests", ""),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        autoescape=True,  # what is safe to print, to_json's answer or a macro's, is told apart by its type
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # `{#` would be a comment, but it begins a Spinnaker expression: ${#stage(...)}
        comment_end_string="##}",
    )
    environment.filters["to_json"] = _to_json
    return environment


TEMPLATES = _environment()
