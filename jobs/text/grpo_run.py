"""A run of `jobs.grpo`: what it loads and checks, how it trains, and what it measures and leaves."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cluster.records.opening import inspect
from cluster.run.algorithm import Algorithm
from cluster.run.controller import Controller, ScoredGroup
from cluster.run.plan import Plan, Workload, cluster_resources
from cluster.run.roles import training_roles
from cluster.run.session import training_session
from cluster.runtime.protocol import Role
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.report import write_report
from jobs.report.records import write_rewards
from jobs.text import grpo_actors
from jobs.text.grpo_prompts import (
    PromptBatches,
    evaluation_prompts,
    evaluation_source,
    load_matching_dataset,
    missing_windows,
    training_prompts,
    training_source,
)
from learners.grpo.motion_loss import UNHEARD_OPTIONS, reads_motions
from motions.base.errors import UserError
from motions.data.prompts import MAX_FRAMES
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.comparison import compare, shared_places, write_evaluation
from rewards.evaluation.prompt_checks import check_prompts
from rewards.evaluation.text import Evaluation, embed_clips, load_judge, measure
from rewards.scorers import build_limiting_scorers, build_scorers, described_rewards, reward_terms, rewards_of
from rewards.tmr.scorer import Embedder
from rollouts.checkpoints.loading import build_policy, load_base, load_policy_text_encoder
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.requests import prompt_conditions
from rollouts.messages import PolicyVersion


@dataclass(frozen=True)
class PreparedRun:
    """A run that is checked and could start."""

    config: GRPOConfig
    batches: PromptBatches
    roles: list[Role]
    workload: Workload
    algorithm: Algorithm
    export: grpo_actors.PolicyExport
    base: PolicyVersion
    judge: Embedder | None
    skeleton: Skeleton
    measure_fid: bool
    """Whether there are held-out windows of the policy's skeleton to compare with."""


def run(config: GRPOConfig) -> None:
    """Trains, evaluates, exports and reports."""
    prepared = prepare(config)
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
        write_rewards(config.run.save_dir, described_rewards(config.rewards))
        controller.run()
        finish(prepared, controller)
    print(f"report: {write_report(config.run.save_dir)}")


def dry_run(config: GRPOConfig) -> None:
    """Print settings and plan; load everything once that the actors will load. Starts no cluster and writes nothing.

    Raises:
        UserError: a file, prompt or option is wrong, or the run directory cannot be used.
        StartError: the cluster, or this machine where there is none, is too small.
    """
    prepared = prepare(config)
    print(cli.settings_yaml(config))
    print(f"\nsave_dir {config.run.save_dir}: {inspect(config.run, config=config)}")
    print(f"{len(prepared.batches.prompts)} prompts to learn on, {len(prepared.batches.held_out)} to measure with")
    for reward in described_rewards(config.rewards):
        gradient = "has a gradient" if reward["differentiable"] else "has no gradient"
        print(f"reward {reward['name']}: weight {reward['weight']:g}, {gradient}; terms {', '.join(reward['terms'])}")
    plan = Plan(tuple(prepared.roles), prepared.workload)
    resources = cluster_resources(config.cluster, plan)
    print("\n".join(plan.lines(resources)))
    plan.check(resources)


def prepare(config: GRPOConfig) -> PreparedRun:
    """Loads policy, rewards and prompts, says what was loaded, and lays out roles, workload and algorithm.

    Raises:
        UserError: whatever is wrong with files, prompts or options; nothing has been started or written.
    """
    inspect(config.run, config=config)
    rewards_of(config.rewards)  # those that can be imported, of which one has a weight
    # The driver only reads shapes from it and writes exports with it: no GPU is taken.
    loaded = load_base(config.policy)
    policy = build_policy(loaded, config.policy, config.sampling.model_copy(update={"device": "cpu"}))
    policy.denoising(config.sampling.evaluation)  # of steps that the model has
    encoder = load_policy_text_encoder(config.policy)
    prompts, held_out = training_prompts(config, policy.skeleton), evaluation_prompts(config, policy.skeleton)
    # What the reward actors will load is loaded here once, so that a wrong file is found before anything starts.
    limiting = build_limiting_scorers(config.rewards, policy.skeleton, config.policy).values()
    networks = [found for scorer in limiting if isinstance(found := getattr(scorer, "embedder", None), Embedder)]
    judge = load_judge(config.evaluation.judge_path, policy.skeleton, config.policy, config.evaluation.judge_text_model)
    if judge is not None and any(judge.has_weights_of(network) for network in networks):
        raise UserError(
            f"judge_path {config.evaluation.judge_path}: these are the weights of the reward, which cannot judge what "
            "it trained; give another retrieval model, or none"
        )
    print(f"policy: {loaded.report}")
    for network in networks:
        print(f"reward: {network.report}")
    fid_lacks = None
    if judge is not None:
        print(f"judge: {judge.report}")
        if fid_lacks := missing_windows(config, policy.skeleton):
            print(f"FID is not measured: {fid_lacks}")
    composed = config.sampling.composite_denoising == "composed"
    max_frames = None if composed else min(policy.network.max_positions - 1, MAX_FRAMES)
    for source, chosen in ((training_source(config), prompts), (evaluation_source(config), held_out)):
        check_prompts(source, chosen, max_frames, limiting, judge)
    encode = functools.partial(prompt_conditions, policy, encoder)
    batches = PromptBatches(config, prompts, held_out, encode, policy.num_steps)
    scorers = build_scorers(config.rewards, policy.skeleton, config.policy)
    roles = training_roles(
        config.cluster,
        functools.partial(grpo_actors.build_rollout_worker, config),
        scorers,
        functools.partial(grpo_actors.build_learner, config),
    )
    if reads_motions(config.grpo):
        policy.denoising(config.sampling.rollout or config.sampling.denoising)  # of steps that the model has
        print(f"policy_loss {config.grpo.policy_loss}: {UNHEARD_OPTIONS}")
    export = grpo_actors.PolicyExport(config, policy, encoder)
    algorithm = Algorithm(
        batches=batches,
        scorers=tuple(scorers),
        combine=functools.partial(grpo_actors.mix_rewards, config.rewards),
        advantages=functools.partial(grpo_actors.step_advantages, config),
        on_reward_error=config.rewards.on_reward_error,
        export=export,
        after_evaluation=lambda step: write_report_so_far(config),
    )
    return PreparedRun(
        config=config,
        batches=batches,
        roles=roles,
        workload=_workload(config, batches, policy),
        algorithm=algorithm,
        export=export,
        base=PolicyVersion(0, policy.weights()),
        judge=judge,
        skeleton=policy.skeleton,
        measure_fid=judge is not None and fid_lacks is None,
    )


def write_report_so_far(config: GRPOConfig) -> None:
    """`report.html` of a run that goes on."""
    write_report(config.run.save_dir)


def finish(prepared: PreparedRun, controller: Controller) -> None:
    """Exports the policy to the top of the run directory, and measures it before and after on the held-out prompts.

    Raises:
        RunFailed: the learner, a rollout or a reward failed for good; the export is complete if the learner did not.
        UserError: nothing is left to compare, as every prompt lost its group before or after.
    """
    config, judge = prepared.config, prepared.judge
    final = controller.final_policy()
    # First of all: a measurement that fails must not cost the training its result.
    print(f"trained policy: {prepared.export.finish(final, config.run.save_dir)}")

    def judged(version: PolicyVersion) -> list[ScoredGroup]:
        return controller.judge(prepared.batches.evaluation(version.number), controller.runtime.put(version))

    groups_before, groups_after = (
        {group.request.prompt_index: group for group in groups}
        for groups in (judged(prepared.base), controller.final_groups or judged(final))
    )
    places = shared_places(groups_before, groups_after)

    def measured(groups: dict[int, ScoredGroup]) -> Evaluation:
        chosen = [groups[place] for place in places]
        motions = [controller.motions(group) for group in chosen]
        return measure(motions, [group.rewards for group in chosen], prepared.skeleton, judge)

    before, after = measured(groups_before), measured(groups_after)
    real = None
    if judge is not None and prepared.measure_fid:
        items = load_matching_dataset(config, prepared.skeleton).items("test")
        real = embed_clips(judge, [item.features for item in items])
    changes = compare(before, after, reward_terms(config.rewards), real)
    write_evaluation(config.run.save_dir, before, after, changes, prepared.skeleton, _sampler_words(config, prepared))
    for change in changes:
        print(f"{change.name:<18} {change.before:.4g} -> {change.after:.4g}")


def _sampler_words(config: GRPOConfig, prepared: PreparedRun) -> str:
    denoising = config.sampling.evaluation
    steps = denoising.sampling_steps or prepared.workload.denoising_steps
    kind = f"{denoising.sampler} (eta {denoising.eta:g})" if denoising.eta else "deterministic"
    return f"{steps} {kind} denoising steps, guidance {denoising.guidance_scale:g}"


def _workload(config: GRPOConfig, batches: PromptBatches, policy: DiffusionPolicy) -> Workload:
    first = batches.requests(0, 0)
    return Workload(
        num_prompts=config.prompts.batch_size,
        group_size=config.grpo.group_size,
        trained_steps=max(len(request.trained_steps) for request in first),
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
    )
