"""Chooses which denoising steps of a rollout are stochastic, and which of those are trained.

As in Flow-GRPO-Fast and MixGRPO (arXiv 2507.21802), only a short window of consecutive early steps draws noise and is
trained; the others are deterministic. Then the effect of the window's actions is visible in the reward instead of being
hidden by the noise of all steps.
"""

from __future__ import annotations

import itertools
import math

from motions.base.errors import UserError
from rollouts.diffusion.noise import plan_generator
from rollouts.settings import SamplingSettings

DECAY, DECAY_FROM = 0.1, 13
"""Rate of `exp_decay`, and the position after which it acts, as in MixGRPO."""


def ancestral_positions(num_steps: int) -> tuple[int, ...]:
    """All positions that can be stochastic: all but the last, which is noiseless."""
    return tuple(range(num_steps - 1))


def window_positions(settings: SamplingSettings, num_steps: int, seed: int, step: int) -> tuple[int, ...]:
    """Stochastic positions of training step `step` (0 = noisiest), increasing; the same for all its groups.

    `sde_window` consecutive positions that begin at one of the first `sde_window_start`, which
    `sde_window_strategy` chooses; with `sde_window` 0 all positions except the noiseless last one.

    Raises:
        UserError: the window does not fit into the `num_steps - 1` steps that can be stochastic.
    """
    candidates = ancestral_positions(num_steps)
    if not candidates:
        raise UserError(f"sampling_steps is {num_steps}; the last step is noiseless, learning needs at least 2")
    if settings.sde_window == 0:
        return candidates
    last_start = len(candidates) - settings.sde_window
    if last_start < 0:
        raise UserError(
            f"sde_window is {settings.sde_window}; of {num_steps} sampling steps, {len(candidates)} can be stochastic"
        )
    starts = min(settings.sde_window_start, last_start + 1)
    if settings.sde_window_strategy == "random":
        start = int(plan_generator(seed, step).integers(starts))
    else:
        start = moving_start(settings, starts, step)
    return candidates[start : start + settings.sde_window]


def moving_start(settings: SamplingSettings, starts: int, step: int) -> int:
    """Where a window that moves over the first `starts` positions begins in training step `step`."""
    stays = [_stay(settings, start, starts) for start in range(starts)]
    if settings.sde_window_strategy == "roll_back":
        step %= sum(stays)
    return min(sum(step >= end for end in itertools.accumulate(stays)), starts - 1)


def _stay(settings: SamplingSettings, start: int, starts: int) -> int:
    """Updates for which the window begins at `start`."""
    longest = settings.sde_window_updates
    if settings.sde_window_strategy == "decay":
        return math.ceil(longest * (1.0 - start / starts))
    if settings.sde_window_strategy == "exp_decay":
        return math.ceil(longest * math.exp(-DECAY * max(0, start - DECAY_FROM)))
    return longest


def trained_positions(
    settings: SamplingSettings, stochastic: tuple[int, ...], seed: int, step: int, prompt_index: int
) -> tuple[int, ...]:
    """A group's recorded and trained positions, a fraction `timestep_fraction` of the stochastic ones, increasing.

    A random subset for every group, with at least one position unless no step is stochastic.
    """
    if settings.timestep_fraction == 1.0 or not stochastic:
        return stochastic
    count = max(1, math.floor(settings.timestep_fraction * len(stochastic) + 0.5))
    # Index 0 is used for the window's draw; groups use the following ones.
    chosen = plan_generator(seed, step, prompt_index + 1).choice(len(stochastic), size=count, replace=False)
    return tuple(stochastic[index] for index in sorted(chosen))
