"""A trial is an ordinary run of its training, and reports the metrics that searches and dashboards were promised."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from cluster.records import commits
from cluster.records.gauges import PHASE, STEP, split_name
from cluster.records.measured import last_metrics
from cluster.sweeps.trial import take_over
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.sweeps.metrics import reported_metrics
from jobs.sweeps.trials import Trials, set_by_search
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
KL, RATE = "grpo.kl_penalty", "grpo.learning_rate"


def trials_of(models: TinyModels, folder: Path) -> Trials:
    words = grpo_words(models, folder / "trial", eval_other_steps="none", num_eval_prompts=2, composite_fraction=0)
    settings = cli.parse(GRPOConfig, words, "jobs.grpo").settings
    own = set_by_search(GRPOConfig, report_every=1, keep_all=True)
    return Trials("grpo", settings.by_path() | own, 1)


def learner_of(place: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(place / "checkpoints" / f"step_{step:09d}" / "learner.pt", weights_only=True)["parameters"]


@pytest.fixture(scope="module")
def donor(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trials, Path, list[int]]:
    """The trials of a search, the run directory of one, and the steps at which that one reported the judge's score."""
    folder = tmp_path_factory.mktemp("search")
    trials, heard = trials_of(tiny_models, folder), list[int]()

    def listen(place: Path, step: int) -> None:
        assert "evaluation/judge_matching" in last_metrics(place)
        heard.append(step)

    with commits.listening(listen):
        trials({KL: 0.01, RATE: 0.01}, folder / "donor", ())
    return trials, folder / "donor", heard


def test_a_trial_reports_what_was_promised(donor: tuple[Trials, Path, list[int]]) -> None:
    trials, place, heard = donor
    assert heard == [1, 2]
    missing = reported_metrics("grpo", trials.settings({}, place)) - set(last_metrics(place))
    assert not missing
    assert (place / "report.html").is_file() and (place / "model_final.pt").is_file()


def test_a_trial_can_be_exploited(donor: tuple[Trials, Path, list[int]], tmp_path: Path) -> None:
    """The copy's steps after the checkpoint are those of the donor where the options stay, and others where not."""
    trials, place, _ = donor
    same, other = tmp_path / "same", tmp_path / "other"
    for copy, options in ((same, {KL: 0.01, RATE: 0.01}), (other, {KL: 0.5, RATE: 0.03})):
        take_over(place, 1, copy)
        trials(options, copy, (KL, RATE))
    first, second, third = (learner_of(folder, 2) for folder in (place, same, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, third[name]) for name, value in first.items())
    lines = map(json.loads, (other / "metrics.jsonl").read_text().splitlines())
    assert [line["policy/learning_rate"] for line in lines if "policy/loss" in line] == [0.01, 0.03]


OF_A_CLUSTER = {
    *(("kinetune_bytes", ""), ("kinetune_call_seconds_bucket", ""), ("kinetune_cluster", "staleness")),
    *(("kinetune_seconds", "queue_.*"), ("kinetune_cluster", "queue_.*")),
}
"""What only a run on Ray has; tests/cluster/test_dashboards.py asks a real Prometheus for it."""


def test_dashboards_and_alerts_ask_for_metrics_that_a_run_has(donor: tuple[Trials, Path, list[int]]) -> None:
    """Every metric, and every name in its tag, of every query."""
    series = {split_name(name) for name in last_metrics(donor[1])} | {(STEP, "")} | {(PHASE, "")}
    grafana = ROOT / "cluster" / "grafana"
    dashboard = json.loads((grafana / "dashboards" / "training.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((grafana / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    queries += [rule["expr"] for rule in rules]
    asked = {
        (metric, name)
        for query in queries
        for metric, tags in re.findall(r"ray_(kinetune_\w+)(?:\{([^}]*)\})?", query)
        for name in (re.findall(r'name=~?"([^"]+)"', tags) or [""])[0].split("|")
    }
    assert len(asked) > 20
    assert asked <= series | OF_A_CLUSTER, asked - series - OF_A_CLUSTER
