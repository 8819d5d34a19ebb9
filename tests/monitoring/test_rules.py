"""What `monitoring/` asks for is there, and each alert fires when it should and is silent when it should be."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cd_webhook.delivery.watcher import Watcher
from cd_webhook.telemetry.index_figures import IndexFigures
from cd_webhook.telemetry.metrics import Metrics
from model_repository.documents.commit import LONGEST_HOLD
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix, Target
from search_server.metrics import Pull, exposition
from search_server.processes.pod import PodState
from tests import builds
from tests.cd_webhook.fake_cluster import FakeClock

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "indexpush.json").read_text(encoding="utf-8"))
GROUPS = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
LONGEST_SCRAPE = 60
"""Seconds between two scrapes that docs/monitoring.md asks for."""
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
PANELS = {
    f"{panel['title']}: {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
ASKED = {f"rule {number}": rule["expr"] for number, rule in enumerate(RULES)} | PANELS


def exposed() -> dict[str, set[str]]:
    """Every sample that webhook and server say at /metrics, with the names of its labels."""
    clock = FakeClock()
    metrics = Metrics("test", clock, timedelta(hours=2))
    prefix = IndexPrefix("chairs", "b1")
    metrics.delivered("accepted")
    metrics.ended(builds.receipt(outcome=Outcome.SERVED))
    metrics.ready(clock.now(), clock.now())
    metrics.saw([IndexFigures("chairs", prefix, clock.now(), 1, 1, 0)], {prefix: clock.now()}, {"chairs": clock.now()})
    pod = PodState.create(1)
    pod.supervisor.counters.count("similar", 200, 0.01)
    server = exposition(pod, prefix, 1, Pull(1000, 2.5))
    found: dict[str, set[str]] = {}
    for line in (metrics.text(0) + server).decode().splitlines():
        if not line.startswith("#"):
            sample = re.match(r"(\w+)(?:\{(.*)\})? ", line)
            assert sample, line
            found.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_what_a_rule_or_a_panel_asks_for_is_exposed_with_the_labels_it_names(asked: str) -> None:
    found = exposed()
    names = set(re.findall(r"\bindexpush[\w:]+", asked))
    assert names, asked
    assert names - RECORDED - found.keys() == set()
    for name, matchers in re.findall(r"\b(indexpush\w+)\{([^}]*)\}", asked):
        assert set(re.findall(r"(\w+)=", matchers)) - found[name] == set()


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_each_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"]
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_each_alert_fires_when_it_should_and_is_silent_when_it_should_be() -> None:
    cases = yaml.safe_load((MONITORING / "rules_test.yaml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    for fires in (True, False):
        assert {check["alertname"] for check in checks if bool(check["exp_alerts"]) is fires} == set(ALERTS)
    done = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yaml"], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_hold_is_forgotten_after_the_same_time_wherever_people_are_told() -> None:
    (limit,) = re.findall(r"index_hold_seconds\) > (\d+)", ALERTS["IndexpushHoldForgotten"]["expr"])
    assert int(limit) == LONGEST_HOLD.total_seconds()


def test_a_stale_index_is_told_within_five_minutes_of_its_target() -> None:
    look = inspect.signature(Watcher).parameters["sweep_seconds"].default
    group = next(group for group in GROUPS if ALERTS["IndexpushIndexStale"] in group["rules"])
    evaluation, wait = _seconds(group["interval"]), _seconds(ALERTS["IndexpushIndexStale"]["for"])
    assert look + LONGEST_SCRAPE + evaluation + wait + evaluation <= 300


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def test_figures_tell_how_long_ago_it_was_when_they_are_asked_for() -> None:
    clock, prefix = FakeClock(), IndexPrefix("chairs", "b1")
    metrics = Metrics("test", clock, seconds=lambda: clock.now().timestamp())
    since = {prefix: clock.now() - timedelta(minutes=1)}
    metrics.saw([IndexFigures("chairs", prefix, None, 2, 1, 3)], since, {"chairs": clock.now()})
    clock.moment += timedelta(minutes=1)
    lines = metrics.text(0).decode().splitlines()
    assert 'indexpush_index_age_seconds{environment="test",index="chairs"} 120.0' in lines
    assert 'indexpush_pods_ready{environment="test",index="chairs"} 1.0' in lines
    assert 'indexpush_receipts_owed{environment="test",index="chairs"} 3.0' in lines
    assert 'indexpush_sweep_age_seconds{environment="test"} 60.0' in lines
    assert 'indexpush_cluster_seen_age_seconds{environment="test"} 60.0' in lines
    assert not [line for line in lines if line.startswith(("indexpush_rollout_age", "indexpush_index_freshness"))]
    metrics.swept()
    assert 'indexpush_sweep_age_seconds{environment="test"} 0.0' in metrics.text(0).decode().splitlines()
    metrics.ready(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC))
    assert "indexpush_commit_to_ready_seconds_sum 7.0" in metrics.text(0).decode().splitlines()


def test_the_first_undo_of_an_index_is_an_increase() -> None:
    metrics = Metrics("test", FakeClock())
    metrics.saw([IndexFigures("chairs", None, None, 2, 2, 0)], {}, {})
    assert 'indexpush_rollouts_total{index="chairs",outcome="undone"} 0.0' in metrics.text(0).decode().splitlines()
    metrics.ended(builds.receipt(target=Target("test", "chairs"), outcome=Outcome.UNDONE))
    assert 'indexpush_rollouts_total{index="chairs",outcome="undone"} 1.0' in metrics.text(0).decode().splitlines()


def test_a_clock_that_is_set_back_makes_no_age_negative_and_no_sum_smaller() -> None:
    clock, prefix, ticks = FakeClock(), IndexPrefix("chairs", "b1"), 100.0
    metrics = Metrics("test", clock, seconds=lambda: ticks)
    began = clock.now()
    metrics.saw([IndexFigures("chairs", prefix, began, 2, 1, 3)], {prefix: began}, {"chairs": began})
    clock.moment -= timedelta(hours=1)
    ticks += 60
    metrics.ended(builds.receipt(outcome=Outcome.SERVED, started=began, finished=clock.now()))
    lines = metrics.text(0).decode().splitlines()
    for name in ("index_age", "index_hold", "rollout_age"):
        assert f'indexpush_{name}_seconds{{environment="test",index="chairs"}} 0.0' in lines
    for name in ("sweep_age", "cluster_seen_age"):  # which a replica's clock must not hide: the least of all counts
        assert f'indexpush_{name}_seconds{{environment="test"}} 60.0' in lines
    assert 'indexpush_rollout_seconds_sum{outcome="served"} 0.0' in lines
