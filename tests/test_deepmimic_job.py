"""jobs.deepmimic: stages, resume, report, replay of a controller and its check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.connect import Connection
from jobs import cli, deepmimic
from jobs.control_configs import DeepMimicConfig
from rollouts.controllers import load_controller, save_controller
from tests.test_sft import SMALL

TINY = {**SMALL, "dagger_rounds": 0, "runtime": "local", "num_timesteps": 256, "steps_per_batch": 128, "num_envs": 4}
TINY |= {"critic_warmup_batches": 0}


def tiny(folder: Path, **changes: Any) -> DeepMimicConfig:
    return DeepMimicConfig.model_validate({**TINY, "save_dir": folder, "video_s": 0.1, **changes})


def run_words(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(DeepMimicConfig, deepmimic.run, deepmimic.__doc__, "jobs.deepmimic", deepmimic.plan, argv=argv)


def test_a_run_goes_from_clip_to_report_and_resumes_by_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    deepmimic.run(tiny(folder))
    stages = json.loads((folder / "stages.json").read_text())
    assert list(stages) == ["clone", "trpo", "evaluation"]
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert list(evaluation["policies"])[:2] == ["trained", "clone"]
    trained, clone = (load_controller(folder / name).controller for name in ("trpo", "clone"))
    assert any((a != b).any() for a, b in zip(trained.policy_parameters(), clone.policy_parameters(), strict=True))
    page = (folder / "report.html").read_text()
    assert "A controller for walk" in page and "data:image/webp" in page and "TRPO: reward per step" in page
    (folder / "stages.json").write_text(json.dumps({name: stages[name] for name in ("clone", "trpo")}))
    (folder / "evaluation.json").unlink()
    capsys.readouterr()
    deepmimic.run(tiny(folder, resume=True))
    assert "clone: finished before" in capsys.readouterr().out
    assert json.loads((folder / "evaluation.json").read_text()) == evaluation
    deepmimic.run(tiny(folder, resume=True, num_timesteps=384))
    longer = load_controller(folder / "trpo")
    assert longer.extra["timesteps"] == 384
    assert json.loads((folder / "evaluation.json").read_text()) != evaluation
    assert any(
        (a != b).any() for a, b in zip(longer.controller.policy_parameters(), trained.policy_parameters(), strict=True)
    )


@pytest.mark.ray
def test_tune_sweeps_over_the_options(ray_cluster: Connection, tmp_path: Path) -> None:
    from ray import tune

    small = {"trpo": False, "video_s": 0.0, "epochs": 1, "eval_push_forces": (), "eval_steps": 10}
    space = {**TINY, **small, "save_dir": str(tmp_path / "sweep"), "hidden_size": tune.grid_search([(8,), (12,)])}
    run_config = tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0)
    results = tune.Tuner(deepmimic.trial, param_space=space, run_config=run_config).fit()
    assert results.num_errors == 0 and len(results) == 2
    best = results.get_best_result("normalised_return", "max").metrics
    assert best is not None and 0 < best["normalised_return"] <= 1
    folders = sorted((tmp_path / "sweep").iterdir())
    widths = [load_controller(folder / "clone").controller.config.hidden_sizes for folder in folders]
    assert sorted(widths) == [(8, 8), (12, 12)]


def test_a_replay_names_the_targets_that_are_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from envs.deepmimic_vector import make_vector_env
    from jobs.clone_training import new_controller
    from jobs.control_configs import SFTConfig
    from tests.test_control_evaluation import WALK

    schema = make_vector_env(WALK, 1).observation_schema
    save_controller(tmp_path / "zero", new_controller(SFTConfig(), schema), schema)
    words = ("--task", "evaluate", "--motion", "walk", "--controller", tmp_path / "zero", "--check")
    with pytest.raises(SystemExit) as stopped:
        run_words(*words, "--eval_push_forces", 100, "--eval_push_directions", 0)
    assert stopped.value.code == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("missed: share of 20 s episodes without a fall 0.000 < 0.8; normalised return 0.0")
    assert run_words(*words, "--eval_steps", 30) == 2
    assert "eval_steps 600" in capsys.readouterr().err


def test_controllers_that_are_not_there_or_do_not_fit_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from envs.deepmimic_vector import make_vector_env
    from envs.settings import DeepMimicSettings
    from jobs.clone_training import new_controller
    from jobs.control_configs import SFTConfig

    monkeypatch.setattr(deepmimic, "RESULTS", tmp_path)
    assert run_words("--task", "evaluate", "--motion", "walk") == 2
    assert "no controller ships for walk" in capsys.readouterr().err
    schema = make_vector_env(DeepMimicSettings(target_steps=(1,)), 1).observation_schema
    save_controller(tmp_path / "deepmimic_walk", new_controller(SFTConfig(), schema), schema)
    assert run_words("--task", "evaluate", "--motion", "walk") == 2
    assert "target_steps" in capsys.readouterr().err
    assert run_words("--task", "evaluate", "--motion", "run") == 2
    assert "there are: walk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "train"), "save_dir is required"),
        (("--save_dir", "x", "--check"), "check belongs to --task evaluate"),
        (("--task", "evaluate", "--motion", "run", "--check"), "targets exist for walk"),
        (("--save_dir", "x", "--resume", "--overwrite"), "continue the run in save_dir"),
    ],
)
def test_orders_that_make_no_sense_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_words(*words) == 2
    assert message in capsys.readouterr().err


def test_a_plan_names_stages_and_checks_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deepmimic.plan(tiny(tmp_path / "run"))
    text = capsys.readouterr().out
    assert "TRPO: 256 steps in batches of 128" in text and "clips: walk" in text
    assert not (tmp_path / "run").exists()
