"""A small policy with real sizes where the skeleton asks for them, and requests for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from motions.data.prompts import Prompt, Segment
from motions.humanoid.physics_state import NUM_CHANNELS, StateStatistics
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.messages import RolloutRequest, TextCondition
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.one_action.motion_ssm import MotionSSM, MotionSSMConfig
from rollouts.one_action.policy import OneActionPolicy
from rollouts.refining.network import RefinerConfig, RefinerNetwork
from rollouts.refining.policy import RefiningPolicy
from rollouts.refining.refiner import Refiner
from rollouts.refining.residual import ResidualConfig, ResidualHead
from rollouts.settings import SamplingSettings

TEXT_DIM = 8
NUM_FEATURES = HUMANML3D.num_features
NUM_STEPS = 6
CONFIG = MDMConfig(
    num_features=NUM_FEATURES,
    latent_dim=16,
    ff_size=24,
    num_layers=2,
    num_heads=2,
    text_dim=TEXT_DIM,
    max_positions=64,
    mask_frames=True,
)


def tiny_policy(config: MDMConfig = CONFIG, network_seed: int = 3, **sampling: Any) -> DiffusionPolicy:
    """A policy with random weights and statistics; 6 of 12 steps unless told."""
    rng = np.random.default_rng(0)
    options = {"device": "cpu", "sampling_steps": NUM_STEPS, "guidance_scale": 2.5, **sampling}
    return DiffusionPolicy(
        MDM(config, seed=network_seed),
        DiffusionSchedule("cosine", 12),
        Normalizer(rng.normal(size=NUM_FEATURES), rng.uniform(0.5, 2.0, NUM_FEATURES)),
        HUMANML3D,
        SamplingSettings.model_validate(options),
    )


ACTION_CONFIG = MotionSSMConfig(
    text_dim=TEXT_DIM, d_model=16, d_state=4, n_layers=1, latent_dim=3, knot_frames=4, patch_frames=2, max_frames=63
)


def tiny_one_action_policy(config: MotionSSMConfig = ACTION_CONFIG, seed: int = 3, **sampling: Any) -> OneActionPolicy:
    """A policy of one action with random weights and statistics, whose mean is not zero."""
    rng = np.random.default_rng(0)
    network = MotionSSM(config, seed)
    if network.prior is not None:
        with torch.no_grad():
            network.prior.mean.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))
    normalizer = Normalizer(rng.normal(size=NUM_FEATURES), rng.uniform(0.5, 2.0, NUM_FEATURES))
    settings = SamplingSettings.model_validate({"device": "cpu", **sampling})
    return OneActionPolicy(network, normalizer, HUMANML3D, settings, trained_frames=40, max_frames=config.max_frames)


def tiny_refining_policy(**sampling: Any) -> RefiningPolicy:
    """A refiner with random weights and statistics as a policy, whose mean is not zero."""
    rng = np.random.default_rng(0)
    normalizer = Normalizer(rng.normal(size=NUM_FEATURES), rng.uniform(0.5, 2.0, NUM_FEATURES))
    network = RefinerNetwork(RefinerConfig(NUM_FEATURES, d_model=16, d_state=4, n_layers=1), seed=1)
    statistics = StateStatistics(np.zeros(NUM_CHANNELS, np.float32), np.ones(NUM_CHANNELS, np.float32))
    head = ResidualHead(ResidualConfig(d_model=16, d_state=4, knot_frames=4), HUMANML3D, seed=2)
    with torch.no_grad():
        head.mean.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    settings = SamplingSettings.model_validate({"device": "cpu", **sampling})
    return RefiningPolicy(Refiner(network.eval(), normalizer, statistics, HUMANML3D, head), settings)


def refined_condition(num_frames: int, seed: int = 0) -> np.ndarray:
    """What a refiner as a policy reads in the place of a text, [T, D + 64] float32."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_frames, NUM_FEATURES + NUM_CHANNELS), np.float32)


def text_features(num_samples: int, seed: int = 0) -> torch.Tensor:
    """Pooled text encoder output [N, 1, E]."""
    return torch.randn(num_samples, 1, TEXT_DIM, generator=torch.Generator().manual_seed(seed))


def motion_noise(num_samples: int, num_frames: int, seed: int = 0) -> torch.Tensor:
    """[N, T, D]."""
    return torch.randn(num_samples, num_frames, NUM_FEATURES, generator=torch.Generator().manual_seed(seed))


def rollout_request(**changes: Any) -> RolloutRequest:
    """A group of 3 samples with 9 frames, two stochastic steps, one of them trained."""
    prompt = Prompt("walks, then kicks", (Segment("walks", 5), Segment("kicks", 4)))
    values = np.linspace(-1, 1, TEXT_DIM, dtype=np.float32)[None]
    fields: dict[str, Any] = {
        "step": 4,
        "prompt_index": 1,
        "prompt": prompt,
        "condition": TextCondition(values),
        "num_samples": 3,
        "seed": 7,
        "stochastic_steps": (1, 2),
        "trained_steps": (2,),
        "share_initial_noise": True,
        "policy_version": 0,
    }
    return RolloutRequest(**{**fields, **changes})
