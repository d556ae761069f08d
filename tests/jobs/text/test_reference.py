"""`--ref_model_path`: the KL penalty refers to another policy, which has to fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from cluster.records.measured import read_json_lines
from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow


def run(models: TinyModels, folder: Path, *words: str) -> int:
    few = {"num_steps": 1, "num_eval_prompts": 1, "num_eval_samples": 1, "eval_other_steps": "none"}
    given = grpo_words(models, folder, **few, second_judge=False, use_physics_reward=None)
    return cli.main(GRPOConfig, grpo.run, None, "jobs.grpo", grpo.dry_run, argv=[*given, *words])


def kl(folder: Path) -> float:
    return next(r["policy/kl_reference"] for r in read_json_lines(folder / "metrics.jsonl") if r["step"] == 1)


@pytest.fixture
def other(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """The policy with another output bias."""
    shutil.copytree(tiny_models.policy, tmp_path / "other")
    file = tmp_path / "other" / tiny_models.policy_file.name
    states = torch.load(file, weights_only=True)
    for state in states.values():
        state["output_process.poseFinal.bias"] += 0.5
    torch.save(states, file)
    return tmp_path / "other"


def test_the_kl_refers_to_the_other_policy(tiny_models: TinyModels, other: Path, tmp_path: Path) -> None:
    assert run(tiny_models, tmp_path / "own") == 0
    assert run(tiny_models, tmp_path / "same", f"--ref_model_path={tiny_models.policy}") == 0
    assert run(tiny_models, tmp_path / "with", f"--ref_model_path={other}") == 0
    assert kl(tmp_path / "own") == kl(tmp_path / "same") == 0.0, "the policy has not moved yet"
    assert kl(tmp_path / "with") > 1e-3


def test_a_reference_that_does_not_fit_is_refused(
    tiny_models: TinyModels, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = other / "args.json"
    args.write_text(json.dumps(json.loads(args.read_text()) | {"diffusion_steps": 5}))
    assert run(tiny_models, tmp_path / "out", f"--ref_model_path={other}", "--dry_run") == 2
    assert "has other denoising steps than model_path" in capsys.readouterr().err
    assert run(tiny_models, tmp_path / "out", f"--ref_model_path={tmp_path / 'gone'}", "--dry_run") == 2
    assert "gone" in capsys.readouterr().err
