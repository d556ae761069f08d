"""jobs.deepmimic: stages, resume, report, replay of a controller and its check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cluster.runtime.connect import Connection
from envs.mujoco.vector_environment import make_vector_env
from envs.settings import BODY_NAMES, DeepMimicSettings
from jobs.character import controller_evaluation, deepmimic_run
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.world_model import WorldModelJobConfig
from learners.cloning.rounds import new_clone
from learners.cloning.settings import CloningSettings
from rollouts.control.actor_critic import load_controller, save_controller
from rollouts.imitation.experts import labels_nothing
from tests.toys.characters.cloning_toys import SMALL_RUN

pytestmark = pytest.mark.slow

TINY = {
    **SMALL_RUN,
    "dagger_rounds": 0,
    "runtime": "local",
    "num_timesteps": 256,
    "steps_per_batch": 128,
    "num_envs": 4,
}
TINY |= {"critic_warmup_batches": 0}


def tiny(folder: Path, **changes: Any) -> DeepMimicConfig:
    return DeepMimicConfig.of({**TINY, "save_dir": folder, "video_s": 0.1, **changes})


def run_words(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(
        DeepMimicConfig, deepmimic_run.run, deepmimic_run.__doc__, "jobs.deepmimic", deepmimic_run.plan, argv=argv
    )


def test_a_run_goes_from_clip_to_report_and_resumes_by_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    deepmimic_run.run(tiny(folder))
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
    deepmimic_run.run(tiny(folder, resume=True))
    assert "clone: finished before" in capsys.readouterr().out
    assert json.loads((folder / "evaluation.json").read_text()) == evaluation
    deepmimic_run.run(tiny(folder, resume=True, eval_episodes=3))
    assert len(json.loads((folder / "evaluation.json").read_text())["phases"]) == 3
    deepmimic_run.run(tiny(folder, resume=True, num_timesteps=384))
    longer = load_controller(folder / "trpo")
    # Steps that only begin an episode are not counted, so a batch may be needed more.
    assert 384 <= longer.extra["timesteps"] < 384 + 128
    assert json.loads((folder / "evaluation.json").read_text()) != evaluation
    assert any(
        (a != b).any() for a, b in zip(longer.controller.policy_parameters(), trained.policy_parameters(), strict=True)
    )


def test_a_cloning_without_labels_is_skipped_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    config = tiny(folder, motion=("run",), video_s=0, eval_push_forces=())
    deepmimic_run.plan(config)
    assert "nothing to clone, as every label would be action 0" in capsys.readouterr().out
    deepmimic_run.run(config)
    assert "clone: skipped, as every label would be action 0: the expert of run" in capsys.readouterr().out
    assert [path.name for path in (folder / "clone").iterdir()] == ["controller.safetensors"]
    start = load_controller(folder / "clone").controller
    assert torch.all(start.log_std == config.cloning.log_std_floor)
    assert list(json.loads((folder / "evaluation.json").read_text())["policies"])[:2] == ["trained", "open loop"]
    env = make_vector_env(config.task_settings, 4, seed=0)
    observations, _ = env.reset(seed=0)
    assert start.act(torch.from_numpy(observations)).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({}, True),
        ({"expert": "reference", "motion": ("walk",)}, True),
        ({"motion": ("walk",)}, False),
        ({"motion": ("run", "walk")}, False),
        ({"refine_actions": True}, False),
        ({"action_mode": "absolute"}, False),
        ({"expert": "runs/tracker"}, False),
        ({"balance_gains": Path("mine.json")}, False),
    ],
)
def test_what_has_labels_is_cloned(changes: dict[str, Any], idle: bool, tmp_path: Path) -> None:
    config = tiny(tmp_path, **{"motion": ("run",), **changes})
    assert labels_nothing(config.demonstrations, config.task_settings) is idle


MODEL: dict[str, Any] = {
    **{"learner": "world_model,trpo", "model_timesteps": 200, "warmup_iterations": 1, "model_warmup_updates": 1},
    **{"rollout_steps": 64, "model_updates": 1, "policy_updates": 1, "imagined_steps": 2},
    **{"num_timesteps": 128, "model_hidden_size": 8, "model_batch_size": 8, "imagined_starts": 8, "video_s": 0},
}


def test_a_world_model_comes_first_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    deepmimic_run.run(tiny(folder, **MODEL))
    assert list(json.loads((folder / "stages.json").read_text())) == ["world_model", "trpo", "evaluation"]
    assert list(json.loads((folder / "evaluation.json").read_text())["policies"])[:2] == ["trained", "world model"]
    first, second = (load_controller(folder / name).controller for name in ("world_model", "trpo"))
    assert first.config.hidden_sizes == second.config.hidden_sizes == (256, 256)
    assert not torch.equal(first.policy_parameters()[0], second.policy_parameters()[0])
    page = (folder / "report.html").read_text()
    assert "World model: imagined steps" in page and "TRPO: reward per step" in page


def test_with_a_world_model_the_character_is_one_that_can_be_imagined(tmp_path: Path) -> None:
    config = tiny(tmp_path, **MODEL)
    imagined = WorldModelJobConfig()
    assert config.character.observation_blocks == imagined.character.observation_blocks
    assert (
        config.character.push_force == 150.0 == deepmimic_run.world_model_config(config, tmp_path).character.push_force
    )
    assert tiny(tmp_path, **MODEL, push_force=20.0).character.push_force == 20.0
    again = DeepMimicConfig.of(yaml.safe_load(cli.settings_yaml(config)))
    assert again == config
    assert tiny(tmp_path).character.push_force == 0.0
    model = deepmimic_run.world_model_config(tiny(tmp_path, **MODEL, save_interval=7), tmp_path)
    assert model.run.save_interval == imagined.run.save_interval and model.run.num_steps == 200
    assert deepmimic_run.trpo_config(config, tmp_path).run.load_sft_pretrain == tmp_path / "world_model"
    with pytest.raises(ValueError, match="no_trpo stops after the cloning"):
        tiny(tmp_path, **MODEL, trpo=False)


@pytest.mark.ray
def test_tune_sweeps_over_the_options(ray_cluster: Connection, tmp_path: Path) -> None:
    from ray import tune

    small = {"trpo": False, "video_s": 0.0, "epochs": 1, "eval_push_forces": (), "eval_steps": 10}
    space = {**TINY, **small, "save_dir": str(tmp_path / "sweep"), "hidden_size": tune.grid_search([(8,), (12,)])}
    run_config = tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0)
    results = tune.Tuner(deepmimic_run.trial, param_space=space, run_config=run_config).fit()
    assert results.num_errors == 0 and len(results) == 2
    best = results.get_best_result("normalised_return", "max").metrics
    assert best is not None and 0 < best["normalised_return"] <= 1
    folders = sorted((tmp_path / "sweep").iterdir())
    widths = [load_controller(folder / "clone").controller.config.hidden_sizes for folder in folders]
    assert sorted(widths) == [(8, 8), (12, 12)]


def untrained(folder: Path, task: DeepMimicSettings, **stored: Any) -> Path:
    """A controller that was never trained, as if for this task; `stored` are options that its file names otherwise."""
    schema = make_vector_env(task, 1).observation_schema
    extra = {"task": task.model_dump(mode="json") | stored}
    save_controller(folder, new_clone(CloningSettings(), schema), schema, extra)
    return folder


LENIENT: dict[str, Any] = {"early_termination": False, "ground_bodies": list(BODY_NAMES), "max_body_deviation": None}
LENIENT |= {"pose_weight": 0.0, "velocity_weight": 0.0, "com_weight": 0.0, "root_weight": 0.0, "root_scale": 0.01}


def test_a_replay_names_the_targets_that_are_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rules are the same for all, whatever the controller was trained with: one that lies on the floor misses."""
    folder = untrained(tmp_path / "zero", DeepMimicSettings(torque_scale=1.5), **LENIENT)
    words = ("--task", "evaluate", "--motion", "walk", "--controller", folder, "--check")
    with pytest.raises(SystemExit) as stopped:
        run_words(*words, "--eval_push_forces", 100)
    assert stopped.value.code == 1
    text = capsys.readouterr().out
    last = text.strip().splitlines()[-1]
    assert last.startswith("missed: share of 20 s episodes without a fall 0.000 < 0.8; normalised return 0.0")
    assert "recovery from 100 N" in last and "not the default task: torque_scale 1.5" in text
    assert all(f"{direction} deg" in text for direction in (0, 90, 180, 270))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--eval_steps", 30), "20 s, which are eval_steps 600 at control_hz 30"),
        (("--eval_episodes", 5), "eval_episodes 20"),
        (("--eval_push_at_s", 0), "eval_push_at_s 2.0"),
        (("--eval_push_directions", 0), "eval_push_directions (0.0, 90.0, 180.0, 270.0)"),
        (("--eval_push_forces", 50), "eval_push_forces must hold 100"),
        (("--control_hz", 60), "control_hz"),
        (("--no_early_termination",), "early_termination False: every controller is judged by the same rules"),
        (("--reward_preset", "paper"), "legal: reward_preset upstream"),
    ],
)
def test_a_check_measures_nothing_else(
    words: tuple[object, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = untrained(tmp_path / "zero", DeepMimicSettings())
    assert run_words("--task", "evaluate", "--controller", folder, "--check", *words) == 2
    assert message in capsys.readouterr().err


def test_a_check_lasts_twenty_seconds_at_any_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = untrained(tmp_path / "fast", DeepMimicSettings(control_hz=60))
    assert run_words("--task", "evaluate", "--controller", folder, "--check") == 2
    assert "eval_steps 1200 at control_hz 60" in capsys.readouterr().err


def test_options_of_the_task_are_heard_at_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = untrained(tmp_path / "zero", DeepMimicSettings(friction=0.8))
    short = ("--eval_steps", 4, "--eval_episodes", 2, "--eval_push_forces", 100, "--controller", folder)
    assert run_words("--task", "evaluate", *short, "--torque_scale", 2, "--motion", "run") == 0
    text = capsys.readouterr().out
    assert "torque_scale 2.0, friction 0.8" in text and text.splitlines()[0].endswith("safetensors, run")


def test_a_controller_is_filmed_until_it_falls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "none")
    folder = untrained(tmp_path / "zero", DeepMimicSettings())
    words = ("--task", "video", "--controller", folder, "--save_dir", tmp_path / "out")
    assert run_words(*words, "--video_s", 0.2) == 0
    assert (tmp_path / "out" / "video.mp4").read_bytes()[4:8] == b"ftyp"
    assert "video.mp4: 0.2 s, drawn by drawing" in capsys.readouterr().out
    assert run_words(*words, "--video_s", 0) == 2
    assert "legal for task video: above 0" in capsys.readouterr().err


def test_absolute_actions_keep_the_units_of_all_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = DeepMimicSettings(motion=("walk", "run"), motion_weights=(1.0, 3.0), action_mode="absolute")
    config = DeepMimicConfig.of(task="evaluate", controller=untrained(tmp_path / "both", both), motion=("run",))
    task, clips = controller_evaluation.task_of(config, controller_evaluation.load(config))
    assert task.motion == both.motion and task.motion_weights == both.motion_weights and clips == ("run",)
    short = ("--eval_steps", 4, "--eval_episodes", 2, "--controller", tmp_path / "both", "--save_dir", tmp_path / "out")
    assert run_words("--task", "evaluate", *short, "--motion", "run", "--video_s", 0) == 0
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["motion"] == "run"
    assert run_words("--task", "evaluate", *short, "--motion", "jump") == 2
    assert "action_centre" in capsys.readouterr().err


def test_an_evaluation_with_other_numbers_is_made_again(tmp_path: Path) -> None:
    folder, config = tmp_path, tiny(tmp_path)
    assert deepmimic_run.outdated_stages(config) == ()
    (folder / "config.yaml").write_text(cli.settings_yaml(config))
    assert deepmimic_run.outdated_stages(config) == ()
    for change in ({"eval_episodes": 3}, {"eval_push_forces": (50.0,)}, {"video_s": 0.2}):
        assert deepmimic_run.outdated_stages(tiny(folder, **change)) == ("evaluation",)
    assert deepmimic_run.outdated_stages(tiny(folder, num_timesteps=512)) == ("trpo", "evaluation")


def test_learners_of_their_own_are_counted(tmp_path: Path) -> None:
    config = tiny(tmp_path, runtime="ray", num_env_runners=2, num_learners=2, num_workers=1)
    assert deepmimic_run.needed_cpus(config) == 2 * 0.5 + 2 * 0.5 + 1


def test_controllers_that_are_not_there_or_do_not_fit_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_evaluation, "RESULTS", tmp_path)
    assert run_words("--task", "evaluate", "--motion", "walk") == 2
    assert "no controller ships for walk" in capsys.readouterr().err
    schema = make_vector_env(DeepMimicSettings(target_steps=(1,)), 1).observation_schema
    save_controller(tmp_path / "deepmimic_walk", new_clone(CloningSettings(), schema), schema)
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
    deepmimic_run.plan(tiny(tmp_path / "run"))
    text = capsys.readouterr().out
    assert "TRPO: 256 steps in batches of 128" in text and "clips: walk" in text
    assert not (tmp_path / "run").exists()
