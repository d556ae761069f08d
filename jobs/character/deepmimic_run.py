"""What `jobs.deepmimic` does: the stages of a run, the evaluation, and the replay of a controller."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.records.opening import CONFIG, differing_options, inspect, read_config
from cluster.records.run import cluster_of
from cluster.records.run_directory import RunDirectory
from cluster.settings import RunSettings
from jobs.character import sft_training, trpo_training, world_model_training
from jobs.character.controller_evaluation import (
    evaluate_controller,
    film_controller,
    prepare_evaluation,
    show_evaluation,
    write_web_page,
)
from jobs.character.own_motions import check_motions, show_own_motions
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.sft import CloneEvaluationSettings, SFTConfig, SFTRunSettings
from jobs.configs.trpo import ControlRunSettings, TRPOJobConfig, TRPORunSettings
from jobs.configs.world_model import (
    ImaginedCharacterSettings,
    WorldModelJobConfig,
    WorldModelProcessSettings,
    WorldModelRunSettings,
)
from jobs.report.from_control import read_control_document, write_control_report
from jobs.web.controller_page import require_playable
from jobs.web.mujoco_wasm import check_mujoco_wasm
from motions.base.atomic import atomic_write
from motions.settings import Settings, options_of, spellings_of
from rewards.evaluation.character import CharacterPolicy, ExpertPolicy, controller_policy
from rollouts.control.actor_critic import load_controller

STAGES = "stages.json"


def run(config: DeepMimicConfig) -> None:
    """Runs the task that `--task` names."""
    if config.run.task == "train":
        train(config)
    elif config.run.task == "evaluate":
        evaluate_controller(config)
    elif config.run.task == "video":
        film_controller(config)
    elif config.run.task == "web":
        write_web_page(config)
    else:
        assert config.run.save_dir is not None
        print(f"report: {write_control_report(config.run.save_dir)}")


def plan(config: DeepMimicConfig) -> None:
    """Prints what would be done, and checks everything that can be checked without starting."""
    if config.run.task in ("evaluate", "video", "web"):
        print(cli.settings_yaml(config))
        loaded, task, clips = prepare_evaluation(config)
        print(f"\ncontroller: {loaded.path}, {', '.join(clips)}")
        if config.run.task == "web":
            require_playable(task)
            print(f"MuJoCo's WebAssembly build: {check_mujoco_wasm(config.run.mujoco_wasm)}")
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
    check_motions(config.character)
    directory = RunDirectory.open(config.run, config, ",".join(config.character.motion))
    # Read by libraries when they are imported, in the processes that this one starts.
    os.environ["OMP_NUM_THREADS"] = str(config.processes.threads)
    try:
        # The directory holds the new options now: record which stages they outdate before anything can fail.
        stages = _Stages(directory.path)
        stages.forget(*again)
        show_own_motions(config.character, directory.path)
        with cluster_of(config.cluster, needed_cpus(config)):
            for name in config.trainings:
                options_of_stage, training = TRAININGS[name]
                if name == "clone" and name != config.trainings[-1]:
                    training = sft_training.run_unless_idle
                stages.run(name, functools.partial(training, options_of_stage(config, directory.path)))
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
    if not (config.run.save_dir / CONFIG).is_file():
        return ()
    before, options = read_config(config.run.save_dir), options_of(DeepMimicConfig)
    changed = {
        options[name].affects
        for name in differing_options(before, config)
        if not any(name == part or name.startswith(f"{part}.") for part in config.ignored_options)
    }
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


def world_model_config(config: DeepMimicConfig, folder: Path) -> WorldModelJobConfig:
    """The options of the training by a world model."""
    values = run_options(config, WorldModelJobConfig)
    # How often to evaluate and how to choose the best controller are the training's own defaults.
    own = ("save_interval", "best_metric", "best_mode")
    values = {name: value for name, value in values.items() if name not in own}
    place = {"save_dir": folder / "world_model", "num_steps": config.run.model_timesteps}
    return WorldModelJobConfig(
        run=WorldModelRunSettings.model_validate(values | place),
        character=ImaginedCharacterSettings.model_validate(config.task_settings.model_dump()),
        world_model=config.world_model,
        processes=WorldModelProcessSettings.model_validate(
            config.processes.model_dump(include=set(WorldModelProcessSettings.model_fields))
        ),
        cluster=config.cluster,
    )


TRAININGS: dict[str, tuple[Callable[[DeepMimicConfig, Path], Any], Callable[[Any], None]]] = {
    "clone": (clone_config, sft_training.run),
    "world_model": (world_model_config, world_model_training.run),
    "trpo": (trpo_config, trpo_training.run),
}
"""Stages of `DeepMimicConfig.trainings`, each the options of a training and the training; it leaves a folder of the
stage's name."""


def evaluate_run(config: DeepMimicConfig, folder: Path) -> None:
    """The last stage: writes `evaluation.json`, and the motions that the report shows."""
    *before, last = config.trainings
    # A clone that nothing trained further stays what it is called.
    folders = {"clone" if last == "clone" else "trained": last, **{name.replace("_", " "): name for name in before}}
    loaded = {name: load_controller(folder / place) for name, place in folders.items()}
    # A clone that was not made acts as the open loop, which is evaluated anyway, and so does its expert.
    loaded = {name: entry for name, entry in loaded.items() if sft_training.SKIPPED not in entry.extra}
    policies: dict[str, CharacterPolicy] = {name: controller_policy(entry.controller) for name, entry in loaded.items()}
    if "clone" in loaded:
        policies["expert"] = ExpertPolicy(config.demonstrations)
    task = config.task_settings
    show_evaluation(config, task, policies, folder, task.motion)
