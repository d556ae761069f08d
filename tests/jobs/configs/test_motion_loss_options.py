"""`jobs.grpo` with losses of final motions: rollouts, plan, a run that is resumed, and options that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.report.from_run import read_document
from jobs.text.grpo_prompts import PromptBatches
from motions.data.prompts import Prompt, Segment
from rollouts.messages import RolloutRequest, TextCondition
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow

OPTIONS: dict[str, object] = {"micro_batch_size": 6, "noise_draws": 2, "trained_levels": 2, "kl_average_decay": 0.5}


def main(*words: str) -> int:
    return cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", grpo.dry_run, argv=list(words))


def test_a_run_that_was_stopped_ends_with_the_same_bits(tiny_models: TinyModels, tmp_path: Path) -> None:
    changes = {**OPTIONS, "policy_loss": "awm", "eval_every": 0, "num_eval_prompts": 1}
    for folder, steps, resume in (("whole", 2, False), ("parts", 1, False), ("parts", 2, True)):
        words = grpo_words(tiny_models, tmp_path / folder, num_steps=steps, resume=resume, **changes)
        assert main(*words) == 0
    whole, parts = (torch.load(tmp_path / name / "model_final.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if "policy/denoising_error" in line]
    assert [line["step"] for line in updates] == [1, 2]
    assert "policy/ratio_mean" not in updates[0] and updates[1]["policy/kl_reference"] > 0
    titles = [chart.title for chart in read_document(tmp_path / "whole").charts]
    assert "KL to the base policy" in titles and "Denoising error" in titles and "Importance ratio" not in titles


def requests(**options: object) -> list[RolloutRequest]:
    config = GRPOConfig.of({"save_dir": "unused", "batch_size": 2, "sampling_steps": 4, **options})
    prompts = [Prompt(text, (Segment(text, 9),)) for text in ("walks", "jumps")]
    batches = PromptBatches(config, prompts, prompts, lambda given: [TextCondition(None)] * len(given), 4)  # type: ignore[arg-type]
    return batches.requests(0, 0)


def test_rollouts_draw_no_noise_and_keep_their_motions() -> None:
    for request in requests(policy_loss="nft"):
        assert request.keep_motions and request.stochastic_steps == request.trained_steps == ()
        assert not request.share_initial_noise and request.denoising is None
    for request in requests(timestep_fraction=0.5):
        assert not request.keep_motions and request.trained_steps and request.share_initial_noise
    (first, _) = requests(policy_loss="awm", rollout_sampling_steps=9, timestep_fraction=0.5)
    assert first.denoising is not None and first.denoising.sampling_steps == 9
    assert requests(policy_loss="awm", sampling_steps=1, sde_window=5), "the window is not heard"
    assert all(request.keep_motions for request in requests(kl_chain_penalty=0.1)), "the chain's penalty noises them"


def test_the_plan_says_what_is_trained_and_what_is_not_heard(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = grpo_words(tiny_models, tmp_path / "run", policy_loss="awm", rollout_sampling_steps=5, noise_draws=3)
    assert main(*words, "--dry_run") == 0
    plan = capsys.readouterr().out
    assert "rollout: 6 motions x 5 denoising steps" in plan
    assert "update: 6 motions x 3 noised states = 18 pairs" in plan
    assert "policy_loss awm: a loss of final motions" in plan and "sde_window" in plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy_loss": "nft", "loss_beta": 2}, "loss_beta is 2; policy_loss nft takes at most 1"),
        ({"policy_loss": "nft", "loss_beta": 0}, "--loss_beta 0"),
        ({"policy_loss": "awm", "trained_levels": 5}, "trained_levels is 5; the sampler has 4 noise levels"),
        ({"policy_loss": "awm", "micro_batch_size": 2}, "micro_batch_size is 2; policy_loss awm compares"),
        ({"policy_loss": "awm", "rollout_sampling_steps": 50}, "50"),
        ({"rollout_sampling_steps": 5}, "rollout_sampling_steps is 5; policy_loss clipped trains the denoising steps"),
    ],
)
def test_options_that_do_not_fit_are_said_before_anything_starts(
    changes: dict[str, object],
    message: str,
    tiny_models: TinyModels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(*grpo_words(tiny_models, tmp_path / "run", **changes)) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.strip().splitlines()) <= 2
    assert not (tmp_path / "run").exists()
