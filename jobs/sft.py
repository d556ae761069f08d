"""Clones a controller from motion clips: supervised training on an expert, with DAgger, on Ray Train.

    python -m jobs.sft --mocap walk --save_path runs/walk_clone
    python -m jobs.sft --mocap my_clip.txt --epochs 50 --hidden_size 256 128 --refine_actions --save_path runs/mine
    ray job submit --working-dir . -- python -m jobs.sft --mocap walk --num_workers 4 --save_path /abs/path

The expert aims at the reference pose one control step ahead with velocity feed-forward and corrects the balance. The
first demonstrations are its rollouts with noise; then the clone acts more and more (`--dagger_betas`) and the expert
labels the states that it visits. `--save_path` gets `controller.safetensors` with observation statistics and schema,
from which `jobs.trpo --load_sft_pretrain` and `jobs.deepmimic` continue, and `evaluation.json`: the clone next to open
loop, held pose and zero action from fixed starts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.command_line import main as cli
from jobs.configs.sft import SFTConfig
from rewards.evaluation.settings import ControlEvaluationSettings

if TYPE_CHECKING:
    from cluster.data_parallel import TrainingResult
    from cluster.records.run_directory import RunDirectory
    from cluster.settings import RunSettings

CONTROLLER = "controller.safetensors"
EVALUATION = "evaluation.json"
RAY_RUN = "ray_train"
CURVES = ("loss", "val_loss", "val_rmse", "std")


def run(config: SFTConfig) -> None:
    """Clones, evaluates and writes the folder."""
    from cluster.records.curves import draw_curves
    from cluster.records.run_directory import RunDirectory

    directory = RunDirectory.open(run_settings(config), config, ",".join(config.motion))
    try:
        result = train(config, directory)
        records = adopt(directory, result)
        draw_curves(
            directory.path / "training_curves_latest.png",
            {name: [(record["step"], record[name]) for record in records] for name in CURVES},
        )
        last = records[-1]
        print(
            f"clone of {', '.join(config.motion)}: {last['samples']} samples, validation error {last['val_rmse']:.4f} "
            f"(std {last['std']:.3f}); in {config.save_path}"
        )
        if config.evaluate:
            evaluate_clone(config, directory.path)
    finally:
        directory.close()


def plan(config: SFTConfig) -> None:
    """Opens clips and expert, builds the network, and prints what would be trained."""
    from cluster.records.run_directory import inspect
    from envs.mujoco.vector_environment import make_vector_env
    from learners.cloning.rounds import new_clone
    from rollouts.imitation.experts import build_expert

    env = make_vector_env(config.task_settings, 1, seed=config.seed)
    expert = build_expert(config, env)
    controller = new_clone(config, env.observation_schema)
    parameters = sum(parameter.numel() for parameter in controller.parameters())
    samples = int(config.num_demo_envs * config.demo_s * config.control_hz)
    print(cli.settings_yaml(config))
    print(f"\nsave_path {config.save_path}: {inspect(run_settings(config))}")
    clips = ", ".join(
        f"{clip.name} ({clip.duration:.2f} s, {'cyclic' if clip.cyclic else 'once'})"
        for clip in env.task.reference.clips
    )
    print(f"clips: {clips}; expert: {type(expert).__name__}")
    print(f"rounds: {config.dagger_rounds + 1} of {samples} samples; network: {parameters} parameters")
    print(f"workers: {config.num_workers} of {config.cpus_per_worker:g} CPUs each")
    env.close()


def run_settings(config: SFTConfig) -> RunSettings:
    """The options of the run directory."""
    from cluster.settings import RunSettings

    free = ("max_failures", "num_workers", "cpus_per_worker")
    return RunSettings(
        save_dir=config.save_path,
        resume=config.resume,
        overwrite=config.overwrite,
        seed=config.seed,
        allow_changed=("evaluate", *ControlEvaluationSettings.model_fields, *free),
    )


def train(config: SFTConfig, directory: RunDirectory) -> TrainingResult:
    """Runs the cloning, on Ray Train or in this process.

    Raises:
        UserError: a worker raised an error, or there are too few resources.
    """
    from cluster.data_parallel import train_here, train_on_ray
    from cluster.runtime.connect import connect
    from learners.cloning.rounds import train_clone
    from learners.cloning.settings import CloneRounds

    values = config.model_dump(mode="json", include=set(CloneRounds.model_fields))
    storage = directory.path / RAY_RUN
    if config.runtime == "local":
        return train_here(train_clone, values, storage)
    with connect(config, config.num_workers * config.cpus_per_worker):
        return train_on_ray(
            train_clone,
            values,
            directory.path,
            name=RAY_RUN,
            num_workers=config.num_workers,
            cpus_per_worker=config.cpus_per_worker,
            gpus_per_worker=config.gpus_per_worker,
            threads=config.threads_per_worker,
            max_failures=config.max_failures,
        )


def adopt(directory: RunDirectory, result: TrainingResult) -> list[dict[str, float]]:
    """Copies the controller of the last checkpoint into the run directory; returns the records of the training."""
    from motions.base.atomic import atomic_write

    assert result.checkpoint is not None
    with atomic_write(directory.path / CONTROLLER) as file:
        file.write((result.checkpoint / CONTROLLER).read_bytes())
    records = json.loads((result.checkpoint / "progress.json").read_text(encoding="utf-8"))["records"]
    with atomic_write(directory.path / "metrics.jsonl") as file:
        file.writelines(json.dumps(record).encode() + b"\n" for record in records)
    return records


def evaluate_clone(config: SFTConfig, folder: Path) -> None:
    """Writes `evaluation.json` and prints it."""
    from motions.base.atomic import atomic_write
    from rewards.evaluation.character import (
        ExpertPolicy,
        controller_policy,
        evaluate_characters,
        evaluation_json,
        table_text,
    )
    from rollouts.control.actor_critic import load_controller

    loaded = load_controller(folder)
    policies = {"clone": controller_policy(loaded.controller), "expert": ExpertPolicy(config)}
    evaluation = evaluate_characters(config.task_settings, policies, config)
    with atomic_write(folder / EVALUATION) as file:
        file.write(evaluation_json(evaluation))
    print(table_text(evaluation))


if __name__ == "__main__":
    sys.exit(cli.main(SFTConfig, run, __doc__, job="jobs.sft", plan=plan))
