"""The critic's reward: bounded by real motion, by windows, and built into the registry of rewards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton
from rewards.critic.checkpoints import save_critic
from rewards.critic.scorer import CriticScorer, reward_of_scores
from rewards.messages import RewardError
from rewards.scorers import build_scorers, reward_terms, reward_weights
from rewards.settings import RewardSettings
from rollouts.messages import GroupMotions
from tests.toys.small_critic import small_critic
from tests.toys.small_tmr import prompt_of
from tests.toys.synthetic_motion import walking_joints


def group(skeleton: Skeleton = HUMANML3D, frames: int = 40, samples: int = 3) -> GroupMotions:
    walks = [walking_joints(skeleton, frames + 1, turn=0.2 + 0.3 * row) for row in range(samples)]
    rows = [extract_features(walk, skeleton) for walk in walks]
    lengths = np.full(samples, frames, np.int64)
    prompt = prompt_of(("a person walks", frames))
    return GroupMotions(np.stack(rows), lengths, prompt, policy_version=0, seconds=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_critic(tmp_path, small_critic(), typical_score=0.5, clip_frames=20)
    return tmp_path


def scorer(folder: Path, skeleton: Skeleton = HUMANML3D, **changes: object) -> CriticScorer:
    settings = RewardSettings.of({"critic_weight": 1.0, "critic_checkpoint_path": str(folder), **changes})
    return CriticScorer.from_settings(settings, skeleton)


def test_nothing_is_earned_beyond_real_motion_and_every_window_counts() -> None:
    assert float(reward_of_scores(torch.tensor([2.0]), 2.0)) == pytest.approx(np.log(0.5))
    gain = [float(reward_of_scores(torch.tensor([score]), 0.0)) for score in (-30.0, -29.0, 8.0, 9.0, 1000.0)]
    assert gain[1] - gain[0] == pytest.approx(1.0) and gain[3] - gain[2] < 3e-4 and gain[4] <= 0.0
    even, uneven = (float(reward_of_scores(torch.tensor(scores), 0.0)) for scores in ([1.0, 1.0], [-8.0, 10.0]))
    assert even > uneven + 3.0, "windows of the same mean score, one of them bad"


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)
def test_terms_are_those_of_the_windows(skeleton: Skeleton, folder: Path) -> None:
    critic = scorer(folder, skeleton)
    assert (critic.window, critic.reference) == (20, 0.5)
    terms = critic.score(group(skeleton)).terms
    assert set(terms) == {"critic", "critic_score", "critic_worst"}
    assert all(value.shape == (3,) and value.dtype == np.float32 for value in terms.values())
    assert (terms["critic_worst"] <= terms["critic_score"]).all() and (terms["critic"] <= 0).all()
    assert len(np.unique(terms["critic"])) == 3
    many = critic.score_many([group(skeleton), group(skeleton)])
    np.testing.assert_array_equal(many[1].terms["critic"], terms["critic"])


def test_padding_and_what_is_cut_off_change_nothing(folder: Path) -> None:
    motions = group()
    features = np.concatenate((motions.features, np.full((3, 9, 263), np.nan, np.float32)), axis=1)
    padded = replace(motions, features=features)
    whole = scorer(folder).score(motions).terms["critic"]
    np.testing.assert_allclose(scorer(folder).score(padded).terms["critic"], whole, atol=1e-5)
    cut = scorer(folder, max_motion_length=20).score(motions).terms["critic"]
    assert np.abs(cut - whole).max() > 1e-4


def test_options_have_an_effect(folder: Path) -> None:
    usual = scorer(folder).score(group()).terms
    assert not np.allclose(scorer(folder, critic_window=30).score(group()).terms["critic_score"], usual["critic_score"])
    higher = scorer(folder, critic_reference=3.0).score(group()).terms
    assert (higher["critic"] < usual["critic"]).all()
    np.testing.assert_array_equal(higher["critic_score"], usual["critic_score"])
    assert scorer(folder, critic_num_heads=2).critic.config.num_heads == 2
    with pytest.raises(UserError, match=r"critic_window is 65 frames; the critic .* takes at most 64"):
        scorer(folder, critic_window=65)


def test_a_motion_that_cannot_be_scored_is_named(folder: Path) -> None:
    motions = group()
    features = motions.features.copy()
    features[1, 3] = np.nan
    bad = replace(motions, features=features)
    with pytest.raises(RewardError, match="reward 'critic', prompt 'a person walks', sample 1: the motion has values"):
        scorer(folder).score(bad)


def test_without_a_critic_of_its_own_it_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.critic.scorer.BUILTIN_CRITIC_FOLDER", tmp_path / "absent")
    with pytest.raises(UserError, match=r"absent; make one with python -m jobs\.train_critic --preset critic_small"):
        CriticScorer.from_settings(RewardSettings.of(critic_weight=1.0), HUMANML3D)


def test_it_is_a_reward_beside_others_or_alone_and_off_by_default(folder: Path) -> None:
    assert "critic" not in reward_weights(RewardSettings())
    mixed = RewardSettings.of(critic_weight=0.05)
    assert reward_weights(mixed) == {"semantic": 1.0, "physics": 0.0, "critic": 0.05}
    alone = RewardSettings.of(critic_weight=1.0, beta_s=0.0, critic_checkpoint_path=str(folder))
    assert reward_weights(alone) == {"physics": 0.0, "critic": 1.0}
    assert {"critic", "critic_score", "critic_worst"} <= set(reward_terms(alone))
    built = build_scorers(alone, HUMANML3D)["critic"]()
    assert isinstance(built, CriticScorer)


def test_the_critic_takes_the_place_of_the_network_that_compares_text_and_motion() -> None:
    assert reward_weights(RewardSettings.of(reward_model_type="critic")) == {"physics": 0.0, "critic": 1.0}
    both = RewardSettings.of(reward_model_type="critic", critic_weight=0.5, use_physics_reward=True)
    assert reward_weights(both) == {"physics": both.physics.beta_p, "critic": 0.5}
    assert RewardSettings.of(both.by_path()) == both, "as a run's file holds it"
    for values, message in (
        ({"critic_weight": 0.0}, "critic_weight is 0 and reward_model_type is critic"),
        ({"beta_s": 0.5}, "beta_s is given and reward_model_type is critic, which reads no text"),
        ({"use_dense_reward": True}, "use_dense_reward is given and reward_model_type is critic"),
        ({"tmr_checkpoint_path": "x"}, "tmr_checkpoint_path is given and reward_model_type is critic"),
    ):
        with pytest.raises(ValueError, match=message):
            RewardSettings.of({"reward_model_type": "critic", **values})
