"""Recorded rollouts of characters: the newest ones, from which updates draw windows of steps and single states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from learners.world_model.characters import Characters, characters_of
from learners.world_model.imagination import ImaginedStarts, ImaginedTask
from motions.base.errors import UserError
from rollouts.control.rollouts import ControlRollout


class Window(NamedTuple):
    """B recorded stretches of K steps."""

    start: Characters
    """States [B] before the first step."""
    targets: Tensor
    """Sorted PD targets [K, B, 28] of the steps."""
    later: Characters
    """States [K, B] after them."""


class Replay:
    """The newest rollouts, each of T steps of N environments, as tensors [R, T + 1, N, ...].

    Example:
        replay = Replay(imagined_task, capacity=250_000)
        replay.add(sampler.collect(controller, 30, iteration))
        window = replay.windows(256, 8, generator)

    Args:
        task: of the environments.
        capacity: largest number of steps, over all environments together; one rollout is kept in any case.
    """

    def __init__(self, task: ImaginedTask, capacity: int) -> None:
        self._task = task
        self._capacity = capacity
        self._columns: dict[str, Tensor] = {}
        self._size = 0
        self._next = 0

    def add(self, rollout: ControlRollout) -> None:
        """Adds a rollout with recorded states; without room it takes the place of the oldest one.

        Raises:
            ValueError: the rollout has no recorded states.
        """
        columns = self._columns_of(rollout)
        if not self._columns:
            self._columns = self._empty(columns)
        for name, value in columns.items():
            self._columns[name][self._next] = value
        room = len(self._columns["valid"])
        self._next, self._size = (self._next + 1) % room, min(self._size + 1, room)

    def windows(self, count: int, steps: int, generator: torch.Generator) -> Window:
        """Random stretches of steps without an end of an episode and without a push.

        Raises:
            UserError: there is none.
        """
        rows = self._drawn(self._columns["run"][: self._size] >= steps, count, generator)
        if rows is None:
            raise UserError(
                f"no recorded stretch of {steps} steps is without a fall and a push; make model_window shorter"
            )
        num_envs = self._columns["valid"].shape[2]
        rows = rows + num_envs * torch.arange(steps + 1)[:, None]
        states = self._states(rows)
        return Window(
            Characters(*(part[0] for part in states)),
            self._taken("targets", rows[:-1]),
            Characters(*(part[1:] for part in states)),
        )

    def starts(self, count: int, generator: torch.Generator) -> ImaginedStarts:
        """Random states that an episode went on from.

        Raises:
            UserError: there is none.
        """
        rows = self._drawn(self._columns["valid"][: self._size], count, generator)
        if rows is None:
            raise UserError("no episode went on from any recorded state: every character fell at once")
        return ImaginedStarts(self._states(rows), *(self._taken(name, rows) for name in ("clip", "time", "origin")))

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs, as tensors and plain values."""
        return {
            "columns": {name: value[: self._size].clone() for name, value in self._columns.items()},
            "next": self._next,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues exactly from `state()`."""
        columns: Mapping[str, Tensor] = state["columns"]
        self._next, self._size = int(state["next"]), len(columns["valid"]) if columns else 0
        self._columns = self._empty({name: value[0] for name, value in columns.items()})
        for name, value in columns.items():
            self._columns[name][: self._size] = value

    def _empty(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not columns:
            return {}
        steps, num_envs = columns["valid"].shape
        room = max(1, self._capacity // ((steps - 1) * num_envs))
        return {name: value.new_zeros((room, *value.shape)) for name, value in columns.items()}

    def _columns_of(self, rollout: ControlRollout) -> dict[str, Tensor]:
        """Tensors [T + 1, N, ...] of a rollout; of what belongs to steps, the last row is empty."""
        if rollout.states is None:
            raise ValueError("the rollout was recorded without the simulator's states, which a world model learns from")
        recorded = {name: torch.from_numpy(np.array(array)) for name, array in rollout.states.items()}
        moments = self._task.reference.at(recorded["clip"], recorded["time"])
        plain = characters_of(recorded["qpos"].float(), recorded["qvel"].float())
        state = self._task.in_branch(plain, moments)
        # Neighbours in different branches of Euler angles are further apart than they were.
        jump = state.joints.diff(dim=0).abs() - plain.joints.diff(dim=0).abs()
        actions, valid = (
            F.pad(torch.from_numpy(array.copy()), (0,) * (2 * array.ndim - 1) + (1,))
            for array in (rollout.actions, rollout.valid)
        )
        disturbed = recorded["pushed"].roll(-1, 0) | F.pad(jump.abs().amax(-1) > 1e-3, (0, 0, 0, 1))
        return {
            **state._asdict(),
            "targets": self._task.targets(actions, moments),
            "clip": recorded["clip"],
            "time": recorded["time"],
            "origin": recorded["origin"].float(),
            "valid": valid,
            "run": _run_lengths(valid & ~disturbed),
        }

    def _drawn(self, allowed: Tensor, count: int, generator: torch.Generator) -> Tensor | None:
        """Rows [count] of the flattened columns, uniformly from those that are allowed [R, T + 1, N]; None without."""
        rows = allowed.flatten().nonzero().squeeze(-1)
        return None if not len(rows) else rows[torch.randint(len(rows), (count,), generator=generator)]

    def _states(self, rows: Tensor) -> Characters:
        return Characters(*(self._taken(name, rows) for name in Characters._fields))

    def _taken(self, name: str, rows: Tensor) -> Tensor:
        column = self._columns[name]
        return column.flatten(0, 2)[rows]


def _run_lengths(steps: Tensor) -> Tensor:
    """Number [T, N] of consecutive True from each step [T, N] on."""
    lengths = torch.zeros(steps.shape, dtype=torch.int32)
    longest = torch.zeros(steps.shape[1:], dtype=torch.int32)
    for row in reversed(range(len(steps))):
        longest = (longest + 1) * steps[row]
        lengths[row] = longest
    return lengths
