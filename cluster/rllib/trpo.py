"""TRPO as an RLlib algorithm.

config = TRPOConfig().environment("Hopper-v5").env_runners(num_env_runners=2).training(max_kl=0.01)
algorithm = config.build_algo()
result = algorithm.train()
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from cluster.rllib.control import ControlAlgorithm, ControlConfig
from cluster.rllib.learner import ControlLearner, Peers
from cluster.rllib.module import settings_of
from learners.trpo.learner import TRPOLearner
from learners.trpo.settings import TRPOSettings
from rollouts.control.actor_critic import ActorCritic


class TRPOTorchLearner(ControlLearner):
    """RLlib learner that trains one controller by TRPO."""

    def wrapped(self, controller: ActorCritic, settings: Any, seed: int, peers: Peers) -> TRPOLearner:
        """Creates the `TRPOLearner`."""
        return TRPOLearner(controller, settings, seed, peers.reduce, peers.rank, peers.number)


class TRPOConfig(ControlConfig):
    """Configuration of `TRPO`; every field of `TRPOSettings` is an option of `training()`."""

    settings_type = TRPOSettings
    learner_type = TRPOTorchLearner

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or TRPO)

    def sampler_options(self) -> dict[str, Any]:
        """See `ControlConfig.sampler_options`: the expert's actions are recorded if they have a weight."""
        return {"record_expert": settings_of(self).cloning_weight > 0}


class TRPO(ControlAlgorithm):
    """TRPO on RLlib."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The default configuration, a `TRPOConfig`."""
        return TRPOConfig()
