"""RLlib's Learner, a thin wrapper around `learners.trpo.learner.TRPOLearner`.

RLlib's own update loop (connectors, minibatches, one optimizer per module, DDP) does not support second-order steps:
hooks of DDP do not run for `torch.autograd.grad`, and double backward through its wrapper is not supported. Therefore
the module is not wrapped and sums are explicit, in the same order on every learner: counts, gradients, Fisher-vector
products, objective and divergence of the line search, gradients of the critic. All learners thus make the same
decisions and keep the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from torch import Tensor

from cluster.rllib.module import ActorCriticModule, trpo_settings
from learners.trpo.learner import TRPOLearner
from rollouts.control.rollouts import ControlRollout


class TRPOTorchLearner(TorchLearner):
    """RLlib learner that trains one controller by TRPO."""

    def build(self) -> None:
        """Builds the module, copies the first learner's weights to all, and creates the `TRPOLearner`."""
        super().build()
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        assert isinstance(module, ActorCriticModule)
        settings, seed = trpo_settings(self.config), self.config.seed or 0
        if (self.config.num_learners or 0) < 2:
            self._trpo = TRPOLearner(module.controller, settings, seed)
            return
        for value in module.state_dict().values():
            torch.distributed.broadcast(value, src=0)
        rank, number = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._trpo = TRPOLearner(module.controller, settings, seed, sum_over_learners, rank, number)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Configures nothing: the policy has no optimizer, and the critic's belongs to `TRPOLearner`."""

    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        """Never called, as `update` has no first-order loss.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a trust region step is no gradient step on one loss")

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
        metrics = self._trpo.update(rollouts)
        for name, value in metrics.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, name), value, window=1)
        self.metrics.log_value((ALL_MODULES, "num_env_steps"), sum(r.num_steps for r in rollouts), reduce="sum")
        return self.metrics.reduce()

    def last_state(self) -> dict[str, Any]:
        """State of the learner: `TRPOLearner.state()`."""
        return self._trpo.state()

    def load_last_state(self, state: dict[str, Any]) -> None:
        """Restores the result of `last_state()`."""
        self._trpo.load(state)

    def _get_optimizer_state(self) -> dict[str, Any]:
        return self._trpo.state()

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        self._trpo.load(state)


def sum_over_learners(value: Tensor) -> Tensor:
    """The sum of a tensor over the learners of this process group, with the same bits on each."""
    total = value.detach().clone().contiguous()
    if torch.distributed.get_backend() == "nccl":
        # Counts are CPU tensors, which NCCL does not support.
        total = total.cuda()
    torch.distributed.all_reduce(total)
    return total.to(value.device)
