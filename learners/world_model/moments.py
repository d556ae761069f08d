"""The reference motion as tensors: what observations, targets and rewards need of it at any time.

The tables of `envs.task.reference` are sampled once per clip at `GRID_HZ`, and a lookup takes the nearest sample, at
most .42 ms away.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.body.tracked import BODIES_PART, ROOT_LINEAR, ROTATIONS, TRACKED_BODIES, VELOCITIES
from envs.task.imitation_task import ImitationTask
from learners.world_model.characters import BALLS, HINGES, NUM_COORDINATES, SORTED, matrices

GRID_HZ = 1200.0


class Moments(NamedTuple):
    """The reference at times [...], with the first cycle's origin at 0."""

    root_axes: Tensor
    """Rotation matrix [..., 3, 3] of the root."""
    balls: Tensor
    """Local rotation matrices [..., 8, 3, 3]."""
    hinges: Tensor
    """Angles [..., 4] of the hinges."""
    place: Tensor
    """Position [..., 3] of the root."""
    linear: Tensor
    """Velocity [..., 3] of the root."""
    turning: Tensor
    """Angular velocity [..., 3] of the root in the world."""
    spins: Tensor
    """Angular velocities [..., 8, 3] of the balls in their own frames."""
    hinge_rates: Tensor
    """Rates [..., 4] of the hinges."""
    effectors: Tensor
    """Hands and feet [..., 4, 3] in the frame that the reward uses, in the order of `END_EFFECTORS`."""
    near: Tensor
    """Sorted joint coordinates [..., 28] at the lookahead; policies observe and act in their branch of Euler angles."""
    aims: Tensor
    """Sorted PD targets [..., 28] of the action 0 with residual actions."""
    circle: Tensor
    """Cosine and sine [..., 2] of the phase."""
    places: Tensor
    """Positions [..., S, 3] of the root at S later times."""
    directions: Tensor
    """[..., 2 S, 3] at the same times: the root's x and y axis."""
    later: Tensor
    """[..., S, 28] at the same times: joint coordinates in MuJoCo's order."""


class ReferenceTable:
    """Lookups in the reference of a task.

    Args:
        task: its clips, lookahead and targets; its state is not used.
    """

    def __init__(self, task: ImitationTask) -> None:
        reference = task.reference
        self._durations = torch.from_numpy(reference.durations)
        self._cyclic = torch.from_numpy(reference.cyclic)
        self._offsets = torch.from_numpy(reference.offsets).float()
        self._effectors_move = reference.recipe.end_effector_frame == "world"
        counts = [math.ceil(float(duration) * GRID_HZ) for duration in reference.durations]
        self._counts = torch.tensor(counts)
        # A clip that does not repeat has one more sample, for all times after its end.
        sizes = [count + (not cyclic) for count, cyclic in zip(counts, reference.cyclic, strict=True)]
        self._starts = torch.tensor([0, *np.cumsum(sizes)[:-1].tolist()])
        parts = [_samples(task, clip, size, counts[clip]) for clip, size in enumerate(sizes)]
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        self._shapes = [column.shape[1:] for column in columns]
        self._table = torch.cat([column.flatten(1) for column in columns], dim=1)

    def cycles(self, clip: Tensor, times: Tensor) -> Tensor:
        """Whole cycles [...] since time 0 (float64 seconds); 0 for clips that do not repeat."""
        return torch.floor(times / self._durations[clip]) * self._cyclic[clip]

    def ended(self, clip: Tensor, times: Tensor) -> Tensor:
        """Whether a clip that does not repeat is over at times [...]."""
        return ~self._cyclic[clip] & (times >= self._durations[clip] - 1e-9)

    def at(self, clip: Tensor, times: Tensor) -> Moments:
        """The reference at times [...] (float64 seconds) of clips [...] (indices)."""
        count, cyclic = self._counts[clip], self._cyclic[clip]
        sample = (times / self._durations[clip] * count).round().long()
        row = torch.where(cyclic, sample % count, torch.minimum(sample, count))
        values = self._table[self._starts[clip] + row].split([math.prod(shape) for shape in self._shapes], dim=-1)
        found = Moments(*(part.unflatten(-1, shape) for part, shape in zip(values, self._shapes, strict=True)))
        cycles = torch.div(sample, count, rounding_mode="floor") * cyclic
        way = cycles.unsqueeze(-1) * self._offsets[clip]
        return found._replace(
            place=found.place + way,
            places=found.places + way.unsqueeze(-2),
            effectors=found.effectors + way.unsqueeze(-2) if self._effectors_move else found.effectors,
        )


def _samples(task: ImitationTask, clip: int, size: int, count: int) -> list[Tensor]:
    """Columns of the first `size` of `count` samples of a clip, in the order of `Moments`."""
    reference, clips = task.reference, np.full(size, clip)
    times = np.arange(size) / count * reference.durations[clip]
    moment = reference.look(clips, times, task.ahead)
    effectors = reference.state(clips, times, np.zeros((size, 3))).tracked.end_effectors
    packed, prospect = _tensor(moment.packed), moment.prospect
    rotations = matrices(packed[:, ROTATIONS].unflatten(-1, (len(TRACKED_BODIES), 4)))
    velocities = packed[:, VELOCITIES].unflatten(-1, (len(TRACKED_BODIES), 3))
    vectors = _tensor(prospect.vectors).unflatten(-1, (-1, 3, 3))
    balls, hinges = ([TRACKED_BODIES.index(name) for name in names] for names in (BALLS, HINGES))
    return [
        rotations[:, 0],
        rotations[:, balls],
        # The hinges turn about -y.
        torch.atan2(rotations[:, hinges, 2, 0], rotations[:, hinges, 0, 0]),
        packed[:, BODIES_PART][:, :3],
        packed[:, ROOT_LINEAR],
        velocities[:, 0],
        velocities[:, balls],
        -velocities[:, hinges, 1],
        _tensor(effectors),
        _tensor(prospect.near)[:, SORTED],
        _tensor(prospect.aims)[:, SORTED],
        _tensor(prospect.circle),
        vectors[:, :, 0],
        vectors[:, :, 1:].flatten(1, 2),
        _tensor(prospect.coordinates).unflatten(-1, (-1, NUM_COORDINATES)),
    ]


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array)).float()
