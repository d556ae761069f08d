"""Joint torques that a motion requires, given that the ground can only push and the root has no motor.

For every phase of a clip the equation of motion  M a + c = S' tau + J' f  is solved for joint torques tau and forces f
at the corners of the soles near the ground: least squares on torques and forces, with the six rows of the root
satisfied as exactly as is possible with forces that push (f_z >= 0) within a friction pyramid. The remaining wrench on
the root is reported: a reference motion need not be physically possible. Plain inverse dynamics assigns everything to
the root and, in stance, nothing to the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from envs.body.joint_coordinates import COORDINATES
from envs.body.mujoco_import import Data, Model, mujoco
from envs.body.mujoco_model import PARTS, build_humanoid
from envs.settings import DeepMimicSettings
from envs.task.reference import ReferenceMotion

Array = NDArray[np.float64]

CONTACT_HEIGHT_M = 0.03
"""A corner of a sole below this height can carry force."""
ROOT_PRECISION = 100.0
"""Weight of the root's equation of motion relative to that of small torques and forces."""
FORCE_COST = 0.05
"""Weight of one newton relative to one newton metre."""
DIFFERENCE_S = 1.0 / 120.0


@dataclass(frozen=True, slots=True)
class ConsistentTorques:
    """Result for M phases: `torques` [M, 28] N m, `target_offsets` [M, 28] torques / Kp in radians; mean size of the
    unexplained wrench on the root, `root_force` N and `root_torque` N m, and the same without ground forces."""

    torques: Array
    target_offsets: Array
    root_force: float
    root_torque: float
    root_force_without_ground: float


def contact_consistent_torques(settings: DeepMimicSettings, phases: Array) -> ConsistentTorques:
    """Torques at phases [M] of the settings' first clip.

    The joints' damping is left out, because the velocity feed-forward of the targets cancels it.
    """
    model = build_humanoid(settings)
    data: Data = mujoco.MjData(model)
    reference = ReferenceMotion(settings)
    clip = np.zeros(len(phases), dtype=np.int64)
    times = phases * reference.durations[0]
    qpos, qvel = reference.start(clip, times)
    step = min(DIFFERENCE_S, float(reference.durations[0]) / 8)
    ahead = np.minimum(times + step, np.nextafter(reference.durations[0], 0.0))
    behind = np.maximum(times - step, 0.0)
    acceleration = (reference.start(clip, ahead)[1] - reference.start(clip, behind)[1]) / (ahead - behind)[:, None]
    torques, left, bare = [], [], []
    for index in range(len(phases)):
        torque, wrench, before = _solve(model, data, qpos[index], qvel[index], acceleration[index], settings.friction)
        torques.append(torque)
        left.append(wrench)
        bare.append(before)
    parts = [PARTS[name.removesuffix("_x").removesuffix("_y").removesuffix("_z")] for name in COORDINATES]
    stiffness = settings.stiffness_scale * np.array([part.stiffness for part in parts])
    wrenches = np.stack(left)
    return ConsistentTorques(
        torques=np.stack(torques),
        target_offsets=np.stack(torques) / stiffness,
        root_force=float(np.linalg.norm(wrenches[:, :3], axis=1).mean()),
        root_torque=float(np.linalg.norm(wrenches[:, 3:], axis=1).mean()),
        root_force_without_ground=float(np.linalg.norm(np.stack(bare)[:, :3], axis=1).mean()),
    )


def _solve(
    model: Model, data: Data, qpos: Array, qvel: Array, acceleration: Array, friction: float
) -> tuple[Array, Array, Array]:
    """Torques [28], the unexplained wrench on the root [6], and the wrench on the root without ground forces [6]."""
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    needed = inertia @ acceleration + data.qfrc_bias
    rays = _force_rays(model, data, friction)
    if not len(rays):
        return needed[6:], needed[:6], needed[:6]
    # Unknowns: coefficients of the rays. Rows: the root's equation, small torques, small forces.
    amount, _ = nnls(
        np.concatenate([ROOT_PRECISION * rays[:, :6].T, rays[:, 6:].T, FORCE_COST * np.eye(len(rays))]),
        np.concatenate([ROOT_PRECISION * needed[:6], needed[6:], np.zeros(len(rays))]),
    )
    left = needed - amount @ rays
    return left[6:], left[:6], needed[:6]


def _force_rays(model: Model, data: Data, friction: float) -> Array:
    """Generalised forces [K, nv] of one newton along each edge of the friction pyramids at corners in contact."""
    rays = []
    jacobian = np.zeros((3, model.nv))
    for name in ("right_ankle", "left_ankle"):
        body = model.body(name).id
        part = PARTS[name]
        for x in (-1.0, 1.0):
            for y in (-1.0, 1.0):
                corner = np.array(part.centre) + np.array(part.size) * (x, y, -1.0)
                place = data.xpos[body] + data.xmat[body].reshape(3, 3) @ corner
                if place[2] > CONTACT_HEIGHT_M:
                    continue
                mujoco.mj_jac(model, data, jacobian, None, place, body)
                for along, across in ((friction, 0.0), (-friction, 0.0), (0.0, friction), (0.0, -friction)):
                    rays.append(np.array([along, across, 1.0]) @ jacobian)
    return np.array(rays)
