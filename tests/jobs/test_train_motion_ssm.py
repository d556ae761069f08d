"""`jobs.train_motion_ssm`, and what `jobs.generate` and `jobs.grpo` do with its policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.ssm import motion_training
from jobs.ssm.settings import MotionSSMConfig
from jobs.text import generation, grpo_run
from motions.base.errors import UserError
from motions.data.folder_writer import FolderClip, write_dataset
from motions.skeleton.skeletons import HUMANML3D
from rollouts.checkpoints.loading import open_base, open_policy
from rollouts.checkpoints.motion_ssm_files import WEIGHTS_FILE
from rollouts.settings import PolicySettings, SamplingSettings

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    **{"d_model": 16, "d_state": 4, "n_layers": 1, "latent_dim": 3, "patch_frames": 2, "max_frames": 64},
    "text_encoder": "words",
    **{"num_steps": 4, "save_interval": 2, "batch_size": 4, "validation_clips": 4, "device": "cpu"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of noise, in HumanML3D's layout."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    captions = ("a person walks", "a person jumps", "a person turns", "a person kicks")
    clips = [
        FolderClip(0.1 * rng.standard_normal((40 + 2 * number, 263), np.float32), (text,), split, f"{number}.bvh", 0.0)
        for number, (text, split) in enumerate(zip(captions * 2, ("train",) * 4 + ("test",) * 4, strict=True))
    ]
    write_dataset(folder, HUMANML3D, clips, "for tests")
    return folder


def trained(folder: Path, data: Path, **options: Any) -> Path:
    motion_training.run(MotionSSMConfig.of(save_dir=folder, data_dir=str(data), **TINY | options))
    return folder


@pytest.fixture(scope="module")
def policy(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("motion_ssm") / "policy", data)


def grpo(folder: Path, model: Path, data: Path, **options: Any) -> GRPOConfig:
    small = {"num_steps": 1, "batch_size": 2, "group_size": 4, "num_prompts": 4, "num_eval_prompts": 2}
    given = {"composite_fraction": 0.0, "learning_rate": 1e-2, "num_eval_samples": 2, "max_motion_length": 64}
    rewards = {"beta_s": 0.0, "use_physics_reward": True, "judge_path": "none", "second_judge": False}
    place = {"save_dir": folder, "model_path": str(model), "dataset": str(data), "runtime": "local", "device": "cpu"}
    return GRPOConfig.of(**small | given | rewards | place | options)


def test_a_resumed_training_ends_with_the_same_bits(policy: Path, data: Path, tmp_path: Path) -> None:
    half = trained(tmp_path / "half", data, num_steps=2, lr_schedule="constant")
    whole = trained(tmp_path / "whole", data, lr_schedule="constant")
    trained(half, data, resume=True, lr_schedule="constant")
    assert (half / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()
    assert (policy / WEIGHTS_FILE).read_bytes() != (whole / WEIGHTS_FILE).read_bytes()


def test_more_epochs_go_on_where_the_rate_does_not_depend_on_them(data: Path, tmp_path: Path) -> None:
    """Along a cosine every step's rate depends on the length, and the error says what to write."""
    by_epochs = {name: value for name, value in TINY.items() if name != "num_steps"} | {"data_dir": str(data)}

    def run(folder: str, **options: Any) -> None:
        motion_training.run(MotionSSMConfig.of(save_dir=tmp_path / folder, **by_epochs | options))

    run("whole", epochs=3, lr_schedule="constant")
    run("parts", epochs=1, lr_schedule="constant")
    run("parts", epochs=3, lr_schedule="constant", resume=True)
    assert (tmp_path / "parts" / WEIGHTS_FILE).read_bytes() == (tmp_path / "whole" / WEIGHTS_FILE).read_bytes()
    run("cosine", epochs=1)
    with pytest.raises(
        UserError, match=r"epochs was 1.*, is 3.*allow the change with --allow_changed epochs num_steps"
    ):
        run("cosine", epochs=3, resume=True)
    run("cosine", epochs=3, resume=True, allow_changed=["epochs", "num_steps"])
    provenance = json.loads((tmp_path / "cosine" / "config.json").read_text())["provenance"]
    assert provenance["step"] == 3


def test_generates_as_long_as_the_policy_expects(policy: Path, tmp_path: Path) -> None:
    config = GenerateConfig.of(text=["a person walks"], model_path=str(policy), num_samples=2, save_dir=tmp_path / "a")
    prepared = generation.prepare(config)
    expected = prepared.prompts[0].num_frames
    assert 2 <= expected <= 64
    generation.run(config.model_copy(update={"generation": config.generation.model_copy(update={"formats": ()})}))
    first, second = (np.load(tmp_path / "a" / f"sample00_rep0{rep}_features.npy") for rep in (0, 1))
    assert first.shape == second.shape == (expected, 263)
    assert not np.allclose(first, second)
    longer = GenerateConfig.of(text=["a person walks"], seconds=1.5, model_path=str(policy), save_dir=tmp_path / "b")
    assert generation.prepare(longer).prompts[0].num_frames == 30


@pytest.mark.parametrize("lora", [False, True])
def test_grpo_trains_the_prior_alone_and_exports_it(policy: Path, data: Path, tmp_path: Path, lora: bool) -> None:
    grpo_run.run(grpo(tmp_path / "run", policy, data, use_lora=lora))
    before, after = (load_file(folder / WEIGHTS_FILE) for folder in (policy, tmp_path / "run"))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert "prior.mean.weight" in changed
    assert all(name.startswith("prior.") for name in changed)
    assert (tmp_path / "run" / "adapter").exists() == lora
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    errors = [record["policy/first_ratio_error"] for record in records if "policy/first_ratio_error" in record]
    assert errors and max(errors) <= 1e-5


def test_a_loss_that_follows_the_reward_trains_prior_and_decoder(policy: Path, data: Path, tmp_path: Path) -> None:
    options = {"policy_loss": "draft", "draft_steps": 2, "train": "both", "use_lora": False, "beta_s": 1.0}
    grpo_run.run(grpo(tmp_path / "run", policy, data, **options, num_eval_prompts=1))
    before, after = (load_file(folder / WEIGHTS_FILE) for folder in (policy, tmp_path / "run"))
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"prior", "decoder"}


def test_a_regressor_gives_a_prompt_one_motion_and_grpo_says_why_not(data: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path / "regressor", data, latent_dim=0)
    settings = PolicySettings(model_path=str(folder), use_lora=False)
    policy = open_policy(open_base(settings), settings, SamplingSettings(device="cpu"))
    with policy.inference():
        text = torch.full((2, 1, 1), 3.0)
        first, second = policy.transition(torch.zeros(2, 3, 0), 1, text, None, num_frames=20).mean
    assert torch.equal(first, second)
    with pytest.raises(UserError, match=r"latent_dim 0.*advantages 0"):
        grpo_run.prepare(grpo(tmp_path / "run", folder, data))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "decoder"}, "train is decoder and policy_loss clipped"),
        ({"policy_loss": "nft"}, "policy_loss nft needs a policy that denoises"),
        ({"kl_chain_penalty": 0.1}, "kl_chain_penalty needs a policy that denoises"),
        ({"guidance_scale": 1.0}, "guidance_scale is 1.0: a policy of one action does not denoise"),
        ({"eval_other_steps": (5,)}, "eval_other_steps is set"),
        ({"policy_type": "diffusion"}, "policy_type is diffusion, and model_path .* holds a MotionSSM"),
    ],
)
def test_options_that_a_policy_of_one_action_does_not_hear(
    policy: Path, data: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        grpo_run.prepare(grpo(tmp_path / "run", policy, data, **options))


def test_words_of_its_own(policy: Path, tmp_path: Path) -> None:
    config = GenerateConfig.of(text=["A person walks, then stops."], model_path=str(policy), save_dir=tmp_path / "out")
    assert generation.prepare(config).encoder.vocabulary[:3] == ("a", "person", "walks")


def test_the_public_spellings(tmp_path: Path) -> None:
    given = {"lr": 1e-3, "grad_clip": 0.5, "data_dir": "builtin", "epochs": 2, "save_every": 1}
    config = MotionSSMConfig.of(checkpoint_dir=tmp_path, **given)
    assert (config.run.save_dir, config.training.learning_rate, config.training.max_grad_norm) == (tmp_path, 1e-3, 0.5)
    counted = motion_training.with_steps(config, num_clips=33)
    assert (counted.run.num_steps, counted.run.save_interval) == (6, 3)
    assert MotionSSMConfig.of(resume_from=tmp_path / "learner.pt").run.resume
