"""Prompts of a GRPO run, and the rollout requests of its steps."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jobs.configs.generate import GenerateDenoisingSettings
from jobs.configs.grpo import GRPOConfig
from jobs.text.generation import recorded_sampler
from learners.grpo.gradients.loss import gradient_kind
from learners.grpo.motion_loss import reads_motions, require_legal
from motions.base.errors import UserError
from motions.data.composites import NoCompositeError
from motions.data.dataset import MotionDataset, load_dataset
from motions.data.prompts import Prompt, load_prompts
from motions.skeleton.skeletons import Skeleton
from rollouts.checkpoints.loading import is_one_action, open_base, open_policy
from rollouts.diffusion.noise import levels_generator
from rollouts.diffusion.requests import evaluation_requests, prompt_conditions
from rollouts.diffusion.windows import ancestral_positions, trained_positions, window_positions
from rollouts.messages import RolloutRequest, TextCondition
from rollouts.policy import Policy
from rollouts.refining.policy import RefiningPolicy
from rollouts.settings import Denoising, PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder


def training_prompts(config: GRPOConfig, skeleton: Skeleton) -> list[Prompt]:
    """The training prompts: those of a file, or captions of the data's training split; a function of the seed.

    Raises:
        UserError: an unreadable or empty file, a prompt without frames, data of another skeleton, or another number of
            segments than `composite_k_segments` says (which applies to `composite_data_path` and composites of the
            data, not to other files).
    """
    settings = config.prompts
    if path := settings.composite_data_path:
        return _read("composite_data_path", path, skeleton, settings.composite_k_segments)[: settings.num_prompts]
    if path := settings.prompts_path:
        return _read("prompts_path", path, skeleton)[: settings.num_prompts]
    return _draw("train", settings.num_prompts, config.run.seed, skeleton, config, distinct=False)


def evaluation_prompts(config: GRPOConfig, skeleton: Skeleton) -> list[Prompt]:
    """The evaluation prompts: those of a file, or captions of the held-out split; a function of `eval_seed`.

    Raises:
        UserError: for the same reasons as `training_prompts`.
    """
    settings = config.evaluation
    if settings.eval_prompts_path is not None:
        return _read("eval_prompts_path", settings.eval_prompts_path, skeleton)[: settings.num_eval_prompts]
    return _draw("test", settings.num_eval_prompts, settings.eval_seed, skeleton, config, distinct=True)


def training_source(config: GRPOConfig) -> str:
    """Description of where the training prompts come from, for messages."""
    for option in ("composite_data_path", "prompts_path"):
        if path := getattr(config.prompts, option):
            return f"{option} {path}"
    return f"captions of dataset {config.data.dataset}"


def evaluation_source(config: GRPOConfig) -> str:
    """Description of where the evaluation prompts come from, for messages."""
    if path := config.evaluation.eval_prompts_path:
        return f"eval_prompts_path {path}"
    return f"held-out captions of dataset {config.data.dataset}"


def load_matching_dataset(config: GRPOConfig, skeleton: Skeleton) -> MotionDataset:
    """The dataset of the configuration.

    Raises:
        UserError: its skeleton is not the policy's.
    """
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    if dataset.skeleton != skeleton:
        raise UserError(
            f"dataset {config.data.dataset} has skeleton {dataset.skeleton.name}, the policy {skeleton.name}; give "
            "data of the policy's skeleton, or prompts_path and eval_prompts_path"
        )
    return dataset


def missing_windows(config: GRPOConfig, skeleton: Skeleton) -> str | None:
    """The reason why there are no held-out windows, which FID needs; None if there are.

    Prompts from files need no data, so the data may be missing, of another skeleton, or without a test split.
    """
    if config.evaluation.eval_prompts_path is None:
        return None
    try:
        load_matching_dataset(config, skeleton).items("test")
    except ValueError as error:
        return str(error)
    return None


def seen_captions(config: GRPOConfig, skeleton: Skeleton) -> str | None:
    """What to say where held-out captions of the data are training captions, too; None where none are."""
    if config.evaluation.eval_prompts_path is not None:
        return None
    return load_matching_dataset(config, skeleton).seen_in_training("test")


Reader = Callable[[Sequence[Prompt]], list[TextCondition]]
"""Prompts to what the policy reads of them."""


class PromptBatches:
    """Requests of every step: `batch_size` prompts from shuffled passes over all prompts, a function of (seed, step).

    Args:
        encode: prompts as the policy reads them.
        num_denoising_steps: number of steps of the policy's (respaced) schedule.
        whole_texts: the held-out prompts, each read as one text, where the policy reads segments and can read that.

    Raises:
        PromptTooLongError: a prompt is over the text encoder's limit.
        UserError: the SDE window does not fit into the denoising steps, an option is out of the policy loss's range,
            the chain of a KL penalty has one step, or rollouts have a sampler or denoising steps of their own although
            the policy loss trains those of the policy.
    """

    def __init__(
        self,
        config: GRPOConfig,
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt],
        encode: Reader,
        num_denoising_steps: int,
        whole_texts: Sequence[TextCondition] | None = None,
    ) -> None:
        self.prompts = tuple(prompts)
        self.held_out = tuple(held_out)
        self._config = config
        self._num_denoising_steps = num_denoising_steps
        self._conditions, self._held_out_conditions = encode(prompts), encode(held_out)
        self._whole_texts = whole_texts
        self._reads_motions = reads_motions(config.grpo)
        self._kind = gradient_kind(config.grpo)
        if config.grpo.kl_chain_penalty and num_denoising_steps < 2:
            raise UserError(
                "kl_chain_penalty: the only step is noiseless and has no KL; give at least 2 sampling_steps"
            )
        if self._reads_motions:
            require_legal(config.grpo, num_denoising_steps)
            return
        for option, own in (("rollout_sampling_steps", "sampling_steps"), ("rollout_sampler", "sampler")):
            if (value := getattr(config.sampling, option)) is not None:
                raise UserError(
                    f"{option} is {value}; policy_loss {config.grpo.policy_loss} trains the denoising steps of the "
                    f"rollout, which are those of {own}. Only losses of final motions (nft, awm, dgpo) take rollouts "
                    "of other steps"
                )
        if self._kind is None:
            window_positions(config.sampling, num_denoising_steps, config.run.seed, 0)

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        """The groups of a training step, counted from 0.

        Where the policy loss reads final motions or follows the reward's gradient, each sample has initial noise of its
        own, and rollouts are deterministic unless `ddim_sampling` is off.
        """
        config = self._config
        kept: tuple[int, ...] = ()
        if self._reads_motions:
            stochastic = ()
        elif self._kind is not None:
            rng = levels_generator(config.run.seed, step, 0)
            kept = self._kind.positions(config.grpo, self._num_denoising_steps, rng)
            stochastic = () if config.grpo.ddim_sampling else tuple(range(kept[0]))
        else:
            stochastic = window_positions(config.sampling, self._num_denoising_steps, config.run.seed, step)
        return [
            RolloutRequest(
                step=step,
                prompt_index=place,
                prompt=self.prompts[index],
                condition=self._conditions[index],
                num_samples=config.grpo.group_size,
                seed=config.run.seed,
                stochastic_steps=stochastic,
                trained_steps=()
                if kept
                else trained_positions(config.sampling, stochastic, config.run.seed, step, place),
                share_initial_noise=config.sampling.share_initial_noise and not (self._reads_motions or kept),
                policy_version=policy_version,
                denoising=config.sampling.rollout,
                keep_motions=self._reads_motions or config.grpo.kl_chain_penalty > 0,
                kept_steps=kept,
            )
            for place, index in enumerate(self._chosen(step))
        ]

    @property
    def has_whole_texts(self) -> bool:
        """Whether the policy reads segments, and the held-out prompts as whole texts too if it is asked to."""
        return self._whole_texts is not None

    def evaluation(
        self,
        policy_version: int,
        denoising: Denoising | None = None,
        num_samples: int | None = None,
        *,
        whole_texts: bool = False,
    ) -> list[RolloutRequest]:
        """The groups of every evaluation: the same prompts and noise each time.

        Args:
            denoising: another way to denoise than that of evaluations.
            num_samples: another number of motions per prompt.
            whole_texts: read each prompt as one text, if there are such.
        """
        conditions = self._held_out_conditions if self._whole_texts is None or not whole_texts else self._whole_texts
        settings = self._config.evaluation
        denoising = denoising or self._config.sampling.evaluation
        steps = denoising.sampling_steps or self._num_denoising_steps
        return evaluation_requests(
            self.held_out,
            conditions,
            num_samples or settings.num_eval_samples,
            settings.eval_seed,
            policy_version,
            stochastic_steps=ancestral_positions(steps) if denoising.eta else (),
            denoising=denoising,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all prompts: a resumed run must have the same prompts."""
        return hashlib.sha256(repr((self.prompts, self.held_out)).encode()).hexdigest()

    def _chosen(self, step: int) -> list[int]:
        """Indices of a step's prompts: position k of the run is position k mod P of pass k // P."""
        count, size = len(self.prompts), self._config.prompts.batch_size
        places = range(step * size, (step + 1) * size)
        orders = {
            number: np.random.default_rng([self._config.run.seed, number]).permutation(count)
            for number in {place // count for place in places}
        }
        return [int(orders[place // count][place % count]) for place in places]


def _draw(
    split: str, num_prompts: int, seed: int, skeleton: Skeleton, config: GRPOConfig, *, distinct: bool
) -> list[Prompt]:
    dataset = load_matching_dataset(config, skeleton)
    if split == "train" and config.prompts.leave_out_clips:
        dataset = dataset.without(config.prompts.leave_out_clips)
    num_segments, max_frames = config.prompts.composite_k_segments, config.rewards.max_motion_length
    try:
        return dataset.prompts(
            split,
            num_prompts,
            1.0 if config.prompts.use_composite_dataset else config.prompts.composite_fraction,
            np.random.default_rng(seed),
            num_segments=num_segments,
            max_frames=max_frames,
            distinct=distinct,
        )
    except NoCompositeError as error:
        number = "" if num_segments is None else f" and composite_k_segments {num_segments}"
        raise UserError(
            f"max_motion_length is {max_frames}{number}, of which no composite prompts can be made: {error}; give a "
            "larger max_motion_length, fewer segments, or composite_fraction 0 without use_composite_dataset"
        ) from error


def _read(option: str, path: Path, skeleton: Skeleton, num_segments: int | None = None) -> list[Prompt]:
    try:
        prompts = load_prompts(path, skeleton.fps, num_segments=num_segments)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error
    if not prompts:
        raise UserError(f"{option}: {path} holds no prompt")
    return prompts


def reader(config: GRPOConfig, policy: Policy, encoder: TextEncoder) -> Reader:
    """What makes the conditions of prompts: their texts, or for a refiner the base's motions.

    The base generates as `jobs.generate` does by default, with noise by `eval_seed`: the held-out motions are the same
    for all seeds of a training.

    Raises:
        UserError: the base cannot be loaded.
    """
    if not isinstance(policy, RefiningPolicy):
        return functools.partial(prompt_conditions, policy, encoder)
    settings = base_settings(config.policy)
    denoising = GenerateDenoisingSettings(device=config.sampling.device)
    if not is_one_action(settings):
        denoising = recorded_sampler(settings.model_path, denoising)
    base = open_policy(open_base(settings), settings, SamplingSettings(**denoising.model_dump()))
    return functools.partial(policy.conditions, base, encoder, seed=config.evaluation.eval_seed)


def base_settings(settings: PolicySettings) -> PolicySettings:
    """The settings of the base alone: what learns is of the refiner."""
    alone = {"policy_type": "auto", "refiner_path": None, "use_lora": False, "adapter_path": None}
    return settings.model_copy(update=alone)
