"""`jobs.grpo --grpo_type flow_grpo` with all that goes with it: a run that is stopped and resumed, and its result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.generation import recorded_sampler
from rollouts.settings import DenoisingSettings
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow

OPTIONS: dict[str, object] = {
    **{"grpo_type": "flow_grpo", "noise_scale": 0.6, "sampling_steps": None, "train_timesteps": 5},
    **{"inference_timesteps": 4, "eval_sampler": "dpmpp_2m", "sde_window": 2, "sde_window_strategy": "progressive"},
    **{"sde_window_updates": 1, "ratio_normalisation": True, "kl_target": 1e-3, "num_epochs": 2},
    **{"composite_denoising": "composed", "composite_fraction": 1, "num_eval_prompts": 1},
}


def test_a_run_that_was_stopped_ends_with_the_same_bits(tiny_models: TinyModels, tmp_path: Path) -> None:
    for folder, steps, resume in (("whole", 2, False), ("parts", 1, False), ("parts", 2, True)):
        words = grpo_words(tiny_models, tmp_path / folder, num_steps=steps, resume=resume, **OPTIONS)
        assert cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", argv=words) == 0
    whole, parts = (torch.load(tmp_path / name / "model_final.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if "policy/ratio_mean" in line]
    assert all(line["policy/first_ratio_error"] <= 1e-5 for line in updates)
    windows = [{name for name in line if name.startswith("policy/ratio_mean_position")} for line in updates]
    assert windows == [{f"policy/ratio_mean_position_{place}" for place in own} for own in ((0, 1), (1, 2))]
    assert updates[1]["policy/kl_penalty"] in (0.5 * updates[0]["policy/kl_penalty"], updates[0]["policy/kl_penalty"])
    evaluation = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    assert evaluation["sampler"] == "4 deterministic denoising steps by dpmpp_2m, guidance 2.5"
    taken = recorded_sampler(str(tmp_path / "whole"), DenoisingSettings())
    assert (taken.sampler, taken.sampling_steps, taken.noise_scale) == ("dpmpp_2m", 4, None)
    assert recorded_sampler(str(tmp_path / "whole"), DenoisingSettings(sampler="cps")).noise_scale == 0.6


def test_a_dry_run_says_a_noise_that_cannot_be(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = grpo_words(tiny_models, tmp_path / "run", sampler="cps", noise_scale=1.5)
    assert cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", grpo.dry_run, argv=[*words, "--dry_run"]) == 2
    assert "sampler cps takes a noise_scale of at most 1" in capsys.readouterr().err
