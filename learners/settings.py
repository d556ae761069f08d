"""Options of the learners: GRPO, supervised diffusion training, TMR training.

A job inherits one of these groups, never two: names such as `learning_rate` are shared on purpose, so that the same
flag means the same thing in every job. Names follow the guides' command lines where one exists. Imports neither torch
nor ray.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, field_validator

from motions.settings import Settings


class GRPOSettings(Settings):
    """Group-relative policy optimisation of a diffusion policy.

    The batch algebra. One update sees P groups (prompts) of N = `group_size` samples with S recorded denoising steps,
    so P*N*S pairs (sample, step); each pair is one forward and backward. `groups_per_optimizer_step` groups form a
    window (0: all P); a window ends in one optimizer step on the mean over its pairs. `num_epochs` passes over the
    windows make `num_epochs * ceil(P / groups_per_optimizer_step)` optimizer steps an update. `micro_batch_size` pairs
    share one forward; it sets memory and speed and changes results only by rounding.
    """

    group_size: int = 16
    """Samples per prompt (N). Their rewards are compared with each other, so at least 2; below 8 the mean and the
    standard deviation of a group are mostly noise."""

    learning_rate: float = Field(default=5e-5, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """Adam's learning rate (also `--lr`). For LoRA of rank 8 and alpha 16 about 2e-4, which moves the weights as far as
    5e-5 does without LoRA; for full fine-tuning of a large model 1e-6 to 2e-5."""

    clip_epsilon: float = Field(default=1e-4, gt=0, lt=1)
    """The ratio is clipped to [1 - clip_epsilon, 1 + clip_epsilon_high]. Log-probabilities are means over the D*T valid
    elements, so an epsilon of 1e-4 is one of 1e-4*D*T nats (5.2 at 196 frames of 263) on summed ones. Values of
    the order of 0.2, meant for language models, never clip here."""

    clip_epsilon_high: float | None = Field(default=None, gt=0)
    """Upper clip range; default: the same as `clip_epsilon`. A larger one lets good samples gain more than bad ones
    lose."""

    kl_penalty: float = Field(default=0.04, ge=0)
    """Weight of the KL divergence to the reference policy (the base weights) in the loss. The KL is a mean over
    elements, as small as 1e-3 when motions already look different: 0.04 (Flow-GRPO's) hardly holds the policy, 1 holds
    it close."""

    kl_weighting: Literal["exact", "dt", "x0"] = "exact"
    """What the penalty adds up over steps. `exact`: the Gaussian KL of each step, |mean - mean_ref|^2 / (2 std^2), mean
    over valid elements. `dt`: each step's KL times the step's change of noise level (Flow-GRPO leaves |dt| out of the
    denominator in this way; noisy and clean steps then weigh by the distance they cover). `x0`: |x0 - x0_ref|^2 of the
    predictions, the same scale at every noise level. The logged `kl_reference` is exact whatever is chosen."""

    advantage_std: Literal["group", "batch", "none"] = "group"
    """What divides reward minus group mean: the group's standard deviation, the one of all rewards of the update (a
    group with a small spread then learns less), or nothing (Dr. GRPO)."""

    advantage_std_floor: float = Field(default=1e-4, gt=0)
    """Added to that standard deviation. At 1e-4 (DDPO, Flow-GRPO) it only keeps rounding noise of equal rewards from
    becoming advantages. With `advantage_std group`, a third of a usual spread weighs prompts down that the policy has
    mastered, whose samples differ by nothing that matters."""

    advantage_clip: float = Field(default=5.0, gt=0)
    """Advantages are clamped to [-advantage_clip, advantage_clip]."""

    advantage_terms: Literal["total", "each"] = "total"
    """`total`: advantages of the mixed reward. `each`: every reward term is turned into advantages by itself, then they
    are added with the mixing weights, so that a term with a large spread cannot drown the others."""

    drop_zero_variance_groups: bool = False
    """Leave groups whose rewards are all equal out of the loss and its denominator. Off: they have advantage 0, count
    in the mean, and their KL term still pulls towards the reference."""

    num_epochs: int = Field(default=1, ge=1)
    """Passes over the trajectories of one update."""

    kl_threshold: float = Field(default=0.0, ge=0)
    """Stop the inner epochs of an update once the exact KL(old || new) of an epoch, mean over valid elements, exceeds
    this. 0: never. Old is the policy that made the rollouts, not the reference."""

    micro_batch_size: int = Field(default=32, ge=1)
    """(Sample, step) pairs in one forward and backward: the learner's memory grows with this and with nothing else."""

    groups_per_optimizer_step: int = Field(default=0, ge=0)
    """Groups (prompts) whose gradients are accumulated into one optimizer step. 0: all groups of the update."""

    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's decoupled weight decay."""

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's decay of the gradient mean."""

    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Adam's decay of the squared-gradient mean."""

    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate rises linearly from 0 to `learning_rate`."""

    lr_anneal_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate falls to 0 along a cosine; 0: it stays constant. What single updates
    got wrong by chance averages out while it falls."""

    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients of an optimizer step are scaled down to this norm."""

    policy_ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Keep an exponential moving average of the trained weights with this decay and evaluate and export it. 0: off."""

    ratio_tolerance: float | None = Field(default=None, gt=0)
    """Largest |ratio - 1| accepted before the first optimizer step of an update, when the learner's weights are the
    ones that made the rollouts. A larger one means that rollout and learner do not compute the same thing. By default
    1e-5, in half precision 1e-3: a GPU's kernels round by the size of the batch."""

    @field_validator("group_size")
    @classmethod
    def _two_samples(cls, value: int) -> int:
        if value < 2:
            raise ValueError(f"group_size is {value}: a group needs at least two samples, advantages compare them")
        return value

    @property
    def clip_range(self) -> tuple[float, float]:
        """Smallest and largest unclipped ratio."""
        high = self.clip_epsilon if self.clip_epsilon_high is None else self.clip_epsilon_high
        return 1.0 - self.clip_epsilon, 1.0 + high


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
