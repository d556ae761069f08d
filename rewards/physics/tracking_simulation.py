"""Simulates humanoids that track motions until they lose them.

Every motion starts on its first frame, with its velocities, raised where it is below the floor. Then only forces act:
PD targets from the motion itself (the pose ahead, with velocity feed-forward) or from a trained controller, and, if
allowed, a limited external wrench at the root that pulls towards the reference and whose use is measured. A motion is
lost when the bodies are too far from their positions (mean distance: a lagging hand is no fall), when a body other than
a foot touches the floor that is clear of it in the reference, or when the simulation diverges. A row depends on its
motion alone, not on the rest of the batch. A controller tracks in the physics that it was trained in and without the
external wrench, except where options say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from envs.body.joint_coordinates import NUM_COORDINATES
from envs.body.rotations import inverse, quaternion_product, rotation_vector
from envs.body.state import CharacterState
from envs.settings import BODY_NAMES, DeepMimicSettings, HumanoidSettings
from envs.task.imitation_task import ImitationTask
from motions.base.errors import UserError
from rewards.declared.tracking import TrackingSettings
from rewards.physics.tracking_bodies import Bodies, BulletBodies, MujocoBodies
from rewards.physics.tracking_reference import CONTROL_HZ, TrackingReference
from rollouts.control.actor_critic import ActorCritic, ControllerError, load_controller

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

CLEARANCE_M = 0.15
"""A body whose lowest point is higher than this above the floor in the reference must not touch the floor."""
STANDING_M = 0.03
"""A foot whose lowest point is lower than this in the reference counts as standing."""
_FEET = [BODY_NAMES.index("left_ankle"), BODY_NAMES.index("right_ankle")]
_TABLE_HZ = float(CONTROL_HZ)
# Spring and damper of the wrench at the root. It is constant during a control step (1/30 s) and at first accelerates
# only the light root, not the whole body; stronger dampers would make it oscillate.
_SPRING_N, _DAMPER_N = 1125.0, 450.0
_SPRING_NM, _DAMPER_NM = 400.0, 25.0
_PHYSICS_OPTIONS = {"physics_hz": "tracking_physics_hz", "torque_scale": "tracking_torque_scale"}


@dataclass(slots=True)
class Track:
    """How one motion was tracked; lists have one entry per control step before it was lost."""

    num_steps: int
    """Number of control steps of the whole motion."""
    errors: list[float] = field(default_factory=list)
    """Mean distance of the 15 bodies from their reference positions, metres."""
    root_errors: list[float] = field(default_factory=list)
    """Distance of the root from its reference position, metres."""
    slips: list[float] = field(default_factory=list)
    """Mean horizontal speed of feet on the ground, m/s, for steps in which there are any."""
    assists: list[float] = field(default_factory=list)
    """Used fraction of the allowed wrench, in [0, 1]."""
    stands: list[tuple[int, int, int]] = field(default_factory=list)
    """Number of feet that stand in the simulation, in the reference, and in both."""
    lost: bool = False
    diverged: bool = False

    @property
    def tracked_fraction(self) -> float:
        """Fraction of the motion before it was lost."""
        return len(self.errors) / self.num_steps

    @property
    def contact_f1(self) -> float:
        """F1 score of the standing feet, simulation against reference; 1 if no foot stands in either."""
        here, there, both = np.sum(self.stands, axis=0) if self.stands else (0, 0, 0)
        return float(2 * both / (here + there)) if here + there else 1.0


class TrackingSimulator:
    """The simulated humanoid, with or without a controller; `task_settings` are the options of its physics.

    Args:
        settings: options of the reward.
        help_stiffness: factor on the springs of the wrench at the root, and on its torque's damper.

    Raises:
        ControllerError: the controller cannot be read, or does not fit the observations that its file describes.
        UserError: its actions are absolute targets, whose meaning depends on the clips that it was trained on.
    """

    def __init__(self, settings: TrackingSettings, *, help_stiffness: float = 1.0) -> None:
        self._settings = settings
        self._help_stiffness = help_stiffness
        self._controller: ActorCritic | None = None
        physics: dict[str, object] = {name: getattr(settings, option) for name, option in _PHYSICS_OPTIONS.items()}
        help_options = ("tracking_root_force", "tracking_root_torque")
        self._help: tuple[float, float] = (settings.tracking_root_force, settings.tracking_root_torque)
        options: dict[str, object] = {"joints": "ball"}
        schema = None
        if settings.tracking_controller is not None:
            try:
                loaded = load_controller(settings.tracking_controller)
            except ControllerError as error:
                raise ControllerError(f"tracking_controller {settings.tracking_controller}: {error}") from error
            self._controller, schema = loaded.controller, loaded.schema
            options = _interface(settings.tracking_controller, schema)
            # It balances by itself, in the physics that it was trained in; the defaults are for open-loop targets.
            physics = _trained_physics(loaded.extra) | {
                name: value for name, value in physics.items() if _asked_for(settings, _PHYSICS_OPTIONS[name])
            }
            force, torque = (_asked_for(settings, option) for option in help_options)
            self._help = (force * self._help[0], torque * self._help[1])
        self.task_settings = DeepMimicSettings.model_validate(
            {
                **physics,
                "control_hz": CONTROL_HZ,
                "early_termination": False,
                "root_sync": False,
                "push_body": "root",
                **options,
            }
        )
        self._assisted = any(self._help)
        self._schema = schema

    def run(self, references: Sequence[TrackingReference]) -> list[Track]:
        """Tracks every motion from its beginning; results are in the order of the motions."""
        if self._settings.tracking_engine == "bullet":
            return [track for reference in references for track in self.follow([reference], BulletBodies)]
        return self.follow(references, MujocoBodies) if references else []

    def follow(
        self,
        references: Sequence[TrackingReference],
        make_bodies: Callable[[ImitationTask], Bodies],
        *,
        watch: Callable[[Bodies, Array | None], None] | None = None,
    ) -> list[Track]:
        """Tracks motions with bodies of the caller's.

        Args:
            make_bodies: the bodies for a task whose rows have just been started.
            watch: called after every control step with the bodies and the wrench [n, 6] at the roots. With it nobody
                leaves the simulation before its end: who lost a motion is still driven and helped, and no longer
                judged; the motions then have one length.
        """
        task = self._task(references)
        rows = np.arange(len(references))
        task.start_at(rows, rows, np.zeros(len(rows)))
        bodies = make_bodies(task)
        tracks = [Track(reference.num_steps) for reference in references]
        limit = self._settings.tracking_max_deviation
        for step in range(max(reference.num_steps for reference in references)):
            active, own = [references[row] for row in rows.tolist()], [tracks[row] for row in rows.tolist()]
            before = bodies.state
            wrench, used = self._wrench(before, active, step)
            targets = task.targets(self._actions(task, before, rows), before.coordinates, rows)
            touching, diverged = bodies.step(targets, wrench)
            task.advance(bodies.state, touching, diverged, rows)
            going = _judge((before, bodies.state), touching, diverged, active, step + 1, limit, own, used)
            if watch is not None:
                watch(bodies, wrench)
                continue
            rows = rows[going]
            if not len(rows):
                break
            bodies.keep(going)
        bodies.close()
        return tracks

    def _task(self, references: Sequence[TrackingReference]) -> ImitationTask:
        clips = [reference.clip for reference in references]
        task = ImitationTask(self.task_settings, len(clips), clips=clips, table_hz=_TABLE_HZ)
        if self._schema is not None and task.schema != self._schema:
            differing = [name for name in task.schema if task.schema[name] != self._schema.get(name)]
            raise UserError(
                f"tracking_controller {self._settings.tracking_controller} differs in {', '.join(differing)} from "
                "what a tracker observes and does"
            )
        return task

    def _actions(self, task: ImitationTask, state: CharacterState, rows: Rows) -> NDArray[np.float32]:
        """Actions [n, 28]; without a controller 0, the open-loop targets."""
        if self._controller is None:
            return np.zeros((len(rows), NUM_COORDINATES), dtype=np.float32)
        observations = torch.from_numpy(task.observe(state, rows))
        # One row at a time: the bits of a matrix product depend on its number of rows.
        return torch.stack([self._controller.act(row) for row in observations]).numpy()

    def _wrench(
        self, state: CharacterState, references: Sequence[TrackingReference], step: int
    ) -> tuple[Array | None, Array]:
        """Force and torque [n, 6] at the root, and the fraction [n] of the allowed amount that they use."""
        if not self._assisted:
            return None, np.zeros(len(references))
        place = np.stack([reference.bodies[step, 0] for reference in references])
        rotation = np.stack([reference.root_rotation[step] for reference in references])
        linear = np.stack([reference.root_linear[step] for reference in references])
        angular = np.stack([reference.root_angular[step] for reference in references])
        stiffer = self._help_stiffness
        force = stiffer * _SPRING_N * (place - state.root_position) + _DAMPER_N * (linear - state.root_linear)
        turn = rotation_vector(quaternion_product(rotation, inverse(state.rotations[:, 0])))
        torque = stiffer * (_SPRING_NM * turn + _DAMPER_NM * (angular - state.velocities[:, 0]))
        force, force_share = _limited(force, self._help[0])
        torque, torque_share = _limited(torque, self._help[1])
        return np.concatenate((force, torque), axis=1), (force_share + torque_share) / 2


def _judge(
    states: tuple[CharacterState, CharacterState],
    touching: Flags,
    diverged: Flags,
    references: Sequence[TrackingReference],
    step: int,
    max_deviation: float,
    tracks: Sequence[Track],
    used: Array,
) -> Flags:
    """Records the result of a control step; returns which rows [n] continue."""
    going = np.zeros(len(references), dtype=np.bool_)
    before, after = (state.body_positions for state in states)
    for index, (reference, track) in enumerate(zip(references, tracks, strict=True)):
        if track.lost:
            continue
        distances = np.linalg.norm(after[index] - reference.bodies[step], axis=-1)
        # Contact counts over the whole step, so the reference's pose at either end of it may justify the contact.
        near_floor = reference.heights[step - 1 : step + 1].min(axis=0) < CLEARANCE_M
        near_floor[_FEET] = True
        track.diverged = bool(diverged[index]) or not np.isfinite(distances).all()
        track.lost = bool(track.diverged or distances.mean() > max_deviation or (touching[index] & ~near_floor).any())
        if track.lost:
            continue
        track.errors.append(float(distances.mean()))
        track.root_errors.append(float(distances[0]))
        track.assists.append(float(used[index]))
        standing = touching[index, _FEET]
        planned = reference.heights[step, _FEET] < STANDING_M
        track.stands.append((int(standing.sum()), int(planned.sum()), int((standing & planned).sum())))
        if standing.any():
            moved = np.linalg.norm((after - before)[index, _FEET, :2], axis=-1) * CONTROL_HZ
            track.slips.append(float(moved[standing].mean()))
        going[index] = step < reference.num_steps
    return going


def _asked_for(settings: TrackingSettings, option: str) -> bool:
    """Whether an option differs from its default (a run's file lists all options, so presence means nothing)."""
    return getattr(settings, option) != type(settings).model_fields[option].default


def _trained_physics(extra: dict[str, Any]) -> dict[str, object]:
    """Options of the humanoid that a controller was trained with, as far as its file states them."""
    saved = extra.get("task")
    if not isinstance(saved, dict):
        return {}
    return {name: saved[name] for name in HumanoidSettings.model_fields if name in saved}


def _interface(path: str, schema: dict[str, object]) -> dict[str, object]:
    """Task settings that give the observations and actions of a controller's schema."""
    names = ("observation", "target_steps", "joints", "control_hz", "action_mode", "action_bound", "action_range",
             "lookahead_s", "velocity_feedforward")  # fmt: skip
    if missing := [name for name in names if name not in schema]:
        raise UserError(f"tracking_controller {path}: it was not made for this task: its schema lacks {missing[0]}")
    if schema["action_mode"] != "residual":
        raise UserError(
            f"tracking_controller {path}: its action_mode is {schema['action_mode']!r}; legal: 'residual' "
            "(absolute actions mean something in the clips they were trained on only)"
        )
    if schema["control_hz"] != CONTROL_HZ:
        raise UserError(f"tracking_controller {path}: its control_hz is {schema['control_hz']}; legal: {CONTROL_HZ}")
    blocks, scales = schema["observation"], schema["action_range"]
    assert isinstance(blocks, dict) and isinstance(scales, list)
    options = {name: schema[name] for name in ("joints", "action_bound", "lookahead_s", "velocity_feedforward")}
    options |= {"observation_blocks": tuple(blocks), "action_scale": scales[0]}
    return options | ({"target_steps": schema["target_steps"]} if "targets" in blocks else {})


def _limited(vectors: Array, limit: float) -> tuple[Array, Array]:
    """Vectors [n, 3] limited to a length of at most `limit`, and their lengths [n] as a fraction of it."""
    lengths = np.linalg.norm(vectors, axis=1)
    if limit == 0.0:
        return np.zeros_like(vectors), np.zeros(len(vectors))
    cut = np.minimum(lengths, limit)
    return vectors * (cut / np.maximum(lengths, 1e-12))[:, None], cut / limit
