"""The physics state against motions whose mechanics are known, in both skeletons' units, and with padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.humanoid.physics_state import CHANNELS, GRAVITY_MPS2, UNSCALED, StateStatistics, physics_state
from motions.skeleton.features import FeatureLayout, recover_joints, replace_joints
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)
FRAMES = 30


def standing(skeleton: Skeleton) -> Tensor:
    """Joints [T, J, 3] in metres of a body at rest: its feet on the floor, side by side, the rest a metre above."""
    joints = torch.zeros(FRAMES, skeleton.num_joints, 3, dtype=torch.float64)
    joints[:, :, 1] = 1.0
    places = zip(skeleton.foot_joints, ((0.1, -0.1), (0.1, 0.1), (-0.1, -0.1), (-0.1, 0.1)), strict=True)
    for joint, place in places:
        joints[:, joint] = torch.tensor([place[0], 0.0, place[1]], dtype=torch.float64)
    return joints


def state_of(joints: Tensor, skeleton: Skeleton, half_turn: float = 0.0) -> dict[str, Tensor]:
    """The channels, by name, of joints [T, J, 3] in metres whose heading changes by `half_turn` twice a frame."""
    features = torch.zeros(1, len(joints), skeleton.num_features, dtype=torch.float64)
    features[..., 0] = half_turn
    features = replace_joints(features, joints[None] / skeleton.metres_per_unit, skeleton)
    recovered = recover_joints(features, skeleton)[0] * skeleton.metres_per_unit
    moved = joints - joints[:1, :1] * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(recovered, moved, msg="the features are not those of the joints")
    return dict(zip(CHANNELS, physics_state(features, skeleton)[0].unbind(dim=1), strict=True))


def assert_all(channel: Tensor, value: float, tolerance: float = 1e-9) -> None:
    assert float((channel - value).abs().max()) < tolerance


def test_there_are_64_names_and_none_twice() -> None:
    assert len(CHANNELS) == 64 and len(set(CHANNELS)) == 64
    assert CHANNELS[0] == "gravity" and CHANNELS[1:4] == (
        *("root_height", "root_height_velocity", "root_height_acceleration"),
    )
    assert CHANNELS[10:12] == ("contact_left", "contact_right") and CHANNELS[18] == "root_displacement_x"
    assert CHANNELS[21:24] == tuple(f"angular_momentum_{axis}" for axis in "xyz") and set(UNSCALED) < set(CHANNELS)


@SKELETONS
def test_a_body_at_rest_has_a_height_and_nothing_else(skeleton: Skeleton) -> None:
    state = state_of(standing(skeleton), skeleton)
    assert_all(state["root_height"], 1.0)
    assert_all(state["gravity"], GRAVITY_MPS2)
    for side in ("left", "right"):
        # Of the last frame the features hold what they held before.
        assert_all(state[f"contact_{side}"][:-1], 1.0)
    quiet = [name for name in CHANNELS if name not in ("root_height", "gravity", "contact_left", "contact_right")]
    for name in quiet:
        assert_all(state[name], 0.0)


@SKELETONS
def test_free_fall_accelerates_everything_by_gravity(skeleton: Skeleton) -> None:
    times = torch.arange(FRAMES, dtype=torch.float64) / skeleton.fps
    joints = standing(skeleton)
    joints[..., 1] += (8.0 + 0.5 * GRAVITY_MPS2 * times.square())[:, None]
    joints[..., 2] += 2.0 * times[:, None]
    state = state_of(joints, skeleton)
    for name in ("root_height_acceleration", "com_acceleration_y"):
        assert_all(state[name], GRAVITY_MPS2, 1e-6)
    inner = slice(1, -1)
    torch.testing.assert_close(state["root_height_velocity"][inner], (GRAVITY_MPS2 * times)[inner])
    torch.testing.assert_close(state["root_velocity_y"], state["root_height_velocity"])
    for name in ("root_velocity_z", "com_velocity_z"):
        assert_all(state[name], 2.0)
    for name in ("com_acceleration_x", "com_acceleration_z", *(f"angular_momentum_{axis}" for axis in "xyz")):
        assert_all(state[name], 0.0, 1e-6)
    torch.testing.assert_close(state["root_displacement_z"], 2.0 * times)
    assert_all(state["contact_left"][5:-1], 0.0)


@SKELETONS
def test_a_circle_walk_has_the_speed_and_the_turn_of_the_circle(skeleton: Skeleton) -> None:
    """A body that faces along its circle: to +z first, then to +x, which is a positive turn about y."""
    radius, rate = 1.5, 0.8
    angle = rate * torch.arange(FRAMES, dtype=torch.float64) / skeleton.fps
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack((cos, zero, sin, zero, one, zero, -sin, zero, cos), dim=1).unflatten(1, (3, 3))
    path = torch.stack((radius * (1.0 - cos), zero, radius * sin), dim=1)
    joints = torch.einsum("tij,taj->tai", turn, standing(skeleton)) + path[:, None]
    state = state_of(joints, skeleton, half_turn=-rate / skeleton.fps / 2.0)
    assert_all(state["angular_velocity_y"], rate)
    inner = slice(1, -1)
    speed = torch.stack((state["root_velocity_x"], state["root_velocity_z"])).norm(dim=0)[inner]
    chord = rate * radius * math.sin(rate / skeleton.fps) / (rate / skeleton.fps)
    assert_all(speed, chord)
    inward = torch.stack((state["com_acceleration_x"], state["com_acceleration_z"])).norm(dim=0)[inner]
    assert_all(inward, rate**2 * radius, 0.02)
    spin = state["angular_momentum_y"][inner]
    assert float(spin.min()) > 0.0 and float(spin.max() - spin.min()) < 1e-9, "it turns evenly, in the same sense"


@SKELETONS
def test_feet_and_support(skeleton: Skeleton) -> None:
    joints = standing(skeleton)
    times = torch.arange(FRAMES, dtype=torch.float64) / skeleton.fps
    left = list(skeleton.foot_joints[:2])
    joints[:, left, 2] += 0.5 * times[:, None]
    joints[:, left, 1] += 0.05
    others = [joint for joint in range(skeleton.num_joints) if joint not in skeleton.foot_joints]
    joints[:, others, 0] += 0.4
    state = state_of(joints, skeleton)
    assert_all(state["foot_height_left"], 0.05)
    assert_all(state["foot_height_right"], 0.0)
    assert_all(state["foot_speed_left"], 0.5)
    assert_all(state["foot_speed_right"], 0.0)
    assert_all(state["lowest_joint"], 0.0)
    assert float(state["com_to_support"][0]) > 0.2, "the body leans out over its feet"
    # The motion is slow: the zero-moment point is all but below the centre of mass.
    torch.testing.assert_close(state["zmp_to_support"][:-1], state["com_to_support"][:-1], atol=0.01, rtol=0.0)


@SKELETONS
def test_a_motion_is_what_it_is_alone_beside_a_longer_one(skeleton: Skeleton) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, skeleton.num_features, generator=generator, dtype=torch.float64)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 7:] = False
    together = physics_state(features, skeleton, mask)
    torch.testing.assert_close(together[1, :7], physics_state(features[1:, :7], skeleton)[0])
    assert float(together[1, 7:].abs().max()) == 0.0
    for frames in (1, 2):
        assert bool(physics_state(features[:, :frames], skeleton).isfinite().all())


def test_statistics_leave_contacts_and_constants_alone() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(20, HUMANML3D.num_features)).astype(np.float32) for _ in range(3)]
    contacts = FeatureLayout(HUMANML3D.num_joints).contacts
    for clip in clips:
        clip[:, contacts] = rng.integers(2, size=(20, 4))
    statistics = StateStatistics.fit(clips, HUMANML3D)
    states = torch.cat([physics_state(torch.from_numpy(clip)[None], HUMANML3D)[0] for clip in clips])
    normed = statistics.normalize(states)
    for place, name in enumerate(CHANNELS):
        if name in UNSCALED:
            assert torch.equal(normed[:, place], states[:, place]), name
    height = normed[:, CHANNELS.index("root_height")]
    assert float(height.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(height.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    again = StateStatistics.of_document(statistics.document(), "config.json")
    assert np.array_equal(again.mean, statistics.mean) and np.array_equal(again.std, statistics.std)
    with pytest.raises(UserError, match=r"config\.json: its channels are not those of version 1"):
        StateStatistics.of_document({**statistics.document(), "channel_names": ["gravity"]}, "config.json")
    with pytest.raises(UserError, match="std is not 64 finite numbers"):
        StateStatistics.of_document({**statistics.document(), "std": [1.0]}, "config.json")
    with pytest.raises(ValueError, match="there are no clips"):
        StateStatistics.fit([], HUMANML3D)
