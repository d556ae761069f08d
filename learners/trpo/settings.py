"""Options of TRPO; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from motions.settings import Settings


class TRPOSettings(Settings):
    """Trust region policy optimisation (TRPO, Schulman et al. 2015)."""

    steps_per_batch: int = Field(default=2048, ge=1, validation_alias=AliasChoices("steps_per_batch", "horizon"))
    """Environment steps per iteration, over all environments together; rounded up to whole steps of all of them."""

    max_kl: float = Field(default=0.01, gt=0)
    """Largest mean KL divergence between the policy that made a batch and the updated one."""

    cg_iters: int = Field(default=10, ge=1)
    """Largest number of conjugate gradient iterations."""

    cg_residual: float = Field(default=1e-10, ge=0)
    """Conjugate gradients stop early at this squared residual."""

    cg_damping: float = Field(default=0.1, ge=0)
    """Added to the diagonal of the Fisher matrix."""

    fisher_product: Literal["gauss_newton", "double_backward"] = "gauss_newton"
    """How a Fisher-vector product is computed: as products with the Jacobian of the mean and its transpose, or by
    differentiating the gradient of the KL divergence, which gives the same result at one and a half times the cost."""

    fisher_subsample: int = Field(default=1, ge=1)
    """Fisher-vector products use every n-th sample of the batch."""

    line_search_steps: int = Field(default=10, ge=1)
    """Largest number of step sizes that are tried, the full step included."""

    line_search_shrink: float = Field(default=0.8, gt=0, lt=1)
    """Factor on a step that kept the limit of the KL divergence and did not improve the objective. One that left the
    limit is scaled by the root of limit / KL instead, onto the limit."""

    kl_tolerance: float = Field(default=1.0, ge=1)
    """Factor on `max_kl` up to which the line search accepts a KL divergence (1.5 in OpenAI Baselines)."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount factor per step."""

    gae_lambda: float = Field(default=0.95, ge=0, le=1, validation_alias=AliasChoices("gae_lambda", "lam"))
    """Lambda of generalised advantage estimation."""

    advantage_limit: float = Field(default=0.0, ge=0)
    """Standardised advantages are clamped to plus and minus this; 0 means no limit."""

    policy_entcoeff: float = Field(default=0.0, ge=0, validation_alias=AliasChoices("policy_entcoeff", "ent_coef"))
    """Weight of the policy's entropy in the objective."""

    train_log_std: bool = True
    """Train the policy's standard deviation; otherwise it keeps its initial value."""

    critic_learning_rate: float = Field(
        default=1e-3, gt=0, validation_alias=AliasChoices("critic_learning_rate", "vf_stepsize")
    )
    """Adam's learning rate for the critic."""

    critic_epochs: int = Field(default=10, ge=1, validation_alias=AliasChoices("critic_epochs", "vf_iters"))
    """Passes of the critic over a batch."""

    critic_batch_size: int = Field(default=128, ge=1)
    """Samples per optimizer step of the critic."""

    critic_warmup_batches: int = Field(default=0, ge=0)
    """Number of initial batches that only fit the critic: a clone's first policy update needs a critic fitted to it."""

    standardize_returns: bool = True
    """Let the critic predict returns standardised by their mean and standard deviation; otherwise raw returns."""

    normalizer_steps: int = Field(default=0, ge=0)
    """Number of observations after which the observation statistics stop changing; 0 means never."""

    clone_kl_weight: float = Field(default=0.0, ge=0)
    """Weight of KL(policy || initial policy) in the objective, which keeps the style of a cloned policy."""

    clone_kl_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on `clone_kl_weight` after each iteration."""

    cloning_weight: float = Field(default=0.0, ge=0)
    """Weight of the log-likelihood of the open-loop expert's actions in the visited states (mean over components of the
    action); requires an environment with an expert."""

    cloning_decay: float = Field(default=0.98, gt=0, le=1)
    """Factor on `cloning_weight` after each iteration."""
