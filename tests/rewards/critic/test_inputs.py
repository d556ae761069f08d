"""What a critic with `movement` sees: places and speeds of the joints by the body's bones, whatever way it faces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motions.skeleton.skeletons import HUMANML3D
from rewards.critic.checkpoints import SAFE_WEIGHTS, CriticCheckpointError, load_critic, save_critic
from rewards.critic.inputs import movement
from rewards.critic.network import CriticConfig
from rewards.critic.poses import poses_of_joints
from tests.toys.small_critic import joints_batch, small_critic

SEES = CriticConfig(dim_feat=8, dim_rep=4, depth=1, num_heads=2, mlp_ratio=1, maxlen=64, inputs="movement")
ANKLE = HUMANML3D.index("left_ankle")


def walk(frames: int = 20) -> torch.Tensor:
    return poses_of_joints(joints_batch(frames), HUMANML3D)


def speeds(seen: torch.Tensor) -> torch.Tensor:
    """Velocities in m/s of the rows [..., 9], from their compressed form."""
    return torch.sinh(seen[..., 6:] * 2.0) * 0.1


def test_a_body_that_slides_without_its_legs_has_feet_that_slide() -> None:
    still = torch.zeros(1, 10, 25, 3)
    still[0, :, 24, 0] = torch.arange(10) * 0.05
    seen = movement(still)
    torch.testing.assert_close(
        speeds(seen)[0, 1:, ANKLE], torch.tensor([1.0, 0.0, 0.0]).expand(9, 3), atol=1e-4, rtol=0
    )
    assert not speeds(seen)[:, 0].any(), "nothing is known before the first frame"
    torch.testing.assert_close(seen[0, :, ANKLE, 3:6], seen[0, :1, ANKLE, 3:6].expand(10, 3), atol=1e-5, rtol=0)
    assert seen[..., 4].amin() == 0.0, "heights are above the lowest point"


def test_speeds_are_those_of_the_joints_up_to_the_mean_body_s_bones() -> None:
    joints = joints_batch(20)
    seen = speeds(movement(walk()))[:, 1:, ANKLE]
    given = joints[:, :, ANKLE].diff(dim=1).float() * 20.0
    assert (seen.norm(dim=-1) - given.norm(dim=-1)).abs().mean() < 0.15 * given.norm(dim=-1).mean()


def test_where_a_motion_faces_is_of_no_account() -> None:
    angle = 1.1
    cosine, sine = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    turn = torch.tensor([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]], dtype=torch.float64)
    turned = poses_of_joints(joints_batch(20) @ turn.mT, HUMANML3D)
    torch.testing.assert_close(movement(turned), movement(walk()), atol=2e-4, rtol=0)


def test_frames_beyond_the_end_change_nothing_and_gradients_are_finite() -> None:
    critic, poses = small_critic(config=SEES), walk()
    short = critic(poses[:, :12])
    padded = poses.clone()
    padded[:, 12:] = torch.randn(2, 8, 25, 3, generator=torch.Generator().manual_seed(0)) * 50
    torch.testing.assert_close(critic(padded, torch.tensor([12, 12])), short, atol=1e-4, rtol=1e-4)
    one = critic(poses, torch.tensor([1, 1]))
    torch.testing.assert_close(one, critic(poses[:, :1]), atol=1e-4, rtol=1e-4)
    given = poses.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(given).sum(), given)
    assert gradient.isfinite().all() and (gradient.abs().amax(dim=(0, 1, 3))[:22] > 0).all()


def test_the_gradient_agrees_with_differences() -> None:
    poses = 0.5 * torch.randn(1, 3, 25, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(movement, poses.requires_grad_(), atol=1e-5, fast_mode=True)


def test_it_is_saved_as_safetensors_and_recognised_by_its_shape(tmp_path: Path) -> None:
    critic = small_critic(config=SEES)
    save_critic(tmp_path, critic, dtype="float16")
    assert (tmp_path / SAFE_WEIGHTS).is_file()
    loaded = load_critic(tmp_path)
    assert loaded.critic.config == SEES
    torch.testing.assert_close(loaded.critic(walk()), critic(walk()), atol=2e-2, rtol=1e-2)
    (tmp_path / SAFE_WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(CriticCheckpointError, match=r"critic\.safetensors: not a safetensors file"):
        load_critic(tmp_path)
    state = dict(critic.state_dict()) | {"dstran.joints_embed.weight": torch.zeros(8, 5)}
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CriticCheckpointError, match=r"takes 5 numbers a row; .* 3 \(poses\) or 9 \(movement"):
        load_critic(tmp_path / "odd.pth", num_heads=2)
