"""What a GRPO run can refuse at once, before it loads networks and motions, which takes minutes."""

from __future__ import annotations

from jobs.configs.grpo import GRPOConfig
from learners.grpo.gradients.loss import gradient_kind
from learners.grpo.motion_loss import reads_motions
from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.settings import BUILTIN
from rollouts.diffusion.samplers import make_sampler
from rollouts.diffusion.windows import window_positions
from rollouts.networks.denoiser_network import denoiser_class
from rollouts.one_action.requirements import sampling_of_one_action


def check_cheaply(config: GRPOConfig) -> None:
    """Imports the classes that options name, looks for the files, and lays the stochastic window over the steps.

    Raises:
        UserError: something is not there, or the window does not fit into `sampling_steps`.
    """
    sampling = config.sampling
    ways = {"": sampling.denoising, "eval_": sampling.evaluation, "rollout_": sampling.rollout}
    for prefix, denoising in ways.items():
        try:
            if denoising is not None:
                make_sampler(denoising)
        except UserError as error:
            raise UserError(f"{prefix}{error}") from error
    if config.policy.arch != "auto":
        denoiser_class(config.policy.arch)
    learns_from_steps = not reads_motions(config.grpo)
    if learns_from_steps and (steps := config.sampling.sampling_steps) is not None:
        window_positions(config.sampling, steps, config.run.seed, 0)
    files = {
        "composite_data_path": config.prompts.composite_data_path,
        "prompts_path": config.prompts.prompts_path,
        "eval_prompts_path": config.evaluation.eval_prompts_path,
    }
    for option, path in files.items():
        if path is not None and not path.exists():
            raise UserError(f"{option} {path}: no such file")
    drawn = config.evaluation.eval_prompts_path is None or not any(list(files.values())[:2])
    # The built-in motions are made, which takes seconds; of a folder only the lists and statistics are read here.
    if drawn and config.data.data_source != BUILTIN:
        load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)


def of_one_action(config: GRPOConfig) -> GRPOConfig:
    """The options as a policy of one action understands them: one stochastic step, and no other ways to denoise that
    evaluations could measure.

    Raises:
        UserError: an option is set that only denoising hears.
    """
    evaluation = config.evaluation
    if evaluation.eval_other_steps not in ((), type(evaluation)().eval_other_steps):
        raise UserError("eval_other_steps is set: a policy of one action does not denoise; leave the option out")
    evaluation = evaluation.model_copy(update={"eval_other_steps": ()})
    return config.model_copy(update={"sampling": sampling_of_one_action(config.sampling), "evaluation": evaluation})


def check_loss_of_one_action(config: GRPOConfig) -> None:
    """Checks that the policy loss can train what `train` names.

    Raises:
        UserError: it needs noise levels, or the decoder is to learn and the loss has no gradient for it.
    """
    loss = config.grpo.policy_loss
    for name, needs in (
        (f"policy_loss {loss}", reads_motions(config.grpo)),
        ("kl_chain_penalty", config.grpo.kl_chain_penalty > 0),
        ("mdm_loss_weight", config.grpo.mdm_loss_weight > 0),
    ):
        if needs:
            raise UserError(f"{name} needs a policy that denoises; this one draws one action and has no noise levels")
    if config.policy.train != "prior" and config.policy.refiner_path is not None:
        raise UserError(
            f"train is {config.policy.train}: of a refiner only the residual learns, which is --train prior"
        )
    if config.policy.train != "prior" and gradient_kind(config.grpo) is None:
        raise UserError(
            f"train is {config.policy.train} and policy_loss {loss}: the probability of an action does not depend on "
            "what the decoder makes of it, so that the loss has no gradient for it; give --train prior, or a loss that "
            "follows the reward's gradient (refl, draft, align_prop, easytune, opsd)"
        )
