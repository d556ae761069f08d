"""TRPO on RLlib: the plain loop's bits, several learners, dead runners, resume."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from ray import tune

from cluster.rllib.control import split_rollouts
from cluster.rllib.module import LOAD_PATH, SEED, ActorCriticModule
from cluster.rllib.trpo import TRPO, TRPOConfig
from learners.trpo.learner import TRPOLearner
from learners.trpo.settings import TRPOSettings
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig, actor_critic_arrays, save_controller
from rollouts.control.environments import make_control_env, observation_schema
from rollouts.control.vector_sampler import VectorSampler
from tests.toys.characters.control_toys import ReachVectorEnv

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.runtime.connect import Connection

SETTINGS: dict[str, Any] = {"steps_per_batch": 120, "critic_epochs": 2, "critic_batch_size": 40, "gamma": 0.9}
SHAPE: dict[str, Any] = {"hidden_sizes": (16,), "initial_log_std": -0.5}
ITERATIONS = 4


def configure(env: str = "Reach-v0", runners: int = 0, learners: int = 0, load: str | None = None) -> TRPOConfig:
    config = TRPOConfig().training(**SETTINGS)
    config.environment(f"tests.toys.characters.control_toys:{env}")
    part_of_a_cpu: dict[str, Any] = {"num_cpus_per_env_runner": 0.1}
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=6 // max(1, runners), **part_of_a_cpu)
    config.learners(num_learners=learners, num_cpus_per_learner=0.1 if learners else "auto")
    config.rl_module(model_config={**SHAPE, SEED: 1, LOAD_PATH: load})
    config.debugging(seed=5)
    return config


@contextmanager
def algorithm(config: TRPOConfig) -> Iterator[TRPO]:
    built = config.build_algo()
    assert isinstance(built, TRPO)
    try:
        yield built
    finally:
        built.stop()


def flat(arrays: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)])


def state_of(learner: Any, _: Any = None) -> np.ndarray:
    return flat(learner.module["default_policy"].get_state())


def process_of(_: Any) -> int:
    return os.getpid()


def trained(config: TRPOConfig, iterations: int = ITERATIONS, kill_before: int | None = None) -> np.ndarray:
    with algorithm(config) as built:
        for iteration in range(iterations):
            if iteration == kill_before:
                group = built.env_runner_group
                assert group is not None
                [pid] = group.foreach_env_runner(process_of, remote_worker_ids=[2], local_env_runner=False)
                os.kill(pid, signal.SIGKILL)
            built.train()
        if config.num_learners:
            assert built.learner_group is not None
            results = built.learner_group.foreach_learner(state_of)
            states = [result.get() for result in results]
            assert len(states) == config.num_learners
            for state in states[1:]:
                np.testing.assert_array_equal(state, states[0])
        return flat(built.weights())


@pytest.mark.ray
def test_it_is_the_plain_loop_in_other_clothes(ray_cluster: Connection) -> None:
    with algorithm(configure()) as built:
        results = [built.train() for _ in range(ITERATIONS)]
        np.testing.assert_array_equal(flat(built.weights()), in_this_process(1))
        assert built.finished_iterations == ITERATIONS and built.restorable
        assert 120 * (ITERATIONS - 1) < built.num_steps <= 120 * ITERATIONS
        assert results[-1]["num_env_steps_sampled_lifetime"] == built.num_steps
        assert results[-1]["rollout"]["policy/kl"] == pytest.approx(built.last_metrics["policy/kl"])


def in_this_process(runners: int, iterations: int = ITERATIONS) -> np.ndarray:
    """What the algorithm computes, without Ray."""
    controller = ActorCritic(ActorCriticConfig(3, 1, **SHAPE), seed=1)
    learner = TRPOLearner(controller, TRPOSettings.model_validate(SETTINGS), seed=5)
    samplers = [VectorSampler(ReachVectorEnv(6 // runners), 5, stream) for stream in range(runners)]
    for iteration in range(iterations):
        learner.update([sampler.collect(controller, 20, iteration) for sampler in samplers])
    return flat(actor_critic_arrays(controller))


@pytest.mark.ray
def test_a_runner_that_dies_changes_no_bit(ray_cluster: Connection) -> None:
    np.testing.assert_array_equal(trained(configure(runners=2), kill_before=2), in_this_process(2))


@pytest.mark.ray
def test_two_learners_are_one(ray_cluster: Connection) -> None:
    """Their sums are added in another order; they agree with each other to the last bit (see `trained`)."""
    np.testing.assert_allclose(trained(configure(learners=2)), in_this_process(1), rtol=5e-3, atol=5e-4)


@pytest.mark.ray
def test_a_runner_that_hangs_is_replaced_and_one_that_breaks_is_quoted(ray_cluster: Connection, tmp_path: Path) -> None:
    config = configure("TroubledReach-v0", runners=1).training(runner_timeout_s=8.0)
    with algorithm(config.environment(env_config={"marker": str(tmp_path / "hung")})) as built:
        for _ in range(3):
            built.train()
        assert (tmp_path / "hung").exists()
        np.testing.assert_array_equal(flat(built.weights()), in_this_process(1, 3))
        with pytest.raises(ValueError, match="the floor is gone"):
            built.train()


@pytest.mark.ray
@pytest.mark.parametrize("env", ["Reach-v0", "PlainReach-v0"])
def test_a_resumed_run_continues_to_the_same_bits(ray_cluster: Connection, env: str) -> None:
    with algorithm(configure(env)) as built:
        for _ in range(2):
            built.train()
        if not built.restorable:
            assert env == "PlainReach-v0"
            built.reset_environments()
        progress, learner = copy.deepcopy(built.progress()), copy.deepcopy(built.learner_state())
        for _ in range(2):
            built.train()
        expected, metrics = flat(built.weights()), built.last_metrics
    with algorithm(configure(env)) as resumed:
        resumed.load_learner_state(learner)
        resumed.load_progress(progress)
        for _ in range(2):
            resumed.train()
        np.testing.assert_array_equal(flat(resumed.weights()), expected)
        assert resumed.last_metrics["rollout/reward"] == metrics["rollout/reward"]


@pytest.mark.ray
def test_rllib_checkpoints_are_exact_too(ray_cluster: Connection, tmp_path: Path) -> None:
    with algorithm(configure()) as built:
        built.train()
        built.save_to_path(str(tmp_path / "checkpoint"))
        built.train()
        expected = flat(built.weights())
    with algorithm(configure()) as resumed:
        resumed.restore_from_path(str(tmp_path / "checkpoint"))
        resumed.train()
        np.testing.assert_array_equal(flat(resumed.weights()), expected)


@pytest.mark.ray
def test_tune_sweeps_over_its_options(ray_cluster: Connection, tmp_path: Path) -> None:
    tuner = tune.Tuner(
        TRPO,
        param_space=cast(Any, configure().training(max_kl=tune.grid_search([1e-4, 0.05]))),
        run_config=tune.RunConfig(stop={"training_iteration": 1}, storage_path=str(tmp_path), verbose=0),
    )
    fitted = tuner.fit()
    assert not fitted.errors
    figures = [fitted[index].metrics for index in range(len(fitted))]
    kls = sorted(one["rollout"]["policy/kl"] for one in figures if one is not None)
    assert 0 < kls[0] <= 1e-4 < kls[1] <= 0.05


@pytest.mark.ray
def test_training_starts_from_a_saved_controller(ray_cluster: Connection, tmp_path: Path) -> None:
    controller = ActorCritic(ActorCriticConfig(3, 1, (8,)), seed=3)
    controller.update_statistics(np.random.default_rng(0).normal(size=(20, 3)))
    save_controller(tmp_path, controller, {})
    with algorithm(configure(load=str(tmp_path))) as built:
        for name, value in built.weights().items():
            np.testing.assert_array_equal(value, controller.state_dict()[name].numpy())
    wide = ActorCritic(ActorCriticConfig(4, 1, (8,)))
    save_controller(tmp_path / "wide", wide, {})
    with pytest.raises(ValueError, match="reads 4 numbers"):
        configure(load=str(tmp_path / "wide")).build_algo()


def test_the_module_speaks_rllib() -> None:
    env = ReachVectorEnv(2)
    module = ActorCriticModule(
        observation_space=env.single_observation_space,
        action_space=env.single_action_space,
        model_config={"hidden_sizes": [4], "activation": "elu"},
    )
    observations = torch.randn(5, 3)
    with torch.no_grad():
        output = module.forward_inference({"obs": observations})["action_dist_inputs"]
        mean, log_std = module.controller.distribution(observations)
        values = module.compute_values({"obs": observations})
    torch.testing.assert_close(output, torch.cat([mean, log_std.expand(5, 1)], dim=1))
    assert values.shape == (5,)
    state = module.get_state()
    assert state["statistics.mean"].dtype == np.float64
    module.controller.update_statistics(observations)
    module.set_state(state)
    assert float(module.controller.statistics.count) == 0


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="max_kl"):
        configure().training(max_kl=-1.0).validate()
    with pytest.raises(ValueError, match=r"did you mean .*Hopper-v5"):
        make_control_env("Hoper-v5", 1)
    with pytest.raises(ValueError, match="cannot be imported"):
        make_control_env("no.such_module:Reach-v0", 1)
    with pytest.raises(ValueError, match="does not take these options"):
        make_control_env("tests.toys.characters.control_toys:Reach-v0", 1, {"gravity": 3})


def test_environments_have_a_schema() -> None:
    env = make_control_env("InvertedPendulum-v5", 1)
    assert observation_schema(env) == {"env": "InvertedPendulum-v5", "observation_dim": 4, "action_dim": 1}


def test_rollouts_are_shared_by_environments_in_order() -> None:
    controller = ActorCritic(ActorCriticConfig(3, 1, (4,)))
    rollouts = [VectorSampler(ReachVectorEnv(n), seed=n).collect(controller, 30, 0) for n in (3, 4)]
    whole = [rollout.columns(n, n + 1) for rollout in rollouts for n in range(rollout.rewards.shape[1])]
    for number in (1, 2, 3, 7):
        parts = split_rollouts(rollouts, number)
        columns = [r.columns(n, n + 1) for part in parts for r in part for n in range(r.rewards.shape[1])]
        assert len(parts) == number and len(columns) == 7
        for column, expected in zip(columns, whole, strict=True):
            np.testing.assert_array_equal(column.rewards, expected.rewards)
            np.testing.assert_array_equal(column.end_indices, expected.end_indices)
    with pytest.raises(ValueError, match="7 environments cannot be shared by 8"):
        split_rollouts(rollouts, 8)
