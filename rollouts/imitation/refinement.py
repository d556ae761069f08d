"""Refines labels in simulation: offsets of the open-loop targets, by phase, that improve tracking.

All methods start from states on the clip at M phases one control step apart, and return a `PhaseTable` of offsets in
radians. Each label is corrected by the error it causes: the action of phase t leads from the state at t to that at t +
1, whose error counts. (`train_sft.py` of yelongshen/DeepMimic_mujoco pairs the state
after a step with the action before it.)

    feedback   iterative learning control: roll the labels out, add a fraction of the joint error that each one left
    gradient   Gauss-Newton on the error after h steps; Jacobians by finite differences in the simulator
    mpc        average random perturbations by the reward of h steps (path-integral weights)
    invdyn     torques / Kp of an inverse dynamics without external help: joint torques and foot forces together explain
               the motion of the unactuated root (plain `mj_inverse` leaves a wrench on it that no motor can supply)

All labels are corrected at once, although each was evaluated with the old values of its neighbours. Therefore a pass is
applied only as far as the mean reward from all phases rises (its step is halved, or it is discarded).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.mujoco.vector_environment import make_vector_env
from envs.settings import DeepMimicSettings
from rollouts.imitation.demonstrations import Expert
from rollouts.imitation.experts import PhaseTable, ReferenceExpert, RefinedExpert, action_units, root_of
from rollouts.imitation.inverse_dynamics import contact_consistent_torques

if TYPE_CHECKING:
    from envs.mujoco.vector_environment import DeepMimicVectorEnv
    from rollouts.imitation.settings import DemonstrationSettings

Array = NDArray[np.float64]

JACOBIAN_STEP = 0.02
"""Change of a target, in radians, for finite differences."""
MAX_OFFSET = 0.5
"""Largest correction, radians."""
ROOT_WEIGHT = 2.0
"""Weight of the root's pose error (metres, radians) relative to that of a joint (radians) in `gradient`."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """A table of corrections and its effect: mean reward and joint error over `refine_horizon` steps from every phase,
    before and after; for `invdyn` also the unexplained wrench on the root."""

    table: PhaseTable
    figures: dict[str, float]


def refine(task: DeepMimicSettings, settings: DemonstrationSettings, seed: int) -> list[Refinement]:
    """Corrections of the reference labels for every clip of the task; they are 0 with `refine_method` `none`."""
    return [_refine_clip(_one_clip(task, clip), settings, seed + index) for index, clip in enumerate(task.motion)]


def phase_grid(env: DeepMimicVectorEnv) -> tuple[Array, bool]:
    """Phases [M] one control step apart on the environment's only clip, and whether the clip repeats."""
    reference = env.task.reference
    cyclic = bool(reference.cyclic[0])
    count = max(2, round(float(reference.durations[0]) * env.settings.control_hz))
    return np.arange(count) / count, cyclic


def _one_clip(task: DeepMimicSettings, clip: str) -> DeepMimicSettings:
    """The task with this clip alone, without pushes and without an end before the horizon."""
    return task.model_copy(
        update={"motion": (clip,), "motion_weights": None, "push_force": 0.0, "early_termination": False}
    )


def _refine_clip(task: DeepMimicSettings, settings: DemonstrationSettings, seed: int) -> Refinement:
    probe = make_vector_env(task, 1)
    phases, cyclic = phase_grid(probe)
    empty = PhaseTable(np.zeros((len(phases), len(action_units(probe)))), cyclic)
    probe.close()
    figures: dict[str, float] = {}
    method: Callable[..., PhaseTable]
    if settings.refine_method == "none":
        table = empty
    elif settings.refine_method == "invdyn":
        torques = contact_consistent_torques(task, phases)
        table = _clipped(empty, torques.target_offsets)
        figures |= {"root_force_left_n": torques.root_force, "root_torque_left_nm": torques.root_torque}
    else:
        method = {"feedback": _feedback, "gradient": _gradient, "mpc": _mpc}[settings.refine_method]
        table = empty
        for iteration in range(settings.refine_iterations):
            proposed = method(task, settings, phases, table, np.random.default_rng([seed, iteration]))
            table = _as_far_as_it_helps(task, settings, phases, table, proposed)
    env = make_vector_env(task, len(phases))
    for name, current in (("before", empty), ("after", table)):
        reward, joint_error = track(env, RefinedExpert(ReferenceExpert(), [current]), phases, settings.refine_horizon)
        figures |= {f"reward_{name}": float(reward.mean()), f"joint_error_{name}": float(joint_error.mean())}
    env.close()
    return Refinement(table, figures)


def _as_far_as_it_helps(
    task: DeepMimicSettings, settings: DemonstrationSettings, phases: Array, table: PhaseTable, proposed: PhaseTable
) -> PhaseTable:
    env = make_vector_env(task, len(phases))

    def merit(candidate: PhaseTable) -> float:
        expert = RefinedExpert(ReferenceExpert(), [candidate])
        return float(track(env, expert, phases, settings.refine_horizon)[0].mean())

    before, kept = merit(table), table
    for share in (1.0, 0.5, 0.25, 0.125):
        mixed = PhaseTable(table.offsets + share * (proposed.offsets - table.offsets), table.cyclic)
        if merit(mixed) > before:
            kept = mixed
            break
    env.close()
    return kept


def track(
    env: DeepMimicVectorEnv, expert: Expert, phases: Array, num_steps: int, first_offsets: Array | None = None
) -> tuple[Array, Array]:
    """Mean reward and joint error [N] over some steps from states on the clip.

    Args:
        first_offsets: [N, A] radians added to the first action.
    """
    observations, _ = env.reset(seed=0, options={"phase": phases})
    units = action_units(env)
    rewards, errors = np.zeros(env.num_envs), np.zeros(env.num_envs)
    for step in range(num_steps):
        actions = expert.label(env, observations)
        if step == 0 and first_offsets is not None:
            actions = actions + first_offsets / units
        observations, reward, _, _, infos = env.step(actions.astype(np.float32))
        rewards += reward / num_steps
        errors += infos["joint_error"] / num_steps
    return rewards, errors


def _feedback(
    task: DeepMimicSettings, settings: DemonstrationSettings, phases: Array, table: PhaseTable, rng: np.random.Generator
) -> PhaseTable:
    """Follows every start for `refine_horizon` steps and averages a label's errors over the starts."""
    env = make_vector_env(task, len(phases))
    expert = RefinedExpert(ReferenceExpert(), [table])
    observations, _ = env.reset(seed=0, options={"phase": phases})
    total, visits = np.zeros_like(table.offsets), np.zeros(len(phases))
    for _ in range(settings.refine_horizon):
        acted = _entries(env.task.phase, len(phases))
        actions = expert.label(env, observations)
        observations, _, _, truncated, _ = env.step(actions.astype(np.float32))
        reference = env.task.reference.target(env.task.clip, env.task.time, env.task.origin)
        error = _wrapped(reference.coordinates - env.task.in_reference_angles(env.coordinates()))
        np.add.at(total, acted, error)
        np.add.at(visits, acted, 1.0)
        if truncated.any():
            break
    env.close()
    return _clipped(table, table.offsets + settings.refine_rate * total / np.maximum(visits, 1.0)[:, None])


def _gradient(
    task: DeepMimicSettings, settings: DemonstrationSettings, phases: Array, table: PhaseTable, rng: np.random.Generator
) -> PhaseTable:
    """One Gauss-Newton step for every label: delta = rate (J'J + lambda)^-1 J' error."""
    count, size = table.offsets.shape
    env = make_vector_env(task, count * (size + 1))
    # For every start one unchanged copy, and one for each target that is perturbed.
    moves = np.tile(np.concatenate([np.zeros((1, size)), JACOBIAN_STEP * np.eye(size)]), (count, 1))
    track(env, RefinedExpert(ReferenceExpert(), [table]), np.repeat(phases, size + 1), settings.refine_horizon, moves)
    reached = _tracking_error(env).reshape(count, size + 1, -1)
    env.close()
    offsets = table.offsets.copy()
    for index, outcomes in enumerate(reached):
        jacobian = (outcomes[1:] - outcomes[0]).T / JACOBIAN_STEP
        normal = jacobian.T @ jacobian
        damping = 0.1 * np.trace(normal) / size * np.eye(size)
        # All labels within the horizon affect its final state: each is corrected by its part.
        share = settings.refine_rate / settings.refine_horizon
        offsets[index] -= share * np.linalg.solve(normal + damping, jacobian.T @ outcomes[0])
    return _clipped(table, offsets)


def _mpc(
    task: DeepMimicSettings, settings: DemonstrationSettings, phases: Array, table: PhaseTable, rng: np.random.Generator
) -> PhaseTable:
    """Averages perturbations of a label with weights exp(standardised mean reward over the horizon)."""
    count, size = table.offsets.shape
    copies = settings.refine_samples + 1
    env = make_vector_env(task, count * copies)
    moves = rng.normal(0.0, settings.refine_noise, (count, copies, size))
    moves[:, 0] = 0.0
    expert = RefinedExpert(ReferenceExpert(), [table])
    rewards, _ = track(env, expert, np.repeat(phases, copies), settings.refine_horizon, moves.reshape(-1, size))
    env.close()
    scores = rewards.reshape(count, copies)
    scores = (scores - scores.mean(axis=1, keepdims=True)) / np.maximum(scores.std(axis=1, keepdims=True), 1e-9)
    weights = np.exp(scores)
    weights /= weights.sum(axis=1, keepdims=True)
    return _clipped(table, table.offsets + np.einsum("nk,nka->na", weights, moves))


def _tracking_error(env: DeepMimicVectorEnv) -> Array:
    """Simulated minus reference [N, 34]: joint coordinates, then the root's position and rotation, weighted."""
    task = env.task
    reference = task.reference.state(task.clip, task.time, task.origin).tracked
    target = task.reference.target(task.clip, task.time, task.origin)
    root = root_of(env)
    place = root.root_position - reference.root_position
    # The vector part of a quaternion is about half the rotation vector.
    w, x, y, z = reference.rotations[:, 0].T
    inverse = np.stack([np.stack(row, axis=-1) for row in (
        (-x, w, z, -y), (-y, -z, w, x), (-z, y, -x, w)
    )], axis=1)  # fmt: skip
    turn = np.einsum("nij,nj->ni", inverse, root.rotations[:, 0])
    turn *= 2.0 * np.sign(np.einsum("nj,nj->n", root.rotations[:, 0], reference.rotations[:, 0]))[:, None]
    joints = _wrapped(task.in_reference_angles(env.coordinates()) - target.coordinates)
    return np.concatenate([joints, ROOT_WEIGHT * place, ROOT_WEIGHT * turn], axis=1)


def _entries(phases: Array, count: int) -> NDArray[np.int64]:
    """Indices of the table entries nearest to phases [N]."""
    return np.rint(phases * count).astype(np.int64) % count


def _wrapped(angles: Array) -> Array:
    """Angles wrapped to [-pi, pi)."""
    return (angles + np.pi) % (2.0 * np.pi) - np.pi


def _clipped(table: PhaseTable, offsets: Array) -> PhaseTable:
    return PhaseTable(np.clip(offsets, -MAX_OFFSET, MAX_OFFSET), table.cyclic)
