"""Joint coordinates and rotations say the same, in both kinds of joints."""

from __future__ import annotations

import numpy as np
import pytest

from envs.body.joint_coordinates import coordinate_rates, joint_coordinates, local_rotations
from envs.body.rotations import quaternion_product
from envs.body.state import CharacterState
from envs.body.tracked import TRACKED_BODIES
from envs.settings import DeepMimicSettings, JointModel
from envs.task.imitation_task import ImitationTask
from envs.task.reference import ReferenceMotion

pytestmark = pytest.mark.slow


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
            quaternion_product(rotations, turns / np.linalg.norm(turns, axis=-1, keepdims=True)), joints, coordinates
        )
        if joints == "hinge":
            expected = (later - coordinates) / step
            np.testing.assert_allclose(coordinate_rates(coordinates, spins, joints), expected, atol=1e-4)
        else:
            np.testing.assert_allclose(
                quaternion_product(local_rotations(later, joints), rotations * (1, -1, -1, -1))[:, 1:, 0],
                1.0,
                atol=1e-9,
            )


def test_angles_stay_on_their_branch() -> None:
    near = np.zeros((1, 28))
    near[0, :3] = (np.pi + 0.3, np.pi - 0.2, np.pi + 0.1)  # the same rotation as (.3, .2, .1)
    coordinates = joint_coordinates(local_rotations(near, "hinge"), "hinge", near)
    np.testing.assert_allclose(coordinates, near, atol=1e-9)
    plain = joint_coordinates(local_rotations(near, "hinge"), "hinge", np.zeros((1, 28)))
    np.testing.assert_allclose(plain[0, :3], (0.3, 0.2, 0.1), atol=1e-9)


@pytest.mark.parametrize("clip", ["dance_a", "crawl", "backflip", "spinkick"])
def test_a_second_cycle_looks_and_acts_like_the_first(clip: str) -> None:
    """A character's Euler angles go on over the seam, by whole turns or in another branch; the clip begins anew."""
    task = ImitationTask(DeepMimicSettings(motion=(clip,)), 1)
    reference, row = task.reference, np.zeros(1, dtype=np.int64)
    count = int(reference.durations[0] * 120)
    times = np.arange(2 * count) * reference.durations[0] / count
    angles = reference.target(row, times[:1], task.origin).coordinates
    joints, rates, ahead, pulls = [], [], [], []
    wound = 0.0
    for time in times:
        task.start_at(row, row, np.array([time]))
        place = reference.state(row, task.time, task.origin)
        tracked = place.tracked
        angles = joint_coordinates(tracked.rotations, "hinge", near=angles)
        wound = max(wound, float(np.abs(angles - reference.target(row, task.time, task.origin).coordinates).max()))
        state = CharacterState.from_parts(
            rotations=tracked.rotations,
            velocities=tracked.velocities,
            root_linear=tracked.root_linear,
            coordinates=angles,
            rates=coordinate_rates(angles, tracked.velocities, "hinge"),
            body_positions=place.body_positions,
            body_rotations=np.tile([1.0, 0.0, 0.0, 0.0], (1, 15, 1)),
            body_velocities=np.zeros((1, 15, 6)),
            com=None,
        )
        observation = task.observe(state)[0]
        joints.append(observation[13:41])
        rates.append(observation[41:69])
        ahead.append(observation[-3 * 37 :].reshape(3, 37)[:, 9:])
        pulls.append(task.targets(np.full((1, 28), 0.1), angles)[0] - angles[0])
    assert wound > 3.0
    for values, size in ((joints, 1e-3), (rates, 0.2), (np.abs(pulls), 1e-3)):
        first, second = np.array(values[:count]), np.array(values[count:])
        np.testing.assert_allclose(second, first, atol=size)
    steps = np.abs(np.array(ahead) - np.array(joints)[:, None])
    assert np.median(steps.max(axis=-1)) < 1.0 and steps.max() < 3.2
