"""Training of MotionSSM (`rollouts/one_action/motion_ssm.py`) on clips with their texts.

    loss = mse + lambda_vel * velocity_mse + w(step) * kl + lambda_length * length_error + physics

with mse and velocity_mse of the reconstruction over valid frames, kl = KL(q(z | x, c) || N(0, I)) as a mean over the
numbers of the valid knots, w(step) rising to `lambda_kl` over `kl_warmup_steps`, and length_error the squared error of
the logarithm of the seconds of clips that were not cropped. A regressor (`latent_dim` 0) has no kl. The mean of the
prior stays 0: it is what reinforcement learning trains.

Randomness is a function of (seed, step), drawn on the CPU: the same batch at the same step gives the same update after
a resume, without any generator state.

Sources: Kingma and Welling 2014 (VAE); Bowman et al. 2016 (warm-up of the divergence's weight).

Legend: B clips, T frames, D features, K knots, Z numbers of a knot.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from learners.optimizer import DivergenceError, Optimizer, OptimizerOptions, undecayed_names
from learners.physics_losses import PhysicsLoss
from learners.supervised.diffusion import SupervisedBatch, masked_square_error
from learners.supervised.resumable import ResumableLearner
from learners.supervised.settings import MotionSSMSettings
from rollouts.devices import seeded
from rollouts.gaussians import Gaussian
from rollouts.one_action.knots import num_knots
from rollouts.one_action.motion_ssm import MotionSSM


@dataclass(frozen=True, slots=True)
class MotionSSMTerms:
    """Loss terms of B clips, each [B]; all but the quantities of physics carry gradients."""

    loss: Tensor
    mse: Tensor
    velocity_mse: Tensor
    kl: Tensor
    length_error: Tensor
    physics: Mapping[str, Tensor] = field(default_factory=dict)


def latent_kl(posterior: Gaussian, num_valid: Tensor) -> Tensor:
    """KL(posterior || N(0, I)) of each clip, mean over the numbers of its valid knots: [B].

    Args:
        posterior: mean and log-variance [B, K, Z].
        num_valid: valid knots [B], the first ones.
    """
    mean, log_variance = posterior
    per_knot = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean(dim=2)
    valid = torch.arange(mean.shape[1], device=mean.device) < num_valid[:, None]
    return torch.where(valid, per_knot, 0.0).sum(dim=1) / num_valid


class MotionSSMLearner(ResumableLearner):
    """Trains a MotionSSM.

    Example:
        learner = MotionSSMLearner(network, settings, total_steps=600, seed=0, fps=20.0, max_frames=80)
        metrics = learner.update(batch)
    """

    kind = "motion_ssm"

    def __init__(
        self,
        network: MotionSSM,
        settings: MotionSSMSettings,
        total_steps: int,
        seed: int,
        fps: float,
        max_frames: int,
        physics: PhysicsLoss | None = None,
    ) -> None:
        """Prepares the training of all weights but the prior's.

        Args:
            total_steps: those of the whole training, over which a cosine falls.
            fps: frames per second of the motions.
            max_frames: frames from which on a clip may have been cropped, so that its length is not its own.
            physics: what `lambda_physics` and `lambda_prior_physics` weigh; needed where one is above 0.

        Raises:
            ValueError: a weight of physics is above 0 and there are no such losses.
        """
        if (settings.lambda_physics or settings.lambda_prior_physics) and physics is None:
            raise ValueError("lambda_physics or lambda_prior_physics is above 0, and there are no physics losses")
        self.network = network
        self.settings = settings
        self._physics = physics
        self._fps, self._max_frames = fps, max_frames
        parameters = {name: value for name, value in network.named_parameters() if not name.startswith("prior.")}
        options = OptimizerOptions(**settings.optimizer_options(total_steps))
        super().__init__(parameters, Optimizer(parameters, options, undecayed=undecayed_names(network)), seed)

    def update(self, batch: SupervisedBatch) -> dict[str, float]:
        """One optimizer step on a batch.

        Returns:
            Metrics: loss, mse, velocity_mse, kl (of a regressor 0), length_error, the quantities of
            `learners.physics_losses`, grad_norm, learning_rate, seconds_update.

        Raises:
            DivergenceError: the loss or a gradient is not finite; weights and step count are unchanged.
        """
        start = time.perf_counter()
        learning_rate = self._optimizer.learning_rate
        self.network.train()
        terms = self._terms(batch, np.random.default_rng([self.seed, self.num_steps]), training=True)
        loss = terms.loss.mean()
        if not bool(loss.isfinite()):
            raise DivergenceError(
                f"step {self.num_steps}: the loss is {loss.item()}; the weights were not changed. Check the features "
                "of the clips and the learning rate"
            )
        self._optimizer.zero_grad()
        loss.backward()
        grad_norm = self._optimizer.step()
        self.num_steps += 1
        names = ("mse", "velocity_mse", "kl", "length_error")
        metrics = {"loss": loss.item()} | {name: float(getattr(terms, name).detach().mean()) for name in names}
        metrics |= {name: values.mean().item() for name, values in terms.physics.items()}
        seconds = time.perf_counter() - start
        return metrics | {"grad_norm": grad_norm, "learning_rate": learning_rate, "seconds_update": seconds}

    def validation_loss(self, batches: Iterable[SupervisedBatch]) -> float:
        """Mean loss of clips that are not trained on, at the whole weight of the divergence; noise is the same each
        time. Raises ValueError for no clips."""
        self.network.eval()
        losses = []
        with torch.no_grad():
            for number, batch in enumerate(batches):
                losses.append(self._terms(batch, np.random.default_rng([self.seed, number]), training=False).loss)
        if not losses:
            raise ValueError("there are no clips to validate with")
        return float(torch.cat(losses).mean())

    def kl_weight(self) -> float:
        """Weight of the divergence at the present step."""
        warmup = self.settings.kl_warmup_steps
        return self.settings.lambda_kl * (min(1.0, self.num_steps / warmup) if warmup else 1.0)

    def _terms(self, batch: SupervisedBatch, rng: np.random.Generator, *, training: bool) -> MotionSSMTerms:
        network, settings = self.network, self.settings
        device = next(network.parameters()).device
        batch = batch.to(device)
        size, num_frames = batch.features.shape[:2]
        knots, width = network.action_shape(num_frames)

        def drawn(*shape: int) -> Tensor:
            return torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)

        noise = drawn(size, knots, width)
        fresh = drawn(size, knots, width)
        features = batch.text
        if training and settings.text_noise and network.text_form == "pooled":
            features = features + settings.text_noise * drawn(*features.shape)
        mask = torch.arange(num_frames, device=device) < batch.lengths[:, None]
        x = batch.features
        with seeded(device, int(rng.integers(2**63))):
            text = network.encode_text(features, batch.text_mask)
            kl = x.new_zeros(size)
            action = noise
            if width:
                posterior = network.posterior(x, text, mask)
                valid = [num_knots(int(length), network.config.knot_frames) for length in batch.lengths.tolist()]
                kl = latent_kl(posterior, torch.tensor(valid, device=device))
                action = posterior.mu + (0.5 * posterior.logvar).exp() * noise
            made = network.decode(action, text, num_frames, mask)
            mse = masked_square_error(made, x, mask)
            velocity = masked_square_error(made.diff(dim=1), x.diff(dim=1), mask[:, 1:])
            whole = batch.lengths < self._max_frames
            seconds = torch.log(batch.lengths.float() / self._fps)
            length = torch.where(whole, (network.log_seconds(text) - seconds).square(), 0.0)
            weight = self.kl_weight() if training else settings.lambda_kl
            loss = mse + settings.lambda_vel * velocity + weight * kl + settings.lambda_length * length
            amounts: dict[str, Tensor] = {}
            if self._physics is not None and settings.lambda_physics:
                cost, amounts = self._physics(made, x, mask)
                loss = loss + settings.lambda_physics * cost
            if self._physics is not None and settings.lambda_prior_physics and width and training:
                cost, found = self._physics(network.decode(fresh, text, num_frames, mask), x, mask)
                loss = loss + settings.lambda_prior_physics * cost
                amounts = {**amounts, **{f"prior_{name}": values for name, values in found.items()}}
        return MotionSSMTerms(loss, mse, velocity, kl, length, amounts)
