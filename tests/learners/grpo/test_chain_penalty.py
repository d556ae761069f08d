"""The KL of the whole denoising chain as a penalty: it holds steps that are not trained; off, it changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learners.grpo.chain_penalty import chain_states
from learners.grpo.settings import GRPOSettings
from rollouts.diffusion.chain_kl import chain_kl
from rollouts.messages import PolicyVersion, RolloutRequest
from tests.toys.tiny_learners import advantages, equal, make_learner, make_policy, make_policy_like, roll_out, train

UPDATES = 8


def untrained_kl(weight: float) -> tuple[float, list[dict[str, float]]]:
    """KL to the base at steps that are not trained, after updates with `kl_chain_penalty`, and their metrics."""
    learner = make_learner(kl_penalty=0.0, kl_chain_penalty=weight, learning_rate=1e-2)
    base = PolicyVersion(0, learner.version().weights)
    metrics = train(learner, UPDATES)
    tuned = learner.version()
    motions, trajectories = roll_out(learner, UPDATES)
    requests = [
        RolloutRequest(0, index, group.prompt, trajectory.condition, 2, 3, (), (), False, tuned.number)
        for index, (group, trajectory) in enumerate(zip(motions, trajectories, strict=True))
    ]
    by_step = chain_kl(make_policy_like(learner.policy), tuned, base, requests)
    return float(by_step[[0, 3, 4]].mean()), metrics


def test_steps_that_are_not_trained_are_held() -> None:
    (free, _), (held, metrics) = untrained_kl(1e-9), untrained_kl(100.0)
    assert held < 0.5 * free
    assert metrics[0]["kl_chain"] == 0.0 < metrics[-1]["kl_chain"]
    assert metrics[-1]["num_pairs"] == 3 * 4 * 2, "the pairs of the policy loss are those of before"


def test_it_changes_nothing_when_off() -> None:
    off, on = make_learner(), make_learner(kl_chain_penalty=1e-30)
    without, with_chain = train(off, 2)[-1], train(on, 2)[-1]
    assert "kl_chain" not in without and with_chain["kl_chain"] > 0
    assert equal(off.version().weights, on.version().weights)


def test_every_step_with_a_density_and_every_sample_is_drawn() -> None:
    learner = make_learner(kl_chain_penalty=1.0)
    _, trajectories = roll_out(learner, 0)
    schedule = make_policy_like(learner.policy).schedule
    steps, samples = set(), set()
    for update in range(40):
        states = chain_states(trajectories, schedule, learner.settings, 7, update)
        again = chain_states(trajectories, schedule, learner.settings, 7, update)
        for state, same, trajectory in zip(states, again, trajectories, strict=True):
            assert state.states.shape == (1, 1, *trajectory.states.shape[2:]) and state.lengths.shape == (1,)
            assert np.array_equal(state.states, same.states)
            steps.add(int(state.steps[0]))
            assert trajectory.motions is not None
            samples |= {
                place
                for place, motion in enumerate(trajectory.motions)
                if np.array_equal(motion, state.next_states[0, 0])
            }
    assert steps == set(range(make_policy().num_steps - 1)) and samples == {0, 1, 2, 3}


def test_it_needs_the_final_motions() -> None:
    learner = make_learner(kl_chain_penalty=1.0)
    _, trajectories = roll_out(learner, 0)
    with pytest.raises(ValueError, match="holds no final motions"):
        learner.update([replace(one, motions=None) for one in trajectories], advantages())
    assert GRPOSettings().kl_chain_penalty == 0.0
