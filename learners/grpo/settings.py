"""Options of GRPO; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from learners.grpo.gradients.settings import GradientSettings
from learners.settings import LearningRateSchedule
from motions.base.errors import UserError
from motions.base.named import require_named

POLICY_LOSSES = {
    "clipped": "learners.grpo.losses.clipped:clipped_loss",
    "spo": "learners.grpo.losses.spo:spo_loss",
    "dppo": "learners.grpo.losses.dppo:dppo_loss",
    "nft": "learners.grpo.losses.nft:nft_loss",
    "awm": "learners.grpo.losses.awm:awm_loss",
    "dgpo": "learners.grpo.losses.dgpo:dgpo_loss",
    "refl": "learners.grpo.losses.refl:refl_loss",
    "draft": "learners.grpo.losses.draft:draft_loss",
    "align_prop": "learners.grpo.losses.align_prop:align_prop_loss",
    "easytune": "learners.grpo.losses.easytune:easytune_loss",
    "opsd": "learners.grpo.losses.opsd:opsd_loss",
}
"""Policy losses by name; a new one is a file and a line here. A loss is of denoising steps
(`learners.grpo.loss.PolicyLoss`), of final motions (`learners.grpo.motion_loss.MotionLoss`), or follows the gradient
of the reward (`learners.grpo.gradients.loss.GradientLoss`)."""


NOT_STALE = ("dppo", "nft", "awm", "dgpo")
"""Policy losses by name that compare with predictions of the policy that rolled out, of which a stale rollout records
probabilities alone."""


class GRPOSettings(GradientSettings):
    """Group-relative policy optimisation (GRPO) of a diffusion policy.

    Sizes: one update uses P groups (prompts) of N = `group_size` samples with S recorded denoising steps, which makes
    P*N*S pairs (sample, step); each pair is one forward and backward. `groups_per_optimizer_step` groups form a window
    (0: all P), and each window gives one optimizer step on the mean over its pairs. `num_epochs` passes over the
    windows make `num_epochs * ceil(P / groups_per_optimizer_step)` optimizer steps per update. `micro_batch_size` pairs
    share one forward; it affects memory and speed, and results only by rounding.
    """

    group_size: int = 16
    """Samples per prompt (N), at least 2, as their rewards are compared with each other; below 8 the mean and the
    standard deviation of a group are mostly noise."""

    learning_rate: float = Field(default=5e-5, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """Adam's learning rate (also `--lr`). About 2e-4 for LoRA of rank 8 and alpha 16, which changes the weights as much
    as 5e-5 does without LoRA; 1e-6 to 2e-5 for full fine-tuning of a large model."""

    policy_loss: str = "clipped"
    """How advantages move the policy. Losses of denoising steps: `clipped` (PPO's and GRPO's, without gradient beyond
    the clip range), `spo` (pulls ratios beyond the range back to its edge) and `dppo` (Flow-DPPO's: instead of clipping
    it leaves out pairs beyond `kl_bound`); they differ with several optimizer steps an update. Losses of final motions,
    which the policy learns to denoise better or worse: `nft` (DiffusionNFT), `awm` (advantage-weighted matching) and
    `dgpo` (group preference). Losses that follow the gradient of a differentiable reward: `refl` (ReFL, through one
    late step), `draft` (DRaFT-K, through the last `draft_steps`), `align_prop` (through a random number of last steps),
    `easytune` (every step by itself) and `opsd` (towards a target x + eta dR/dx). Or `package.module:function`."""

    loss_beta: float = Field(default=1.0, gt=0, le=1e4)
    """Strength of a loss of final motions. `nft`: how much of the trained policy is in the mixtures with the old one,
    at most 1. `awm`: scale of the log-ratio, so that a larger one clips earlier. `dgpo`: how sharply a group's
    preference saturates."""

    trained_levels: int = Field(default=1, ge=0)
    """Noise levels that a loss of final motions trains, counted from the noisiest of the `sampling_steps` on; 0: all.
    Motions of a few denoising steps are not what the policy itself would predict at low noise."""

    noise_draws: int = Field(default=4, ge=1)
    """Noised states of each final motion in an update, for losses of final motions. Their levels are distinct while
    there are enough."""

    share_noise: bool = True
    """Losses of final motions: the samples of a group get the same noise, so that they differ by their motions alone;
    at the noisiest level they are then one state and cost one forward. Otherwise each has noise of its own."""

    kl_bound: float = Field(default=1e-5, gt=0)
    """`policy_loss dppo`: exact KL(old || new) of a pair, mean over valid elements, beyond which it is left out if the
    update would move the policy further away."""

    clip_epsilon: float = Field(default=1e-4, ge=1e-6, lt=1)
    """The ratio is clipped to [1 - clip_epsilon, 1 + clip_epsilon_high]. Log-probabilities are means over the D*T valid
    elements, so 1e-4 corresponds to 1e-4*D*T nats (5.2 at 196 frames of 263 features) of summed ones. Values near 0.2,
    which are common for language models, never clip here. In single precision ratios near 1 differ by 1.2e-7. With one
    optimizer step an update (`num_epochs` 1, `groups_per_optimizer_step` 0) every ratio is 1 and nothing clips."""

    ratio_normalisation: bool = False
    """GRPO-Guard's: without it the log-ratio of a step has the mean -KL(old || new) and a spread that grows as the
    step's noise shrinks, so that ratios of good samples hardly reach the clip range. The mean is added back, and the
    rest multiplied by the step's standard deviation, divided by the mean of all steps'. That also weighs the gradients
    of the steps alike."""

    clip_epsilon_high: float | None = Field(default=None, ge=1e-6)
    """Upper clip range, by default the same as `clip_epsilon`. A larger one lets the probability of good samples rise
    by more than that of bad ones falls."""

    kl_penalty: float = Field(default=0.04, ge=0)
    """Weight of the KL divergence to the reference policy (the base weights) in the loss. The KL is a mean over
    elements and is only 1e-3 when motions already look different: 0.04 (as in Flow-GRPO) hardly constrains the policy,
    1 keeps it close."""

    kl_chain_penalty: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence to the reference over the whole denoising chain, mean over steps and elements.
    `kl_penalty` acts at the recorded steps alone, while the others use the same network and move unseen. For each group
    one of its final motions is noised to the level of a step that is drawn from all, and the exact KL of that step is
    punished: one more state per group and optimizer step."""

    kl_target: float = Field(default=0.0, ge=0)
    """Adapts the weight of the KL penalty, which begins as `kl_penalty`: after an update whose exact KL to the
    reference, mean over its pairs, is over 1.5 times this it doubles, after one under this divided by 1.5 it is halved
    (PPO's rule), up to a factor of 1024 either way. 0: `kl_penalty` stays."""

    kl_weighting: Literal["exact", "dt", "x0", "k3"] = "exact"
    """Quantity that the penalty sums over steps. `exact`: the Gaussian KL of each step, |mean - mean_ref|^2 / (2
    std^2), mean over valid elements. `dt`: each step's KL times its change of noise level, as in Flow-GRPO, so that
    noisy and clean steps count by the change they make. `x0`: |x0 - x0_ref|^2 of the predictions, on the same scale at
    every noise level. `k3`: Schulman's estimate exp(d) - d - 1 from the drawn state, d = log reference - log policy,
    for comparisons with code that has no closed form. The logged `kl_reference` is always exact. Losses of final
    motions take the steps at their noised states, where `k3` does not exist; the noiseless last one has no KL, only
    `x0` punishes it."""

    kl_average_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of an average of the trained weights, which moves on after every update, that the KL penalty refers to in
    place of the base weights: then it slows the policy down instead of holding it back. 0: the base weights."""

    advantage_std: Literal["group", "batch", "none"] = "group"
    """Divisor of reward minus group mean: the group's standard deviation, that of all rewards of the update (a group
    with a small spread then has less influence), or none (Dr. GRPO)."""

    advantage_std_floor: float = Field(default=1e-4, gt=0)
    """Added to that standard deviation. At 1e-4 (as in DDPO and Flow-GRPO) it only prevents rounding noise of equal
    rewards from becoming advantages. With `advantage_std group`, a third of the usual spread reduces the weight of
    prompts that the policy has mastered, whose samples differ insignificantly."""

    advantage_clip: float = Field(default=5.0, gt=0)
    """Advantages are clamped to [-advantage_clip, advantage_clip]."""

    advantage_terms: Literal["total", "each"] = "total"
    """`total`: advantages of the mixed reward. `each`: advantages are computed for every reward term separately and
    added with the mixing weights, so that a term with a large spread does not dominate."""

    drop_zero_variance_groups: bool = False
    """Leave groups whose rewards are all equal out of the loss and its denominator. Otherwise they have advantage 0,
    count in the mean, and their KL term still applies."""

    staleness: int = Field(default=0, ge=0, le=1)
    """Updates by which the policy that rolled out may be behind the one that is updated. 0: a step's rollouts wait for
    the update before them. 1: the rollouts of the next step are made while this step is updated, by the policy before
    that update; ratios then refer to the log-probabilities that the rollout recorded, and the clip range acts. Not for
    losses of final motions and `dppo`, which compare with predictions of the policy that rolled out."""

    num_epochs: int = Field(default=1, ge=1)
    """Passes over the trajectories of one update."""

    kl_threshold: float = Field(default=0.0, ge=0)
    """Stop the inner epochs of an update once the exact KL(old || new) of an epoch, mean over valid elements, exceeds
    this; 0 means never. Old is the policy before the update, not the reference. It can only act from the second
    optimizer step of an update on."""

    micro_batch_size: int = Field(default=32, ge=1)
    """(Sample, step) pairs per forward and backward; the learner's memory depends on this alone. Losses of final
    motions compare the samples of a group, so it must be at least `group_size` there."""

    groups_per_optimizer_step: int = Field(default=0, ge=0)
    """Groups (prompts) whose gradients are accumulated into one optimizer step; 0 means all groups of the update."""

    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's decoupled weight decay."""

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay rate of Adam's average of gradients."""

    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay rate of Adam's average of squared gradients."""

    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate rises linearly from 0 to `learning_rate`."""

    lr_schedule: LearningRateSchedule = "constant"
    """`constant`, or a cosine from `learning_rate` to 0 over all optimizer steps of the run, which averages out the
    noise of single updates."""

    lr_anneal_steps: int = Field(default=0, ge=0)
    """A cosine over this many optimizer steps instead, whatever the length of the run; 0: as `lr_schedule` says."""

    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients of an optimizer step are scaled down to this norm."""

    policy_ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the trained weights, which is then evaluated and exported; 0: off."""

    ratio_tolerance: float | None = Field(default=None, gt=0)
    """Largest |ratio - 1| accepted before the first optimizer step of an update, while the learner's weights are those
    of the rollouts (with `staleness` in the first update alone). A larger one means that rollout and learner compute
    different things. By default 1e-5, in half precision 1e-3, because a GPU's rounding depends on the size of the
    batch. Where it is over half the clip range, ratios refer to the learner's own first log-probabilities, so that
    rounding clips nothing."""

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

    @model_validator(mode="after")
    def _a_weight_to_adapt(self) -> Self:
        if self.kl_target and not self.kl_penalty:
            raise UserError("kl_target is set and kl_penalty 0: there is no weight that could double; give one above 0")
        return self

    @model_validator(mode="after")
    def _ratios_that_may_be_stale(self) -> Self:
        if self.staleness and self.policy_loss in NOT_STALE:
            raise UserError(
                f"staleness is {self.staleness}, but policy_loss {self.policy_loss} compares with predictions of the "
                "policy that rolled out, which is another one by then: legal are losses with ratios (clipped, spo) or "
                "those that follow the reward's gradient, or staleness 0"
            )
        if self.staleness and self.ratio_normalisation:
            raise UserError(
                f"staleness is {self.staleness}, but ratio_normalisation needs the exact KL to the policy that rolled "
                "out, which is another one by then: give staleness 0, or leave it out"
            )
        return self

    @property
    def depends_on_length(self) -> bool:
        """See `Settings.depends_on_length`; a cosine of its own length does not."""
        return super().depends_on_length and not self.lr_anneal_steps

    def decay_steps(self, total: int) -> int:
        """Optimizer steps of the cosine in a run of `total` ones; 0 for a constant rate."""
        return self.lr_anneal_steps or super().decay_steps(total)

    def optimizer_steps(self, num_groups: int, num_parts: int = 1) -> int:
        """Optimizer steps of an update of so many groups.

        Args:
            num_parts: parts of the update that have steps of their own, as denoising steps with `easytune`.
        """
        windows = -(-num_groups * num_parts // (self.groups_per_optimizer_step or num_groups))
        return self.num_epochs * windows

    @property
    def clip_range(self) -> tuple[float, float]:
        """Smallest and largest unclipped ratio."""
        high = self.clip_epsilon if self.clip_epsilon_high is None else self.clip_epsilon_high
        return 1.0 - self.clip_epsilon, 1.0 + high
