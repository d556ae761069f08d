"""The physics reward, in metres and seconds: penalises sliding of standing feet and jerky joints.

    R_phy = gate * exp(-lambda_skate * L_skate - lambda_jerk * max(L_jerk, jerk_floor) - lambda_contact * L_contact)

    L_skate    sum over valid frames and feet of c * cost(v) / max(sum of c, 1): squared sliding speed, (m/s)^2
    L_jerk     mean over valid frames and joints of |third difference| * fps^3, in units of jerk_scale
    L_contact  fraction of standing feet (by height) that the motion's own contact features deny; contact_source model
    only
    gate       min(1, mean joint speed / min_joint_speed), over the frames in which the prompt asks for motion; 1 where
    it asks for somebody who stands still (`rewards.physics.stillness`)

Measures against reward hacking: a frozen motion neither slides nor shakes, so the gate reduces its reward to 0; less
jerk than jerk_floor earns nothing more, so slowing down does not pay above the gate either; the joint speed is reported
besides the reward. Sliding could be hidden by predicting no contact in the motion's own contact features, hence
L_contact.

Contact of a foot over one frame step, by height: at both ends the joint is lower than its threshold above the floor
(5th percentile of the four foot joints' heights), and its vertical speed is small. In walking a toe passes a centimetre
above the floor at 3 m/s: a low foot at that speed counts as swinging if the other foot stands, and as sliding if it
does not. With `swing_exemption smooth`, the default, this is a matter of degree (`skate_loss`). The joint positions
come from the features (yaw and root displacement integrated), times the skeleton's metres per unit.

The constants of the settings are measured on the training data (`rewards.physics.calibration`). Legend: N motions, T
frames, J joints, 4 feet (left ankle, left toe, right ankle, right toe).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from motions.data.prompts import Prompt
from motions.skeleton.features import FeatureLayout, recover_joints
from motions.skeleton.skeletons import Skeleton
from rewards.declared.physics import PhysicsSettings
from rewards.messages import RewardTerms
from rewards.physics.stillness import moving_frames
from rewards.settings import RewardSettings
from rewards.validation import check_motions, check_terms
from rollouts.messages import GroupMotions

MIN_FRAMES = 4
"""Shortest motion in frames: a third difference needs four."""
FLOOR_QUANTILE = 0.05
BENCHMARK_HEIGHT_M = 0.05
BENCHMARK_SPEED_MPS = 0.5
"""Speed threshold of the common skating ratio: a foot below 5 cm that slides more than 2.5 cm per frame at 20 fps."""


def foot_heights(joints: Tensor, lengths: Tensor, skeleton: Skeleton) -> Tensor:
    """Height [N, T, 4] of the foot joints above the floor: the 5th percentile of their heights in the valid frames."""
    heights = joints[:, :, list(skeleton.foot_joints), 1]
    outside = torch.arange(heights.shape[1]) >= lengths[:, None]
    ascending = heights.masked_fill(outside[:, :, None], torch.inf).flatten(1).sort(dim=1).values
    rank = FLOOR_QUANTILE * (lengths.double() * heights.shape[2] - 1.0)
    below, above = (ascending.gather(1, nearest.long()[:, None]) for nearest in (rank.floor(), rank.ceil()))
    return heights - below.lerp(above, rank.frac()[:, None].to(heights))[:, :, None]


def contact_by_height(joints: Tensor, lengths: Tensor, skeleton: Skeleton, settings: PhysicsSettings) -> Tensor:
    """Standing feet over each frame step, [N, T-1, 4] bool, from their height and vertical speed.

    Args:
        joints: [N, T, J, 3] metres.
        lengths: [N] valid frames.
    """
    heights = foot_heights(joints, lengths, skeleton)
    limits = heights.new_tensor([settings.contact_ankle_height, settings.contact_toe_height] * 2)
    low = heights < limits
    still = (heights[:, 1:] - heights[:, :-1]).abs() * skeleton.fps < settings.contact_vertical_speed
    contact = low[:, 1:] & low[:, :-1] & still
    if settings.contact_swing_speed is None or settings.swing_exemption == "smooth":
        return contact
    fast = foot_speeds(joints, skeleton) > settings.contact_swing_speed
    stands = (contact & ~fast).unflatten(2, (2, 2)).any(dim=3)  # [N, T-1, side]
    other_stands = stands.flip(2).repeat_interleave(2, dim=2)
    return contact & ~(fast & other_stands)


def skate_loss(
    joints: Tensor,
    standing: Tensor,
    valid: Tensor,
    skeleton: Skeleton,
    free_speed: float,
    swing_speed: float | None = None,
) -> Tensor:
    """L_skate [N], (m/s)^2: mean squared sliding speed beyond `free_speed` of standing feet; 0 where none stands.

    With a swing speed s, a foot at the speed e costs e^2 * (1 - o + o * f(e)), where f(e) = 1 / sqrt(1 + (e/s)^4), and
    o in [0, 1] says how well the other foot stands: f of its speed, and 0 if it is in the air. That is about e^2 for
    slow feet and where both slide, and at most s^2 beside a foot that stands, as in walking. The cost never falls when
    either foot gets faster.

    Args:
        joints: [N, T, J, 3] metres.
        standing: [N, T-1, 4] bool.
        valid: [N, T-1] bool.
        swing_speed: m/s; None: every standing foot costs e^2.
    """
    contact = standing & valid[:, :, None]
    excess = (foot_speeds(joints, skeleton) - free_speed).clamp(min=0.0)
    cost = excess**2
    if swing_speed is not None:
        firm = (1.0 + (excess / swing_speed) ** 4).rsqrt()
        stands = (contact * firm).unflatten(2, (2, 2)).amax(dim=3)  # [N, T-1, side]
        other = stands.flip(2).repeat_interleave(2, dim=2)
        cost = cost * (1.0 - other + other * firm)
    return (contact * cost).sum((1, 2)) / contact.sum((1, 2)).clamp(min=1)


def foot_speeds(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Horizontal speed [N, T-1, 4] of the foot joints, m/s."""
    feet = joints[:, :, list(skeleton.foot_joints)][..., [0, 2]]
    return (feet[:, 1:] - feet[:, :-1]).norm(dim=-1) * skeleton.fps


def mean_jerk(joints: Tensor, lengths: Tensor, skeleton: Skeleton) -> Tensor:
    """Mean norm [N] of the third derivative of position over valid frames and joints, m/s^3."""
    third = joints[:, 3:] - 3.0 * joints[:, 2:-1] + 3.0 * joints[:, 1:-2] - joints[:, :-3]
    return _masked_mean(third.norm(dim=-1).mean(dim=-1), lengths - 3) * skeleton.fps**3


def mean_joint_speed(joints: Tensor, lengths: Tensor, skeleton: Skeleton) -> Tensor:
    """Mean speed [N] over valid frame steps and joints, m/s."""
    speeds = (joints[:, 1:] - joints[:, :-1]).norm(dim=-1) * skeleton.fps
    return _masked_mean(speeds.mean(dim=-1), lengths - 1)


def speed_gate(
    joints: Tensor, lengths: Tensor, skeleton: Skeleton, least: float, moving: Tensor | None = None
) -> Tensor:
    """Factor [N] against frozen motion.

    Args:
        least: mean joint speed (m/s) below which it is under 1; 0 turns it off.
        moving: frames [T] of the prompt in which it asks for motion; None: all of them.
    """
    if least <= 0.0:
        return torch.ones_like(joints[:, 0, 0, 0])
    if moving is None or moving.all():
        return (mean_joint_speed(joints, lengths, skeleton) / least).clamp(max=1.0)
    speeds = (joints[:, 1:] - joints[:, :-1]).norm(dim=-1).mean(dim=-1) * skeleton.fps
    looked_at = torch.arange(speeds.shape[1]) < (lengths - 1)[:, None]
    looked_at &= moving[1 : speeds.shape[1] + 1] & moving[: speeds.shape[1]]
    counts = looked_at.sum(dim=1)
    mean = torch.where(looked_at, speeds, 0.0).sum(dim=1) / counts.clamp(min=1)
    return torch.where(counts > 0, (mean / least).clamp(max=1.0), 1.0)


def skating_ratio(joints: Tensor, lengths: Tensor, skeleton: Skeleton) -> Tensor:
    """Fraction [N] of frame steps in which a toe below 5 cm slides faster than 0.5 m/s, as commonly reported."""
    toes = [1, 3]
    low = foot_heights(joints, lengths, skeleton)[:, :, toes] < BENCHMARK_HEIGHT_M
    sliding = low[:, 1:] & low[:, :-1] & (foot_speeds(joints, skeleton)[:, :, toes] > BENCHMARK_SPEED_MPS)
    return _masked_mean(sliding.any(dim=-1).double(), lengths - 1)


def physics_terms(
    joints: Tensor,
    lengths: Tensor,
    skeleton: Skeleton,
    settings: PhysicsSettings,
    claimed: Tensor | None = None,
    moving: Tensor | None = None,
) -> dict[str, Tensor]:
    """The physics reward and all terms it consists of, each [N] float64.

    Args:
        joints: [N, T, J, 3] float64, metres.
        lengths: [N] valid frames, at least 4.
        claimed: [N, T, 4] the motion's own contact features; required if `contact_source` is `model`.
        moving: frames of the prompt in which it asks for motion, as in `speed_gate`.
    """
    valid = torch.arange(joints.shape[1] - 1) < (lengths - 1)[:, None]
    geometric = contact_by_height(joints, lengths, skeleton, settings)
    standing, contact_loss = geometric, torch.zeros(len(joints), dtype=joints.dtype)
    if settings.contact_source == "model":
        assert claimed is not None, "contact_source model needs the motion's own contacts"
        standing = claimed[:, :-1] > 0.5
        seen = geometric & valid[:, :, None]
        contact_loss = (seen & ~standing).sum((1, 2)) / seen.sum((1, 2)).clamp(min=1)
    smooth = settings.swing_exemption == "smooth" and settings.contact_source == "height"
    swing = settings.contact_swing_speed if smooth else None
    skate = skate_loss(joints, standing, valid, skeleton, settings.skate_free_speed, swing)
    constants = settings.constants
    jerk = mean_jerk(joints, lengths, skeleton) / constants.jerk_scale
    speed = mean_joint_speed(joints, lengths, skeleton)
    gate = speed_gate(joints, lengths, skeleton, constants.min_joint_speed, moving)
    exponent = (
        settings.lambda_skate * skate
        + settings.lambda_jerk * jerk.clamp(min=constants.jerk_floor)
        + settings.lambda_contact * contact_loss
    )
    terms = {
        "physics": gate * torch.exp(-exponent),
        "skate": skate,
        "jerk": jerk,
        "joint_speed": speed,
        "speed_gate": gate,
        "skating_ratio": skating_ratio(joints, lengths, skeleton),
        "contact_share": _masked_mean(standing.double().mean(dim=-1), lengths - 1),
    }
    if settings.contact_source == "model":
        terms["contact_denied"] = contact_loss
    return terms


class PhysicsScorer:
    """Scorer for R_phy and its parts.

    Terms: physics, skate, jerk, joint_speed, speed_gate, skating_ratio, contact_share, and contact_denied with
    `contact_source model`.

    Example:
        PhysicsScorer(RewardSettings(), HUMANML3D).score(motions).terms["physics"]   # [N]
    """

    name = "physics"

    def __init__(self, settings: RewardSettings, skeleton: Skeleton) -> None:
        self.settings = settings
        self.skeleton = skeleton

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> PhysicsScorer:
        """Creates the scorer; it has no weights to load."""
        return cls(settings, skeleton)

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Terms [N] of one group, in the order of its samples.

        Raises:
            RewardError: a motion with values that are not finite, or of fewer than 4 frames.
        """
        start = time.perf_counter()
        check_motions(self.name, motions, self.skeleton.num_features, MIN_FRAMES)
        with torch.no_grad():
            results = self._results(
                torch.from_numpy(np.array(motions.features)),
                torch.from_numpy(np.array(motions.lengths)),
                motions.prompt,
            )
        terms = {name: value.numpy().astype(np.float32) for name, value in results.items()}
        check_terms(self.name, terms, motions.prompt.text, len(motions.features))
        return RewardTerms(self.name, terms, time.perf_counter() - start)

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """The main term [N] of motions [N, T, D] of one prompt; see `rewards.gradients`.

        Which feet stand, and where the floor is, changes by jumps, which have no gradient.
        """
        return self._results(features.cpu(), lengths.cpu(), prompt)[self.name]

    def _results(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> dict[str, Tensor]:
        """Terms [N] float64 of features [N, T, D]."""
        lengths = lengths.clamp(max=self.settings.max_motion_length)
        features = features[:, : int(lengths.max())]
        # Padding may hold any values: it is zeroed first, and results on it are masked.
        inside = torch.arange(features.shape[1]) < lengths[:, None]
        values = torch.where(inside[:, :, None], features.double(), 0.0)
        joints = recover_joints(values, self.skeleton) * self.skeleton.metres_per_unit
        claimed = values[:, :, FeatureLayout(self.skeleton.num_joints).contacts]
        options = self.settings.physics
        moving = torch.from_numpy(moving_frames(prompt)) if options.spare_still_prompts else None
        return physics_terms(joints, lengths, self.skeleton, options, claimed, moving)

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Terms of several groups, each computed as its own batch (a common batch would not be faster)."""
        return [self.score(group) for group in groups]


def _masked_mean(values: Tensor, counts: Tensor) -> Tensor:
    """Mean [N] of the first `counts` [N] of each row of `values` [N, T]."""
    inside = torch.arange(values.shape[1]) < counts[:, None]
    return torch.where(inside, values, 0.0).sum(dim=1) / counts
