"""RLlib's RLModule for an `ActorCritic`, so that RLlib can transfer, save and run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from motions.base.errors import UserError
from rollouts.control.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    actor_critic_arrays,
    load_actor_critic_arrays,
    load_controller,
)

LOAD_PATH = "load_path"
SEED = "controller_seed"
_SHAPE = (
    *("hidden_sizes", "activation", "initial_log_std", "output_gain"),
    *("min_observation_std", "unscaled_inputs", "normalize_observations"),
)
"""Keys of `model_config`: fields of ActorCriticConfig, file of a controller to start from, seed for a new one."""


class ActorCriticModule(TorchRLModule, ValueFunctionAPI):
    """One controller; its observation statistics are buffers and are transferred with the weights."""

    controller: ActorCritic

    def setup(self) -> None:
        """Builds or loads the controller that `model_config` describes."""
        options: Mapping[str, Any] = self.model_config
        observation_space, action_space = self.observation_space, self.action_space
        assert observation_space is not None and action_space is not None
        sizes = observation_space.shape[0], action_space.shape[0]
        if options.get(LOAD_PATH) is not None:
            self.controller = load_controller(options[LOAD_PATH]).controller.train()
            found = self.controller.config.observation_dim, self.controller.config.action_dim
            if found != sizes:
                raise UserError(
                    f"{options[LOAD_PATH]} reads {found[0]} numbers and acts by {found[1]}; the environment has "
                    f"{sizes[0]} and {sizes[1]}"
                )
            return
        shape = {name: options[name] for name in _SHAPE if name in options}
        shape |= {name: tuple(shape[name]) for name in ("hidden_sizes", "unscaled_inputs") if name in shape}
        self.controller = ActorCritic(ActorCriticConfig(*sizes, **shape), options.get(SEED, 0))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        mean, log_std = self.controller.distribution(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: torch.cat([mean, log_std.expand_as(mean)], dim=-1)}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """Predicted returns [B]."""
        return self.controller.value(batch[Columns.OBS])

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Weights and statistics as NumPy arrays; always all of them, also if RLlib asks for a part."""
        return actor_critic_arrays(self.controller)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores the result of `get_state()`. RLlib's own method would round the float64 statistics to float32."""
        load_actor_critic_arrays(self.controller, state)


def settings_of(config: Any) -> Any:
    """The options of a `ControlConfig` that are the learner's, as its `settings_type`.

    Raises:
        UserError: an option is out of its bounds.
    """
    kind = config.settings_type
    return kind.model_validate({name: getattr(config, name) for name in kind.model_fields})
