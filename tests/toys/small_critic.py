"""A small critic with random weights, and motions for it."""

from __future__ import annotations

import numpy as np
import torch

from motions.skeleton.skeletons import HUMANML3D, Skeleton
from rewards.critic.network import CriticConfig, MotionCritic
from tests.toys.synthetic_motion import walking_joints

SMALL = CriticConfig(dim_feat=16, dim_rep=8, depth=2, num_heads=4, mlp_ratio=2, maxlen=64)


def small_critic(seed: int = 0, config: CriticConfig = SMALL) -> MotionCritic:
    """A critic in eval mode; every weight counts, unlike those of a new one."""
    generator = torch.Generator().manual_seed(seed)
    critic = MotionCritic(config)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return critic.eval()


def joints_batch(num_frames: int = 30, skeleton: Skeleton = HUMANML3D) -> torch.Tensor:
    """Two walks [2, T, J, 3] float64 in metres."""
    walks = [walking_joints(skeleton, num_frames, seed=seed) * skeleton.metres_per_unit for seed in (0, 1)]
    return torch.from_numpy(np.stack(walks))
