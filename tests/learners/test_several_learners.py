"""Learners that make updates together: up to rounding the policy that one makes, and the same bits in all of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from learners.grpo.learner import GRPOLearner
from learners.optimizer import DivergenceError
from learners.workers import ProcessGroup, opened_store
from motions.base.errors import PeerLost
from tests.toys.running.thread_workers import ThreadWorkers
from tests.toys.tiny_learners import advantages, equal, make_learner, make_policy, roll_out


def together(size: int, make: Callable[[], GRPOLearner], num_updates: int = 2) -> list[tuple[GRPOLearner, list[dict]]]:
    """Learners after some updates that they made together, and their metrics."""
    learners = [make() for _ in range(size)]
    if size > 1:
        for learner, workers in zip(learners, ThreadWorkers.of_size(size), strict=True):
            learner.join(workers)
    metrics: list[list[dict]] = [[] for _ in learners]
    with ThreadPoolExecutor(size) as pool:
        for step in range(num_updates):
            _, trajectories = roll_out(learners[0], step)
            given = advantages(seed=step)
            updates = [pool.submit(learner.update, trajectories, given) for learner in learners]
            for mine, update in zip(metrics, updates, strict=True):
                mine.append(update.result())
    return list(zip(learners, metrics, strict=True))


OPTIONS: dict[str, dict[str, Any]] = {
    "adapters": {},
    "all weights": {"lora": False},
    "several optimizer steps": {"num_epochs": 2, "groups_per_optimizer_step": 1},
    "kept predictions": {"num_epochs": 2, "policy_loss": "dppo"},
    "final motions": {"policy_loss": "nft", "trained_levels": 0},
    "the whole chain": {"kl_chain_penalty": 0.5},
    "averages": {"policy_ema_decay": 0.9, "kl_average_decay": 0.9, "lora": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_two_learners_make_the_policy_that_one_makes(name: str) -> None:
    options = dict(OPTIONS[name])
    lora = options.pop("lora", True)

    def make() -> GRPOLearner:
        return make_learner(make_policy(lora), **options)

    ((one, alone),) = together(1, make)
    (first, shared), (second, _) = together(2, make)
    assert equal(first.version().weights, second.version().weights)
    begun = make().version().weights
    for weight, expected in one.version().weights.items():
        np.testing.assert_allclose(first.version().weights[weight], expected, rtol=1e-3, atol=1e-5)
    assert not equal(begun, one.version().weights)
    for before, after in zip(alone, shared, strict=True):
        assert before.keys() == after.keys()
        for metric, value in before.items():
            if not metric.startswith("seconds_"):
                assert after[metric] == pytest.approx(value, rel=2e-2, abs=1e-4), metric


@pytest.mark.slow
@pytest.mark.parametrize("kl_chain_penalty", [0.0, 0.5])
def test_a_learner_without_a_micro_batch_follows(kl_chain_penalty: float) -> None:
    """Two micro-batches, one for each number of frames, and three learners."""

    def make() -> GRPOLearner:
        return make_learner(micro_batch_size=1000, kl_chain_penalty=kl_chain_penalty)

    results = together(3, make, num_updates=1)
    ((one, _),) = together(1, make, num_updates=1)
    weights = [learner.version().weights for learner, _ in results]
    assert equal(weights[0], weights[1]) and equal(weights[0], weights[2])
    for name, expected in one.version().weights.items():
        np.testing.assert_allclose(weights[0][name], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_what_one_learner_finds_all_of_them_find() -> None:
    """A gradient that is not finite in the share of one: nobody changes a weight."""

    def make() -> GRPOLearner:
        return make_learner(make_policy(), clip_epsilon=0.5, max_grad_norm=1e9)

    learners = [make(), make()]
    for learner, workers in zip(learners, ThreadWorkers.of_size(2), strict=True):
        learner.join(workers)
    _, trajectories = roll_out(learners[0], 0)
    given = advantages()
    given[2, -1] = 3e38
    before = learners[0].version().weights
    with ThreadPoolExecutor(2) as pool:
        updates = [pool.submit(learner.update, trajectories, given) for learner in learners]
        for update in updates:
            with pytest.raises(DivergenceError):
                update.result()
    assert all(equal(before, learner.version().weights) for learner in learners)


def _member(rank: int, ports: Any, results: Any) -> None:
    torch.set_num_threads(1)
    store = opened_store("127.0.0.1", 0 if rank == 0 else ports.get(), 2, 60.0, first=rank == 0)
    if rank == 0:
        ports.put(store.port)
    group = ProcessGroup.join(rank, 2, store, 60.0, "gloo")
    parts = group.interleaved([f"{rank}{turn}" for turn in "abc"[: 3 - rank]])
    total = torch.tensor([1.0 + rank])
    group.sum([total])
    if rank:
        return  # it leaves, and the other waits for it
    try:
        group.sum([total])
        results.put((parts, float(total), "nobody missed the other"))
    except PeerLost as lost:
        results.put((parts, 3.0, str(lost)))


@pytest.mark.slow
def test_processes_deal_out_sum_and_miss_each_other() -> None:
    context = multiprocessing.get_context("spawn")
    ports, results = context.Queue(), context.Queue()
    members = [context.Process(target=_member, args=(rank, ports, results)) for rank in range(2)]
    for member in members:
        member.start()
    parts, total, message = results.get(timeout=300)
    for member in members:
        member.join()
    assert parts == ["0a", "1a", "0b", "1b", "0c"]
    assert total == 3.0
    assert message.startswith("another process of the group is gone: ")
