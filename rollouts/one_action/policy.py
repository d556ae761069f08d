"""The policy of one action: position 0 draws K knots x Z numbers, position 1 makes a motion of them without noise.

    position 0   a ~ N(mean(c), std^2 I)      [K, Z]
    position 1   x = decode(a, c)             [T, D], std 0

Log-probability, ratio, exact KL and losses are those of `learners/grpo`, which see one trained step of a small state.
They are means over the K x Z numbers: see `GRPOSettings.clip_epsilon`. A rollout costs one forward.

The state before position 0 is standard normal noise e, as it is where denoising begins. The stochastic step does not
look at it; the one without noise gives mean(c) + std e. So an evaluation, in which no step draws noise, still gives
every sample of a prompt an action of its own, the same before and after a training; and a loss that follows the
gradient of a reward finds the mean (the reparameterisation of Kingma and Welling 2014).

Legend: N samples, T frames, D features, K knots, Z numbers of a knot, d width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from motions.base.errors import UserError
from motions.data.prompts import MAX_FRAMES
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton
from rollouts.devices import resolve_device
from rollouts.diffusion.denoiser import Denoiser
from rollouts.diffusion.policy import DTYPES
from rollouts.messages import Boundaries
from rollouts.policy import PolicyNetwork, TrainableWeights, Transition
from rollouts.settings import Denoising, DenoisingSettings, SamplingSettings, TrainedPart
from rollouts.ssm.layers import SelectiveScan, set_scan_backend

ONE_STEP: dict[str, object] = {"sde_window": 1, "sde_window_start": 1}
"""The only window of stochastic steps that there is: position 0."""

STD = 1.0
"""Standard deviation of every number of an action."""


class ActionNetwork(Protocol):
    """What the policy asks of its network, beside what `PolicyNetwork` says."""

    def action_shape(self, num_frames: int) -> tuple[int, int]:
        """Shape (K, Z) of the action of a motion."""
        ...

    def encode_text(self, text: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """Texts [N, L, E] as vectors [N, d]."""
        ...

    def act(self, state: Tensor, text: Tensor) -> Tensor:
        """Mean [N, K, Z] of the action."""
        ...

    def decode(self, action: Tensor, text: Tensor, num_frames: int) -> Tensor:
        """Motions [N, T, D], normalised."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """Vectors of the texts, and how long their motions are; see `rollouts.policy.Embedded`."""

    text: Tensor
    """[N, d]."""
    num_frames: int
    """T; 0 where no motion will be made."""

    def repeated(self, times: int) -> EmbeddedText:
        """Repeats each sample `times` times, adjacent to each other."""
        return EmbeddedText(self.text.repeat_interleave(times, dim=0), self.num_frames)


class OneActionPolicy(TrainableWeights):
    """A `rollouts.policy.Policy` of one action.

    Example:
        policy = OneActionPolicy(network, normalizer, HUMANML3D, SamplingSettings(), trained_frames=80)
        step = policy.transition(noise, 0, text, None)                      # N(mean, 1)
        motion = policy.transition(action, 1, text, None, num_frames=60).mean
    """

    num_steps = 2

    def __init__(
        self,
        network: PolicyNetwork,
        normalizer: Normalizer,
        skeleton: Skeleton,
        sampling: DenoisingSettings,
        trained_frames: int,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        """Moves the network to the device of the settings and sets eval mode.

        Args:
            network: with the methods of `ActionNetwork`.
            trained_frames: frames of the longest motions that the network has seen.
            max_frames: most frames that it can make.

        Raises:
            UserError: network, statistics and skeleton have different numbers of features, or the device does not
                exist.
        """
        widths = {network.num_features, normalizer.num_features, skeleton.num_features}
        if len(widths) > 1:
            raise UserError(
                f"the number of features disagrees: network {network.num_features}, normalizer "
                f"{normalizer.num_features}, skeleton {skeleton.name} {skeleton.num_features}"
            )
        self.device = resolve_device(sampling.device)
        self.network: Any = network.to(self.device).eval()
        self.normalizer = normalizer
        self.skeleton = skeleton
        own = {"composite_denoising": "pooled"} | (ONE_STEP if isinstance(sampling, SamplingSettings) else {})
        self.sampling = sampling.model_copy(update=own)
        self.trained_frames = trained_frames
        self.most_frames_at_once = min(max_frames, MAX_FRAMES)
        if any(isinstance(module, SelectiveScan) for module in network.modules()):
            set_scan_backend(network, sampling.scan_backend, self.device)
        dtype = DTYPES[sampling.amp_dtype]
        self._actor = Denoiser(network, dtype, _Actor(network))
        self._decoder = Denoiser(network, dtype, _Decoder(network))

    @property
    def max_frames(self) -> int | None:
        """Most frames of a motion."""
        return self.most_frames_at_once

    @property
    def step_stds(self) -> np.ndarray:
        """Standard deviation of both positions, [2]."""
        return np.array([STD, 0.0], np.float32)

    @property
    def noise_drops(self) -> np.ndarray:
        """All noise ends with position 0, [2]."""
        return np.array([1.0, 0.0])

    def state_shape(self, num_frames: int) -> tuple[int, int]:
        """Shape (K, Z) of the action."""
        return self.network.action_shape(num_frames)

    def expected_frames(self, text: Tensor, text_mask: Tensor | None = None) -> list[int]:
        """Frames of motions of texts [N, L, E] that say no length, at most as many as it was trained on."""
        with torch.no_grad():
            seconds = self.network.log_seconds(self.network.encode_text(text.to(self.device), text_mask)).exp()
        frames = (seconds * self.skeleton.fps).round().clamp(2, min(self.trained_frames, self.most_frames_at_once))
        return [int(each) for each in frames.tolist()]

    def denoising(self, denoising: Denoising) -> OneActionPolicy:
        """Itself: there is one way to sample it."""
        return self

    def embed(
        self, text: Tensor, text_mask: Tensor | None = None, boundaries: Boundaries = (), num_frames: int = 0
    ) -> EmbeddedText:
        """Embeds text encoder output [N, L, E].

        Args:
            text_mask: [N, L] bool, True = real token; None = all are real.
            boundaries: none; a text is for the whole motion.
            num_frames: T, which position 1 needs.

        Raises:
            ValueError: there are segments.
        """
        if boundaries:
            raise ValueError(f"a policy of one action reads one text for all frames, not {len(boundaries)} segments")
        return EmbeddedText(self.network.encode_text(text, text_mask), num_frames)

    def transition(
        self,
        x_t: Tensor,
        position: int | Tensor,
        condition: Tensor | EmbeddedText,
        mask: Tensor | None,
        *,
        stochastic: bool = True,
        inpainting: None = None,
        text_mask: Tensor | None = None,
        boundaries: Boundaries = (),
        before: object = None,
        num_frames: int = 0,
    ) -> Transition:
        """Gaussian of the action (position 0), or the motion of the action x_t (position 1).

        Args:
            x_t: noise or action, [N, K, Z] float32.
            position: 0 or 1, the same for all samples.
            condition: text encoder output, or the result of `embed`.
            mask: [N, K] bool; not looked at, since all knots of a motion are real.
            stochastic: False gives mean + std x_t at position 0, with std 0.
            inpainting: not possible.
            text_mask: of a condition that is text encoder output, as `boundaries` and `num_frames`; see `embed`.
            before: not used; a policy of one action has no step before.

        Raises:
            ValueError: positions that differ or are not 0 or 1, or no `num_frames` for position 1.
        """
        if inpainting is not None:
            raise ValueError("a policy of one action cannot keep given parts of a motion")
        place = self._place(position)
        embedded = (
            condition
            if isinstance(condition, EmbeddedText)
            else self.embed(condition, text_mask, boundaries, num_frames)
        )
        x_t = x_t.float()
        if place == 0:
            mean = self._actor.run(x_t, embedded.text)
            std = x_t.new_full((len(x_t),), STD)
            if stochastic:
                return Transition(mean, std, mean)
            return Transition(mean + STD * x_t, torch.zeros_like(std), mean)
        if embedded.num_frames < 1:
            raise ValueError("position 1 makes a motion, and nothing says how long it is (num_frames)")
        motion = self._decoder.run(x_t, embedded.text, x_t.new_empty(0, embedded.num_frames))
        return Transition(motion, x_t.new_zeros(len(x_t)), motion)

    def prediction(self, step: Transition, position: int) -> None:
        """Nothing: the second step does not depend on how the action came about."""

    def noiseless(self, x_t: Tensor, x0: Tensor, position: int | Tensor) -> Tensor:
        """The action mean + std x_t of noise x_t and mean x0 (position 0), or the motion x0 (position 1)."""
        return x0 + STD * x_t if self._place(position) == 0 else x0

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Disables gradients; casts or merges weights once for all forwards inside. They must not change meanwhile."""
        with self._actor.inference(), self._decoder.inference():
            yield

    @contextmanager
    def accumulation(self) -> Iterator[None]:
        """Casts or merges weights once for many forwards and backwards; gradients reach the parameters at the end.
        Weights must not change inside."""
        with self._actor.accumulation(), self._decoder.accumulation():
            yield

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """The reference policy: inside the block the same network uses its base weights.

        Raises:
            ValueError: the network has no adapters, so there is no reference to fall back to.
        """
        with self._actor.adapters_disabled(), self._decoder.adapters_disabled():
            yield

    def _place(self, position: int | Tensor) -> int:
        places = {int(each) for each in position.tolist()} if isinstance(position, Tensor) else {position}
        if len(places) != 1 or not places <= {0, 1}:
            raise ValueError(f"positions are {sorted(places)}; a policy of one action has 0 and 1, one at a time")
        return places.pop()


PARTS: dict[TrainedPart, tuple[str, ...]] = {
    "prior": ("prior.",),
    "decoder": ("decoder.",),
    "both": ("prior.", "decoder."),
}
"""Beginnings of the names of a network's parameters, by the part that learns."""


def train_only(network: nn.Module, part: TrainedPart) -> None:
    """Freezes all parameters but those of a part; adapters are added after this, to its layers only."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(PARTS[part]))


class _Actor(nn.Module):
    """`ActionNetwork.act` as a module's forward, which is what `functional_call` can run on other weights."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: Tensor, text: Tensor) -> Tensor:
        return self.network.act(state, text)


class _Decoder(nn.Module):
    """`ActionNetwork.decode` likewise."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, action: Tensor, text: Tensor, frames: Tensor) -> Tensor:
        """Of `frames` only the shape [0, T] counts: graphs are chosen by the shapes of tensors."""
        return self.network.decode(action, text, frames.shape[1])
