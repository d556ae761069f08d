"""`jobs.train_mdm`: trains an MDM whose condition is an action."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cluster.records.opening import inspect
from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.actions.parts import ActionTexts, read_clips
from jobs.actions.settings import TrainMDMConfig
from jobs.command_line.main import settings_yaml
from jobs.report import write_training_report
from learners.supervised.diffusion import SupervisedBatch, SupervisedLearner
from motions.base.atomic import atomic_write
from motions.data.text_motion import TextMotion, sample_batch
from rewards.actions.humanact12 import NUM_FEATURES, ActionClips
from rollouts.devices import resolve_device
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.action_mdm import ActionMDM
from rollouts.networks.mdm_config import MDMConfig

CURVES = ("loss", "grad_norm", "learning_rate")


def run(config: TrainMDMConfig) -> None:
    """Trains, and leaves `model#########.pt` with args.json in `save_dir`."""
    clips, learner = prepare(config)
    run = config.run
    with joined_cluster(), open_run(run, config, fingerprint_of(clips), run.num_steps, shown=CURVES) as opened:
        training = BatchTraining(
            learner,
            run.num_steps,
            make_batch=functools.partial(batch_of, config, clips.items(config.data.num_frames), len(clips.names)),
            export=lambda folder: save_action_mdm(
                folder,
                learner.num_steps,
                network_of(learner),
                learner.schedule,
                config.data.dataset,
                average=averaged(learner),
            ),
        )
        train(opened, training, run.save_interval, curves=CURVES)
        report = write_training_report(
            opened.path, f"An action-to-motion policy, trained on {config.data.dataset}", CURVES
        )
    print(f"report: {report}")
    print(f"policy in {run.save_dir}: python -m jobs.tune_mdm --resume_checkpoint {run.save_dir} tunes it")


def plan(config: TrainMDMConfig) -> None:
    """Loads the clips, builds the network, and prints what would be trained."""
    clips, learner = prepare(config)
    parameters = sum(parameter.numel() for parameter in learner.network.parameters())
    print(settings_yaml(config))
    print(f"\nsave_dir {config.run.save_dir}: {inspect(config.run, config=config)}")
    print(f"{len(clips.actions)} clips, {len(np.unique(clips.actions))} actions; {parameters / 1e6:.2f} M parameters")


def prepare(config: TrainMDMConfig) -> tuple[ActionClips, SupervisedLearner]:
    """Clips and learner.

    Raises:
        UserError: data or run directory are wrong.
    """
    inspect(config.run, config=config)
    clips = read_clips(config.data)
    sizes = MDMConfig(
        num_features=NUM_FEATURES,
        latent_dim=config.network.latent_dim,
        num_layers=config.network.layers,
        text_dim=len(clips.names),
        cond_mask_prob=config.supervised.cond_mask_prob,
    )
    schedule = DiffusionSchedule(config.network.noise_schedule, config.network.diffusion_steps)
    network = ActionMDM(sizes, seed=config.run.seed).to(resolve_device(config.run.device))
    return clips, SupervisedLearner(network, schedule, config.supervised, config.run.num_steps, config.run.seed)


def batch_of(config: TrainMDMConfig, items: Sequence[TextMotion], num_actions: int, step: int) -> SupervisedBatch:
    """The batch of a step: windows of drawn clips with their actions."""
    rng = np.random.default_rng([config.run.seed, step])
    drawn = sample_batch(items, rng, config.supervised.batch_size, config.data.num_frames)
    actions = torch.from_numpy(ActionTexts(num_actions).encode_pooled(drawn.texts))[:, None]
    return SupervisedBatch(torch.from_numpy(drawn.features), torch.from_numpy(drawn.lengths), actions)


def network_of(learner: SupervisedLearner) -> ActionMDM:
    """The network that a learner trains."""
    assert isinstance(learner.network, ActionMDM)
    return learner.network


def averaged(learner: SupervisedLearner) -> dict[str, torch.Tensor] | None:
    """The averaged weights, with those that are not trained; None without averaging."""
    if not learner.settings.avg_model_beta:
        return None
    with learner.averaged():
        return {name: value.detach().clone() for name, value in learner.network.named_parameters()}


def save_action_mdm(
    folder: Path,
    step: int,
    network: ActionMDM,
    schedule: DiffusionSchedule,
    dataset: str,
    average: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Writes `model{step:09d}.pt` and args.json as MDM does."""
    folder.mkdir(parents=True, exist_ok=True)
    args = network.args() | {
        "dataset": dataset,
        "noise_schedule": schedule.name,
        "diffusion_steps": schedule.base_steps,
        "use_ema": average is not None,
    }
    with atomic_write(folder / "args.json") as file:
        file.write(json.dumps(args, indent=4).encode())
    path = folder / f"model{step:09d}.pt"
    state = network.to_file()
    with atomic_write(path) as file:
        torch.save(state if average is None else {"model": state, "model_avg": network.to_file(average)}, file)
    return path


def fingerprint_of(clips: ActionClips) -> str:
    """SHA-256 of clips and actions: a resumed run must have the same."""
    digest = hashlib.sha256(clips.actions.tobytes())
    for features in clips.features:
        digest.update(features.tobytes())
    return digest.hexdigest()
