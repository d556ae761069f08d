"""The critic that ships prefers real motion to every flaw, and what a cheater would earn by it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import critic as benchmark
from learners.supervised.critic_pairs import SyntheticPairs
from motions.data.flaws import FLAWS
from motions.settings import BUILTIN
from motions.skeleton.skeletons import HUMANML3D
from rewards.critic.checkpoints import LoadedCritic
from rewards.critic.scorer import load_critic_of
from rewards.declared.critic import CriticModelSettings

PELVIS, ANKLE = HUMANML3D.index("pelvis"), HUMANML3D.index("left_ankle")


@pytest.fixture(scope="module")
def loaded() -> LoadedCritic:
    found = load_critic_of(CriticModelSettings(critic_checkpoint_path=BUILTIN))
    found.critic.requires_grad_(False)
    return found


@pytest.fixture(scope="module")
def pairs(loaded: LoadedCritic) -> SyntheticPairs:
    return benchmark.held_out(loaded.clip_frames)


def test_it_is_small_and_says_how_it_was_made(loaded: LoadedCritic) -> None:
    assert loaded.source.stat().st_size < 4e6 and loaded.source.suffix == ".safetensors"
    text = (loaded.source.parent / "config.json").read_text()
    assert "python -m jobs.train_critic" in text and loaded.typical_score is not None


def test_recordings_that_it_never_saw_beat_every_flaw(loaded: LoadedCritic, pairs: SyntheticPairs) -> None:
    assert pairs.sources == ["dance_b", "punch", "walk"]
    table = benchmark.flaw_table(loaded, pairs, 30, seed=5)
    assert set(table) == set(FLAWS)
    for flaw, row in table.items():
        assert row["clean"] >= 0.8, f"{flaw}: 30 pairs; 200 are in docs/how_to/score_motions.md"


def test_cheats_are_what_they_are_called(loaded: LoadedCritic, pairs: SyntheticPairs) -> None:
    joints = torch.from_numpy(np.stack(pairs.windows(np.random.default_rng(0), 3)))
    made = benchmark.cheats(joints, loaded.critic)
    assert all(poses.shape == (3, loaded.clip_frames, 25, 3) for poses in made.values())
    assert not made["still"].diff(dim=1).any()
    assert not made["in_place"][:, :, 24, ::2].abs().gt(1e-5).any() and made["in_place"][:, :, 24, 1].any()
    real = benchmark.poses_of_joints(joints, HUMANML3D)
    torch.testing.assert_close(made["half_speed"][:, ::2], real[:, : loaded.clip_frames // 2])
    torch.testing.assert_close(made["backwards"][:, :, 1:24], real.flip(1)[:, :, 1:24])
    assert made["smoothed"][:, :, 24].diff(dim=1).norm() < real[:, :, 24].diff(dim=1).norm()
    assert not made["t_pose"][:, :, 1:24].any() and torch.equal(made["t_pose"][:, :, 24], real[:, :, 24])
    with torch.no_grad():
        assert (loaded.critic(made["ascent"]) > loaded.critic(made["still"])).all()


def test_rewards_of_cheats_stand_beside_the_real_motion_s(loaded: LoadedCritic, pairs: SyntheticPairs) -> None:
    assert loaded.typical_score is not None
    table = benchmark.cheat_table(loaded, pairs, 3, loaded.typical_score)
    assert next(iter(table)) == "real" and table["real"]["reaches_real"] == 1.0
    assert table["still"]["reward"] < table["real"]["reward"] < 0.0
