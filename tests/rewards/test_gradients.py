"""Rewards with gradients: the value is that of `score`, the gradient that of finite differences, for every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import HUMANML3D
from rewards.critic.checkpoints import save_critic
from rewards.critic.scorer import CriticScorer
from rewards.evaluator.scorer import EvaluatorScorer
from rewards.gradients import WeightedRewards, build_rewards, require_differentiable
from rewards.physics.kinematic import PhysicsScorer
from rewards.settings import RewardSettings
from rewards.tmr.scorer import Embedder, SemanticScorer
from rollouts.messages import GroupMotions
from tests.toys.small_critic import small_critic
from tests.toys.small_evaluator import write_evaluator
from tests.toys.small_tmr import WordEncoder, prompt_of, small_tmr
from tests.toys.synthetic_motion import walking_joints

PROMPT = prompt_of(("a person walks", 12), ("jumps", 12))
EUCLIDEAN = {"reward_type": "matching", "tmr_similarity_type": "euclidean", "tmr_scale": 9.0}


def motions() -> GroupMotions:
    """Two walks of 24 and 22 frames, with noise in the padding."""
    rows = [extract_features(walking_joints(HUMANML3D, 25, turn=turn), HUMANML3D) for turn in (0.2, 0.6)]
    features = np.stack(rows)
    features[1, 22:] = 7.0
    return GroupMotions(features, np.array([24, 22]), PROMPT, 0, 0.0)


def semantic(folder: Path, **options: Any) -> Any:
    return SemanticScorer(Embedder(small_tmr(), WordEncoder()), RewardSettings.of(options), HUMANML3D)


def evaluator(folder: Path, **options: Any) -> Any:
    (folder / "pool.txt").write_text("a person jumps\na person kicks a chair\na person sits")
    files = write_evaluator(folder) | {"distractors_path": str(folder / "pool.txt"), "num_distractors": "2"}
    return EvaluatorScorer.from_settings(RewardSettings.of(files | options), HUMANML3D)


def physics(folder: Path, **options: Any) -> Any:
    return PhysicsScorer(RewardSettings.of(options), HUMANML3D)


def critic(folder: Path, **options: Any) -> Any:
    save_critic(folder, small_critic(), typical_score=0.5, clip_frames=10)
    own = {"critic_weight": 1.0, "critic_checkpoint_path": str(folder), **options}
    return CriticScorer.from_settings(RewardSettings.of(own), HUMANML3D)


KINDS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "semantic": (semantic, {}),
    "dense": (semantic, {"use_dense_reward": True}),
    "linear": (semantic, EUCLIDEAN),
    "exponential": (semantic, {**EUCLIDEAN, "tmr_normalization": "exponential"}),
    "sigmoid": (semantic, {**EUCLIDEAN, "tmr_normalization": "sigmoid", "max_motion_length": 20}),
    "evaluator": (evaluator, {}),
    "evaluator dense": (evaluator, {"use_dense_reward": True}),
    "evaluator combined": (evaluator, {"reward_type": "combined"}),
    "physics": (physics, {}),
    "physics by contacts": (physics, {"contact_source": "model", "max_motion_length": 20}),
    "critic": (critic, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(kind: str, tmp_path: Path) -> None:
    build, options = KINDS[kind]
    scorer, group = build(tmp_path, **options), motions()
    features, lengths = torch.from_numpy(group.features), torch.from_numpy(group.lengths)
    expected = scorer.score(group).terms[scorer.name]

    def values(changed: torch.Tensor) -> torch.Tensor:
        return scorer.score_with_gradient(changed, lengths, PROMPT).double()

    inputs = features.clone().requires_grad_()
    rewards = values(inputs)
    np.testing.assert_allclose(rewards.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    (gradient,) = torch.autograd.grad(rewards.sum(), inputs)
    assert gradient.isfinite().all() and (gradient[1, 22:] == 0).all() and gradient.abs().amax(dim=(1, 2)).min() > 0
    # Along the gradient, where a difference is largest against rounding; a random critic is curved within 1e-3.
    direction = gradient / gradient.norm()
    step = 2e-4 if kind == "critic" else 2e-3
    with torch.no_grad():
        slope = (values(features + step * direction) - values(features - step * direction)).sum() / (2 * step)
    assert float(slope) == pytest.approx(float(gradient.norm()), rel=0.05)


def test_rewards_are_mixed_by_their_weights(tmp_path: Path) -> None:
    group = motions()
    scorers = [(1.0, semantic(tmp_path)), (0.25, physics(tmp_path)), (0.5, critic(tmp_path))]
    total = WeightedRewards(scorers)(torch.from_numpy(group.features), torch.from_numpy(group.lengths), PROMPT)
    parts = [weight * scorer.score(group).terms[scorer.name] for weight, scorer in scorers]
    np.testing.assert_allclose(total.numpy(), np.sum(parts, axis=0), rtol=1e-4)


def test_a_reward_without_a_gradient_is_refused_by_name() -> None:
    settings = RewardSettings.of(use_tracking_reward=True)
    with pytest.raises(UserError, match="policy_loss refl follows the gradient of the reward, and reward 'tracking'"):
        require_differentiable(settings, "policy_loss refl")
    with pytest.raises(UserError, match="reward 'brightness' has none"):
        build_rewards(RewardSettings.of(extra_rewards=("tests.toys.rewards:MeanFeature",)), HUMANML3D)
    require_differentiable(RewardSettings.of(extra_rewards=("tests.toys.rewards:MeanFeature=0",)), "it has no weight")
    built = build_rewards(RewardSettings.of(beta_s=0, use_physics_reward=True, beta_p=0.5), HUMANML3D)
    assert [weight for weight, _ in built.parts] == [0.5], "a reward without weight is not loaded"
