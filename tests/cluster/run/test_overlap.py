"""Rollouts of the next step while this one is updated: versions, and the same bits whatever is in flight at an end."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.run.controller import Controller
from cluster.runtime.local import LocalRuntime
from cluster.runtime.on_ray import RayRuntime
from cluster.runtime.protocol import Call, Runtime
from cluster.runtime.stopping import Stopped, handled
from cluster.settings import ClusterSettings
from rollouts.messages import PolicyVersion, RolloutRequest
from tests.toys.running import cluster_toys as toys
from tests.toys.running.cluster_runs import ToyRun, final_state, lines, results_of, toy_algorithm

pytestmark = pytest.mark.slow


class Noted(toys.ToyBatches):
    """Notes which version each step asks for; may ask the process to end at a step."""

    def __init__(self, ask_at: int | None = None) -> None:
        super().__init__()
        self.noted: list[tuple[int, int]] = []
        self._ask_at = ask_at

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        self.noted.append((step, policy_version))
        if step == self._ask_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().requests(step, policy_version)


def overlapped(
    folder: Path,
    runtime: Callable[[], Runtime] = LocalRuntime,
    batches: toys.ToyBatches | None = None,
    cluster: ClusterSettings | None = None,
    *,
    learner: Any = None,
    rollout: Any = toys.ToyRollouts,
    near: Any = toys.NearScorer,
    **settings: Any,
) -> Controller:
    """A whole run with staleness 1."""
    learner = learner or functools.partial(toys.ToyLearner, staleness=1)
    algorithm = toy_algorithm(staleness=1, batches=batches or toys.ToyBatches())
    roles = toys.toy_roles(cluster, learner=learner, rollout=rollout, near=near)
    with ToyRun(folder, roles, runtime, algorithm, **settings) as controller:
        controller.run()
    return controller


def bits(folder: Path) -> str:
    """The learner's state at the end and the version before."""
    state = final_state(folder)
    previous = state.pop("previous_version")
    weights = {name: value.tolist() for name, value in previous["weights"].items()}
    return json.dumps([state, previous["number"], weights])


def assert_same(folder: Path, other: Path) -> None:
    assert bits(folder) == bits(other)
    assert results_of(folder) == results_of(other)
    assert (folder / "evaluations.jsonl").read_bytes() == (other / "evaluations.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps in one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    overlapped(folder)
    return folder


def test_each_step_is_requested_once_with_the_version_before_the_last_update(tmp_path: Path) -> None:
    batches = Noted()
    overlapped(tmp_path / "run", batches=batches)
    assert batches.noted == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)]
    updates = [line for line in lines(tmp_path / "run/metrics.jsonl") if "reward/total" in line]
    assert [line["cluster/staleness"] for line in updates] == [0, 1, 1, 1, 1]
    assert all(value >= 0 for line in updates for name, value in line.items() if name.startswith("seconds/"))


def test_without_overlap_every_step_has_the_present_version(tmp_path: Path) -> None:
    batches = Noted()
    with ToyRun(tmp_path / "run", algorithm=toy_algorithm(batches=batches)) as controller:
        controller.run()
    assert batches.noted == [(step, step) for step in range(5)]
    assert "previous_version" not in final_state(tmp_path / "run")


def test_it_learns(whole: Path) -> None:
    evaluations = [line for line in lines(whole / "metrics.jsonl") if "evaluation/total" in line]
    assert evaluations[-1]["evaluation/total"] > evaluations[0]["evaluation/total"] + 0.1


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_stopped_and_resumed_is_uninterrupted(tmp_path: Path, whole: Path, num_steps: int) -> None:
    """At a commit, where nothing but the version before tells what was in flight."""
    overlapped(tmp_path / "run", num_steps=num_steps, save_interval=1)
    batches = Noted()
    overlapped(tmp_path / "run", batches=batches, resume=True)
    assert batches.noted[0] == (num_steps, num_steps - 1)
    assert bits(tmp_path / "run") == bits(whole)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_asked_to_end_with_work_in_flight_and_resumed_is_uninterrupted(tmp_path: Path, whole: Path, step: int) -> None:
    with pytest.raises(Stopped), handled():
        overlapped(tmp_path / "run", batches=Noted(ask_at=step), save_interval=4)
    assert json.loads((tmp_path / "run/manifest.json").read_text())["step"] == step - 1
    overlapped(tmp_path / "run", resume=True, save_interval=4)
    assert bits(tmp_path / "run") == bits(whole)
    assert lines(tmp_path / "run/evaluations.jsonl") == lines(whole / "evaluations.jsonl")


def test_an_older_version_than_allowed_is_an_error(tmp_path: Path) -> None:
    class Late(toys.ToyBatches):
        """Asks for the version before the one that it is given."""

        def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
            return super().requests(step, max(policy_version - 1, 0))

    class Forgiving(toys.ToyRollouts):
        """Acts with whatever it is given."""

        def run(self, request: RolloutRequest, version: PolicyVersion) -> Any:
            return super().run(request, PolicyVersion(request.policy_version, version.weights))

    algorithm = toy_algorithm(batches=Late())
    run = ToyRun(tmp_path / "run", toys.toy_roles(rollout=Forgiving), algorithm=algorithm)
    with pytest.raises(AssertionError, match="1"), run as controller:
        controller.run()


def test_only_the_present_version_and_the_one_before_are_kept(tmp_path: Path) -> None:
    kept: list[int] = []

    class Watching(toys.ToyBatches):
        """Counts the updates whose weights are still held."""

        def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
            gc.collect()
            kept.append(sum(isinstance(one, Call) and one.method == "update" for one in gc.get_objects()))
            return super().requests(step, policy_version)

    overlapped(tmp_path / "one", batches=Watching(), num_steps=12, save_interval=12)
    assert max(kept) == 2
    kept.clear()
    run = ToyRun(tmp_path / "none", algorithm=toy_algorithm(batches=Watching()), num_steps=12, save_interval=12)
    with run as controller:
        controller.run()
    assert max(kept) == 1


def test_a_version_is_stored_once_and_fetched_by_reference(tmp_path: Path) -> None:
    """Every rollout of a step takes the output of the update itself; nothing is put beside it."""

    class Counting(LocalRuntime):
        """Counts what is put, and by which call the weights of each rollout were made."""

        def __init__(self) -> None:
            super().__init__()
            self.puts = 0
            self.sources: list[tuple[str, int]] = []

        def put(self, value: Any) -> Any:
            self.puts += 1
            return super().put(value)

        def submit(self, role: str, method: str, *args: Any, num_outputs: int = 1, label: str = "") -> Call:
            if method == "run":
                self.sources.append((args[1].call.label, args[1].index))
            return super().submit(role, method, *args, num_outputs=num_outputs, label=label)

    runtime = Counting()
    overlapped(tmp_path / "run", lambda: runtime, eval_every=0)
    assert runtime.puts == 0
    assert ("update of step 3", 1) in runtime.sources and ("learner: weights", 1) in runtime.sources


@pytest.mark.ray
def test_ray_with_kills_of_everything_equals_one_process(tmp_path: Path, whole: Path, ray_cluster: object) -> None:
    controller = overlapped(
        tmp_path / "run",
        RayRuntime,
        cluster=ClusterSettings.model_validate({"cpus_per_rollout_actor": 0.2, "num_rollout_actors": 2}),
        rollout=functools.partial(toys.DyingRollouts, tmp_path / "rollout-flag", 3),
        near=functools.partial(toys.DyingScorer, tmp_path / "reward-flag"),
        learner=functools.partial(toys.DyingLearner, tmp_path, (1, 4), staleness=1),
    )
    assert {path.name for path in tmp_path.glob("*-*")} == {"rollout-flag", "reward-flag", "learner-1", "learner-4"}
    assert controller.runtime.counters.restarts >= 4
    assert_same(tmp_path / "run", whole)


def test_the_first_step_after_a_change_of_staleness_has_the_version_that_there_is(tmp_path: Path) -> None:
    with ToyRun(tmp_path / "run", num_steps=2) as controller:
        controller.run()
    batches = Noted()
    overlapped(tmp_path / "run", batches=batches, learner=AnyLearner, resume=True)
    assert batches.noted == [(2, 2), (3, 2), (4, 3)]
    with ToyRun(tmp_path / "run", num_steps=7, resume=True) as controller:
        controller.run()
    assert "previous_version" not in final_state(tmp_path / "run")


class AnyLearner(toys.ToyLearner):
    """Takes trajectories of any version."""

    def update(self, trajectories: Any, advantages: Any) -> dict[str, float]:
        self._staleness = self._number - trajectories[0].policy_version
        return super().update(trajectories, advantages)
