"""Trains a character's controller by a world model: what one iteration does with its rollouts.

    1. add the rollouts to the replay
    2. update the model of the dynamics on recorded windows of steps
    3. update the policy by gradients of the imagined return, from recorded states

The first iterations only collect. With the last of them a new controller's observation statistics are set, for good,
and the model is fitted. The controller that acts has the running average of the trained policy's weights, which tracks
better than the policy. Gradients through learned dynamics are those of SVG (Heess et al. 2015); tracking a reference by
them, with neither critic nor discount, is due to SuperTrack (Fussell, Bergamin, Holden 2021).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.task.imitation_task import ImitationTask
from learners.ema import EMA
from learners.optimizer import Optimizer, OptimizerOptions
from learners.world_model.characters import Characters
from learners.world_model.dynamics import DynamicsModel, window_loss
from learners.world_model.imagination import Imagined, ImaginedTask, imagine
from learners.world_model.replay import Replay
from learners.world_model.settings import WorldModelSettings
from rollouts.control.actor_critic import ActorCritic
from rollouts.control.rollouts import ControlRollout
from rollouts.control.vector_sampler import ActionNoise

FITTED_STEPS = 12_000
"""Recorded steps for the ridge regression and the observation statistics."""

MODEL_BETAS, POLICY_BETAS = (0.9, 0.98), (0.9, 0.97)
MAX_GRAD_NORM = 1.0
REWARD_FACTOR = 4.0
"""Factor on the mean imagined reward in the policy's loss; the costs of actions are relative to it."""


class WorldModelLearner:
    """Trains a controller by a world model and keeps the state of the training.

    Example:
        learner = WorldModelLearner(controller, env.task, WorldModelSettings(), seed=0)
        metrics = learner.update([sampler.collect(controller, 30, learner.iteration)])
    """

    def __init__(
        self,
        controller: ActorCritic,
        task: ImitationTask,
        settings: WorldModelSettings,
        seed: int,
        num_iterations: int = 0,
    ) -> None:
        """Trains `controller` in place.

        Args:
            task: of the environments that make the rollouts.
            seed: seed of the model's first weights, of what is drawn from the replay and of imagined noise.
            num_iterations: length of the training, over which learning rates with a schedule fall.

        Raises:
            UserError: the task cannot be imagined.
        """
        self.controller = controller
        self.settings = settings
        self.iteration = 0
        self.task = ImaginedTask(task)
        hidden = (settings.model_hidden_size,) * settings.model_layers
        self.model = DynamicsModel(self.task.joints, self.task.seconds, hidden, seed)
        self.replay = Replay(self.task, settings.replay_steps)
        self._seed = seed
        self._weights = dict(self.model.named_parameters())
        self._policy = copy.deepcopy(controller.policy)
        self._parameters = dict(self._policy.named_parameters())
        self._average = EMA(self._parameters, settings.policy_average, warmup=True)
        # The last iteration of the warm-up is the first with updates.
        updating = max(0, num_iterations - settings.warmup_iterations + 1)
        model_updates = settings.model_warmup_updates + updating * settings.model_updates
        self._model_optimizer = Optimizer(
            self._weights, self._options(settings.model_learning_rate, MODEL_BETAS, model_updates)
        )
        self._policy_optimizer = Optimizer(
            self._parameters,
            self._options(settings.policy_learning_rate, POLICY_BETAS, updating * settings.policy_updates),
        )

    def update(self, rollouts: Sequence[ControlRollout]) -> dict[str, float]:
        """Makes one iteration with the rollouts of all samplers; returns metrics.

        Raises:
            UserError: no recorded stretch is long enough for the model.
            DivergenceError: a gradient is not finite.
        """
        for rollout in rollouts:
            self.replay.add(rollout)
        settings = self.settings
        self.iteration += 1
        if self.iteration < settings.warmup_iterations:
            return {}
        draw = self._generator()
        if self.iteration == settings.warmup_iterations:
            self._fit_first(draw)
        losses = [self._update_model(settings.model_window, draw) for _ in range(settings.model_updates)]
        self.model.requires_grad_(False)
        reports = [self._update_policy(draw) for _ in range(settings.policy_updates)]
        self.model.requires_grad_(True)
        self.controller.policy.load_state_dict(self._average.weights())
        means = {name: sum(report[name] for report in reports) / len(reports) for name in reports[0]}
        return {"model/loss": sum(losses) / len(losses), **means}

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs, as tensors and plain values."""
        return {
            "controller": {name: value.clone() for name, value in self.controller.state_dict().items()},
            "policy": {name: value.clone() for name, value in self._policy.state_dict().items()},
            "model": {name: value.clone() for name, value in self.model.state_dict().items()},
            "average": self._average.state(),
            "policy_optimizer": self._policy_optimizer.state(),
            "model_optimizer": self._model_optimizer.state(),
            "replay": self.replay.state(),
            "iteration": self.iteration,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`."""
        self.controller.load_state_dict(state["controller"])
        self._policy.load_state_dict(state["policy"])
        self.model.load_state_dict(state["model"])
        self._average.load(state["average"])
        self._policy_optimizer.load(state["policy_optimizer"])
        self._model_optimizer.load(state["model_optimizer"])
        self.replay.load(state["replay"])
        self.iteration = int(state["iteration"])

    def _fit_first(self, draw: torch.Generator) -> None:
        """Observation statistics, the model's scales and linear part, and its first updates."""
        starts = self.replay.starts(FITTED_STEPS, draw)
        if not float(self.controller.statistics.count):
            self.controller.update_statistics(self.task.observe_starts(starts))
        window = self.replay.windows(FITTED_STEPS, 1, draw)
        self.model.fit_linear(window.start, window.targets[0], Characters(*(part[0] for part in window.later)))
        settings = self.settings
        for update in range(settings.model_warmup_updates):
            # Predictions over few steps first: those of an untrained model over many lead nowhere.
            share = 2 * (update + 1) / settings.model_warmup_updates
            self._update_model(max(1, min(settings.model_window, round(share * settings.model_window))), draw)

    def _update_model(self, steps: int, draw: torch.Generator) -> float:
        settings = self.settings
        window = self.replay.windows(settings.model_batch_size, steps, draw)
        loss = window_loss(self.model, *window, settings.model_root_weight)
        loss.backward()
        self._model_optimizer.step()
        return float(loss.detach())

    def _update_policy(self, draw: torch.Generator) -> dict[str, float]:
        settings, policy, normalised = self.settings, self._policy, self.controller.statistics.frozen()
        starts = self.replay.starts(settings.imagined_starts, draw)
        shape = (settings.imagined_steps, settings.imagined_starts, len(self.controller.log_std))
        noise = torch.randn(shape, generator=draw) * self.controller.log_std.detach().exp()
        imagined = imagine(
            self.task, self.model, lambda seen: policy(normalised(seen)), starts, noise, settings.gradient_limit
        )
        loss = policy_loss(imagined, settings)
        loss.backward()
        norm = self._policy_optimizer.step()
        self._average.update()
        with torch.no_grad():
            living = imagined.counted.sum()
            return {
                "policy/loss": float(loss.detach()),
                "policy/grad_norm": norm,
                "policy/action": float(imagined.actions.abs().mean()),
                "imagined/reward": float((imagined.rewards * imagined.counted).sum() / living),
                "imagined/cost": float((imagined.costs * imagined.counted).sum() / living),
                "imagined/alive": float(imagined.alive[-1].mean()),
            }

    def _options(self, rate: float, betas: tuple[float, float], updates: int) -> OptimizerOptions:
        decay_steps = self.settings.decay_steps(updates)
        return OptimizerOptions(rate, *betas, max_grad_norm=MAX_GRAD_NORM, decay_steps=decay_steps)

    def _generator(self) -> torch.Generator:
        words = np.random.SeedSequence([self._seed, self.iteration, 3]).generate_state(1)
        return torch.Generator().manual_seed(int(words[0]))


def sampler_options(settings: WorldModelSettings) -> dict[str, Any]:
    """Arguments of the `VectorSampler` whose rollouts the learner needs."""
    noise = ActionNoise(settings.noise_correlation, settings.noise_spread)
    return {"record_states": True, "noise": noise, "push_from_iteration": settings.push_from_iteration}


def policy_loss(imagined: Imagined, settings: WorldModelSettings) -> Tensor:
    """Minus the mean return of imagined steps until the fall, plus costs of large and of uneven actions."""
    value = imagined.rewards - settings.tracking_cost * imagined.costs
    # `where`, as a fallen character's numbers may be infinite, and 0 times infinity is none.
    gained = torch.where(imagined.counted > 0, value, 0.0).mean()
    large = imagined.actions.square().mean()
    uneven = imagined.actions.diff(dim=0).square().mean()
    return settings.action_cost * large + settings.smoothness_cost * uneven - REWARD_FACTOR * gained
