"""What travels between controller, rollout actors, reward actors and the learner.

Arrays are NumPy: the object store maps them without a copy, read-only, so no state leaks between processes.
Legend: N samples of one group, S trained denoising steps, T frames (padded), D features, E text embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from motions.data.prompts import Prompt
from rollouts.settings import Denoising

Weights = dict[str, np.ndarray]
"""Trainable parameters by name (adapters only when LoRA is on), float32."""

TextForm = Literal["pooled", "tokens"]
"""What a text is encoded to: one vector, or one for each token."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One published set of weights; `number` counts optimizer-visible updates from 0 (the base policy)."""

    number: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class TextCondition:
    """Encoder output of one text."""

    values: np.ndarray
    """[L, E] float32; L = 1 for a pooled embedding, else a row for each token."""
    mask: np.ndarray | None = None
    """[L] bool, True = real token; None = all are real."""


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """One group to roll out. The rollout is a pure function of this and the weights: same bits wherever it runs.

    Example:
        RolloutRequest(step=3, prompt_index=1, prompt=prompt, condition=condition, num_samples=16, seed=7,
                       stochastic_steps=(2, 3), policy_version=3)
    """

    step: int
    """Training step that will consume the group; keys the noise."""
    prompt_index: int
    """Place of the prompt in the step's batch; keys the noise."""
    prompt: Prompt
    condition: TextCondition
    num_samples: int
    seed: int
    stochastic_steps: tuple[int, ...]
    """Positions in the (respaced) denoising sequence, 0 = noisiest, that are sampled with noise; the others are
    deterministic. Empty for evaluation."""
    trained_steps: tuple[int, ...]
    """Subset of `stochastic_steps` whose states and log-probabilities are recorded."""
    share_initial_noise: bool
    """One x_T for the whole group."""
    policy_version: int
    denoising: Denoising | None = None
    """Sampler, steps and guidance other than the policy's own; nothing can be trained on such a rollout."""


@dataclass(frozen=True, slots=True)
class GroupMotions:
    """Motions of one group, in physical units (denormalised features), for the rewards and the report."""

    features: np.ndarray
    """[N, T, D] float32."""
    lengths: np.ndarray
    """[N] int64, valid frames of each sample."""
    prompt: Prompt
    policy_version: int
    seconds: float
    """Wall time of the rollout call."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Recorded transitions of one group: everything the learner needs, nothing the rewards need."""

    states: np.ndarray
    """x_t before the transition, [S, N, T, D] float32."""
    next_states: np.ndarray
    """x_{t-1} that was drawn, [S, N, T, D] float32."""
    steps: np.ndarray
    """Position of each recorded transition in the denoising sequence, [S] int64."""
    log_probs: np.ndarray
    """Behaviour log-probabilities, mean over valid elements, [S, N] float32."""
    lengths: np.ndarray
    """[N] int64."""
    condition: TextCondition
    policy_version: int
