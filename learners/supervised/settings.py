"""Options of supervised diffusion training and of TMR training; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from motions.settings import Settings


class SupervisedSettings(Settings):
    """Supervised diffusion training (the official MDM objective). Defaults of the official code unless noted."""

    learning_rate: float = Field(default=1e-4, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """AdamW's peak learning rate (also `--lr`)."""

    lr_schedule: Literal["constant", "cosine"] = "constant"
    """`constant`, or a cosine from `learning_rate` to 0 over `num_steps`."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""

    num_steps: int = Field(default=600_000, ge=1)
    """Optimizer steps of the training."""

    batch_size: int = Field(default=64, ge=1)
    """Clips per step."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay."""

    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Adam's decay of the squared-gradient mean."""

    max_grad_norm: float = Field(default=0.0, ge=0)
    """Gradients are scaled down to this norm; 0 (official): never."""

    avg_model_beta: float = Field(
        default=0.9999, ge=0, lt=1, validation_alias=AliasChoices("avg_model_beta", "ema_decay")
    )
    """Decay of the exponential moving average of the weights, which is what is evaluated and saved as `model_avg`. 0:
    off."""

    ema_warmup: bool = False
    """Start the average with a small decay, min(avg_model_beta, (1 + step) / (10 + step)), so that a short run does not
    average in its random start. The official code has no warm-up."""

    lambda_vel: float = Field(default=0.0, ge=0)
    """Weight of the error of frame differences in the loss."""

    cond_mask_prob: float = Field(default=0.1, ge=0, le=1)
    """Share of samples trained without their text; guidance needs some."""

    text_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise on every number of the text embeddings, in training only. With few captions
    it keeps a network from learning them by heart: a new caption gets a mixture of the motions of its neighbours."""


class RetrievalSettings(Settings):
    """Training of a TMR, the network that compares text and motion. Defaults of the original unless noted."""

    learning_rate: float = Field(default=1e-4, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """AdamW's peak learning rate (also `--lr`)."""

    lr_schedule: Literal["constant", "cosine"] = "constant"
    """`constant`, or a cosine from `learning_rate` to 0 over `num_steps`."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""

    num_steps: int = Field(default=100_000, ge=1)
    """Optimizer steps of the training."""

    batch_size: int = Field(default=32, ge=2)
    """Pairs per step; each is the negative of all others."""

    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""

    max_grad_norm: float = Field(default=0.0, ge=0)
    """Gradients are scaled down to this norm; 0 (official): never."""

    temperature: float = Field(default=0.1, gt=0)
    """Temperature of the contrastive loss."""

    sentence_threshold: float = Field(default=0.8, ge=0, le=1)
    """Captions whose sentence embeddings have a score cos / 2 + 1/2 above this are no negatives of each other. 1: only
    further captions of the same motion are exempt."""

    lambda_recons: float = Field(default=1.0, ge=0)
    """Weight of the reconstruction from the text's and from the motion's latent. 0 spares the decoder, which is two
    thirds of the work."""

    lambda_kl: float = Field(default=1e-5, ge=0)
    """Weight of the Kullback-Leibler terms."""

    lambda_latent: float = Field(default=1e-5, ge=0)
    """Weight of the distance between the text's and the motion's latent."""

    lambda_contrastive: float = Field(default=0.1, ge=0)
    """Weight of the contrastive loss."""

    latent_noise: float = Field(default=1.0, ge=0)
    """Standard deviations of noise in the latents that are trained on (`fact` of the original). 0 trains on the means:
    fine distinctions such as left and right are learned many times faster, and nothing is left to generate from."""

    min_crop_frames: int = Field(default=16, ge=4)
    """Shortest random window of a motion (ours): rewards judge segments, not only whole motions."""

    crop_share: float = Field(default=0.5, ge=0, le=1)
    """Share of batches in which motions are cut to a random length, at a random place; in the others they are whole."""

    near_miss_share: float = Field(default=0.5, ge=0, le=1)
    """Share of a batch that is made of hard pairs (ours): a motion, and another one whose caption is much like its own,
    such as the same kick with the other leg."""

    noise_share: float = Field(default=0.5, ge=0, le=1)
    """Share of motions that get smooth noise (ours), so that small flaws of generated motion do not look like another
    action."""

    noise_std: float = Field(default=0.2, ge=0)
    """Standard deviation of that noise in units of each feature's own."""

    tmr_latent_dim: int = Field(default=256, ge=2)
    """Width of the latent space and of the encoders."""

    tmr_ff_size: int = Field(default=1024, ge=1)
    """Width of the feed-forward layers."""

    tmr_layers: int = Field(default=6, ge=1)
    """Layers of each encoder and of the decoder."""

    tmr_heads: int = Field(default=4, ge=1)
    """Attention heads."""

    tmr_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in training."""
