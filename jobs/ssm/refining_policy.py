"""What `jobs.grpo` needs beside the options to train a refiner: the motions of the frozen base."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from jobs.configs.generate import GenerateDenoisingSettings
from jobs.configs.grpo import GRPOConfig
from jobs.text.generation import recorded_sampler
from motions.data.prompts import Prompt
from rollouts.checkpoints.loading import is_one_action, open_base, open_policy
from rollouts.diffusion.requests import prompt_conditions
from rollouts.messages import TextCondition
from rollouts.policy import Policy
from rollouts.refining.policy import RefiningPolicy
from rollouts.settings import PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder

Reader = Callable[[Sequence[Prompt]], list[TextCondition]]
"""Prompts to what the policy reads of them."""


def reader(config: GRPOConfig, policy: Policy, encoder: TextEncoder) -> Reader:
    """What makes the conditions of prompts: their texts, or for a refiner the base's motions.

    The base generates as `jobs.generate` does by default, with noise by `eval_seed`: the held-out motions are the same
    for all seeds of a training.

    Raises:
        UserError: the base cannot be loaded.
    """
    if not isinstance(policy, RefiningPolicy):
        return functools.partial(prompt_conditions, policy, encoder)
    settings = base_settings(config.policy)
    denoising = GenerateDenoisingSettings(device=config.sampling.device)
    if not is_one_action(settings):
        denoising = recorded_sampler(settings.model_path, denoising)
    base = open_policy(open_base(settings), settings, SamplingSettings(**denoising.model_dump()))
    return functools.partial(policy.conditions, base, encoder, seed=config.evaluation.eval_seed)


def base_settings(settings: PolicySettings) -> PolicySettings:
    """The settings of the base alone: what learns is of the refiner."""
    alone = {"policy_type": "auto", "refiner_path": None, "use_lora": False, "adapter_path": None}
    return settings.model_copy(update=alone)
