"""Training by a world model as an RLlib algorithm: its env runners record the simulator's states."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from cluster.rllib.control import ControlAlgorithm, ControlConfig
from cluster.rllib.learner import ControlLearner, Peers
from cluster.rllib.module import settings_of
from envs.settings import DeepMimicSettings
from envs.task.imitation_task import ImitationTask
from learners.world_model.learner import WorldModelLearner, sampler_options
from learners.world_model.settings import WorldModelSettings
from motions.base.errors import UserError
from rollouts.control.actor_critic import ActorCritic


class WorldModelTorchLearner(ControlLearner):
    """RLlib learner that trains one controller by a world model."""

    def wrapped(self, controller: ActorCritic, settings: Any, seed: int, peers: Peers) -> WorldModelLearner:
        """Creates the `WorldModelLearner`."""
        config = self.config
        assert isinstance(config, WorldModelConfig)
        task = ImitationTask(DeepMimicSettings.model_validate(dict(config.env_config)), 1)
        return WorldModelLearner(controller, task, settings, seed, config.num_iterations)


class WorldModelConfig(ControlConfig):
    """Configuration of `WorldModel`; every field of `WorldModelSettings` is an option of `training()`."""

    settings_type = WorldModelSettings
    learner_type = WorldModelTorchLearner

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or WorldModel)
        self.num_iterations = 0
        """Length of the training, over which learning rates with a schedule fall."""

    def validate(self) -> None:
        """See `ControlConfig.validate`; there may be one learner only."""
        super().validate()
        if self.num_learners > 1:
            raise UserError(f"num_learners is {self.num_learners}; a world model is trained by one learner")
        if settings_of(self).lr_schedule == "cosine" and not self.num_iterations:
            raise UserError("lr_schedule cosine falls over the training: set num_iterations to its length")

    def sampler_options(self) -> dict[str, Any]:
        """See `ControlConfig.sampler_options`: states are recorded, and the noise is the settings'."""
        return sampler_options(settings_of(self))


class WorldModel(ControlAlgorithm):
    """Training by a world model on RLlib."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The default configuration, a `WorldModelConfig`."""
        return WorldModelConfig()
