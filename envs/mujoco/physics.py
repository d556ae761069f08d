"""Control steps of N humanoids in MuJoCo: `mujoco.rollout` with persistent threads, or stable PD in Python.

A control step is a pure function of (qpos, qvel, control): the solver's warm start is reset to zero, so results depend
neither on threads, nor on the rest of the batch, nor on earlier steps; a batch of one gives the same bits. Contacts
count over the whole control interval, not only at its end.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.body.joint_coordinates import JOINT_ORDER
from envs.body.mujoco_import import Data, Model, mujoco, rollout
from envs.body.mujoco_model import PARTS, build_humanoid
from envs.body.rotations import quaternion_of, quaternion_product, rotation_vector
from envs.body.state import BallLayout
from envs.settings import BODY_NAMES, DeepMimicSettings
from motions.humanoid.kinematics import HINGE_BODIES

Array = NDArray[np.float64]


class StepOutcome(NamedTuple):
    """Result of a control step for n characters."""

    qpos: Array
    qvel: Array
    touching: NDArray[np.bool_]
    """[n, 15] whether each body of `BODY_NAMES` touched the ground at any physics step."""
    diverged: NDArray[np.bool_]
    """[n] whether the simulation diverged, so that the engine reset the character's state."""


class Physics(Protocol):
    """Advances n characters by one control step; `model` is the simulated one."""

    model: Model

    def step(self, qpos: Array, qvel: Array, targets: Array, push: Array | None) -> StepOutcome:
        """Steps with PD targets [n, 28]; `push` on the push body: force [n, 3] in N, or [n, 6] with torque in N m."""
        ...

    def close(self) -> None:
        """Ends the engine's threads, if there are any."""
        ...


class RolloutPhysics:
    """Position actuators: one call into the engine simulates the whole control interval of all characters.

    For a single character that call costs more than stepping in Python, so it is stepped by hand, with the same bits.
    """

    def __init__(self, settings: DeepMimicSettings) -> None:
        self.model: Model = build_humanoid(settings)
        self.substeps = settings.physics_hz // settings.control_hz
        self._datas: list[Data] = [mujoco.MjData(self.model) for _ in range(settings.nthread)]
        self._rollout = rollout.Rollout(nthread=settings.nthread if settings.nthread > 1 else 0)
        self._push_body = self.model.body(settings.push_body).id
        self._span = self.substeps / settings.physics_hz
        self._buffers: dict[int, tuple[Array, Array, Array, Array]] = {}
        self._one = _Views(self._datas[0], self._push_body)

    def step(self, qpos: Array, qvel: Array, targets: Array, push: Array | None) -> StepOutcome:
        """One control step: see `Physics.step`."""
        if len(qpos) == 1 and (outcome := self._step_one(qpos, qvel, targets, push)):
            return outcome
        count, nq, nu = len(qpos), self.model.nq, self.model.nu
        start, control, states, sensors = self._buffer(count, pushed=push is not None)
        start[:, 0] = 0.0
        start[:, 1 : 1 + nq] = qpos
        start[:, 1 + nq :] = qvel
        control[:, :, :nu] = targets[:, None]
        spec = mujoco.mjtState.mjSTATE_CTRL.value
        if push is not None:
            spec |= mujoco.mjtState.mjSTATE_XFRC_APPLIED.value
            first = nu + 6 * self._push_body
            control[:, :, first : first + push.shape[1]] = push[:, None]
        self._rollout.rollout(
            [self.model] * count, self._datas, start, control, control_spec=spec, skip_checks=True, nstep=self.substeps,
            state=states, sensordata=sensors,
        )  # fmt: skip
        last = states[:, -1].copy()
        # On NaN or divergence the engine resets the state to time 0.
        diverged = ~(np.abs(last[:, 0] - self._span) < 1e-6)
        touching = np.logical_or.reduce(sensors > 0.0, axis=1)
        return StepOutcome(last[:, 1 : 1 + nq], last[:, 1 + nq :], touching, diverged)

    def close(self) -> None:
        """Ends the engine's threads."""
        self._rollout.close()

    def _step_one(self, qpos: Array, qvel: Array, targets: Array, push: Array | None) -> StepOutcome | None:
        """One character's step; None if the engine reports a problem, which the rollout then handles."""
        model, data, one = self.model, self._datas[0], self._one
        one.qpos[:], one.qvel[:], one.control[:], one.warmstart[:], one.wrench[:] = qpos, qvel, targets, 0.0, 0.0
        if push is not None:
            one.wrench[:, : push.shape[1]] = push
        sensors, step, add = one.sensors, mujoco.mj_step, np.add
        contacts = np.zeros(len(sensors))  # with a second axis each sum would take twice as long
        for _ in range(self.substeps):
            step(model, data)
            add(contacts, sensors, contacts)
        if np.count_nonzero(one.warnings):
            one.warnings[:] = 0
            return None
        return StepOutcome(one.qpos.copy(), one.qvel.copy(), contacts[None] > 0.0, np.zeros(1, dtype=bool))

    def _buffer(self, count: int, *, pushed: bool) -> tuple[Array, Array, Array, Array]:
        key = 2 * count + pushed
        if key not in self._buffers:
            width = self.model.nu + (6 * self.model.nbody if pushed else 0)
            size = 1 + self.model.nq + self.model.nv
            self._buffers[key] = (
                np.zeros((count, size)),
                np.zeros((count, self.substeps, width)),
                np.zeros((count, self.substeps, size)),
                np.zeros((count, self.substeps, self.model.nsensordata)),
            )
        return self._buffers[key]


class _Views:
    """Views of the engine's memory of one character with a leading axis of 1, made once to save time."""

    def __init__(self, data: Data, push_body: int) -> None:
        self.qpos, self.qvel, self.control = data.qpos[None], data.qvel[None], data.ctrl[None]
        self.warmstart = data.qacc_warmstart[None]
        self.wrench = data.xfrc_applied[None, push_body]
        self.sensors = data.sensordata
        self.warnings: NDArray[np.int32] = data.warning.number


class StablePhysics:
    """Stable PD control (Tan, Liu, Turk 2011) at every physics step, each character in turn.

    The damper acts on the velocity at the end of the step, the spring on the pose extrapolated to there with the
    present velocity: with e = Kp (target - q - h v) - Kd v, limited, the acceleration solves (M + h Kd) a = e - bias +
    passive, and the torque is e - h Kd a, limited again. (Predicting with an unlimited e would brake every neighbour of
    a joint whose spring saturates.) Constraint forces are left out of the prediction. In ball joints the spring acts
    along the shortest rotation to the target.
    """

    def __init__(self, settings: DeepMimicSettings) -> None:
        self.model: Model = build_humanoid(settings)
        self.substeps = settings.physics_hz // settings.control_hz
        self._data: Data = mujoco.MjData(self.model)
        self._push_body = self.model.body(settings.push_body).id
        self._h = 1.0 / settings.physics_hz
        names = [name for name in JOINT_ORDER for _ in range(1 if name in HINGE_BODIES else 3)]
        self._stiffness: Array = settings.stiffness_scale * np.array([PARTS[name].stiffness for name in names])
        self._damping: Array = np.array([PARTS[name].damping(settings) for name in names])
        self._limits: Array = settings.torque_scale * np.array([PARTS[name].torque_limit for name in names])
        self._layout = BallLayout() if settings.joints == "ball" else None
        # Index of each dof's own inertia in the sparse matrix: the last entry of its row.
        self._diagonal = (self.model.M_rowadr + self.model.M_rownnz - 1)[6:]

    def step(self, qpos: Array, qvel: Array, targets: Array, push: Array | None) -> StepOutcome:
        """One control step: see `Physics.step`."""
        count, model, data = len(qpos), self.model, self._data
        after_qpos, after_qvel = np.empty_like(qpos), np.empty_like(qvel)
        touching = np.zeros((count, len(BODY_NAMES)), dtype=bool)
        diverged = np.zeros(count, dtype=bool)
        for index in range(count):
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = qpos[index], qvel[index]
            if push is not None:
                data.xfrc_applied[self._push_body, : push.shape[1]] = push[index]
            for _ in range(self.substeps):
                mujoco.mj_step1(model, data)
                data.ctrl[:] = self._torques(targets[index])
                mujoco.mj_step2(model, data)
                touching[index] |= data.sensordata > 0.0
            after_qpos[index], after_qvel[index] = data.qpos, data.qvel
            diverged[index] = not abs(data.time - self.substeps * self._h) < 1e-6
        return StepOutcome(after_qpos, after_qvel, touching, diverged)

    def close(self) -> None:
        """Does nothing: there are no threads."""

    def _torques(self, target: Array) -> Array:
        model, data, h = self.model, self._data, self._h
        speed = data.qvel[6:]
        gap = target - data.qpos[7:] if self._layout is None else self._ball_gap(self._layout, target)
        wanted = np.clip(self._stiffness * (gap - h * speed) - self._damping * speed, -self._limits, self._limits)
        force = data.qfrc_passive - data.qfrc_bias
        force[6:] += wanted
        plain = data.M.copy()
        data.M[self._diagonal] += h * self._damping
        mujoco.mj_factorM(model, data)
        acceleration = np.empty((1, model.nv))
        mujoco.mj_solveM(model, data, acceleration, force[None])
        data.M[:] = plain
        mujoco.mj_factorM(model, data)
        return np.clip(wanted - h * self._damping * acceleration[0, 6:], -self._limits, self._limits)

    def _ball_gap(self, layout: BallLayout, target: Array) -> Array:
        """Rotation vectors [28] from the joints' present rotations to the targets, in the children's frames."""
        qpos = self._data.qpos
        gap = np.empty(len(target))
        gap[layout.hinge_columns] = target[layout.hinge_columns] - qpos[layout.hinges]
        back = qpos[layout.quaternions] * (1.0, -1.0, -1.0, -1.0)
        turn = quaternion_product(back, quaternion_of(target[layout.ball_columns]))
        gap[layout.ball_columns] = rotation_vector(turn)
        return gap


def make_physics(settings: DeepMimicSettings) -> Physics:
    """The physics that `settings.pd` selects."""
    return StablePhysics(settings) if settings.pd == "stable" else RolloutPhysics(settings)
