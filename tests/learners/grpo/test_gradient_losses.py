"""Updates that follow a reward's gradient through a tiny policy: the gradient, what they learn, resume, options."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learners.grpo.gradients.loss import gradient_kind, parts_of_update, shaped
from learners.grpo.learner import GRPOLearner
from learners.grpo.settings import GRPOSettings
from learners.optimizer import Optimizer
from learners.supervised.policy_loss import ClipLoss
from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment
from motions.data.text_motion import TextMotion
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import GroupMotions, RolloutRequest, TextCondition, Trajectory
from tests.toys.tiny_learners import CONFIG, WIDTH, equal, make_policy, make_policy_like

pytestmark = pytest.mark.slow

NAMES = ("refl", "draft", "align_prop", "easytune", "opsd")
NUM_STEPS = 6


def near_one(features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
    """A reward that is highest where all numbers are 1, or -1 for prompts that walk back."""
    aim = -1.0 if "back" in prompt.text else 1.0
    mask = (torch.arange(features.shape[1]) < lengths[:, None])[:, :, None]
    squares = torch.where(mask, (features - aim).square(), 0.0)
    return -squares.sum(dim=(1, 2)) / (lengths * features.shape[2])


def learner_of(name: str, *, policy: DiffusionPolicy | None = None, seed: int = 0, **changes: Any) -> GRPOLearner:
    options = {"group_size": 4, "learning_rate": 1e-2, "kl_penalty": 0.0, "micro_batch_size": 100, **changes}
    settings = GRPOSettings.model_validate({"policy_loss": name, **options})
    return GRPOLearner(policy or make_policy(), settings, seed=seed, reward=near_one)


def roll_out(
    learner: GRPOLearner, step: int, kept: tuple[int, ...] | None = None, *, composed: bool = False
) -> list[tuple[GroupMotions, Trajectory]]:
    """Two groups of four samples, of 6 and 4 frames, whose rollouts keep what the loss wants."""
    worker, version = RolloutWorker(make_policy_like(learner.policy)), learner.version()
    if kept is None:
        kind = gradient_kind(learner.settings)
        assert kind is not None
        kept = kind.positions(learner.settings, NUM_STEPS, np.random.default_rng(step))
    results = []
    for index, (text, frames) in enumerate((("walks", 6), ("walks back", 4))):
        texts = np.random.default_rng(index).standard_normal((2, 1, 4), np.float32)
        boundaries = ((0, frames // 2), (frames // 2, frames))
        request = RolloutRequest(
            step=step,
            prompt_index=index,
            prompt=Prompt(text, (Segment(text, frames),)),
            condition=TextCondition(texts, boundaries=boundaries) if composed else TextCondition(texts[0]),
            num_samples=4,
            seed=7,
            stochastic_steps=(),
            trained_steps=(),
            share_initial_noise=False,
            policy_version=version.number,
            keep_motions=True,
            kept_steps=kept,
        )
        results.append(worker.run(request, version))
    return results


def update(learner: GRPOLearner, step: int, kept: tuple[int, ...] | None = None) -> dict[str, float]:
    trajectories = [trajectory for _, trajectory in roll_out(learner, step, kept)]
    return learner.update(trajectories, np.zeros((2, 4), np.float32))


def recorded_gradient(monkeypatch: pytest.MonkeyPatch, learner: GRPOLearner) -> dict[str, Tensor]:
    """The gradients of the optimizer step that comes next, once it has come."""
    found: dict[str, Tensor] = {}
    original: Callable[[Optimizer], float] = Optimizer.step

    def step(optimizer: Optimizer) -> float:
        own = learner.policy.trainable_parameters()
        found.update({name: value.grad.clone() for name, value in own.items() if value.grad is not None})
        return original(optimizer)

    monkeypatch.setattr(Optimizer, "step", step)
    return found


def loss_by_sampling(policy: DiffusionPolicy, trajectories: list[Trajectory], position: int, final: bool) -> float:
    """What the update's loss is, said again: the mean loss of the motions that are predicted at a position, or that
    come out of denoising on from there."""
    losses = []
    with torch.no_grad():
        for trajectory in trajectories:
            assert trajectory.prompt is not None
            x_t = torch.from_numpy(trajectory.states[0])
            text = torch.from_numpy(trajectory.condition.values).expand(4, -1, -1)
            x0 = policy.transition(x_t, position, text, None).x0
            for place in range(position, NUM_STEPS if final else position):
                step = policy.transition(x_t, place, text, None, stochastic=False)
                x_t = x0 = step.mean
            features = policy.normalizer.denormalize(x0)
            losses.append(-near_one(features, torch.full((4,), x0.shape[1]), trajectory.prompt).double())
    return float(torch.cat(losses).mean())


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize(
    ("name", "position", "options"),
    [
        ("refl", 3, {}),
        ("refl", 5, {}),
        ("easytune", 0, {}),
        ("draft", 5, {"draft_steps": 1}),
        ("draft", 3, {"draft_steps": 3}),
        ("draft", 0, {"draft_steps": 6, "gradient_checkpointing": True}),
        ("align_prop", 2, {}),
    ],
)
def test_the_gradient_is_that_of_finite_differences(
    name: str, position: int, options: dict[str, Any], lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(lora)
    with torch.no_grad():
        for seed, value in enumerate(policy.trainable_parameters().values()):
            value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)))
    before = copy.deepcopy(policy)
    learner = learner_of(name, policy=policy, micro_batch_size=3, max_grad_norm=1e9, **options)
    trajectories = [trajectory for _, trajectory in roll_out(learner, 0, (position,))]
    found = recorded_gradient(monkeypatch, learner)
    learner.update(trajectories, np.zeros((2, 4), np.float32))
    assert len(found) == len(policy.trainable_parameters()) - (0 if lora else _unused(policy, found))
    size = float(torch.cat([value.flatten() for value in found.values()]).norm())
    losses = []
    for sign in (1.0, -1.0):
        moved = copy.deepcopy(before)
        weights = moved.trainable_parameters()
        with torch.no_grad():
            for key, value in found.items():
                weights[key].add_(sign * 5e-3 / size * value)
        losses.append(loss_by_sampling(moved, trajectories, position, final=name in ("draft", "align_prop")))
    assert (losses[0] - losses[1]) / 1e-2 == pytest.approx(size, rel=0.02)


def _unused(policy: DiffusionPolicy, found: dict[str, Tensor]) -> int:
    """Parameters that no forward with text uses."""
    return len(policy.trainable_parameters().keys() - found.keys())


@pytest.mark.parametrize("composed", [False, True])
def test_denoising_on_gives_the_motions_of_the_rollout(composed: bool) -> None:
    """First-step identity: with the weights of the rollout, the learner sees the rollout's motions and no KL."""
    for position in (0, 2, NUM_STEPS - 1):
        assert CONFIG.dropout > 0, "which an update leaves off"
        learner = learner_of("draft", draft_steps=NUM_STEPS - position)
        results = roll_out(learner, 0, composed=composed)
        rewards = [
            near_one(torch.from_numpy(motions.features), torch.from_numpy(motions.lengths), motions.prompt)
            for motions, _ in results
        ]
        metrics = learner.update([trajectory for _, trajectory in results], np.zeros((2, 4), np.float32))
        assert metrics["tuned_reward"] == pytest.approx(float(torch.cat(rewards).mean()), abs=1e-6)
        assert metrics["kl_reference"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_of_nothing_changes_nothing(name: str) -> None:
    learner = learner_of(name, learning_rate=1e-30, weight_decay=0.0, kl_penalty=1.0, num_epochs=2)
    before = learner.version().weights
    metrics = [update(learner, step) for step in range(2)]
    assert all(np.abs(before[key] - value).max() < 1e-20 for key, value in learner.version().weights.items())
    assert all(line["kl_reference"] < 1e-12 and line["kl_old"] == 0 for line in metrics)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_rewarded_rises(name: str) -> None:
    learner = learner_of(name, draft_steps=2)

    def reward() -> float:
        return float(
            np.mean(
                [
                    near_one(torch.from_numpy(m.features), torch.from_numpy(m.lengths), m.prompt).mean()
                    for m, _ in roll_out(learner, 99, (0,))
                ]
            )
        )

    first = reward()
    metrics = [update(learner, step) for step in range(8)]
    assert reward() > first + 0.05
    assert metrics[-1]["tuned_reward"] > metrics[0]["tuned_reward"]


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_learner_ends_with_the_same_bits(name: str) -> None:
    options = {"kl_penalty": 0.1, "num_epochs": 2, "reward_shape": "sigmoid", "random_reward_loss": True}
    whole, first, second = (learner_of(name, **options) for _ in range(3))
    for step in range(3):
        update(whole, step)
    for step in range(2):
        update(first, step)
    second.load(first.state())
    update(second, 2)
    assert equal(whole.version().weights, second.version().weights)


@pytest.mark.parametrize("name", NAMES)
def test_micro_batches_change_rounding_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for size in (100, 3):
        learner = learner_of(name, micro_batch_size=size, draft_steps=2, tuned_steps=1)
        found = recorded_gradient(monkeypatch, learner)
        update(learner, 0)
        gradients.append(dict(found))
    for key, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][key], rtol=1e-3, atol=1e-6)


def test_steps_computed_again_give_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for again in (False, True):
        learner = learner_of("draft", draft_steps=6, gradient_checkpointing=again)
        gradient = recorded_gradient(monkeypatch, learner)
        update(learner, 0)
        found.append(dict(gradient))
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_a_target_has_the_direction_of_the_rewards_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = {}
    for name in ("refl", "opsd"):
        learner = learner_of(name, target_step=0.02)
        # One motion, because targets are equally far for all.
        kept = [replaced(trajectory, 1) for _, trajectory in roll_out(learner, 0, (4,))[:1]]
        found = recorded_gradient(monkeypatch, learner)
        metrics = learner.update(kept, np.zeros((1, 1), np.float32))
        gradients[name] = torch.cat([value.flatten() for value in found.values()])
    assert metrics["policy_loss"] == pytest.approx(0.02**2, rel=1e-3)
    assert float(torch.cosine_similarity(gradients["refl"], gradients["opsd"], dim=0)) == pytest.approx(1, abs=1e-4)


def replaced(trajectory: Trajectory, num: int) -> Trajectory:
    """The first samples of a group."""
    changes = {name: getattr(trajectory, name)[:, :num] for name in ("states", "next_states", "log_probs")}
    return Trajectory(
        steps=trajectory.steps,
        lengths=trajectory.lengths[:num],
        condition=trajectory.condition,
        policy_version=trajectory.policy_version,
        prompt=trajectory.prompt,
        **changes,
    )


def test_easytune_takes_an_optimizer_step_for_every_denoising_step() -> None:
    all_steps = update(learner_of("easytune"), 0)
    assert all_steps["num_optimizer_steps"] == NUM_STEPS and all_steps["num_pairs"] == NUM_STEPS * 8
    assert {f"tuned_reward_position_{place}" for place in range(NUM_STEPS)} <= all_steps.keys()
    assert update(learner_of("easytune", tuned_steps=2), 0)["num_optimizer_steps"] == 2
    assert update(learner_of("easytune", tuned_steps=2, groups_per_optimizer_step=1), 0)["num_optimizer_steps"] == 4
    assert update(learner_of("refl", groups_per_optimizer_step=1), 0)["num_optimizer_steps"] == 2
    settings = GRPOSettings.model_validate({"policy_loss": "easytune", "tuned_steps": 2, "num_epochs": 3})
    assert settings.optimizer_steps(8, parts_of_update(settings, NUM_STEPS)) == 6
    refl = GRPOSettings.model_validate({"policy_loss": "refl"})
    assert parts_of_update(refl, 6) == parts_of_update(GRPOSettings(), 6) == 1


@pytest.mark.parametrize("name", ["draft", "easytune"])
def test_penalties_hold_the_policy_near_the_base(name: str) -> None:
    """The KL at the kept steps, and that of the chain, which also holds steps that are not kept."""
    options = {"draft_steps": 2, "tuned_steps": 2, "learning_rate": 3e-3, "kl_weighting": "x0"}

    def distance(**more: Any) -> float:
        learner = learner_of(name, **options, **more)
        base = roll_out(learner, 99, (0,))[0][0].features
        for step in range(4):
            update(learner, step)
        return float(np.abs(roll_out(learner, 99, (0,))[0][0].features - base).mean())

    free = distance()
    assert distance(kl_penalty=100.0) < 0.5 * free
    assert distance(kl_chain_penalty=1e4) < 0.7 * free


def test_the_loss_on_real_clips_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [TextMotion("a", "a", np.full((6, WIDTH), 0.5, np.float32), ("walks",))]
    clip_loss = ClipLoss(clips, Words(), batch_size=4, max_frames=6, seed=0)  # type: ignore[arg-type]
    options = {"policy_loss": "refl", "group_size": 4, "learning_rate": 1e-2, "reward_scale": 0.0, "kl_penalty": 0.0}
    settings = GRPOSettings.model_validate({**options, "mdm_loss_weight": 2.0})
    learner = GRPOLearner(make_policy(), settings, reward=near_one, clip_loss=clip_loss)
    losses = [update(learner, step)["mdm_loss"] for step in range(15)]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    gradients = []
    for scale, weight in ((1.0, 0.0), (0.0, 1.0), (3.0, 2.0)):
        both = settings.model_copy(update={"reward_scale": scale, "mdm_loss_weight": weight})
        learner = GRPOLearner(make_policy(), both, reward=near_one, clip_loss=clip_loss)
        found, summed = recorded_gradient(monkeypatch, learner), update(learner, 0)
        gradients.append(torch.cat([value.flatten() for value in found.values()]))
    torch.testing.assert_close(gradients[2], 3 * gradients[0] + 2 * gradients[1])
    assert summed["num_optimizer_steps"] == 1 and summed["mdm_loss"] > 0 and summed["tuned_reward"] != 0
    first = (clip_loss(make_policy(), 3, 0), clip_loss(make_policy(), 3, 0), clip_loss(make_policy(), 3, 1))
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
    with pytest.raises(ValueError, match="mdm_loss_weight a clip loss"):
        GRPOLearner(make_policy(), settings, reward=near_one)


class Words:
    """A text encoder of four numbers."""

    def encode_pooled(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 4), np.float32)


def test_without_reward_scale_no_reward_is_asked() -> None:
    learner = learner_of("refl", reward_scale=0.0, weight_decay=0.0)
    before = learner.version().weights
    assert update(learner, 0)["tuned_reward"] == 0
    assert equal(before, learner.version().weights)


def test_shapes_of_the_loss() -> None:
    rewards = torch.tensor([-7.0, 0.0, 11.0, 13.0])

    def of(jitter: float = 0.0, **options: Any) -> Tensor:
        return shaped(rewards, GRPOSettings.model_validate(options), jitter)

    torch.testing.assert_close(of(), -rewards)
    torch.testing.assert_close(of(reward_shape="sigmoid"), 1 / (1 + rewards.exp()))
    torch.testing.assert_close(of(reward_shape="relu"), torch.tensor([19.0, 12.0, 1.0, 0.0]))
    torch.testing.assert_close(of(reward_shape="relu", reward_ceiling=13), torch.tensor([20.0, 13.0, 2.0, 0.0]))
    jittered = of(0.5, reward_shape="relu", random_reward_loss=True)
    torch.testing.assert_close(jittered, torch.tensor([18.5, 11.5, 0.5, 0.0]))
    torch.testing.assert_close(of(0.5, reward_shape="relu"), of(reward_shape="relu"))
    lower = rewards.clone().requires_grad_()
    shaped(lower, GRPOSettings.model_validate({"reward_shape": "sigmoid"})).sum().backward()
    assert lower.grad is not None and (lower.grad < 0).all(), (
        "descent raises the reward (MotionCritic's direct.py: lowers)"
    )


def test_positions() -> None:
    def drawn(name: str, num_steps: int = 10, **options: Any) -> set[tuple[int, ...]]:
        settings = GRPOSettings.model_validate({"policy_loss": name, **options})
        kind = gradient_kind(settings)
        assert kind is not None
        return {kind.positions(settings, num_steps, np.random.default_rng(seed)) for seed in range(60)}

    assert drawn("refl", denoise_upper=999) == {(7,), (8,), (9,)}
    assert drawn("refl", 1000, denoise_lower=700, denoise_upper=702) == {(700,), (701,), (702,)}, "both ends"
    assert drawn("refl", denoise_lower=0, denoise_upper=1000, tune_timesteps="last") == {(9,)}
    assert drawn("opsd", denoise_lower=1000, denoise_upper=1000) == {(9,)}
    assert drawn("draft", draft_steps=3) == {(7,)} and drawn("draft", draft_steps=10) == {(0,)}
    assert drawn("align_prop") == {(place,) for place in range(10)}
    assert drawn("easytune") == {tuple(range(10))}
    assert all(len(places) == 2 and places[0] < places[1] for places in drawn("easytune", tuned_steps=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"denoise_lower": 901}, "denoise_lower is 901, more than denoise_upper, which is 900"),
        ({"random_reward_loss": True}, "random_reward_loss changes nothing with reward_shape 'linear'"),
        ({"policy_loss": "draft", "draft_steps": 7}, "draft_steps is 7; the policy denoises in 6 steps"),
        ({"policy_loss": "easytune", "tuned_steps": 7}, "tuned_steps is 7"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        learner_of(changes.pop("policy_loss", "refl"), **changes)


def test_rollouts_that_kept_no_states_are_refused() -> None:
    learner = learner_of("refl")
    trajectories = [trajectory for _, trajectory in roll_out(learner, 0, ())]
    with pytest.raises(ValueError, match="recorded no denoising step"):
        learner.update(trajectories, np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="needs a reward"):
        GRPOLearner(make_policy(), GRPOSettings.model_validate({"policy_loss": "refl"}))


def test_a_reward_that_is_not_finite_changes_no_weight() -> None:
    def broken(features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        return features.mean(dim=(1, 2)) * torch.nan

    learner = GRPOLearner(make_policy(), GRPOSettings.model_validate({"policy_loss": "refl"}), reward=broken)
    before = learner.version().weights
    with pytest.raises(UserError, match=r"reward nan.*changed no weight"):
        update(learner, 0)
    assert equal(before, learner.version().weights)
