"""The diffusion policy: a network, a noise schedule, and the function that computes its actions.

`transition` is the only place where the Gaussian of a denoising step is computed. Rollout, scoring and reference call
it with the same arguments, so the policy ratio starts at 1: same attention kernels, same guidance (conditional and
unconditional in one batched forward), same precision. The policy is always in eval mode: dropout would make two
evaluations of the same action differ.

The denoiser runs in the precision `amp_dtype` (`rollouts/diffusion/denoiser.py`). Embeddings of text and time, and the
arithmetic of the step, are always fp32.
"""

from __future__ import annotations

import copy
import functools
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.data.prompts import MAX_FRAMES
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton
from rollouts.devices import moved, multiplies, resolve_device
from rollouts.diffusion.composition import composition
from rollouts.diffusion.denoiser import Denoiser
from rollouts.diffusion.samplers import make_sampler
from rollouts.diffusion.schedule import DiffusionSchedule, noise_level_drops
from rollouts.diffusion.transitions import Prediction, StepCoefficients
from rollouts.messages import Boundaries
from rollouts.networks.denoiser_network import DenoiserNetwork
from rollouts.policy import Policy, TrainableWeights, Transition
from rollouts.settings import AmpDtype, Denoising, DenoisingSettings
from rollouts.ssm.layers import set_scan_backend

logger = logging.getLogger(__name__)

DTYPES: dict[AmpDtype, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Types by the names of `amp_dtype`."""


@dataclass(frozen=True, slots=True)
class Inpainting:
    """Given parts of the motion, which replace the predicted clean motion before every step."""

    motion: Tensor
    """[N, T, D] normalised features."""
    keep: Tensor
    """[N, T, D] bool, True = keep the given motion."""
    spread: Tensor | None = None
    """[T, T]: how much of the change that a given frame (column) makes its neighbours (rows) take part in, so that no
    pose jumps where given frames begin or end; None = they take none."""

    def repeated(self, times: int) -> Inpainting:
        """Repeats each sample `times` times, adjacent to each other."""
        motion, keep = (part.repeat_interleave(times, dim=0) for part in (self.motion, self.keep))
        return Inpainting(motion, keep, self.spread)

    def fill(self, x0: Tensor) -> Tensor:
        """The predicted clean motion [N, T, D] with the given parts in it."""
        if self.spread is not None:
            x0 = x0 + self.spread @ torch.where(self.keep, self.motion - x0, 0.0)
        return torch.where(self.keep, self.motion, x0)


@dataclass(frozen=True, slots=True)
class EmbeddedCondition:
    """Embeddings of each sample's text, or of the texts of its segments, and of all steps; computed once for a sampling
    loop.

    They depend on the weights: do not keep them across an update, or into or out of `adapters_disabled`.
    """

    text: Tensor
    """[N, L, latent], with segments [N, segments, L, latent]."""
    null: Tensor
    """As `text`."""
    times: Tensor
    """[K, latent], by table index."""
    mask: Tensor | None = None
    """[N, L] or [N, segments, L] bool, True = real token; None = all are real."""
    boundaries: Boundaries = ()
    """Frames of the segments, which are the same for all samples; empty where one text is for all frames."""

    def repeated(self, times: int) -> EmbeddedCondition:
        """Repeats each sample `times` times, adjacent to each other."""
        text, null, mask = (
            None if part is None else part.repeat_interleave(times, dim=0) for part in (self.text, self.null, self.mask)
        )
        assert text is not None and null is not None
        return EmbeddedCondition(text, null, self.times, mask, self.boundaries)


class DiffusionPolicy(TrainableWeights):
    """A policy whose actions are the steps of the (respaced) noise schedule, each a Gaussian.

    Example:
        policy = DiffusionPolicy(network, DiffusionSchedule("cosine", 50), normalizer, HUMANML3D, SamplingSettings())
        step = policy.transition(x_t, position=3, condition=text, mask=mask)
        log_prob = gaussian_log_prob(x_prev, step.mean, step.std, mask)
    """

    def __init__(
        self,
        network: DenoiserNetwork,
        schedule: DiffusionSchedule,
        normalizer: Normalizer,
        skeleton: Skeleton,
        sampling: DenoisingSettings,
        trained_frames: int | None = None,
    ) -> None:
        """Moves the network to the device of the settings, sets eval mode and respaces the schedule.

        Adapters are injected into the network in place, before or after this (`rollouts/checkpoints/adapters.py`).

        Args:
            trained_frames: frames of the longest motions that the network has seen; by default all that it can make.

        Raises:
            UserError: network, statistics and skeleton have different numbers of features, the device does not exist,
                or the schedule has fewer steps than requested.
        """
        widths = {
            "network": network.num_features,
            "normalizer": normalizer.num_features,
            f"skeleton {skeleton.name}": skeleton.num_features,
        }
        if len(set(widths.values())) > 1:
            listed = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise UserError(f"the number of features disagrees: {listed}")
        self.device = resolve_device(sampling.device)
        self.network = network.to(self.device).eval()
        self._set_denoising(schedule, sampling.denoising)
        last = int(self.schedule.timestep_map[-1])
        if last >= network.max_positions:
            raise UserError(f"the schedule has step {last}; max_positions is {network.max_positions}")
        self.normalizer = normalizer
        self.skeleton = skeleton
        self.sampling = sampling
        self.trained_frames = trained_frames or network.max_positions - 1
        dtype = DTYPES[sampling.amp_dtype]
        if not multiplies(self.device, dtype):
            logger.warning(
                "amp_dtype is %s, which this CPU has no units for: fp32 will be many times faster", sampling.amp_dtype
            )
        set_scan_backend(network, sampling.scan_backend, self.device)
        self._denoiser = Denoiser(network, dtype)

    @property
    def most_frames_at_once(self) -> int:
        """Most frames that are denoised as a whole."""
        return min(self.network.max_positions - 1, MAX_FRAMES)

    @property
    def max_frames(self) -> int | None:
        """Most frames of a motion; None where composed denoising cuts longer ones into segments."""
        return None if self.sampling.composite_denoising == "composed" else self.most_frames_at_once

    def _set_denoising(self, schedule: DiffusionSchedule, denoising: Denoising) -> None:
        """`schedule` is the one that the network was trained with."""
        self._whole_schedule = schedule
        self._denoising = denoising
        self._sampler = make_sampler(denoising)
        steps = denoising.sampling_steps
        try:
            self.schedule = schedule if steps is None else schedule.respaced(steps)
        except UserError as error:
            raise UserError(f"sampling_steps is {steps}; the policy has {schedule.num_steps}: {error}") from error

    def denoising(self, denoising: Denoising) -> DiffusionPolicy:
        """The same policy, with the same weights in the same memory, that denoises in another way.

        Raises:
            UserError: the schedule has fewer steps than asked for, or there is no such sampler.
        """
        other = copy.copy(self)
        other._set_denoising(self._whole_schedule, denoising)
        return other

    @property
    def num_steps(self) -> int:
        """Number K of denoising steps; positions are 0 (noisiest) to K - 1 (the noiseless last one)."""
        return self.schedule.num_steps

    def transition(
        self,
        x_t: Tensor,
        position: int | Tensor,
        condition: Tensor | EmbeddedCondition,
        mask: Tensor | None,
        *,
        stochastic: bool = True,
        inpainting: Inpainting | None = None,
        text_mask: Tensor | None = None,
        boundaries: Boundaries = (),
        before: Prediction | None = None,
        num_frames: int = 0,
    ) -> Transition:
        """Gaussian of the denoising step from x_t, including guidance.

        Args:
            x_t: [N, T, D] float32, normalised.
            position: position in the denoising sequence, one for all samples or [N] int64.
            condition: text encoder output, or the result of `embed`, which says its shapes.
            mask: [N, T] bool, True = real frame; None = all are real.
            stochastic: False gives the sampler's step without noise (std 0) through the same prediction.
            inpainting: given parts of the motion.
            text_mask: of a condition that is text encoder output; see `embed`.
            boundaries: of such a condition; see `embed`.
            before: what the step before predicted, if neither of the two is stochastic; see `prediction`.
            num_frames: not used; the states say it.

        Gradients flow to the network's parameters where autograd is on.
        """
        indices = self._indices(position, x_t.shape[0])
        x_t = x_t.float()
        # Scoring embeds all steps too, as the sampling loop does: the same matrix product gives the same bits.
        embedded = (
            condition if isinstance(condition, EmbeddedCondition) else self.embed(condition, text_mask, boundaries)
        )
        x0 = (self._compose if embedded.boundaries else self._predict)(x_t, indices, embedded, mask)
        if inpainting is not None:
            x0 = inpainting.fill(x0)
        step = StepCoefficients.of(self.schedule, indices, before)
        return (self._sampler.transition if stochastic else self._sampler.noiseless)(x_t, x0, step)

    @property
    def step_stds(self) -> np.ndarray:
        """Standard deviation of every position's stochastic step, [K]; 0 in the last one.

        Raises:
            UserError: the sampler draws no noise.
        """
        steps = StepCoefficients.of(self.schedule, np.arange(self.num_steps)[::-1])
        nowhere = torch.zeros(self.num_steps, 1, 1)
        return self._sampler.transition(nowhere, nowhere, steps).std.numpy()

    @property
    def noise_drops(self) -> np.ndarray:
        """Decrease of the noise level in every position's step (`noise_level_drops`), float64 [K]."""
        return noise_level_drops(self.schedule)

    def state_shape(self, num_frames: int) -> tuple[int, int]:
        """Shape (T, D) of a noisy motion."""
        return num_frames, self.skeleton.num_features

    def prediction(self, step: Transition, position: int) -> Prediction:
        """What a deterministic step leaves for the one after it."""
        levels = self.schedule.alphas_cumprod[self._indices(position, len(step.x0))]
        return Prediction(step.x0, levels)

    def noiseless(self, x_t: Tensor, x0: Tensor, position: int | Tensor) -> Tensor:
        """State [N, T, D] after the sampler's step without noise from x_t, given the predicted clean motion; arguments
        as of `transition`."""
        step = StepCoefficients.of(self.schedule, self._indices(position, x_t.shape[0]))
        return self._sampler.noiseless(x_t, x0, step).mean

    def embed(
        self, text: Tensor, text_mask: Tensor | None = None, boundaries: Boundaries = (), num_frames: int = 0
    ) -> EmbeddedCondition:
        """Embeds text encoder output, the null text and all time steps, for use within one sampling loop.

        Args:
            text: [N, L, E]; L is 1 for pooled embeddings. For composed denoising [N, segments, L, E].
            text_mask: [N, L] or [N, segments, L] bool, True = real token; None = all are real.
            boundaries: frames of the segments in composed denoising.
            num_frames: not used; the states say it.

        Raises:
            ValueError: other numbers of texts and segments.
        """
        if text.ndim != (4 if boundaries else 3) or (boundaries and text.shape[1] != len(boundaries)):
            raise ValueError(f"text has shape {tuple(text.shape)} for {len(boundaries)} segments")
        timesteps = torch.as_tensor(self.schedule.timestep_map, device=self.device)
        texts = text.flatten(0, -3)
        embedded = (self.network.encode_text(texts), self.network.encode_null(*texts.shape[:2]))
        own, null = (part.unflatten(0, text.shape[:-2]) for part in embedded)
        return EmbeddedCondition(own, null, self.network.embed_timesteps(timesteps), text_mask, boundaries)

    def inference(self) -> AbstractContextManager[None]:
        """Disables gradients; casts or merges weights once for all forwards inside. They must not change meanwhile."""
        return self._denoiser.inference()

    def accumulation(self) -> AbstractContextManager[None]:
        """Casts or merges weights once for many forwards and backwards; gradients reach the parameters at the end.
        Weights must not change inside."""
        return self._denoiser.accumulation()

    def adapters_disabled(self) -> AbstractContextManager[None]:
        """The reference policy: inside the block the same network uses its base weights.

        Raises:
            ValueError: the network has no adapters, so there is no reference to fall back to.
        """
        return self._denoiser.adapters_disabled()

    def _compose(self, x_t: Tensor, indices: np.ndarray, embedded: EmbeddedCondition, mask: Tensor | None) -> Tensor:
        """Clean motion [N, T, D] from predictions of the segments (`rollouts/diffusion/composition.py`)."""
        if x_t.shape[1] != embedded.boundaries[-1][1]:
            raise ValueError(f"the motion has {x_t.shape[1]} frames, its segments are {embedded.boundaries}")
        plan = composition(
            embedded.boundaries,
            self._denoising.composite_overlap,
            self._denoising.composite_blend,
            self.device,
            mix_lengths=self.network.hides_padding,
        )
        predictions = []
        for batch in plan.batches:
            chosen = list(batch.segments)
            texts, nulls, text_masks = (
                None if part is None else part[:, chosen].flatten(0, 1)
                for part in (embedded.text, embedded.null, embedded.mask)
            )
            assert texts is not None and nulls is not None
            masks = [] if batch.mask is None else [batch.mask.repeat(len(x_t), 1)]
            if mask is not None:
                masks.append(plan.cut(mask, batch))
            part = EmbeddedCondition(texts, nulls, embedded.times, text_masks)
            repeated = indices.repeat(len(chosen))
            predictions.append(self._predict(plan.cut(x_t, batch), repeated, part, _all_of(masks)))
        return plan.joined(predictions)

    def _predict(self, x_t: Tensor, indices: np.ndarray, embedded: EmbeddedCondition, mask: Tensor | None) -> Tensor:
        """Guided clean motion [N, T, D] float32 from one forward of N or 2N samples."""
        assert not self.network.training, "the policy acts in eval mode: dropout makes rollout and scoring disagree"
        scale = self._denoising.guidance_scale
        text, null, text_mask = embedded.text, embedded.null, embedded.mask
        time = embedded.times[moved(indices, self.device)]
        if scale == 1.0:
            return self._denoiser(x_t, text, time, mask, text_mask)
        if scale == 0.0:
            return self._denoiser(x_t, null, time, mask, text_mask)
        masks = (None if given is None else given.repeat(2, 1) for given in (mask, text_mask))
        output = self._denoiser(x_t.repeat(2, 1, 1), torch.cat([text, null]), time.repeat(2, 1), *masks)
        conditional, unconditional = output.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    def _indices(self, position: int | Tensor, num_samples: int) -> np.ndarray:
        """Table indices [N] of a position or of one position per sample."""
        positions = position.cpu().numpy() if isinstance(position, Tensor) else np.full(num_samples, position)
        if positions.shape != (num_samples,) or positions.min() < 0 or positions.max() >= self.num_steps:
            raise ValueError(
                f"position is {positions.tolist()}; expected {num_samples} positions from 0 to {self.num_steps - 1}"
            )
        return self.num_steps - 1 - positions


def _all_of(masks: list[Tensor]) -> Tensor | None:
    """Where all masks are True; None without any."""
    return functools.reduce(torch.logical_and, masks) if masks else None


def require_denoising(policy: Policy, what: str) -> DiffusionPolicy:
    """The policy, if it denoises.

    Args:
        what: the option that needs it, with its value.

    Raises:
        UserError: it is of another kind.
    """
    if not isinstance(policy, DiffusionPolicy):
        raise UserError(f"{what} needs a policy that denoises; this one draws one action and has no noise levels")
    return policy
