"""A run of `jobs.grpo`: what it loads and checks, how it trains, and what it measures and leaves."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cluster.records.checkpoints import last_commit
from cluster.records.opening import Opening, as_begun, inspect
from cluster.run.algorithm import Algorithm
from cluster.run.controller import Controller
from cluster.run.plan import Plan, Workload, cluster_resources
from cluster.run.roles import training_roles
from cluster.run.session import training_session
from cluster.runtime.protocol import Role
from jobs.command_line import main as cli
from jobs.configs.data import MDM_DATASETS
from jobs.configs.grpo import GRPOConfig
from jobs.report import write_report
from jobs.report.records import write_rewards
from jobs.text import grpo_actors
from jobs.text.early_checks import check_cheaply, check_loss_of_one_action, of_one_action
from jobs.text.grpo_measurement import HackingWatch, Instruments, Measurement, evidence_lines, prepare_instruments
from jobs.text.grpo_prompts import (
    PromptBatches,
    evaluation_prompts,
    evaluation_source,
    load_matching_dataset,
    reader,
    seen_captions,
    training_prompts,
    training_source,
)
from learners.grpo.forecast import Trained, forecast
from learners.grpo.gradients import loss as gradient_losses
from learners.grpo.gradients.loss import gradient_kind, parts_of_update
from learners.grpo.motion_loss import IGNORED_OPTIONS, reads_motions
from learners.grpo.objective import require_legal_staleness
from motions.base.errors import UserError
from motions.data.prompts import Prompt
from motions.settings import BUILTIN
from motions.skeleton.skeletons import Skeleton
from rewards.declared.physics import BUILTIN_CONSTANTS, PhysicsConstants
from rewards.evaluation.prompt_checks import check_prompts
from rewards.evaluation.text import load_judge
from rewards.gradients import require_differentiable
from rewards.physics.calibration import calibrate, read_constants, write_constants
from rewards.scorers import LimitsPrompts, build_limiting_scorers, build_scorers, described_rewards, rewards_of
from rewards.settings import RewardSettings
from rewards.tmr.scorer import Embedder
from rollouts.checkpoints.loading import (
    LoadedBase,
    is_one_action,
    load_policy_text_encoder,
    load_reference,
    with_statistics_of,
)
from rollouts.checkpoints.mdm_files import LoadedMDM
from rollouts.checkpoints.motion_ssm_files import LoadedMotionSSM
from rollouts.devices import require_device
from rollouts.messages import PolicyVersion, TextCondition
from rollouts.one_action.requirements import require_latent
from rollouts.policy import Policy
from rollouts.refining.opening import LoadedRefiner, open_trained, open_trained_policy
from rollouts.text.encoders import PromptTooLongError, TextEncoder

CHECKED_PROMPTS = 512
"""Prompts drawn from the data that a dry run checks."""


@dataclass(frozen=True)
class PreparedRun:
    """A run that is checked and could start."""

    config: GRPOConfig
    opening: Opening
    batches: PromptBatches
    roles: list[Role]
    workload: Workload
    algorithm: Algorithm
    export: grpo_actors.PolicyExport
    base: PolicyVersion
    policy: Policy
    """On the CPU, for exports and measurements."""
    instruments: Instruments
    constants: PhysicsConstants
    """Of the physics reward, for this data."""
    all_steps: int
    """Denoising steps of the policy's model."""


def run(config: GRPOConfig) -> None:
    """Trains, evaluates, exports and reports."""
    prepared = prepare(config)
    config = prepared.config
    parts = (prepared.roles, prepared.workload, prepared.algorithm, prepared.batches.fingerprint)
    with training_session(config.cluster, config.run, config, *parts) as controller:
        write_rewards(config.run.save_dir, described_rewards(config.rewards))
        write_constants(config.run.save_dir, prepared.constants)
        controller.run()
        finish(prepared, controller)
    print(f"report: {write_report(config.run.save_dir)}")


def dry_run(config: GRPOConfig) -> None:
    """Print settings and plan; load everything once that the actors will load. Starts no cluster and writes nothing.

    Raises:
        UserError: a file, prompt or option is wrong, or the run directory cannot be used.
        StartError: the cluster, or this machine where there is none, is too small.
    """
    prepared = prepare(config, most_drawn=CHECKED_PROMPTS)
    config = prepared.config
    print(cli.settings_yaml(config))
    print(f"\nsave_dir {config.run.save_dir}: {prepared.opening}")
    checked = len(prepared.batches.prompts), len(prepared.batches.held_out)
    print(f"{checked[0]} prompts to learn on, {checked[1]} to measure with: their texts and lengths are legal")
    for reward in described_rewards(config.rewards):
        gradient = "has a gradient" if reward["differentiable"] else "has no gradient"
        print(f"reward {reward['name']}: weight {reward['weight']:g}, {gradient}; terms {', '.join(reward['terms'])}")
    plan = Plan(tuple(prepared.roles), prepared.workload)
    resources = cluster_resources(config.cluster, plan)
    print("\n".join(plan.lines(resources)))
    plan.check(resources)


def prepare(config: GRPOConfig, most_drawn: int | None = None) -> PreparedRun:
    """Loads policy, rewards and prompts, says what was loaded, and lays out roles, workload and algorithm.

    Args:
        most_drawn: largest number of prompts that are drawn from the data, which takes milliseconds each.

    Raises:
        UserError: whatever is wrong with files, prompts or options; nothing has been started or written.
    """
    config = as_begun(config.run, config)
    if config.data.dataset in MDM_DATASETS:
        config = config.model_copy(update={"policy": with_statistics_of(config.policy, config.data.data_source)})
    one_action = is_one_action(config.policy)
    if one_action:
        config = of_one_action(config)
    opening = inspect(config.run, config=config)
    check_devices(config)
    check_cheaply(config)
    rewards_of(config.rewards)  # those that can be imported, of which one has a weight
    check_policy_loss(config)
    if one_action:
        check_loss_of_one_action(config)
    loaded = open_trained(config.policy)
    if isinstance(loaded, LoadedMotionSSM):
        require_latent(loaded.network)
    policy = build_idle_policy(config, loaded)
    if gradient_kind(config.grpo) is not None:
        gradient_losses.require_legal(config.grpo, policy.num_steps)
    load_reference(config.policy, policy, config.sampling)  # one that does not fit is found here
    encoder = load_policy_text_encoder(config.policy)
    drawn = config if most_drawn is None else with_few_drawn_prompts(config, most_drawn)
    prompts, held_out = training_prompts(drawn, policy.skeleton), evaluation_prompts(drawn, policy.skeleton)
    if (seen := seen_captions(config, policy.skeleton)) is not None:
        print(f"dataset {config.data.dataset}: {seen}")
    rewards = load_rewards(config, policy.skeleton)
    print(f"policy: {loaded.report}")
    print("\n".join(_forecast(config, policy, resumed=opening == "resume")))
    for network in rewards.networks.values():
        print(f"reward: {network.report}")
    if rewards.judge is not None:
        print(f"judge: {rewards.judge.report}")
    instruments = prepare_instruments(config, policy.skeleton, rewards.judge, rewards.networks)
    for line in evidence_lines(instruments):
        print(line)
    for source, chosen in ((training_source(config), prompts), (evaluation_source(config), held_out)):
        check_prompts(source, chosen, policy.max_frames, rewards.limiting.values(), rewards.judge)
    encode = reader(config, policy, encoder)
    whole_texts = read_as_whole_texts(policy, encoder, held_out) if policy.max_frames is None else None
    batches = PromptBatches(config, prompts, held_out, encode, policy.num_steps, whole_texts)
    scorers = build_scorers(rewards.settings, policy.skeleton, config.policy)
    if reads_motions(config.grpo):
        print(f"policy_loss {config.grpo.policy_loss}: {IGNORED_OPTIONS}")
    if gradient_kind(config.grpo) is not None:
        print(f"policy_loss {config.grpo.policy_loss}: {gradient_losses.IGNORED_OPTIONS}")
        if config.grpo.mdm_loss_weight:
            grpo_actors.build_clip_loss(config, policy)  # data that does not fit is found here
    export = grpo_actors.PolicyExport(config, policy, encoder)
    return PreparedRun(
        config=config,
        opening=opening,
        batches=batches,
        roles=training_roles(
            config.cluster,
            functools.partial(grpo_actors.build_rollout_worker, config),
            scorers,
            functools.partial(grpo_actors.build_learner, config, rewards.settings),
        ),
        workload=_workload(config, batches, policy),
        algorithm=Algorithm(
            batches=batches,
            scorers=tuple(scorers),
            combine=functools.partial(grpo_actors.mix_rewards, config.rewards),
            advantages=functools.partial(grpo_actors.step_advantages, config),
            on_reward_error=config.rewards.on_reward_error,
            export=export,
            beside_rewards=instruments.terms,
            after_evaluation=functools.partial(after_evaluation, config, HackingWatch(config, instruments, held_out)),
            staleness=config.grpo.staleness,
        ),
        export=export,
        base=PolicyVersion(0, policy.weights()),
        policy=policy,
        instruments=instruments,
        constants=rewards.constants,
        all_steps=loaded.schedule.num_steps if isinstance(loaded, LoadedMDM) else policy.num_steps,
    )


def build_idle_policy(config: GRPOConfig, loaded: LoadedBase | LoadedRefiner) -> Policy:
    """The policy for a process that reads shapes from it and writes exports with it: it takes no GPU.

    Raises:
        UserError: evaluation or rollouts are to denoise as the policy cannot.
    """
    policy = open_trained_policy(loaded, config.policy, config.sampling.model_copy(update={"device": "cpu"}))
    for prefix, denoising in (("eval", config.sampling.evaluation), ("rollout", config.sampling.rollout)):
        try:
            if denoising is not None:
                policy.denoising(denoising)
        except UserError as error:
            raise UserError(f"{prefix}_{error}") from error
    return policy


@dataclass(frozen=True)
class LoadedRewards:
    """What the reward actors will load, loaded here once, so that a wrong file is found before anything starts."""

    settings: RewardSettings
    """With the constants of the physics reward."""
    constants: PhysicsConstants
    limiting: dict[str, LimitsPrompts]
    """Scorers that say which prompts they cannot score, by name."""
    networks: dict[str, Embedder]
    """Retrieval networks among them."""
    judge: Embedder | None


def load_rewards(config: GRPOConfig, skeleton: Skeleton) -> LoadedRewards:
    """Loads rewards and judge.

    Raises:
        UserError: a file is wrong, or the judge is the network of a reward.
    """
    constants = physics_constants(config, skeleton)
    rewards = config.rewards.model_copy(update={"physics": config.rewards.physics.model_copy(update=asdict(constants))})
    limiting = build_limiting_scorers(rewards, skeleton, config.policy)
    embedders = {name: getattr(scorer, "embedder", None) for name, scorer in limiting.items()}
    networks = {name: found for name, found in embedders.items() if isinstance(found, Embedder)}
    judge = load_judge(config.evaluation.judge_path, skeleton, config.policy, config.evaluation.judge_text_model)
    if judge is not None and any(judge.has_weights_of(network) for network in networks.values()):
        raise UserError(
            f"judge_path {config.evaluation.judge_path}: these are the weights of the reward, which cannot judge what "
            "it trained; give another retrieval model, or none"
        )
    return LoadedRewards(rewards, constants, limiting, networks, judge)


def read_as_whole_texts(policy: Policy, encoder: TextEncoder, prompts: Sequence[Prompt]) -> list[TextCondition] | None:
    """Every prompt as one text for all its frames; None where all have one segment, or one is too long for that."""
    if all(len(prompt.segments) == 1 for prompt in prompts):
        return None
    if any(prompt.num_frames > policy.most_frames_at_once for prompt in prompts):
        return None
    try:
        return encoder.conditions([prompt.text for prompt in prompts], policy.network.text_form)
    except PromptTooLongError:
        return None


def with_few_drawn_prompts(config: GRPOConfig, most: int) -> GRPOConfig:
    """The options with at most so many prompts that are drawn from the data: the first that the run draws."""
    prompts, evaluation = config.prompts, config.evaluation
    if prompts.prompts_path is None and prompts.composite_data_path is None:
        prompts = prompts.model_copy(update={"num_prompts": min(prompts.num_prompts, most)})
    if evaluation.eval_prompts_path is None:
        few = min(evaluation.num_eval_prompts, most)
        evaluation = evaluation.model_copy(update={"num_eval_prompts": few})
    return config.model_copy(update={"prompts": prompts, "evaluation": evaluation})


def _forecast(config: GRPOConfig, policy: Policy, resumed: bool) -> list[str]:
    """Sentences about the run's updates: the course of the learning rate, and what has no effect."""
    options = config.policy
    commit = last_commit(config.run.save_dir) if resumed else None
    trained = Trained(
        width=policy.network.hidden_size,
        lora_scale=options.lora_alpha / math.sqrt(options.lora_r) if options.use_lora else None,
    )
    done = 0 if commit is None else commit.step
    parts = parts_of_update(config.grpo, policy.num_steps)
    return forecast(config.grpo, config.run.num_steps, config.prompts.batch_size, trained, done, parts)


def physics_constants(config: GRPOConfig, skeleton: Skeleton) -> PhysicsConstants:
    """The constants of the physics reward: those that are given, else those that the run has kept, else measured on the
    training data; of the built-in data where there is no other. Says what was measured."""
    own, kept = config.rewards.physics, read_constants(config.run.save_dir) if config.run.resume else None
    if kept is not None or config.data.dataset == BUILTIN or own.is_calibrated:
        return own.over(kept or BUILTIN_CONSTANTS)
    try:
        found = own.over(calibrate(load_matching_dataset(config, skeleton).items("train"), skeleton))
    except ValueError as error:
        print(f"the physics reward has the constants of the built-in data: {error}")
        return own.constants
    words = ", ".join(f"{name} {value:g}" for name, value in asdict(found).items())
    print(f"the physics reward, measured on {config.data.dataset}: {words}")
    return found


def check_policy_loss(config: GRPOConfig) -> None:
    """Checks that the policy loss exists and has what it needs.

    Raises:
        UserError: it follows the gradient of a reward that has none, an option belongs to such losses only, or it
            cannot use stale rollouts.
    """
    require_legal_staleness(config.grpo, config.sampling.amp_dtype)
    if gradient_kind(config.grpo) is not None:
        require_differentiable(config.rewards, f"policy_loss {config.grpo.policy_loss}")
    elif config.grpo.mdm_loss_weight:
        raise UserError(
            f"mdm_loss_weight is {config.grpo.mdm_loss_weight:g}; policy_loss {config.grpo.policy_loss} has no such "
            "part, only losses that follow the reward's gradient (refl, draft, align_prop, easytune, opsd)"
        )


def check_devices(config: GRPOConfig) -> None:
    """Checks that the actors will have the devices of the options.

    Raises:
        UserError: they will not.
    """
    cluster = config.cluster
    places = (
        ("device", config.sampling.device, ("gpus_per_rollout_actor", "gpus_per_learner")),
        ("reward_device", config.rewards.reward_device, ("gpus_per_reward_actor",)),
    )
    for option, name, reserving in places:
        on_ray = cluster.runtime == "ray"
        require_device(option, name, {key: getattr(cluster, key) for key in reserving} if on_ray else None)


def after_evaluation(config: GRPOConfig, watch: HackingWatch, step: int) -> bool:
    """Writes `report.html` of a run that goes on; whether it should end for signs of hacking."""
    write_report(config.run.save_dir)
    return watch()


def finish(prepared: PreparedRun, controller: Controller) -> None:
    """Exports the policy to the top of the run directory, and measures it before and after on the held-out prompts.

    Raises:
        RunFailed: the learner, a rollout or a reward failed for good; the export is complete if the learner did not.
        UserError: nothing is left to compare, as every prompt lost its group before or after.
    """
    config = prepared.config
    final = controller.final_policy()
    # First of all: a measurement that fails must not cost the training its result.
    print(f"trained policy: {prepared.export.finish(final, config.run.save_dir)}")
    measurement = Measurement(
        config,
        prepared.instruments,
        prepared.batches,
        controller,
        policy=prepared.policy,
        all_steps=prepared.all_steps,
    )
    measurement.write(prepared.base, final)


def _workload(config: GRPOConfig, batches: PromptBatches, policy: Policy) -> Workload:
    first = batches.requests(0, 0)
    return Workload(
        num_prompts=config.prompts.batch_size,
        group_size=config.grpo.group_size,
        trained_steps=max(len(request.trained_steps or request.kept_steps) for request in first),
        denoising_steps=config.sampling.rollout_sampling_steps or policy.num_steps,
        guided=config.sampling.guidance_scale not in (0.0, 1.0),
        max_frames=max(prompt.num_frames for prompt in (*batches.prompts, *batches.held_out)),
        num_features=policy.skeleton.num_features,
        text_elements=first[0].condition.values.size,
        model_parameters=sum(parameter.numel() for parameter in policy.network.parameters()),
        trainable_parameters=sum(parameter.numel() for parameter in policy.trainable_parameters().values()),
        num_epochs=config.grpo.num_epochs,
        groups_per_optimizer_step=config.grpo.groups_per_optimizer_step,
        micro_batch_size=config.grpo.micro_batch_size,
        num_eval_groups=len(batches.held_out),
        noise_draws=config.grpo.noise_draws if reads_motions(config.grpo) else 0,
        num_parts=parts_of_update(config.grpo, policy.num_steps),
        staleness=config.grpo.staleness,
    )
