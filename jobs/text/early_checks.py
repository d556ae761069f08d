"""What a GRPO run can refuse at once, before it loads networks and motions, which takes minutes."""

from __future__ import annotations

from jobs.configs.grpo import GRPOConfig
from learners.grpo.motion_loss import reads_motions
from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.settings import BUILTIN
from rollouts.diffusion.samplers import make_sampler
from rollouts.diffusion.windows import window_positions
from rollouts.networks.denoiser_network import denoiser_class


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
