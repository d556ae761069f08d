"""The sampling loop: from noise to motion, recording the transitions that will be trained.

Each position of the denoising sequence is stochastic or deterministic. If all but the last are stochastic this is
ancestral sampling (DDPM, or DDIM with eta), if none is it solves the ODE, otherwise it is a rollout with an SDE window.
The loop draws no random numbers: initial noise and the steps' noise are arguments. It hands what a deterministic step
predicted to the next one, for multistep solvers; noise ends such a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rollouts.diffusion.policy import Inpainting
from rollouts.gaussians import gaussian_log_prob
from rollouts.messages import Boundaries
from rollouts.policy import Embedded, Policy

StepNoise = Callable[[int], Tensor]
"""Gives the noise [N, R, F] of a position; called once for every stochastic position, in order."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Motions and recorded transitions; S is the number of recorded positions."""

    motions: Tensor
    """[N, T, D] float32, normalised."""
    positions: tuple[int, ...]
    """Recorded positions [S]."""
    states: Tensor
    """State before each recorded transition, [S, N, R, F]: R rows of F numbers, of a noisy motion [T, D]."""
    next_states: Tensor
    """Sampled state after it, likewise."""
    log_probs: Tensor
    """Log-probabilities [S, N], mean over valid elements."""


def sample(
    policy: Policy,
    condition: Tensor,
    mask: Tensor | None,
    initial_noise: Tensor,
    step_noise: StepNoise,
    stochastic: Sequence[int],
    trained: Sequence[int] = (),
    inpainting: Inpainting | None = None,
    branches: int = 1,
    text_mask: Tensor | None = None,
    boundaries: Boundaries = (),
    kept: Sequence[int] = (),
    num_frames: int = 0,
) -> Samples:
    """Takes all steps from `initial_noise` [N / branches, R, F], under text encoder output `condition`
    [N / branches, L, E].

    Args:
        policy: gives the Gaussian of every step.
        condition: text encoder output, one text per row of `initial_noise`, or the texts of its segments
            [N / branches, segments, L, E].
        mask: [N / branches, R] bool, True = real row; None = all are real.
        initial_noise: x_T.
        step_noise: gives the standard normal noise [N, R, F] of a position.
        stochastic: positions that draw noise; the last position of the schedule cannot.
        trained: subset of `stochastic` whose transitions are recorded.
        inpainting: given parts of each motion.
        branches: number of samples per row of `initial_noise`, adjacent in the result. They are identical until the
            first stochastic step, and cost one forward until then.
        text_mask: [N / branches, L] bool, with segments [N / branches, segments, L]; True = real token; None = all
            are real.
        boundaries: frames of the segments, where there are several texts.
        kept: positions, noisy or not, whose states are recorded in place of those of `trained`, which must be empty.
            They have no density: the states after them are given as the states themselves.
        num_frames: frames of the motions, where states have other rows.

    Raises:
        ValueError: positions out of range, not increasing, trained without being stochastic, or both kept and trained.
    """
    _require_positions(policy, stochastic, trained)
    if kept and (trained or list(kept) != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < policy.num_steps):
        raise ValueError(f"kept_steps is {tuple(kept)}, trained_steps {tuple(trained)}: increasing, of one kind only")
    noisy, recorded = frozenset(stochastic), frozenset(trained)
    x_t = initial_noise.to(policy.device, torch.float32)
    mask = None if mask is None else mask.to(policy.device)
    states: list[Tensor] = []
    next_states: list[Tensor] = []
    log_probs: list[Tensor] = []
    with policy.inference():
        text_mask = None if text_mask is None else text_mask.to(policy.device)
        embedded: Embedded = policy.embed(condition.to(policy.device), text_mask, boundaries, num_frames)
        before: object = None
        for position in range(policy.num_steps):
            is_noisy = position in noisy
            if position in kept:
                states.append(x_t.repeat_interleave(branches, dim=0))
            step = policy.transition(
                x_t,
                position,
                embedded,
                mask,
                stochastic=is_noisy,
                inpainting=inpainting,
                before=None if is_noisy else before,
            )
            if is_noisy and branches > 1:
                x_t, step, embedded = (
                    x_t.repeat_interleave(branches, dim=0),
                    step.repeated(branches),
                    embedded.repeated(branches),
                )
                mask = None if mask is None else mask.repeat_interleave(branches, dim=0)
                inpainting = None if inpainting is None else inpainting.repeated(branches)
                branches = 1
            x_prev = step.mean
            if is_noisy:
                x_prev = x_prev + step.std.view(-1, 1, 1) * step_noise(position).to(policy.device)
            if position in recorded:
                states.append(x_t)
                next_states.append(x_prev)
                log_probs.append(gaussian_log_prob(x_prev, step.mean, step.std, mask))
            x_t = x_prev
            before = None if is_noisy else policy.prediction(step, position)
    x_t = x_t.repeat_interleave(branches, dim=0)  # where no step was stochastic
    num_samples = x_t.shape[0]
    if kept:
        stacked = torch.stack(states)
        return Samples(x_t, tuple(kept), stacked, stacked, x_t.new_zeros(len(kept), num_samples))
    return Samples(
        motions=x_t,
        positions=tuple(trained),
        states=torch.stack(states) if states else x_t.new_empty(0, *x_t.shape),
        next_states=torch.stack(next_states) if states else x_t.new_empty(0, *x_t.shape),
        log_probs=torch.stack(log_probs) if states else x_t.new_empty(0, num_samples),
    )


def _require_positions(policy: Policy, stochastic: Sequence[int], trained: Sequence[int]) -> None:
    last = policy.num_steps - 1
    for name, positions in (("stochastic_steps", stochastic), ("trained_steps", trained)):
        if list(positions) != sorted(set(positions)):
            raise ValueError(f"{name} is {tuple(positions)}; positions have to increase")
        if positions and not (positions[0] >= 0 and positions[-1] < last):
            raise ValueError(
                f"{name} is {tuple(positions)}; of {policy.num_steps} steps, positions 0 to {last - 1} can be "
                "stochastic (the last one is noiseless)"
            )
    loose = sorted(set(trained) - set(stochastic))
    if loose:
        raise ValueError(f"trained_steps has {loose}, which are not stochastic: a deterministic step has no density")
