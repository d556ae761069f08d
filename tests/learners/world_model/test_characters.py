"""Bodies and motion as tensors: the same numbers as MuJoCo."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from envs.body.mujoco_import import mujoco
from envs.body.mujoco_model import PARTS, build_humanoid
from envs.body.state import KinematicsReader
from envs.body.tracked import END_EFFECTORS, TRACKED_BODIES
from envs.settings import DeepMimicSettings, JointModel
from learners.world_model.characters import (
    BALLS,
    SORTED,
    Characters,
    characters_of,
    hands_and_feet,
    hinge_rotations,
    joints_of,
    matrices,
    quaternion_logarithm,
    sole_heights,
    turn,
)

KINDS: tuple[JointModel, ...] = ("hinge", "ball")


def random_states(kind: JointModel, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    model = build_humanoid(DeepMimicSettings(joints=kind))
    rng = np.random.default_rng(0)
    qpos, qvel = np.zeros((count, model.nq)), rng.normal(0.0, 2.0, (count, model.nv))
    for row in qpos:
        row[:] = mujoco.MjData(model).qpos
        mujoco.mj_integratePos(model, row, rng.normal(0.0, 0.7, model.nv), 1.0)
    return qpos, qvel


def as_tensors(qpos: np.ndarray, qvel: np.ndarray) -> Characters:
    return characters_of(torch.from_numpy(qpos).float(), torch.from_numpy(qvel).float())


@pytest.mark.parametrize("kind", KINDS)
def test_hands_feet_and_soles_are_where_mujoco_has_them(kind: JointModel) -> None:
    model = build_humanoid(DeepMimicSettings(joints=kind))
    data = mujoco.MjData(model)
    qpos, qvel = random_states(kind)
    state, joints = as_tensors(qpos, qvel), joints_of(kind)
    axes, balls = matrices(state.rotation), joints.rotations(state.joints)
    points = hands_and_feet(state.position, axes, balls, hinge_rotations(state.joints[..., -4:]))
    soles = sole_heights(state.position[..., 2:], axes[..., 2, :], balls, hinge_rotations(state.joints[..., -2:]))
    for row in range(len(qpos)):
        data.qpos[:] = qpos[row]
        mujoco.mj_kinematics(model, data)
        expected = np.stack([data.body(name).xpos for name in END_EFFECTORS])
        np.testing.assert_allclose(points[row].numpy(), expected, atol=2e-6)
        heights = []
        for foot in ("right_ankle", "left_ankle"):
            x, y, z = PARTS[foot].size
            corners = np.array([[a * x, b * y, -z] for a in (-1, 1) for b in (-1, 1)])
            geom = data.geom(foot)
            heights.append((geom.xpos + corners @ geom.xmat.reshape(3, 3).T)[:, 2])
        np.testing.assert_allclose(soles[row].numpy(), np.concatenate(heights), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_and_angular_velocities_are_those_that_the_environment_reads(kind: JointModel) -> None:
    qpos, qvel = random_states(kind)
    read = KinematicsReader(DeepMimicSettings(joints=kind), None, with_bodies=False).read(qpos, qvel)
    state, joints = as_tensors(qpos, qvel), joints_of(kind)
    np.testing.assert_allclose(joints.coordinates(state.joints).numpy(), read.coordinates[:, SORTED], atol=2e-6)
    spins = joints.spins(state.joints, state.velocity[..., 6:]).numpy()
    np.testing.assert_allclose(spins, read.velocities[:, [TRACKED_BODIES.index(name) for name in BALLS]], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_joints_move_as_mujoco_integrates_them_and_find_the_way_back(kind: JointModel) -> None:
    model = build_humanoid(DeepMimicSettings(joints=kind))
    qpos, qvel = random_states(kind)
    before, joints = as_tensors(qpos, qvel), joints_of(kind)
    for row, speed in zip(qpos, qvel, strict=True):
        mujoco.mj_integratePos(model, row, speed, 0.1)
    after = as_tensors(qpos, qvel)
    moved = joints.moved(before.joints, 0.1 * before.velocity[..., 6:])
    np.testing.assert_allclose(moved.numpy(), after.joints.numpy(), atol=2e-6)
    np.testing.assert_allclose(joints.way(before.joints, moved), 0.1 * before.velocity[..., 6:], atol=5e-6)
    turned = turn(before.rotation, 0.1 * before.velocity[..., 3:6])
    np.testing.assert_allclose(turned.numpy(), after.rotation.numpy(), atol=2e-6)


def test_rotations_have_finite_gradients_where_nothing_turns() -> None:
    vectors = torch.zeros(1, 3, requires_grad=True)
    quaternion_logarithm(turn(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), vectors)).sum().backward()
    assert vectors.grad is not None and torch.allclose(vectors.grad, torch.ones(1, 3))
