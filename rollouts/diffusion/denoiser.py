"""Runs a network with weights that are computed once for many forwards.

The weights are a differentiable function of the fp32 parameters: scoring uses exactly the numbers of the rollout, and
gradients arrive in fp32. In bf16 or fp16 they are the cast parameters (autocast would cast them again for every
operation). In fp32 with adapters they are the merged W + s B A, which halves the time of a small network's forward;
half precision keeps adapters separate, since rounding W + s B A loses at least twice as much of a small update.

On a GPU, forwards without gradients are replayed as CUDA graphs (`rollouts/diffusion/cuda_graphs.py`).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from rollouts.diffusion.cuda_graphs import DenoiserWeights, ForwardGraphs
from rollouts.policy import PolicyNetwork


@runtime_checkable
class AdapterLayer(Protocol):
    """Interface of a layer that is wrapped by an adapter (peft's tuner layers have it)."""

    disable_adapters: bool
    active_adapters: list[str]
    weight: Tensor
    """Weight of the layer itself."""

    def get_base_layer(self) -> nn.Module:
        """The layer itself."""
        ...

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The adapter's change of the weight, a differentiable function of its parameters."""
        ...

    def enable_adapters(self, enabled: bool) -> None:
        """Turns the adapter's contribution to the layer's output on or off."""
        ...


class Denoiser:
    """`DenoiserNetwork.denoise`, or another forward of a network, in a precision, with or without its adapters.

    Adapters may be injected into the network before or after this object is made.
    """

    def __init__(self, network: PolicyNetwork, dtype: torch.dtype, module: nn.Module | None = None) -> None:
        """Wraps a network.

        Args:
            dtype: of the weights in forwards.
            module: holds the network as `network`, and whose forward is run; by default `DenoiserNetwork.denoise`.
        """
        self._module = _DenoiserModule(network) if module is None else module
        self._dtype = dtype
        self._adapted: _Adapted | None = None
        self._made: DenoiserWeights | None = None
        self._graphs = ForwardGraphs()

    def __call__(
        self, x: Tensor, text: Tensor, time: Tensor, mask: Tensor | None, text_mask: Tensor | None = None
    ) -> Tensor:
        """Clean motion [N, T, D] float32; arguments as those of `DenoiserNetwork.denoise`."""
        inputs = (x, text, time) if mask is None else (x, text, time, mask)
        if text_mask is not None:
            # Inputs are told apart by their shapes, so None becomes a mask without entries.
            inputs = (x, text, time, x.new_empty(0, dtype=torch.bool) if mask is None else mask, text_mask)
        return self.run(*inputs)

    def run(self, *inputs: Tensor) -> Tensor:
        """Output of the module's forward, float32."""
        made = self._make() if self._made is None else self._made
        replayed = self._made is not None and inputs[0].device.type == "cuda" and not torch.is_grad_enabled()
        return (self._graphs.run(made, *inputs) if replayed else made.run(*inputs)).float()

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Disables gradients; casts or merges weights once for all forwards inside. They must not change meanwhile."""
        with torch.no_grad(), self._running_on(self._make()):
            yield

    @contextmanager
    def accumulation(self) -> Iterator[None]:
        """Casts or merges weights once for many forwards and backwards; gradients reach the parameters at the end.

        A merge is a sum, so its backward of the added gradients equals the sum of its backwards. Casts pass every
        gradient on immediately, to be added in fp32. Weights must not change inside.
        """
        made = self._make()
        derived = {name: weight for name, weight in made.weights.items() if not weight.is_leaf}
        leaves = {name: weight.detach().requires_grad_() for name, weight in derived.items()}
        sums = _Fp32Sums(leaves) if self._dtype != torch.float32 else None
        with self._running_on(dataclasses.replace(made, weights=made.weights | leaves)):
            yield
        if sums is not None:
            sums.add_to(dict(self._module.named_parameters()))
            return
        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        torch.autograd.backward([derived[name] for name in gradients], list(gradients.values()))

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """Inside the block the network uses its base weights.

        Raises:
            ValueError: the network has no adapters.
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
            # peft's switch freezes and unfreezes adapters too; restore exactly which parameters were trainable.
            for parameter, was_trainable in trainable.items():
                parameter.requires_grad_(was_trainable)

    def _make(self) -> DenoiserWeights:
        """The module to run and its weights: cast, merged or unchanged."""
        adapted = self._find_adapters()
        if self._dtype != torch.float32:
            cast = {name: parameter.to(self._dtype) for name, parameter in self._module.named_parameters()}
            adapting = adapted is not None and not all(layer.disable_adapters for layer in adapted.layers.values())
            return DenoiserWeights(self._module, cast, "cast, adapted" if adapting else "cast")
        if adapted is None:
            return DenoiserWeights(self._module, {}, "as they are")
        weights = dict(adapted.base)
        for path, layer in adapted.layers.items():
            for adapter in [] if layer.disable_adapters else layer.active_adapters:
                weights[f"{path}.weight"] = weights[f"{path}.weight"] + layer.get_delta_weight(adapter)
        return DenoiserWeights(adapted.plain, weights, "merged")

    @contextmanager
    def _running_on(self, made: DenoiserWeights | None) -> Iterator[None]:
        """Uses these weights for all forwards inside; None computes them for each forward."""
        outside, self._made = self._made, made
        try:
            yield
        finally:
            self._made = outside

    def _find_adapters(self) -> _Adapted | None:
        """Searches for adapters until there are some, since they may be added after this object."""
        if self._adapted is None:
            layers = {path: layer for path, layer in self._module.named_modules() if _is_adapter(layer)}
            if layers:
                self._adapted = _Adapted.of(self._module, layers)
        return self._adapted


class _Fp32Sums:
    """Sums gradients of half-precision leaves in fp32 as they arrive; torch's own sums would be rounded."""

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        self._sums: dict[str, Tensor] = {}
        for name, leaf in leaves.items():
            leaf.register_post_accumulate_grad_hook(functools.partial(self._take, name))

    def _take(self, name: str, leaf: Tensor) -> None:
        assert leaf.grad is not None
        gradient, leaf.grad = leaf.grad.float(), None
        self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient

    def add_to(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Adds the sums to the gradients of the parameters that the leaves are casts of."""
        for name, total in self._sums.items():
            parameter = parameters[name]
            parameter.grad = total if parameter.grad is None else parameter.grad + total


def _is_adapter(module: nn.Module) -> TypeGuard[AdapterLayer]:
    """Whether a layer is wrapped by an adapter. Checking the protocol alone would query every attribute of every
    module, which takes longer than a small network's forward."""
    return hasattr(type(module), "get_delta_weight") and isinstance(module, AdapterLayer)


class _DenoiserModule(nn.Module):
    """`DenoiserNetwork.denoise` as a module's forward, which is what `functional_call` can run on other weights."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        x: Tensor,
        text: Tensor,
        time: Tensor,
        frame_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        if frame_mask is not None and frame_mask.numel() == 0:
            frame_mask = None
        return self.network.denoise(x, text, time, frame_mask, text_mask)


@dataclass(frozen=True, slots=True)
class _Adapted:
    """A denoiser with adapters, found once, since traversing a small network takes as long as its forward."""

    layers: dict[str, AdapterLayer]
    """Adapted layers by path."""
    base: dict[str, Tensor]
    """Parameters and buffers except the adapters', under the names of `plain`; shared tensors under each name."""
    plain: nn.Module
    """The structure without adapters and without numbers, to run with merged weights."""
    parameters: list[nn.Parameter]
    """All parameters, of adapters and base."""

    @staticmethod
    def of(module: nn.Module, layers: dict[str, AdapterLayer]) -> _Adapted:
        plain = copy.deepcopy(module).to("meta")
        for path in layers:
            layer = plain.get_submodule(path)
            assert _is_adapter(layer)
            parent, _, name = path.rpartition(".")
            setattr(plain.get_submodule(parent), name, layer.get_base_layer())
        tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        base = {name.replace(".base_layer.", "."): tensor for name, tensor in tensors if ".lora_" not in name}
        return _Adapted(layers, base, plain, list(module.parameters()))
