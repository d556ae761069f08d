"""Options of supervised diffusion training and of TMR training; imports neither torch nor ray."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from learners.settings import LearningRateSchedule, ScheduledSettings
from motions.base.errors import UserError
from motions.settings import redeclared


class AdamWSettings(ScheduledSettings):
    """The optimizer and its learning rate."""

    learning_rate: float = Field(default=1e-4, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """AdamW's largest learning rate (also `--lr`)."""

    lr_schedule: LearningRateSchedule = "constant"
    """`constant`, or a cosine from `learning_rate` to 0 over `num_steps`."""

    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate rises linearly from 0."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay."""

    max_grad_norm: float = Field(default=0.0, ge=0)
    """Gradients are scaled down to this norm; 0 (as in MDM and TMR) means no limit."""

    def optimizer_options(self, total_steps: int) -> dict[str, Any]:
        """Arguments of `learners.optimizer.OptimizerOptions` for a training of so many steps."""
        same = self.model_dump(include={"learning_rate", "warmup_steps", "weight_decay", "max_grad_norm"})
        return same | {"decay_steps": self.decay_steps(total_steps)}


class SupervisedSettings(AdamWSettings):
    """Supervised diffusion training with the objective of MDM (Tevet et al. 2023), whose defaults hold unless noted."""

    batch_size: int = Field(default=64, ge=1)
    """Clips per optimizer step."""

    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay rate of AdamW's average of squared gradients."""

    avg_model_beta: float = Field(
        default=0.9999, ge=0, lt=1, validation_alias=AliasChoices("avg_model_beta", "ema_decay")
    )
    """Decay of the exponential moving average of the weights, which is evaluated and saved as `model_avg`; 0: off."""

    ema_warmup: bool = False
    """Start the average with a small decay, min(avg_model_beta, (1 + step) / (10 + step)), so that the random initial
    weights do not remain in it after a short run. MDM has no such warm-up."""

    lambda_vel: float = Field(default=0.0, ge=0)
    """Weight of the error of frame differences in the loss."""

    lambda_physics: float = Field(default=0.0, ge=0)
    """Weight of the physics losses of the predicted motion: sliding feet, depth below the floor, floating, and jerk
    beyond the data's. They are measured at every step where this is above 0."""

    cond_mask_prob: float = Field(default=0.1, ge=0, le=1)
    """Fraction of clips trained without their text; classifier-free guidance needs some."""

    text_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise added to the text embeddings in training. With few captions it prevents
    memorisation: a new caption gives a mixture of the motions of similar ones."""


class RefinerTrainingSettings(AdamWSettings):
    """Training of a PhysicsSSM, which refines motions."""

    batch_size: int = Field(default=16, ge=1)
    """Motions per optimizer step."""

    learning_rate: float = redeclared(AdamWSettings, "learning_rate", 5e-5)
    lr_schedule: LearningRateSchedule = redeclared(AdamWSettings, "lr_schedule", "cosine")
    warmup_steps: int = redeclared(AdamWSettings, "warmup_steps", 500)
    weight_decay: float = redeclared(AdamWSettings, "weight_decay", 0.01)
    max_grad_norm: float = redeclared(AdamWSettings, "max_grad_norm", 1.0, spellings=("max_grad_norm", "grad_clip"))

    lambda_physics: float = Field(default=0.1, ge=0)
    """Weight of the physics losses of the refined motion: sliding feet, depth below the floor, floating, and jerk
    beyond the data's. With 0 only the error of the features is trained."""

    lambda_joints: float = Field(default=0.05, ge=0)
    """Weight of e / (e + 0.1 m), with e the mean distance of the refined motion's joints from the real ones."""

    corrupted_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the motions of a batch that are sunk or lifted, slid and shaken. The others teach to leave good motions
    alone."""


class RetrievalSettings(AdamWSettings):
    """Training of TMR (Petrovich et al. 2023), which compares text and motion; its defaults hold unless noted."""

    batch_size: int = Field(default=32, ge=2)
    """Pairs of text and motion per optimizer step; each pair is a negative for all others."""

    weight_decay: float = redeclared(AdamWSettings, "weight_decay", 0.01)

    temperature: float = Field(default=0.1, gt=0)
    """Temperature that divides the cosines in the contrastive loss."""

    sentence_threshold: float = Field(default=0.8, ge=0, le=1)
    """Captions whose sentence embeddings have a score cos / 2 + 1/2 above this are not used as negatives of each other.
    With 1 only other captions of the same motion are exempt."""

    lambda_recons: float = Field(default=1.0, ge=0)
    """Weight of the reconstruction of the motion from the text's and from the motion's latent. 0 saves the decoder,
    which takes two thirds of the time."""

    lambda_kl: float = Field(default=1e-5, ge=0)
    """Weight of the Kullback-Leibler terms."""

    lambda_latent: float = Field(default=1e-5, ge=0)
    """Weight of the distance between the text's and the motion's latent."""

    lambda_contrastive: float = Field(default=0.1, ge=0)
    """Weight of the contrastive loss."""

    latent_noise: float = Field(default=1.0, ge=0)
    """Standard deviation of the noise in the latents during training (`fact` in TMR's code), in units of the encoder's.
    With 0 the means are trained: fine distinctions such as left and right are learned much faster, but the decoder
    cannot generate."""

    min_crop_frames: int = Field(default=16, ge=4)
    """Shortest random window of a motion, in frames (not in TMR): rewards score segments, not only whole motions."""

    crop_share: float = Field(default=0.5, ge=0, le=1)
    """Fraction of batches in which motions are cropped to a random length at a random place; others hold whole ones."""

    near_miss_share: float = Field(default=0.5, ge=0, le=1)
    """Fraction of a batch that consists of hard pairs (not in TMR): a motion and another one with a similar caption,
    such as the same kick with the other leg."""

    noise_share: float = Field(default=0.5, ge=0, le=1)
    """Fraction of motions to which smooth noise is added (not in TMR), so that small flaws of generated motion do not
    count as another action."""

    noise_std: float = Field(default=0.2, ge=0)
    """Standard deviation of that noise, in units of each feature's standard deviation."""

    tmr_latent_dim: int = Field(default=256, ge=2)
    """Width of the latent space and of the encoders."""

    tmr_ff_size: int = Field(default=1024, ge=1)
    """Width of the feed-forward layers of encoders and decoder."""

    tmr_layers: int = Field(default=6, ge=1, le=1000)
    """Number of layers of each encoder and of the decoder."""

    tmr_heads: int = Field(default=4, ge=1)
    """Number of attention heads."""

    tmr_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout probability in training."""


class CriticTrainingSettings(AdamWSettings):
    """Training of a critic (MotionCritic, Wang et al. 2025), which scores how natural a motion looks."""

    batch_size: int = Field(default=32, ge=1)
    """Pairs of motions per optimizer step."""

    learning_rate: float = redeclared(AdamWSettings, "learning_rate", 2e-5)
    """AdamW's largest learning rate (also `--lr`). MotionCritic's code has 2e-3 for batches of 32, which is too much
    for its large network; PP-Motion trains the same one with 2e-5."""

    weight_decay: float = redeclared(AdamWSettings, "weight_decay", 1e-4)

    critic_dim_feat: int = Field(default=256, ge=2)
    """Width of the encoder. The published sizes are 256, 512, 3, 8 and 4 (MotionCritic's `big_model`), and 128, 256,
    3, 8 and 2, of this and the next four options."""

    critic_dim_rep: int = Field(default=512, ge=1)
    """Width of the features that make the score."""

    critic_depth: int = Field(default=3, ge=1, le=1000)
    """Number of layers of each of the two streams."""

    critic_heads: int = Field(default=8, ge=1)
    """Number of attention heads."""

    critic_mlp_ratio: int = Field(default=4, ge=1)
    """Width of the inner layer of a perceptron, in units of the encoder's."""

    critic_inputs: Literal["poses", "movement"] = "poses"
    """What the network sees of a motion: `poses` as published, rotations and the root's translation, or `movement`,
    with places and speeds of the joints beside them. From poses alone a small network does not learn what a slipping
    foot is."""

    clip_frames: int = Field(default=60, ge=4, le=243)
    """Largest number of frames of a motion that it learns from, 60 as in MotionCritic. Longer motions are cropped in
    training and scored by windows of this length."""

    min_crop_frames: int = Field(default=24, ge=4)
    """Shortest random window of a motion in a synthetic pair, in frames."""

    graded_share: float = Field(default=0.25, ge=0, le=1)
    """Fraction of synthetic pairs in which both motions have the same flaw, one less of it. The others compare a flawed
    motion with the clean one."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.min_crop_frames > self.clip_frames:
            raise UserError(f"min_crop_frames {self.min_crop_frames} is above clip_frames {self.clip_frames}")
        if self.critic_dim_feat % self.critic_heads:
            raise UserError(
                f"critic_dim_feat {self.critic_dim_feat} is no multiple of critic_heads {self.critic_heads}"
            )
        return self


class MotionSSMSettings(AdamWSettings):
    """Training of MotionSSM (`rollouts/one_action/motion_ssm.py`), a conditional auto-encoder of motions."""

    batch_size: int = Field(default=16, ge=1)
    """Clips per optimizer step."""

    learning_rate: float = redeclared(AdamWSettings, "learning_rate", 5e-5)

    weight_decay: float = redeclared(AdamWSettings, "weight_decay", 0.01)
    """AdamW's decoupled weight decay; of no rate, step size, skip connection or norm of a state-space layer."""

    max_grad_norm: float = redeclared(AdamWSettings, "max_grad_norm", 1.0, spellings=("max_grad_norm", "grad_clip"))

    lr_schedule: LearningRateSchedule = redeclared(AdamWSettings, "lr_schedule", "cosine")

    lambda_vel: float = Field(default=1.0, ge=0)
    """Weight of the error of frame differences."""

    lambda_kl: float = Field(default=0.08, ge=0)
    """Weight of the Kullback-Leibler divergence of the posterior from the prior, mean over the numbers of the latent.
    More: samples of the prior are more like motions, and less various."""

    kl_warmup_steps: int = Field(default=200, ge=0)
    """Optimizer steps over which that weight rises linearly from 0, so that the decoder learns to use the latent before
    it is made cheap not to."""

    lambda_length: float = Field(default=0.1, ge=0)
    """Weight of the squared error of the length, in logarithms of seconds, of clips that are whole."""

    lambda_physics: float = Field(default=0.0, ge=0)
    """Weight of the physics losses of the reconstruction: sliding feet, depth below the floor, floating, and jerk
    beyond the data's. They are measured at every step where this is above 0."""

    lambda_prior_physics: float = Field(default=0.0, ge=0)
    """Weight of the same losses of motions that are decoded from samples of the prior, which nothing else trains."""

    text_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise added to the text embeddings in training. With few captions it prevents
    memorisation: a new caption gives a mixture of the motions of similar ones. Not for `text_encoder words`."""


class SceneParsingSettings(AdamWSettings):
    """Training of a T5 that writes the scene of a text."""

    batch_size: int = Field(default=4, ge=1)
    """Examples per optimizer step."""

    learning_rate: float = redeclared(AdamWSettings, "learning_rate", 5e-5, spellings=("learning_rate", "lr"))
    weight_decay: float = redeclared(AdamWSettings, "weight_decay", 0.01)
    max_grad_norm: float = redeclared(AdamWSettings, "max_grad_norm", 1.0)
