"""Options of TRPO; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from motions.settings import Settings


class TRPOSettings(Settings):
    """Trust region policy optimisation."""

    steps_per_batch: int = Field(default=2048, ge=1, validation_alias=AliasChoices("steps_per_batch", "horizon"))
    """Environment steps of one iteration, over all environments together; rounded up to whole steps of all of them."""

    max_kl: float = Field(default=0.01, gt=0)
    """Largest mean KL divergence between the policy that made a batch and the one that follows it."""

    cg_iters: int = Field(default=10, ge=1)
    """Iterations of the conjugate gradients, at most."""

    cg_residual: float = Field(default=1e-10, ge=0)
    """They end early below this squared residual."""

    cg_damping: float = Field(default=0.1, ge=0)
    """Added to the diagonal of the Fisher matrix."""

    fisher_product: Literal["gauss_newton", "double_backward"] = "gauss_newton"
    """How a Fisher-vector product is computed: by a product with the Jacobian of the mean and one with its transpose,
    or by differentiating the gradient of the KL divergence: the same matrix at one and a half times the cost."""

    fisher_subsample: int = Field(default=1, ge=1)
    """Fisher products use every n-th sample of the batch."""

    line_search_steps: int = Field(default=10, ge=1)
    """Step sizes that are tried, the full one included."""

    line_search_shrink: float = Field(default=0.8, gt=0, lt=1)
    """Each is this part of the one before."""

    kl_tolerance: float = Field(default=1.0, ge=1)
    """A step is taken if the objective rises and the KL divergence is at most this times max_kl (OpenAI's baselines:
    1.5)."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""

    gae_lambda: float = Field(default=0.95, ge=0, le=1, validation_alias=AliasChoices("gae_lambda", "lam"))
    """Lambda of the generalised advantage estimation."""

    advantage_limit: float = Field(default=0.0, ge=0)
    """Standardised advantages are clamped to +- this; 0: not at all."""

    policy_entcoeff: float = Field(default=0.0, ge=0, validation_alias=AliasChoices("policy_entcoeff", "ent_coef"))
    """Weight of the policy's entropy in the objective."""

    train_log_std: bool = True
    """Let TRPO change the policy's standard deviation; off, it keeps the one it started with."""

    critic_learning_rate: float = Field(
        default=1e-3, gt=0, validation_alias=AliasChoices("critic_learning_rate", "vf_stepsize")
    )
    """Adam's learning rate of the critic."""

    critic_epochs: int = Field(default=10, ge=1, validation_alias=AliasChoices("critic_epochs", "vf_iters"))
    """Passes of the critic over a batch."""

    critic_batch_size: int = Field(default=128, ge=1)
    """Samples of one step of the critic."""

    critic_warmup_batches: int = Field(default=0, ge=0)
    """Batches at the start that fit the critic only and leave the policy as it is: a cloned policy's first real step
    needs a critic that knows it."""

    standardize_returns: bool = True
    """The critic predicts returns in units of their own mean and deviation. Off: as they are."""

    normalizer_steps: int = Field(default=0, ge=0)
    """Observations after which their statistics stay as they are; 0: they never do."""

    clone_kl_weight: float = Field(default=0.0, ge=0)
    """Weight of KL(policy || policy it started from) in the objective: keeps the style of a cloned policy."""

    clone_kl_decay: float = Field(default=1.0, gt=0, le=1)
    """That weight is multiplied by this after each iteration."""

    cloning_weight: float = Field(default=0.0, ge=0)
    """Weight of the log-likelihood of the open-loop expert's actions in the visited states (mean over
    actions' entries); needs an environment that has an expert."""

    cloning_decay: float = Field(default=0.98, gt=0, le=1)
    """That weight is multiplied by this after each iteration."""
