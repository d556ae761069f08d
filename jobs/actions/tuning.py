"""`jobs.tune_mdm`: tunes an MDM of HumanAct12 by a critic's gradient, with the actors of `jobs.grpo`.

Rollouts, learner, controller, run directory and report are those of every other tuning; what is special is the policy
(its condition is an action) and the reward (the critic's raw score of its rotations).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from cluster.records.opening import as_begun, inspect
from cluster.run.algorithm import Algorithm
from cluster.run.plan import Plan, Workload, cluster_resources
from cluster.run.roles import training_roles
from cluster.run.session import training_session
from cluster.runtime.protocol import Role
from jobs.actions.parts import ActionTexts, load_action_critic, load_action_policy
from jobs.actions.settings import TuneMDMConfig
from jobs.actions.training import fingerprint_of, save_action_mdm
from jobs.command_line import main as cli
from jobs.report import write_report
from jobs.report.records import write_rewards
from learners.grpo.advantages import Advantages, group_advantages
from learners.grpo.gradients import loss as gradient_losses
from learners.grpo.gradients.loss import gradient_kind, parts_of_update
from learners.grpo.learner import GRPOLearner
from learners.supervised.policy_loss import ClipLoss
from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment
from rewards.actions.classifier import ACTIONS
from rewards.actions.humanact12 import NUM_FEATURES, read_humanact12
from rewards.actions.rotation_critic import RotationCritic
from rewards.messages import RewardTerms
from rewards.mixing import MixedRewards
from rollouts.diffusion.noise import levels_generator, plan_generator
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.requests import evaluation_requests
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import PolicyVersion, RolloutRequest, TextCondition
from rollouts.networks.action_mdm import ActionMDM
from rollouts.text.encoders import TextEncoder

_EVAL_SEED = 1000
_REWARD = {
    "name": "critic",
    "label": "critic",
    "weight": 1.0,
    "differentiable": True,
    "terms": {"critic": {"meaning": "Score of the critic", "better": "higher", "own_scale": True, "like_real": False}},
}


@dataclass(frozen=True)
class PreparedTuning:
    """A tuning that is checked and could start."""

    config: TuneMDMConfig
    batches: ActionBatches
    policy: DiffusionPolicy
    """For exports."""
    roles: list[Role]
    workload: Workload
    algorithm: Algorithm


def run(config: TuneMDMConfig) -> None:
    """Tunes; `save_dir` is a run directory with checkpoints, metrics and report, and the tuned model on top."""
    prepared = prepare(config)
    config = prepared.config
    session = training_session(
        config.cluster,
        config.run,
        config,
        prepared.roles,
        prepared.workload,
        prepared.algorithm,
        prepared.batches.fingerprint,
    )
    with session as controller:
        write_rewards(config.run.save_dir, [_REWARD])
        controller.run()
        export_policy(prepared.policy, controller.final_policy(), config.run.save_dir)
    print(f"report: {write_report(config.run.save_dir)}")


def dry_run(config: TuneMDMConfig) -> None:
    """Loads everything once, and prints settings and plan."""
    prepared = prepare(config)
    plan = Plan(tuple(prepared.roles), prepared.workload)
    resources = cluster_resources(prepared.config.cluster, plan)
    print(cli.settings_yaml(prepared.config))
    print("\n".join(plan.lines(resources)))
    plan.check(resources)


def prepare(config: TuneMDMConfig) -> PreparedTuning:
    """Loads and checks everything; nothing has been started or written.

    Raises:
        UserError: a file or an option is wrong.
    """
    config = as_begun(config.run, config)
    inspect(config.run, config=config)
    settings = config.effective
    if gradient_kind(settings) is None:
        raise UserError(
            f"policy_loss is {settings.policy_loss}; this job follows the critic's gradient: refl, draft, align_prop, "
            "easytune or opsd"
        )
    if config.grpo.kl_penalty and not config.use_kl_loss:
        print(f"kl_scale {config.grpo.kl_penalty:g} has no effect without --use_kl_loss")
    policy = load_action_policy(config.policy.model_path, config.policy.sampling_steps)
    gradient_losses.require_legal(settings, policy.num_steps)
    load_action_critic(config.critic, config.data.num_frames)
    batches = ActionBatches(config, policy)
    roles = training_roles(
        config.cluster,
        functools.partial(build_rollout_worker, config),
        {"critic": functools.partial(build_critic, config)},
        functools.partial(build_learner, config),
    )
    algorithm = Algorithm(
        batches=batches,
        scorers=("critic",),
        combine=combine,
        advantages=functools.partial(advantages_of, config),
        export=functools.partial(export_policy, policy),
        after_evaluation=functools.partial(report_of, config),
        staleness=settings.staleness,
    )
    first = batches.requests(0, 0)
    parameters = sum(parameter.numel() for parameter in policy.network.parameters())
    workload = Workload(
        num_prompts=config.batch_size,
        group_size=settings.group_size,
        trained_steps=len(first[0].kept_steps),
        denoising_steps=policy.num_steps,
        guided=False,
        max_frames=config.data.num_frames,
        num_features=NUM_FEATURES,
        text_elements=len(ACTIONS),
        model_parameters=parameters,
        trainable_parameters=parameters,
        num_epochs=settings.num_epochs,
        groups_per_optimizer_step=settings.groups_per_optimizer_step,
        micro_batch_size=settings.micro_batch_size,
        num_eval_groups=len(ACTIONS),
        num_parts=parts_of_update(settings, policy.num_steps),
        staleness=settings.staleness,
    )
    return PreparedTuning(config, batches, policy, roles, workload, algorithm)


class ActionBatches:
    """Requests of every step: drawn actions as often as the data has them; evaluations have each action once."""

    def __init__(self, config: TuneMDMConfig, policy: DiffusionPolicy) -> None:
        clips = read_humanact12(config.data.data_dir)
        self.fingerprint = fingerprint_of(clips)
        self._config = config
        self._settings = config.effective
        self._num_steps = policy.num_steps
        self._actions = clips.actions
        self._texts = ActionTexts(policy.network.text_dim)
        self._texts.encode_pooled([str(int(action)) for action in np.unique(clips.actions)])  # the policy knows them

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        """The groups of a training step, counted from 0."""
        seed, kind = self._config.run.seed, gradient_kind(self._settings)
        assert kind is not None
        kept = kind.positions(self._settings, self._num_steps, levels_generator(seed, step, 0))
        drawn = plan_generator(seed, step).choice(self._actions, size=self._config.batch_size)
        return [
            RolloutRequest(
                step=step,
                prompt_index=place,
                prompt=self._prompt(int(action)),
                condition=self._condition(int(action)),
                num_samples=self._settings.group_size,
                seed=seed,
                stochastic_steps=() if self._settings.ddim_sampling else tuple(range(kept[0])),
                trained_steps=(),
                share_initial_noise=False,
                policy_version=policy_version,
                keep_motions=self._settings.kl_chain_penalty > 0,
                kept_steps=kept,
            )
            for place, action in enumerate(drawn)
        ]

    def evaluation(self, policy_version: int) -> list[RolloutRequest]:
        """Every action of the data, denoised without noise but the initial one, the same each time."""
        actions = [int(action) for action in np.unique(self._actions)]
        return evaluation_requests(
            [self._prompt(action) for action in actions],
            [self._condition(action) for action in actions],
            self._settings.group_size,
            _EVAL_SEED,
            policy_version,
        )

    def _prompt(self, action: int) -> Prompt:
        name = ACTIONS[action]
        return Prompt(name, (Segment(name, self._config.data.num_frames),))

    def _condition(self, action: int) -> TextCondition:
        return TextCondition(self._texts.encode_pooled([str(action)]))


def build_rollout_worker(config: TuneMDMConfig) -> RolloutWorker:
    """The object of a rollout actor."""
    return RolloutWorker(load_action_policy(config.policy.model_path, config.policy.sampling_steps))


def build_critic(config: TuneMDMConfig) -> RotationCritic:
    """The object of a reward actor."""
    return RotationCritic(load_action_critic(config.critic, config.data.num_frames))


def build_learner(config: TuneMDMConfig) -> GRPOLearner:
    """The object of the learner actor."""
    policy = load_action_policy(config.policy.model_path, config.policy.sampling_steps)
    settings, clip_loss = config.effective, None
    steps = settings.optimizer_steps(config.batch_size, parts_of_update(settings, policy.num_steps))
    if settings.mdm_loss_weight:
        clip_loss = ClipLoss(
            read_humanact12(config.data.data_dir).items(config.data.num_frames),
            cast("TextEncoder", ActionTexts(policy.network.text_dim)),  # of which pooled embeddings are read
            batch_size=settings.mdm_batch_size,
            max_frames=config.data.num_frames,
            seed=config.run.seed,
        )
    return GRPOLearner(
        policy,
        settings,
        total_steps=config.run.num_steps * steps,
        seed=config.run.seed,
        reward=build_critic(config).score_with_gradient,
        clip_loss=clip_loss,
    )


def combine(results: Sequence[RewardTerms], prompt_text: str) -> MixedRewards:
    """The critic's score is the total."""
    (critic,) = results
    return MixedRewards(critic.terms["critic"], critic.terms)


def advantages_of(config: TuneMDMConfig, total: np.ndarray, terms: dict[str, np.ndarray]) -> Advantages:
    """Advantages, which only say how the motions of an action differ."""
    return group_advantages(total, config.effective)


def export_policy(policy: DiffusionPolicy, version: PolicyVersion, folder: Path) -> None:
    """Writes a version's `model#########.pt` and args.json."""
    policy.load_weights(version.weights)
    assert isinstance(policy.network, ActionMDM)
    save_action_mdm(folder, version.number, policy.network, policy.schedule)


def report_of(config: TuneMDMConfig, step: int) -> None:
    """Writes `report.html` of a run that goes on."""
    write_report(config.run.save_dir)
