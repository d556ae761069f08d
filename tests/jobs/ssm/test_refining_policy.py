"""`jobs.grpo --policy_type physics_ssm`: a refiner that learns a residual on the motions of a frozen base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from jobs.command_line import main as cli
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.ssm.refiner_settings import PhysicsSSMConfig
from jobs.ssm.refiner_training import starting_refiner
from jobs.text import generation, grpo_run
from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import HUMANML3D, KIT
from rollouts.refining.checkpoints import WEIGHTS, load_refiner, save_refiner
from rollouts.refining.residual import (
    HEIGHT_M,
    LEG_M,
    SPEED_MPS,
    action_knots,
    leg_joints,
    num_numbers,
    spline_weights,
    with_residual,
)
from tests.toys.tiny_policy import tiny_policy, tiny_refining_policy

PROMPTS = ("a person walks forward.", "a person kicks.")


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained refiner without a residual."""
    folder = tmp_path_factory.mktemp("refiner") / "own"
    config = PhysicsSSMConfig.of(data_dir="builtin", d_model=16, d_state=4, n_layers=1)
    save_refiner(folder, starting_refiner(config, load_dataset("builtin")))
    return folder


def grpo(folder: Path, refiner: Path, **options: Any) -> GRPOConfig:
    prompts = folder.parent / "prompts.txt"
    prompts.write_text("".join(f"{text}#1.0\n" for text in PROMPTS))
    given = {"num_steps": 1, "batch_size": 2, "group_size": 4, "num_eval_samples": 1, "learning_rate": 1e-2}
    paths = {"prompts_path": prompts, "eval_prompts_path": prompts, "refiner_path": str(refiner), "save_dir": folder}
    return GRPOConfig.of(
        policy_type="physics_ssm", runtime="local", judge_path="none", second_judge=False, **given | paths | options
    )


def test_the_spline_is_smooth_and_gives_constants_back() -> None:
    weights = spline_weights(47, 10)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(47))
    assert weights.shape == (47, action_knots(47, 10))
    # A cubic spline with knots of size 1 half a second apart: the second difference has no jumps of a tremor's size.
    curve = weights @ torch.randn(weights.shape[1], generator=torch.Generator().manual_seed(0))
    assert float(curve.diff(n=2).abs().max()) < 0.05


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT])
def test_a_residual_moves_what_it_says(skeleton: Any) -> None:
    rng = np.random.default_rng(0)
    still = torch.zeros(1, 12, skeleton.num_features)
    still[..., 1:4] = torch.from_numpy(rng.normal(0.02, 0.01, (12, 3)).astype(np.float32)) / skeleton.metres_per_unit
    action = torch.zeros(1, action_knots(12, 4), num_numbers(skeleton))
    action[..., 0], action[..., 2], action[..., 3] = 2.0, -3.0, 1.0
    before, after = (
        recover_joints(each, skeleton) * skeleton.metres_per_unit
        for each in (still, with_residual(still, action, 4, skeleton))
    )
    moved = after - before
    torch.testing.assert_close(moved[0, :, 0, 1], torch.full((12,), 2.0 * HEIGHT_M), atol=1e-5, rtol=0)
    path = -3.0 * SPEED_MPS / skeleton.fps * torch.arange(12)
    torch.testing.assert_close(moved[0, :, 0, 2], path, atol=1e-5, rtol=0)
    hip = leg_joints(skeleton)[0]
    torch.testing.assert_close(moved[0, :, hip, 0], torch.full((12,), LEG_M), atol=1e-5, rtol=0)
    unchanged = with_residual(still, torch.zeros_like(action), 4, skeleton)
    torch.testing.assert_close(recover_joints(unchanged, skeleton), recover_joints(still, skeleton), atol=1e-5, rtol=0)


def test_training_makes_a_refiner_that_generation_reads(refiner: Path, tmp_path: Path) -> None:
    grpo_run.run(grpo(tmp_path / "run", refiner, use_dense_reward=True))
    before, after = load_file(refiner / WEIGHTS), load_file(tmp_path / "run" / WEIGHTS)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert float(after["residual.mean.weight"].abs().max()) > 0.0
    learned = load_refiner(tmp_path / "run")
    assert learned.residual is not None
    motions = np.random.default_rng(0).normal(0.1, 0.02, (2, 30, 263)).astype(np.float32)
    lengths = np.array([30, 20])
    with_it, without = (learned.refine(motions, lengths, residual=each) for each in (True, False))
    # Untrained, the network changes nothing: what is changed is by the residual, and only within a motion's length.
    np.testing.assert_allclose(without, motions, atol=1e-5)
    assert not np.allclose(with_it[:, :20], motions[:, :20], atol=1e-5)
    np.testing.assert_array_equal(with_it[1, 20:], motions[1, 20:])
    config = GenerateConfig.of(text=PROMPTS, refiner=tmp_path / "run", save_dir=tmp_path / "out")
    assert generation.load_own_refiner(config, HUMANML3D) is not None


def test_adapters_alone_learn_and_are_merged_into_the_export(refiner: Path, tmp_path: Path) -> None:
    grpo_run.run(grpo(tmp_path / "run", refiner, use_dense_reward=True, use_lora=True))
    after = load_file(tmp_path / "run" / WEIGHTS)
    assert float(after["residual.mean.weight"].abs().max()) > 0.0
    assert not float(after["residual.mean.bias"].abs().max())


def test_a_training_of_the_network_forgets_the_residual(refiner: Path, tmp_path: Path) -> None:
    learned = tiny_refining_policy().network
    save_refiner(tmp_path / "learned", learned.refiner)
    assert load_refiner(tmp_path / "learned").residual is not None
    config = PhysicsSSMConfig.of(data_dir="builtin", refiner_path=tmp_path / "learned")
    assert starting_refiner(config, load_dataset("builtin")).residual is None


def test_conditions_are_the_bases_motions_refined(refiner: Path, tmp_path: Path) -> None:
    prepared = grpo_run.prepare(grpo(tmp_path / "run", refiner))
    request = prepared.batches.evaluation(0)[0]
    assert request.condition.values.shape == (request.prompt.num_frames, 263 + 64)
    [again] = [each for each in grpo_run.prepare(grpo(tmp_path / "run", refiner)).batches.evaluation(0)[:1]]
    np.testing.assert_array_equal(request.condition.values, again.condition.values)


def test_a_base_of_another_skeleton(refiner: Path) -> None:
    policy, base = tiny_refining_policy(), tiny_policy()
    base.skeleton = KIT
    with pytest.raises(UserError, match="skeleton humanml3d, the base policy's motions are of kit"):
        policy.conditions(base, None, [], 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "both"}, "of a refiner only the residual learns"),
        ({"policy_loss": "nft"}, "policy_loss nft needs a policy that denoises"),
        ({"refiner_path": "nowhere"}, "refiner nowhere: no folder"),
    ],
)
def test_what_a_run_refuses(refiner: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        grpo_run.prepare(grpo(tmp_path / "run", refiner, **options))


@pytest.mark.parametrize("given", [{"policy_type": "physics_ssm"}, {"refiner_path": "runs/refiner"}])
def test_one_option_without_the_other(given: dict[str, str]) -> None:
    with pytest.raises((ValidationError, UserError), match="trains a refiner with both"):
        GRPOConfig.of(**given)


def test_sizes_that_are_none(tmp_path: Path) -> None:
    save_refiner(tmp_path, tiny_refining_policy().network.refiner)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"knot_frames": 4', '"knot_frames": 0'))
    with pytest.raises(UserError, match=r"residual is .*knot_frames.* above 0"):
        load_refiner(tmp_path)


def test_the_preset_fits(refiner: Path, tmp_path: Path) -> None:
    config = cli.load_preset(
        GRPOConfig, "physics_ssm_grpo", "jobs.grpo", refiner_path=str(refiner), save_dir=tmp_path / "run"
    )
    assert config.policy.policy_type == "physics_ssm" and config.rewards.tracking.use_tracking_reward
