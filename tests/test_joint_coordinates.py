"""Joint coordinates and rotations say the same, in both kinds of joints."""

from __future__ import annotations

import numpy as np
import pytest

from envs.imitation_reward import TRACKED_BODIES
from envs.joint_coordinates import coordinate_rates, joint_coordinates, local_rotations, multiply
from envs.reference import ReferenceMotion
from envs.settings import DeepMimicSettings, JointModel


@pytest.mark.parametrize("joints", ["hinge", "ball"])
@pytest.mark.parametrize("clip", ["walk", "cartwheel"])
def test_the_reference_is_met(clip: str, joints: JointModel) -> None:
    reference = ReferenceMotion(DeepMimicSettings(motion=(clip,), joints=joints))
    count = 40
    times = np.random.default_rng(0).uniform(0.0, reference.durations[0], count)
    rows, origin = np.zeros(count, dtype=np.int64), np.zeros((count, 3))
    state, target = reference.state(rows, times, origin).tracked, reference.target(rows, times, origin)
    cosine = np.abs((local_rotations(target.coordinates, joints) * state.rotations).sum(-1))[:, 1:]
    assert cosine.min() > 1.0 - 1e-7
    coordinates = joint_coordinates(state.rotations, joints, near=target.coordinates)
    np.testing.assert_allclose(coordinates, target.coordinates, atol=1e-3)
    rates = coordinate_rates(coordinates, state.velocities, joints)
    # The tables difference Euler angles over a key frame; here they are differentiated.
    assert np.median(np.abs(rates - target.rates)) < 0.01


def test_rates_are_the_derivatives() -> None:
    generator = np.random.default_rng(1)
    for joints in ("hinge", "ball"):
        coordinates = generator.uniform(-0.8, 0.8, (5, 28))
        spins = generator.normal(size=(5, len(TRACKED_BODIES), 3))
        spins[:, [TRACKED_BODIES.index(f"{s}_{j}") for s in ("left", "right") for j in ("knee", "elbow")]] *= (0, 1, 0)
        rotations, step = local_rotations(coordinates, joints), 1e-6
        turns = np.concatenate((np.ones((5, len(TRACKED_BODIES), 1)), spins * step / 2), axis=-1)
        later = joint_coordinates(
            multiply(rotations, turns / np.linalg.norm(turns, axis=-1, keepdims=True)), joints, coordinates
        )
        if joints == "hinge":
            expected = (later - coordinates) / step
            np.testing.assert_allclose(coordinate_rates(coordinates, spins, joints), expected, atol=1e-4)
        else:
            np.testing.assert_allclose(
                multiply(local_rotations(later, joints), rotations * (1, -1, -1, -1))[:, 1:, 0], 1.0, atol=1e-9
            )


def test_angles_stay_on_their_branch() -> None:
    near = np.zeros((1, 28))
    near[0, :3] = (np.pi + 0.3, np.pi - 0.2, np.pi + 0.1)  # the same rotation as (.3, .2, .1)
    coordinates = joint_coordinates(local_rotations(near, "hinge"), "hinge", near)
    np.testing.assert_allclose(coordinates, near, atol=1e-9)
    plain = joint_coordinates(local_rotations(near, "hinge"), "hinge", np.zeros((1, 28)))
    np.testing.assert_allclose(plain[0, :3], (0.3, 0.2, 0.1), atol=1e-9)
