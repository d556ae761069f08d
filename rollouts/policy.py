"""The diffusion policy: a network, a schedule and the one function that turns them into actions.

`transition` is the only place where the Gaussian of a denoising step is computed. Rollout, scoring and reference call
it with the same arguments, so the policy ratio starts at 1: same attention kernels, same guidance (conditional and
unconditional in one batched forward), same precision. The policy acts in eval mode always: dropout would make two
evaluations of the same action disagree.

The denoiser runs on weights made once for many forwards, a differentiable function of the fp32 parameters: scoring
computes with exactly the numbers of the rollout, and gradients arrive in fp32. With `amp_dtype` bf16 or fp16 they are
the cast parameters; operation by operation, autocast would cast them again and again. In fp32 with adapters they are
the merged W + s B A, which halves the time of a small network's forward; half precision keeps adapters apart, since
rounding W + s B A loses at least twice as much of a small update. Embeddings of text and time, and the arithmetic of
the step, are fp32 always.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from motions.normalization import Normalizer
from motions.skeletons import Skeleton
from rollouts.devices import multiplies, resolve_device
from rollouts.mdm import MDM
from rollouts.messages import Weights
from rollouts.schedule import DiffusionSchedule
from rollouts.settings import AmpDtype, SamplingSettings
from rollouts.transitions import StepCoefficients, Transition, ddim_transition, ddpm_transition

logger = logging.getLogger(__name__)

_DTYPES: dict[AmpDtype, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class WeightsError(ValueError):
    """Weights that do not belong to this policy, or hold numbers that are not finite."""


@runtime_checkable
class AdapterLayer(Protocol):
    """What a layer wrapped by an adapter offers (peft's tuner layers do)."""

    disable_adapters: bool
    active_adapters: list[str]
    weight: Tensor
    """Of the layer itself."""

    def get_base_layer(self) -> nn.Module:
        """The layer itself."""
        ...

    def get_delta_weight(self, adapter: str) -> Tensor:
        """What the adapter adds to the weight, a differentiable function of its parameters."""
        ...

    def enable_adapters(self, enabled: bool) -> None:
        """Adds the adapter's output to the layer's, or does not."""
        ...


@dataclass(frozen=True, slots=True)
class Inpainting:
    """Parts of the motion that are given: the clean prediction is replaced there before every step."""

    motion: Tensor
    """[N, T, D] normalised features."""
    keep: Tensor
    """[N, T, D] bool, True = keep the given motion."""

    def repeated(self, times: int) -> Inpainting:
        """Each sample `times` times, next to each other."""
        return Inpainting(self.motion.repeat_interleave(times, dim=0), self.keep.repeat_interleave(times, dim=0))


@dataclass(frozen=True, slots=True)
class EmbeddedCondition:
    """Embeddings of one text per sample and of every step, computed once for a sampling loop.

    A function of the weights: never to be kept across an update, or into or out of `adapters_disabled`.
    """

    text: Tensor
    """[N, L, latent]."""
    null: Tensor
    """[N, 1, latent]."""
    times: Tensor
    """[K, latent], by table index."""

    def repeated(self, times: int) -> EmbeddedCondition:
        """Each sample `times` times, next to each other."""
        return EmbeddedCondition(
            self.text.repeat_interleave(times, dim=0), self.null.repeat_interleave(times, dim=0), self.times
        )


class DiffusionPolicy:
    """Acts by denoising: each step of the (respaced) schedule is a Gaussian action.

    Example:
        policy = DiffusionPolicy(network, DiffusionSchedule("cosine", 50), normalizer, HUMANML3D, SamplingSettings())
        step = policy.transition(x_t, position=3, condition=text, mask=mask)
        log_prob = gaussian_log_prob(x_prev, step.mean, step.std, mask)
    """

    def __init__(
        self,
        network: MDM,
        schedule: DiffusionSchedule,
        normalizer: Normalizer,
        skeleton: Skeleton,
        sampling: SamplingSettings,
    ) -> None:
        """Moves the network to the device of the settings, puts it in eval mode and respaces the schedule.

        Adapters are injected into the network in place, before or after (`rollouts/adapters.py`).

        Raises:
            ValueError: network, statistics and skeleton disagree on the number of features, the device does not
                exist, or the schedule has fewer steps than asked for.
        """
        widths = {
            "network": network.config.num_features,
            "normalizer": normalizer.num_features,
            f"skeleton {skeleton.name}": skeleton.num_features,
        }
        if len(set(widths.values())) > 1:
            listed = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise ValueError(f"the number of features disagrees: {listed}")
        self.device = resolve_device(sampling.device)
        self.network = network.to(self.device).eval()
        self.schedule = schedule if sampling.sampling_steps is None else schedule.respaced(sampling.sampling_steps)
        last = int(self.schedule.timestep_map[-1])
        if last >= network.config.max_positions:
            raise ValueError(f"the schedule has step {last}; max_positions is {network.config.max_positions}")
        self.normalizer = normalizer
        self.skeleton = skeleton
        self.sampling = sampling
        self._dtype = _DTYPES[sampling.amp_dtype]
        if not multiplies(self.device, self._dtype):
            logger.warning(
                "amp_dtype is %s, which this CPU has no units for: fp32 will be many times faster", sampling.amp_dtype
            )
        self._denoiser = _Denoiser(network)
        self._adapted: _Adapted | None = None
        self._made: tuple[_Denoiser, dict[str, Tensor]] | None = None

    @property
    def num_steps(self) -> int:
        """Denoising steps K; positions are 0 (noisiest) to K - 1 (the noiseless last one)."""
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
    ) -> Transition:
        """Gaussian of the step from x_t, guidance included.

        Args:
            x_t: [N, T, D] float32, normalised.
            position: in the denoising sequence, one for all samples or [N] int64.
            condition: text encoder output [N, L, E], or what `embed` made of it.
            mask: [N, T] bool, True = real frame; None = all are real.
            stochastic: False gives the deterministic DDIM step (std 0) through the same prediction.
            inpainting: given parts of the motion.

        Gradients flow to the network's parameters where autograd is on.
        """
        indices = self._indices(position, x_t.shape[0])
        x_t = x_t.float()
        x0 = self._predict(x_t, indices, condition, mask)
        if inpainting is not None:
            x0 = torch.where(inpainting.keep, inpainting.motion, x0)
        step = StepCoefficients.of(self.schedule, indices)
        if not stochastic:
            return ddim_transition(x_t, x0, step, eta=0.0)
        if self.sampling.sampler == "ddpm":
            return ddpm_transition(x_t, x0, step)
        return ddim_transition(x_t, x0, step, eta=self.sampling.eta)

    def embed(self, text: Tensor) -> EmbeddedCondition:
        """Embeds text encoder output [N, L, E], the null text and all time steps, for use within one sampling loop."""
        timesteps = torch.as_tensor(self.schedule.timestep_map, device=self.device)
        return EmbeddedCondition(
            text=self.network.encode_text(text),
            null=self.network.encode_null(text.shape[0]),
            times=self.network.embed_timesteps(timesteps),
        )

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, and weights cast or merged once for all forwards inside; weights must not change meanwhile."""
        with torch.no_grad(), self._running_on(self._make_denoiser()):
            yield

    @contextmanager
    def accumulation(self) -> Iterator[None]:
        """Weights merged once for many forwards and backwards; gradients arrive in the parameters at the end.

        The merge is a sum, so its backward of the added gradients is the sum of its backwards. Weights must not change
        inside. Without adapters, and in half precision, where added gradients would be rounded, nothing is shared.
        """
        if self._dtype != torch.float32:
            yield
            return
        denoiser, made = self._make_denoiser()
        merged = {name: weight for name, weight in made.items() if not weight.is_leaf}
        leaves = {name: weight.detach().requires_grad_() for name, weight in merged.items()}
        with self._running_on((denoiser, made | leaves)):
            yield
        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        torch.autograd.backward([merged[name] for name in gradients], list(gradients.values()))

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """The reference policy: inside, the same network acts with its base weights.

        Raises:
            ValueError: the network has no adapters, so there is no reference to fall back to.
        """
        adapted = self._find_adapters()
        if adapted is None:
            raise ValueError("the network has no adapters; with full fine-tuning the reference is a second policy")
        layers = adapted.layers.values()
        enabled = [layer for layer in layers if not layer.disable_adapters]
        trainable = {parameter: parameter.requires_grad for parameter in adapted.parameters}
        for layer in enabled:
            layer.enable_adapters(False)
        try:
            with self._running_on(None):
                yield
        finally:
            for layer in enabled:
                layer.enable_adapters(True)
            # peft's switch freezes and thaws adapters as well; what was trainable is trainable again, nothing else.
            for parameter, was_trainable in trainable.items():
                parameter.requires_grad_(was_trainable)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by name: with adapters, theirs alone."""
        return {name: parameter for name, parameter in self.network.named_parameters() if parameter.requires_grad}

    def weights(self) -> Weights:
        """Copies of the trainable parameters, float32 NumPy."""
        return {
            name: parameter.detach().to("cpu", torch.float32, copy=True).numpy()
            for name, parameter in self.trainable_parameters().items()
        }

    def load_weights(self, weights: Weights) -> None:
        """Replaces all trainable parameters. Nothing is changed where an error is raised.

        Raises:
            WeightsError: names missing or unexpected, a wrong shape or dtype, or a number that is not finite.
        """
        parameters = self.trainable_parameters()
        _require_matching(weights, parameters)
        with torch.no_grad():
            for name, parameter in parameters.items():
                # A copy: arrays from an object store are read-only, which torch cannot wrap.
                parameter.copy_(torch.from_numpy(np.array(weights[name])))

    def _predict(
        self, x_t: Tensor, indices: np.ndarray, condition: Tensor | EmbeddedCondition, mask: Tensor | None
    ) -> Tensor:
        """Guided clean motion [N, T, D] float32 from one forward of N or 2N samples."""
        assert not self.network.training, "the policy acts in eval mode: dropout makes rollout and scoring disagree"
        scale = self.sampling.guidance_scale
        # Scoring embeds all steps too, as the sampling loop does: the same matrix product, so the same bits.
        embedded = condition if isinstance(condition, EmbeddedCondition) else self.embed(condition)
        text, null = embedded.text, embedded.null
        time = embedded.times[torch.as_tensor(indices, device=self.device)]
        if scale == 1.0:
            return self._denoise(x_t, text, time, mask)
        if scale == 0.0:
            return self._denoise(x_t, null, time, mask)
        both_masks = None if mask is None else mask.repeat(2, 1)
        output = self._denoise(x_t.repeat(2, 1, 1), torch.cat([text, null]), time.repeat(2, 1), both_masks)
        conditional, unconditional = output.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    def _denoise(self, x: Tensor, text: Tensor, time: Tensor, mask: Tensor | None) -> Tensor:
        """The network's forward in the precision of the settings; the result is float32."""
        denoiser, weights = self._make_denoiser() if self._made is None else self._made
        # Merged weights are given under all their names, so there are no ties to look for, which takes long.
        return functional_call(denoiser, weights, (x, text, time, mask), tie_weights=False).float()

    def _make_denoiser(self) -> tuple[_Denoiser, dict[str, Tensor]]:
        """What runs, and the weights it runs on, a function of the fp32 parameters: cast, merged or as they are."""
        if self._dtype != torch.float32:
            return self._denoiser, {
                name: parameter.to(self._dtype) for name, parameter in self._denoiser.named_parameters()
            }
        adapted = self._find_adapters()
        if adapted is None:
            return self._denoiser, {}
        weights = dict(adapted.base)
        for path, layer in adapted.layers.items():
            for adapter in [] if layer.disable_adapters else layer.active_adapters:
                weights[f"{path}.weight"] = weights[f"{path}.weight"] + layer.get_delta_weight(adapter)
        return adapted.plain, weights

    @contextmanager
    def _running_on(self, made: tuple[_Denoiser, dict[str, Tensor]] | None) -> Iterator[None]:
        """All forwards inside on these weights; None = made for each of them."""
        outside, self._made = self._made, made
        try:
            yield
        finally:
            self._made = outside

    def _find_adapters(self) -> _Adapted | None:
        """Looked for until there are some, since adapters may come after the policy."""
        if self._adapted is None:
            layers = {path: layer for path, layer in self._denoiser.named_modules() if _is_adapter(layer)}
            if layers:
                self._adapted = _Adapted.of(self._denoiser, layers)
        return self._adapted

    def _indices(self, position: int | Tensor, num_samples: int) -> np.ndarray:
        """Table indices [N] of a position or of one position per sample."""
        positions = position.cpu().numpy() if isinstance(position, Tensor) else np.full(num_samples, position)
        if positions.shape != (num_samples,) or positions.min() < 0 or positions.max() >= self.num_steps:
            raise ValueError(
                f"position is {positions.tolist()}; expected {num_samples} positions from 0 to {self.num_steps - 1}"
            )
        return self.num_steps - 1 - positions


def _is_adapter(module: nn.Module) -> TypeGuard[AdapterLayer]:
    """Whether a layer is wrapped by an adapter. The protocol alone would ask every module for every attribute, which
    takes longer than a small network's forward."""
    return hasattr(type(module), "get_delta_weight") and isinstance(module, AdapterLayer)


class _Denoiser(nn.Module):
    """`MDM.denoise` as a module's forward, which is what `functional_call` can run on other weights."""

    def __init__(self, network: MDM) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, text: Tensor, time: Tensor, frame_mask: Tensor | None) -> Tensor:
        return self.network.denoise(x, text, time, frame_mask)


@dataclass(frozen=True, slots=True)
class _Adapted:
    """A denoiser with adapters: found once, since walking through a small network takes as long as its forward."""

    layers: dict[str, AdapterLayer]
    """By path."""
    base: dict[str, Tensor]
    """Parameters and buffers without the adapters', under the names of `plain`; shared tensors under each name."""
    plain: _Denoiser
    """The structure without adapters, to run on merged weights; it holds no numbers."""
    parameters: list[nn.Parameter]
    """All there are, adapters' and base."""

    @staticmethod
    def of(denoiser: _Denoiser, layers: dict[str, AdapterLayer]) -> _Adapted:
        plain = copy.deepcopy(denoiser).to("meta")
        for path in layers:
            layer = plain.get_submodule(path)
            assert _is_adapter(layer)
            parent, _, name = path.rpartition(".")
            setattr(plain.get_submodule(parent), name, layer.get_base_layer())
        tensors = [
            *denoiser.named_parameters(remove_duplicate=False),
            *denoiser.named_buffers(remove_duplicate=False),
        ]
        base = {name.replace(".base_layer.", "."): tensor for name, tensor in tensors if ".lora_" not in name}
        return _Adapted(layers, base, plain, list(denoiser.parameters()))


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
