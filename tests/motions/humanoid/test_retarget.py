"""The clips on HumanML3D's skeleton: bones, sides, facing, floor, feet that stand still."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from motions.data.builtin import clip_floor, play
from motions.humanoid.ground import floor_height, plant_feet, stances
from motions.humanoid.kinematics import BODY_INDEX, HINGE_BODIES, forward_kinematics
from motions.humanoid.mocap import CLIP_NAMES, load_clip
from motions.humanoid.retarget import leg_scale, place_ankle, retarget
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.synthetic_motion import foot_skate

MAX_SKATE_MPS = {"dance_a": 0.22, "dance_b": 0.22, "roll": 0.18, "spin": 0.18}
"""Sliding steps and pivots are part of these; the others stay below 0.14 m/s."""


@cache
def played(name: str) -> np.ndarray:
    clip = load_clip(name)
    return play(clip, np.arange(0.0, clip.duration, 1 / 20), clip_floor(clip))


def joint(joints: np.ndarray, name: str) -> np.ndarray:
    return joints[:, HUMANML3D.index(name)]


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_bones_have_the_target_lengths(name: str) -> None:
    joints = played(name)
    bones = np.linalg.norm(joints[:, 1:] - joints[:, list(HUMANML3D.parents[1:])], axis=-1)
    expected = np.linalg.norm(HUMANML3D.target_offsets[1:], axis=-1)
    np.testing.assert_allclose(bones, np.broadcast_to(expected, bones.shape), atol=1e-9)


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_feet_stand_on_the_floor_and_do_not_slide(name: str) -> None:
    joints = played(name)
    feet = joints[:, list(HUMANML3D.foot_joints), 1]
    assert feet.min() > -0.001
    assert joints[..., 1].min() > -0.015
    assert feet.min() < 0.05  # nobody floats
    assert foot_skate(joints, HUMANML3D) < MAX_SKATE_MPS.get(name, 0.14)


def test_planting_removes_most_of_the_sliding() -> None:
    for name in ("backflip", "run", "kick"):
        clip = load_clip(name)
        raw = retarget(clip.pose(torch.arange(0, clip.duration, 1 / 20))).numpy()
        raw[..., 1] -= clip_floor(clip)
        assert foot_skate(plant_feet(raw, 20.0), HUMANML3D) < 0.6 * foot_skate(raw, HUMANML3D)


@pytest.mark.parametrize("name", ["walk", "run", "jump"])
def test_sides_and_facing(name: str) -> None:
    """x to the left, z forward: the body goes where it faces, its left hand is on its left."""
    joints = played(name)
    assert joints[-1, 0, 2] - joints[0, 0, 2] > 0.9
    for part in ("hip", "shoulder", "wrist", "knee"):
        assert (joint(joints, f"left_{part}") - joint(joints, f"right_{part}"))[:, 0].mean() > 0.05
    toes = joint(joints, "left_foot") - joint(joints, "left_ankle")
    assert toes[:, 2].mean() > 0.05
    assert (joint(joints, "head") - joint(joints, "neck"))[:, 1].min() > 0


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_knees_bend_as_in_the_source(name: str) -> None:
    """The knee is on the same side of the line from hip to ankle as the humanoid's, which a hinge keeps in front."""
    clip = load_clip(name)
    pose = clip.pose(torch.arange(0.0, clip.duration, 1 / 20, dtype=torch.float64))
    source, _ = forward_kinematics(pose.root_positions, pose.ball_rotations, pose.hinge_angles)
    x, y, z = source.unbind(-1)
    turned = torch.stack((-z, y, x), dim=-1).numpy()
    joints = played(name)
    for side in ("left", "right"):
        ours = off_line(*(joint(joints, f"{side}_{part}") for part in ("hip", "knee", "ankle")))
        theirs = off_line(*(turned[:, BODY_INDEX[f"{side}_{part}"]] for part in ("hip", "knee", "ankle")))
        # In the spin kick the source's knee bends the wrong way for a moment; ours does not.
        hinge = pose.hinge_angles[:, HINGE_BODIES.index(f"{side}_knee")].numpy()
        bent = (np.linalg.norm(theirs, axis=-1) > 0.03) & (hinge < 0.0)
        agreement = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
        assert agreement[bent].min() > 0.8, side


def off_line(hip: np.ndarray, knee: np.ndarray, ankle: np.ndarray) -> np.ndarray:
    """From the line between hip and ankle to the knee."""
    line = (ankle - hip) / np.linalg.norm(ankle - hip, axis=-1, keepdims=True)
    return knee - hip - ((knee - hip) * line).sum(-1, keepdims=True) * line


@pytest.mark.parametrize("name", ["walk", "run", "jump", "punch", "getup_facedown"])
def test_elbows_bend_back(name: str) -> None:
    joints = played(name)
    across = joint(joints, "left_shoulder") - joint(joints, "right_shoulder")
    upright = (joint(joints, "neck") - joint(joints, "pelvis"))[:, 1] > 0.45
    forward = np.cross(across, [0.0, 1.0, 0.0])
    for side in ("left", "right"):
        shoulder, elbow, wrist = (joint(joints, f"{side}_{part}") for part in ("shoulder", "elbow", "wrist"))
        hanging = upright & (wrist[:, 1] < shoulder[:, 1] - 0.25)
        assert ((off_line(shoulder, elbow, wrist) * forward).sum(-1)[hanging] < 0.02).mean() > 0.9


def test_the_right_leg_kicks_and_the_right_fist_punches() -> None:
    kick, punch = played("kick"), played("punch")
    assert joint(kick, "right_ankle")[:, 1].max() > 0.9 > 0.3 > joint(kick, "left_ankle")[:, 1].max()
    reach = {
        side: np.linalg.norm(joint(punch, f"{side}_wrist") - joint(punch, f"{side}_shoulder"), axis=-1)[15:32].max()
        for side in ("left", "right")
    }
    assert reach["right"] > 0.5 > reach["left"] + 0.1


def test_the_middle_of_the_hips_follows_the_source() -> None:
    clip = load_clip("crawl")
    pose = clip.pose(torch.linspace(0.0, 2.0, 20))
    joints = retarget(pose)
    middle = (joints[:, 1] + joints[:, 2]) / 2
    x, y, z = (leg_scale() * pose.root_positions).unbind(-1)
    torch.testing.assert_close(middle, torch.stack((-z, y, x), dim=-1))
    assert 0.9 < leg_scale() < 1.05


def test_two_bone_inverse_kinematics() -> None:
    clip = load_clip("walk")
    joints = retarget(clip.pose(torch.tensor([0.2, 0.7])))
    before = joints.clone()
    target = joints[:, HUMANML3D.index("left_ankle")] + torch.tensor([0.05, 0.1, 0.1])
    place_ankle(joints, "left", target)
    torch.testing.assert_close(joints[:, HUMANML3D.index("left_ankle")], target)
    for part in ("knee", "ankle", "foot"):
        index = HUMANML3D.index(f"left_{part}")
        parent = HUMANML3D.parents[index]
        for pose in (before, joints):
            length = (pose[:, index] - pose[:, parent]).norm(dim=-1)
            torch.testing.assert_close(length, torch.full_like(length, float(before_length(index))))
    untouched = [HUMANML3D.index(name) for name in ("left_hip", "right_ankle", "head")]
    torch.testing.assert_close(joints[:, untouched], before[:, untouched])
    place_ankle(joints, "left", target + torch.tensor([0.0, -5.0, 0.0]))
    leg = joints[:, HUMANML3D.index("left_ankle")] - joints[:, HUMANML3D.index("left_hip")]
    assert bool((leg.norm(dim=-1) > 0.82).all())


def before_length(index: int) -> float:
    return float(np.linalg.norm(HUMANML3D.target_offsets[index]))


def test_floor_is_found_under_resting_feet() -> None:
    clip = load_clip("walk")
    joints = retarget(clip.pose(torch.arange(0, clip.duration, 1 / 20))).numpy()
    floor = floor_height(joints, 20.0)
    joints[..., 1] -= 0.03
    assert floor_height(joints, 20.0) == pytest.approx(floor - 0.03, abs=0.01)
    assert abs(clip_floor(load_clip("crawl"))) < 1e-9  # its feet never rest: the source's floor


def test_stances_of_a_walk_alternate() -> None:
    joints = played("walk")
    (left,) = stances(joints, "left", 20.0)[-1:]
    (right,) = stances(joints, "right", 20.0)[:1]
    assert right[0] == 0 and left[0] < right[1] < left[1]
    toe = joint(joints, "right_foot")[right[0] : right[1]]
    np.testing.assert_allclose((toe - toe[1])[:, [0, 2]], 0.0, atol=0.005)
    np.testing.assert_allclose(toe[:, 1], 0.0, atol=0.03)


def test_skate_of_a_sliding_body() -> None:
    standing = np.repeat(played("jump")[:1], 10, axis=0)
    assert foot_skate(standing, HUMANML3D) == 0.0
    standing[..., 2] += np.arange(10)[:, None] * 0.02
    assert foot_skate(standing, HUMANML3D) == pytest.approx(0.4)
    assert foot_skate(standing + np.array([0.0, 1.0, 0.0]), HUMANML3D) == 0.0


def test_sunken_arms_and_trunks_are_lifted() -> None:
    lying = played("getup_faceup")[:4] - np.array([0.0, 0.12, 0.0])
    lifted = plant_feet(lying, 20.0)
    others = np.delete(lifted, list(HUMANML3D.foot_joints), axis=1)
    assert lying[..., 1].min() < -0.05 < 0.0 < others[..., 1].min()
    bones = np.linalg.norm(lifted[:, 1:] - lifted[:, list(HUMANML3D.parents[1:])], axis=-1)
    np.testing.assert_allclose(bones[0], np.linalg.norm(HUMANML3D.target_offsets[1:], axis=-1), atol=1e-9)
