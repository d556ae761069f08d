"""Feedback of the balancing expert: offsets of its reference pose, proportional to the errors of the root.

A linear feedback in the manner of SIMBICON (Yin et al. 2007) and of reduced-order feedback policies (Ding et al. 2015):
the errors of the root's attitude, position and velocities against the reference, in the reference's heading frame, are
mapped to offsets of the PD targets of hips, knees, ankles and chest. Stance and swing leg have gains of their own;
which leg is in stance follows from the reference's feet. Left and right share all gains: errors are mirrored for the
right leg and offsets mirrored back. Forward and backward errors act on joint axes y, sideways errors on x and z.

    offset_leg = s G_stance f + (1 - s) G_swing f,    s in [0, 1] share of stance,    f = errors of this side
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.body.rotations import inverse, quaternion_product, rotation_vector
from envs.body.tracked import TrackedState, heading
from motions.base.errors import UserError
from motions.base.foreign_files import read_text

Array = NDArray[np.float64]

FORWARD_FEATURES: tuple[str, ...] = ("pitch", "pitch_rate", "x", "x_rate", "z", "z_rate")
SIDEWAYS_FEATURES: tuple[str, ...] = ("roll", "roll_rate", "yaw", "yaw_rate", "y", "y_rate")
LEG_JOINTS: tuple[str, ...] = ("hip_y", "knee", "ankle_y", "hip_x", "hip_z", "ankle_x")
"""Joint coordinates of a leg: the first three depend on forward features, the others on sideways ones."""
CHEST_JOINTS: tuple[str, ...] = ("chest_y", "chest_x", "chest_z")
"""Joint coordinates of the chest: the first depends on forward features, the others on sideways ones."""

NUM_GAINS = 6 * (2 * len(LEG_JOINTS) + len(CHEST_JOINTS))
FORWARD_SCALES = np.array([0.2, 1.0, 0.1, 0.5, 0.05, 0.5])
SIDEWAYS_SCALES = np.array([0.2, 1.0, 0.2, 1.0, 0.1, 0.5])
"""Typical error of each feature (radians, metres, m/s, rad/s): a gain is the offset in radians that it causes."""
STANCE_HEIGHT_M = 0.06
"""Height difference of the ankles (m) at which one leg carries all the weight."""
OFFSET_LIMIT = 1.0
"""Largest offset of a joint, radians."""

_MIRRORED = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
"""Signs of the leg joints under mirroring: rotations about x and z change sign."""


class GainsError(UserError):
    """A file does not hold gains of the balancing expert."""


@dataclass(frozen=True, slots=True)
class BalanceGains:
    """`stance` and `swing` [6, 6] (joint of `LEG_JOINTS`, feature), `chest` [3, 6]; radians per typical error."""

    stance: Array
    swing: Array
    chest: Array

    @classmethod
    def from_vector(cls, vector: Array) -> BalanceGains:
        """Gains from `NUM_GAINS` numbers, the vector that `jobs.balance` optimises."""
        rows = np.asarray(vector, dtype=np.float64).reshape(-1, 6)
        return cls(rows[:6], rows[6:12], rows[12:])

    def vector(self) -> Array:
        """The gains as one vector: the inverse of `from_vector`."""
        return np.concatenate([self.stance, self.swing, self.chest]).ravel()


@dataclass(frozen=True, slots=True)
class RootErrors:
    """Simulated minus reference state of the root, in the reference's heading frame: `forward` [N, 6] and `sideways`
    [N, 6] in units of `FORWARD_SCALES` and `SIDEWAYS_SCALES`."""

    forward: Array
    sideways: Array


def root_errors(state: TrackedState, reference: TrackedState) -> RootErrors:
    """Errors of the root for N characters."""
    turn = quaternion_product(state.rotations[:, 0], inverse(reference.rotations[:, 0]))
    cosine, sine = heading(reference.rotations[:, 0])

    def local(vectors: Array) -> Array:
        x, y = vectors[:, 0], vectors[:, 1]
        return np.stack([cosine * x + sine * y, cosine * y - sine * x, vectors[:, 2]], axis=1)

    angle = local(rotation_vector(turn))
    spin = local(state.velocities[:, 0] - reference.velocities[:, 0])
    place = local(state.root_position - reference.root_position)
    speed = local(state.root_linear - reference.root_linear)
    forward = np.stack([angle[:, 1], spin[:, 1], place[:, 0], speed[:, 0], place[:, 2], speed[:, 2]], axis=1)
    sideways = np.stack([angle[:, 0], spin[:, 0], angle[:, 2], spin[:, 2], place[:, 1], speed[:, 1]], axis=1)
    return RootErrors(forward / FORWARD_SCALES, sideways / SIDEWAYS_SCALES)


def balance_offsets(
    errors: RootErrors, left_stance: Array, stance: Array, swing: Array, chest: Array, joints: Sequence[str]
) -> Array:
    """Offsets [N, A] in radians of the PD targets `joints` (actuator names); those of other joints are 0.

    Args:
        left_stance: [N] fraction of the weight on the left leg, in [0, 1].
        stance, swing: gains [6, 6] or [N, 6, 6]; chest: gains [3, 6] or [N, 3, 6].
    """
    offsets = np.zeros((len(left_stance), len(joints)))
    columns = {name: index for index, name in enumerate(joints)}
    for side, share, sign in (("left", left_stance, 1.0), ("right", 1.0 - left_stance, -1.0)):
        features = np.stack([errors.forward] * 3 + [sign * errors.sideways] * 3, axis=1)
        standing = (stance * features).sum(axis=-1)
        swinging = (swing * features).sum(axis=-1)
        leg = share[:, None] * standing + (1.0 - share[:, None]) * swinging
        leg = leg * (1.0 if sign > 0 else _MIRRORED)
        for index, joint in enumerate(LEG_JOINTS):
            offsets[:, columns[f"{side}_{joint}"]] = leg[:, index]
    trunk = (chest * np.stack([errors.forward, errors.sideways, errors.sideways], axis=1)).sum(axis=-1)
    for index, joint in enumerate(CHEST_JOINTS):
        offsets[:, columns[joint]] = trunk[:, index]
    return np.clip(offsets, -OFFSET_LIMIT, OFFSET_LIMIT)


def stance_share(left_ankle_height: Array, right_ankle_height: Array) -> Array:
    """Fraction of the weight on the left leg, from the heights [N] of the reference's ankles."""
    return np.clip(0.5 + 0.5 * (right_ankle_height - left_ankle_height) / STANCE_HEIGHT_M, 0.0, 1.0)


def load_gains(path: str | Path) -> BalanceGains:
    """Reads a file that was written with `gains_text`.

    Raises:
        GainsError: no such file, not JSON, or tables of another shape.
        UserError: not text, see `read_text`.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except OSError as error:
        raise GainsError(f"{path}: {error.strerror}") from error
    try:
        content = json.loads(text)
        tables = [np.array(content[name], dtype=np.float64) for name in ("stance", "swing", "chest")]
    except (ValueError, KeyError, TypeError) as error:
        raise GainsError(f"{path} holds no gains of the balancing expert: {error}") from error
    if [table.shape for table in tables] != [(6, 6), (6, 6), (3, 6)] or not all(np.isfinite(t).all() for t in tables):
        raise GainsError(f"{path}: stance and swing must be 6 x 6 finite numbers, chest 3 x 6")
    return BalanceGains(*tables)


def gains_text(gains: BalanceGains, note: str) -> str:
    """Content of a file of gains, with descriptions of rows and columns."""
    tables = {name: np.round(getattr(gains, name), 4).tolist() for name in ("stance", "swing", "chest")}
    rows = {"leg_joints": LEG_JOINTS, "chest_joints": CHEST_JOINTS}
    columns = {"forward_features": FORWARD_FEATURES, "sideways_features": SIDEWAYS_FEATURES}
    return json.dumps({"note": note, **rows, **columns, **tables}, indent=1) + "\n"
