"""How well a simulated humanoid imitates a reference: error terms and the reward computed from them, for any simulator.

Pure NumPy on batches of N characters. The world is z-up (rotate y-up data first, `envs.body.frames.to_z_up`); the
reference is that of the time *after* the step. Rotations are compared by geodesic angle, never by differences of Euler
angles or quaternions. Formulas: Peng et al. 2018 (DeepMimic) eq. 2-8, and the rewards of xbpeng/DeepMimic, bullet3's
port and xbpeng/MimicKit, which differ in details:

    term           error
    pose           weighted sum of squared angles between joint rotations
    velocity       the same of squared differences of angular velocities, each in its joint's own frame
    end_effector   sum or mean of squared distances of hands and feet, in the world or from the root
    root           squared distance + .1 squared angle + .01 squared velocity + .001 squared angular velocity
    root_velocity  (MimicKit) squared velocity + .1 squared angular velocity, which then `root` has not
    com            squared distance of the centre of mass, or .1 times that of its velocity
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from envs.body.tracked import (
    BODIES_PART,
    COM,
    EFFECTOR_COLUMNS,
    END_EFFECTORS,
    PACKED_SIZE,
    POINTS,
    ROOT_LINEAR,
    ROTATIONS,
    TRACKED_BODIES,
    VELOCITIES,
    Array,
    TrackedState,
)
from envs.settings import BODY_NAMES, ImitationRewardSettings, RewardPreset
from motions.base.errors import UserError

TERMS: tuple[str, ...] = ("pose", "velocity", "end_effector", "root", "root_velocity", "com")


_LIMB_WEIGHTS = (0.5, 0.3, 0.2, 0.3, 0.2)
_UPSTREAM_JOINTS = (1.0, 0.5, 0.3, *_LIMB_WEIGHTS, *_LIMB_WEIGHTS)
# bullet3 writes the normalised weights as decimals, some of them truncated.
_PYBULLET_RIGHT = (0.10416, 0.0625, 0.041666666666666671, 0.0625, 0.0416)
_PYBULLET_LEFT = (0.10416, 0.0625, 0.0416, 0.0625, 0.0416)
_PYBULLET_JOINTS = (0.20833, 0.10416, 0.0625, *_PYBULLET_RIGHT, *_PYBULLET_LEFT)
_MIMICKIT_LIMB = (1.0, 0.6, 0.4, 0.6, 0.4)
_MIMICKIT_JOINTS = (0.0, 1.0, 0.6, *_MIMICKIT_LIMB, *_MIMICKIT_LIMB)


@dataclass(frozen=True, slots=True)
class RewardRecipe:
    """Definition of the errors, and of each term's weight (`weights`) and scale (`scales`) in the order of `TERMS`."""

    weights: tuple[float, float, float, float, float, float]
    scales: tuple[float, float, float, float, float, float]
    joint_weights: tuple[float, ...]
    """Weights [13] of the joints by body of `TRACKED_BODIES`."""
    end_effector_frame: Literal["world", "root"]
    end_effector_mean: bool
    com_velocity: bool
    root_velocity_apart: bool = False
    """Whether the root's velocity is a separate term, even with weight 0; otherwise it is part of `root`."""

    @property
    def needs_com(self) -> bool:
        """Whether the centre of mass has a weight above 0."""
        return self.weights[TERMS.index("com")] > 0.0


def _normalised(weights: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(weight / sum(weights) for weight in weights)


REWARD_PRESETS: dict[RewardPreset, RewardRecipe] = {
    "upstream": RewardRecipe(
        weights=(0.5, 0.05, 0.15, 0.2, 0.0, 0.1),
        scales=(2.0, 0.1, 10.0, 5.0, 1.0, 10.0),
        joint_weights=_normalised(_UPSTREAM_JOINTS),
        end_effector_frame="root",
        end_effector_mean=False,
        com_velocity=True,
    ),
    # The paper's sums over joints do not say whether the root's rotation is one of them. It is here,
    # as in the authors' own code (xbpeng/DeepMimic, CalcRewardImitate).
    "paper": RewardRecipe(
        weights=(0.65, 0.1, 0.15, 0.0, 0.0, 0.1),
        scales=(2.0, 0.1, 40.0, 5.0, 1.0, 10.0),
        joint_weights=(1.0,) * len(TRACKED_BODIES),
        end_effector_frame="world",
        end_effector_mean=False,
        com_velocity=False,
    ),
    "pybullet": RewardRecipe(
        weights=(0.5, 0.05, 0.15, 0.2, 0.0, 0.0),
        scales=(2.0, 0.1, 40.0, 5.0, 1.0, 10.0),
        joint_weights=_PYBULLET_JOINTS,
        end_effector_frame="world",
        end_effector_mean=True,
        com_velocity=True,
    ),
    "mimickit": RewardRecipe(
        weights=(0.5, 0.1, 0.15, 0.15, 0.1, 0.0),
        scales=(0.25, 0.01, 10.0, 5.0, 1.0, 10.0),
        joint_weights=_MIMICKIT_JOINTS,
        end_effector_frame="root",
        end_effector_mean=False,
        com_velocity=True,
        root_velocity_apart=True,
    ),
}


def reward_recipe(settings: ImitationRewardSettings) -> RewardRecipe:
    """The recipe of the preset, with the settings' own weights and scales where they are given.

    Raises:
        UserError: all weights are 0.
    """
    preset = REWARD_PRESETS[settings.reward_preset]
    chosen: dict[str, list[float]] = {}
    for kind, values in (("weight", preset.weights), ("scale", preset.scales)):
        own = (getattr(settings, f"{term}_{kind}") for term in TERMS)
        chosen[kind] = [value if mine is None else mine for mine, value in zip(own, values, strict=True)]
    if sum(chosen["weight"]) <= 0.0:
        raise UserError(f"all weights of the reward are 0; legal: at least one of {', '.join(TERMS)} above 0")
    w, s = chosen["weight"], chosen["scale"]
    return replace(
        preset,
        weights=(w[0], w[1], w[2], w[3], w[4], w[5]),
        scales=(s[0], s[1], s[2], s[3], s[4], s[5]),
        # If a preset does not have the velocity term and it is asked for, it becomes a term, and must not count twice.
        root_velocity_apart=preset.root_velocity_apart or w[TERMS.index("root_velocity")] > 0.0,
    )


class ImitationReward:
    """Computes errors and rewards of a recipe, with its constants as arrays."""

    def __init__(self, recipe: RewardRecipe) -> None:
        self.recipe = recipe
        self._scales = -np.array(recipe.scales)
        self._weights = np.array(recipe.weights) / sum(recipe.weights)
        self._effector_columns = EFFECTOR_COLUMNS.ravel() if recipe.end_effector_frame == "world" else POINTS
        self._shares = np.concatenate((self._error_shares(), _body_shares()), axis=1)
        self._room = _Room(0)

    def errors(self, state: TrackedState, reference: TrackedState) -> Array:
        """Errors [N, 6] in the order of `TERMS`; that of the centre of mass is 0 while its weight is 0."""
        return self.compare(self._pack(state), self._pack(reference))[0]

    def compare(self, state: Array, reference: Array) -> tuple[Array, Array]:
        """Errors [N, 6] of a state against a reference, both packed [N, 154], and deviations [N, 28]: the angles of 13
        rotations, the distances of 15 bodies. The next call overwrites both arrays."""
        if len(state) != len(self._room.squares):
            self._room = _Room(len(state))
        room = self._room
        angles, squares = room.angles, room.squares
        np.multiply(state, reference, out=squares)
        np.matmul(squares, _ROTATION_SHARES, out=angles)  # the cosines of half the angles
        np.abs(angles, out=angles)
        np.minimum(angles, 1.0, out=angles)
        np.arccos(angles, out=angles)
        np.add(angles, angles, out=angles)
        np.subtract(state, reference, out=squares)
        np.multiply(squares, squares, out=squares)
        # Quaternions are compared by angle: their columns hold the squared angles instead of differences.
        np.multiply(angles, angles, out=room.square_angles)
        squares.dot(self._shares, out=room.sums)
        np.sqrt(room.square_distances, out=room.distances)
        return room.errors, room.apart

    def terms(self, errors: Array) -> Array:
        """Each term's exp(-scale error) [N, 6], in (0, 1]."""
        return np.exp(errors * self._scales)

    def total(self, terms: Array) -> Array:
        """Rewards [N] in (0, 1]: the weighted mean of the terms."""
        return terms.dot(self._weights)

    def _error_shares(self) -> Array:
        """Weights [154, 6] of each squared difference (or squared angle) in each error."""
        recipe, joint_weights = self.recipe, np.array(self.recipe.joint_weights)
        shares = np.zeros((PACKED_SIZE, len(TERMS)))
        shares[: len(TRACKED_BODIES), 0] = joint_weights
        shares[VELOCITIES, 1] = np.repeat(joint_weights, 3)
        shares[self._effector_columns, 2] = 1.0 / len(END_EFFECTORS) if recipe.end_effector_mean else 1.0
        root_place, root_turning = slice(BODIES_PART.start, BODIES_PART.start + 3), slice(52, 55)
        shares[root_place, 3], shares[0, 3] = 1.0, 0.1
        if recipe.root_velocity_apart:
            shares[ROOT_LINEAR, 4], shares[root_turning, 4] = 1.0, 0.1
        else:
            shares[ROOT_LINEAR, 3], shares[root_turning, 3] = 0.01, 0.001
        if recipe.needs_com:
            shares[COM, 5] = 0.1 if recipe.com_velocity else 1.0
        return shares

    def _pack(self, state: TrackedState) -> Array:
        count = len(state.rotations)
        packed = np.zeros((count, PACKED_SIZE))
        packed[:, ROTATIONS] = state.rotations.reshape(count, -1)
        packed[:, VELOCITIES] = state.velocities.reshape(count, -1)
        packed[:, ROOT_LINEAR] = state.root_linear
        packed[:, COM] = 0.0 if state.com is None else state.com
        packed[:, BODIES_PART.start : BODIES_PART.start + 3] = state.root_position
        packed[:, self._effector_columns] = state.end_effectors.reshape(count, -1)
        return packed


class _Room:
    """Buffers for the comparison of n characters, and views of their parts."""

    def __init__(self, count: int) -> None:
        self.squares: Array = np.empty((count, PACKED_SIZE))
        self.square_angles = self.squares[:, : len(TRACKED_BODIES)]
        self.apart: Array = np.empty((count, len(TRACKED_BODIES) + len(BODY_NAMES)))
        self.angles, self.distances = self.apart[:, : len(TRACKED_BODIES)], self.apart[:, len(TRACKED_BODIES) :]
        self.sums: Array = np.empty((count, len(TERMS) + len(BODY_NAMES)))
        self.errors, self.square_distances = self.sums[:, : len(TERMS)], self.sums[:, len(TERMS) :]


def _rotation_shares() -> Array:
    """Weights [154, 13] of products of two numbers in each rotation's scalar product."""
    shares = np.zeros((PACKED_SIZE, len(TRACKED_BODIES)))
    shares[ROTATIONS] = np.repeat(np.eye(len(TRACKED_BODIES)), 4, axis=0)
    return shares


_ROTATION_SHARES = _rotation_shares()


def _body_shares() -> Array:
    """Weights [154, 15] of squared differences in each body's squared distance."""
    shares = np.zeros((PACKED_SIZE, len(BODY_NAMES)))
    shares[BODIES_PART] = np.repeat(np.eye(len(BODY_NAMES)), 3, axis=0)
    return shares
