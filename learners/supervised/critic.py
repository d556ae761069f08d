"""Training of a critic by pairs of motions of which one is better (Bradley and Terry 1952, as MotionCritic does).

    loss = mean over the pairs of softplus(s_worse - s_better)

which is the cross entropy of the two scores with the better one's class. A pair counts as right where the better motion
has the higher score; a tie is wrong. Unlike the public project's, batches may hold motions of different lengths.

Legend: B pairs, T frames.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learners.optimizer import DivergenceError, Optimizer, OptimizerOptions
from learners.supervised.resumable import ResumableLearner
from learners.supervised.settings import CriticTrainingSettings
from rewards.critic.network import MotionCritic
from rewards.critic.scoring import score_windows


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B pairs of motions of the same length; what lies beyond it is of no account."""

    better: Tensor
    """[B, T, 25, 3] float32, see `rewards.critic.poses`."""
    worse: Tensor
    """[B, T, 25, 3] float32."""
    lengths: Tensor
    """[B] int64, numbers of frames."""

    def __len__(self) -> int:
        return len(self.lengths)


def pair_loss(better: Tensor, worse: Tensor) -> Tensor:
    """The loss of scores [B] of the better and the worse motions."""
    return F.softplus(worse - better).mean()


def pair_figures(better: np.ndarray, worse: np.ndarray) -> dict[str, float]:
    """Accuracy (share of pairs in the right order; ties are wrong) and log-loss of scores [N]."""
    margin = better.astype(np.float64) - worse
    return {"accuracy": float((margin > 0).mean()), "log_loss": float(np.logaddexp(0.0, -margin).mean())}


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Pairs of similar confidence."""

    confidence: float
    """Mean probability that the critic gave to the motion with the higher score."""
    right: float
    """Share of the pairs in which that was the better one."""
    num_pairs: int


def calibration(better: np.ndarray, worse: np.ndarray, num_bins: int = 8) -> list[CalibrationBin]:
    """How often the critic is right by how sure it is: bins of equally many pairs, from unsure to sure."""
    margin = better.astype(np.float64) - worse
    order = np.argsort(np.abs(margin), kind="stable")
    bins = []
    for part in np.array_split(margin[order], min(num_bins, len(margin))):
        confidence = 1.0 / (1.0 + np.exp(-np.abs(part)))
        bins.append(CalibrationBin(float(confidence.mean()), float((part > 0).mean()), len(part)))
    return bins


class CriticLearner(ResumableLearner):
    """Trains a critic on pairs.

    Example:
        learner = CriticLearner(critic, settings, total_steps=1000, seed=0)
        metrics = learner.update(batch)
        better, worse = learner.scores(held_out)
    """

    kind = "critic"

    def __init__(self, critic: MotionCritic, settings: CriticTrainingSettings, total_steps: int, seed: int) -> None:
        """Trains `critic`; a cosine falls over `total_steps`, those of the whole training."""
        self.critic = critic
        self.settings = settings
        # The encoder's own head is in the files, but no score depends on it.
        parameters = {name: value for name, value in critic.named_parameters() if not name.startswith("dstran.head.")}
        options = OptimizerOptions(**settings.optimizer_options(total_steps))
        super().__init__(parameters, Optimizer(parameters, options), seed)

    def update(self, batch: PairBatch) -> dict[str, float]:
        """One optimizer step.

        Returns:
            Metrics: loss, accuracy, grad_norm, learning_rate, seconds_update.

        Raises:
            DivergenceError: the loss or a gradient is not finite; the weights are unchanged.
        """
        start = time.perf_counter()
        learning_rate = self._optimizer.learning_rate
        self.critic.train()
        better, worse = self._both(batch)
        loss = pair_loss(better, worse)
        if not bool(loss.isfinite()):
            raise DivergenceError(
                f"step {self.num_steps}: the loss is {loss.item()}; the weights were not changed. Check the motions "
                "of the batch and the learning rate"
            )
        self._optimizer.zero_grad()
        loss.backward()
        grad_norm = self._optimizer.step()
        self.num_steps += 1
        return {
            "loss": loss.item(),
            "accuracy": float((better > worse).float().mean()),
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "seconds_update": time.perf_counter() - start,
        }

    def scores(self, batch: PairBatch) -> tuple[np.ndarray, np.ndarray]:
        """Scores [B] of the better and of the worse motions, without training: means of their windows, as everywhere
        where motions are scored that are longer than `clip_frames`."""
        self.critic.eval()
        lengths = batch.lengths.tolist()
        better, worse = (
            np.array([scores.mean() for scores in score_windows(self.critic, poses, self.settings.clip_frames)])
            for poses in (
                [motion[:length] for motion, length in zip(side, lengths, strict=True)]
                for side in (batch.better, batch.worse)
            )
        )
        return better, worse

    def _both(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        device = next(self.critic.parameters()).device
        motions, lengths = torch.cat((batch.better, batch.worse)), batch.lengths.repeat(2)
        better, worse = self.critic(motions.to(device), lengths.to(device)).chunk(2)
        return better, worse
