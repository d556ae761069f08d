"""What the jobs on HumanAct12 and UESTC share: clips, policies, motions for actions, and folders of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.actions.settings import ActionCriticSettings, ActionDataSettings, OutputSettings
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.skeleton.normalization import Normalizer
from rewards.actions.humanact12 import HUMANACT12, NUM_FEATURES, ActionClips, mdm_of_features, read_humanact12
from rewards.actions.rotation_critic import scores_of_mdm
from rewards.actions.uestc import read_uestc
from rewards.critic.checkpoints import load_critic
from rewards.critic.network import MotionCritic
from rollouts.checkpoints.file_kinds import CheckpointError, read_torch_file
from rollouts.checkpoints.mdm_files import find_checkpoint
from rollouts.checkpoints.model_args import read_model_args
from rollouts.checkpoints.wrapped_states import AVERAGED_KEYS, PLAIN_KEYS, under_key, unwrapped
from rollouts.diffusion.noise import initial_noise, step_noise
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.sampler import sample
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.windows import ancestral_positions
from rollouts.networks.action_mdm import ActionMDM
from rollouts.settings import SamplingSettings


class ActionTexts:
    """A text encoder of actions: the text is the number of an action, its embedding the one-hot vector."""

    name = "actions"

    def __init__(self, num_actions: int) -> None:
        self.dim = num_actions

    def encode_pooled(self, texts: Sequence[str]) -> np.ndarray:
        """One-hot vectors [N, actions] float32.

        Raises:
            UserError: there is no such action.
        """
        rows = [int(text) for text in texts]
        if wrong := [row for row in rows if not 0 <= row < self.dim]:
            raise UserError(f"action {wrong[0]}: the policy knows 0 to {self.dim - 1}")
        return np.eye(self.dim, dtype=np.float32)[rows]


def read_clips(data: ActionDataSettings) -> ActionClips:
    """The clips that the settings name.

    Raises:
        UserError: a file is missing or wrong.
    """
    if data.dataset == "uestc":
        return read_uestc(data.folder, data.split, data.num_frames)
    return read_humanact12(data.folder)


def load_action_policy(path: str, sampling_steps: int | None, device: str = "cpu") -> DiffusionPolicy:
    """The policy of a checkpoint of MDM on actions, without guidance.

    Raises:
        CheckpointError: no such file, or it is no such policy.
    """
    file = find_checkpoint(path)
    contents: Any = read_torch_file(file)
    if not isinstance(contents, Mapping):
        raise CheckpointError(f"{file} holds a {type(contents).__name__}; expected a dict of tensors")
    key = under_key(contents, (*AVERAGED_KEYS, *PLAIN_KEYS))
    state, _ = unwrapped(contents if key is None else contents[key])
    args = read_model_args(file)
    try:
        network = ActionMDM.from_file(state, args.model_dump())
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    if network.num_features != NUM_FEATURES:
        raise CheckpointError(
            f"{file} makes {network.num_features} features; rotations and translation are {NUM_FEATURES}"
        )
    schedule = DiffusionSchedule(args.noise_schedule, args.diffusion_steps)
    return action_policy(network, schedule, sampling_steps, device)


def action_policy(
    network: ActionMDM, schedule: DiffusionSchedule, sampling_steps: int | None = None, device: str = "cpu"
) -> DiffusionPolicy:
    """A policy of features that are not normalised."""
    plain = Normalizer(np.zeros(NUM_FEATURES, np.float32), np.ones(NUM_FEATURES, np.float32))
    sampling = SamplingSettings.model_validate(
        {"device": device, "guidance_scale": 1.0, "sampling_steps": sampling_steps}
    )
    return DiffusionPolicy(network, schedule, plain, HUMANACT12, sampling)


def sample_actions(
    policy: DiffusionPolicy, actions: np.ndarray, frames: int, seed: int, batch_size: int, *, noisy: bool
) -> np.ndarray:
    """Features [N, frames, 150] of motions for actions [N], in batches, a function of the arguments alone.

    Args:
        noisy: DDPM; otherwise DDIM without noise.
    """
    texts, made = ActionTexts(policy.network.text_dim), []
    for number, start in enumerate(range(0, len(actions), batch_size)):
        batch = actions[start : start + batch_size]
        shape = (len(batch), frames, NUM_FEATURES)

        def noise(position: int, number: int = number, shape: tuple[int, int, int] = shape) -> Tensor:
            return torch.from_numpy(step_noise(seed, 0, number, shape[0], position, *shape[1:]))

        samples = sample(
            policy,
            condition=torch.from_numpy(texts.encode_pooled([str(int(action)) for action in batch]))[:, None],
            mask=None,
            initial_noise=torch.from_numpy(initial_noise(seed, 0, number, *shape)),
            step_noise=noise,
            stochastic=ancestral_positions(policy.num_steps) if noisy else (),
        )
        made.append(samples.motions.cpu().numpy())
    return np.concatenate(made)


def load_action_critic(settings: ActionCriticSettings, frames: int) -> MotionCritic:
    """The critic that the settings name.

    Raises:
        UserError: there is none, it is another network, or it takes fewer frames than motions have.
    """
    loaded = load_critic(settings.critic_model_path)
    if (most := loaded.critic.config.maxlen) < frames:
        raise UserError(f"num_frames is {frames}; the critic {loaded.source} takes at most {most}")
    return loaded.critic.requires_grad_(False)


def scores_in_batches(critic: MotionCritic, features: np.ndarray, batch_size: int) -> np.ndarray:
    """Scores [N] of features [N, T, 150] as the data has them."""
    with torch.inference_mode():
        parts = [
            scores_of_mdm(critic, mdm_of_features(torch.from_numpy(features[start : start + batch_size])))
            for start in range(0, len(features), batch_size)
        ]
    return torch.cat(parts).numpy()


def open_output(settings: OutputSettings) -> Path:
    """The empty folder of the results.

    Raises:
        UserError: it exists, and `overwrite` is not set.
    """
    folder = settings.save_dir
    if folder.exists() and any(folder.iterdir()):
        if not settings.overwrite:
            raise UserError(f"save_dir {folder} is not empty; give another one, or --overwrite")
        number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}.old-{n}").exists())
        folder.rename(folder.with_name(f"{folder.name}.old-{number}"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """A file of tensors and plain values, which `torch.load(weights_only=True)` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        torch.save(dict(content), file)
