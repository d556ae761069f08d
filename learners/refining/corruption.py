"""Motions made worse, in the ways in which generated ones are wrong: what a refiner learns to take back.

    sunk, lifted   the body is as much as 8 cm below or above where it was
    slid           it drifts over the floor, at a speed that stays for the whole motion and one that changes
    shaken         joints tremble from frame to frame, and rotations with them

The features of a corrupted motion are those of its joints: path, positions, velocities and contacts agree, so that no
part of them tells the motion that it was. Only the rotations of a slid motion are what they were, as they would be.

Legend: B motions, T frames, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from motions.skeleton.features import FeatureLayout, recover_joints, replace_joints
from motions.skeleton.skeletons import Skeleton

_KNOTS_PER_S = 2.5
"""How often the drift changes."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """How much a motion is corrupted at most, by kind."""

    lift_m: float = 0.08
    """Height by which it is sunk or lifted, uniform from minus to plus this."""
    slide_mps: float = 0.2
    """Standard deviation of each component of the drift's two parts."""
    shake_m: float = 0.008
    """Standard deviation of the joints' tremor."""
    turn: float = 0.03
    """Standard deviation of the numbers of rotations, which tremble with the joints."""


def corrupted(
    features: Tensor,
    skeleton: Skeleton,
    mask: Tensor,
    rng: np.random.Generator,
    corruption: Corruption = Corruption(),
    *,
    share: float = 1.0,
    whole: bool = False,
) -> Tensor:
    """Corrupted copies of motions: physical features [B, T, D].

    Args:
        mask: [B, T] bool, True = real frame; they come first. Others stay.
        rng: all randomness, drawn on the CPU.
        share: of the motions that are corrupted; the others are returned as they are.
        whole: corrupt each in every way, with the full size of `slide_mps` and `shake_m`. Otherwise each motion has
            every kind with probability 3/4, of a random size between a quarter and all of it, so that a refiner also
            sees motions that are wrong in one way only.
    """
    size, num_frames = features.shape[:2]
    device, metres, fps = features.device, skeleton.metres_per_unit, skeleton.fps

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)

    chosen = rng.random((size, 1)) < share
    amounts = np.ones((size, 3)) if whole else (rng.random((size, 3)) < 0.75) * rng.uniform(0.25, 1.0, (size, 3))
    sizes = torch.from_numpy((amounts * chosen).astype(np.float32)).to(device)
    lift = torch.from_numpy(rng.uniform(-corruption.lift_m, corruption.lift_m, size).astype(np.float32)).to(device)
    num_knots = max(round(num_frames / fps * _KNOTS_PER_S), 2)
    knots = F.interpolate(normal(size, 2, num_knots), size=num_frames, mode="linear", align_corners=True)
    speed = corruption.slide_mps * (normal(size, 2, 1) + knots)
    drift = (sizes[:, 1, None, None] * speed / fps).cumsum(dim=2)
    joints = recover_joints(features, skeleton) * metres
    tremor = corruption.shake_m * normal(*joints.shape)
    # The root's tremor would be one of the whole body, and is not what shakes.
    tremor[:, :, 0] = 0.0
    worse = joints + sizes[:, 2, None, None, None] * tremor
    worse[..., 1] += (sizes[:, 0] * lift)[:, None, None]
    worse[..., [0, 2]] += drift.transpose(1, 2).unsqueeze(2)
    result = replace_joints(features, worse / metres, skeleton, mask)
    turns = FeatureLayout(skeleton.num_joints).rotations
    shaken = sizes[:, 2, None, None] * corruption.turn * normal(size, num_frames, turns.stop - turns.start)
    result[..., turns] += shaken * mask.unsqueeze(2)
    # What was not chosen is bit for bit what it was: replaced joints are rounded.
    kept = torch.from_numpy(~chosen[:, :, None]).to(device)
    return torch.where(kept, features, result)
