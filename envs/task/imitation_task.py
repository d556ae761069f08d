"""The DeepMimic task for N characters, for any simulator: starts, targets, reward, falls, observations.

One control step of a simulator:

    targets = task.targets(actions, coordinates)      PD targets from actions, at the time before the step
    ...                                               physics for one control interval
    outcome = task.advance(state, touching, diverged) advances the time; reward from the reference at the *new* time
    observations = task.observe(state)

for all rows or some of them. Rows are independent: row i has its own clip, time and random generator, so a batch of one
is a single environment with the same numbers. A fall is termination with reward 0 (DeepMimic); the time limit, and the
end of a clip that does not repeat, are truncation.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.body.joint_coordinates import COORDINATES, nearest_hinges
from envs.body.state import CharacterState
from envs.body.tracked import BODIES_PART, TRACKED_BODIES
from envs.settings import BODY_NAMES, DeepMimicSettings, JointModel
from envs.task.actions import ActionUnits
from envs.task.falls import Falls
from envs.task.imitation_reward import TERMS, ImitationReward
from envs.task.observations import ObservationBuilder
from envs.task.pushes import Pushes
from envs.task.reference import Moment, Prospect, ReferenceMotion
from envs.task.reference_tables import TABLE_HZ
from motions.humanoid.mocap import MocapClip

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64] | slice

ALL: slice = slice(None)

WINDOW = 40
"""Control steps for which a single environment looks up the reference at once."""


FIGURES: tuple[str, ...] = (
    *(f"reward_{term}" for term in TERMS),
    *("joint_error", "root_error", "body_error", "phase"),
)
"""Diagnostics of a step: the reward's terms before weighting (also of the step into a fall); mean angle between the 12
joint rotations and the reference's, radians; distance of the root, and mean distance of the 15 bodies, from the
reference's, metres; phase of the reference they were compared with."""


class Outcome(NamedTuple):
    """Result of a control step for n characters."""

    reward: Array
    """Rewards [n] in [0, 1]."""
    terminated: Flags
    truncated: Flags
    figures: Array
    """Diagnostics [n, 10] in the order of `FIGURES`."""


@dataclass(frozen=True, slots=True)
class EpisodeStarts:
    """Where N rows start; None means drawn at random, or as the settings say."""

    phases: Array | None = None
    """Phases [N] in [0, 1)."""
    clips: NDArray[np.int64] | None = None
    """Indices [N] of the clips."""

    def of(self, rows: NDArray[np.int64]) -> EpisodeStarts:
        """The starts of some rows."""
        return EpisodeStarts(
            None if self.phases is None else self.phases[rows], None if self.clips is None else self.clips[rows]
        )


ANYWHERE = EpisodeStarts()


class ImitationTask:
    """State and rules of the task for `num_envs` rows; `clips` and `table_hz` as in `ReferenceMotion`.

    Raises:
        UserError: see `ReferenceMotion`.
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
        self.observation_builder = ObservationBuilder(settings)
        self.observation_blocks = self.observation_builder.blocks
        self.observation_size = self.observation_builder.size
        self.falls = Falls(settings, self.reference.clips)
        self._hinges = self.reference.joints == "hinge"
        self.action_units = ActionUnits(settings, self.reference)
        self._all_cyclic = bool(self.reference.cyclic.all())
        self._shares: list[float] = np.cumsum(self.reference.chances).tolist()
        self._last_drawn = int(np.flatnonzero(self.reference.chances)[-1])
        target_steps = self.observation_builder.target_steps
        self.ahead = np.array([0.0, self.lookahead_s, *(step * self.control_s for step in target_steps)])
        self.clip = np.zeros(num_envs, dtype=np.int64)
        self.start_time = np.zeros(num_envs)
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.cycle = np.zeros(num_envs)
        self.origin = np.zeros((num_envs, 3))
        """[N, 3] added to the positions of the clip's first cycle; changes at every cycle with `root_sync`."""
        self.pushes = Pushes(settings, num_envs)
        self.start_speeds = np.zeros((num_envs, 6))
        """[N, 6] added to the root's velocity at the start: linear in the world, angular in the root's frame."""
        # What a single row has looked up for its next steps: a NumPy call costs as much for one time as for many.
        self._window: Iterator[Moment] = iter(())
        self._prospect = self._look(ALL).prospect
        # Whether the last `observe` of all rows found every hinge angle in the reference's branch of Euler angles.
        self._aligned = False

    @property
    def time(self) -> Array:
        """Reference time [N] in seconds."""
        return self.start_time + self.steps * self.control_s

    @property
    def phase(self) -> Array:
        """Phase [N]: the fraction of the cycle."""
        return self.reference.phase(self.clip, self.time)

    def start(
        self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], starts: EpisodeStarts = ANYWHERE
    ) -> None:
        """Starts new episodes in rows [n]; what `starts` of n rows leaves open is drawn from each row's own generator.

        Raises:
            ValueError: a phase outside [0, 1), or an index without a clip.
        """
        settings, reference, phases, clips = self.settings, self.reference, starts.phases, starts.clips
        if phases is not None and not ((phases >= 0.0) & (phases < 1.0)).all():
            raise ValueError(f"phase is {phases.tolist()}; legal: [0, 1)")
        if clips is not None and not ((clips >= 0) & (clips < len(reference.clips))).all():
            raise ValueError(f"clip is {clips.tolist()}; legal: 0 to {len(reference.clips) - 1}")
        for index, (row, generator) in enumerate(zip(rows, generators, strict=True)):
            chance, share, first_push, direction = generator.random(4)
            clip = min(bisect_right(self._shares, chance), self._last_drawn)
            if clips is not None:
                clip = int(clips[index])
            if phases is not None:
                share = phases[index]
            elif settings.reference_start == "fixed":
                share = settings.start_phase
            self.clip[row] = clip
            self.start_time[row] = share * reference.durations[clip]
            self.pushes.plan(row, first_push, direction)
            if settings.start_noise > 0.0:
                self.start_speeds[row] = settings.start_noise * generator.standard_normal(6)
        self._begin(rows)

    def start_at(self, rows: NDArray[np.int64], clips: NDArray[np.int64], times: Array) -> None:
        """Starts episodes without pushes and noise in some rows, on given clips (indices) and at given times [n] in
        seconds."""
        self.clip[rows], self.start_time[rows] = clips, times
        self.start_speeds[rows] = 0.0
        self.pushes.start[rows] = math.inf
        self._begin(rows)

    def start_states(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """MuJoCo's qpos and qvel on the clip, with `start_noise`, for rows that have just been started."""
        qpos, qvel = self.reference.start(self.clip[rows], self.start_time[rows])
        qvel[:, :6] += self.start_speeds[rows]
        return qpos, qvel

    def targets(self, actions: NDArray[Any], coordinates: Array, rows: Rows = ALL) -> Array:
        """PD targets [n, 28] of actions [n, 28] for characters with joint coordinates [n, 28].

        Raises:
            ValueError: wrong shape.
            UserError: values that are not finite.
        """
        if actions.shape != coordinates.shape:
            raise ValueError(f"actions have shape {actions.shape}; legal: {coordinates.shape}")
        offset = self.action_units.offsets(actions)
        prospect = self._prospect_of(rows)
        base = self.action_units.base(prospect.aims)
        # A policy's actions use the reference's branch of Euler angles; the springs need the character's own.
        aligned = self._aligned and rows is ALL
        if self._hinges and not aligned and (rewritten := nearest_hinges(prospect.near, coordinates)):
            shift, sign = rewritten
            return shift + sign * base + sign * offset
        return base + offset

    def in_reference_angles(self, coordinates: Array, rows: Rows = ALL) -> Array:
        """Joint coordinates [n, 28] of the same poses, in the branch of Euler angles that the reference has now."""
        if self._hinges and (rewritten := nearest_hinges(coordinates, self._prospect.near[rows])):
            shift, sign = rewritten
            return shift + sign * coordinates
        return coordinates

    def expert_action(self, rows: Rows = ALL) -> Float32:
        """The action [n, 28] that aims at the reference `lookahead_s` from now, with velocity feed-forward."""
        return self.action_to(self._prospect.aims[rows], rows)

    def action_to(self, coordinates: Array, rows: Rows = ALL) -> Float32:
        """The action [n, 28] whose target is joint coordinates [n, 28] in the reference's branch of Euler angles."""
        return self.action_units.action_to(coordinates, self._prospect.aims[rows])

    def advance(self, state: CharacterState, touching: Flags, diverged: Flags, rows: Rows = ALL) -> Outcome:
        """Ends a control step: advances the time and computes reward, termination and truncation.

        Args:
            state: n characters after the step.
            touching: [n, 15] which bodies touched the ground during it.
            diverged: [n] whether the simulation diverged.
        """
        self.steps[rows] += 1
        moment = next(self._window, None) or self._look(rows, state)
        self._keep(moment.prospect, rows)
        errors, apart = self.reward.compare(state.packed, moment.packed)
        terms = self.reward.terms(errors)
        reward = self.reward.total(terms)
        fallen = self.falls.among(self.clip[rows], touching, diverged, apart[:, len(TRACKED_BODIES) :])
        np.copyto(reward, 0.0, where=fallen)
        truncated = self._ended(rows) > fallen  # ended, and not fallen
        figures = np.concatenate((terms, apart.dot(_APART_SHARES), moment.phase[:, None]), axis=1)
        return Outcome(reward, fallen, truncated, figures)

    def observe(self, state: CharacterState, rows: Rows = ALL) -> Float32:
        """Observations [n, observation_size] float32 of characters at the rows' present time.

        Hinge angles are given in the representation nearest to the reference's, so they are the same in every cycle.
        """
        angles, rates, prospect = state.coordinates, state.rates, self._prospect_of(rows)
        rewritten = nearest_hinges(angles, prospect.near) if self._hinges else None
        self._aligned = rewritten is None and rows is ALL
        if rewritten:
            shift, sign = rewritten
            angles, rates = shift + sign * angles, sign * rates
        return self.observation_builder.build(state, (angles, rates), prospect)

    def push(self, heading: tuple[Array, Array], rows: Rows = ALL) -> Array | None:
        """Force [n, 3] on the push body for the coming control step; None while no row is pushed.

        `heading` are cosine and sine [n] of the characters' headings.
        """
        elapsed = self.steps[rows].astype(np.float64) * self.control_s
        return self.pushes.forces(elapsed, heading, rows)

    @property
    def schema(self) -> dict[str, Any]:
        """Description of observations and actions for a controller, as plain JSON values."""
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
            "action_centre": [round(float(value), 9) for value in self.action_units.centre],
            "action_range": [round(float(value), 9) for value in self.action_units.radians],
            "lookahead_s": self.lookahead_s,
            "velocity_feedforward": settings.velocity_feedforward,
        }

    def state(self) -> dict[str, Any]:
        """Arrays that `set_state` restores exactly."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from `state()`.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        for name, mine in self._arrays().items():
            value = np.asarray(state.get(name))
            if value.shape != mine.shape:
                raise ValueError(f"state has {name} of shape {value.shape}; legal: {mine.shape}")
            mine[:] = value
        self._look_ahead(ALL)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "clip": self.clip,
            "start_time": self.start_time,
            "steps": self.steps,
            "cycle": self.cycle,
            "origin": self.origin,
            "push_start": self.pushes.start,
            "push_direction": self.pushes.direction,
            "push_force": self.pushes.force,
        }

    def _begin(self, rows: NDArray[np.int64]) -> None:
        """Initialises all that an episode starts with except its position on the clip and its pushes."""
        self.steps[rows] = 0
        self.cycle[rows] = 0.0
        self.origin[rows] = 0.0
        self.pushes.force[rows] = 0.0
        self._look_ahead(rows)

    def _ended(self, rows: Rows) -> Flags:
        """Whether the time limit of the episode, or the end of a clip that does not repeat, is reached, [n]."""
        steps = self.steps[rows]
        ended = steps >= self.max_steps
        if not self._all_cyclic:
            clip, time = self.clip[rows], self.start_time[rows] + steps * self.control_s
            ended |= ~self.reference.cyclic[clip] & (time >= self.reference.durations[clip] - 1e-9)
        return ended

    def _look_ahead(self, rows: Rows) -> None:
        """Looks up what policies see of the reference, for rows whose time was not changed by `advance`."""
        self._keep(self._look(rows).prospect, rows)

    def _look(self, rows: Rows, state: CharacterState | None = None) -> Moment:
        """The reference at the rows' present time, at its place in the world.

        A single row keeps what it looked up for its next steps, up to the one where its reference may move.
        """
        clip, steps, origin = self.clip[rows], self.steps[rows], self.origin[rows]
        if self.num_envs == 1:
            clip, steps = np.repeat(clip, WINDOW), steps + np.arange(WINDOW)
        moment = self.reference.look(clip, self.start_time[rows] + steps * self.control_s, self.ahead)
        if state is not None and self.settings.root_sync:
            origin = self._sync_root(state, moment, rows)
        self.reference.move(moment.packed, origin)
        moment.prospect.move(origin)
        if self.num_envs > 1:
            return moment
        steady = int((moment.cycles <= self.cycle).sum()) if self.settings.root_sync else WINDOW
        self._window = islice(moment.rows(), max(1, steady))
        return next(self._window)

    def _prospect_of(self, rows: Rows) -> Prospect:
        return self._prospect if rows is ALL else Prospect(*(array[rows] for array in self._prospect))

    def _keep(self, prospect: Prospect, rows: Rows) -> None:
        """Stores what these rows' policies see of the reference."""
        self._aligned = False
        if self.num_envs == 1 or rows is ALL:
            self._prospect = prospect
            return
        for mine, fresh in zip(self._prospect, prospect, strict=True):
            mine[rows] = fresh

    def _sync_root(self, state: CharacterState, moment: Moment, rows: Rows) -> Array:
        """Moves the reference of rows that begin a cycle to their characters; returns the rows' origin [n, 3]."""
        cycles = moment.cycles[: len(state.packed)]
        begun = cycles > self.cycle[rows]
        if begun.any():
            chosen = np.arange(self.num_envs)[rows][begun]
            place = moment.packed[: len(begun)][begun, BODIES_PART.start : BODIES_PART.start + 2]
            self.origin[chosen, :2] = state.root_position[begun, :2] - place
            self.cycle[chosen] = cycles[begun]
        return self.origin[rows]


def _apart_shares() -> Array:
    """Weights [28, 3] of angles [13] and distances [15] in the mean errors of joints, root and bodies."""
    shares = np.zeros((len(TRACKED_BODIES) + len(BODY_NAMES), 3))
    shares[1 : len(TRACKED_BODIES), 0] = 1.0 / (len(TRACKED_BODIES) - 1)
    shares[len(TRACKED_BODIES), 1] = 1.0
    shares[len(TRACKED_BODIES) :, 2] = 1.0 / len(BODY_NAMES)
    return shares


_APART_SHARES = _apart_shares()
