"""The policies of Google Cloud Monitoring say what the rules of Prometheus say."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from typing import Any

import pytest
import yaml

from tests.terraform.conftest import ROOT, Terraform
from tests.terraform.plan import resources

RULES = ROOT / "monitoring" / "rules.yaml"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


@pytest.fixture(scope="module")
def policies(terraform: Terraform) -> dict[str, dict[str, Any]]:
    """By name."""
    shutil.copytree(RULES.parent, terraform.top / "monitoring", ignore=shutil.ignore_patterns(".terraform*"))
    plan = terraform.plan("monitoring/gcp", {"project": "acme-search", "runbooks": "https://example.org/"})
    return {made["display_name"]: made for made in resources(plan, "google_monitoring_alert_policy").values()}


def test_each_alert_is_a_policy_with_its_expression_its_patience_and_its_severity(
    policies: dict[str, dict[str, Any]],
) -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [(group, rule) for group in groups for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"] for _, rule in rules if "record" in rule}
    alerts = {rule["alert"]: (group, rule) for group, rule in rules if "alert" in rule}
    assert policies.keys() == alerts.keys()
    for name, (group, rule) in alerts.items():
        (condition,) = policies[name]["conditions"]
        (asked,) = condition["condition_prometheus_query_language"]
        expected = re.sub(r"indexpush:\w+:\w+", lambda found: f"({recorded[found[0]]})", rule["expr"])
        wait = rule.get("for", "0s")
        assert asked["query"] == expected
        assert asked["duration"] == f"{timedelta(**{UNITS[wait[-1]]: int(wait[:-1])}).seconds}s"
        assert asked["evaluation_interval"] == group["interval"]
        assert policies[name]["severity"] == rule["labels"]["severity"].upper()


def test_a_policy_names_what_it_is_about_and_links_to_its_runbook(policies: dict[str, dict[str, Any]]) -> None:
    for name, policy in policies.items():
        content = policy["documentation"][0]["content"]
        assert content.endswith(f"https://example.org/docs/at-night.md#{name.lower()}")
        assert "{{" not in content
    stale = policies["IndexpushIndexStale"]["documentation"][0]["content"]
    assert "What ${metric_or_resource.label.index} serves in ${metric_or_resource.label.environment}" in stale


def test_it_is_formatted(terraform: Terraform, policies: dict[str, dict[str, Any]]) -> None:  # noqa: ARG001 - copied there
    assert terraform.said("monitoring/gcp", "fmt", "-check", "-diff") == ""
