"""GRPO in one process, for notebooks and scripts: one step at a time, without a cluster or a run directory.

    policy = load_policy(PolicySettings(use_lora=True), SamplingSettings(sampling_steps=10, guidance_scale=1.0))
    trainer = create_grpo_trainer(
        model=policy, reward_fn=create_tmr_reward_function(reward_type="cosine"), group_size=8,
        text_encoder=load_policy_text_encoder(PolicySettings()), learning_rate=2e-4,
    )
    metrics = trainer.step(["a person walks forward", "a person jumps"])

A step is what it is in a run of `jobs.grpo`: rollouts, rewards, advantages and update are the same functions. What a
run has beside them (evaluation, checkpoints, reports, recovery, several processes) is `jobs.grpo`'s alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learners.grpo.advantages import WeightedTerm, group_advantages
from learners.grpo.gradients.loss import gradient_kind
from learners.grpo.learner import GRPOLearner
from learners.grpo.motion_loss import reads_motions
from learners.grpo.settings import GRPOSettings
from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, Skeleton
from rewards.functions import RewardFunction
from rewards.messages import RewardError
from rewards.scorers import reward_weights
from rollouts.diffusion.policy import DiffusionPolicy, require_denoising
from rollouts.diffusion.requests import prompt_conditions
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.windows import trained_positions, window_positions
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import GroupMotions, RolloutRequest, TextCondition
from rollouts.networks.denoiser_network import DenoiserNetwork
from rollouts.policy import Policy
from rollouts.settings import SamplingSettings
from rollouts.text.encoders import TextEncoder

PlainReward = Callable[[Tensor, list[str]], Any]
"""Rewards [N] of motions [N, T, D] in physical units, and their texts."""
DEFAULT_FRAMES = 120
"""Frames of the motions of a text that says no length: six seconds of HumanML3D."""


class GRPOTrainer:
    """Trains a policy in place, a step at a time; `create_grpo_trainer` makes one.

    Args:
        learner: with the policy that is trained.
        reward_fn: one of `rewards.functions`, or a function of your own.
        text_encoder: the one that the policy was trained with.
        sampling: which steps of a rollout are stochastic, and which are trained.
        seed: of noise and of the window of stochastic steps.
    """

    def __init__(
        self,
        learner: GRPOLearner,
        reward_fn: RewardFunction | PlainReward,
        text_encoder: TextEncoder,
        sampling: SamplingSettings,
        seed: int = 10,
    ) -> None:
        if learner.settings.staleness:
            raise UserError("staleness is 1: here rollouts and updates take turns in one process; give staleness 0")
        self.learner = learner
        self.groups: list[GroupMotions] = []
        """The motions of the last step, a group for each prompt, in physical units."""
        self.rewards = np.zeros((0, 0), np.float32)
        """Their total rewards [P, N]."""
        self.num_steps = 0
        """Steps that were made."""
        self._reward_fn = reward_fn
        self._text_encoder = text_encoder
        self._sampling = sampling
        self._seed = seed
        self._worker = RolloutWorker(learner.policy)
        # Errors of the options are raised here.
        self._window()

    @property
    def policy(self) -> Policy:
        """The policy that is trained."""
        return self.learner.policy

    def step(self, prompts: Sequence[str | Prompt], num_frames: int = DEFAULT_FRAMES) -> dict[str, float]:
        """Samples `group_size` motions of each prompt, rewards them, and updates the policy once.

        Args:
            num_frames: length of the motions of prompts that are texts.

        Returns:
            Metrics: `mean_reward`, `std_reward`, those of the advantages as `advantage_NAME`, and those of
            `GRPOLearner.update`.

        Raises:
            UserError: a prompt that the policy cannot read, or options that do not fit each other.
            RewardError: rewards of another shape than [N], or not finite.
            RatioError, DivergenceError: see `GRPOLearner.update`.
        """
        if not prompts or isinstance(prompts, str):
            raise UserError(f"prompts are {prompts!r}; expected a list of at least one text")
        asked = [
            prompt if isinstance(prompt, Prompt) else Prompt(prompt, (Segment(prompt, num_frames),))
            for prompt in prompts
        ]
        conditions = prompt_conditions(self.policy, self._text_encoder, asked)
        version = self.learner.version()
        results = [
            self._worker.run(self._request(place, prompt, condition), version)
            for place, (prompt, condition) in enumerate(zip(asked, conditions, strict=True))
        ]
        self.groups = [motions for motions, _ in results]
        scored = [self._scored(group) for group in self.groups]
        self.rewards = np.stack([total for total, _ in scored])
        advantages = group_advantages(
            self.rewards, self.learner.settings, self._weighted([terms for _, terms in scored])
        )
        metrics = self.learner.update([trajectory for _, trajectory in results], advantages.values)
        self.num_steps += 1
        own = {"mean_reward": float(self.rewards.mean()), "std_reward": float(self.rewards.std())}
        return own | {f"advantage_{name}": value for name, value in advantages.metrics.items()} | metrics

    def _window(self) -> tuple[int, ...]:
        if reads_motions(self.learner.settings):
            return ()
        return window_positions(self._sampling, self.policy.num_steps, self._seed, self.num_steps)

    def _request(self, place: int, prompt: Prompt, condition: TextCondition) -> RolloutRequest:
        settings, stochastic = self.learner.settings, self._window()
        of_motions = reads_motions(settings)
        return RolloutRequest(
            step=self.num_steps,
            prompt_index=place,
            prompt=prompt,
            condition=condition,
            num_samples=settings.group_size,
            seed=self._seed,
            stochastic_steps=stochastic,
            trained_steps=trained_positions(self._sampling, stochastic, self._seed, self.num_steps, place),
            share_initial_noise=self._sampling.share_initial_noise and not of_motions,
            policy_version=self.learner.number,
            keep_motions=of_motions or settings.kl_chain_penalty > 0,
        )

    def _scored(self, group: GroupMotions) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        if isinstance(self._reward_fn, RewardFunction):
            mixed = self._reward_fn.score(group)
            return mixed.total, mixed.terms
        texts = [group.prompt.text] * len(group.features)
        given = self._reward_fn(torch.tensor(group.features), texts)
        total = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float32)
        if total.shape != (len(texts),) or not np.isfinite(total).all():
            raise RewardError(
                f"reward_fn gave {total.dtype} {total.shape} for {len(texts)} motions of {group.prompt.text!r}; "
                "expected one finite number for each"
            )
        return total, {}

    def _weighted(self, terms: Sequence[dict[str, np.ndarray]]) -> dict[str, WeightedTerm] | None:
        """The terms with a weight, for `advantage_terms each`; None where a function of one's own has none."""
        if not isinstance(self._reward_fn, RewardFunction):
            return None
        weights = reward_weights(self._reward_fn.settings)
        shared = [name for name in weights if all(name in own for own in terms)]
        return {name: WeightedTerm(weights[name], np.stack([own[name] for own in terms])) for name in shared}


def create_grpo_trainer(
    model: Policy | DenoiserNetwork,
    ref_model: Policy | DenoiserNetwork | None = None,
    diffusion: DiffusionSchedule | None = None,
    reward_fn: RewardFunction | PlainReward | None = None,
    group_size: int = 4,
    *,
    text_encoder: TextEncoder,
    sampling: SamplingSettings | None = None,
    normalizer: Normalizer | None = None,
    skeleton: Skeleton = HUMANML3D,
    seed: int = 10,
    **options: Any,
) -> GRPOTrainer:
    """A trainer for steps of GRPO in this process.

    Args:
        model: a policy of `load_policy`, or a network, which `diffusion` and `normalizer` then make a policy.
        ref_model: what the KL penalty refers to; by default the model as it is now, or without its adapters.
        diffusion: noise schedule of a network; a policy has its own.
        reward_fn: a function of `rewards.functions`, or one of motions [N, T, D] in physical units and N texts.
        group_size: samples of each prompt.
        text_encoder: the one that the policy was trained with; `load_policy_text_encoder` gives it.
        sampling: how rollouts denoise; of a policy its own.
        normalizer: statistics of a network's training.
        skeleton: of a network's motions.
        seed: of noise and of the window of stochastic steps.
        options: options of GRPO by their names on the command line, such as `learning_rate` or `kl_penalty`.

    Raises:
        UserError: an unknown option, or arguments that are missing or do not fit each other.
    """
    if reward_fn is None:
        raise UserError("reward_fn is missing: give one of create_tmr_reward_function, or a function of your own")
    settings = GRPOSettings.of(options, group_size=group_size)
    if gradient_kind(settings) is not None or settings.mdm_loss_weight:
        raise UserError(
            f"policy_loss is {settings.policy_loss} and mdm_loss_weight {settings.mdm_loss_weight:g}: losses that "
            "follow the reward's gradient, and their loss on clips, are jobs.grpo's alone"
        )
    parts = {"diffusion": diffusion, "sampling": sampling, "normalizer": normalizer}
    policy: Policy
    if not isinstance(model, DenoiserNetwork):
        given = [name for name, part in parts.items() if part is not None]
        own = model.schedule.num_steps if isinstance(model, DiffusionPolicy) else None
        if given == ["diffusion"] and diffusion is not None and diffusion.num_steps == own:
            given = []
        if given:
            raise UserError(f"{given[0]} is given, and the model is a policy, which has its own")
        policy = model
    else:
        policy = _policy(model, diffusion, sampling, normalizer, skeleton)
    reference: Policy | None = None
    if ref_model is not None and ref_model is not model:
        if isinstance(ref_model, DenoiserNetwork):
            schedule = diffusion or require_denoising(policy, "ref_model, a network,").schedule
            reference = _policy(ref_model, schedule, sampling, policy.normalizer, policy.skeleton)
        else:
            reference = ref_model
    chosen = policy.sampling if isinstance(policy.sampling, SamplingSettings) else SamplingSettings()
    learner = GRPOLearner(policy, settings, reference=reference, seed=seed)
    return GRPOTrainer(learner, reward_fn, text_encoder, chosen, seed)


def _policy(
    network: DenoiserNetwork,
    diffusion: DiffusionSchedule | None,
    sampling: SamplingSettings | None,
    normalizer: Normalizer | None,
    skeleton: Skeleton,
) -> DiffusionPolicy:
    if diffusion is None or normalizer is None:
        missing = "diffusion" if diffusion is None else "normalizer"
        raise UserError(f"{missing} is missing: a network needs its noise schedule and the statistics of its training")
    return DiffusionPolicy(network, diffusion, normalizer, skeleton, sampling or SamplingSettings())
