"""RLlib's EnvRunner that records rollouts as arrays.

RLlib's own runner keeps one Python episode object per environment, appends to its lists at every step and passes each
step through two connector pipelines (`benchmarks/trpo.py --profile` shows the cost). This one steps the vector
environment and writes into arrays. Its answer to a `SampleRequest` depends only on the request (and, for environments
that cannot be saved, on earlier requests), so if a runner dies, its successor gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium.vector import VectorEnv
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable

from cluster.rllib.module import ActorCriticModule, settings_of
from rollouts.control.environments import make_control_env
from rollouts.control.rollouts import ControlRollout
from rollouts.control.vector_sampler import VectorSampler

FRESH = -1
"""`iteration` of a runner that has not sampled yet."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Request for one rollout of one runner."""

    iteration: int
    """Keys the noise; the environments must be in the state after the previous iteration."""
    num_steps: int
    weights: dict[str, np.ndarray]
    state: dict[str, Any] | None
    """`VectorSampler.state()` after the previous iteration; None at the start, and for environments without one."""
    reset: bool
    """Start new episodes first."""


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """Result of a `SampleRequest`."""

    stream: int
    """Number of the runner."""
    rollout: ControlRollout
    state: dict[str, Any] | None
    """State of the environments after the rollout."""


class ControlEnvRunner(EnvRunner, Checkpointable):
    """`num_envs_per_env_runner` environments and a controller that drives them."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self._stream = max(0, (self.worker_index or 0) - 1)
        self._iteration = FRESH
        self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """Creates the vector environment `config.env` with the options `config.env_config`."""
        self.vector_env: VectorEnv = make_control_env(
            str(self.config.env), self.config.num_envs_per_env_runner or 1, dict(self.config.env_config)
        )
        seed = self.config.seed or 0
        self._sampler = VectorSampler(self.vector_env, seed, self._stream, **cast(Any, self.config).sampler_options())

    def make_module(self) -> None:
        """Creates the controller; its weights come with every request."""
        spec = self.config.get_rl_module_spec(env=self.vector_env, spaces=self.get_spaces(), inference_only=True)
        module = spec.build()
        assert isinstance(module, ActorCriticModule)
        self.module = module

    def rollout(self, request: SampleRequest) -> SampleAnswer:
        """Answers a request with a rollout."""
        self.module.set_state(request.weights)
        if request.reset:
            self._sampler.reset(request.iteration)
        elif self._iteration != request.iteration - 1:
            # This runner replaces one that died, or an answer was lost and its request was sent again.
            if request.state is not None:
                self._sampler.load(request.state)
            elif request.iteration > 0:
                self._sampler.reset(request.iteration)
        rollout = self._sampler.collect(self.module.controller, request.num_steps, request.iteration)
        self._iteration = request.iteration
        return SampleAnswer(self._stream, rollout, self._sampler.state() if self._sampler.restorable else None)

    def sample(self, *, num_timesteps: int | None = None, **kwargs: Any) -> list[ControlRollout]:
        """RLlib's interface: the next rollout with the present weights."""
        wanted = num_timesteps or settings_of(self.config).steps_per_batch
        steps = -(-wanted // self.vector_env.num_envs)
        self._iteration += 1
        return [self._sampler.collect(self.module.controller, steps, self._iteration)]

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls a function with this runner; exceptions reach the caller.

        RLlib's own method waits a minute and ends the process, so that an error of the environment looks like a lost
        machine.
        """
        return func(self, *args, **kwargs)

    def get_spaces(self) -> dict[str, Any]:
        """Spaces of the environments and of the module."""
        env = self.vector_env
        single = (env.single_observation_space, env.single_action_space)
        return {
            INPUT_ENV_SPACES: (env.observation_space, env.action_space),
            INPUT_ENV_SINGLE_SPACES: single,
            DEFAULT_MODULE_ID: single,
        }

    def get_metrics(self) -> dict[str, Any]:
        """Empty metrics for RLlib; those of rollouts are part of the rollouts."""
        return self.metrics.reduce()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Weights of the controller; environments belong to the algorithm's state."""
        if not self._check_component(COMPONENT_RL_MODULE, components, not_components):
            return {}
        return {COMPONENT_RL_MODULE: self.module.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Loads the weights, if the state has any."""
        weights = state.get(COMPONENT_RL_MODULE)
        if weights is not None:
            self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments with which RLlib can construct the runner again."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """Names and objects that RLlib checkpoints: the module."""
        return [(COMPONENT_RL_MODULE, self.module)]

    def assert_healthy(self) -> None:
        """Checks that environment and module exist."""
        assert self.vector_env.num_envs > 0 and self.module is not None

    def stop(self) -> None:
        """Closes the environments."""
        self.vector_env.close()
