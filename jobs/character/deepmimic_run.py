"""What `jobs.deepmimic` does: the stages of a run, the evaluation, and the replay of a controller."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cluster.records.opening import check_place, inspect
from cluster.records.run import cluster_of
from cluster.records.run_directory import RunDirectory
from cluster.settings import RunSettings
from envs.body.mujoco_model import build_humanoid, build_humanoid_xml
from envs.mujoco.vector_environment import make_vector_env
from envs.settings import DeepMimicSettings
from jobs.character import sft_training, trpo_training, world_model_training
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.sft import CloneEvaluationSettings, SFTConfig, SFTRunSettings
from jobs.configs.trpo import ControlRunSettings, TRPOJobConfig, TRPORunSettings
from jobs.configs.world_model import (
    ImaginedCharacterSettings,
    WorldModelConfig,
    WorldModelProcessSettings,
    WorldModelRunSettings,
)
from jobs.report.character import RecordedMotion, joint_points, save_video
from jobs.report.from_control import read_control_document, write_control_report
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.settings import Settings, flat_values, options_of, spellings_of
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
CHECKED_MOTION = "walk"
CHECKED_S = 20.0
CHECKED_PUSH = 100.0
CHECKED = ("eval_episodes", "eval_push_directions", "eval_push_at_s")
"""Options that `--check` requires at their defaults, with episodes of 20 s and pushes of 100 N, because the targets are
defined for these numbers."""


def run(config: DeepMimicConfig) -> None:
    """Runs the task that `--task` names."""
    if config.run.task == "train":
        train(config)
    elif config.run.task == "evaluate":
        evaluate_controller(config)
    else:
        assert config.run.save_dir is not None
        print(f"report: {write_control_report(config.run.save_dir)}")


def plan(config: DeepMimicConfig) -> None:
    """Prints what would be done, and checks everything that can be checked without starting."""
    if config.run.task == "evaluate":
        print(cli.settings_yaml(config))
        loaded, _, clips = prepare_evaluation(config)
        print(f"\ncontroller: {loaded.path}, {', '.join(clips)}")
        return
    run = config.run
    assert run.save_dir is not None
    if run.task == "report":
        read_control_document(run.save_dir)
        print(f"report of {run.save_dir}")
        return
    print(f"save_dir {run.save_dir}: {inspect(run, config=config)}")
    if "clone" in config.trainings:
        sft_training.plan(clone_config(config, run.save_dir))
    if "world_model" in config.trainings:
        print("world model:\n" + world_model_training.describe(world_model_config(config, run.save_dir)))
    if "trpo" in config.trainings:
        trpo_config(config, run.save_dir)
        batch, envs = config.trpo.steps_per_batch, config.processes.num_envs
        print(f"TRPO: {run.num_steps} steps in batches of {batch}, {envs} envs")


def train(config: DeepMimicConfig) -> None:
    """Runs all stages on one connection to the cluster; finished ones are skipped when a run is resumed."""
    again = outdated_stages(config)
    directory = RunDirectory.open(config.run, config, ",".join(config.character.motion))
    # Read by libraries when they are imported, in the processes that this one starts.
    os.environ["OMP_NUM_THREADS"] = str(config.processes.threads)
    try:
        # The directory holds the new options now: record which stages they outdate before anything can fail.
        stages = _Stages(directory.path)
        stages.forget(*again)
        with cluster_of(config.cluster, needed_cpus(config)):
            for name in config.trainings:
                stages.run(name, functools.partial(TRAININGS[name], config, directory.path))
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
    folder = Path(values["save_dir"]) / name
    train(DeepMimicConfig.of({**values, "save_dir": folder, "task": "train"}))
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return evaluation["policies"][evaluation["push_policy"]]["mean"]


def needed_cpus(config: DeepMimicConfig) -> float:
    """CPUs that the stage with the largest demand reserves, and one for the driver of TRPO."""
    processes, workers = config.processes, config.workers
    return max(workers.num_workers * workers.cpus_per_worker, processes.needed_cpus + 1)


def outdated_stages(config: DeepMimicConfig) -> tuple[str, ...]:
    """Stages that an earlier run in this folder finished with options that have changed since; none without a run."""
    assert config.run.save_dir is not None
    path = config.run.save_dir / "config.yaml"
    if not path.is_file():
        return ()
    before, now = flat_values(DeepMimicConfig, yaml.safe_load(path.read_text(encoding="utf-8"))), config.flat()
    options = options_of(DeepMimicConfig).values()
    changed = {option.affects for option in options if before.get(option.flag) != now[option.flag]}
    if "length" in changed:
        return ("trpo", "evaluation")
    return ("evaluation",) if "evaluation" in changed else ()


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


def run_options(config: DeepMimicConfig, stage: type[Settings]) -> dict[str, Any]:
    """The options of the run that a stage has too; of those that may change, the ones that are the stage's."""
    known = {"data", *spellings_of(stage)}
    allowed = tuple(name for name in config.run.allow_changed if name in known)
    shared = {name: getattr(config.run, name) for name in ControlRunSettings.model_fields}
    return shared | {"allow_changed": allowed, "overwrite": False}


def clone_config(config: DeepMimicConfig, folder: Path) -> SFTConfig:
    """The options of the cloning; its evaluation is part of the pipeline's."""
    values = run_options(config, SFTConfig) | {"save_dir": folder / "clone"}
    # The figure that tells the best checkpoint is one of the reinforcement learning.
    shared = [name for name in RunSettings.model_fields if not name.startswith("best_")]
    return SFTConfig(
        run=SFTRunSettings.model_validate({name: values[name] for name in shared}),
        character=config.character,
        demonstrations=config.demonstrations,
        cloning=config.cloning,
        evaluation=CloneEvaluationSettings(evaluate=False),
        workers=config.workers,
        cluster=config.cluster,
    )


def clone(config: DeepMimicConfig, folder: Path) -> None:
    """The cloning, in `clone/`."""
    sft_training.run(clone_config(config, folder))


def reinforce(config: DeepMimicConfig, folder: Path) -> None:
    """The reinforcement learning, in `trpo/`."""
    trpo_training.run(trpo_config(config, folder))


def train_by_model(config: DeepMimicConfig, folder: Path) -> None:
    """The training by a world model, in `world_model/`."""
    world_model_training.run(world_model_config(config, folder))


TRAININGS: dict[str, Callable[[DeepMimicConfig, Path], None]] = {
    "clone": clone,
    "world_model": train_by_model,
    "trpo": reinforce,
}
"""Stages of `DeepMimicConfig.trainings`; each leaves a folder of its name."""


def trpo_config(config: DeepMimicConfig, folder: Path) -> TRPOJobConfig:
    """The options of the reinforcement learning, which starts from the controller of the stage before it."""
    place = {"save_dir": folder / "trpo", "load_sft_pretrain": folder / config.trainings[0]}
    return TRPOJobConfig(
        run=TRPORunSettings.model_validate(run_options(config, TRPOJobConfig) | place),
        character=config.task_settings,
        trpo=config.trpo,
        processes=config.processes,
        cluster=config.cluster,
    )


def world_model_config(config: DeepMimicConfig, folder: Path) -> WorldModelConfig:
    """The options of the training by a world model."""
    values = run_options(config, WorldModelConfig)
    # How often to evaluate and how to choose the best controller are the training's own defaults.
    own = ("save_interval", "best_metric", "best_mode")
    values = {name: value for name, value in values.items() if name not in own}
    place = {"save_dir": folder / "world_model", "num_steps": config.run.model_timesteps}
    return WorldModelConfig(
        run=WorldModelRunSettings.model_validate(values | place),
        character=ImaginedCharacterSettings.model_validate(config.task_settings.model_dump()),
        world_model=config.world_model,
        processes=WorldModelProcessSettings.model_validate(
            config.processes.model_dump(include=set(WorldModelProcessSettings.model_fields))
        ),
        cluster=config.cluster,
    )


def evaluate_run(config: DeepMimicConfig, folder: Path) -> None:
    """The last stage: writes `evaluation.json`, and the motions that the report shows."""
    *before, last = config.trainings
    # A clone that nothing trained further stays what it is called.
    folders = {"clone" if last == "clone" else "trained": last, **{name.replace("_", " "): name for name in before}}
    loaded = {name: load_controller(folder / place / CONTROLLER) for name, place in folders.items()}
    policies: dict[str, CharacterPolicy] = {name: controller_policy(entry.controller) for name, entry in loaded.items()}
    if "clone" in config.trainings:
        policies["expert"] = ExpertPolicy(config.demonstrations)
    task = config.task_settings
    show_evaluation(config, task, policies, folder, task.motion)


def evaluate_controller(config: DeepMimicConfig) -> None:
    """The task `evaluate`: evaluates a trained controller.

    Raises:
        UserError: for the reasons of `prepare_evaluation`.
        SystemExit: 1, with `--check`, if a target is missed.
    """
    run = config.run
    loaded, task, clips = prepare_evaluation(config)
    print(f"{loaded.path}, {', '.join(clips)}")
    policies = {"trained": controller_policy(loaded.controller)}
    evaluation = show_evaluation(config, task, policies, run.save_dir, clips)
    if run.save_dir is not None:
        print(f"report: {write_control_report(run.save_dir)}")
    if run.check:
        missed = missed_targets(evaluation)
        print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
        if missed:
            raise SystemExit(1)


def prepare_evaluation(config: DeepMimicConfig) -> tuple[LoadedController, DeepMimicSettings, tuple[str, ...]]:
    """The controller to evaluate, the task in which it is evaluated, and the clips.

    Raises:
        UserError: there is no such controller, it was made for other observations, an option would change the rules of
            the evaluation, `--check` is used with other numbers than its own, or the results cannot be written.
    """
    run, motion = config.run, config.character.motion
    if run.check and motion[0] != CHECKED_MOTION:
        raise UserError(f"check: targets exist for {CHECKED_MOTION}, not for {motion[0]}")
    if run.save_dir is not None:
        check_place(run.save_dir)
    loaded = load(config)
    task, clips = task_of(config, loaded)
    if run.check:
        require_checked_numbers(config.evaluation, task)
    return loaded, task, clips


def require_checked_numbers(options: ControlEvaluationSettings, task: DeepMimicSettings) -> None:
    """Raises UserError if `--check` would measure something without targets."""
    steps = round(CHECKED_S * task.control_hz)
    if options.eval_steps != steps:
        raise UserError(
            f"check: the targets are for {CHECKED_S:g} s, which are eval_steps {steps} at control_hz "
            f"{task.control_hz}, not {options.eval_steps}"
        )
    for name in CHECKED:
        legal = ControlEvaluationSettings.model_fields[name].default
        if getattr(options, name) != legal:
            raise UserError(f"check: the targets are for {name} {legal}, not {getattr(options, name)}")
    if CHECKED_PUSH not in options.eval_push_forces:
        raise UserError(f"check: eval_push_forces must hold {CHECKED_PUSH:g}")


def load(config: DeepMimicConfig) -> LoadedController:
    """The controller to evaluate.

    Raises:
        UserError: none comes with kinetune for the clip, or the file is no controller.
    """
    motion = config.character.motion[0]
    path = config.run.controller or RESULTS / f"deepmimic_{motion}"
    if config.run.controller is None and not (path / CONTROLLER).is_file():
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
    asked = {name: getattr(given, name) for name in config.character.model_fields_set}
    if config.demonstrations.lookahead is not None:
        asked["lookahead_s"] = given.lookahead_s
    saved = loaded.extra.get("task")
    task, clips = given, given.motion
    if isinstance(saved, dict):
        trained = DeepMimicSettings.model_validate(saved)
        if config.run.controller is not None and "motion" not in asked and not config.run.check:
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

    evaluation = evaluate_characters(task, policies, config.evaluation, clips)
    print(table_text(evaluation))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "evaluation.json") as file:
            file.write(evaluation_json(evaluation))
        record_imitations(
            config.evaluation.video_s, judged(task), next(iter(policies.values())), folder, task.motion.index(clips[0])
        )
    return evaluation


def record_imitations(
    video_s: float, task: DeepMimicSettings, policy: CharacterPolicy, folder: Path, clip: int
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
    if video_s == 0:
        return
    shown = min(int(episodes.steps[0]) + 1, max(2, round(video_s * task.control_hz)))
    takes = [
        RecordedMotion("reference", episodes.reference_qpos[:shown, 0]),
        RecordedMotion("policy", episodes.qpos[:shown, 0]),
    ]
    renderer = save_video(folder / "imitation.webp", build_humanoid_xml(task), takes, float(task.control_hz))
    about = {"renderer": renderer, "phase": IMITATION_PHASES[0]}
    with atomic_write(folder / "imitation.json") as file:
        file.write(json.dumps(about).encode())
