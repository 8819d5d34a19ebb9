"""What is rendered for each shipped environment, and for one that makes every choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cd_webhook.rules.pods import OUR_CONTAINERS
from manifests.canary import canary_of
from manifests.metadata import (
    COMMIT_GENERATION,
    INDEX_DIGEST,
    INDEX_PREFIX,
    deployment_selector,
    labels,
    selector,
)
from manifests.render import Rendered, render
from manifests.values import SET_BY_TEMPLATE
from tests.manifests import everything, least, request_for, shipped

GOLDEN = Path(__file__).parent / "golden"
ENVIRONMENTS = ("local", "staging", "production", "everything")
VERSIONS = ("1.30", "1.33", "1.36")


def rendered_for(environment: str) -> Rendered:
    values = (
        everything(environment)
        if environment == "everything"
        else shipped(environment, STORAGE_EMULATOR_HOST="http://127.0.0.1:4443")
    )
    return render(request_for(environment), values)


def golden_text(environment: str) -> str:
    rendered = rendered_for(environment)
    return yaml.safe_dump_all([rendered.deployment, rendered.service, rendered.budget], sort_keys=False, width=120)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_environment_renders_to_its_golden_file(environment: str) -> None:
    golden = (GOLDEN / f"{environment}.yaml").read_text()
    assert golden_text(environment) == golden, "if the change is meant: python -m tests.manifests.write_golden"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_is_rendered_is_valid_in_every_kubernetes_we_support(environment: str, version: str) -> None:
    rendered = rendered_for(environment)
    for value in (rendered.deployment, canary_of(rendered.deployment, 1), rendered.service, rendered.budget):
        kubernetes_validate.validate(value, version, strict=True)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_rollouts_rely_on_holds_in_each_environment(environment: str) -> None:
    rendered = rendered_for(environment)
    spec, service = rendered.deployment["spec"], rendered.service["spec"]
    assert spec["selector"]["matchLabels"] == deployment_selector("home-store")
    carried = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= carried.items()
    assert service["selector"] == selector("home-store")
    assert service["selector"].items() <= carried.items()
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, "or a rollout stops pods that serve"
    assert 0 <= spec["minReadySeconds"] < spec["progressDeadlineSeconds"]
    build = {
        COMMIT_GENERATION: "1700000000000001",
        INDEX_PREFIX: "indexes/home-store/20261121t1200z",
        INDEX_DIGEST: "sha256:" + "1" * 64,
    }
    assert rendered.deployment["metadata"]["annotations"] == build
    assert build.items() <= spec["template"]["metadata"]["annotations"].items()
    for value in (rendered.deployment, rendered.service, rendered.budget):
        assert labels("home-store").items() <= value["metadata"]["labels"].items()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_both_containers_run_the_one_image(environment: str) -> None:
    assert len({container["image"] for container in ours(rendered_for(environment))}) == 1


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_variable_is_set_twice_and_all_are_text(environment: str) -> None:
    for container in ours(rendered_for(environment)):
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names))
        assert all(isinstance(variable.get("value", ""), str) for variable in container["env"])


def test_an_environment_may_set_every_variable_but_those_that_the_template_sets() -> None:
    traced = replace(request_for("dev"), traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    rendered = render(traced, least("dev"))
    assert {variable["name"] for each in ours(rendered) for variable in each["env"]} == SET_BY_TEMPLATE


def ours(rendered: Rendered) -> list[dict[str, Any]]:
    pod = rendered.deployment["spec"]["template"]["spec"]
    found = [each for each in (*pod["initContainers"], *pod["containers"]) if each["name"] in OUR_CONTAINERS]
    assert len(found) == len(OUR_CONTAINERS)
    return found
