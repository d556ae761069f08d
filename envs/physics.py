"""N humanoids in MuJoCo, one control step at a time: `mujoco.rollout` with threads that stay, or stable PD in Python.

A control step is a pure function of (qpos, qvel, control): the solver's warm start begins at zero, so results depend
neither on threads, nor on what shares the batch, nor on what came before; one character in a batch of one gives the
same bits. Contacts count over the whole control interval, not only at its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.engine import Data, Model, mujoco, rollout
from envs.humanoid_model import build_humanoid
from envs.settings import DeepMimicSettings

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a control step left of n characters."""

    qpos: Array
    qvel: Array
    touching: NDArray[np.bool_]
    """[n, 15] whether each body of `BODY_NAMES` touched the ground at any physics step."""
    diverged: NDArray[np.bool_]
    """[n] whether the simulation broke down, and the engine put its state back."""


class RolloutPhysics:
    """Position actuators: the whole control interval of all characters is one call into the engine."""

    def __init__(self, settings: DeepMimicSettings) -> None:
        self.model: Model = build_humanoid(settings)
        self.substeps = settings.physics_hz // settings.control_hz
        self._datas: list[Data] = [mujoco.MjData(self.model) for _ in range(settings.nthread)]
        self._rollout = rollout.Rollout(nthread=settings.nthread if settings.nthread > 1 else 0)
        self._push_body = self.model.body(settings.push_body).id
        self._span = self.substeps / settings.physics_hz
        self._buffers: dict[int, tuple[Array, Array, Array, Array]] = {}

    def step(self, qpos: Array, qvel: Array, targets: Array, push: Array | None) -> StepOutcome:
        """One control step of n characters with PD targets [n, 28]; `push` [n, 3] is a force in N on the push body."""
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
            control[:, :, first : first + 3] = push[:, None]
        self._rollout.rollout(
            [self.model] * count, self._datas, start, control, control_spec=spec, skip_checks=True, nstep=self.substeps,
            state=states, sensordata=sensors,
        )  # fmt: skip
        last = states[:, -1].copy()
        # The engine answers NaN and explosions by starting over at time 0.
        diverged = ~(np.abs(last[:, 0] - self._span) < 1e-6)
        return StepOutcome(last[:, 1 : 1 + nq], last[:, 1 + nq :], (sensors > 0.0).any(axis=1), diverged)

    def close(self) -> None:
        """Ends the threads."""
        self._rollout.close()

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
