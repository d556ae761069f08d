"""What the replay keeps, and what it draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from learners.world_model.imagination import ImaginedTask
from learners.world_model.replay import Replay
from motions.base.errors import UserError
from rollouts.control.rollouts import ControlRollout
from tests.toys.characters.character_rollouts import character_env, open_loop_rollout


def numbered() -> ControlRollout:
    """A rollout whose root's x is 1000 n + t; environment 0 is pushed in step 10, environment 1 restarts in step 20."""
    rollout = open_loop_rollout()
    assert rollout.states is not None
    steps, count = rollout.valid.shape
    states = {name: array.copy() for name, array in rollout.states.items()}
    states["qpos"][..., 0] = 1000 * np.arange(count) + np.arange(steps + 1)[:, None]
    states["pushed"][:] = False
    states["pushed"][11, 0] = True
    valid = np.ones_like(rollout.valid)
    valid[20, 1] = False
    return replace(rollout, states=states, valid=valid)


def filled(capacity: int = 10_000) -> Replay:
    replay = Replay(ImaginedTask(character_env(1).task), capacity)
    replay.add(numbered())
    return replay


def test_windows_are_stretches_without_a_push_and_without_a_restart() -> None:
    window = filled().windows(20_000, 8, torch.Generator().manual_seed(0))
    first, later = window.start.position[:, 0], window.later.position[..., 0]
    assert torch.equal(later, first + torch.arange(1, 9)[:, None])
    env, step = (first / 1000).long(), (first % 1000).long()
    assert set(step[env == 2].tolist()) == set(range(23)), "every beginning of a whole window is drawn"
    assert set(step[env == 0].tolist()) == {*range(3), *range(11, 23)}
    assert set(step[env == 1].tolist()) == {*range(13), *range(21, 23)}
    assert window.targets.shape == (8, 20_000, 28)


def test_starts_are_states_that_went_on() -> None:
    starts = filled().starts(20_000, torch.Generator().manual_seed(0))
    env, step = (starts.state.position[:, 0] / 1000).long(), (starts.state.position[:, 0] % 1000).long()
    assert set(step[env == 1].tolist()) == set(range(30)) - {20}
    assert set(step[env == 0].tolist()) == set(range(30))


def test_the_oldest_rollouts_make_room() -> None:
    replay = filled(capacity=3 * 30 * 64)
    for number in range(1, 5):
        rollout = numbered()
        assert rollout.states is not None
        rollout.states["qpos"][..., 2] = 10.0 * number
        replay.add(rollout)
    heights = replay.starts(2_000, torch.Generator().manual_seed(0)).state.position[:, 2]
    assert set(heights.tolist()) == {20.0, 30.0, 40.0}


def test_a_saved_replay_draws_the_same_and_goes_on_alike() -> None:
    one, other = filled(2 * 30 * 64), Replay(ImaginedTask(character_env(1).task), 2 * 30 * 64)
    other.load(one.state())
    for replay in (one, other):
        replay.add(open_loop_rollout())
        replay.add(open_loop_rollout())
    first, second = (replay.windows(50, 4, torch.Generator().manual_seed(5)) for replay in (one, other))
    assert torch.equal(first.targets, second.targets) and torch.equal(first.later.velocity, second.later.velocity)
    empty = Replay(ImaginedTask(character_env(1).task), 100)
    empty.load(Replay(ImaginedTask(character_env(1).task), 100).state())
    empty.add(open_loop_rollout())
    assert len(empty.starts(3, torch.Generator()).time) == 3


def test_what_it_cannot_use_is_refused() -> None:
    with pytest.raises(ValueError, match="without the simulator's states"):
        filled().add(replace(numbered(), states=None))
    with pytest.raises(UserError, match="model_window"):
        filled().windows(4, 31, torch.Generator())
