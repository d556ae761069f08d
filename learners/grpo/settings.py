"""Options of GRPO; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, field_validator

from motions.base.errors import UserError
from motions.base.named import require_named
from motions.settings import Settings

POLICY_LOSSES = {
    "clipped": "learners.grpo.losses.clipped:clipped_loss",
    "spo": "learners.grpo.losses.spo:spo_loss",
}
"""Policy losses by name (`learners.grpo.loss.PolicyLoss`); a new one is a file and a line here."""


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

    policy_loss: str = "clipped"
    """How advantages move the policy: `clipped` (PPO's and GRPO's, without gradient beyond the clip range), `spo`
    (pulls ratios beyond the range back to its edge, for several optimizer steps an update), or
    `package.module:function`."""

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

    @field_validator("policy_loss")
    @classmethod
    def _known_loss(cls, value: str) -> str:
        return require_named("policy_loss", value, POLICY_LOSSES)

    @field_validator("group_size")
    @classmethod
    def _two_samples(cls, value: int) -> int:
        if value < 2:
            raise UserError(f"group_size is {value}: a group needs at least two samples, advantages compare them")
        return value

    @property
    def clip_range(self) -> tuple[float, float]:
        """Smallest and largest unclipped ratio."""
        high = self.clip_epsilon if self.clip_epsilon_high is None else self.clip_epsilon_high
        return 1.0 - self.clip_epsilon, 1.0 + high
