"""A world model's training on RLlib: the plain loop's bits, also when a runner dies."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cluster.rllib.module import SEED
from cluster.rllib.world_model import WorldModel, WorldModelConfig
from learners.world_model.learner import WorldModelLearner, sampler_options
from learners.world_model.settings import WorldModelSettings
from motions.base.errors import UserError
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig, actor_critic_arrays
from rollouts.control.vector_sampler import VectorSampler, spaces_of
from tests.toys.characters.character_rollouts import BLOCKS, character_env

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from cluster.runtime.connect import Connection

SETTINGS: dict[str, Any] = {
    **{"rollout_steps": 80, "warmup_iterations": 2, "model_hidden_size": 16, "model_batch_size": 16},
    **{"model_window": 3, "model_warmup_updates": 2, "model_updates": 1, "policy_updates": 1},
    **{"imagined_starts": 8, "imagined_steps": 3},
}
SHAPE: dict[str, Any] = {"hidden_sizes": (16,), "activation": "silu", "initial_log_std": -1.5}


def process_of(_: Any) -> int:
    return os.getpid()


def configure() -> WorldModelConfig:
    config = WorldModelConfig().training(**SETTINGS)
    config.environment("kinetune/DeepMimic-v0", env_config={"observation_blocks": BLOCKS})
    part_of_a_cpu: dict[str, Any] = {"num_cpus_per_env_runner": 0.1}
    config.env_runners(num_env_runners=2, num_envs_per_env_runner=4, **part_of_a_cpu)
    config.learners(num_learners=0)
    config.rl_module(model_config={**SHAPE, SEED: 1})
    config.debugging(seed=5)
    assert isinstance(config, WorldModelConfig)
    return config


def in_this_process(iterations: int) -> dict[str, np.ndarray]:
    """What the algorithm computes, without Ray."""
    env, settings = character_env(4), WorldModelSettings(**SETTINGS)
    controller = ActorCritic(ActorCriticConfig(*spaces_of(env), **SHAPE), seed=1)
    learner = WorldModelLearner(controller, env.task, settings, seed=5)
    samplers = [VectorSampler(character_env(4), 5, stream, **sampler_options(settings)) for stream in range(2)]
    for iteration in range(iterations):
        learner.update([sampler.collect(controller, 10, iteration) for sampler in samplers])
    return actor_critic_arrays(controller)


@pytest.mark.ray
def test_a_runner_that_dies_changes_no_bit(ray_cluster: Connection) -> None:
    built = configure().build_algo()
    assert isinstance(built, WorldModel)
    try:
        for iteration in range(4):
            if iteration == 3:
                group = built.env_runner_group
                assert group is not None
                [pid] = group.foreach_env_runner(process_of, remote_worker_ids=[2], local_env_runner=False)
                os.kill(pid, signal.SIGKILL)
            built.train()
        trained = built.weights()
    finally:
        built.stop()
    for name, value in in_this_process(4).items():
        np.testing.assert_array_equal(trained[name], value, err_msg=name)


def test_several_learners_are_refused() -> None:
    config = configure()
    config.learners(num_learners=2)
    with pytest.raises(UserError, match="num_learners is 2"):
        config.validate()
