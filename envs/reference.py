"""The reference motion as dense tables: one lookup and one linear blend per query, whatever is asked.

Clips stay quaternions (`motions.mocap`); here each is sampled once at `TABLE_HZ`, from its first to its last key frame,
with everything an environment compares, observes or commands: rotations, velocities, body positions, joint coordinates.
The tables end at the seam of a cycle, so nothing is ever blended across it. Velocities follow the clip's definition
(forward differences of key frames, blended in between), those of joint coordinates too.

Joint coordinates [28] are in the order of the model's dofs: chest, neck, right shoulder, right elbow, left shoulder,
left elbow, right hip, knee, ankle, left hip, knee, ankle; three numbers for a 3-dof joint, one for knees and elbows.
With hinges the three are intrinsic x-y-z Euler angles, kept continuous over the clip: of the two triples that give a
rotation the one nearer to the sample before, plus whole turns. With ball joints they are the rotation vector from the
joint's rest (`humanoid_model.rest_rotation`), their rates the angular velocity in the child's frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from envs.engine import Data, Model, mujoco
from envs.frames import rotations_to_z_up, to_z_up
from envs.humanoid_model import build_humanoid, rest_rotation
from envs.imitation_reward import (
    BODIES_PART,
    COM,
    EFFECTOR_COLUMNS,
    EFFECTOR_ROWS,
    PACKED_SIZE,
    ROOT_LINEAR,
    ROTATIONS,
    TRACKED_BODIES,
    VELOCITIES,
    TrackedState,
    end_effectors_in,
    reward_recipe,
)
from envs.rotations import (
    continuous_euler,
    euler_angles,
    euler_rates,
    matrix_columns,
    rotate_back,
    rotation_matrices,
    rotation_vector,
)
from envs.settings import BODY_NAMES, DeepMimicSettings, HumanoidSettings, JointModel
from motions.humanoid import BALL_BODIES, HINGE_BODIES
from motions.mocap import CLIP_NAMES, MocapClip, load_clip, read_clip

Array = NDArray[np.float64]
Index = NDArray[np.int64]

TABLE_HZ = 240.0
"""Samples per second of the tables (at least), unless another rate is asked for."""

_ARM, _LEG = ("shoulder", "elbow"), ("hip", "knee", "ankle")
JOINT_ORDER: tuple[str, ...] = (
    "chest",
    "neck",
    *(f"{side}_{part}" for side in ("right", "left") for part in _ARM),
    *(f"{side}_{part}" for side in ("right", "left") for part in _LEG),
)
"""The 12 joints in the order of the model's dofs."""

COORDINATES: tuple[str, ...] = tuple(
    name for joint in JOINT_ORDER for name in ([joint] if joint in HINGE_BODIES else [f"{joint}_{a}" for a in "xyz"])
)
"""Names of the 28 joint coordinates."""

NUM_COORDINATES = len(COORDINATES)

SINGULAR_COSINE = 0.2
"""Cosine of the middle Euler angle under which rates follow the angles instead of the angular velocity."""

# Columns of the tables of targets.
_COORDINATES, _RATES, _PLACE, _AXES = slice(0, 28), slice(28, 56), slice(56, 59), slice(59, 65)


@dataclass(frozen=True, slots=True)
class ReferenceState:
    """What the reward and the termination compare at N times."""

    tracked: TrackedState
    body_positions: Array
    """[N, 15, 3] of `BODY_NAMES`, world."""


@dataclass(frozen=True, slots=True)
class ReferenceTarget:
    """Poses to aim at, at times [...]."""

    root_position: Array
    """[..., 3] world."""
    root_axes: Array
    """[..., 6] where the root's rotation takes the x and the y axis."""
    coordinates: Array
    """[..., 28]."""
    rates: Array
    """[..., 28] per second."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the reference says of N times at once, with the first cycle's origin at 0; see `ReferenceMotion.look`."""

    packed: Array
    """[N, 142]."""
    points: Array
    """[N, 4, 3]."""
    cycles: Array
    """[N] whole cycles since time 0."""
    phase: Array
    """[N]."""
    ahead: ReferenceTarget
    """[N, K, ...]."""

    def row(self, index: int) -> Moment:
        """One of the times, as views [1, ...]."""
        part, ahead = slice(index, index + 1), self.ahead
        later = ReferenceTarget(
            ahead.root_position[part], ahead.root_axes[part], ahead.coordinates[part], ahead.rates[part]
        )
        return Moment(self.packed[part], self.points[part], self.cycles[part], self.phase[part], later)


class ReferenceMotion:
    """The clips of `settings.motion` for a character with joints of the given kind.

    Times may be any numbers: a cyclic clip goes on forever both ways. `origin` [N, 3] is added to the positions of a
    clip's first cycle.

    Args:
        settings: which clips, and how their cycles join.
        joints: by default those of the settings.
        clips: instead of those that `settings.motion` names, each with the same chance.
        table_hz: samples per second of the tables (at least).

    Raises:
        ClipError: a clip is unknown or malformed.
        ValueError: all weights of the reward are 0.
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
            pairs = [(clip, _Table.build(clip, self.joints, velocity, table_hz)) for clip in clips]
        else:
            names, blend = settings.motion, settings.seam_blend_s
            pairs = [_named_table(name, blend, self.joints, velocity, table_hz) for name in names]
        self.clips, tables = tuple(pair[0] for pair in pairs), [pair[1] for pair in pairs]
        weights = np.array(
            settings.motion_weights if settings.motion_weights and not clips else [1.0] * len(self.clips)
        )
        self.chances: Array = weights / weights.sum()
        self.durations: Array = np.array([clip.duration for clip in self.clips])
        self.cyclic = np.array([clip.cyclic for clip in self.clips])
        self._all_cyclic = bool(self.cyclic.all())
        self._keeps_height = settings.keep_cycle_height
        offsets = to_z_up(np.stack([clip.cycle_offset.numpy() for clip in self.clips]))
        if not self._keeps_height:
            offsets[:, 2] = 0.0
        self.offsets: Array = offsets * self.cyclic[:, None]
        """[C, 3] by which a cycle moves the root."""
        lengths = np.array([len(table.state) for table in tables])
        self._last: Index = lengths - 2
        self._starts: Index = np.cumsum(lengths) - lengths
        self._sample_hz: Array = (lengths - 1) / self.durations
        self._state = np.concatenate([table.state for table in tables])
        self._target = np.concatenate([table.target for table in tables])
        self._start = np.concatenate([table.start for table in tables])
        self.lowest = [table.start[:, -1].copy() for table in tables]
        """Of each clip, height of its lowest point over the ground at every sample; negative below it."""

    def phase(self, clip: Index, times: Array) -> Array:
        """Share of the cycle [N]: in [0, 1), or in [0, 1] for a clip that does not repeat."""
        share = times / self.durations[clip]
        whole = share - np.floor(share)
        return whole if self._all_cyclic else np.where(self.cyclic[clip], whole, np.clip(share, 0.0, 1.0))

    def cycles(self, clip: Index, times: Array) -> Array:
        """Whole cycles since time 0 [N]; 0 for a clip that does not repeat."""
        return np.floor(times / self.durations[clip]) * self.cyclic[clip]

    def state(self, clip: Index, times: Array, origin: Array) -> ReferenceState:
        """What is compared at `times` [N]."""
        packed, points = self.compared(clip, times, origin)
        recipe = self.recipe
        tracked = TrackedState(
            rotations=packed[:, ROTATIONS].reshape(-1, 13, 4),
            velocities=packed[:, VELOCITIES].reshape(-1, 13, 3),
            root_position=packed[:, BODIES_PART][:, :3],
            root_linear=packed[:, ROOT_LINEAR],
            end_effectors=packed[:, EFFECTOR_COLUMNS] if recipe.end_effector_frame == "world" else points,
            com=packed[:, COM] if recipe.needs_com else None,
        )
        return ReferenceState(tracked, packed[:, BODIES_PART].reshape(-1, len(BODY_NAMES), 3))

    def compared(self, clip: Index, times: Array, origin: Array) -> tuple[Array, Array]:
        """At `times` [N]: packed [N, 142], and hands and feet [N, 4, 3] as `CharacterState.key_points` has them."""
        cycles, low, blend, _ = self._locate(clip, times)
        packed, points = self._compared(cycles, low, blend, clip)
        self.move(packed, origin)
        return packed, points

    def move(self, packed: Array, origin: Array) -> None:
        """Moves packed rows [N, 142] in place to where the reference began at `origin` [N, 3] instead of 0."""
        bodies = packed[:, BODIES_PART].reshape(len(packed), -1, 3)
        bodies += origin[:, None]
        if not self.recipe.com_velocity:
            packed[:, COM] += origin

    def target(self, clip: Index, times: Array, origin: Array) -> ReferenceTarget:
        """The poses at `times` [N]; after the end of a clip that does not repeat its last one, at rest."""
        cycles, low, blend, _ = self._locate(clip, times)
        found = self._targets(cycles, low, blend, clip, times)
        return replace(found, root_position=found.root_position + origin)

    def look(self, clip: Index, times: Array, ahead: Array) -> Moment:
        """Everything at `times` [N], and the targets at `times` plus `ahead` [1 + K], whose first is 0."""
        both = times[:, None] + ahead
        column = clip[:, None]
        cycles, low, blend, share = self._locate(column, both)
        packed, points = self._compared(cycles[:, 0], low[:, 0], blend[:, 0], clip)
        later = self._targets(cycles[:, 1:], low[:, 1:], blend[:, 1:], column, both[:, 1:])
        return Moment(packed, points, cycles[:, 0], share[:, 0], later)

    def start(self, clip: Index, times: Array) -> tuple[Array, Array]:
        """MuJoCo's qpos [N, nq] and qvel [N, nv] on the clip, lifted out of the ground where a body sinks into it."""
        _, low, blend, _ = self._locate(clip, times)
        row = _blend(self._start, low, blend)
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
        coordinates = self._target[:, _COORDINATES]
        return coordinates.min(axis=0), coordinates.max(axis=0)

    def mean_coordinates(self) -> Array:
        """Mean [28] of the joint coordinates, each clip counting by its chance."""
        means = [
            self._target[start : start + last + 2, _COORDINATES].mean(axis=0)
            for start, last in zip(self._starts, self._last, strict=True)
        ]
        return self.chances @ np.stack(means)

    def _locate(self, clip: Index, times: Array) -> tuple[Array, Index, Array, Array]:
        """Cycle, row of the sample before, share of the way to the next, and phase, each like `times`."""
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

    def _compared(self, cycles: Array, low: Index, blend: Array, clip: Index) -> tuple[Array, Array]:
        row = _blend(self._state, low, blend)
        count = len(row)
        rotations = row[:, ROTATIONS].reshape(count, 13, 4)
        rotations /= np.sqrt(np.einsum("nji,nji->nj", rotations, rotations))[..., None]
        shift = cycles[:, None] * self.offsets[clip]
        packed, points = row[:, :PACKED_SIZE], row[:, PACKED_SIZE:].reshape(count, 4, 3)
        self.move(packed, shift)
        if self._keeps_height:
            points[..., 2] += shift[:, None, 2]
        return packed, points

    def _targets(self, cycles: Array, low: Index, blend: Array, clip: Index, times: Array) -> ReferenceTarget:
        row = _blend(self._target, low, blend)
        rates = row[..., _RATES]
        if not self._all_cyclic:
            moving = self.cyclic[clip] | (times <= self.durations[clip])
            rates = rates * moving[..., None]
        place = row[..., _PLACE]
        place += cycles[..., None] * self.offsets[clip]
        return ReferenceTarget(place, row[..., _AXES], row[..., _COORDINATES], rates)


def _quaternion_columns() -> Index:
    """[9, 4] columns of the ball model's qpos that are quaternions, the root's first."""
    columns, column = [range(3, 7)], 7
    for name in JOINT_ORDER:
        if name in HINGE_BODIES:
            column += 1
        else:
            columns.append(range(column, column + 4))
            column += 4
    return np.array(columns)


_BALL_QUATERNIONS = _quaternion_columns()


def open_clip(name: str, seam_blend_s: float = 0.0) -> MocapClip:
    """A clip by name or path, its seam blended over `seam_blend_s` (at most a quarter of the cycle)."""
    is_path = name not in CLIP_NAMES and (Path(name).suffix or "/" in name)
    clip = read_clip(name) if is_path else load_clip(name)
    seconds = min(seam_blend_s, clip.duration / 4)
    return clip.with_blended_seam(seconds) if clip.cyclic and seconds > 0.0 else clip


@dataclass(frozen=True, slots=True)
class _Table:
    """Samples of one clip: rows of `state`, `target` and `start` (qpos, qvel, lowest point)."""

    state: Array
    target: Array
    start: Array

    @classmethod
    def build(cls, clip: MocapClip, joints: JointModel, com_velocity: bool, table_hz: float) -> _Table:
        count = max(2, math.ceil(clip.duration * table_hz - 1e-9) + 1)
        times = np.linspace(0.0, clip.duration, count)
        ends = torch.from_numpy(times).clamp(max=math.nextafter(clip.duration, 0.0))  # before the next cycle begins
        pose, velocity = clip.pose(ends), clip.velocity(ends)
        root = to_z_up(pose.root_positions.numpy())
        balls, angles = rotations_to_z_up(pose.ball_rotations.numpy()), pose.hinge_angles.numpy()
        linear, turning = to_z_up(velocity.root_linear.numpy()), to_z_up(velocity.ball_angular.numpy())
        rotations = _tracked_rotations(balls, angles)
        velocities = _tracked_velocities(turning, velocity.hinge_rates.numpy())
        ball_qpos, ball_qvel = ball_state(root, rotations, linear, velocities)
        bodies, centre, drift, lowest = _kinematics(ball_qpos, ball_qvel)
        points = end_effectors_in("root", bodies[:, EFFECTOR_ROWS], root, rotations[:, 0])
        parts = (rotations, velocities, linear, drift if com_velocity else centre, bodies, points)
        state = np.concatenate([part.reshape(count, -1) for part in parts], axis=1)
        qpos, qvel = ball_qpos, ball_qvel
        coordinates, rates = ball_coordinates(rotations), ball_qvel[:, 6:]
        if joints == "hinge":
            coordinates = _hinge_coordinates(rotations)
            rates = _hinge_rates(clip.times.numpy(), times, coordinates, velocities)
            qpos = np.concatenate((ball_qpos[:, :7], coordinates), axis=1)
            qvel = np.concatenate((ball_qvel[:, :6], rates), axis=1)
        target = np.concatenate((coordinates, rates, root, matrix_columns(rotations[:, 0])), axis=1)
        return cls(state, target, np.concatenate((qpos, qvel, lowest[:, None]), axis=1))


def _named_table(
    name: str, seam_blend_s: float, joints: JointModel, com_velocity: bool, table_hz: float
) -> tuple[MocapClip, _Table]:
    """A clip and its table; those of built-in clips are made once in a process."""
    if name in CLIP_NAMES:
        return _built_in_table(name, seam_blend_s, joints, com_velocity, table_hz)
    clip = open_clip(name, seam_blend_s)
    return clip, _Table.build(clip, joints, com_velocity, table_hz)


@lru_cache(maxsize=64)
def _built_in_table(
    name: str, seam_blend_s: float, joints: JointModel, com_velocity: bool, table_hz: float
) -> tuple[MocapClip, _Table]:
    clip = open_clip(name, seam_blend_s)
    return clip, _Table.build(clip, joints, com_velocity, table_hz)


def _blend(table: Array, low: Index, blend: Array) -> Array:
    before = table[low]
    after = table[low + 1]
    after -= before
    after *= blend[..., None]
    before += after
    return before


def _tracked_rotations(balls: Array, angles: Array) -> Array:
    """[K, 13, 4] of `TRACKED_BODIES` from those of `BALL_BODIES` [K, 9, 4] and angles [K, 4] about -y."""
    rotations = np.zeros((len(balls), len(TRACKED_BODIES), 4))
    for index, name in enumerate(BALL_BODIES):
        rotations[:, TRACKED_BODIES.index(name)] = balls[:, index]
    for index, name in enumerate(HINGE_BODIES):
        body = TRACKED_BODIES.index(name)
        rotations[:, body, 0] = np.cos(angles[:, index] / 2)
        rotations[:, body, 2] = -np.sin(angles[:, index] / 2)
    return rotations


def _tracked_velocities(turning: Array, rates: Array) -> Array:
    velocities = np.zeros((len(turning), len(TRACKED_BODIES), 3))
    for index, name in enumerate(BALL_BODIES):
        velocities[:, TRACKED_BODIES.index(name)] = turning[:, index]
    for index, name in enumerate(HINGE_BODIES):
        velocities[:, TRACKED_BODIES.index(name), 1] = -rates[:, index]
    return velocities


def ball_state(root: Array, rotations: Array, linear: Array, velocities: Array) -> tuple[Array, Array]:
    """qpos [K, 43] and qvel [K, 34] of the model with ball joints, from the arrays of a `TrackedState`."""
    positions, speeds = [root, rotations[:, 0]], [linear, rotate_back(rotations[:, 0], velocities[:, 0])]
    for name in JOINT_ORDER:
        body = TRACKED_BODIES.index(name)
        if name in HINGE_BODIES:
            positions.append(hinge_angle(rotations[:, body])[:, None])
            speeds.append(-velocities[:, body, 1:2])
        else:
            positions.append(_from_rest(name, rotations[:, body]))
            speeds.append(velocities[:, body])
    return np.concatenate(positions, axis=1), np.concatenate(speeds, axis=1)


def ball_coordinates(rotations: Array) -> Array:
    """Coordinates [K, 28] for ball joints of local rotations [K, 13, 4]."""
    parts: list[Array] = []
    for name in JOINT_ORDER:
        local = rotations[:, TRACKED_BODIES.index(name)]
        hinge = name in HINGE_BODIES
        parts.append(hinge_angle(local)[:, None] if hinge else rotation_vector(_from_rest(name, local)))
    return np.concatenate(parts, axis=1)


def hinge_angle(rotations: Array) -> Array:
    """Angle [K] in (-pi, pi] about -y of rotations [K, 4] about that axis."""
    angle = -2.0 * np.arctan2(rotations[:, 2], rotations[:, 0])
    return np.pi - (np.pi - angle) % math.tau


def _from_rest(name: str, rotations: Array) -> Array:
    """Joint quaternions [K, 4] of local rotations: what is left after the joint's rest."""
    w, x, y, z = rest_rotation(name, "ball")
    # Left multiplication with the conjugate of the rest.
    matrix = np.array([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]])
    return rotations @ matrix.T


def _hinge_coordinates(rotations: Array) -> Array:
    """Coordinates [K, 28] for hinges of local rotations [K, 13, 4], continuous from sample to sample."""
    parts: list[Array] = []
    for name in JOINT_ORDER:
        local = rotations[:, TRACKED_BODIES.index(name)]
        hinge = name in HINGE_BODIES
        parts.append(hinge_angle(local)[:, None] if hinge else continuous_euler(euler_angles(rotation_matrices(local))))
    return np.concatenate(parts, axis=1)


def _hinge_rates(key_times: Array, times: Array, coordinates: Array, velocities: Array) -> Array:
    """Rates [K, 28] at `times` [K] of hinge coordinates [K, 28], from angular velocities [K, 13, 3].

    Near the singular pose, where no rates give the velocity, they are what the angles do: forward differences of key
    frames, the last repeated, blended in between.
    """
    rates = np.empty_like(coordinates)
    column = 0
    for name in JOINT_ORDER:
        velocity = velocities[:, TRACKED_BODIES.index(name)]
        if name in HINGE_BODIES:
            rates[:, column] = -velocity[:, 1]
            column += 1
            continue
        angles = coordinates[:, column : column + 3]
        steps = [np.diff(np.interp(key_times, times, angle)) / np.diff(key_times) for angle in angles.T]
        differences = [np.interp(times, key_times, np.append(step, step[-1])) for step in steps]
        singular = np.abs(np.cos(angles[:, 1:2])) < SINGULAR_COSINE
        safe = np.where(singular, 0.0, angles)
        exact = euler_rates(safe, velocity)
        rates[:, column : column + 3] = np.where(singular, np.stack(differences, axis=-1), exact)
        column += 3
    return rates


def _kinematics(qpos: Array, qvel: Array) -> tuple[Array, Array, Array, Array]:
    """Body positions [K, 15, 3], centre of mass [K, 3], its velocity [K, 3], lowest point [K], on the ball model."""
    model = build_humanoid(HumanoidSettings(joints="ball"))
    data: Data = mujoco.MjData(model)
    ids = [model.body(name).id for name in BODY_NAMES]
    bodies, com, speed = np.empty((len(qpos), len(ids), 3)), np.empty((len(qpos), 3)), np.empty((len(qpos), 3))
    lowest = np.empty(len(qpos))
    for index in range(len(qpos)):
        data.qpos[:], data.qvel[:] = qpos[index], qvel[index]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        mujoco.mj_subtreeVel(model, data)
        bodies[index], com[index], speed[index] = data.xpos[ids], data.subtree_com[1], data.subtree_linvel[1]
        lowest[index] = lowest_point(model, data)
    return bodies, com, speed, lowest


def lowest_point(model: Model, data: Data) -> float:
    """Height of the lowest point of the character over the ground."""
    lowest = math.inf
    for geom in range(model.ngeom):
        kind, size, height = model.geom_type[geom], model.geom_size[geom], data.geom_xpos[geom, 2]
        down = np.abs(data.geom_xmat[geom, 6:9])
        if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
            lowest = min(lowest, height - size[0])
        elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            lowest = min(lowest, height - size[0] - size[1] * down[2])
        elif kind == mujoco.mjtGeom.mjGEOM_BOX:
            lowest = min(lowest, height - float(down @ size))
    return lowest
