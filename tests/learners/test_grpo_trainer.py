"""Rewards and GRPO from Python: the snippets of the public TMR guide, single steps without a cluster, and mistakes."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import learners
import rewards
from learners.grpo_trainer import GRPOTrainer, create_grpo_trainer
from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment
from motions.skeleton.skeletons import HUMANML3D
from rewards.functions import (
    TMRCosineSimilarityReward,
    TMRMatchingScoreReward,
    create_mdm_reward_function,
    create_tmr_reward_function,
)
from rewards.scorers import build_scorers
from rewards.settings import RewardSettings
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.messages import GroupMotions
from rollouts.settings import PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder
from tests.toys.small_evaluator import write_evaluator
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow

SNIPPETS = {
    "basic": """
reward_fn = create_tmr_reward_function(
    tmr_checkpoint_path='./path/to/tmr/checkpoint.pth',
    reward_type='cosine',
    dataset_name='humanml',
    device='cpu',
)
trainer = create_grpo_trainer(
    model=model,
    ref_model=ref_model,
    diffusion=diffusion,
    reward_fn=reward_fn,
    group_size=4,
    text_encoder=text_encoder,
)
""",
    "matching": """
reward_fn = create_tmr_reward_function(
    tmr_checkpoint_path='./path/to/tmr/checkpoint.pth',
    reward_type='matching',
    similarity_type='cosine',
    normalization='linear',
    max_distance=10.0,
    scale=2.0,
    dataset_name='humanml',
    device='cpu',
)
""",
    "script": """
reward_fn = create_tmr_reward_function(
    tmr_checkpoint_path=args.tmr_checkpoint_path,
    reward_type=args.reward_type,
    dataset_name=args.dataset,
    device=args.device,
)
trainer = create_grpo_trainer(
    model=model,
    ref_model=ref_model,
    diffusion=diffusion,
    reward_fn=reward_fn,
    text_encoder=text_encoder,
)
""",
}
"""The calls of the public guide, with the path of its file, on the CPU, and the text encoder where it has dots."""


@pytest.fixture
def policy(tiny_models: TinyModels) -> DiffusionPolicy:
    settings = PolicySettings(model_path=str(tiny_models.policy), use_lora=True, lora_r=2)
    return load_policy(settings, SamplingSettings(device="cpu", sampling_steps=3, guidance_scale=1.0, sde_window=1))


@pytest.fixture
def text_encoder(tiny_models: TinyModels) -> TextEncoder:
    return load_policy_text_encoder(PolicySettings(model_path=str(tiny_models.policy)))


def motions_of(count: int, frames: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, frames, 263)).astype(np.float32)


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_snippets_of_the_public_tmr_guide_run(
    name: str,
    tiny_models: TinyModels,
    policy: DiffusionPolicy,
    text_encoder: TextEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "path" / "to" / "tmr"
    folder.mkdir(parents=True)
    parts = ("text_encoder", "motion_encoder")
    states = {part: torch.load(tiny_models.tmr / "last_weights" / f"{part}.pt", weights_only=True) for part in parts}
    torch.save(states, folder / "checkpoint.pth")
    shutil.copytree(tiny_models.tmr / "stats", folder / "stats")
    shutil.copy(tiny_models.tmr / "config.json", folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "create_tmr_reward_function": rewards.create_tmr_reward_function,
        "create_grpo_trainer": learners.create_grpo_trainer,
        **{"model": policy, "ref_model": policy, "diffusion": policy.schedule, "text_encoder": text_encoder},
        "args": SimpleNamespace(
            tmr_checkpoint_path="path/to/tmr/checkpoint.pth", reward_type="cosine", dataset="humanml", device="cpu"
        ),
    }
    exec(SNIPPETS[name], names)
    texts = ["a person walks", "a person jumps"]
    found = names["reward_fn"](torch.from_numpy(motions_of(2)), texts)
    assert found.shape == (2,) and bool(((found >= 0.0) & (found <= 1.0)).all())
    if "trainer" in names:
        assert names["trainer"].learner.settings.group_size == 4
        before = {key: value.clone() for key, value in policy.trainable_parameters().items()}
        metrics = names["trainer"].step(texts, num_frames=24)
        assert metrics["first_ratio_error"] < 1e-5 and metrics["policy_version"] == 1.0
        assert any(not torch.equal(before[key], value) for key, value in policy.trainable_parameters().items())


def test_functions_give_the_rewards_of_the_command_line_s_options(tiny_models: TinyModels) -> None:
    path, motions = str(tiny_models.tmr), motions_of(3)
    text = "a person walks"
    group = GroupMotions(motions, np.full(3, 24), Prompt(text, (Segment(text, 24),)), 0, 0.0)

    def expected(**options: object) -> np.ndarray:
        settings = RewardSettings.of(tmr_checkpoint_path=path, **options)
        return build_scorers(settings, HUMANML3D)["semantic"]().score(group).terms["semantic"]

    texts = [text] * 3
    cosine = create_tmr_reward_function(path, "cosine", device="cpu")
    assert isinstance(cosine, TMRCosineSimilarityReward)
    np.testing.assert_allclose(cosine(motions, texts), expected(), rtol=1e-5)
    euclidean = create_tmr_reward_function(
        path, "matching", "euclidean", "exponential", scale=3.0, device="cpu", use_physics_reward=True, beta_p=0.5
    )
    assert isinstance(euclidean, TMRMatchingScoreReward)
    options = {"reward_type": "matching", "tmr_similarity_type": "euclidean", "tmr_normalization": "exponential"}
    found = euclidean(motions, texts)
    np.testing.assert_allclose(euclidean.terms["semantic"], expected(tmr_scale=3.0, **options), rtol=1e-5)
    total = euclidean.terms["semantic"] + 0.5 * euclidean.terms["physics"]
    np.testing.assert_allclose(found, total, rtol=1e-5)

    # MDM's layout, normalised motions, and frames beyond the lengths.
    statistics = load_policy(
        PolicySettings(model_path=str(tiny_models.policy)), SamplingSettings(device="cpu")
    ).normalizer
    normalised = statistics.normalize(torch.from_numpy(motions))
    padded = torch.nn.functional.pad(normalised.transpose(1, 2), (0, 8), value=5.0)[:, :, None]
    same = create_tmr_reward_function(path, "cosine", device="cpu", normalizer=statistics)
    np.testing.assert_allclose(same(padded, texts, lengths=[24] * 3), cosine(motions, texts), atol=1e-4)


def test_the_evaluator_is_a_function_too(tmp_path: Path) -> None:
    files: dict[str, Any] = {**write_evaluator(tmp_path / "t2m")}
    del files["reward_model_type"]
    found = create_mdm_reward_function("combined", device="cpu", num_distractors=2, **files)
    composite = Prompt("walk, then kick", (Segment("a person walk", 12), Segment("a person kick", 12)))
    assert found(motions_of(2), ["a person jump", composite]).shape == (2,)
    assert {"semantic", "evaluator_distance", "retrieved"} <= found.terms.keys()
    dense = create_mdm_reward_function(device="cpu", use_dense_reward=True, **files)
    dense(motions_of(1), [composite])
    assert "logic_accuracy" in dense.terms


def test_a_reward_of_ones_own_rises_and_the_reference_may_be_another(
    policy: DiffusionPolicy, text_encoder: TextEncoder
) -> None:
    def low_pelvis(motions: Tensor, texts: list[str]) -> Tensor:
        assert motions.shape[1:] == (24, 263) and set(texts) == {"walks"}
        return -motions[:, :, 3].mean(dim=1)

    options = {"group_size": 24, "learning_rate": 3e-2, "kl_penalty": 0.0, "text_encoder": text_encoder}
    trainer = create_grpo_trainer(policy, reward_fn=low_pelvis, **options)
    means = [trainer.step(["walks"], 24)["mean_reward"] for _ in range(12)]
    # How far it rises depends on how a processor rounds: .10 on one type, above .20 on another.
    assert np.mean(means[-2:]) > np.mean(means[:2]) + 0.05
    assert trainer.rewards.shape == (1, 24) and trainer.groups[0].features.shape == (24, 24, 263)
    assert trainer.num_steps == trainer.learner.number == 12

    other = copy.deepcopy(policy)
    with torch.no_grad():
        next(iter(other.network.parameters())).add_(0.05)
    held = {**options, "kl_penalty": 1.0, "group_size": 2}
    near = create_grpo_trainer(copy.deepcopy(policy), policy, reward_fn=low_pelvis, **held)
    far = create_grpo_trainer(copy.deepcopy(policy), other, reward_fn=low_pelvis, **held)
    assert near.step(["walks"], 24)["kl_reference"] < far.step(["walks"], 24)["kl_reference"]


def test_a_network_becomes_a_policy_and_mistakes_are_named(policy: DiffusionPolicy, text_encoder: TextEncoder) -> None:
    def reward(motions: Tensor, texts: list[str]) -> np.ndarray:
        return np.zeros(len(motions) - 1)

    given: dict[str, Any] = {"reward_fn": reward, "text_encoder": text_encoder}
    trainer = create_grpo_trainer(
        policy.network,
        diffusion=policy.schedule,
        normalizer=policy.normalizer,
        sampling=SamplingSettings(sampling_steps=3),
        **given,
    )
    assert isinstance(trainer, GRPOTrainer) and trainer.policy.num_steps == 3
    with pytest.raises(ValueError, match=r"reward_fn gave float32 \(3,\) for 4 motions of 'walks'"):
        trainer.step(["walks"], 24)
    with pytest.raises(ValueError, match="normalizer is missing: a network needs"):
        create_grpo_trainer(policy.network, diffusion=policy.schedule, **given)
    with pytest.raises(ValueError, match="normalizer is given, and the model is a policy"):
        create_grpo_trainer(policy, normalizer=policy.normalizer, **given)
    with pytest.raises(ValueError, match="reward_fn is missing"):
        create_grpo_trainer(policy, text_encoder=text_encoder)
    with pytest.raises(ValueError, match="learning_rat"):
        create_grpo_trainer(policy, learning_rat=1.0, **given)
    for option in ({"policy_loss": "easytune"}, {"mdm_loss_weight": 0.5}):
        with pytest.raises(UserError, match="losses that follow the reward's gradient, and their loss on clips"):
            create_grpo_trainer(policy, **option, **given)
    with pytest.raises(UserError, match="prompts are 'walks'; expected a list"):
        trainer.step("walks", 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((motions_of(2)[:, :, :5], ["a"] * 2), r"shape \(2, 24, 5\); skeleton humanml3d takes \[N, T, 263\]"),
        ((motions_of(2), ["a"]), "1 prompts for 2 motions"),
        ((motions_of(2), "ab"), "prompts are the text 'ab'; give a list of them"),
        ((motions_of(2), ["a"] * 2, [24, 9.5]), r"lengths are \[24.0, 9.5\]; expected 2 numbers from 1 to 24"),
        ((motions_of(2), ["a"] * 2, [24, 25]), r"lengths are \[24, 25\]; expected 2 numbers from 1 to 24"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: tuple[Any, ...], message: str, tiny_models: TinyModels) -> None:
    reward_fn = create_tmr_reward_function(str(tiny_models.tmr), "cosine", device="cpu")
    with pytest.raises(ValueError, match=message):
        reward_fn(*arguments)


def test_unknown_kinds_are_named(tiny_models: TinyModels) -> None:
    with pytest.raises(ValueError, match="reward_type is 'combined'; a TMR has"):
        create_tmr_reward_function(str(tiny_models.tmr), "combined")
    with pytest.raises(ValueError, match="dataset_name is 'uestc'; legal: humanml, kit"):
        create_tmr_reward_function(str(tiny_models.tmr), dataset_name="uestc")
