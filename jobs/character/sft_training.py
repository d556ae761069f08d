"""What `jobs.sft` does: rounds of cloning on Ray Train or in this process, recorded as every training is.

The rounds (learners/cloning/rounds.py) report each validation and leave a checkpoint of their own, from which workers
that died start again. What they report is recorded here as it comes; after each round the clone is committed to the run
directory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from cluster.data_parallel import Listener, TrainingResult, train_here, train_on_ray
from cluster.records.opening import inspect
from cluster.records.run import Run, open_run
from cluster.records.run_directory import METRICS
from cluster.settings import RunSettings
from envs.mujoco.vector_environment import make_vector_env
from jobs.command_line import main as cli
from jobs.configs.sft import SFTConfig
from jobs.report import write_training_report
from jobs.report.from_control import clone_charts
from learners.cloning.learner import VALIDATIONS
from learners.cloning.rounds import PROGRESS_FILE, new_clone, train_clone
from learners.cloning.settings import CloneRounds
from motions.base.atomic import atomic_write
from rewards.evaluation.character import (
    ExpertPolicy,
    controller_policy,
    evaluate_characters,
    evaluation_json,
    table_text,
)
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.control.actor_critic import CONTROLLER_FILE, load_controller
from rollouts.imitation.experts import build_expert

EVALUATION = "evaluation.json"
RAY_RUN = "ray_train"
CURVES = ("loss", "val_loss", "val_rmse", "std")


def run(config: SFTConfig) -> None:
    """Clones, evaluates and writes the folder.

    Raises:
        RunDirectoryError: the folder cannot be used as asked.
        UserError: what a worker raised; too few resources.
    """
    settings = run_settings(config)
    inspect(settings)
    # About as many records as there will be; how many there are depends on the data.
    num_records = (config.dagger_rounds + 1) * (VALIDATIONS + 1)
    with (
        cluster_connection(config),
        open_run(settings, config, ",".join(config.motion), num_records, shown=CURVES) as opened,
    ):
        with opened.telemetry.phase("update"):
            result = train(config, Recorder(opened), opened.path)
        opened.telemetry.finished_last_step()
        last = adopt(opened, result)
        print(
            f"clone of {', '.join(config.motion)}: {last['samples']} samples, validation error {last['val_rmse']:.4f} "
            f"(std {last['std']:.3f}); in {config.save_path}"
        )
        if config.evaluate:
            with opened.telemetry.phase("evaluation"):
                evaluate_clone(config, opened.path)
        title = f"A clone of the expert on {', '.join(config.motion)}"
        print(f"report: {write_training_report(opened.path, title, CURVES, clone_charts)}")


def plan(config: SFTConfig) -> None:
    """Opens clips and expert, builds the network, and prints what would be trained."""
    env = make_vector_env(config.task_settings, 1, seed=config.seed)
    expert = build_expert(config, env)
    controller = new_clone(config, env.observation_schema)
    parameters = sum(parameter.numel() for parameter in controller.parameters())
    samples = int(config.num_demo_envs * config.demo_s * config.control_hz)
    print(cli.settings_yaml(config))
    print(f"\nsave_path {config.save_path}: {inspect(run_settings(config), config=config)}")
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
    free = ("max_failures", "num_workers", "cpus_per_worker")
    return RunSettings(
        save_dir=config.save_path,
        resume=config.resume,
        overwrite=config.overwrite,
        seed=config.seed,
        train_platform_type=config.train_platform_type,
        wandb_project=config.wandb_project,
        wandb_mode=config.wandb_mode,
        allow_changed=("evaluate", *ControlEvaluationSettings.model_fields, *free),
    )


def cluster_connection(config: SFTConfig) -> AbstractContextManager[object]:
    """The Ray cluster, unless everything runs in this process."""
    if config.runtime == "local":
        return nullcontext()
    from cluster.runtime.connect import connect

    return connect(config, config.num_workers * config.cpus_per_worker)


class Recorder:
    """Records what the rounds report (`cluster.data_parallel.Listener`)."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step = run.directory.step

    def __call__(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Figures of a validation, or the checkpoint of a finished round."""
        if checkpoint is not None:
            self._commit(checkpoint)
            return
        step = int(metrics["step"])
        if step <= self._step:
            # Workers died and go on after the last round.
            self._run.directory.rewind()
            self._run.telemetry.rewound(step - 1)
        self._step = step
        self._run.record(step, {name: value for name, value in metrics.items() if name != "step"})
        self._run.telemetry.finished_step(step)

    def _commit(self, checkpoint: Path) -> None:
        try:
            controller = (checkpoint / CONTROLLER_FILE).read_bytes()
        except FileNotFoundError:
            return  # The next round's has replaced it already.
        self._run.draw(CURVES)
        # The rounds go on from their own checkpoint; this one says how far the records reach.
        self._run.checkpoint(
            self._step, {"records": self._step}, lambda folder: (folder / CONTROLLER_FILE).write_bytes(controller)
        )
        self._run.directory.publish()


def train(config: SFTConfig, listen: Listener, folder: Path) -> TrainingResult:
    """Runs the cloning, on Ray Train or in this process.

    Raises:
        TrainingFailed: a worker raised an error, or there are too few resources.
    """
    values = config.model_dump(mode="json", include=set(CloneRounds.model_fields))
    if config.runtime == "local":
        return train_here(train_clone, values, folder / RAY_RUN, listen)
    return train_on_ray(
        train_clone,
        values,
        folder,
        listen,
        name=RAY_RUN,
        num_workers=config.num_workers,
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        threads=config.threads_per_worker,
        max_failures=config.max_failures,
    )


def adopt(run: Run, result: TrainingResult) -> dict[str, float]:
    """Puts controller and records of the last checkpoint on top of the run directory; returns the last record.

    The records are those that a training without any interruption has, whatever became of earlier processes.
    """
    assert result.checkpoint is not None
    with atomic_write(run.path / CONTROLLER_FILE) as file:
        file.write((result.checkpoint / CONTROLLER_FILE).read_bytes())
    records = json.loads((result.checkpoint / PROGRESS_FILE).read_text(encoding="utf-8"))["records"]
    with atomic_write(run.path / METRICS) as file:
        file.writelines(json.dumps(record).encode() + b"\n" for record in records)
    run.draw(CURVES)
    return records[-1]


def evaluate_clone(config: SFTConfig, folder: Path) -> None:
    """Writes `evaluation.json` and prints it."""
    loaded = load_controller(folder)
    policies = {"clone": controller_policy(loaded.controller), "expert": ExpertPolicy(config)}
    evaluation = evaluate_characters(config.task_settings, policies, config)
    with atomic_write(folder / EVALUATION) as file:
        file.write(evaluation_json(evaluation))
    print(table_text(evaluation))
