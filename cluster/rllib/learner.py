"""RLlib's Learner, a thin wrapper around a learner of ours.

RLlib's own update loop (connectors, minibatches, one optimizer per module, DDP) does not support second-order steps:
hooks of DDP do not run for `torch.autograd.grad`, and double backward through its wrapper is not supported. Therefore
the module is not wrapped, and sums over several learners are explicit, in the same order on every learner. All learners
thus make the same decisions and keep the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from torch import Tensor

from cluster.rllib.module import ActorCriticModule, settings_of
from learners.rollout_training import RolloutLearner
from learners.trpo.trust_region import Reduce, alone
from rollouts.control.actor_critic import ActorCritic
from rollouts.control.rollouts import ControlRollout


@dataclass(frozen=True, slots=True)
class Peers:
    """The learners that train together."""

    rank: int = 0
    """Of this one."""
    number: int = 1
    reduce: Reduce = alone
    """Sum over all of them."""


class ControlLearner(TorchLearner):
    """RLlib learner that trains one controller on rollouts."""

    def wrapped(self, controller: ActorCritic, settings: Any, seed: int, peers: Peers) -> RolloutLearner:
        """Creates the learner that trains the controller; subclasses know which."""
        raise NotImplementedError

    def build(self) -> None:
        """Builds the module, copies the first learner's weights to all, and creates the wrapped learner."""
        super().build()
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        assert isinstance(module, ActorCriticModule)
        peers = Peers()
        if (self.config.num_learners or 0) >= 2:
            for value in module.state_dict().values():
                torch.distributed.broadcast(value, src=0)
            rank, number = torch.distributed.get_rank(), torch.distributed.get_world_size()
            peers = Peers(rank, number, sum_over_learners)
        self._own = self.wrapped(module.controller, settings_of(self.config), self.config.seed or 0, peers)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Configures nothing: optimizers belong to the wrapped learner."""

    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        """Never called, as `update` does not use it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the wrapped learner has losses of its own")

    def _make_modules_ddp_if_necessary(self) -> None:
        """Does nothing; the module's docstring gives the reason."""

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *, training_data: TrainingData, timesteps: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Makes one iteration on rollouts, which are passed in place of RLlib's episodes.

        Returns:
            RLlib's reduced metrics, under the module's id.
        """
        training_data.solve_refs()
        rollouts = cast(list[ControlRollout], training_data.episodes)
        self._weights_seq_no += 1
        metrics = self._own.update(rollouts)
        for name, value in metrics.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, name), value, window=1)
        self.metrics.log_value((ALL_MODULES, "num_env_steps"), sum(r.num_steps for r in rollouts), reduce="sum")
        return self.metrics.reduce()

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Restores the wrapped learner's `state()`."""
        self._own.load(state)

    def _get_optimizer_state(self) -> dict[str, Any]:
        return self._own.state()

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        self._own.load(state)


def sum_over_learners(value: Tensor) -> Tensor:
    """The sum of a tensor over the learners of this process group, with the same bits on each."""
    total = value.detach().clone().contiguous()
    if torch.distributed.get_backend() == "nccl":
        # Counts are CPU tensors, which NCCL does not support.
        total = total.cuda()
    torch.distributed.all_reduce(total)
    return total.to(value.device)
