"""Supervised diffusion training: the network learns to predict the clean motion from a noisy one.

The objective is that of MDM's code (Tevet et al. 2023): squared error over valid frames divided by their number, so
that short clips weigh as much as long ones; optionally the error of frame differences, from which MDM's code excludes
the last feature (it is written for a layout with joints, whose last row is the root), and physics losses of the
prediction (`learners/physics_losses.py`). t is uniform; the prediction is x0.

Randomness is a function of (seed, step), drawn on the CPU: the same batch at the same step gives the same update after
a resume, without any generator state.

Legend: B clips, T frames (zero padded), D features, L text tokens, E text embedding width.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learners.ema import EMA
from learners.optimizer import DivergenceError, Optimizer, OptimizerOptions, undecayed_names
from learners.physics_losses import PhysicsLoss
from learners.supervised.resumable import ResumableLearner
from learners.supervised.settings import SupervisedSettings
from motions.base.errors import UserError
from motions.data.text_motion import MotionBatch
from motions.skeleton.normalization import Normalizer
from rollouts.devices import seeded
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.transitions import q_sample
from rollouts.messages import TextForm
from rollouts.networks.denoiser_network import DenoiserNetwork
from rollouts.text.encoders import TextEncoder
from rollouts.text.padding import pad_tokens


@dataclass(frozen=True, slots=True)
class SupervisedBatch:
    """B clips with their texts, ready for the network."""

    features: Tensor
    """[B, T, D] float32, normalised, zero beyond each clip's length."""
    lengths: Tensor
    """[B] int64, at least 1."""
    text: Tensor
    """[B, L, E] float32, output of the text encoder."""
    text_mask: Tensor | None = None
    """[B, L] bool, True = real token; None for pooled embeddings."""

    def to(self, device: torch.device) -> SupervisedBatch:
        """The batch, moved to a device."""
        mask = None if self.text_mask is None else self.text_mask.to(device)
        return SupervisedBatch(self.features.to(device), self.lengths.to(device), self.text.to(device), mask)


def supervised_batch(
    batch: MotionBatch, normalizer: Normalizer, encoder: TextEncoder, form: TextForm = "pooled"
) -> SupervisedBatch:
    """Prepares a batch of a dataset for the network: features normalised, then padded with zeros; texts embedded.

    Args:
        form: what the network reads of a text; its `text_form`.

    Raises:
        UserError: a text is over the encoder's limit, or the features have another width than the statistics.
    """
    lengths = torch.from_numpy(batch.lengths)
    valid = torch.arange(batch.features.shape[1]) < lengths[:, None]
    features = normalizer.normalize(torch.from_numpy(batch.features)) * valid.unsqueeze(2)
    if form == "pooled":
        return SupervisedBatch(features, lengths, torch.from_numpy(encoder.encode_pooled(batch.texts)).unsqueeze(1))
    text, counts = pad_tokens(encoder.encode_tokens(batch.texts))
    return SupervisedBatch(features, lengths, text, torch.arange(text.shape[1]) < counts[:, None])


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Loss terms of B clips, each [B]; all carry gradients."""

    loss: Tensor
    """mse + lambda_vel * velocity_mse + lambda_physics * physics."""
    mse: Tensor
    velocity_mse: Tensor | None
    """Mean squared error of frame differences, [B]; None if `lambda_vel` is 0."""
    physics: Mapping[str, Tensor] = field(default_factory=dict)
    """What the prediction does that bodies do not, by name, each [B]; empty if `lambda_physics` is 0."""


def diffusion_loss(
    network: DenoiserNetwork,
    schedule: DiffusionSchedule,
    x0: Tensor,
    levels: Tensor,
    noise: Tensor,
    text: Tensor,
    frame_mask: Tensor,
    *,
    text_mask: Tensor | None = None,
    drop_text: Tensor | None = None,
    lambda_vel: float = 0.0,
    physics: PhysicsLoss | None = None,
    lambda_physics: float = 0.0,
) -> LossTerms:
    """MDM's training loss, per clip.

    Args:
        network: predicts x0; the caller chooses train or eval mode.
        schedule: the noise schedule that the network is trained with.
        x0: clean normalised motion [B, T, D].
        levels: noise level of each clip [B] int64, index into the schedule's tables (0 = least noise).
        noise: standard normal [B, T, D].
        text: output of the text encoder [B, L, E].
        frame_mask: [B, T] bool, True = real frame, at least one each.
        text_mask: [B, L] bool, True = real token; None = all are real.
        drop_text: [B] bool, True = train this clip without its text; None = keep all texts.
        lambda_vel: weight of the velocity error; 0 leaves it out.
        physics: losses of the predicted motion, and their weight `lambda_physics`; None leaves them out.
    """
    indices = levels.cpu().numpy()
    x_t = q_sample(x0, noise, schedule.alphas_cumprod[indices])
    timesteps = torch.as_tensor(schedule.timestep_map[indices], device=x0.device)
    predicted = network(x_t, timesteps, text, frame_mask, text_mask, drop_text).float()
    mse = masked_square_error(predicted, x0, frame_mask)
    loss, velocity = mse, None
    if lambda_vel:
        moved, wanted = predicted.diff(dim=1)[..., :-1], x0.diff(dim=1)[..., :-1]
        velocity = masked_square_error(moved, wanted, frame_mask[:, 1:])
        loss = loss + lambda_vel * velocity
    if physics is None:
        return LossTerms(loss, mse, velocity)
    cost, amounts = physics(predicted, x0, frame_mask)
    return LossTerms(loss + lambda_physics * cost, mse, velocity, amounts)


def masked_square_error(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Sum of squared errors over valid frames / (valid frames * features + 1e-8): [B]. a, b: [B, T, D], mask: [B,
    T]."""
    squares = torch.where(mask.unsqueeze(2), (a - b).square(), 0.0)
    return squares.sum(dim=(1, 2)) / (mask.sum(dim=1) * a.shape[2] + 1e-8)


class SupervisedLearner(ResumableLearner):
    """Trains a denoiser on clips with texts and keeps an average of its weights.

    Example:
        learner = SupervisedLearner(network, schedule, settings, total_steps=1000, seed=0)
        for batch in batches:
            metrics = learner.update(batch)
        with learner.averaged():
            checkpoints.save_mdm(...)
    """

    kind = "supervised"

    def __init__(
        self,
        network: DenoiserNetwork,
        schedule: DiffusionSchedule,
        settings: SupervisedSettings,
        total_steps: int,
        seed: int,
        physics: PhysicsLoss | None = None,
    ) -> None:
        """Prepares the training.

        Args:
            total_steps: those of the whole training, over which a cosine falls.
            physics: what `lambda_physics` weighs; needed where that is above 0.

        Raises:
            ValueError: `lambda_physics` is above 0 and there are no physics losses.
        """
        if settings.lambda_physics and physics is None:
            raise ValueError(f"lambda_physics is {settings.lambda_physics}, and there are no physics losses to weigh")
        self.network = network
        self.schedule = schedule
        self.settings = settings
        self._physics = physics if settings.lambda_physics else None
        parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
        options = OptimizerOptions(**settings.optimizer_options(total_steps), beta2=settings.adam_beta2)
        super().__init__(parameters, Optimizer(parameters, options, undecayed=undecayed_names(network)), seed)
        beta = settings.avg_model_beta
        self._ema = EMA(parameters, beta, settings.ema_warmup) if beta else None

    def update(self, batch: SupervisedBatch) -> dict[str, float]:
        """One optimizer step on a batch.

        Returns:
            Metrics: loss, mse, velocity_mse (with `lambda_vel`), the quantities of `learners.physics_losses` (with
            `lambda_physics`), grad_norm, learning_rate, seconds_update.

        Raises:
            DivergenceError: the loss or a gradient is not finite; weights, averages and step count are unchanged.
        """
        start = time.perf_counter()
        learning_rate = self._optimizer.learning_rate
        terms = self._loss(batch)
        loss = terms.loss.mean()
        if not bool(loss.isfinite()):
            clip = int((~terms.loss.isfinite()).nonzero()[0])
            raise DivergenceError(
                f"step {self.num_steps}: the loss is {loss.item()}, first in clip {clip} of the batch; the weights "
                "were not changed. Check the features of the clip and the learning rate"
            )
        self._optimizer.zero_grad()
        loss.backward()
        grad_norm = self._optimizer.step()
        if self._ema is not None:
            self._ema.update()
        self.num_steps += 1
        metrics = {"loss": loss.item(), "mse": terms.mse.mean().item()}
        if terms.velocity_mse is not None:
            metrics["velocity_mse"] = terms.velocity_mse.mean().item()
        metrics |= {name: values.mean().item() for name, values in terms.physics.items()}
        seconds = time.perf_counter() - start
        return metrics | {"grad_norm": grad_norm, "learning_rate": learning_rate, "seconds_update": seconds}

    def validation_loss(self, batches: Iterable[SupervisedBatch]) -> float:
        """Mean loss of the averaged weights on clips that are not trained on, without dropout and with all texts.

        Noise and levels are the same each time. Raises ValueError for no clips.
        """
        losses = []
        with torch.no_grad(), self.averaged():
            for number, batch in enumerate(batches):
                rng = np.random.default_rng([self.seed, number])
                losses.append(self._terms(batch, rng, drop_share=0.0, text_noise=0.0).loss)
        if not losses:
            raise ValueError("there are no clips to validate with")
        return float(torch.cat(losses).mean())

    def _loss(self, batch: SupervisedBatch) -> LossTerms:
        """Loss of the batch in training mode; noise, levels, dropped texts and dropout are those of this step."""
        rng = np.random.default_rng([self.seed, self.num_steps])
        self.network.train()
        return self._terms(batch, rng, drop_share=self.settings.cond_mask_prob, text_noise=self.settings.text_noise)

    def _terms(
        self, batch: SupervisedBatch, rng: np.random.Generator, *, drop_share: float, text_noise: float
    ) -> LossTerms:
        device = next(self.network.parameters()).device
        batch = batch.to(device)
        size, num_frames = batch.features.shape[:2]
        levels = torch.from_numpy(rng.integers(self.schedule.num_steps, size=size))
        noise = torch.from_numpy(rng.standard_normal(tuple(batch.features.shape), np.float32)).to(device)
        drop = torch.from_numpy(rng.random(size) < drop_share).to(device)
        frame_mask = torch.arange(num_frames, device=device) < batch.lengths[:, None]
        text = batch.text
        if text_noise:
            text = text + text_noise * torch.from_numpy(rng.standard_normal(tuple(text.shape), np.float32)).to(device)
        with seeded(device, int(rng.integers(2**63))):
            return diffusion_loss(
                self.network,
                self.schedule,
                batch.features,
                levels,
                noise,
                text,
                frame_mask,
                text_mask=batch.text_mask,
                drop_text=drop,
                lambda_vel=self.settings.lambda_vel,
                physics=self._physics,
                lambda_physics=self.settings.lambda_physics,
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block the network is in eval mode and holds the averaged weights (its own without averaging)."""
        was_training = self.network.training
        self.network.eval()
        try:
            if self._ema is None:
                yield
            else:
                with self._ema.swapped():
                    yield
        finally:
            self.network.train(was_training)

    def state(self) -> dict[str, Any]:
        """See `ResumableLearner.state`; with the averaged weights."""
        return super().state() | {"ema": None if self._ema is None else self._ema.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `ResumableLearner.load`.

        Raises:
            UserError: as there; or the two differ in averaging.
        """
        super().load(state)
        if self._ema is not None:
            self._ema.load(state["ema"])

    def _require_same(self, state: Mapping[str, Any]) -> None:
        super()._require_same(state)
        if (state["ema"] is None) != (self._ema is None):
            raise UserError("avg_model_beta is 0 in one of checkpoint and run: the averaged weights would be lost")
