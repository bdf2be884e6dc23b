"""Rules and dashboard: sound, tested, about metrics that exist, and each alert with its runbook."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.telemetry.metrics import METRICS
from tests.support.builders import ROOT

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/tsfm-runner.json"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is missing: apt-get install prometheus, as .ci/run does"
)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[str]:
    return [rule["alert"] for rule in rules() if "alert" in rule]


def dashboard_expressions() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (found["expr"] for found in dashboard["annotations"]["list"])


def promtool(*words: str | Path) -> str:
    assert PROMTOOL is not None
    run = subprocess.run([PROMTOOL, *map(str, words)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@needs_promtool
def test_alerts_fire_as_their_promtool_tests_expect() -> None:
    assert "SUCCESS" in promtool("test", "rules", PROMETHEUS / "alerts_test.yaml")


@needs_promtool
def test_example_configuration_is_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", PROMETHEUS / "prometheus.yaml")


@needs_promtool
def test_every_expression_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    expressions = [e.replace("$__rate_interval", "1m") for e in dashboard_expressions()]
    found = [{"record": f"panel:{i}", "expr": e} for i, e in enumerate(expressions)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}), "utf-8")

    assert f"{len(expressions)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize("where", ["rules", "dashboard"])
def test_every_metric_in_an_expression_exists(where: str) -> None:
    expressions = [r["expr"] for r in rules()] if where == "rules" else [*dashboard_expressions()]
    named = {name for e in expressions for name in re.findall(r"\btsfm_[a-z_0-9]+", e)}
    recorded = {name for e in expressions for name in re.findall(r"\btsfm:[a-z_0-9:]+", e)}

    assert named
    assert named <= {name for metric in METRICS for name in metric.series_names}
    assert recorded <= {rule.get("record") for rule in rules()}


def test_every_tag_in_an_expression_is_one_of_the_metric() -> None:
    tags = {n: {*m.tags, "le", "replica"} for m in METRICS for n in m.series_names}
    for expression in (*(rule["expr"] for rule in rules()), *dashboard_expressions()):
        for name, selector in re.findall(r"\b(tsfm_[a-z_0-9]+)\{([^}]*)\}", expression):
            assert set(re.findall(r"([a-z_]+)\s*(?:=|!)", selector)) <= tags[name], expression


def test_every_metric_but_two_is_on_the_dashboard() -> None:
    shown = " ".join(dashboard_expressions())

    hidden = {m.name for m in METRICS if not any(name in shown for name in m.series_names)}
    assert hidden == {"tsfm_coverage_samples", "tsfm_nodes"}


def test_every_metric_is_explained_in_the_operations_page() -> None:
    operations = (ROOT / "docs/operations.md").read_text("utf-8")

    for metric in METRICS:
        (row,) = (line for line in operations.splitlines() if line.startswith(f"| `{metric.name}`"))
        assert metric.help.rstrip(".") in row
        assert all(f"`{tag}`" in row for tag in metric.tags)


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_has_a_test_and_a_runbook(alert: str) -> None:
    tests = (PROMETHEUS / "alerts_test.yaml").read_text("utf-8")
    operations = (ROOT / "docs/operations.md").read_text("utf-8")
    (rule,) = (rule for rule in rules() if rule.get("alert") == alert)

    assert re.search(rf"alertname: {alert}\n\s+exp_alerts:", tests)
    assert f"### {alert}\n" in operations
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{alert.lower()}"


def test_promise_in_the_rules_is_the_one_of_the_configuration() -> None:
    slo_s = yaml.safe_load((ROOT / "configs/prod.yaml").read_text("utf-8"))["slo"]["p95_ms"] / 1e3
    edges = {e for r in rules() for e in re.findall(r'le="([0-9.]+)"', r["expr"])}

    assert edges == {str(slo_s)}
