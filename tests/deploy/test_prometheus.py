"""Prometheus itself reads what is shipped for it: alerts and their texts, and every expression of the dashboard."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from deploy.dockerfile import ROOT
from deploy.tools import tool
from flow.operations import expressions

RULES = ROOT / "deploy/prometheus/rules.yaml"


def checked(rules: Path) -> subprocess.CompletedProcess[str]:
    """Let Prometheus read a file of rules."""
    command = [tool("promtool"), "check", "rules", "--lint-fatal", rules]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def recorded(folder: Path, *found: str) -> Path:
    """Write expressions as rules that record; Grafana's own variables get a value, as Grafana gives them one."""
    file = folder / "rules.yaml"
    rules = [
        {"record": f"expression_{number}", "expr": re.sub(r"\$__\w+", "5m", expression)}
        for number, expression in enumerate(found)
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    return file


def test_prometheus_reads_every_alert() -> None:
    done = checked(RULES)
    alerts = sum(len(group["rules"]) for group in yaml.safe_load(RULES.read_text())["groups"])
    assert done.returncode == 0, done.stderr
    assert f"{alerts} rules found" in done.stdout


def test_prometheus_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    found = dict.fromkeys(expression for _, expression in expressions())
    done = checked(recorded(tmp_path, *found))
    assert done.returncode == 0, done.stderr
    assert f"{len(found)} rules found" in done.stdout


@pytest.mark.parametrize(
    "expression", ["sum(rate(rankgate_a_total[5m])", "rate(rankgate_a_total)", "histogram_quantil(0.5, rankgate_a)"]
)
def test_an_expression_that_prometheus_cannot_read_is_told(tmp_path: Path, expression: str) -> None:
    done = checked(recorded(tmp_path, expression))
    assert done.returncode != 0
    assert "could not parse expression" in done.stderr
