"""Whatever somebody writes into a commit or sends to the webhook: it is refused by name, or it changes values alone.

Ten thousand of them: ./noxw -s tests -- tests/cd_webhook/test_fuzz.py --hypothesis-profile=thorough
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from cd_webhook.http.app import refusal
from cd_webhook.rules import plan
from cd_webhook.state import read_deployed
from manifests.metadata import STATE
from manifests.render import LOG_MIB, Rendered, render
from manifests.spinnaker import Installation, pipeline
from manifests.values import parse_values
from model_repository.deployment import DeploymentRequest, Footprint, parse_payload
from model_repository.documents.commit import LiveCommit, parse_commit
from model_repository.documents.index_manifest import Build
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix, ModelPrefix, Target
from tests import builds
from tests.manifests import LEAST, least

NASTY = [
    "{{ 7 * 7 }}", "{% raw %}", "{# x", "{##", "${7 * 7}", "${#stage('Deploy')}", "$${x}", "#{T(java.lang.Runtime)}",
    "'\n---\nkind: Role", '": {}\nevil: true #', "&a *a", "*a", "<<: *a", "!!python/object:os.system", "!!binary aGk=",
    "yes", "NO", "off", "~", "null", "0o17", "017", "0x1F", "1e3", "1_000", "+1", "-0", ".inf", ".nan", "12:30:45",
    "2026-11-26", "2026-11-26T12:00:00Z", "|", "> x", "- a\n- b", "a: b", "? a", "%YAML 1.1", "\\", "\\ud83d",
    "\u2028", "\x85", "\x00", "\x7f", "\ufeff", "\u202e", "\ud800", "\U0001f600", " ", "\t", "\n", "x\n", " x", "x ",
    "h\u043eme-store", "home\u2010store", "home\uff0dstore", "home-store\u200b", "\u0661\u0662", "\uff11\uff12",
    "\u00b2", "9" * 18, "9" * 19, "9" * 20, "9" * 5000, "0", "00", "007", "1.0", "1 ", str(2**63 - 1), str(2**63), "-1",
    "..", "../x", "a/../b", "indexes/home-store/../x", "indexes//x", "gs://x", "SHA256:" + "1" * 64,
    "sha256:" + "A" * 64,
]  # fmt: skip
TEXTS = st.sampled_from(NASTY) | st.text(max_size=30)
NAMES = st.from_regex(r"[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
BUILDS = st.from_regex(r"[a-z0-9](?:[-a-z0-9.]{0,60}[a-z0-9])?", fullmatch=True)
COUNTS = st.integers(min_value=1, max_value=10**15 - 1).map(str)
GENERATIONS = st.integers(min_value=1, max_value=2**63 - 1).map(str)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
REGULAR = {
    "generation": GENERATIONS,
    "bucket": st.from_regex(r"[a-z0-9][-a-z0-9_.]{1,60}[a-z0-9]", fullmatch=True),
    "index_prefix": BUILDS.map(lambda build: f"indexes/home-store/{build}"),
    "index_generation": GENERATIONS,
    "index_digest": DIGESTS,
    "models": st.lists(BUILDS.map(lambda version: f"models/lite/{version}"), max_size=3).map(",".join),
    "memory_mib": COUNTS,
    "volume_mib": COUNTS,
    "deadline_seconds": COUNTS,
    "by": TEXTS,
    "reason": TEXTS,
}
"""What a parameter may well be."""
COUNTED = ("memory_mib", "volume_mib", "deadline_seconds")
ANYTHING = TEXTS | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(TEXTS, max_size=2)

TARGET = Target("dev", "home-store")
MARKS = builds.request(
    111,
    TARGET,
    bucket="marked-bucket",
    index_prefix=IndexPrefix("home-store", "marked"),
    index_generation=222,
    index_digest="sha256:" + "1" * 64,
    models=(ModelPrefix("lite", "marked"),),
    footprint=Footprint(memory_mib=333, volume_mib=444, deadline_seconds=555),
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """A payload of regular values but for a few that are anything, or are called anything."""
    parameters: dict[str, Any] = MARKS.to_parameters()
    parameters |= {name: draw(REGULAR[name]) for name in draw(st.sets(st.sampled_from(sorted(REGULAR)), max_size=2))}
    for name in draw(st.sets(st.sampled_from([*sorted(parameters), "restores", "typo"]), max_size=1)):
        parameters[name] = draw(ANYTHING)
    return json.dumps({"parameters": parameters}).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A payload whose bytes were changed in one place."""
    payload = json.dumps(MARKS.to_payload(), ensure_ascii=False).encode()
    at = draw(st.integers(min_value=0, max_value=len(payload)))
    end = draw(st.integers(min_value=at, max_value=at + 3))
    return (
        payload[:at]
        + draw(TEXTS.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=4))
        + payload[end:]
    )


@st.composite
def commits(draw: st.DrawFn) -> bytes:
    """What the function sends for a commit that anybody may have written."""
    build = draw(st.just("b1") | BUILDS)
    written: dict[str, Any] = {"index_prefix": f"indexes/home-store/{build}"}
    for name in draw(st.sets(st.sampled_from(["index_prefix", "by", "reason", "hold", "typo"]), max_size=3)):
        written[name] = draw(TEXTS if name in {"by", "reason"} else ANYTHING)
    try:
        commit = parse_commit(json.dumps(written).encode(), TARGET)
    except DocumentMalformed:
        return b""
    found = Build(builds.index_manifest(commit.index_prefix), 222, "sha256:" + "3" * 64)
    return json.dumps(DeploymentRequest.of(LiveCommit(TARGET, 111, commit), found, bucket="acme").to_payload()).encode()


VALUES = least("dev")


@functools.lru_cache(maxsize=1000)
def rendered_once(request: DeploymentRequest) -> Rendered:
    """What people write isn't even read (tests/manifests/test_templates.py), so ten thousand take a minute."""
    return render(request, dataclasses.replace(VALUES, environment=request.target.environment))


def applied(request: DeploymentRequest) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Deployment and Service as the webhook applies them; and what it notes on the Deployment for itself."""
    rendered = rendered_once(dataclasses.replace(request, by="", reason=""))
    begun = plan.begun(read_deployed(None), request, rendered.deployment["spec"], builds.NOW)
    deployment = plan.deployment_of(rendered.deployment, begun)
    del deployment["metadata"]["labels"][STATE]  # a digest of the annotations
    return [deployment, rendered.service], deployment["metadata"].pop("annotations")


def replaced(value: Any, marks: dict[Any, Any]) -> Any:
    """The same, with something else in the place of each mark."""
    if isinstance(value, dict):
        return {key: replaced(inner, marks) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, marks) for inner in value]
    return marks.get(value, value)


def spelled(parameters: dict[str, str]) -> dict[Any, Any]:
    """What stands in a manifest in the place of each mark."""
    one, other = MARKS.to_parameters(), parameters
    marks: dict[Any, Any] = {one[name]: other[name] for name in ("index", "generation", "index_prefix")}
    marks[one["index_digest"]] = other["index_digest"]
    marks[f"gs://{one['bucket']}"] = f"gs://{other['bucket']}"
    marks[MARKS.target.filter_name] = Target(other["environment"], other["index"]).filter_name
    marks |= {f"{one[name]}Mi": f"{int(other[name])}Mi" for name in ("memory_mib", "volume_mib")}
    marks[f"{int(one['volume_mib']) + LOG_MIB}Mi"] = f"{int(other['volume_mib']) + LOG_MIB}Mi"
    marks[int(one["deadline_seconds"])] = int(other["deadline_seconds"])
    return marks


MANIFESTS, ANNOTATIONS = applied(MARKS)
EXAMPLES = max(500, settings().max_examples)


@settings(max_examples=EXAMPLES)
@given(commits() | payloads() | damaged())
@example(json.dumps({"parameters": MARKS.to_parameters() | {"by": "\ud800", "reason": "x" * 60_000}}).encode())
@example(json.dumps({"parameters": MARKS.to_parameters() | {"environment": "yes"}}).encode())
def test_no_commit_and_no_payload_changes_more_than_values(payload: bytes) -> None:
    try:
        request = parse_payload(payload)
    except DocumentMalformed as error:
        status, said = refusal(error)
        assert (status, json.loads(bytes(JSONResponse(said).body)).keys()) == (422, {"detail", "code"})
        event("refused")
        return
    event("rendered")
    said = json.loads(payload)["parameters"]
    manifests, annotations = applied(request)
    assert manifests == replaced(MANIFESTS, spelled(said))
    assert annotations.keys() == ANNOTATIONS.keys()
    assert all(text.encode() is not None for text in annotations.values())
    assert read_deployed({"metadata": {"annotations": annotations}}).request == request
    assert request.to_parameters() == said | {name: str(int(said[name])) for name in COUNTED}


@settings(max_examples=EXAMPLES // 4)
@given(commits())
def test_nothing_that_is_sent_for_a_commit_is_an_expression_to_a_spinnaker(payload: bytes) -> None:
    assert b"${" not in payload


@settings(max_examples=30)  # each is a whole pipeline
@given(NAMES, NAMES, REGULAR["bucket"])
def test_a_pipeline_evaluates_the_same_expressions_whatever_the_names(
    environment: str, index: str, bucket: str
) -> None:
    def expressions(environment: str, index: str, bucket: str) -> list[str]:
        values = dataclasses.replace(VALUES, environment=environment)
        made = pipeline(Target(environment, index), bucket, values, Installation("app", "acc", "src", "e@x", "s", "r"))
        text = json.dumps(made)
        return [json.dumps(shaped(made)), *re.findall(r"\$\{[^}]*\}", text)]

    assert expressions(environment, index, bucket) == expressions("dev", "home-store", "acme")


def shaped(value: Any) -> Any:
    """The same with the type of each value in its place."""
    if isinstance(value, dict):
        return {key: shaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shaped(inner) for inner in value]
    return type(value).__name__


USUAL = {
    **{line.partition(":")[0]: line.partition(": ")[2] for line in LEAST.splitlines()},
    "image_pull_policy": "Always", "max_surge": "25%", "min_ready_seconds": "1", "revision_history_limit": "1",
    "cpu": "1", "cpu_limit": "1", "pull_cpu": "1", "pull_cpu_limit": "1",
    "pre_stop_seconds": "1", "drain_seconds": "1", "priority_class": "x",
    "node_selector": "{a: b}", "labels": "{a: b}", "service_annotations": "{a: b}", "env": "{A: b}",
    "storage_class": "x", "pod_annotations": "{a: b}",
}  # fmt: skip
NUMBERS = {"replicas", "min_ready_seconds", "revision_history_limit", "pre_stop_seconds", "drain_seconds"}
NULLABLE = {"replicas", "cpu_limit", "pull_cpu_limit", "priority_class", "storage_class"}
MAPPINGS = {"node_selector", "labels", "service_annotations", "env", "pod_annotations"}


@settings(max_examples=EXAMPLES // 2)
@given(st.sampled_from(sorted(USUAL)), TEXTS | st.text("0123456789abcdeox+-_.:~!&*'\"", max_size=6))
def test_a_choice_of_the_values_is_refused_by_name_or_has_the_type_that_it_should(field: str, written: str) -> None:
    """What a template makes of text of any kind: tests/manifests/test_templates.py."""
    text = f"{{A: {written}}}" if field in MAPPINGS else written
    try:
        found = parse_values("\n".join(f"{n}: {t}" for n, t in (USUAL | {field: text}).items()), "dev.yaml", "dev", {})
    except DocumentMalformed:
        return
    value = getattr(found, field)
    if field in MAPPINGS:
        assert {type(each) for pair in value.items() for each in pair} <= {str}
    elif value is not None or field not in NULLABLE:
        assert type(value) in ((int, str) if field == "max_surge" else (int,) if field in NUMBERS else (str,))
