"""The critic's sizes, masks, windows and clipped mean; its numbers are pinned by the parity fixture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.skeleton.skeletons import HUMANML3D
from rewards.critic.network import PUBLISHED, PUBLISHED_SMALL, CriticConfig, MotionCritic, clipped_mean
from rewards.critic.poses import poses_of_joints
from rewards.critic.scoring import resampled, score_joints, score_windows, window_starts
from tests.toys.small_critic import joints_batch, small_critic


def poses(frames: int = 30) -> torch.Tensor:
    return poses_of_joints(joints_batch(frames), HUMANML3D)


@pytest.mark.parametrize(("config", "number"), [(PUBLISHED, 22_792_714), (PUBLISHED_SMALL, 4_937_994)])
def test_published_sizes(config: CriticConfig, number: int) -> None:
    with torch.device("meta"):
        critic = MotionCritic(config)
    assert sum(parameter.numel() for parameter in critic.parameters()) == number
    assert len(critic.state_dict()) == 164


def test_a_new_critic_mixes_its_streams_evenly() -> None:
    torch.manual_seed(0)
    critic = MotionCritic(CriticConfig(dim_feat=32, dim_rep=16, depth=1, num_heads=4))
    state = critic.state_dict()
    assert not state["dstran.ts_attn.0.weight"].any() and (state["dstran.ts_attn.0.bias"] == 0.5).all()
    assert 0.015 < state["dstran.joints_embed.weight"].std() < 0.025 and not state["dstran.joints_embed.bias"].any()
    assert state["mlp.fc1.bias"].abs().max() > 0


def test_padding_changes_no_score_and_real_frames_do() -> None:
    critic, motion = small_critic(), poses(20)
    padded = torch.cat((motion, torch.full((2, 9, 25, 3), torch.nan)), dim=1)
    with torch.no_grad():
        whole = critic(motion)
        torch.testing.assert_close(critic(padded, torch.tensor([20, 20])), whole)
        torch.testing.assert_close(critic(motion, torch.tensor([20, 11]))[1], critic(motion[1:, :11])[0])
    assert not torch.allclose(critic(motion[:, :11]), whole)


def test_what_it_cannot_score_is_an_error() -> None:
    critic = small_critic()
    for wrong in (torch.zeros(1, 65, 25, 3), torch.zeros(1, 5, 22, 3), torch.zeros(5, 25, 3), torch.zeros(1, 0, 25, 3)):
        with pytest.raises(ValueError, match=r"it takes \[B, T, 25, 3\] of at most 64 frames"):
            critic(wrong)
    for lengths in ([0, 3], [3, 6], [3]):
        with pytest.raises(ValueError, match=r"legal are 2 of 1\.\.5"):
            critic(torch.zeros(2, 5, 25, 3), torch.tensor(lengths))
    with pytest.raises(ValueError, match="dim_feat 10 is no multiple of num_heads 4"):
        MotionCritic(CriticConfig(dim_feat=10, num_heads=4))


def test_clipped_mean_leaves_out_scores_above_the_ceiling() -> None:
    scores = torch.tensor([1.0, 3.0, 12.5, 12.0], requires_grad=True)
    mean = clipped_mean(scores)
    mean.backward()
    assert mean.item() == pytest.approx(16 / 3) and scores.grad is not None and scores.grad[2] == 0
    assert clipped_mean(torch.tensor([13.0, 14.0])).item() == 12.0
    assert clipped_mean(torch.tensor([1000.0])).item() == 1000.0


@pytest.mark.parametrize(
    ("frames", "expected"), [(1, [0]), (60, [0]), (61, [0, 1]), (120, [0, 30, 60]), (130, [0, 30, 60, 70])]
)
def test_windows_cover_a_motion_to_its_end(frames: int, expected: list[int]) -> None:
    assert window_starts(frames, 60) == expected


def test_long_motions_are_scored_by_windows_that_each_begin_at_the_origin() -> None:
    critic, motion = small_critic(), poses(50)
    scores = score_windows(critic, list(motion), window=20)
    assert [len(part) for part in scores] == [4, 4]
    piece = motion[1, 10:30].clone()
    piece[:, 24] -= motion[1, 10, 24]
    with torch.no_grad():
        assert scores[1][1] == pytest.approx(critic(piece[None])[0].item(), abs=1e-5)
    with pytest.raises(UserError, match="a window of 65 frames: this critic takes at most 64"):
        score_windows(critic, list(motion), window=65)


def test_joints_are_scored_at_the_frame_rate_that_critics_know() -> None:
    critic, joints = small_critic(), joints_batch(41).numpy()
    fine = score_joints(critic, [joints[0]], HUMANML3D, fps=40.0)
    coarse = score_joints(critic, [joints[0][::2]], HUMANML3D, fps=20.0)
    np.testing.assert_allclose(fine[0], coarse[0], atol=1e-5)
    np.testing.assert_array_equal(resampled(torch.from_numpy(joints[0]), 20.0, 20.0), joints[0])
    slow = resampled(torch.from_numpy(joints[0]), 10.0, 20.0)
    assert len(slow) == 81
    np.testing.assert_allclose(slow[1], joints[0][:2].mean(axis=0))
