"""What `jobs.deepmimic` does: the stages of a run, the evaluation, and the replay of a controller."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cluster.records.opening import inspect
from cluster.records.run_directory import RunDirectory
from cluster.runtime.connect import connect
from cluster.settings import RunSettings
from envs.body.mujoco_model import build_humanoid, build_humanoid_xml
from envs.mujoco.vector_environment import make_vector_env
from envs.settings import DeepMimicSettings
from jobs.character import sft_training, trpo_training
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import ActorCriticSettings, TRPOJobConfig, config_from
from jobs.report.character import RecordedMotion, joint_points, save_video
from jobs.report.from_control import write_control_report
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from rewards.evaluation.character import (
    CharacterPolicy,
    ExpertPolicy,
    controller_policy,
    evaluate_characters,
    evaluation_json,
    imitation_episodes,
    judged,
    missed_targets,
    table_text,
)
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.control.actor_critic import LoadedController, load_controller

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
CONTROLLER = "controller.safetensors"
STAGES = "stages.json"
IMITATION_PHASES = (0.0, 0.35, 0.7)
IMITATION_S = 10.0
EVALUATION_OPTIONS = (*ControlEvaluationSettings.model_fields, "video_s")
"""Options that affect only the last stage."""
CHECKED_MOTION = "walk"
CHECKED_S = 20.0
CHECKED_PUSH = 100.0
CHECKED = ("eval_episodes", "eval_push_directions", "eval_push_at_s")
"""Options that `--check` requires at their defaults, with episodes of 20 s and pushes of 100 N, because the targets are
defined for these numbers."""


def run(config: DeepMimicConfig) -> None:
    """Runs the task that `--task` names."""
    if config.task == "train":
        train(config)
    elif config.task == "evaluate":
        evaluate_controller(config)
    else:
        assert config.save_dir is not None
        print(f"report: {write_control_report(config.save_dir)}")


def plan(config: DeepMimicConfig) -> None:
    """Prints what would be done, and checks everything that can be checked without starting."""
    if config.task == "evaluate":
        print(cli.settings_yaml(config))
        loaded = load(config)
        print(f"\ncontroller: {loaded.path}, {', '.join(task_of(config, loaded)[1])}")
        return

    assert config.save_dir is not None
    sft_training.plan(clone_config(config, config.save_dir))
    print(f"save_dir {config.save_dir}: {inspect(directory_settings(config))}")
    if config.trpo:
        print(f"TRPO: {config.num_timesteps} steps in batches of {config.steps_per_batch}, {config.num_envs} envs")


def train(config: DeepMimicConfig) -> None:
    """Runs all stages on one connection to the cluster; finished ones are skipped when a run is resumed."""

    assert config.save_dir is not None
    again = outdated_stages(config)
    directory = RunDirectory.open(directory_settings(config), config, ",".join(config.motion))
    # Read by libraries when they are imported, in the processes that this one starts.
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    try:
        # The directory holds the new options now: record which stages they outdate before anything can fail.
        stages = _Stages(directory.path)
        stages.forget(*again)
        with connect(config, needed_cpus(config)) if config.runtime == "ray" else nullcontext():
            stages.run("clone", lambda: clone(config, directory.path))
            if config.trpo:
                stages.run("trpo", lambda: reinforce(config, directory.path))
            stages.run("evaluation", lambda: evaluate_run(config, directory.path))
        print(f"report: {write_control_report(directory.path)}")
    finally:
        directory.close()


def trial(values: dict[str, Any]) -> dict[str, float]:
    """One trial of a Ray Tune sweep: a complete run in its own folder below `save_dir`; returns its scores.

    Example:
        space = {"save_dir": "/data/sweep", "motion": "walk", "max_kl": tune.loguniform(0.003, 0.03)}
        tune.Tuner(trial, param_space=space).fit().get_best_result("normalised_return", "max")
    """
    from ray import tune

    name = tune.get_context().get_trial_id() or "trial"
    config = DeepMimicConfig.model_validate({**values, "save_dir": Path(values["save_dir"]) / name, "task": "train"})
    train(config)
    assert config.save_dir is not None
    evaluation = json.loads((config.save_dir / "evaluation.json").read_text(encoding="utf-8"))
    return evaluation["policies"][evaluation["push_policy"]]["mean"]


def needed_cpus(config: DeepMimicConfig) -> float:
    """CPUs that the stage with the largest demand reserves, and one for the driver of TRPO."""
    learners = config.num_learners * config.cpus_per_learner
    reinforcement = config.num_env_runners * config.cpus_per_env_runner + learners + 1
    return max(config.num_workers * config.cpus_per_worker, reinforcement)


def outdated_stages(config: DeepMimicConfig) -> tuple[str, ...]:
    """Stages that an earlier run in this folder finished with options that have changed since; none without a run."""

    assert config.save_dir is not None
    path = config.save_dir / "config.yaml"
    if not path.is_file():
        return ()
    before, now = yaml.safe_load(path.read_text(encoding="utf-8")), config.model_dump(mode="json")
    if before.get("num_timesteps") != now["num_timesteps"]:
        return ("trpo", "evaluation")
    return ("evaluation",) if any(before.get(name) != now[name] for name in EVALUATION_OPTIONS) else ()


class _Stages:
    """Records which stages are finished, and how long they took, in `stages.json`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STAGES
        text = self._path.read_text(encoding="utf-8") if self._path.is_file() else "{}"
        self._seconds: dict[str, float] = json.loads(text)

    def run(self, name: str, stage: Callable[[], None]) -> None:
        """Runs a stage unless it is finished."""
        if name in self._seconds:
            print(f"{name}: finished before")
            return
        print(f"{name} ...", flush=True)
        started = time.perf_counter()
        stage()
        self._seconds[name] = round(time.perf_counter() - started, 1)
        self._write()

    def forget(self, *names: str) -> None:
        """Marks stages to be run again; they continue from their last state."""
        self._seconds = {name: seconds for name, seconds in self._seconds.items() if name not in names}
        self._write()

    def _write(self) -> None:

        with atomic_write(self._path) as file:
            file.write(json.dumps(self._seconds).encode())


def directory_settings(config: DeepMimicConfig) -> RunSettings:
    """The options of the run directory."""

    assert config.save_dir is not None
    free = ("task", "num_timesteps", *EVALUATION_OPTIONS, "num_workers", "cpus_per_worker", "max_failures")
    return RunSettings(
        save_dir=config.save_dir, resume=config.resume, overwrite=config.overwrite, seed=config.seed, allow_changed=free
    )


def clone_config(config: DeepMimicConfig, folder: Path) -> SFTConfig:
    """The options of the cloning; its evaluation is part of the pipeline's."""
    shared = {name: getattr(config, name) for name in SFTConfig.model_fields if name in type(config).model_fields}
    place = {"save_path": folder / "clone", "resume": config.resume, "overwrite": False, "evaluate": False}
    return SFTConfig.model_validate({**shared, **place})


def clone(config: DeepMimicConfig, folder: Path) -> None:
    """Stage 1, cloning, in `clone/`."""

    sft_training.run(clone_config(config, folder))


def reinforce(config: DeepMimicConfig, folder: Path) -> None:
    """Stage 2, reinforcement learning from the clone, in `trpo/`."""

    trpo_training.run(trpo_config(config, folder))


def trpo_config(config: DeepMimicConfig, folder: Path) -> TRPOJobConfig:
    """The options of the reinforcement learning; the shape of the network is the clone's."""

    values = config.task_settings.model_dump()
    left_out = {*values, *ActorCriticSettings.model_fields}
    values |= {name: getattr(config, name) for name in type(config).model_fields if name not in left_out}
    place = {"task": "train", "save_dir": folder / "trpo", "resume": config.resume, "overwrite": False}
    return config_from(values, load_sft_pretrain=folder / "clone", **place)


def evaluate_run(config: DeepMimicConfig, folder: Path) -> None:
    """Stage 3: writes `evaluation.json`, and the motions that the report shows."""

    files = {"trained": folder / "trpo" / CONTROLLER, "clone": folder / "clone" / CONTROLLER}
    loaded = {name: load_controller(path) for name, path in files.items() if path.is_file()}
    policies: dict[str, CharacterPolicy] = {name: controller_policy(entry.controller) for name, entry in loaded.items()}
    task = config.task_settings
    show_evaluation(config, task, policies | {"expert": ExpertPolicy(config)}, folder, task.motion)


def evaluate_controller(config: DeepMimicConfig) -> None:
    """The task `evaluate`: evaluates a trained controller.

    Raises:
        UserError: there is no such controller, it was made for other observations, an option would change the rules of
            the evaluation, or `--check` is used with other numbers than its own.
        SystemExit: 1, with `--check`, if a target is missed.
    """

    if config.check and config.motion[0] != CHECKED_MOTION:
        raise UserError(f"check: targets exist for {CHECKED_MOTION}, not for {config.motion[0]}")
    loaded = load(config)
    task, clips = task_of(config, loaded)
    if config.check:
        require_checked_numbers(config, task)
    print(f"{loaded.path}, {', '.join(clips)}")
    policies = {"trained": controller_policy(loaded.controller)}
    evaluation = show_evaluation(config, task, policies, config.save_dir, clips)
    if config.save_dir is not None:
        print(f"report: {write_control_report(config.save_dir)}")
    if config.check:
        missed = missed_targets(evaluation)
        print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
        if missed:
            raise SystemExit(1)


def require_checked_numbers(config: DeepMimicConfig, task: DeepMimicSettings) -> None:
    """Raises UserError if `--check` would measure something without targets."""
    steps = round(CHECKED_S * task.control_hz)
    if config.eval_steps != steps:
        raise UserError(
            f"check: the targets are for {CHECKED_S:g} s, which are eval_steps {steps} at control_hz "
            f"{task.control_hz}, not {config.eval_steps}"
        )
    for name in CHECKED:
        legal = ControlEvaluationSettings.model_fields[name].default
        if getattr(config, name) != legal:
            raise UserError(f"check: the targets are for {name} {legal}, not {getattr(config, name)}")
    if CHECKED_PUSH not in config.eval_push_forces:
        raise UserError(f"check: eval_push_forces must hold {CHECKED_PUSH:g}")


def load(config: DeepMimicConfig) -> LoadedController:
    """The controller to evaluate.

    Raises:
        UserError: none comes with kinetune for the clip, or the file is no controller.
    """

    motion = config.motion[0]
    path = config.controller or RESULTS / f"deepmimic_{motion}"
    if config.controller is None and not (path / CONTROLLER).is_file():
        known = sorted(folder.parent.name.removeprefix("deepmimic_") for folder in RESULTS.glob(f"*/{CONTROLLER}"))
        raise UserError(f"no controller ships for {motion} in {RESULTS} (there are: {', '.join(known) or 'none'})")
    return load_controller(path)


def task_of(config: DeepMimicConfig, loaded: LoadedController) -> tuple[DeepMimicSettings, tuple[str, ...]]:
    """The task in which to evaluate a controller, and the clips to use.

    The task is the one that the controller was trained for, as far as its file states it, with the changes that options
    ask for. All clips of the training remain in it, because they define the units of absolute actions.

    Raises:
        UserError: the controller was made for other observations than this task's, or an option would change the rules
            by which all controllers are evaluated.
    """

    given = config.task_settings
    asked = {name: getattr(given, name) for name in config.model_fields_set & DeepMimicSettings.model_fields.keys()}
    if config.lookahead is not None:
        asked["lookahead_s"] = given.lookahead_s
    saved = loaded.extra.get("task")
    task, clips = given, config.motion
    if isinstance(saved, dict):
        trained = DeepMimicSettings.model_validate(saved)
        if config.controller is not None and "motion" not in asked and not config.check:
            clips = trained.motion
        if set(clips) <= set(trained.motion):
            asked |= {"motion": trained.motion, "motion_weights": trained.motion_weights}
        else:
            asked |= {"motion": clips, "motion_weights": None}
        task = DeepMimicSettings.model_validate(trained.model_dump() | asked)
    judging = judged(task)
    refused = [name for name in asked if getattr(judging, name) != asked[name]]
    if refused:
        raise UserError(
            f"{', '.join(f'{name} {asked[name]}' for name in refused)}: every controller is judged by the same rules; "
            f"legal: {', '.join(f'{name} {getattr(judging, name)}' for name in refused)}"
        )
    env = make_vector_env(judging, 1, seed=0)
    load_controller(loaded.path, env.observation_schema)
    env.close()
    return judging, clips


def show_evaluation(
    config: DeepMimicConfig,
    task: DeepMimicSettings,
    policies: Mapping[str, CharacterPolicy],
    folder: Path | None,
    clips: Sequence[str],
) -> dict[str, Any]:
    """Evaluates, prints the table, and writes the files that the report needs."""

    evaluation = evaluate_characters(task, policies, config, clips)
    print(table_text(evaluation))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "evaluation.json") as file:
            file.write(evaluation_json(evaluation))
        record_imitations(config, judged(task), next(iter(policies.values())), folder, task.motion.index(clips[0]))
    return evaluation


def record_imitations(
    config: DeepMimicConfig, task: DeepMimicSettings, policy: CharacterPolicy, folder: Path, clip: int
) -> None:
    """Writes `imitations.npz` for the report's player, and the animation."""

    steps = round(IMITATION_S * task.control_hz)
    episodes = imitation_episodes(task, policy, np.array(IMITATION_PHASES), steps, clip=clip, record=True)
    assert episodes.qpos is not None and episodes.reference_qpos is not None
    model = build_humanoid(task)
    arrays: dict[str, np.ndarray] = {}
    for index, count in enumerate(episodes.steps):
        for name, states in (("policy", episodes.qpos), ("reference", episodes.reference_qpos)):
            arrays[f"{name}{index}"] = joint_points(model, states[: count + 1, index]).astype(np.float32)
    with atomic_write(folder / "imitations.npz") as file:
        phases, hz = np.array(IMITATION_PHASES), np.array(float(task.control_hz))
        np.savez(file, allow_pickle=False, phases=phases, control_hz=hz, **arrays)
    if config.video_s == 0:
        return
    shown = min(int(episodes.steps[0]) + 1, max(2, round(config.video_s * task.control_hz)))
    takes = [
        RecordedMotion("reference", episodes.reference_qpos[:shown, 0]),
        RecordedMotion("policy", episodes.qpos[:shown, 0]),
    ]
    renderer = save_video(folder / "imitation.webp", build_humanoid_xml(task), takes, float(task.control_hz))
    about = {"renderer": renderer, "phase": IMITATION_PHASES[0]}
    with atomic_write(folder / "imitation.json") as file:
        file.write(json.dumps(about).encode())
