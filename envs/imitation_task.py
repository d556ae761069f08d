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
from envs.imitation_reward import END_EFFECTORS, VELOCITIES, ImitationReward
from envs.reference import COORDINATES, NUM_COORDINATES, TABLE_HZ, ReferenceMotion, ReferenceTarget
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
    """State and rules of the task for `num_envs` rows; `clips` and `table_hz` as in `ReferenceMotion`.

    Raises:
        ClipError, ValueError: see `ReferenceMotion`.
    """

    def __init__(
        self,
        settings: DeepMimicSettings,
        num_envs: int,
        joints: JointModel | None = None,
        clips: Sequence[MocapClip] | None = None,
        table_hz: float = TABLE_HZ,
    ) -> None:
        self.settings = settings
        self.num_envs = num_envs
        self.reference = ReferenceMotion(settings, joints, clips, table_hz)
        self.reward = ImitationReward(self.reference.recipe)
        self.control_s = 1.0 / settings.control_hz
        self.lookahead_s = self.control_s if settings.lookahead_s is None else settings.lookahead_s
        self.max_steps = max(1, round(settings.max_episode_s * settings.control_hz))
        self._forbidden = np.stack([forbidden_contacts(settings, clip) for clip in self.reference.clips])
        self._phase_turn = np.where(self.reference.cyclic, math.tau, math.pi)
        self._wrap = self.reference.joints == "hinge"
        self._action_centre, self._action_range = self._action_units()
        self._all_cyclic = bool(self.reference.cyclic.all())
        self._root_frame = self.reference.recipe.end_effector_frame == "root"
        self.observation_blocks = self._blocks()
        self.observation_size = sum(self.observation_blocks.values())
        ends = np.cumsum(list(self.observation_blocks.values())).tolist()
        self._slices = {
            name: slice(end - size, end)
            for end, (name, size) in zip(ends, self.observation_blocks.items(), strict=True)
        }
        steps = settings.target_steps if "targets" in self.observation_blocks else ()
        self._num_targets = len(steps)
        self._ahead = np.array([0.0, self.lookahead_s, *(step * self.control_s for step in steps)])
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
        # What the reference says of the times ahead: PD targets of the expert, and the targets that are observed.
        self._aims = np.zeros((num_envs, NUM_COORDINATES))
        self._places = np.zeros((num_envs, self._num_targets, 3))
        self._axes = np.zeros((num_envs, self._num_targets, 6))
        self._coordinates = np.zeros((num_envs, self._num_targets, NUM_COORDINATES))

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
        self._begin(rows)

    def start_at(self, rows: NDArray[np.int64], clips: NDArray[np.int64], times: Array) -> None:
        """New episodes without pushes for some rows, on given clips (indices) and at given times [n] in seconds."""
        self.clip[rows], self.start_time[rows] = clips, times
        self.push_start[rows] = math.inf
        self._begin(rows)

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
        base = self._aims[rows] if self.settings.action_mode == "residual" else self._action_centre
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
        action = (self._aims[rows] - self._action_centre) / self._action_range
        return np.clip(action, -self.settings.action_bound, self.settings.action_bound).astype(np.float32)

    def advance(self, state: CharacterState, touching: Flags, diverged: Flags, rows: Rows = ALL) -> Outcome:
        """The step's end.

        Args:
            state: n characters after it.
            touching: [n, 15] which bodies touched the ground during it.
            diverged: [n] whether the simulation broke down.
        """
        self.steps[rows] += 1
        clip, steps = self.clip[rows], self.steps[rows]
        time = self.start_time[rows] + steps * self.control_s
        if self.settings.root_sync:
            self._sync_root(state, clip, time, rows)
        (packed, points), ahead = self.reference.look(clip, time, self._ahead, self.origin[rows])
        self._keep(ahead, rows)
        mine = state.key_points if self._root_frame else points
        errors, angles, squares = self.reward.compare(state.packed, packed, (mine, points))
        terms = self.reward.terms(errors)
        reward = self.reward.total(terms)
        distances = np.sqrt(squares)
        fallen = diverged
        if self.settings.early_termination:
            fallen = fallen | (touching & self._forbidden[clip]).any(axis=1)
            if self.settings.max_body_deviation is not None:
                fallen = fallen | (distances.max(axis=1) > self.settings.max_body_deviation)
        reward[fallen] = 0.0
        ended = steps >= self.max_steps
        if not self._all_cyclic:
            ended |= ~self.reference.cyclic[clip] & (time >= self.reference.durations[clip] - 1e-9)
        return Outcome(
            reward=reward,
            terminated=fallen,
            truncated=ended & ~fallen,
            terms=terms,
            joint_error=angles[:, 1:].sum(axis=1) / 12.0,
            root_error=distances[:, 0],
            body_error=distances.sum(axis=1) / 15.0,
        )

    def observe(self, state: CharacterState, rows: Rows = ALL) -> Float32:
        """Observations [n, observation_size] float32, blocks in the order of `observation_blocks`."""
        count, num_steps = len(state.packed), self._num_targets
        observations = np.empty((count, self.observation_size), dtype=np.float32)
        # Everything with a direction is turned into the heading at once: the root's axes and velocities, then per
        # target its place from the root and its axes.
        vectors = np.empty((count, 4 + 3 * num_steps, 3))
        flat = vectors.reshape(count, -1)
        flat[:, 0:6] = state.root_axes
        flat[:, 6:9] = state.root_linear
        flat[:, 9:12] = state.packed[:, VELOCITIES.start : VELOCITIES.start + 3]
        targets = vectors[:, 4:].reshape(count, num_steps, 9)
        if num_steps:
            np.subtract(self._places[rows], state.root_position[:, None], out=targets[..., :3])
            targets[..., 3:] = self._axes[rows]
        _turn_back(vectors, state.heading)
        for name, part in self._slices.items():
            if name == "root":
                observations[:, part.start] = state.root_position[:, 2]
                observations[:, part.start + 1 : part.stop] = flat[:, :12]
            elif name == "joints":
                observations[:, part.start : part.start + NUM_COORDINATES] = state.coordinates
                observations[:, part.start + NUM_COORDINATES : part.stop] = state.rates
            elif name == "key_positions":
                observations[:, part] = state.key_points.reshape(count, -1)
            elif name == "bodies":
                observations[:, part] = _body_block(state)
            elif name == "phase":
                clip = self.clip[rows]
                time = self.start_time[rows] + self.steps[rows] * self.control_s
                angle = self.reference.phase(clip, time) * self._phase_turn[clip]
                observations[:, part.start] = np.cos(angle)
                observations[:, part.start + 1] = np.sin(angle)
            else:
                block = observations[:, part].reshape(count, num_steps, _TARGET_SIZE)
                block[..., :9] = targets
                block[..., 9:] = self._coordinates[rows]
        return observations

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
        self._look_ahead(ALL)

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

    def _begin(self, rows: NDArray[np.int64]) -> None:
        """Sets everything that an episode starts with but its place on the clip and its pushes."""
        self.steps[rows] = 0
        self.cycle[rows] = 0.0
        self.origin[rows] = 0.0
        self.push_force[rows] = 0.0
        self._look_ahead(rows)

    def _look_ahead(self, rows: Rows) -> None:
        """Fetches what lies ahead of rows whose time has changed otherwise than by `advance`."""
        clip = self.clip[rows]
        time = self.start_time[rows] + self.steps[rows] * self.control_s
        self._keep(self.reference.look(clip, time, self._ahead, self.origin[rows])[1], rows)

    def _keep(self, ahead: ReferenceTarget, rows: Rows) -> None:
        aims = ahead.coordinates[:, 0]
        if self.settings.velocity_feedforward:
            aims = aims + DAMPING_RATIO * ahead.rates[:, 0]
        self._aims[rows] = aims
        self._places[rows] = ahead.root_position[:, 1:]
        self._axes[rows] = ahead.root_axes[:, 1:]
        self._coordinates[rows] = ahead.coordinates[:, 1:]

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


def _turn_back(vectors: Array, heading: tuple[Array, Array]) -> None:
    """Turns world vectors [n, k, 3] in place into frames with the given headings (cosine and sine [n])."""
    cosine, sine = heading[0][:, None], heading[1][:, None]
    x, y = vectors[..., 0], vectors[..., 1]
    along = cosine * x + sine * y
    vectors[..., 1] = cosine * y - sine * x
    vectors[..., 0] = along


def _body_block(state: CharacterState) -> Array:
    """[n, 225]: per body its place from the root, its axes, linear and angular velocity."""
    assert state.body_axes is not None
    assert state.body_velocities is not None
    places = state.body_positions - state.root_position[:, None]
    vectors = np.concatenate((places, state.body_axes, state.body_velocities), axis=-1)
    count = len(vectors)
    vectors = vectors.reshape(count, -1, 3)
    _turn_back(vectors, state.heading)
    return vectors.reshape(count, -1)
