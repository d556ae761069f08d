"""Runs forwards of a network on a GPU as CUDA graphs, which launch all kernels at once.

A denoiser's forward consists of some two hundred small kernels. Launching them one by one from Python takes
milliseconds, for small batches several times as long as running them. A graph holds one forward for inputs of given
shapes. Weights are copied into tensors that the graphs own, so that a graph outlives the weights that it was captured
with.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_FIRST_RUNS = 2
"""Number of ordinary forwards of a shape before its graph is captured, which costs as much as two of them."""
_MOST_GRAPHS = 64


@dataclass(frozen=True, slots=True, eq=False)
class DenoiserWeights:
    """A denoiser's module and the weights to run it with."""

    module: nn.Module
    weights: dict[str, Tensor]
    """Weights by parameter name; empty to use the module's own."""
    variant: str
    """Describes what else the module's forward depends on besides weights and shapes: with or without adapters."""

    def run(self, *inputs: Tensor) -> Tensor:
        """Runs one forward with these weights."""
        # Merged weights are given under all their names, so the slow search for tied weights can be skipped.
        return functional_call(self.module, self.weights, inputs, tie_weights=False)


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor


class ForwardGraphs:
    """Graphs of one denoiser by variant and shapes; the least recently used ones are dropped. Without gradients."""

    def __init__(self) -> None:
        # By hand, not cachetools.LRUCache: a graph is dropped after a synchronisation and together with its count.
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._runs: Counter[Hashable] = Counter()
        self._held: dict[str, DenoiserWeights] = {}
        self._loaded: dict[str, DenoiserWeights] = {}
        # Graphs never run at the same time, so they share the memory for intermediate results.
        self._pool: Any = None

    def __deepcopy__(self, memo: dict[int, object]) -> ForwardGraphs:
        """A new object: graphs belong to one network, and its copy must capture its own."""
        return ForwardGraphs()

    def run(self, weights: DenoiserWeights, *inputs: Tensor) -> Tensor:
        """Runs one forward on the GPU. Weights must not change between calls with the same object."""
        key = (weights.variant, *((value.shape, value.dtype) for value in inputs))
        graph = self._graphs.get(key)
        if graph is None:
            self._runs[key] += 1
            if self._runs[key] <= _FIRST_RUNS:
                return weights.run(*inputs)
            graph = self._capture(key, weights, inputs)
        self._graphs.move_to_end(key)
        self._load(weights)
        for held, value in zip(graph.inputs, inputs, strict=True):
            held.copy_(value)
        graph.graph.replay()
        return graph.output.clone()

    def _capture(self, key: Hashable, weights: DenoiserWeights, inputs: tuple[Tensor, ...]) -> _Graph:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        held = self._load(weights)
        own = tuple(value.clone() for value in inputs)
        graph = torch.cuda.CUDAGraph()
        # Libraries initialise themselves in a stream's first forward, which must not be recorded.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            held.run(*own)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, pool=self._pool, stream=stream):
            output = held.run(*own)
        captured = self._graphs[key] = _Graph(graph, own, output)
        if len(self._graphs) > _MOST_GRAPHS:
            torch.cuda.synchronize()
            dropped, _ = self._graphs.popitem(last=False)
            del self._runs[dropped]
        return captured

    def _load(self, weights: DenoiserWeights) -> DenoiserWeights:
        """The graphs' own weights of the variant, updated to `weights`."""
        held = self._held.get(weights.variant)
        if held is None:
            own = {name: value.detach().clone() for name, value in weights.weights.items()}
            held = self._held[weights.variant] = DenoiserWeights(weights.module, own, weights.variant)
        elif self._loaded[weights.variant] is not weights:
            for name, value in held.weights.items():
                value.copy_(weights.weights[name])
        self._loaded[weights.variant] = weights
        return held
