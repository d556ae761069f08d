"""Small recorded rollouts of simulated characters, for the tests of the world model."""

from __future__ import annotations

import functools
import math
from typing import Any

from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from envs.settings import DeepMimicSettings
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig
from rollouts.control.rollouts import ControlRollout
from rollouts.control.vector_sampler import ActionNoise, VectorSampler, spaces_of

BLOCKS = ("root", "joints", "phase", "targets")


def character_env(num_envs: int, **options: Any) -> DeepMimicVectorEnv:
    """Environments whose observations can be imagined."""
    return make_vector_env(DeepMimicSettings(**{"observation_blocks": BLOCKS, **options}), num_envs, seed=0)


def small_controller(env: DeepMimicVectorEnv, std: float = 0.3) -> ActorCritic:
    """A new controller of little use."""
    return ActorCritic(ActorCriticConfig(*spaces_of(env), (32,), "silu", math.log(std)), seed=0)


def state_sampler(env: DeepMimicVectorEnv) -> VectorSampler:
    """A sampler that records the simulator's states."""
    return VectorSampler(env, seed=0, record_states=True, noise=ActionNoise(correlation=0.7, spread=1.0))


@functools.cache
def open_loop_rollout(joints: str = "hinge", num_envs: int = 64, num_steps: int = 30) -> ControlRollout:
    """A noisy walk in open loop."""
    env = character_env(num_envs, joints=joints)
    return state_sampler(env).collect(small_controller(env), num_steps, iteration=0)
