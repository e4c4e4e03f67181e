"""The alerts and the dashboard under deploy/ name metrics and states that exist, and Prometheus accepts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from confiture.render.metrics import exposition
from confiture.status.facts import Report
from conftest import ROOT
from reported import NOW, RUN
from reported_media import migrations, sync

RULES = ROOT / "deploy/prometheus/confiture.rules.yml"
DASHBOARD = ROOT / "deploy/grafana/confiture.json"
PRINTED = exposition(Report(NOW, (RUN,), (), (migrations(),), (sync(),)), text=True)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries(node: Any) -> Iterator[str]:
    """Each query of the dashboard."""
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from queries(inner)
    if isinstance(node, dict) and isinstance(node.get("expr"), str):
        yield node["expr"]


EXPRESSIONS = [*(rule["expr"] for rule in rules()), *queries(json.loads(DASHBOARD.read_text()))]


def promtool(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    return subprocess.run([program, *words], input=given, capture_output=True, text=True, check=False)


def test_each_metric_that_is_named_exists() -> None:
    named = {name for text in EXPRESSIONS for name in re.findall(r"confiture_\w+", text)}
    named |= set(re.findall(r"confiture_\w+", DASHBOARD.read_text()))
    assert named - set(re.findall(r"^# TYPE (\w+)", PRINTED, re.MULTILINE)) == set()


def test_each_state_that_is_named_exists() -> None:
    known = set(re.findall(r'(confiture_\w+)="([^"]*)"', PRINTED))
    named = {
        (label, value)
        for text in EXPRESSIONS
        for label, values in re.findall(r'(confiture_\w+)=~?"([^"]*)"', text)
        for value in values.split("|")
    }
    assert named
    assert named - known == set()


def test_each_alert_is_described_and_tested() -> None:
    alerts = {rule["alert"] for rule in rules()}
    tested = set(re.findall(r'alertname="(\w+)"', RULES.with_suffix(".test.yml").read_text()))
    described = set(re.findall(r"^\| `(Confiture\w+)`", (ROOT / "docs/metrics.md").read_text("utf-8"), re.MULTILINE))
    assert alerts == tested == described


@pytest.mark.parametrize(("command", "file"), [("check", RULES.name), ("test", RULES.with_suffix(".test.yml").name)])
def test_prometheus_accepts_the_alerts(command: str, file: str) -> None:
    done = promtool(command, "rules", str(RULES.parent / file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    found = [text.replace("$__rate_interval", "5m") for text in EXPRESSIONS]
    recorded = [{"record": f"query:{n}", "expr": text} for n, text in enumerate(found)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = promtool("check", "rules", str(tmp_path / "queries.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(found)} rules found" in done.stdout


def test_prometheus_accepts_the_metrics() -> None:
    done = promtool("check", "metrics", given=PRINTED)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
