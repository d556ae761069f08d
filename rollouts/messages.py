"""Messages between controller, rollout actors, reward actors and the learner.

Arrays are NumPy: the object store maps them read-only without a copy, so no state is shared between processes.
Legend: N samples of one group, S trained steps, T frames (padded), D features, E text embedding width; a state has R
rows of F numbers, of a policy that denoises T and D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from motions.data.prompts import Prompt
from rollouts.settings import Denoising

Weights = dict[str, np.ndarray]
"""Trainable parameters by name (adapters only when LoRA is on), float32."""

Boundaries = tuple[tuple[int, int], ...]
"""Half-open ranges of frames, each beginning where the one before it ends."""

TextForm = Literal["pooled", "tokens"]
"""What a text is encoded to: one vector, or one for each token."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A published set of weights; `number` counts updates from 0, the base policy."""

    number: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class TextCondition:
    """Encoder output of a prompt's text, or of the K texts of its segments."""

    values: np.ndarray
    """[L, E] float32, with segments [K, L, E]; L = 1 for a pooled embedding, else a row for each token."""
    mask: np.ndarray | None = None
    """[L] or [K, L] bool, True = real token; None = all are real."""
    boundaries: Boundaries = ()
    """The frames of each segment; empty where one text is for all frames."""


@dataclass(frozen=True, slots=True)
class GivenFrames:
    """Frames of a motion that are given; the policy makes the others."""

    motions: np.ndarray
    """Features [1, T, D] for all samples or [N, T, D] for each, float32, in physical units; what stands in frames that
    are not given is ignored."""
    keep: np.ndarray
    """[T] bool, True = given."""


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """One group to roll out. The rollout is a pure function of this and the weights, with the same bits on every actor.

    Example:
        RolloutRequest(step=3, prompt_index=1, prompt=prompt, condition=condition, num_samples=16, seed=7,
                       stochastic_steps=(2, 3), policy_version=3)
    """

    step: int
    """Training step that will use the group; keys the noise."""
    prompt_index: int
    """Index of the prompt in the step's batch; keys the noise."""
    prompt: Prompt
    condition: TextCondition
    num_samples: int
    seed: int
    stochastic_steps: tuple[int, ...]
    """Positions in the (respaced) denoising sequence, 0 = noisiest, that draw noise; none for evaluation."""
    trained_steps: tuple[int, ...]
    """Subset of `stochastic_steps` whose states and log-probabilities are recorded."""
    share_initial_noise: bool
    """Whether all samples of the group have the same x_T."""
    policy_version: int
    denoising: Denoising | None = None
    """Sampler, steps and guidance other than the policy's own; no step of such a rollout can be trained."""
    keep_motions: bool = False
    """Whether the trajectory holds the final motions, which some losses and a KL penalty of the whole chain read."""
    kept_steps: tuple[int, ...] = ()
    """Positions, noisy or not, whose states the trajectory holds instead of those of `trained_steps`, for losses that
    denoise on from there themselves."""
    given: GivenFrames | None = None
    """Frames that every sample has; no step of such a rollout can be trained, and its samples start apart."""


@dataclass(frozen=True, slots=True)
class GroupMotions:
    """Motions of one group, in physical units (denormalised features), for the rewards and the report."""

    features: np.ndarray
    """Features [N, T, D] float32."""
    lengths: np.ndarray
    """Number of valid frames of each sample, [N] int64."""
    prompt: Prompt
    policy_version: int
    seconds: float
    """Wall-clock duration of the rollout."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Recorded transitions of one group: all that the learner needs, and nothing that only rewards need."""

    states: np.ndarray
    """State before the transition, [S, N, R, F] float32."""
    next_states: np.ndarray
    """Sampled state after it, [S, N, R, F] float32."""
    steps: np.ndarray
    """Position of each recorded transition in the denoising sequence, [S] int64."""
    log_probs: np.ndarray
    """Log-probabilities at sampling, mean over valid elements, [S, N] float32."""
    lengths: np.ndarray
    """Number of valid rows of each sample's states, [N] int64: frames, or what a policy has in their place."""
    condition: TextCondition
    policy_version: int
    motions: np.ndarray | None = None
    """The final motions [N, T, D] float32, normalised; None if the request did not ask for them."""
    prompt: Prompt | None = None
    """What the motions are of, where the states are those of `kept_steps`. These have no density: `next_states` are the
    states again, `log_probs` are 0."""
