"""Fitting the humanoid to joints: it inverts the retargeting; rotations are plausible where there is a choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motions.humanoid.fit import fit_clip, fit_humanoid
from motions.humanoid.kinematics import BALL_BODIES, HINGE_BODIES, forward_kinematics
from motions.humanoid.mocap import Pose, load_clip
from motions.humanoid.retarget import retarget
from motions.skeleton.rotations import quat_inverse, quat_multiply, quat_rotate, quat_to_rotation_vector
from motions.skeleton.skeletons import HUMANML3D


@pytest.mark.parametrize(("name", "limit_m"), [("walk", 0.002), ("run", 0.003), ("backflip", 0.004), ("roll", 0.006)])
def test_fit_undoes_retarget(name: str, limit_m: float) -> None:
    clip = load_clip(name)
    pose = clip.pose(torch.arange(0.0, clip.duration, 0.05))
    joints = retarget(pose)
    fitted = fit_humanoid(joints)
    assert torch.allclose(fitted.root_positions, pose.root_positions, atol=1e-9)
    assert (_bodies(fitted) - _bodies(pose)).norm(dim=-1).mean() < limit_m
    turns = quat_to_rotation_vector(quat_multiply(quat_inverse(pose.ball_rotations), fitted.ball_rotations)).norm(
        dim=-1
    )
    for body in ("root", "chest", "right_shoulder", "left_hip"):
        assert turns[:, BALL_BODIES.index(body)].mean() < 0.12, body
    assert (retarget(fitted) - joints).norm(dim=-1).mean() < 0.005


def test_heading_of_the_motion_turns_the_root() -> None:
    joints = retarget(load_clip("walk").pose(torch.tensor([0.3])))
    quarter = torch.tensor([np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0])
    straight, turned = fit_humanoid(joints), fit_humanoid(quat_rotate(quarter, joints))
    expected = quat_multiply(quarter, straight.ball_rotations[:, 0])
    assert abs(float((expected * turned.ball_rotations[:, 0]).sum())) > 1 - 1e-9
    # What hangs on the root does not turn in it.
    inner = (straight.ball_rotations[:, 1:] * turned.ball_rotations[:, 1:]).sum(-1).abs()
    assert inner.min() > 1 - 1e-6


def test_a_knee_that_bends_forwards_is_bent_the_right_way() -> None:
    joints = retarget(load_clip("walk").pose(torch.tensor([0.3])))
    hip, knee, ankle = (HUMANML3D.index(f"left_{name}") for name in ("hip", "knee", "ankle"))
    wrong = joints.clone()
    middle = (joints[:, hip] + joints[:, ankle]) / 2
    wrong[:, knee] = 2 * middle - joints[:, knee] - torch.tensor([0.0, 0.0, 0.15])
    fitted = fit_humanoid(wrong)
    assert fitted.hinge_angles[0, HINGE_BODIES.index("left_knee")] < 0
    thigh_turn = quat_to_rotation_vector(
        quat_multiply(
            quat_inverse(fit_humanoid(joints).ball_rotations[:, BALL_BODIES.index("left_hip")]),
            fitted.ball_rotations[:, BALL_BODIES.index("left_hip")],
        )
    )
    assert thigh_turn.norm() < 1.0  # Not turned backwards to make the bend possible.


def test_straight_limbs_and_opposite_directions_give_finite_rotations() -> None:
    clip = load_clip("walk")
    pose = clip.pose(torch.tensor([0.0]))
    joints = retarget(Pose(pose.root_positions, pose.ball_rotations, torch.zeros_like(pose.hinge_angles)))
    up = joints.clone()
    shoulder = HUMANML3D.index("left_shoulder")
    down = up[:, HUMANML3D.index("left_elbow")] - up[:, shoulder]
    chest = fit_humanoid(joints).ball_rotations
    assert torch.isfinite(chest).all()
    for joint, share in (("left_elbow", 1.0), ("left_wrist", 2.0)):
        up[:, HUMANML3D.index(joint)] = up[:, shoulder] - share * down
    assert torch.isfinite(fit_humanoid(up).ball_rotations).all()


def test_a_fitted_clip_plays() -> None:
    clip = load_clip("walk")
    times = torch.arange(0.0, 1.2, 0.05)
    fitted = fit_clip(retarget(clip.pose(times)).numpy(), 20.0, "sample 3")
    assert not fitted.cyclic and fitted.duration == pytest.approx(1.15)
    wanted = clip.velocity(torch.tensor([0.5])).root_linear
    assert torch.allclose(fitted.velocity(torch.tensor([0.5])).root_linear, wanted, atol=0.15)


def test_what_cannot_be_fitted_is_refused() -> None:
    joints = retarget(load_clip("walk").pose(torch.arange(0.0, 0.5, 0.05))).numpy()
    with pytest.raises(ValueError, match="sample 3: joints are"):
        fit_clip(joints[:, :21], 20.0, "sample 3")
    broken = joints.copy()
    broken[4, 7] = np.nan
    with pytest.raises(ValueError, match="frame 4"):
        fit_clip(broken, 20.0)
    with pytest.raises(ValueError, match="bones of no length"):
        fit_clip(np.zeros_like(joints), 20.0)


def _bodies(pose: Pose) -> torch.Tensor:
    return forward_kinematics(pose.root_positions, pose.ball_rotations, pose.hinge_angles)[0]
