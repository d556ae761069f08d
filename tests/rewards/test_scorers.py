"""The registry: which scorers a run has, that they can be pickled, and that all agree on the order of samples."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import HUMANML3D
from rewards.declared.extra import load_scorer_class
from rewards.declared.physics import PhysicsSettings
from rewards.mixing import combine
from rewards.physics.kinematic import PhysicsScorer, physics_terms
from rewards.scorers import Scorer, build_scorers, reward_weights, rewards_of
from rewards.settings import BUILTIN_REWARDS, RewardSettings
from rewards.tmr.checkpoints import save_tmr
from rewards.tmr.scorer import SemanticScorer
from rollouts.messages import GroupMotions
from tests.toys.rewards import MeanFeature
from tests.toys.small_tmr import prompt_of, small_tmr
from tests.toys.synthetic_motion import walking_joints

PROMPT = prompt_of(("walks forward", 24), ("turns around", 16))


@pytest.fixture
def settings(tmp_path: Path) -> RewardSettings:
    tmr = small_tmr()
    tmr.text_encoder_name = "tests.toys.small_tmr:WordModel"
    save_tmr(tmp_path, tmr)
    return RewardSettings.of(
        tmr_checkpoint_path=str(tmp_path),
        tmr_text_model="tests.toys.small_tmr:WordModel",
        use_dense_reward=True,
        use_physics_reward=True,
        extra_rewards=("tests.toys.rewards:MeanFeature=0.5",),
    )


def walking_group(lengths: list[int]) -> GroupMotions:
    clips = [extract_features(walking_joints(HUMANML3D, 61, seed=seed), HUMANML3D) for seed in range(len(lengths))]
    return GroupMotions(np.stack(clips), np.array(lengths), PROMPT, 0, 0.0)


def test_built_in_scorers_are_always_there() -> None:
    assert list(build_scorers(RewardSettings(), HUMANML3D)) == ["semantic", "physics"]


def test_factories_travel_and_build(settings: RewardSettings) -> None:
    factories = build_scorers(settings, HUMANML3D)
    payload = pickle.dumps(factories)
    assert len(payload) < 20_000, "a factory must not carry weights"
    scorers = {name: factory() for name, factory in pickle.loads(payload).items()}
    assert {name: type(scorer) for name, scorer in scorers.items()} == {
        "semantic": SemanticScorer,
        "physics": PhysicsScorer,
        "brightness": MeanFeature,
    }
    assert {scorer.name for scorer in scorers.values()} == set(scorers)
    assert scorers["brightness"].offset == 21.0
    motions = walking_group([40, 44])
    results = [scorer.score(motions) for scorer in scorers.values()]
    mixed = combine(results, settings, PROMPT.text)
    expected = mixed.terms["semantic"] + 0.1 * mixed.terms["physics"] + 0.5 * mixed.terms["brightness"]
    np.testing.assert_allclose(mixed.total, expected, rtol=1e-6)


def test_every_scorer_keeps_the_order_of_unequal_samples(settings: RewardSettings) -> None:
    lengths = [40, 57, 60, 33, 44, 38]
    motions = walking_group(lengths)
    order = [4, 0, 5, 2, 1, 3]
    shuffled = GroupMotions(motions.features[order], motions.lengths[order], PROMPT, 0, 0.0)
    for factory in build_scorers(settings, HUMANML3D).values():
        scorer: Scorer = factory()
        main = scorer.score(motions).terms[scorer.name]
        assert len(set(main.tolist())) == len(lengths)
        np.testing.assert_allclose(scorer.score(shuffled).terms[scorer.name], main[order], atol=1e-6)
        both = scorer.score_many([shuffled, motions])
        np.testing.assert_allclose(both[0].terms[scorer.name], main[order], atol=1e-6)
        for index, length in enumerate(lengths):
            alone = GroupMotions(motions.features[[index], :length], motions.lengths[[index]], PROMPT, 0, 0.0)
            for name, values in scorer.score(alone).terms.items():
                assert values[0] == pytest.approx(both[1].terms[name][index], abs=1e-6, rel=1e-6)


def test_extra_rewards_that_are_none() -> None:
    with pytest.raises(ValueError, match="lacks from_settings, score, score_many"):
        load_scorer_class("tests.toys.rewards:NoScorer")
    with pytest.raises(ValueError, match="No module named 'nowhere'"):
        load_scorer_class("nowhere:Thing")
    with pytest.raises(ValueError, match="no attribute 'Absent'"):
        load_scorer_class("tests.toys.rewards:Absent")
    with pytest.raises(ValueError, match="'semantic' is taken"):
        build_scorers(RewardSettings.of(extra_rewards=("tests.toys.rewards:Semantic",)), HUMANML3D)
    twice = ("tests.toys.rewards:MeanFeature", "tests.toys.rewards:MeanFeature=2")
    with pytest.raises(ValueError, match="'brightness' is taken"):
        rewards_of(RewardSettings(extra_rewards=twice))


def test_a_differentiable_reward_has_a_gradient() -> None:
    """And only the simulated one says that it has none."""
    assert {name: declared.differentiable for name, declared in BUILTIN_REWARDS.items()} == {
        "semantic": True,
        "physics": True,
        "tracking": False,
        "critic": True,
    }
    features = torch.from_numpy(walking_group([40]).features).requires_grad_()
    small_tmr().eval().encode_motion(features, torch.tensor([40])).mu[0, 0].backward()
    assert features.grad is not None and features.grad.abs().sum() > 0
    joints = torch.from_numpy(walking_joints(HUMANML3D, 41)[None]).requires_grad_()
    physics_terms(joints, torch.tensor([41]), HUMANML3D, PhysicsSettings())["physics"].sum().backward()
    assert joints.grad is not None and joints.grad.abs().sum() > 0


def test_a_declaration_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="its declaration is 'heavy'; expected a RewardDeclaration"):
        rewards_of(RewardSettings(extra_rewards=("tests.toys.rewards:Undeclared",)))
    with pytest.raises(UserError, match="Limited' lacks misfit"):
        rewards_of(RewardSettings(extra_rewards=("tests.toys.rewards:Limited",)))


def test_a_weight_is_a_factor_of_the_declared_one() -> None:
    settings = RewardSettings.of(extra_rewards=("tests.toys.rewards:Weighed=-2",), heaviness=0.25)
    assert reward_weights(settings)["weighed"] == -0.5
    assert "weighed" not in rewards_of(RewardSettings.of(extra_rewards=("tests.toys.rewards:Weighed",), heaviness=0))


def test_a_run_without_any_weight_is_refused() -> None:
    with pytest.raises(UserError, match="no reward has a weight"):
        build_scorers(RewardSettings.of(beta_s=0.0), HUMANML3D)
    assert "physics" in build_scorers(RewardSettings.of(beta_s=0.0, use_physics_reward=True), HUMANML3D)
