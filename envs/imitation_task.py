"""The DeepMimic task for N characters at once, whatever simulates them: starts, targets, reward, falls, observations.

A simulator's control step goes

    targets = task.targets(actions, coordinates)      PD targets from actions, at the time before the step
    ...                                               physics, for one control interval
    outcome = task.advance(state, touching, diverged) time goes on; reward from the reference at the *new* time
    observations = task.observe(state)

for all rows or some of them. Rows are independent: row i has its own clip, time and random generator, so a batch of one
is a single environment with the same numbers. A fall is termination with reward 0 (DeepMimic); the time limit, and the
end of a clip that does not repeat, are truncation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.character import CharacterState
from envs.humanoid_model import DAMPING_RATIO
from envs.imitation_reward import (
    END_EFFECTORS,
    ImitationReward,
    TrackedState,
    end_effectors_in,
    heading,
    rotation_angles,
)
from envs.reference import COORDINATES, NUM_COORDINATES, ReferenceMotion, ReferenceTarget
from envs.settings import BODY_NAMES, DeepMimicSettings, JointModel
from motions.mocap import MocapClip

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64] | slice

ALL: slice = slice(None)

GROUND_BODIES: dict[str, tuple[str, ...]] = {
    "cartwheel": tuple(f"{side}_{part}" for side in ("right", "left") for part in ("ankle", "wrist", "elbow")),
    "roll": BODY_NAMES,
    "crawl": BODY_NAMES,
    "getup_facedown": BODY_NAMES,
    "getup_faceup": BODY_NAMES,
}
"""Bodies that may touch the ground in a clip; in all others only the feet."""

FEET = ("right_ankle", "left_ankle")

_EFFECTOR_ROWS = [BODY_NAMES.index(name) for name in END_EFFECTORS]
# Whole turns of hinges do not matter; knees and elbows are limited and never wind up.
_WINDING = np.array([name[-2:] in ("_x", "_y", "_z") for name in COORDINATES], dtype=np.float64)
_ROOT_SIZE, _TARGET_SIZE = 13, 9 + NUM_COORDINATES


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a control step brought n characters."""

    reward: Array
    """[n] in [0, 1]."""
    terminated: Flags
    truncated: Flags
    terms: Array
    """[n, 6] the reward's terms in the order of `TERMS`, before weighting; of the step into a fall too."""
    joint_error: Array
    """[n] mean angle between the 12 joint rotations and the reference's, radians."""
    root_error: Array
    """[n] distance of the root from the reference's, metres."""
    body_error: Array
    """[n] mean distance of the 15 bodies from the reference's, metres."""


class ImitationTask:
    """State and rules of the task for `num_envs` rows.

    Raises:
        ClipError, ValueError: see `ReferenceMotion`.
    """

    def __init__(self, settings: DeepMimicSettings, num_envs: int, joints: JointModel | None = None) -> None:
        self.settings = settings
        self.num_envs = num_envs
        self.reference = ReferenceMotion(settings, joints)
        self.reward = ImitationReward(self.reference.recipe)
        self.control_s = 1.0 / settings.control_hz
        self.lookahead_s = self.control_s if settings.lookahead_s is None else settings.lookahead_s
        self.max_steps = max(1, round(settings.max_episode_s * settings.control_hz))
        self._forbidden = np.stack([forbidden_contacts(settings, clip) for clip in self.reference.clips])
        self._phase_turn = np.where(self.reference.cyclic, math.tau, math.pi)
        self._wrap = self.reference.joints == "hinge"
        self._action_centre, self._action_range = self._action_units()
        self._step_offsets = np.array(settings.target_steps) / settings.control_hz
        self.observation_blocks = self._blocks()
        self.observation_size = sum(self.observation_blocks.values())
        self.clip = np.zeros(num_envs, dtype=np.int64)
        self.start_time = np.zeros(num_envs)
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.cycle = np.zeros(num_envs)
        self.origin = np.zeros((num_envs, 3))
        """[N, 3] added to the positions of the clip's first cycle; moves at every cycle with `root_sync`."""
        self.push_start = np.full(num_envs, math.inf)
        """[N] seconds into the episode."""
        self.push_direction = np.zeros(num_envs)
        """[N] radians against the heading."""
        self.push_force = np.zeros((num_envs, 3))
        """[N, 3] N in the world, of the push that is under way."""

    @property
    def time(self) -> Array:
        """Reference time [N] in seconds."""
        return self.start_time + self.steps * self.control_s

    @property
    def phase(self) -> Array:
        """[N] share of the cycle."""
        return self.reference.phase(self.clip, self.time)

    def start(self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], phases: Array | None) -> None:
        """New episodes for some rows, each drawn from its own generator; `phases` [n] sets where on the clip.

        Raises:
            ValueError: a phase outside [0, 1).
        """
        if phases is not None and not ((phases >= 0.0) & (phases < 1.0)).all():
            raise ValueError(f"phase is {phases.tolist()}; legal: [0, 1)")
        settings, reference = self.settings, self.reference
        for index, (row, generator) in enumerate(zip(rows, generators, strict=True)):
            chance, share, first_push, direction = generator.random(4)
            clip = min(
                int(np.searchsorted(np.cumsum(reference.chances), chance, side="right")), len(reference.clips) - 1
            )
            if phases is not None:
                share = phases[index]
            elif settings.reference_start == "fixed":
                share = settings.start_phase
            self.clip[row] = clip
            self.start_time[row] = share * reference.durations[clip]
            self._plan_push(row, first_push, direction)
        self.steps[rows] = 0
        self.cycle[rows] = 0.0
        self.origin[rows] = 0.0
        self.push_force[rows] = 0.0

    def start_states(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """MuJoCo's qpos and qvel on the clip for rows just started."""
        return self.reference.start(self.clip[rows], self.start_time[rows])

    def targets(self, actions: NDArray[Any], coordinates: Array, rows: Rows = ALL) -> Array:
        """PD targets [n, 28] of actions [n, 28] for characters with joint coordinates [n, 28].

        Raises:
            ValueError: wrong shape, or not finite.
        """
        if actions.shape != coordinates.shape:
            raise ValueError(f"actions have shape {actions.shape}; legal: {coordinates.shape}")
        if not np.isfinite(actions).all():
            raise ValueError(f"action of environment {int(np.argwhere(~np.isfinite(actions))[0, 0])} is not finite")
        bound = self.settings.action_bound
        offset = np.minimum(np.maximum(actions, -bound), bound) * self._action_range
        base = self._expert_targets(rows) if self.settings.action_mode == "residual" else self._action_centre
        if not self._wrap:
            return base + offset
        if self.settings.action_mode == "absolute":
            base, offset = base + offset, 0.0
        turns = np.rint((coordinates - base) * (_WINDING / math.tau))
        return base + turns * math.tau + offset

    def expert_action(self, rows: Rows = ALL) -> Float32:
        """The action [n, 28] that aims at the reference `lookahead_s` from now, with velocity feed-forward."""
        if self.settings.action_mode == "residual":
            return np.zeros((len(self.clip[rows]), NUM_COORDINATES), dtype=np.float32)
        action = (self._expert_targets(rows) - self._action_centre) / self._action_range
        return np.clip(action, -self.settings.action_bound, self.settings.action_bound).astype(np.float32)

    def advance(self, state: CharacterState, touching: Flags, diverged: Flags, rows: Rows = ALL) -> Outcome:
        """The step's end: `state` after it, `touching` [n, 15] during it, `diverged` [n] if the simulation broke down."""
        self.steps[rows] += 1
        clip, steps = self.clip[rows], self.steps[rows]
        time = self.start_time[rows] + steps * self.control_s
        if self.settings.root_sync:
            self._sync_root(state, clip, time, rows)
        reference = self.reference.state(clip, time, self.origin[rows])
        tracked = self._tracked(state)
        angles = rotation_angles(tracked, reference.tracked)
        terms = self.reward.terms(self.reward.errors(tracked, reference.tracked, angles))
        reward = self.reward.total(terms)
        gaps = state.body_positions - reference.body_positions
        distances = np.sqrt(np.einsum("nji,nji->nj", gaps, gaps))
        fallen = diverged
        if self.settings.early_termination:
            fallen = fallen | (touching & self._forbidden[clip]).any(axis=1)
            if self.settings.max_body_deviation is not None:
                fallen = fallen | (distances.max(axis=1) > self.settings.max_body_deviation)
        reward[fallen] = 0.0
        ended = ~self.reference.cyclic[clip] & (time >= self.reference.durations[clip] - 1e-9)
        return Outcome(
            reward=reward,
            terminated=fallen,
            truncated=~fallen & ((steps >= self.max_steps) | ended),
            terms=terms,
            joint_error=angles[:, 1:].mean(axis=1),
            root_error=distances[:, 0],
            body_error=distances.mean(axis=1),
        )

    def observe(self, state: CharacterState, rows: Rows = ALL) -> Float32:
        """Observations [n, observation_size] float32, blocks in the order of `observation_blocks`."""
        blocks = self.observation_blocks
        clip = self.clip[rows]
        time = self.start_time[rows] + self.steps[rows] * self.control_s
        count, num_steps = len(clip), len(self._step_offsets) if "targets" in blocks else 0
        cosine, sine = heading(state.rotations[:, 0])
        quaternions = np.empty((count, 1 + num_steps, 4))
        quaternions[:, 0] = state.rotations[:, 0]
        ahead: ReferenceTarget | None = None
        # Per pose: two columns of its rotation, and a place; then the root's two velocities.
        vectors = np.empty((count, 3 * num_steps + 4, 3))
        if num_steps:
            ahead = self.reference.target(
                np.repeat(clip, num_steps),
                (time[:, None] + self._step_offsets).ravel(),
                np.repeat(self.origin[rows], num_steps, axis=0),
            )
            quaternions[:, 1:] = ahead.root_rotation.reshape(count, num_steps, 4)
            places = ahead.root_position.reshape(count, num_steps, 3)
            np.subtract(places, state.root_position[:, None], out=vectors[:, 4 + 2 * num_steps :])
        _matrix_columns(quaternions, vectors)
        vectors[:, 2 + 2 * num_steps] = state.root_linear
        vectors[:, 3 + 2 * num_steps] = state.velocities[:, 0]
        _turn_back(vectors, cosine, sine)
        parts: dict[str, Array] = {}
        if "root" in blocks:
            now = (0, 1 + num_steps, 2 + 2 * num_steps, 3 + 2 * num_steps)
            parts["root"] = np.concatenate((state.root_position[:, 2:], vectors[:, now].reshape(count, 12)), axis=1)
        if ahead is not None:
            target = np.empty((count, num_steps, _TARGET_SIZE))
            target[:, :, 0:3] = vectors[:, 4 + 2 * num_steps :]
            target[:, :, 3:6] = vectors[:, 1 : 1 + num_steps]
            target[:, :, 6:9] = vectors[:, 2 + num_steps : 2 + 2 * num_steps]
            target[:, :, 9:] = ahead.coordinates.reshape(count, num_steps, NUM_COORDINATES)
            parts["targets"] = target.reshape(count, -1)
        if "joints" in blocks:
            parts["joints"] = np.concatenate((state.coordinates, state.rates), axis=1)
        if "key_positions" in blocks:
            points = state.body_positions[:, _EFFECTOR_ROWS]
            points = end_effectors_in("root", points, state.root_position, state.rotations[:, 0])
            parts["key_positions"] = points.reshape(count, -1)
        if "bodies" in blocks:
            parts["bodies"] = _body_block(state, cosine, sine)
        if "phase" in blocks:
            angle = self.reference.phase(clip, time) * self._phase_turn[clip]
            parts["phase"] = np.stack((np.cos(angle), np.sin(angle)), axis=1)
        return np.concatenate([parts[name] for name in blocks], axis=1, dtype=np.float32)

    def push(self, state_heading: tuple[Array, Array], rows: Rows = ALL) -> Array | None:
        """Force [n, 3] on the push body for the coming control step; None while no row is pushed.

        `state_heading` are cosine and sine of the characters' headings.
        """
        settings = self.settings
        if settings.push_force <= 0.0:
            return None
        elapsed = self.steps[rows] * self.control_s
        since = elapsed - self.push_start[rows]
        if settings.push_at_s is None:
            since = np.where(since >= 0.0, since % settings.push_interval_s, since)
        active = (since > -1e-9) & (since < settings.push_duration_s - 1e-9)
        force = self.push_force[rows]
        begun = active & (force == 0.0).all(axis=1)
        if begun.any():
            cosine, sine = state_heading
            across, along = np.sin(self.push_direction[rows]), np.cos(self.push_direction[rows])
            direction = np.stack((cosine * along - sine * across, sine * along + cosine * across, 0.0 * along), axis=1)
            force = np.where(begun[:, None], settings.push_force * direction, force)
        force = np.where(active[:, None], force, 0.0)
        self.push_force[rows] = force
        return force if active.any() else None

    @property
    def schema(self) -> dict[str, Any]:
        """What a controller must know of its inputs and outputs; plain JSON values."""
        settings = self.settings
        return {
            "task": "kinetune/DeepMimic",
            "observation": dict(self.observation_blocks),
            "observation_size": self.observation_size,
            "target_steps": list(settings.target_steps) if "targets" in self.observation_blocks else [],
            "joints": self.reference.joints,
            "coordinates": list(COORDINATES),
            "control_hz": settings.control_hz,
            "action_mode": settings.action_mode,
            "action_bound": settings.action_bound,
            "action_centre": [round(float(value), 9) for value in self._action_centre],
            "action_range": [round(float(value), 9) for value in self._action_range],
            "lookahead_s": self.lookahead_s,
            "velocity_feedforward": settings.velocity_feedforward,
        }

    def state(self) -> dict[str, Any]:
        """Arrays that `set_state` restores exactly."""
        return {name: getattr(self, name).copy() for name in _STATE_ARRAYS}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `state()` was taken.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        for name in _STATE_ARRAYS:
            mine = getattr(self, name)
            value = np.asarray(state.get(name))
            if value.shape != mine.shape:
                raise ValueError(f"state has {name} of shape {value.shape}; legal: {mine.shape}")
            mine[:] = value

    def _blocks(self) -> dict[str, int]:
        sizes = {
            "root": _ROOT_SIZE,
            "joints": 2 * NUM_COORDINATES,
            "key_positions": 3 * len(END_EFFECTORS),
            "bodies": 15 * len(BODY_NAMES),
            "phase": 2,
            "targets": _TARGET_SIZE * len(self.settings.target_steps),
        }
        return {name: sizes[name] for name in self.settings.observation_blocks}

    def _action_units(self) -> tuple[Array, Array]:
        """Centre and radians per unit [28] of actions."""
        scale = self.settings.action_scale
        if self.settings.action_mode == "residual":
            return np.zeros(NUM_COORDINATES), np.full(NUM_COORDINATES, scale)
        low, high = self.reference.coordinate_range()
        centre = self.reference.mean_coordinates()
        return centre, np.maximum(scale, np.maximum(high - centre, centre - low))

    def _expert_targets(self, rows: Rows) -> Array:
        clip = self.clip[rows]
        time = self.start_time[rows] + self.steps[rows] * self.control_s + self.lookahead_s
        aim = self.reference.target(clip, time, self.origin[rows])
        return aim.coordinates + DAMPING_RATIO * aim.rates if self.settings.velocity_feedforward else aim.coordinates

    def _tracked(self, state: CharacterState) -> TrackedState:
        recipe = self.reference.recipe
        points = state.body_positions[:, _EFFECTOR_ROWS]
        com = state.com_velocity if recipe.com_velocity else state.com_position
        return TrackedState(
            rotations=state.rotations,
            velocities=state.velocities,
            root_position=state.root_position,
            root_linear=state.root_linear,
            end_effectors=end_effectors_in(
                recipe.end_effector_frame, points, state.root_position, state.rotations[:, 0]
            ),
            com=com if recipe.needs_com else None,
        )

    def _sync_root(self, state: CharacterState, clip: NDArray[np.int64], time: Array, rows: Rows) -> None:
        cycles = self.reference.cycles(clip, time)
        begun = cycles > self.cycle[rows]
        if not begun.any():
            return
        chosen = np.arange(self.num_envs)[rows][begun]
        aim = self.reference.target(clip[begun], time[begun], self.origin[chosen])
        self.origin[chosen, :2] += state.root_position[begun, :2] - aim.root_position[:, :2]
        self.cycle[chosen] = cycles[begun]

    def _plan_push(self, row: int, first: float, direction: float) -> None:
        settings = self.settings
        given = settings.push_direction_deg
        self.push_direction[row] = math.tau * direction if given is None else math.radians(given)
        self.push_start[row] = first * settings.push_interval_s if settings.push_at_s is None else settings.push_at_s


_STATE_ARRAYS = ("clip", "start_time", "steps", "cycle", "origin", "push_start", "push_direction", "push_force")


def forbidden_contacts(settings: DeepMimicSettings, clip: MocapClip) -> Flags:
    """[15] which bodies' contact with the ground is a fall."""
    allowed = GROUND_BODIES.get(clip.name, FEET) if settings.ground_bodies == "auto" else settings.ground_bodies
    return np.array([name not in allowed for name in BODY_NAMES])


def _matrix_columns(quaternions: Array, out: Array) -> None:
    """First columns of k rotations [n, k, 4] into rows 0..k of `out`, second columns into the next k."""
    w, x, y, z = quaternions[..., 0], quaternions[..., 1], quaternions[..., 2], quaternions[..., 3]
    count = quaternions.shape[1]
    xy, wz, xx, yy, zz = x * y, w * z, x * x, y * y, z * z
    first, second = out[:, :count], out[:, count : 2 * count]
    first[..., 0] = 1.0 - 2.0 * (yy + zz)
    first[..., 1] = 2.0 * (xy + wz)
    first[..., 2] = 2.0 * (x * z - w * y)
    second[..., 0] = 2.0 * (xy - wz)
    second[..., 1] = 1.0 - 2.0 * (xx + zz)
    second[..., 2] = 2.0 * (y * z + w * x)


def _turn_back(vectors: Array, cosine: Array, sine: Array) -> None:
    """Turns world vectors [n, k, 3] in place into frames with headings of the given cosine and sine [n]."""
    cosine, sine = cosine[:, None], sine[:, None]
    x, y = vectors[..., 0], vectors[..., 1]
    along = cosine * x + sine * y
    vectors[..., 1] = cosine * y - sine * x
    vectors[..., 0] = along


def _body_block(state: CharacterState, cosine: Array, sine: Array) -> Array:
    """[n, 225]: per body its place from the root, two columns of its rotation, linear and angular velocity."""
    assert state.body_velocities is not None
    count, bodies = state.body_positions.shape[:2]
    vectors = np.empty((count, 5 * bodies, 3))
    _matrix_columns(state.body_rotations, vectors)
    vectors[:, 2 * bodies : 3 * bodies] = state.body_positions - state.root_position[:, None]
    vectors[:, 3 * bodies : 4 * bodies] = state.body_velocities[..., :3]
    vectors[:, 4 * bodies :] = state.body_velocities[..., 3:]
    _turn_back(vectors, cosine, sine)
    return vectors.reshape(count, -1)
