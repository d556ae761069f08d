"""What a policy is to everything that rolls out, scores, trains, measures and saves one.

A policy makes a motion in `num_steps` transitions, each a Gaussian over the next state given the state, the position
and a text; the last one draws no noise, and what it gives is the motion. A trajectory is the states before the
transitions that are trained. Two kinds exist:

    a policy that denoises      `rollouts/diffusion/policy.py`: states are noisy motions [T, D]
    a policy of one action      `rollouts/one_action/policy.py`: position 0 draws a few numbers [K, Z], position 1 makes
                                a motion of them

Rollout, learner and reference compute a transition by the same call, so that the policy ratio starts at 1. What
only denoising has (schedules, guidance, inpainting) is no part of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton
from rollouts.messages import Boundaries, TextForm, Weights
from rollouts.settings import Denoising, DenoisingSettings


class WeightsError(ValueError):
    """Weights do not belong to this policy, or hold numbers that are not finite."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Gaussian of one step for N samples."""

    mean: Tensor
    """[N, T, D] float32, or [N, K, Z] where the next state is an action."""
    std: Tensor
    """[N] float32; 0 where the step is deterministic."""
    x0: Tensor
    """The clean motion the step was computed from, [N, T, D] float32; of an action the action's mean."""

    def repeated(self, times: int) -> Transition:
        """Repeats each sample `times` times, adjacent to each other."""
        mean, std, x0 = (part.repeat_interleave(times, dim=0) for part in (self.mean, self.std, self.x0))
        return Transition(mean, std, x0)


class Embedded(Protocol):
    """The embeddings of N texts, computed once for a sampling loop.

    They depend on the weights: do not keep them across an update, or into or out of `adapters_disabled`.
    """

    def repeated(self, times: int) -> Self:
        """Repeats each sample `times` times, adjacent to each other."""
        ...


class PolicyNetwork(nn.Module):
    """What adapters, files and the learner ask of a policy's network.

    Attributes:
        adapter_targets: names of Linear layers by group, for `lora_target_spec`; `all` is the default group. A name is
            a layer's own (`q_proj`: in every block) or its whole path.
        text_form: whether a text is read as one vector (L = 1, no mask) or as one for each token.
    """

    adapter_targets: Mapping[str, tuple[str, ...]]
    text_form: TextForm = "pooled"

    num_features: int
    """D."""
    text_dim: int
    """E, the width of the text encoder's output."""

    def args(self) -> dict[str, Any]:
        """The sizes that a checkpoint records, as plain values."""
        raise NotImplementedError

    @property
    def hidden_size(self) -> int:
        """Numbers of a hidden vector."""
        raise NotImplementedError

    def like(self) -> Self:
        """A new network of the same sizes, without adapters."""
        raise NotImplementedError


class Policy(Protocol):
    """Interface of a policy. Shapes: N samples, T frames, D features; a state has R rows of F numbers."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        ...

    @property
    def network(self) -> PolicyNetwork:
        """Always in eval mode: dropout would make two evaluations of the same action differ."""
        ...

    @property
    def normalizer(self) -> Normalizer:
        """Statistics of the motions that it makes."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """Of the motions that it makes."""
        ...

    @property
    def sampling(self) -> DenoisingSettings:
        """Precision and way of sampling."""
        ...

    @property
    def trained_frames(self) -> int:
        """Frames of the longest motions that the network has seen."""
        ...

    @property
    def most_frames_at_once(self) -> int:
        """Most frames that are made as a whole."""
        ...

    @property
    def max_frames(self) -> int | None:
        """Most frames of a motion; None where longer ones are made of segments."""
        ...

    @property
    def num_steps(self) -> int:
        """Number of transitions; positions are 0 to `num_steps` - 1, the noiseless last one."""
        ...

    @property
    def step_stds(self) -> np.ndarray:
        """Standard deviation of every position's stochastic step, float [num_steps]; 0 in the last one.

        Raises:
            UserError: no step draws noise.
        """
        ...

    @property
    def noise_drops(self) -> np.ndarray:
        """Share of the noise that every position removes, float64 [num_steps], for `kl_weighting dt`."""
        ...

    def state_shape(self, num_frames: int) -> tuple[int, int]:
        """Rows and numbers (R, F) of the state that a motion of so many frames begins with, and of the noise of its
        stochastic steps."""
        ...

    def denoising(self, denoising: Denoising) -> Policy:
        """The same policy, with the same weights in the same memory, that samples in another way.

        Raises:
            UserError: it cannot.
        """
        ...

    def embed(
        self, text: Tensor, text_mask: Tensor | None = None, boundaries: Boundaries = (), num_frames: int = 0
    ) -> Any:
        """Embeds text encoder output [N, L, E] for use within one sampling loop: an `Embedded`.

        Args:
            text_mask: [N, L] bool, True = real token; None = all are real.
            boundaries: frames of the segments, where a sample has several texts.
            num_frames: frames of the motions, for policies whose states do not have a row for each.
        """
        ...

    def transition(
        self,
        x_t: Tensor,
        position: int | Tensor,
        condition: Any,
        mask: Tensor | None,
        *,
        stochastic: bool = True,
        inpainting: Any = None,
        text_mask: Tensor | None = None,
        boundaries: Boundaries = (),
        before: Any = None,
        num_frames: int = 0,
    ) -> Transition:
        """Gaussian of the step from the states x_t [N, R, F]. Gradients flow to the network's parameters.

        Args:
            position: one for all samples or [N] int64.
            condition: text encoder output, or the result of `embed`, which says the other arguments.
            mask: [N, R] bool, True = real row; None = all are real.
            stochastic: False gives the step without noise (std 0).
            inpainting: given parts of the motion, where the policy takes such.
            before: what `prediction` gave for the step before, if neither of the two is stochastic.
        """
        ...

    def prediction(self, step: Transition, position: int) -> Any:
        """What a deterministic step leaves for the one after it."""
        ...

    def noiseless(self, x_t: Tensor, x0: Tensor, position: int | Tensor) -> Tensor:
        """The state after the step without noise from x_t, given `Transition.x0` of that step."""
        ...

    def inference(self) -> AbstractContextManager[None]:
        """Disables gradients; casts or merges weights once for all forwards inside. They must not change meanwhile."""
        ...

    def accumulation(self) -> AbstractContextManager[None]:
        """Casts or merges weights once for many forwards and backwards; gradients reach the parameters at the end."""
        ...

    def adapters_disabled(self) -> AbstractContextManager[None]:
        """The reference policy: inside the block the same network uses its base weights.

        Raises:
            ValueError: the network has no adapters, so there is no reference to fall back to.
        """
        ...

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name; with adapters only theirs."""
        ...

    def weights(self) -> Weights:
        """Copies of the trainable parameters, float32 NumPy."""
        ...

    def load_weights(self, weights: Weights) -> None:
        """Replaces all trainable parameters; on an error nothing is changed.

        Raises:
            WeightsError: names are missing or unexpected, a shape or dtype is wrong, or a number is not finite.
        """
        ...


class TrainableWeights:
    """The weights that a policy trains and publishes: the part of `Policy` that is the same for all kinds."""

    network: Any
    """A `PolicyNetwork`, whose parameters that require a gradient are the trained ones."""

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name; with adapters only theirs."""
        return {name: parameter for name, parameter in self.network.named_parameters() if parameter.requires_grad}

    def weights(self) -> Weights:
        """Copies of the trainable parameters, float32 NumPy."""
        return {
            name: parameter.detach().to("cpu", torch.float32, copy=True).numpy()
            for name, parameter in self.trainable_parameters().items()
        }

    def load_weights(self, weights: Weights) -> None:
        """Replaces all trainable parameters; on an error nothing is changed.

        Raises:
            WeightsError: names are missing or unexpected, a shape or dtype is wrong, or a number is not finite.
        """
        parameters = self.trainable_parameters()
        _require_matching(weights, parameters)
        with torch.no_grad():
            for name, parameter in parameters.items():
                # Copied because arrays from an object store are read-only, which torch does not support.
                parameter.copy_(torch.from_numpy(np.array(weights[name])))


def _require_matching(weights: Weights, parameters: dict[str, nn.Parameter]) -> None:
    missing = sorted(set(parameters) - set(weights))
    unexpected = sorted(set(weights) - set(parameters))
    if missing or unexpected:
        raise WeightsError(
            f"weights do not belong to this policy: {len(missing)} of {len(parameters)} names missing "
            f"{missing[:5]}, {len(unexpected)} unexpected {unexpected[:5]}"
        )
    for name, parameter in parameters.items():
        array = weights[name]
        if array.shape != tuple(parameter.shape) or array.dtype != np.float32:
            raise WeightsError(
                f"weights[{name!r}] is {array.dtype} {array.shape}; expected float32 {tuple(parameter.shape)}"
            )
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise WeightsError(f"weights[{name!r}]: {count} of {array.size} numbers are not finite")
