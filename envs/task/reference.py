"""The reference motion at any times: one lookup in dense tables and one linear interpolation per query."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.body.frames import to_z_up
from envs.body.joint_coordinates import JOINT_ORDER, NUM_COORDINATES, nearest_hinges
from envs.body.tracked import (
    BODIES_PART,
    COM,
    EFFECTOR_COLUMNS,
    POINTS,
    ROOT_LINEAR,
    ROTATIONS,
    VELOCITIES,
    TrackedState,
)
from envs.settings import BODY_NAMES, DeepMimicSettings, JointModel
from envs.task.imitation_reward import reward_recipe
from envs.task.reference_tables import (
    AXES_COLUMNS,
    COORDINATE_COLUMNS,
    PLACE_COLUMNS,
    RATE_COLUMNS,
    TABLE_HZ,
    Table,
    named_table,
)
from motions.humanoid.kinematics import HINGE_BODIES
from motions.humanoid.mocap import MocapClip

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReferenceState:
    """The quantities that reward and termination compare, at N times."""

    tracked: TrackedState
    body_positions: Array
    """Positions [N, 15, 3] of `BODY_NAMES` in the world."""


@dataclass(frozen=True, slots=True)
class ReferenceTarget:
    """Target poses at times [...]."""

    root_position: Array
    """Position [..., 3] of the root in the world."""
    root_axes: Array
    """x and y axis [..., 6] of the root."""
    coordinates: Array
    """Joint coordinates [..., 28]."""
    rates: Array
    """Rates of the joint coordinates [..., 28] per second."""


_EACH_BODY = np.tile(np.eye(3), len(BODY_NAMES))
"""[3, 45] copies a vector to the columns of every body; adding it to [N, 15, 3] would be many short loops in NumPy."""


class Prospect(NamedTuple):
    """What policies observe of the reference and experts aim at, at N times."""

    near: Array
    """Joint coordinates [N, 28] at `lookahead_s`; policies observe and act in this branch of Euler angles."""
    aims: Array
    """PD targets [N, 28] that lead to `near`."""
    circle: Array
    """Cosine and sine [N, 2] of the phase: a full turn per cycle, half a turn for a clip that does not repeat."""
    vectors: Array
    """[N, 9 S] at S later times: for each the position and the two axes of the root."""
    coordinates: Array
    """[N, 28 S] at the same times: joint coordinates in the branch of `near`."""

    def move(self, origin: Array) -> None:
        """Moves positions in place to a reference that began at `origin` [N, 3] instead of 0."""
        for axis in range(3):
            places = self.vectors[:, axis :: COORDINATE_COLUMNS.start]
            places += origin[:, axis, None]


class Moment(NamedTuple):
    """All quantities of the reference at N times, with the first cycle's origin at 0; see `ReferenceMotion.look`."""

    packed: Array
    """Packed states [N, 154]."""
    cycles: Array
    """Number [N] of whole cycles since time 0."""
    phase: Array
    """Phase [N]: the fraction of the cycle."""
    prospect: Prospect

    def rows(self) -> Iterator[Moment]:
        """The single times, as views [1, ...]."""
        prospects = map(Prospect, *(array[:, None] for array in self.prospect))
        return map(Moment, self.packed[:, None], self.cycles[:, None], self.phase[:, None], prospects)


class _Samples:
    """Rows of samples [K, C], interpolated linearly."""

    def __init__(self, values: Array) -> None:
        self.values = values
        self._steps = np.diff(values, axis=0)

    def between(self, low: Index, share: Array) -> Array:
        """Rows [..., C] interpolated at a fraction [...] between row `low` [...] and the next."""
        rows = self._steps.take(low, axis=0)
        rows *= share[..., None]
        rows += self.values.take(low, axis=0)
        return rows


class ReferenceMotion:
    """The clips of `settings.motion`, for a character with joints of the given kind.

    Times may be any numbers: a cyclic clip repeats forever in both directions. `origin` [N, 3] is added to the
    positions of a clip's first cycle.

    Args:
        settings: selects the clips and how their cycles are joined.
        joints: kind of joints; by default that of the settings.
        clips: used, with equal probability, instead of those that `settings.motion` names.
        table_hz: samples per second of the tables, at least.

    Raises:
        ClipError: a clip is unknown or malformed.
        UserError: all weights of the reward are 0.
    """

    def __init__(
        self,
        settings: DeepMimicSettings,
        joints: JointModel | None = None,
        clips: Sequence[MocapClip] | None = None,
        table_hz: float = TABLE_HZ,
    ) -> None:
        self.joints: JointModel = joints or settings.joints
        self.recipe = reward_recipe(settings)
        velocity = self.recipe.com_velocity
        if clips:
            pairs = [(clip, Table.build(clip, self.joints, velocity, table_hz)) for clip in clips]
        else:
            names, blend = settings.motion, settings.seam_blend_s
            pairs = [named_table(name, blend, self.joints, velocity, table_hz) for name in names]
        self.clips, tables = tuple(pair[0] for pair in pairs), [pair[1] for pair in pairs]
        weights = np.array(
            settings.motion_weights if settings.motion_weights and not clips else [1.0] * len(self.clips)
        )
        self.chances: Array = weights / weights.sum()
        self.durations: Array = np.array([clip.duration for clip in self.clips])
        self.cyclic = np.array([clip.cyclic for clip in self.clips])
        self._all_cyclic = bool(self.cyclic.all())
        self._phase_turn: Array = np.where(self.cyclic, math.tau, math.pi)
        self._feedforward = settings.velocity_feedforward
        self._damping_s = settings.damping_s
        self._keeps_height = settings.keep_cycle_height
        offsets = to_z_up(np.stack([clip.cycle_offset.numpy() for clip in self.clips]))
        if not self._keeps_height:
            offsets[:, 2] = 0.0
        self.offsets: Array = offsets * self.cyclic[:, None]
        """Displacement [C, 3] of the root per cycle."""
        lengths = np.array([len(table.state) for table in tables])
        self._last: Index = lengths - 2
        self._starts: Index = np.cumsum(lengths) - lengths
        self._sample_hz: Array = (lengths - 1) / self.durations
        self._state = _Samples(np.concatenate([table.state for table in tables]))
        self._target = _Samples(np.concatenate([table.target for table in tables]))
        self._start = _Samples(np.concatenate([table.start for table in tables]))
        self.lowest = [table.start[:, -1].copy() for table in tables]
        """Of each clip, height of its lowest point above the ground at every sample; negative below it."""

    def phase(self, clip: Index, times: Array) -> Array:
        """Fraction of the cycle [N]: in [0, 1), or in [0, 1] for a clip that does not repeat."""
        share = times / self.durations[clip]
        whole = share - np.floor(share)
        return whole if self._all_cyclic else np.where(self.cyclic[clip], whole, np.clip(share, 0.0, 1.0))

    def cycles(self, clip: Index, times: Array) -> Array:
        """Number of whole cycles since time 0 [N]; 0 for a clip that does not repeat."""
        return np.floor(times / self.durations[clip]) * self.cyclic[clip]

    def state(self, clip: Index, times: Array, origin: Array) -> ReferenceState:
        """The compared quantities at `times` [N]."""
        packed = self.compared(clip, times, origin)
        recipe = self.recipe
        effectors = EFFECTOR_COLUMNS.ravel() if recipe.end_effector_frame == "world" else POINTS
        tracked = TrackedState(
            rotations=packed[:, ROTATIONS].reshape(-1, 13, 4),
            velocities=packed[:, VELOCITIES].reshape(-1, 13, 3),
            root_position=packed[:, BODIES_PART][:, :3],
            root_linear=packed[:, ROOT_LINEAR],
            end_effectors=packed[:, effectors].reshape(-1, 4, 3),
            com=packed[:, COM] if recipe.needs_com else None,
        )
        return ReferenceState(tracked, packed[:, BODIES_PART].reshape(-1, len(BODY_NAMES), 3))

    def compared(self, clip: Index, times: Array, origin: Array) -> Array:
        """The compared quantities at `times` [N], packed [N, 154]."""
        cycles, low, blend, _ = self._locate(clip, times)
        packed = self._compared(cycles, low, blend, clip)
        self.move(packed, origin)
        return packed

    def move(self, packed: Array, origin: Array) -> None:
        """Moves packed rows [N, 154] in place to a reference that began at `origin` [N, 3] instead of 0."""
        bodies = packed[:, BODIES_PART]
        bodies += origin.dot(_EACH_BODY)
        if not self.recipe.com_velocity:
            packed[:, COM] += origin

    def target(self, clip: Index, times: Array, origin: Array) -> ReferenceTarget:
        """The poses at `times` [N]; after the end of a clip that does not repeat, its last pose at rest."""
        cycles, low, blend, _ = self._locate(clip, times)
        row = self._targets(cycles, low, blend, clip, times)
        place = row[:, PLACE_COLUMNS]
        place += origin
        return ReferenceTarget(place, row[:, AXES_COLUMNS], row[:, COORDINATE_COLUMNS], row[:, RATE_COLUMNS])

    def look(self, clip: Index, times: Array, ahead: Array) -> Moment:
        """All quantities at `times` [N]. `ahead` [2 + S]: 0, seconds to the expert's aim, seconds to the targets."""
        both = times[:, None] + ahead
        column = clip[:, None]
        cycles, low, blend, share = self._locate(column, both)
        packed = self._compared(cycles[:, 0], low[:, 0], blend[:, 0], clip)
        rows = self._targets(cycles[:, 1:], low[:, 1:], blend[:, 1:], column, both[:, 1:])
        near, later = rows[:, 0, COORDINATE_COLUMNS], rows[:, 1:, COORDINATE_COLUMNS]
        # Some of the times ahead may lie beyond the seam.
        if self.joints == "hinge" and later.size and (rewritten := nearest_hinges(later, near[:, None])):
            shift, sign = rewritten
            later *= sign
            later += shift
        count, num_targets = later.shape[:2]
        vectors = rows[:, 1:, : COORDINATE_COLUMNS.start].reshape(count, num_targets * COORDINATE_COLUMNS.start)
        coordinates = later.reshape(count, num_targets * NUM_COORDINATES)
        aims = near + self._damping_s * rows[:, 0, RATE_COLUMNS] if self._feedforward else near
        phase = share[:, 0]
        angle = phase * self._phase_turn[clip]
        circle = np.empty((count, 2))
        np.cos(angle, out=circle[:, 0])
        np.sin(angle, out=circle[:, 1])
        return Moment(packed, cycles[:, 0], phase, Prospect(near, aims, circle, vectors, coordinates))

    def start(self, clip: Index, times: Array) -> tuple[Array, Array]:
        """MuJoCo's qpos [N, nq] and qvel [N, nv] on the clip, raised where a body is below the ground."""
        _, low, blend, _ = self._locate(clip, times)
        row = self._start.between(low, blend)
        size = 35 if self.joints == "hinge" else 43
        qpos, qvel = row[:, :size].copy(), row[:, size : size + 34].copy()
        qpos[:, 2] += np.maximum(0.0, -row[:, -1])
        quaternions = qpos[:, 3:7] if self.joints == "hinge" else qpos[:, _BALL_QUATERNIONS]
        quaternions = quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
        if self.joints == "hinge":
            qpos[:, 3:7] = quaternions
        else:
            qpos[:, _BALL_QUATERNIONS] = quaternions
        return qpos, qvel

    def coordinate_range(self) -> tuple[Array, Array]:
        """Lowest and highest value [28] of every joint coordinate over all clips."""
        coordinates = self._target.values[:, COORDINATE_COLUMNS]
        return coordinates.min(axis=0), coordinates.max(axis=0)

    def mean_coordinates(self) -> Array:
        """Mean [28] of the joint coordinates, each clip weighted by its probability."""
        means = [
            self._target.values[start : start + last + 2, COORDINATE_COLUMNS].mean(axis=0)
            for start, last in zip(self._starts, self._last, strict=True)
        ]
        return self.chances @ np.stack(means)

    def _locate(self, clip: Index, times: Array) -> tuple[Array, Index, Array, Array]:
        """Cycle, row of the previous sample, fraction of the way to the next, and phase, each shaped like `times`."""
        share = times / self.durations[clip]
        cycles = np.floor(share)
        if self._all_cyclic:
            share -= cycles
        else:
            cycles = cycles * self.cyclic[clip]
            share = np.clip(share - cycles, 0.0, 1.0)
        last = self._last[clip]
        place = share * (last + 1)
        low = np.minimum(place.astype(np.int64), last)
        return cycles, low + self._starts[clip], place - low, share

    def _compared(self, cycles: Array, low: Index, blend: Array, clip: Index) -> Array:
        packed = self._state.between(low, blend)
        rotations = packed[:, ROTATIONS].reshape(len(packed), 13, 4)
        rotations /= np.sqrt(np.einsum("nji,nji->nj", rotations, rotations))[..., None]
        shift = cycles[:, None] * self.offsets[clip]
        self.move(packed, shift)
        if self._keeps_height:
            packed[:, POINTS.start + 2 :: 3] += shift[:, 2:]
        return packed

    def _targets(self, cycles: Array, low: Index, blend: Array, clip: Index, times: Array) -> Array:
        row = self._target.between(low, blend)
        if not self._all_cyclic:
            moving = self.cyclic[clip] | (times <= self.durations[clip])
            rates = row[..., RATE_COLUMNS]
            rates *= moving[..., None]
        place = row[..., PLACE_COLUMNS]
        place += cycles[..., None] * self.offsets[clip]
        return row


def _quaternion_columns() -> Index:
    """Columns [9, 4] of the ball model's qpos that are quaternions, the root's first."""
    columns, column = [range(3, 7)], 7
    for name in JOINT_ORDER:
        if name in HINGE_BODIES:
            column += 1
        else:
            columns.append(range(column, column + 4))
            column += 4
    return np.array(columns)


_BALL_QUATERNIONS = _quaternion_columns()
