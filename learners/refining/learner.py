"""Supervised training of a refiner: it is given corrupted motions and learns what they were.

    loss = masked mean square error of normalised features
           + lambda_joints * e / (e + 0.1 m), e the mean distance of joints from the real ones
           + lambda_physics * physics

with the physics losses of `learners.physics_losses` on the refined motion. Joints are those in the world, so that an
error of the path counts for as long as it lasts. The form of the term lets the last millimetres of a motion that needs
no change count more than those of a path that nobody could guess. What the network reads, the physics state
too, is computed from the corrupted motion; the real one is in the loss alone. The corruption is a function of (seed,
step), so a resumed training makes the same updates.

Legend: B motions, T frames, D features.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learners.optimizer import DivergenceError, Optimizer, OptimizerOptions, undecayed_names
from learners.physics_losses import PhysicsLoss
from learners.refining.corruption import corrupted
from learners.supervised.diffusion import masked_square_error
from learners.supervised.resumable import ResumableLearner
from learners.supervised.settings import RefinerTrainingSettings
from motions.data.text_motion import MotionBatch
from motions.skeleton.features import recover_joints
from rollouts.refining.network import Refined
from rollouts.refining.refiner import Refiner

_JOINT_SCALE_M = 0.1
_VALIDATION = 2**32
"""Stands in the place of a step in the seeds of a validation."""


@dataclass(frozen=True, slots=True)
class RefinerTerms:
    """Loss terms of B motions, each [B]; all but the amounts carry gradients."""

    loss: Tensor
    mse: Tensor
    joint_error_m: Tensor
    physics: Tensor
    amounts: dict[str, Tensor]
    """What the refined motions do that bodies do not, by name."""
    refined: Refined


class RefinerLearner(ResumableLearner):
    """Trains a refiner's network.

    Example:
        learner = RefinerLearner(refiner, settings, total_steps=500, seed=0)
        for batch in batches:
            metrics = learner.update(batch)
    """

    kind = "refiner"

    def __init__(self, refiner: Refiner, settings: RefinerTrainingSettings, total_steps: int, seed: int) -> None:
        """Trains `refiner`'s network; a cosine falls over `total_steps`, those of the whole training."""
        self.refiner = refiner
        self.settings = settings
        self._physics = PhysicsLoss(refiner.normalizer, refiner.skeleton, data_slides=True)
        network = refiner.network
        parameters = dict(network.named_parameters())
        options = OptimizerOptions(**settings.optimizer_options(total_steps))
        super().__init__(parameters, Optimizer(parameters, options, undecayed=undecayed_names(network)), seed)

    def update(self, batch: MotionBatch) -> dict[str, float]:
        """One optimizer step on real motions, which are corrupted here.

        Returns:
            Metrics: loss, mse, joint_error_m, physics (weighed by nothing), the quantities of
            `learners.physics_losses`, gate_mean and gate_std over frames and channels (with a gate), grad_norm,
            learning_rate, seconds_update.

        Raises:
            DivergenceError: the loss or a gradient is not finite; the weights are unchanged.
        """
        start = time.perf_counter()
        learning_rate = self._optimizer.learning_rate
        self.refiner.network.train()
        rng = np.random.default_rng([self.seed, self.num_steps])
        terms, mask = self._terms(batch, rng)
        loss = terms.loss.mean()
        if not bool(loss.isfinite()):
            raise DivergenceError(
                f"step {self.num_steps}: the loss is {loss.item()}; the weights were not changed. Check the motions "
                "of the batch and the learning rate"
            )
        self._optimizer.zero_grad()
        loss.backward()
        grad_norm = self._optimizer.step()
        self.num_steps += 1
        metrics = {"loss": loss.item(), "mse": terms.mse.mean().item()}
        metrics |= {"joint_error_m": terms.joint_error_m.mean().item(), "physics": terms.physics.mean().item()}
        metrics |= {name: values.mean().item() for name, values in terms.amounts.items()}
        metrics |= gate_figures(terms.refined.gate, mask)
        seconds = time.perf_counter() - start
        return metrics | {"grad_norm": grad_norm, "learning_rate": learning_rate, "seconds_update": seconds}

    def validate(self, batches: Iterable[MotionBatch]) -> dict[str, float]:
        """Means of loss, mse, joint error and the physics quantities on motions that are not trained on.

        The corruption is the same each time. Raises ValueError for no motions.
        """
        self.refiner.network.eval()
        found: list[dict[str, Tensor]] = []
        with torch.no_grad():
            for number, batch in enumerate(batches):
                terms, _ = self._terms(batch, np.random.default_rng([self.seed, _VALIDATION, number]))
                found.append(
                    {
                        "validation_loss": terms.loss,
                        "mse": terms.mse,
                        "joint_error_m": terms.joint_error_m,
                        **terms.amounts,
                    }
                )
        if not found:
            raise ValueError("there are no motions to validate with")
        return {name: float(torch.cat([each[name] for each in found]).mean()) for name in found[0]}

    def _terms(self, batch: MotionBatch, rng: np.random.Generator) -> tuple[RefinerTerms, Tensor]:
        """The loss terms of a batch, and its mask [B, T]."""
        device = next(self.refiner.network.parameters()).device
        real = torch.from_numpy(batch.features).to(device)
        mask = torch.arange(real.shape[1], device=device) < torch.from_numpy(batch.lengths).to(device)[:, None]
        worse = corrupted(real, self.refiner.skeleton, mask, rng, share=self.settings.corrupted_share)
        refined = self.refiner(self.refiner.prepare(worse, mask))
        target = self.refiner.normalizer.normalize(real)
        mse = masked_square_error(refined.motion, target, mask)
        error = self._joint_error(refined.motion, real, mask)
        cost, amounts = self._physics(refined.motion, target, mask)
        weighed = self.settings.lambda_joints * error / (error + _JOINT_SCALE_M) + self.settings.lambda_physics * cost
        return RefinerTerms(mse + weighed, mse, error, cost, amounts, refined), mask

    def _joint_error(self, motion: Tensor, real: Tensor, mask: Tensor) -> Tensor:
        """Mean distance [B] of the joints of normalised motions from those of real ones, in metres."""
        skeleton = self.refiner.skeleton
        apart = recover_joints(self.refiner.normalizer.denormalize(motion), skeleton) - recover_joints(real, skeleton)
        # Far below a millimetre it is square, since a norm has no gradient at 0.
        distances = (apart.square().sum(dim=-1) + 1e-8).sqrt().mean(dim=2) * skeleton.metres_per_unit
        return (distances * mask).sum(dim=1) / mask.sum(dim=1)


def gate_figures(gate: Tensor | None, mask: Tensor) -> dict[str, float]:
    """Mean of a gate [B, T, d] over real frames and channels, and its spread: how far it is from being a constant.

    Empty without a gate.
    """
    if gate is None:
        return {}
    values = gate.detach()[mask]
    return {"gate_mean": values.mean().item(), "gate_std": values.std(correction=0).item()}
