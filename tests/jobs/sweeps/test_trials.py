"""A trial is an ordinary run of its training, and reports the metrics that were promised."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cluster.records import commits
from cluster.records.measured import last_metrics
from cluster.sweeps.trial import take_over
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.sweeps.metrics import reported_metrics
from jobs.sweeps.trials import Trials, set_by_search
from tests.toys.tiny_models import TinyModels, grpo_words

KL, RATE = "grpo.kl_penalty", "grpo.learning_rate"


def trials_of(models: TinyModels, folder: Path) -> Trials:
    words = grpo_words(models, folder / "trial", eval_other_steps="none", num_eval_prompts=2, composite_fraction=0)
    settings = cli.parse(GRPOConfig, words, "jobs.grpo").settings
    own = set_by_search(GRPOConfig, report_every=1, keep_all=True)
    return Trials("grpo", settings.by_path() | own, 1)


def learner_of(place: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(place / "checkpoints" / f"step_{step:09d}" / "learner.pt", weights_only=True)["parameters"]


def test_a_trial_reports_what_was_promised_and_can_be_exploited(tiny_models: TinyModels, tmp_path: Path) -> None:
    """The copy's steps after the checkpoint are those of the donor where the options stay, and others where not."""
    trials = trials_of(tiny_models, tmp_path)
    donor, same, other = tmp_path / "donor", tmp_path / "same", tmp_path / "other"
    heard: list[tuple[int, float]] = []
    with commits.listening(lambda place, step: heard.append((step, last_metrics(place)["evaluation/judge_matching"]))):
        trials({KL: 0.01, RATE: 0.01}, donor, ())
    assert [step for step, _ in heard] == [1, 2]
    config = trials.settings({}, donor)
    missing = reported_metrics("grpo", config) - set(last_metrics(donor))
    # Without held-out motions of its own the tiny data has no FID.
    assert missing <= {"final/fid"}, missing
    assert (donor / "report.html").is_file() and (donor / "model_final.pt").is_file()

    for place, options in ((same, {KL: 0.01, RATE: 0.01}), (other, {KL: 0.5, RATE: 0.03})):
        take_over(donor, 1, place)
        trials(options, place, (KL, RATE))
    first, second, third = (learner_of(place, 2) for place in (donor, same, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, third[name]) for name, value in first.items())
    rates = [
        line["policy/learning_rate"]
        for line in map(json.loads, (other / "metrics.jsonl").open())
        if "policy/loss" in line
    ]
    assert rates == [0.01, 0.03]
