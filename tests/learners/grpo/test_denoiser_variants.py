"""Every architecture is a policy: ratio one before an update, and a reward that it learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learners.grpo.advantages import group_advantages
from learners.grpo.learner import GRPOLearner
from learners.grpo.settings import GRPOSettings
from motions.data.prompts import Prompt, Segment
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT
from rollouts.checkpoints.adapters import add_lora
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import RolloutRequest, TextCondition, Trajectory
from rollouts.networks.mdm import MDM
from rollouts.networks.mdm_config import MDMConfig
from rollouts.policy import Policy
from rollouts.settings import PolicySettings, SamplingSettings

pytestmark = pytest.mark.slow

VARIANTS: dict[str, dict[str, Any]] = {
    "decoder": {"arch": "trans_dec"},
    "decoder by token": {"arch": "trans_dec", "text_by_token": True, "emb_trans_dec": True},
    "gru": {"arch": "gru"},
    "gru without a state": {"arch": "gru", "gru_recurrence": "none"},
    "mamba": {"arch": "mamba", "d_state": 6},
    "kit": {"num_features": KIT.num_features},
}
FRAMES, TOKENS = (6, 6, 4), (2, 4, 2)


def make_policy(variant: str, lora: bool) -> DiffusionPolicy:
    sizes: dict[str, Any] = {"latent_dim": 16, "ff_size": 24, "num_layers": 1, "num_heads": 2, "text_dim": 4}
    config = MDMConfig(**sizes | VARIANTS[variant], max_positions=40, mask_frames=True)
    network = MDM(config)
    if lora:
        add_lora(network, PolicySettings(lora_r=4))
    width = config.num_features
    return DiffusionPolicy(
        network,
        DiffusionSchedule("cosine", 6),
        Normalizer(np.zeros(width, np.float32), np.ones(width, np.float32)),
        KIT if variant == "kit" else HUMANML3D,
        SamplingSettings(device="cpu", guidance_scale=1.5),
    )


def requests(policy: Policy, step: int, number: int) -> list[RolloutRequest]:
    """Groups of different lengths, with texts of different numbers of tokens where the network reads tokens."""
    made = []
    for index, (frames, tokens) in enumerate(zip(FRAMES, TOKENS, strict=True)):
        rows = tokens if policy.network.text_form == "tokens" else 1
        text = np.random.default_rng(index).standard_normal((rows, 4), np.float32)
        request = RolloutRequest(
            step=step,
            prompt_index=index,
            prompt=Prompt("walks", (Segment("walks", frames),)),
            condition=TextCondition(text),
            num_samples=6,
            seed=3,
            stochastic_steps=(1, 2),
            trained_steps=(1, 2),
            share_initial_noise=True,
            policy_version=number,
        )
        made.append(request)
    return made


@pytest.mark.parametrize(("variant", "lora"), [*((name, True) for name in VARIANTS), ("gru", False), ("mamba", False)])
def test_a_variant_starts_at_ratio_one_and_learns(variant: str, lora: bool) -> None:
    learner = GRPOLearner(
        make_policy(variant, lora),
        GRPOSettings(group_size=6, learning_rate=1e-2 if lora else 3e-3, kl_penalty=0.0, micro_batch_size=7),
    )
    worker = RolloutWorker(make_policy(variant, lora))

    def mean_reward(requested: list[RolloutRequest]) -> tuple[list[Trajectory], np.ndarray]:
        groups = [worker.run(request, learner.version()) for request in requested]
        return [kept for _, kept in groups], np.stack([made.features.mean(axis=(1, 2)) for made, _ in groups])

    fixed = {"step": 99, "stochastic_steps": (), "trained_steps": ()}
    before = mean_reward([replace(each, **fixed) for each in requests(learner.policy, 0, 0)])[1].mean()
    for step in range(6):
        trajectories, rewards = mean_reward(requests(learner.policy, step, learner.number))
        metrics = learner.update(trajectories, group_advantages(rewards, learner.settings).values)
        assert metrics["first_ratio_error"] <= 1e-5
    after = mean_reward([replace(each, **fixed) for each in requests(learner.policy, 0, learner.number)])[1].mean()
    assert after > before + 0.0005
