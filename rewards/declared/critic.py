"""The critic's declaration as a reward; its scorer is `rewards.critic.scorer.CriticScorer`."""

from __future__ import annotations

from pydantic import Field

from motions.settings import BUILTIN, Settings
from rewards.declared.declaration import RewardDeclaration, Term


class CriticModelSettings(Settings):
    """A critic, and how it scores."""

    critic_checkpoint_path: str = Field(default=BUILTIN, min_length=1)
    """Weights: a file of MotionCritic or PP-Motion, a folder of `jobs.train_critic`, or `builtin`, those in
    `rewards/weights/critic`; where there are none, the error names the command that makes them."""
    critic_num_heads: int | None = Field(default=None, ge=1)
    """Attention heads, if no `config.json` beside the weights says them; otherwise 8, as published."""
    critic_window: int | None = Field(default=None, ge=4, le=243)
    """Frames, at 20 a second, of the windows by which longer motions are scored. None: as many as the clips have that
    the critic learned from, 60 for the published one."""
    critic_reference: float | None = Field(default=None)
    """Score that counts as that of a typical real motion; beyond it little more is earned. None: what `config.json`
    beside the weights says, else 0."""


class CriticSettings(CriticModelSettings):
    """The critic's reward: does the motion look natural?

    See `rewards.critic.scorer`.
    """

    critic_weight: float = Field(default=0.0, ge=0.0)
    """Weight of the critic's reward in the total; at 0 no critic is loaded. Within a group it spreads ten times as wide
    as the semantic reward or more, so 0.05 is much beside TMR. Alone: `--reward_model_type critic`, with which it is 1
    unless it is given."""


CRITIC = RewardDeclaration(
    scorer="rewards.critic.scorer:CriticScorer",
    options=CriticSettings,
    weight=lambda own: own.critic_weight or None,
    terms={
        "critic": Term("Critic's reward: log-probability of being preferred to a typical real motion, at most 0"),
        "critic_score": Term("Score of the critic, mean of the windows", own_scale=True, like_real=True),
        "critic_worst": Term("Score of the worst window", own_scale=True, like_real=True),
    },
    differentiable=True,
)
