"""HumanAct12's reader, joints and critic's scores of its motions, and the MDM whose condition is an action."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment
from rewards.actions.humanact12 import (
    HUMANACT12,
    features_of_mdm,
    joints_of_mdm,
    mdm_of_features,
    read_humanact12,
)
from rewards.actions.rotation_critic import RotationCritic, scores_of_mdm
from rewards.critic.poses import poses_of_rotations, upright
from rollouts.messages import GroupMotions
from rollouts.networks.action_mdm import ActionMDM
from rollouts.networks.mdm_config import MDMConfig
from rollouts.networks.mdm_naming import StateDictError
from tests.toys.humanact12 import write_clips
from tests.toys.small_critic import small_critic


def test_clips_are_read_as_mdm_reads_them(tmp_path: Path) -> None:
    clips = read_humanact12(write_clips(tmp_path))
    assert len(clips.features) == 24 and clips.actions.tolist() == [clip % 12 for clip in range(24)]
    assert HUMANACT12.num_features == 150 and [len(f) for f in clips.features[:3]] == [40, 60, 75]
    content = pickle.loads((tmp_path / "humanact12poses.pkl").read_bytes())
    motion = mdm_of_features(torch.from_numpy(clips.features[1])[None])
    assert motion.shape == (1, 25, 6, 60) and torch.equal(
        features_of_mdm(motion)[0].T, torch.from_numpy(clips.features[1]).T
    )
    back = poses_of_rotations(motion)[0, :, :-1].numpy().reshape(60, 72)
    np.testing.assert_allclose(back, content["poses"][1], atol=1e-5)
    moved = content["joints3D"][1][:, 0] - content["joints3D"][1][0, 0]
    np.testing.assert_allclose(motion[0, -1, :3].T.numpy(), moved, atol=1e-6)
    windows = clips.windows(seed=3)
    assert windows.shape == (24, 60, 150) and np.array_equal(windows, clips.windows(seed=3))
    assert (windows[0, 39:] == windows[0, 39]).all(), "short clips repeat their last frame"
    starts = {int(np.argmax((clips.features[2][:, None] == clips.windows(s, [2])[0, 0]).all(-1))) for s in range(30)}
    assert len(starts) > 5 and max(starts) <= 15


def test_joints_follow_the_rotations() -> None:
    rest = torch.zeros(1, 25, 6, 2)
    rest[:, :-1, 0] = rest[:, :-1, 4] = 1.0
    rest[:, -1, 0, 1] = 0.5
    joints = joints_of_mdm(rest)
    assert joints.shape == (1, 24, 3, 2)
    torch.testing.assert_close(joints[..., 1] - joints[..., 0], torch.tensor([0.5, 0, 0]).expand(1, 24, 3))
    head, foot = joints[0, 15, :, 0], joints[0, 10, :, 0]
    assert head[1] > 0.4 and foot[1] < -0.8, "y is up in the rest pose"
    turned = rest.clone()
    turned[:, 0, :2] = 0.0
    turned[:, 0, 0], turned[:, 0, 1], turned[:, 0, 3], turned[:, 0, 4] = 0.0, -1.0, 1.0, 0.0  # 90 degrees about z
    torch.testing.assert_close(joints_of_mdm(turned)[0, 15, 0, 0] - 0.0, -head[1])


def test_scores_change_nothing_and_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    """The public code turns its argument upside down in place."""
    features = torch.from_numpy(read_humanact12(write_clips(tmp_path)).windows(0)[:3])
    motion = mdm_of_features(features)
    before, critic = motion.clone(), small_critic()
    scores = scores_of_mdm(critic, motion)
    assert torch.equal(before, motion)
    torch.testing.assert_close(scores, critic(poses_of_rotations(upright(motion))))
    prompt = Prompt("0", (Segment("0", 60),))
    group = GroupMotions(features.numpy(), np.full(3, 60), prompt, 0, 0.0)
    scorer = RotationCritic(critic)
    np.testing.assert_allclose(scorer.score(group).terms["critic"], scores.detach().numpy(), rtol=1e-5)
    inputs = features.clone().requires_grad_()
    scorer.score_with_gradient(inputs, torch.full((3,), 60), prompt).sum().backward()
    assert inputs.grad is not None and (inputs.grad.abs().amax(dim=(1, 2)) > 0).all()


def test_an_action_is_a_row_of_the_table() -> None:
    config = MDMConfig(num_features=150, latent_dim=16, ff_size=24, num_layers=1, text_dim=12, max_positions=70)
    network = ActionMDM(config).eval()
    state = network.to_file()
    table = state["embed_action.action_embedding"]
    assert table.shape == (12, 16) and not any(name.startswith("embed_text") for name in state)
    one_hot = torch.eye(12)[[3, 7]][:, None]
    torch.testing.assert_close(network.encode_text(one_hot)[:, 0], table[[3, 7]])
    assert (network.encode_null(1) == 0).all()
    again = ActionMDM.from_file(state, {**config.args(), "text_dim": None}).eval()
    x, steps = torch.randn(2, 9, 150), torch.tensor([3, 4])
    assert torch.equal(network(x, steps, one_hot), again(x, steps, one_hot))
    del state["embed_action.action_embedding"]
    with pytest.raises(StateDictError, match="labelled with actions"):
        ActionMDM.from_file(state, config.args())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [12] * 24}, "clip 0: y is 12; actions are 0 to 11"),
        ({"y": [0]}, "24 poses, 24 joints3D and 1 y"),
        ({"poses": [np.zeros((5, 66))] * 24}, r"clip 0: poses have shape \(5, 66\); expected \[frames, 72\]"),
        ({"joints3D": [np.zeros((5, 24, 3))] * 24}, "clip 0: joints3D have shape"),
        ({"poses": [np.full((40, 72), np.nan)] * 24}, "clip 0 holds numbers that are not finite"),
    ],
)
def test_bad_data_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write_clips(tmp_path) / "humanact12poses.pkl"
    file.write_bytes(pickle.dumps(pickle.loads(file.read_bytes()) | change))
    with pytest.raises(UserError, match=message):
        read_humanact12(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_humanact12(tmp_path / "elsewhere")
