"""A dry run computes with a bounded part of what a run of any size draws, builds and samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_run import CHECKED_PROMPTS, with_few_drawn_prompts
from motions.base.errors import UserError
from motions.base.memory import require_memory, transformer_parameters
from rollouts.devices import require_device
from rollouts.networks.mdm import MDM
from rollouts.networks.mdm_config import MDMConfig


def test_few_of_the_prompts_that_are_drawn_are_checked() -> None:
    many = GRPOConfig.of(save_dir="run", num_prompts=100_000, num_eval_prompts=10_000)
    few = with_few_drawn_prompts(many, CHECKED_PROMPTS)
    assert few.prompts.num_prompts == few.evaluation.num_eval_prompts == CHECKED_PROMPTS
    small = GRPOConfig.of(save_dir="run", num_prompts=7, num_eval_prompts=3)
    assert with_few_drawn_prompts(small, CHECKED_PROMPTS) == small
    files = GRPOConfig.of(
        **{"save_dir": "run", "prompts_path": Path("a.txt"), "num_prompts": 100_000},
        **{"eval_prompts_path": Path("b.txt"), "num_eval_prompts": 10_000},
    )
    assert with_few_drawn_prompts(files, CHECKED_PROMPTS) == files


def test_memory_is_compared_with_the_parameters_of_the_layers() -> None:
    config = MDMConfig(latent_dim=64, ff_size=96, num_layers=3)
    count = sum(parameter.numel() for parameter in MDM(config).backbone.parameters() if parameter.ndim == 2)
    assert count == 3 * transformer_parameters(64, 96)
    require_memory(count, "small")
    with pytest.raises(UserError, match=r"large: 1000000000 M parameters need 16000000\.0 GB to be trained"):
        require_memory(10**15, "large")


def test_a_process_has_the_gpus_that_it_reserves() -> None:
    require_device("device", "auto", {"gpus_per_learner": 0.0})
    require_device("device", "cuda", {"gpus_per_learner": 0.25})
    require_device("device", "cuda:1", {"gpus_per_learner": 2.0})
    with pytest.raises(UserError, match="device is 'cuda:1', but gpus_per_learner is 1:"):
        require_device("device", "cuda:1", {"gpus_per_learner": 1.0})
