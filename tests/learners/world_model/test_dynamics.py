"""The model of the dynamics: what it represents, and how well a little data lets it predict the simulator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from envs.mujoco.physics import make_physics
from envs.settings import DeepMimicSettings, JointModel
from learners.world_model.characters import SORTED, UNSORTED, Characters, joints_of, matrices
from learners.world_model.dynamics import DynamicsModel, window_loss
from learners.world_model.imagination import ImaginedTask
from learners.world_model.replay import Replay
from tests.toys.characters.character_rollouts import character_env, open_loop_rollout

KINDS: tuple[JointModel, ...] = ("hinge", "ball")


def fitted(kind: JointModel) -> tuple[DynamicsModel, Replay]:
    """A model that is only its linear part, fitted to two thousand steps, and what it was fitted to."""
    task = ImaginedTask(character_env(1, joints=kind).task)
    replay, model = Replay(task, 10_000), DynamicsModel(joints_of(kind), 1 / 30, (16,), seed=0)
    replay.add(open_loop_rollout(kind))
    window = replay.windows(4_000, 1, torch.Generator().manual_seed(0))
    error = model.fit_linear(window.start, window.targets[0], Characters(*(part[0] for part in window.later)))
    assert error < 0.3
    return model, replay


@pytest.mark.parametrize("kind", KINDS)
def test_increments_are_what_leads_from_a_state_to_the_next(kind: JointModel) -> None:
    model, replay = fitted(kind)
    window = replay.windows(1, 1, torch.Generator().manual_seed(1))
    after = Characters(*(part[0] for part in window.later))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.output_mean.copy_(model.increments(window.start, after)[0])
    predicted = model(window.start, matrices(window.start.rotation), window.targets[0])
    for mine, true in zip(predicted, after, strict=True):
        assert torch.allclose(mine, true, atol=1e-5)
    assert float(model.errors(predicted, after, torch.ones(1)).abs().max()) < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradients_are_finite_differences_of_the_simulator(kind: JointModel) -> None:
    """How the joints' rates answer to the targets, from the linear part alone."""
    model, replay = fitted(kind)
    rollout = open_loop_rollout(kind)
    assert rollout.states is not None
    where = np.argwhere(rollout.valid & (rollout.states["time"][1:] > 0))[::200][:8]
    qpos, qvel = (np.stack([rollout.states[name][t, n] for t, n in where]) for name in ("qpos", "qvel"))
    starts = replay.starts(1, torch.Generator())
    assert len(starts.time) == 1
    physics = make_physics(DeepMimicSettings(joints=kind))
    from learners.world_model.characters import characters_of

    state = characters_of(torch.from_numpy(qpos).float(), torch.from_numpy(qvel).float())
    targets = model.joints.coordinates(state.joints)
    columns = range(0, 28, 3)
    slopes, answers = [], []
    for column in columns:
        step = np.zeros(28)
        step[SORTED[column]] = 0.02
        plain = targets[:, UNSORTED].double().numpy()
        there, back = (physics.step(qpos, qvel, plain + sign * step, None).qvel for sign in (1, -1))
        slopes.append((there - back)[:, 6:][:, SORTED] / 0.04)
        moved = torch.zeros(28)
        moved[column] = 0.02
        axes = matrices(state.rotation)
        ahead, behind = (model(state, axes, targets + sign * moved).velocity[:, 6:] for sign in (1, -1))
        answers.append(((ahead - behind) / 0.04).detach().numpy())
    true, mine = np.stack(slopes, 1).reshape(len(where), -1), np.stack(answers, 1).reshape(len(where), -1)
    cosines = (true * mine).sum(1) / np.linalg.norm(true, axis=1) / np.linalg.norm(mine, axis=1)
    print(cosines)
    assert np.median(cosines) > 0.9


def test_the_loss_of_a_window_falls_with_training() -> None:
    model, replay = fitted("hinge")
    draw = torch.Generator().manual_seed(0)
    window = replay.windows(64, 4, draw)
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = window_loss(model, *window, root_weight=3.0)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_root_s_weight_shifts_the_loss_to_the_root() -> None:
    model, replay = fitted("hinge")
    window = replay.windows(64, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        light, even, heavy = (float(window_loss(model, *window, root_weight=w)) for w in (1e-6, 1.0, 1e6))
    # The loss is a weighted mean of the root's and the joints' part, which have 12 and 56 numbers.
    assert even == pytest.approx((12 * heavy + 56 * light) / 68, rel=1e-3)
