"""No value and no text of a commit can change the structure of what is rendered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from manifests.render import render
from manifests.spinnaker import Installation, pipeline
from manifests.templates import TEMPLATES, render_template
from manifests.values import Values
from model_repository.errors import DocumentMalformed, NameRefused
from model_repository.names import Target
from tests.manifests import everything, least, request_for

NASTY = [
    '": {}\nevil: true #',
    "'\n---\nkind: Role",
    "{{ 7 * 7 }}",
    "${jndi:x}",
    "${#stage('Deploy')}",
    "yes",
    "0x1F",
    "1e3",
    "null",
    "~",
    "&a *a !!python/object:os.system",
    "<b>&amp;",
    "\u2028\x85\x00\x07",
    "\U0001f600",
    "- a\n- b",
    "a: b",
    "---",
    "\\",
    "\\ud83d\\ude00",
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(NASTY)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(NASTY)
"""Kubernetes' own are short as well."""
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOWHERE = {"environment", "url"}
"""What no manifest says: it is told to people."""
FIELDS = [each.name for each in dataclasses.fields(Values) if "str" in str(each.type) and each.name not in NOWHERE]
"""Every choice that is text, or holds text, of the manifests."""


def with_texts(values: Values, texts: Mapping[str, str]) -> Values:
    """The values with these texts in their fields; where a field is a mapping, as the value of a key more."""

    def chosen(field: str, new: str) -> object:
        before = getattr(values, field)
        if isinstance(before, tuple):
            return ({"key": new},)
        return {**before, "key": new} if isinstance(before, dict) else new

    return dataclasses.replace(values, **{field: chosen(field, new) for field, new in texts.items()})


def objects(values: Values) -> list[dict[str, Any]]:
    rendered = render(request_for("dev"), values)
    return [rendered.deployment, rendered.service]


def replaced(value: Any, marks: Mapping[str, str]) -> Any:
    """The same, with another text in the place of each mark."""
    if isinstance(value, dict):
        return {key: replaced(inner, marks) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, marks) for inner in value]
    return marks.get(value, value) if isinstance(value, str) else value


MARKED = objects(with_texts(least(), {field: f"<{field}>" for field in FIELDS}))


def test_every_text_of_the_values_stands_somewhere() -> None:
    assert {"namespace", "image", "max_surge", "env", "labels", "tolerations", "priority_class"} <= set(FIELDS)
    assert all(f"<{field}>" in str(MARKED) for field in FIELDS)


@PATIENT
@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, TEXTS)))
@example(dict.fromkeys(FIELDS, NASTY[0]))
def test_values_stay_in_their_places_whatever_their_text(texts: dict[str, str]) -> None:
    marks = {f"<{field}>": text for field, text in texts.items()}
    assert objects(with_texts(least(), texts)) == replaced(MARKED, marks)


@PATIENT
@given(st.dictionaries(KEYS, TEXTS, max_size=3), st.dictionaries(KEYS, TEXTS, max_size=3))
def test_so_do_the_keys_of_mappings(env: dict[str, str], annotations: dict[str, str]) -> None:
    deployment, service = objects(dataclasses.replace(least(), env=env, service_annotations=annotations))
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    usual = MARKED[0]["spec"]["template"]["spec"]["containers"][0]["env"][:-1]
    assert server["env"] == usual + [{"name": name, "value": value} for name, value in env.items()]
    assert service["metadata"].get("annotations", {}) == annotations


@PATIENT
@given(TEXTS, TEXTS)
def test_what_people_write_into_a_commit_is_in_no_object(by: str, reason: str) -> None:
    request = request_for("everything")
    said = dataclasses.replace(request, by=by, reason=reason)
    assert render(said, everything("everything")) == render(request, everything("everything"))


PLAIN = {field.name: f"x-{field.name}" for field in dataclasses.fields(Installation)}
DEV = Target("dev", "home-store")


@PATIENT
@given(TEXTS | st.text("-_.@ aA0", min_size=1), st.sampled_from(sorted(PLAIN)))
@example("a b", "application")
@example("- a", "account")
@example("---", "slack")
@example("true", "run_as")
def test_a_pipeline_has_the_same_structure_whatever_the_installation(text: str, field: str) -> None:
    try:
        installation = Installation(**PLAIN | {field: text})
    except NameRefused:
        return  # it would be evaluated, or break out
    if text:  # an empty one leaves its block out
        correlation = f"x-application/{DEV}/${{trigger['parameters']['generation']}}"
        marks = {f"x-{field}": text}
        if field == "application":
            marks[correlation] = correlation.replace("x-application", text)
        marked = pipeline(DEV, "acme", least(), Installation(**PLAIN))
        assert pipeline(DEV, "acme", least(), installation) == replaced(marked, marks)


def test_a_template_that_forgets_a_value_says_which() -> None:
    with pytest.raises(DocumentMalformed, match=r"service.yaml.j2: can't be rendered: 'index' is undefined"):
        render_template("service.yaml.j2", {})


@pytest.mark.parametrize("value", [3, "a: b", "a\nb", '"', "${x}", {"a": "b"}, None])
def test_a_template_cannot_print_a_value_unquoted(value: object) -> None:
    with pytest.raises(TypeError, match="without to_json"):
        TEMPLATES.from_string("a: {{ value }}").render(value=value)


def test_inside_of_text_a_plain_value_needs_no_quotes() -> None:
    assert TEMPLATES.from_string("'^{{ value }}$'").render(value="home-store.2") == "'^home-store.2$'"
    with pytest.raises(jinja2.UndefinedError):
        TEMPLATES.from_string("'^{{ value }}$'").render()
