"""Training of TMR (Petrovich et al. 2023): contrastive loss between text and motion encoders, plus the terms of a VAE.

    loss = lambda_recons * L_rec + lambda_kl * L_KL + lambda_latent * L_lat + lambda_contrastive * L_NCE

    L_rec   SmoothL1(decode(z_text), x) + SmoothL1(decode(z_motion), x), mean over the padded tensors
    L_KL    KL(t||m) + KL(m||t) + KL(m||N) + KL(t||N), mean over elements; t, m the two Gaussians, N the standard one
        L_lat   SmoothL1(z_text, z_motion)
        L_NCE   symmetric cross entropy of cos(z_text_i, z_motion_j) / temperature; a pair i != j is left out where the
                captions mean the same (sentence cosine above 2 * sentence_threshold - 1) or text i is a caption of
                motion j

    Choices: the losses are pure functions of given latents, so that they can be compared number by number with those of
    TMR's code; randomness is a function of (seed, step), drawn on the CPU, as in `learners/supervised/diffusion.py`.
    Unlike TMR's code, other captions of the same motion are no negatives: in a small corpus one batch often holds
    several.

Legend: B pairs, T frames, D features, L text tokens, E token width, S sentence width, d latent width.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from learners.optimizer import DivergenceError, Optimizer, OptimizerOptions
from learners.supervised.resumable import ResumableLearner
from learners.supervised.settings import RetrievalSettings
from motions.base.errors import UserError
from motions.metrics import retrieval_metrics
from rewards.tmr.network import TMR
from rollouts.devices import seeded
from rollouts.gaussians import Gaussian, diagonal_gaussian_kl


@dataclass(frozen=True, slots=True)
class RetrievalBatch:
    """B pairs of text and motion."""

    features: Tensor
    """[B, T, D] float32, physical units; padding may hold any values."""
    lengths: Tensor
    """[B] int64, number of frames; the largest equals T."""
    tokens: Tensor
    """[B, L, E] float32, token embeddings of the text encoder."""
    token_lengths: Tensor
    """[B] int64, number of tokens."""
    sentences: Tensor
    """[B, S] float32, sentence embeddings of any norm."""
    describes: Tensor
    """[B, B] bool, text i (row) is a caption of motion j (column); true on the diagonal."""

    def to(self, device: torch.device) -> RetrievalBatch:
        """The batch, moved to a device."""
        return RetrievalBatch(
            self.features.to(device),
            self.lengths.to(device),
            self.tokens.to(device),
            self.token_lengths.to(device),
            self.sentences.to(device),
            self.describes.to(device),
        )


@dataclass(frozen=True, slots=True)
class RetrievalLoss:
    """The loss and its unweighted terms: scalars with gradients."""

    loss: Tensor
    recons: Tensor
    kl: Tensor
    latent: Tensor
    contrastive: Tensor


def sample_latent(distribution: Gaussian, noise: Tensor) -> Tensor:
    """mu + noise * std, [B, d]; `noise` [B, d] is standard normal."""
    return distribution.mu + noise * torch.exp(0.5 * distribution.logvar)


def not_negatives(sentences: Tensor, describes: Tensor | None, sentence_threshold: float) -> Tensor:
    """Pairs (text i, motion j), i != j, that match nevertheless and must not be negatives: [B, B] bool.

    Args:
        sentences: sentence embeddings [B, S] of any norm.
        describes: [B, B] bool, text i is a caption of motion j; None if unknown.
        sentence_threshold: in [0, 1]; captions with a score cos / 2 + 1/2 above it mean the same (TMR's 0.8 is a cosine
            of 0.6). 1 excludes nothing.
    """
    unit = F.normalize(sentences, dim=1)
    same = unit @ unit.T > 2.0 * sentence_threshold - 1.0
    if sentence_threshold >= 1.0:
        same = torch.zeros_like(same)
    if describes is not None:
        same |= describes
    return same.fill_diagonal_(False)


def contrastive_loss(text: Tensor, motion: Tensor, skipped: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (eq. 2 of TMR) of latents [B, d]; `skipped` [B, B] bool are pairs to leave out."""
    scores = F.normalize(text, dim=1) @ F.normalize(motion, dim=1).T / temperature
    scores = scores.masked_fill(skipped, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return 0.5 * (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target))


def retrieval_loss(
    text: Gaussian,
    motion: Gaussian,
    latents: tuple[Tensor, Tensor],
    decoded: tuple[Tensor, Tensor] | None,
    reference: Tensor,
    skipped: Tensor,
    settings: RetrievalSettings,
) -> RetrievalLoss:
    """TMR's training loss.

    Args:
        text, motion: distributions that the encoders return.
        latents: sampled latents of text and motion, [B, d] each.
        decoded: motions decoded from them, [B, T, D] each, zero in padding; None if `lambda_recons` is 0.
        reference: the normalised motion [B, T, D], zero in padding.
        skipped: [B, B] bool, pairs that are not used as negatives.
    """
    standard = Gaussian(torch.zeros_like(text.mu), torch.zeros_like(text.logvar))
    recons = torch.zeros_like(reference[0, 0, 0])
    if decoded is not None:
        recons = F.smooth_l1_loss(decoded[0], reference) + F.smooth_l1_loss(decoded[1], reference)
    kl = (
        diagonal_gaussian_kl(text, motion)
        + diagonal_gaussian_kl(motion, text)
        + diagonal_gaussian_kl(motion, standard)
        + diagonal_gaussian_kl(text, standard)
    )
    latent = F.smooth_l1_loss(latents[0], latents[1])
    contrastive = contrastive_loss(latents[0], latents[1], skipped, settings.temperature)
    loss = (
        settings.lambda_recons * recons
        + settings.lambda_kl * kl
        + settings.lambda_latent * latent
        + settings.lambda_contrastive * contrastive
    )
    return RetrievalLoss(loss, recons, kl, latent, contrastive)


class RetrievalLearner(ResumableLearner):
    """Trains a TMR on pairs of text and motion.

    Example:
        learner = RetrievalLearner(tmr, settings, total_steps=1000, seed=0)
        metrics = learner.update(batch)
        learner.evaluate(held_out)["t2m/R01"]
    """

    kind = "retrieval"

    def __init__(self, tmr: TMR, settings: RetrievalSettings, total_steps: int, seed: int) -> None:
        """Trains `tmr`, which must have its decoder if reconstruction is part of the loss; a cosine falls over
        `total_steps`, those of the whole training.

        Raises:
            UserError: no decoder, and `lambda_recons` is not 0.
        """
        if tmr.motion_decoder is None and settings.lambda_recons > 0:
            raise UserError(
                f"lambda_recons is {settings.lambda_recons}: TMR training needs the motion decoder for that"
            )
        self.tmr = tmr
        self.settings = settings
        parameters = dict(tmr.named_parameters())
        options = OptimizerOptions(**settings.optimizer_options(total_steps))
        super().__init__(parameters, Optimizer(parameters, options), seed)

    def update(self, batch: RetrievalBatch) -> dict[str, float]:
        """One optimizer step.

        Returns:
            Metrics: loss, recons, kl, latent, contrastive, skipped_share (fraction of pairs left out), grad_norm,
            learning_rate, seconds_update.

        Raises:
            DivergenceError: the loss or a gradient is not finite; the weights are unchanged.
        """
        start = time.perf_counter()
        batch = batch.to(self.tmr.mean.device)
        learning_rate = self._optimizer.learning_rate
        skipped = not_negatives(batch.sentences, batch.describes, self.settings.sentence_threshold)
        terms = self._loss(batch, skipped)
        if not bool(terms.loss.isfinite()):
            raise DivergenceError(
                f"step {self.num_steps}: the loss is {terms.loss.item()}; the weights were not changed. Check the "
                "motions of the batch and the learning rate"
            )
        self._optimizer.zero_grad()
        terms.loss.backward()
        grad_norm = self._optimizer.step()
        self.num_steps += 1
        size = len(skipped)
        return {
            "loss": terms.loss.item(),
            "recons": terms.recons.item(),
            "kl": terms.kl.item(),
            "latent": terms.latent.item(),
            "contrastive": terms.contrastive.item(),
            "skipped_share": float(skipped.sum()) / max(size * (size - 1), 1),
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "seconds_update": time.perf_counter() - start,
        }

    def _loss(self, batch: RetrievalBatch, skipped: Tensor) -> RetrievalLoss:
        """Loss in training mode; dropout and latent noise are those of this step."""
        tmr, device = self.tmr, self.tmr.mean.device
        rng = np.random.default_rng([self.seed, self.num_steps])
        shape = (2, len(batch.lengths), tmr.config.latent_dim)
        noise = self.settings.latent_noise * torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)
        tmr.train()
        with seeded(device, int(rng.integers(2**63))):
            text = tmr.encode_text(batch.tokens, batch.token_lengths)
            motion = tmr.encode_motion(batch.features, batch.lengths)
            latents = (sample_latent(text, noise[0]), sample_latent(motion, noise[1]))
            decoded = None
            if self.settings.lambda_recons > 0:
                decoded = (tmr.decode(latents[0], batch.lengths), tmr.decode(latents[1], batch.lengths))
        reference = tmr.normalize(batch.features, batch.lengths)
        return retrieval_loss(text, motion, latents, decoded, reference, skipped, self.settings)

    def evaluate(self, batch: RetrievalBatch) -> dict[str, float]:
        """Retrieval between the texts and motions of a held-out batch, without dropout and with mu as the embedding.

        Every motion that a text describes counts as correct. Returns `motions.metrics.retrieval_metrics` (t2m and m2t
        R01, R02, R03, R05, R10 in percent, MedR) and the mean cosines of matching and non-matching pairs.
        """
        was_training = self.tmr.training
        self.tmr.eval()
        batch = batch.to(self.tmr.mean.device)
        with torch.inference_mode():
            text = F.normalize(self.tmr.encode_text(batch.tokens, batch.token_lengths).mu, dim=1)
            motion = F.normalize(self.tmr.encode_motion(batch.features, batch.lengths).mu, dim=1)
            scores = (text @ motion.T).cpu().numpy()
        self.tmr.train(was_training)
        right = batch.describes.cpu().numpy()
        metrics = retrieval_metrics(scores, text_similarity=np.where(right, 1.0, -1.0))
        return metrics | {
            "cosine_right": float(scores[right].mean()),
            "cosine_wrong": float(scores[~right].mean()) if not right.all() else 0.0,
        }
