"""What `jobs.sft` does: rounds of cloning on Ray Train or in this process, recorded as every training is.

The rounds (learners/cloning/rounds.py) report each validation and leave a checkpoint of their own, from which workers
that died start again. What they report is recorded here as it comes; after each round the clone is committed to the run
directory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from cluster.data_parallel import Listener, TrainingResult, train_here, train_on_ray
from cluster.records.opening import METRICS, inspect
from cluster.records.run import Run, cluster_of, open_run
from envs.mujoco.vector_environment import make_vector_env
from jobs.character.own_motions import check_motions, describe_own_motions, show_own_motions
from jobs.command_line import main as cli
from jobs.configs.sft import SFTConfig
from jobs.report import write_training_report
from jobs.report.from_control import clone_charts
from learners.cloning.rounds import PLANNED, PROGRESS_FILE, new_clone, planned_validations, train_clone
from learners.cloning.settings import CloneRounds
from motions.base.atomic import atomic_write
from rewards.evaluation.character import (
    ExpertPolicy,
    controller_policy,
    evaluate_characters,
    evaluation_json,
    table_text,
)
from rollouts.control.actor_critic import CONTROLLER_FILE, load_controller, save_controller
from rollouts.devices import require_device
from rollouts.imitation.experts import build_expert, labels_nothing

EVALUATION = "evaluation.json"
RAY_RUN = "ray_train"
SKIPPED = "skipped"
"""Entry of a controller's file that says why it was not cloned."""
CURVES = ("loss", "val_loss", "val_rmse", "std")


def run(config: SFTConfig) -> None:
    """Clones, evaluates and writes the folder.

    Raises:
        RunDirectoryError: the folder cannot be used as asked.
        UserError: what a worker raised; too few resources.
    """
    inspect(config.run, config=config)
    check_device(config)
    check_motions(config.character)
    if reason := idle_reason(config):
        print(f"note: nothing to clone, {reason}", flush=True)
    rounds, clips = rounds_of(config), config.character.motion
    # How many records there will be depends on the data; each of them comes with a better estimate.
    num_records = planned_validations(rounds, samples_per_round(config) * (1 - config.cloning.val_split))
    with (
        cluster_of(config.cluster, config.workers.num_workers * config.workers.cpus_per_worker),
        open_run(config.run, config, ",".join(clips), num_records, shown=CURVES) as opened,
    ):
        show_own_motions(config.character, opened.path)
        with opened.telemetry.phase("update"):
            result = train(config, rounds, Recorder(opened), opened.path)
        opened.telemetry.finished_last_step()
        opened.say_if_there_is_no_best()
        last = adopt(opened, result)
        print(
            f"clone of {', '.join(clips)}: {last['samples']} samples, validation error {last['val_rmse']:.4f} "
            f"(std {last['std']:.3f}); in {config.run.save_dir}"
        )
        if config.evaluation.evaluate:
            with opened.telemetry.phase("evaluation"):
                evaluate_clone(config, opened.path)
        title = f"A clone of the expert on {', '.join(clips)}"
        print(f"report: {write_training_report(opened.path, title, CURVES, clone_charts)}")


def run_unless_idle(config: SFTConfig) -> None:
    """`run`, but where there is nothing to clone it leaves a controller with random weights, whose actions are nearly 0
    as the labels would be, and says so."""
    if (reason := idle_reason(config)) is None:
        run(config)
        return
    print(f"clone: skipped, {reason}")
    env = make_vector_env(config.task_settings, 1, seed=config.run.seed)
    schema = env.observation_schema
    env.close()
    controller = new_clone(config.cloning, schema, config.run.seed)
    with torch.no_grad():
        controller.log_std.fill_(config.cloning.log_std_floor)
    save_controller(config.run.save_dir, controller, schema, {SKIPPED: reason})


def idle_reason(config: SFTConfig) -> str | None:
    """Why the clone would learn to do nothing, or None."""
    if not labels_nothing(config.demonstrations, config.task_settings):
        return None
    clips = ", ".join(config.character.motion)
    return (
        f"as every label would be action 0: the expert of {clips} is the open loop (there are no gains of a balancing "
        "one: jobs.balance), from which residual actions are offsets (--action_mode absolute has labels, --expert a "
        "controller too)"
    )


def plan(config: SFTConfig) -> None:
    """Opens clips and expert, builds the network, and prints what would be trained."""
    check_device(config)
    env = make_vector_env(config.task_settings, 1, seed=config.run.seed)
    expert = build_expert(config.demonstrations, env)
    controller = new_clone(config.cloning, env.observation_schema, config.run.seed)
    parameters = sum(parameter.numel() for parameter in controller.parameters())
    print(cli.settings_yaml(config))
    print(f"\nsave_path {config.run.save_dir}: {inspect(config.run, config=config)}")
    clips = ", ".join(
        f"{clip.name} ({clip.duration:.2f} s, {'cyclic' if clip.cyclic else 'once'})"
        for clip in env.task.reference.clips
    )
    if own := describe_own_motions(config.character):
        print(own)
    print(f"clips: {clips}; expert: {type(expert).__name__}")
    rounds, samples = config.demonstrations.dagger_rounds + 1, samples_per_round(config)
    if reason := idle_reason(config):
        print(f"note: nothing to clone, {reason}")
    print(f"rounds: {rounds} of {samples} samples; network: {parameters} parameters")
    print(f"workers: {config.workers.num_workers} of {config.workers.cpus_per_worker:g} CPUs each")
    env.close()


def check_device(config: SFTConfig) -> None:
    """Raises UserError if the workers will not have the device of the options."""
    on_ray = config.cluster.runtime == "ray"
    reserved = {"gpus_per_worker": config.workers.gpus_per_worker} if on_ray else None
    require_device("cloning_device", config.cloning.cloning_device, reserved)


def rounds_of(config: SFTConfig) -> CloneRounds:
    """What the workers are told."""
    return CloneRounds(
        character=config.character, demonstrations=config.demonstrations, cloning=config.cloning, seed=config.run.seed
    )


def samples_per_round(config: SFTConfig) -> int:
    """Samples that a round collects, or a few less: steps that only begin an episode are none."""
    demonstrations = config.demonstrations
    return int(demonstrations.num_demo_envs * demonstrations.demo_s * config.character.control_hz)


class Recorder:
    """Records what the rounds report (`cluster.data_parallel.Listener`)."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step = run.directory.step

    def __call__(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Figures of a validation, or the checkpoint of a finished round."""
        if checkpoint is not None:
            self._commit(checkpoint, metrics)
            return
        step = int(metrics["step"])
        if step <= self._step:
            # Workers died and go on after the last round.
            self._run.directory.rewind()
            self._run.telemetry.rewound(step - 1)
        self._step = step
        self._run.record(step, {name: value for name, value in metrics.items() if name not in ("step", PLANNED)})
        self._run.telemetry.finished_step(step, int(metrics[PLANNED]))

    def _commit(self, checkpoint: Path, figures: Mapping[str, float]) -> None:
        """The figures are those of the weights that the round kept, not of its last validation."""
        try:
            controller = (checkpoint / CONTROLLER_FILE).read_bytes()
        except FileNotFoundError:
            return  # The next round's has replaced it already.
        self._run.draw(CURVES)
        # The rounds go on from their own checkpoint; this one says how far the records reach.
        self._run.checkpoint(
            self._step,
            {"records": self._step},
            lambda folder: (folder / CONTROLLER_FILE).write_bytes(controller),
            figures=figures,
        )
        self._run.directory.publish()


def train(config: SFTConfig, rounds: CloneRounds, listen: Listener, folder: Path) -> TrainingResult:
    """Runs the cloning, on Ray Train or in this process.

    Raises:
        TrainingFailed: a worker raised an error, or there are too few resources.
    """
    values, workers = rounds.model_dump(mode="json"), config.workers
    if config.cluster.runtime == "local":
        return train_here(train_clone, values, folder / RAY_RUN, listen)
    return train_on_ray(
        train_clone,
        values,
        folder,
        listen,
        name=RAY_RUN,
        num_workers=workers.num_workers,
        cpus_per_worker=workers.cpus_per_worker,
        gpus_per_worker=workers.gpus_per_worker,
        threads=workers.threads_per_worker,
        max_failures=workers.max_failures,
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
    policies = {"clone": controller_policy(loaded.controller), "expert": ExpertPolicy(config.demonstrations)}
    evaluation = evaluate_characters(config.task_settings, policies, config.evaluation)
    with atomic_write(folder / EVALUATION) as file:
        file.write(evaluation_json(evaluation))
    print(table_text(evaluation))
