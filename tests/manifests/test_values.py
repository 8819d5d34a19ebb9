"""The values of an environment are read as strictly as the contract's documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.canary import Canary
from manifests.values import load_values, parse_values
from model_repository.errors import DocumentMalformed, Misconfigured, NameRefused
from tests.manifests import LEAST


def parse(text: str, **variables: str) -> object:
    return parse_values(text, "dev.yaml", "dev", variables)


def test_the_least_values_are_enough() -> None:
    values = parse_values(LEAST, "dev.yaml", "dev", {})
    assert (values.replicas, values.max_surge, values.env) == (2, 1, {})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (LEAST + "replica: 3\n", "unknown field 'replica'"),
        (LEAST + "replicas: 3\n", "'replicas' stands twice"),
        (LEAST.replace("replicas: 2", "cpu: 1"), "'replicas' is missing"),
        (LEAST.replace("namespace: n", "namespace: N_1"), "namespace: 'N_1'"),
        (LEAST.replace("replicas: 2", "replicas: 0"), "replicas"),
        (LEAST.replace("replicas: 2", "replicas: many"), "replicas: expected a whole number"),
        (LEAST + "cpu: lots\n", "cpu: 'lots'"),
        (LEAST + "max_surge: 0\n", "max_surge: expected 1 to 1000 pods"),
        (LEAST + "max_surge: true\n", "max_surge: expected 1 to 1000 pods"),
        (LEAST + "max_surge: 250%\n", "max_surge: expected 1 to 1000 pods, or 1% to 100%, found '250%'"),
        (LEAST + "image_pull_policy: Sometimes\n", "image_pull_policy: 'Sometimes'"),
        (LEAST + "env: {PORT: '1'}\n", "PORT is set by the template"),
        (LEAST + "env: {A: 1}\n", "env: expected"),
        (LEAST + "env: {'A B': x}\n", "'A B' can't name a variable"),
        (LEAST + "labels: {app.kubernetes.io/name: x}\n", "is set by the template"),
        (LEAST + "labels: {team: 'a b'}\n", "can't be a Kubernetes label"),
        (LEAST + "service_annotations: {'a b': x}\n", "service_annotations: 'a b' can't name a Kubernetes annotation"),
        (LEAST + f"service_annotations: {{{'a' * 64}: x}}\n", "can't name a Kubernetes annotation"),
        (LEAST + "tolerations: [{keys: x}]\n", "unknown field 'keys'"),
        (LEAST + "canary: {second: 30}\n", "canary: unknown field 'second'"),
        (LEAST + "canary: {replicas: 0}\n", "canary.replicas: expected 1 to 100"),
        (LEAST + "canary: {max_latency_ratio: 0.5}\n", "canary.max_latency_ratio: expected 1 to 1000"),
        (LEAST + "canary: {max_error_rate: 1%}\n", "canary.max_error_rate: expected a number"),
        (LEAST + "storage_class: Fast_1\n", "storage_class: 'Fast_1'"),
        (LEAST + "url: https://search.example/\n", "url: 'https://search.example/': expected {index} once"),
        (LEAST + "url: javascript:{index}\n", "url: 'javascript:index': expected a URL"),
        (LEAST + "pod_patch: [x]\n", "pod_patch: expected a mapping"),
        (LEAST + "pod_patch: {spec: {when: 2026-01-01}}\n", "pod_patch.spec.when: '2026-01-01' is neither text"),
        (LEAST + "canary: true\n", "canary: expected an object"),
        (LEAST + "x: !!python/object/apply:os.system [ls]\n", "not YAML"),
        ("[1, 2]", "expected one YAML mapping"),
        ("a: b: c", "not YAML"),
        (LEAST + "---\n" + LEAST, "expected one YAML mapping"),
        ("", "expected one YAML mapping"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_mistake_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(DocumentMalformed, match=r"^dev\.yaml: ") as raised:
        parse(text)
    assert complaint in str(raised.value)


def test_a_canary_is_asked_for_and_what_is_left_out_has_its_default() -> None:
    assert parse_values(LEAST, "dev.yaml", "dev", {}).canary is None
    assert parse_values(LEAST + "canary: {}\n", "dev.yaml", "dev", {}).canary == Canary()
    found = parse_values(LEAST + "canary: {replicas: 2, seconds: 300, max_error_rate: 0}\n", "dev.yaml", "dev", {})
    assert found.canary == Canary(replicas=2, seconds=300, max_error_rate=0.0)


def test_a_team_can_point_at_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "dev.yaml").write_text(LEAST)
    assert load_values("dev", folder=tmp_path, variables={}).image == "i:1"


def test_an_environment_without_a_file_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=rf"^{tmp_path}/dev.yaml: No such file .* the values of 'dev' belong there"):
        load_values("dev", folder=tmp_path, variables={})


def test_an_environments_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(NameRefused):
        load_values("../dev", folder=tmp_path, variables={})


def test_a_passed_variable_is_taken_over_only_if_it_is_set() -> None:
    text = LEAST + "env: {A: a}\npass_env: [B, C]\n"
    assert parse_values(text, "dev.yaml", "dev", {"B": "b", "D": "d"}).env == {"A": "a", "B": "b"}


@pytest.mark.parametrize("written", ["{{ cpu }}", "{[a]: b}", "{? {a: b} : c}"])
def test_a_placeholder_that_nobody_filled_in_is_refused_by_its_line(written: str) -> None:
    with pytest.raises(DocumentMalformed, match=r"^dev\.yaml: not YAML: a key is no text \(line 5\)"):
        parse_values(f"{LEAST}cpu: {written}\n", "dev.yaml", "dev", {})
