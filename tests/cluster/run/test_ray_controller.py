"""The same runs on a real local cluster: the same bits as in one process, even if actors die."""

from __future__ import annotations

import functools
import importlib.util
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.run.controller import Controller
from cluster.run.learner_handle import RunFailed
from cluster.run.plan import Plan
from cluster.run.session import preflight, training_session
from cluster.runtime.connect import Connection
from cluster.runtime.on_ray import RayRuntime
from cluster.runtime.protocol import StartError
from cluster.settings import ClusterSettings
from tests.toys.running import cluster_toys as toys
from tests.toys.running.cluster_runs import WORKLOAD, ToyConfig, ToyRun, final_state, results_of, toy_algorithm

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps in one process: what all others must equal."""
    folder = tmp_path_factory.mktemp("local") / "run"
    with ToyRun(folder) as controller:
        controller.run()
    return folder


def ray_run(
    folder: Path, settings: dict[str, Any] | None = None, algorithm: dict[str, Any] | None = None, **factories: Any
) -> Controller:
    cluster = ClusterSettings.model_validate({"cpus_per_rollout_actor": 0.2, **(settings or {})})
    run = ToyRun(folder, toys.toy_roles(cluster, **factories), RayRuntime, toy_algorithm(**(algorithm or {})))
    with run as controller:
        controller.run()
    return controller


def assert_same(folder: Path, local_run: Path) -> None:
    assert final_state(folder) == final_state(local_run)
    assert results_of(folder) == results_of(local_run)
    assert (folder / "evaluations.jsonl").read_bytes() == (local_run / "evaluations.jsonl").read_bytes()


def test_ray_with_three_rollout_actors_equals_one_process(tmp_path: Path, local_run: Path) -> None:
    ray_run(tmp_path / "run", {"num_rollout_actors": 3})
    assert_same(tmp_path / "run", local_run)


def test_killed_rollout_and_reward_actors_change_no_bit(tmp_path: Path, local_run: Path) -> None:
    controller = ray_run(
        tmp_path / "run",
        {"num_rollout_actors": 2},
        rollout=functools.partial(toys.DyingRollouts, tmp_path / "rollout-flag", 3),
        near=functools.partial(toys.DyingScorer, tmp_path / "reward-flag"),
    )
    assert controller.runtime.counters.restarts == 2 and controller.runtime.counters.retries >= 2
    assert_same(tmp_path / "run", local_run)


def test_a_killed_learner_resumes_to_the_same_bits(tmp_path: Path, local_run: Path) -> None:
    # Before the first checkpoint (they come every two steps), and after it.
    ray_run(tmp_path / "run", learner=functools.partial(toys.DyingLearner, tmp_path, (1, 4)))
    assert {path.name for path in tmp_path.glob("learner-*")} == {"learner-1", "learner-4"}
    assert_same(tmp_path / "run", local_run)


def test_a_learner_that_always_dies_ends_the_run(tmp_path: Path) -> None:
    deadly = functools.partial(toys.DyingLearner, tmp_path, (2,), always=True)
    with pytest.raises(
        RunFailed, match=r"after 1 steps: the learner died 2 times here: learner-0.1 was lost in update of"
    ):
        ray_run(tmp_path / "run", {"max_attempts": 2}, learner=deadly)


def test_bad_rewards_drop_their_group_as_in_one_process(tmp_path: Path) -> None:
    drop = {"on_reward_error": "drop_group"}
    with ToyRun(tmp_path / "local", toys.toy_roles(near=toys.RaisingScorer), algorithm=toy_algorithm(**drop)) as local:
        local.run()
    ray_run(tmp_path / "run", algorithm=drop, near=toys.RaisingScorer, small=NaNSmall)
    assert_same(tmp_path / "run", tmp_path / "local")


class NaNSmall(toys.SmallScorer):
    """Not finite for the prompt that the other scorer raises for."""

    def score(self, motions: Any) -> Any:
        terms = super().score(motions)
        if motions.prompt.text == "prompt 1":
            terms.terms["small"][0] = float("nan")
        return terms


def test_a_hanging_reward_is_named_within_its_deadline(tmp_path: Path) -> None:
    roles = toys.toy_roles(ClusterSettings(max_attempts=1), near=toys.HangingScorer)
    # The others are given their time: on a busy machine they may need some.
    roles = [replace(role, timeout_s=5.0) if role.name == "reward:near" else role for role in roles]
    with pytest.raises(RunFailed) as caught, ToyRun(tmp_path / "run", roles, RayRuntime) as controller:
        controller.run()
    message = str(caught.value)
    assert "reward near of step 2, prompt 1" in message and "reward:near-0" in message
    assert "calls given to it" in message and "in wait_for_godot" in message


def test_a_session_runs_and_resumes_and_its_gauges_can_be_scraped(
    tmp_path: Path, local_run: Path, ray_cluster: Connection
) -> None:
    def session(num_steps: int, **changes: Any) -> Any:
        config = ToyConfig(save_dir=tmp_path / "run", num_steps=num_steps, save_interval=2, eval_every=2, **changes)
        roles = toys.toy_roles(config)
        return training_session(config, config, config, roles, WORKLOAD, toy_algorithm(), "toy-data")

    with session(3) as controller:
        assert controller.run().step == 3
    with session(5, resume=True, trace=True) as controller:
        assert controller.run().step == 5
        if importlib.util.find_spec("aiohttp") is not None:
            # Gauges are exported one by one: the end of the session is there once all of them say so.
            # Between two phases no gauge of a phase is 1.
            def ended(text: str) -> bool:
                phases = series(text, "phase").splitlines()
                there = series(text, "reward") and any('name="checkpoint"' in line for line in phases)
                over = "5.0\n" in series(text, "step") and all(line.endswith(" 0.0") for line in phases)
                return bool(there and over)

            text = scrape(ray_cluster, ended)
            assert 'name="total"' in series(text, "reward") and 'name="near"' in series(text, "reward")
            phases = series(text, "phase")
            assert 'name="rollout"' in phases and 'name="checkpoint"' in phases
    assert (tmp_path / "run/trace.json").is_file()
    assert final_state(tmp_path / "run") == final_state(local_run)


def scrape(connection: Connection, enough: Callable[[str], bool], limit_s: float = 240.0) -> str:
    """What a node's Prometheus endpoint says, once it says enough."""
    [url] = connection.metrics_urls
    deadline = time.monotonic() + limit_s
    while True:
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        if enough(text):
            return text
        assert time.monotonic() < deadline, [line for line in text.splitlines() if "kinetune" in line]
        time.sleep(0.2)


def series(text: str, name: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if line.startswith(f"ray_kinetune_{name}{{"))


def test_a_cluster_that_is_too_small_is_named_before_anything_starts(tmp_path: Path) -> None:
    config = ToyConfig(save_dir=tmp_path / "run", num_rollout_actors=100, cpus_per_rollout_actor=1.0)
    session = training_session(config, config, config, toys.toy_roles(config), WORKLOAD, toy_algorithm(), "toy-data")
    with pytest.raises(StartError, match=r"9\d CPU missing: 101 needed \(100 x 1 for rollout"), session:
        pass
    assert not (tmp_path / "run").exists()


def test_a_growing_cluster_is_given_time() -> None:
    plan = Plan(tuple(toys.toy_roles(ClusterSettings(num_rollout_actors=100, cpus_per_rollout_actor=1.0))), WORKLOAD)
    started = time.monotonic()
    with pytest.raises(StartError, match="CPU missing"):
        preflight(plan, wait_s=1.5)
    assert time.monotonic() - started >= 1.5
