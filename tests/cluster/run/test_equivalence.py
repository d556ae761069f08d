"""GRPO on a tiny real policy: one process, Ray with two rollout actors, stopped and resumed: the same bits.

The parts are the real ones (MDM with and without LoRA, TMR, GRPO learner), with small sizes and random weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.run.algorithm import Algorithm
from cluster.run.roles import training_roles
from cluster.runtime.local import LocalRuntime
from cluster.runtime.on_ray import RayRuntime
from cluster.runtime.protocol import Factory, Runtime
from cluster.settings import ClusterSettings
from learners.grpo.advantages import Advantages, group_advantages
from rewards.messages import RewardTerms
from rewards.mixing import MixedRewards, combine
from rollouts.messages import RolloutRequest, TextCondition
from tests.toys.running.cluster_runs import ToyRun, final_state, results_of
from tests.toys.small_tmr import prompt_of
from tests.toys.tiny_parts import (
    GRPO,
    REWARDS,
    build_dying_learner,
    build_following_learner,
    build_learner,
    build_rollouts,
    build_semantic,
    build_stale_learner,
)
from tests.toys.tiny_policy import TEXT_DIM, refined_condition

pytestmark = pytest.mark.slow

PROMPTS = (prompt_of(("walks", 18), ("kicks", 17)), prompt_of(("jumps", 20)), prompt_of(("turns", 16), ("falls", 24)))


class Batches:
    """The three prompts, those of two segments composed, with two noisy and trained steps of six."""

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        window = (1 + step % 3, 2 + step % 3)
        return [self.request(step, index, policy_version, window, 4) for index in range(len(PROMPTS))]

    def evaluation(self, policy_version: int) -> list[RolloutRequest]:
        return [self.request(99, index, policy_version, (), 2) for index in range(len(PROMPTS))]

    def request(
        self, step: int, index: int, policy_version: int, window: tuple[int, ...], num_samples: int
    ) -> RolloutRequest:
        prompt = PROMPTS[index]
        composed = len(prompt.segments) > 1
        shape = (len(prompt.segments), 1, TEXT_DIM) if composed else (1, TEXT_DIM)
        texts = np.random.default_rng(index).standard_normal(shape, np.float32)
        return RolloutRequest(
            step=step,
            prompt_index=index,
            prompt=prompt,
            condition=TextCondition(texts, boundaries=prompt.boundaries if composed else ()),
            num_samples=num_samples,
            seed=11,
            stochastic_steps=window,
            trained_steps=window,
            share_initial_noise=bool(window),
            policy_version=policy_version,
        )


class KeepingBatches(Batches):
    """The same prompts for a loss that follows the reward's gradient."""

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        plain = {"stochastic_steps": (), "trained_steps": (), "share_initial_noise": False}
        return [
            replace(request, **plain, kept_steps=request.trained_steps)
            for request in super().requests(step, policy_version)
        ]


class WholeBatches(Batches):
    """The same prompts, each read as one text, or as a motion by a policy that refines."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def request(
        self, step: int, index: int, policy_version: int, window: tuple[int, ...], num_samples: int
    ) -> RolloutRequest:
        request = super().request(step, index, policy_version, WINDOWS[self._kind] if window else (), num_samples)
        if self._kind == "physics_ssm":
            return replace(request, condition=TextCondition(refined_condition(request.prompt.num_frames, index)))
        text = np.random.default_rng(index).standard_normal((1, TEXT_DIM), np.float32)
        return replace(request, condition=TextCondition(text))


WINDOWS = {"mamba": (1, 2), "motion_ssm": (0,), "physics_ssm": (0,)}
"""Trained steps by kind of policy, beside that of the run with a killed learner."""
ADAPTED_LEARNER = functools.partial(build_learner, adapters=True)
ADAPTED_ROLLOUTS = functools.partial(build_rollouts, adapters=True)


def mix(results: Sequence[RewardTerms], prompt_text: str) -> MixedRewards:
    return combine(results, REWARDS, prompt_text)


def advantages(total: np.ndarray, terms: dict[str, np.ndarray]) -> Advantages:
    return group_advantages(total, GRPO)


ALGORITHM = Algorithm(Batches(), ("semantic",), mix, advantages)
FOLLOWING = Algorithm(KeepingBatches(), ("semantic",), mix, advantages)
STALE = Algorithm(Batches(), ("semantic",), mix, advantages, staleness=1)


def run(
    folder: Path,
    runtime: Callable[[], Runtime],
    num_rollout_actors: int = 1,
    learner: Factory = build_learner,
    algorithm: Algorithm = ALGORITHM,
    rollouts: Factory = build_rollouts,
    num_learners: int = 1,
    **settings: Any,
) -> None:
    cluster = ClusterSettings(num_rollout_actors=num_rollout_actors, num_learners=num_learners)
    roles = training_roles(cluster, rollouts, {"semantic": build_semantic}, learner)
    with ToyRun(folder, roles, runtime, algorithm, **{"eval_every": 5, **settings}) as controller:
        controller.run()


def flat(state: Any) -> list[Any]:
    """Leaves of a learner's state in order, tensors as bytes."""
    if isinstance(state, torch.Tensor):
        return [(str(state.dtype), tuple(state.shape), state.contiguous().numpy().tobytes())]
    if isinstance(state, dict):
        return [leaf for key in sorted(state, key=str) for leaf in [key, *flat(state[key])]]
    if isinstance(state, list | tuple):
        return [leaf for item in state for leaf in flat(item)]
    return [state]


def without_clocks(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if not k.startswith("policy/seconds")} for line in results_of(folder)]


def assert_same(folder: Path, other: Path) -> None:
    assert flat(final_state(folder)) == flat(final_state(other))
    assert without_clocks(folder) == without_clocks(other)
    assert (folder / "evaluations.jsonl").read_bytes() == (other / "evaluations.jsonl").read_bytes()


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps of a policy with adapters in one process."""
    folder = tmp_path_factory.mktemp("local") / "run"
    run(folder, LocalRuntime, learner=ADAPTED_LEARNER, rollouts=ADAPTED_ROLLOUTS)
    return folder


def test_the_run_is_on_policy_and_moves(local_run: Path) -> None:
    updates = [line for line in results_of(local_run) if "reward/total" in line]
    assert len(updates) == 5
    assert all(line["policy/first_ratio_error"] <= 1e-5 for line in updates)
    assert updates[-1]["policy/kl_reference"] > 0
    first, last = final_state(local_run)["parameters"], ADAPTED_LEARNER().state()["parameters"]
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_stopped_at_step_3_and_resumed_is_uninterrupted(tmp_path: Path, local_run: Path) -> None:
    parts: dict[str, Any] = {"learner": ADAPTED_LEARNER, "rollouts": ADAPTED_ROLLOUTS}
    run(tmp_path / "run", LocalRuntime, **parts, num_steps=3)
    run(tmp_path / "run", LocalRuntime, **parts, num_steps=5, resume=True)
    assert flat(final_state(tmp_path / "run")) == flat(final_state(local_run))


@pytest.mark.ray
def test_ray_with_two_rollout_actors_and_a_killed_learner_equals_one_process(
    tmp_path: Path, local_run: Path, ray_cluster: object
) -> None:
    dying = functools.partial(build_dying_learner, tmp_path / "flag", adapters=True)
    run(tmp_path / "run", RayRuntime, 2, dying, rollouts=ADAPTED_ROLLOUTS)
    assert (tmp_path / "flag").exists()
    assert_same(tmp_path / "run", local_run)


@pytest.mark.ray
def test_two_learners_of_which_one_is_killed_equal_one_up_to_rounding(
    tmp_path: Path, local_run: Path, ray_cluster: object
) -> None:
    dying = functools.partial(build_dying_learner, tmp_path / "flag", adapters=True)
    for name, learner in (("whole", ADAPTED_LEARNER), ("killed", dying)):
        run(tmp_path / name, RayRuntime, 1, learner, rollouts=ADAPTED_ROLLOUTS, num_learners=2)
    assert (tmp_path / "flag").exists()
    assert_same(tmp_path / "killed", tmp_path / "whole")
    one, two = final_state(local_run)["parameters"], final_state(tmp_path / "whole")["parameters"]
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.ray
@pytest.mark.parametrize("kind", WINDOWS)
def test_every_kind_of_policy_on_ray_equals_one_process(kind: str, tmp_path: Path, ray_cluster: object) -> None:
    parts = functools.partial(build_learner, kind), functools.partial(build_rollouts, kind)
    algorithm = replace(ALGORITHM, batches=WholeBatches(kind))
    for folder, runtime, count in ((tmp_path / "local", LocalRuntime, 1), (tmp_path / "run", RayRuntime, 2)):
        run(folder, runtime, count, parts[0], algorithm, parts[1], num_steps=2)
    assert_same(tmp_path / "run", tmp_path / "local")
    updates = [line for line in results_of(tmp_path / "local") if "reward/total" in line]
    assert len(updates) == 2 and updates[-1]["policy/kl_reference"] > 0


@pytest.mark.ray
def test_following_the_rewards_gradient_on_ray_with_a_killed_learner_equals_one_process(
    tmp_path: Path, ray_cluster: object
) -> None:
    run(tmp_path / "local", LocalRuntime, 1, build_following_learner, FOLLOWING)
    dying = functools.partial(build_following_learner, tmp_path / "flag")
    run(tmp_path / "run", RayRuntime, 2, dying, FOLLOWING)
    assert (tmp_path / "flag").exists()
    assert_same(tmp_path / "run", tmp_path / "local")
    updates = [line for line in results_of(tmp_path / "local") if "policy/tuned_reward" in line]
    assert len(updates) == 5 and updates[-1]["policy/kl_reference"] > 0


@pytest.mark.ray
def test_overlapped_on_ray_with_a_killed_learner_equals_one_process_that_stopped_and_went_on(
    tmp_path: Path, ray_cluster: object
) -> None:
    """With the rollouts of the next step in flight at every kill and end."""
    run(tmp_path / "local", LocalRuntime, 1, build_stale_learner, STALE, num_steps=3)
    run(tmp_path / "local", LocalRuntime, 1, build_stale_learner, STALE, num_steps=5, resume=True)
    run(tmp_path / "run", RayRuntime, 2, functools.partial(build_stale_learner, tmp_path / "flag"), STALE)
    assert (tmp_path / "flag").exists()
    assert flat(final_state(tmp_path / "run")) == flat(final_state(tmp_path / "local"))
    updates = [line for line in results_of(tmp_path / "run") if "reward/total" in line]
    # The first rollouts are those of the policy that they update: there the ratio is checked.
    assert updates[0]["policy/first_ratio_error"] <= 1e-5
    assert all(line["policy/off_policy_ratio_error"] > 1e-5 for line in updates[1:])
    assert all(line["policy/ratio_std"] > line["policy/ratio_clipped_std"] for line in updates[1:])
