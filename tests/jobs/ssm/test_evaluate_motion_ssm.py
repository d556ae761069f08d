"""`jobs.evaluate` on a policy of one action."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import evaluate
from jobs.command_line import main as cli
from jobs.evaluation.settings import EvaluateConfig
from jobs.ssm import motion_training
from jobs.ssm.settings import MotionSSMConfig
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow
SMALL = {"d_model": 16, "d_state": 4, "n_layers": 1, "latent_dim": 3, "num_steps": 2, "batch_size": 3}


def test_figures_of_one_action_and_what_it_does_not_hear(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy"
    data = str(tiny_models.dataset)
    config = MotionSSMConfig.of(save_dir=policy, data_dir=data, text_encoder="words", validation_clips=0, **SMALL)
    motion_training.run(config)

    def run(folder: Path, *words: str) -> int:
        given = ["--model_path", str(policy), "--dataset", data, "--save_dir", str(folder), "--runtime", "local"]
        given += ["--pool_size", "2", "--eval_mode", "debug", "--replication_times", "1"]
        given += ["--judge_path", str(tiny_models.judge), *words]
        parts = (EvaluateConfig, evaluate.run, evaluate.__doc__, "jobs.evaluate")
        return cli.main(*parts, plan=evaluate.plan, argv=given)

    assert run(tmp_path / "out") == 0
    [path] = (tmp_path / "out").glob("*.json")
    found = json.loads(path.read_text())
    assert path.stem == "eval_data_policy_motion_ssm_debug"
    assert found["rows"].keys() == {"ground truth", "model"} and found["rows"]["model"]["fid"]["mean"] > 0.0
    assert found["sampler"] == "one action" and found["model"].endswith("motion_ssm.safetensors")
    assert run(tmp_path / "not", "--sampling_steps", "5") != 0
    assert "a policy of one action does not denoise" in capsys.readouterr().err
