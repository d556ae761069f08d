"""What a predicted motion does that bodies do not: sliding feet, feet in the floor, floating, more jerk than the data.

Each quantity is of the *prediction*, in metres and seconds, from joints that are recovered differentiably: never
negative, 0 for a motion that does not do it, and with a gradient where it does. The same numbers are metrics; the loss
is their squares in units of a scale (`SCALES`), so that terms of different units can be added:

    slide_mps        horizontal speed of a foot joint over a frame step at whose both ends the data says that it stands
    penetration_m    depth of the lowest joint below the floor, beyond `FLOOR_TOLERANCE_M`
    float_m          height of the lowest joint in a frame in which the data says that a foot stands, beyond
                     `FLOAT_TOLERANCE_M`
    jerk_mps3        what a joint's jerk exceeds that of the data's by

Contacts are the data's own (0 or 1, of physical features: normalised ones would be negative, and turn a penalty into a
reward). Joints, not features, are differenced: rotations, flags and velocities have other units.

Sources: contact-consistent and velocity losses are those of MDM (Tevet et al. 2023, eq. 3 to 5) in form; penetration
and floating follow the metrics of PhysDiff (Yuan et al. 2023), with joints in the place of a mesh.

Legend: B clips, T frames, D features, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from motions.skeleton.features import FeatureLayout, recover_joints
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton
from rewards.physics.kinematic import foot_speeds

FLOOR_TOLERANCE_M = 0.005
FLOAT_TOLERANCE_M = 0.05
SCALES = {"slide_mps": 1.0, "penetration_m": 0.05, "float_m": 0.05, "jerk_mps3": 500.0}
"""A quantity of this size everywhere costs 1."""


@dataclass(frozen=True, slots=True)
class Violations:
    """How much of one quantity there is, where it can occur."""

    amounts: Tensor
    """[B, ...], at least 0."""
    places: Tensor
    """[B, ...] bool: real frames, and for some quantities standing feet."""

    def mean(self) -> Tensor:
        """Mean over the places, [B]; 0 where there is none."""
        return self._mean(self.amounts)

    def cost(self, scale: float) -> Tensor:
        """Mean over the places of the square in units of `scale`, [B]."""
        return self._mean((self.amounts / scale).square())

    def _mean(self, values: Tensor) -> Tensor:
        kept = torch.where(self.places, values, 0.0).flatten(1).sum(dim=1)
        return kept / self.places.flatten(1).sum(dim=1).clamp(min=1)


def violations(
    joints: Tensor, real: Tensor, contacts: Tensor, mask: Tensor, skeleton: Skeleton
) -> dict[str, Violations]:
    """The quantities of the module's docstring.

    Args:
        joints: the prediction's [B, T, J, 3], metres, y up, floor at 0.
        real: the data's, likewise.
        contacts: the data's [B, T, 4] bool, in the order of `Skeleton.foot_joints`.
        mask: [B, T] bool, True = real frame.
    """
    stands = contacts & mask.unsqueeze(2)
    lowest = joints[..., 1].amin(dim=2)
    jerks = joint_jerks(joints, skeleton), joint_jerks(real, skeleton)
    # The whole window is real where its last frame is.
    windows = mask[:, 3:].unsqueeze(2).expand_as(jerks[0])
    return {
        "slide_mps": Violations(foot_speeds(joints, skeleton), stands[:, 1:] & stands[:, :-1]),
        "penetration_m": Violations((-lowest - FLOOR_TOLERANCE_M).clamp(min=0.0), mask),
        "float_m": Violations((lowest - FLOAT_TOLERANCE_M).clamp(min=0.0), stands.any(dim=2)),
        "jerk_mps3": Violations((jerks[0] - jerks[1]).clamp(min=0.0), windows),
    }


def joint_jerks(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Norm of the third difference in time, [B, T - 3, J], m/s^3."""
    return joints.diff(n=3, dim=1).norm(dim=-1) * skeleton.fps**3


class PhysicsLoss:
    """The loss of predicted features.

    Example:
        physics = PhysicsLoss(normalizer, HUMANML3D)
        cost, amounts = physics(predicted, x0, mask)
        (mse + 0.1 * cost).mean().backward()
    """

    def __init__(self, normalizer: Normalizer, skeleton: Skeleton, *, data_slides: bool = False) -> None:
        """Takes the statistics of the features.

        Args:
            data_slides: only sliding beyond the data's costs anything, as with jerk. Feet of real motions slide a
                little while they stand; a network that is given real motions, too, would change them otherwise.
        """
        self._data_slides = data_slides
        self._normalizer = normalizer
        self._skeleton = skeleton
        self._contacts = FeatureLayout(skeleton.num_joints).contacts

    def __call__(self, predicted: Tensor, x0: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the quantities' costs [B], and the means of the quantities, each [B] without gradient.

        Args:
            predicted: normalised features [B, T, D] float32.
            x0: those of the data.
            mask: [B, T] bool, True = real frame; they come first.
        """
        guess, truth = (self._normalizer.denormalize(features) for features in (predicted, x0))
        joints, real = (
            recover_joints(features, self._skeleton) * self._skeleton.metres_per_unit for features in (guess, truth)
        )
        found = violations(joints, real, truth[..., self._contacts] > 0.5, mask, self._skeleton)
        costly = dict(found)
        if self._data_slides:
            slide = found["slide_mps"]
            beyond = (slide.amounts - foot_speeds(real, self._skeleton)).clamp(min=0.0)
            costly["slide_mps"] = Violations(beyond, slide.places)
        cost = torch.stack([one.cost(SCALES[name]) for name, one in costly.items()]).sum(dim=0)
        return cost, {name: one.mean().detach() for name, one in found.items()}
