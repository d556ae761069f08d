"""GRPO and supervised learners of networks with a few thousand parameters, and what they are fed with."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from learners.grpo.advantages import group_advantages
from learners.grpo.learner import GRPOLearner
from learners.grpo.motion_loss import reads_motions
from learners.grpo.settings import GRPOSettings
from learners.supervised.diffusion import SupervisedBatch
from motions.data.prompts import Prompt, Segment
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rollouts.checkpoints.adapters import add_lora
from rollouts.diffusion.policy import DiffusionPolicy, require_denoising
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import GroupMotions, RolloutRequest, TextCondition, Trajectory, Weights
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.policy import Policy
from rollouts.settings import PolicySettings, SamplingSettings

WIDTH = HUMANML3D.num_features


CONFIG = MDMConfig(latent_dim=16, ff_size=24, num_layers=1, num_heads=2, text_dim=4, max_positions=40, mask_frames=True)


def make_policy(lora: bool = True, **sampling: Any) -> DiffusionPolicy:
    network = MDM(CONFIG)
    if lora:
        add_lora(network, PolicySettings.model_validate({"model_path": "unused", "lora_r": 4, "lora_alpha": 8}))
    settings = SamplingSettings.model_validate({"device": "cpu", "guidance_scale": 1.5, **sampling})
    normalizer = Normalizer(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32))
    return DiffusionPolicy(network, DiffusionSchedule("cosine", 6), normalizer, HUMANML3D, settings)


def make_learner(policy: DiffusionPolicy | None = None, **settings: Any) -> GRPOLearner:
    defaults = {"group_size": 4, "learning_rate": 1e-3, "kl_penalty": 0.1, "micro_batch_size": 5}
    return GRPOLearner(policy or make_policy(), GRPOSettings.model_validate({**defaults, **settings}))


def roll_out(
    learner: GRPOLearner,
    step: int,
    frames: tuple[int, ...] = (6, 6, 4),
    trained: tuple[int, ...] = (1, 2),
    num: int = 4,
    composed: bool = False,
) -> tuple[list[GroupMotions], list[Trajectory]]:
    """One group for each number of frames; `composed` gives every second one two segments, of two texts."""
    worker = RolloutWorker(make_policy_like(learner.policy))
    version = learner.version()
    results = []
    for index, num_frames in enumerate(frames):
        texts = np.random.default_rng(index).standard_normal((2, 1, 4), np.float32)
        condition = TextCondition(texts[0])
        if composed and index % 2 == 0:
            condition = TextCondition(texts, boundaries=((0, num_frames // 2), (num_frames // 2, num_frames)))
        prompt = Prompt(f"prompt {index}", (Segment(f"prompt {index}", num_frames),))
        request = RolloutRequest(
            step=step,
            prompt_index=index,
            prompt=prompt,
            condition=condition,
            num_samples=num,
            seed=7,
            stochastic_steps=(1, 2, 3),
            trained_steps=trained,
            share_initial_noise=True,
            policy_version=version.number,
            keep_motions=learner.settings.kl_chain_penalty > 0 or reads_motions(learner.settings),
        )
        results.append(worker.run(request, version))
    motions, trajectories = zip(*results, strict=True)
    return list(motions), list(trajectories)


def make_policy_like(policy: Policy) -> DiffusionPolicy:
    """A rollout actor's policy, which denoises: the same base in another object."""
    return require_denoising(copy.deepcopy(policy), "a toy")


def advantages(num_groups: int = 3, num: int = 4, seed: int = 0) -> np.ndarray:
    rewards = np.random.default_rng(seed).standard_normal((num_groups, num))
    return group_advantages(rewards, GRPOSettings()).values


def train(learner: GRPOLearner, num_updates: int = 1, first: int = 0) -> list[dict[str, float]]:
    metrics = []
    for step in range(first, first + num_updates):
        _, trajectories = roll_out(learner, step)
        metrics.append(learner.update(trajectories, advantages(seed=step)))
    return metrics


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


SINES = MDMConfig(
    num_features=6, latent_dim=16, ff_size=32, num_layers=1, num_heads=2, text_dim=5, max_positions=40, mask_frames=True
)
"""A network for `sine_batch`."""

SCHEDULE = DiffusionSchedule("cosine", 10)


def sine_batch(seed: int = 0, size: int = 6) -> SupervisedBatch:
    """Sines whose frequency the text tells."""
    rng = np.random.default_rng(seed)
    lengths = torch.from_numpy(rng.integers(4, 9, size))
    kind = rng.integers(0, 5, size)
    frames = np.arange(8)[None, :, None] * (kind[:, None, None] + 1) * 0.3 + np.arange(6)
    features = torch.from_numpy(np.sin(frames).astype(np.float32))
    features *= (torch.arange(8) < lengths[:, None]).unsqueeze(2)
    return SupervisedBatch(features, lengths, torch.eye(5)[kind][:, None])
