"""The rules for alerts, by Prometheus' own tool: they fire when they should, and not in a healthy run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

GRAFANA = Path(__file__).resolve().parents[2] / "cluster" / "grafana"
RULES = GRAFANA / "alerts.yaml"
HEALTHY = {
    "step": ("", "0+1x180"),
    "evaluation": ("total", "0.5+0.001x180"),
    "evaluation judge": ("judge_matching", "0.4+0.001x180"),
    "policy": ("kl_reference", "0.1+0x180"),
    "cluster": ("restarts", "0+0x180"),
}
"""Metric -> name in its tag, values by the minute in promtool's notation."""


@pytest.fixture(scope="module")
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("no promtool on this machine (Debian: apt-get install prometheus)")
    return path


def alerts_after(promtool: str, folder: Path, minutes: int, expected: list[str], **changes: tuple[str, str]) -> str:
    """What promtool finds wrong with the expectation that exactly these alerts fire; nothing if it is right."""
    series = []
    for metric, (name, values) in (HEALTHY | changes).items():
        tag = f', name="{name}"' if name else ""
        series.append({"series": f'ray_kinetune_{metric.split()[0]}{{run="mine"{tag}}}', "values": values})
    names = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    assert set(expected) <= set(names)
    # An alert is expected by its labels; summary and description are templates that are not compared here.
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)]
    check: dict[str, Any] = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": query, "eval_time": f"{minutes}m", "exp_samples": samples}],
    }
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [check]}
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ([], {}),
        (["KinetuneNoProgress"], {"step": ("", "0+1x60 60+0x120")}),
        (["KinetuneRewardHacking"], {"evaluation judge": ("judge_matching", "0.4-0.001x180")}),
        (["KinetuneKlOutOfBounds"], {"policy": ("kl_reference", "0.5+0.01x180")}),
        (["KinetuneActorsRestart"], {"cluster": ("restarts", "0+1x180")}),
    ],
)
def test_alerts_fire_when_they_should(
    expected: list[str], changes: dict[str, tuple[str, str]], promtool: str, tmp_path: Path
) -> None:
    assert alerts_after(promtool, tmp_path, 150, expected, **changes) == ""


def test_prometheus_reads_its_configuration(promtool: str) -> None:
    done = subprocess.run(
        [promtool, "check", "config", "--syntax-only", str(GRAFANA / "prometheus.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
