"""The registry of rewards, and their options, named as in MDM-GRPO (jufan666/text-to-motion) where it has them. Imports
neither torch nor ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import Settings, groups_of
from rewards.declared.critic import CRITIC, CriticSettings
from rewards.declared.declaration import RewardDeclaration
from rewards.declared.extra import load_extra_rewards, parse_extra_reward
from rewards.declared.physics import PHYSICS, PhysicsSettings
from rewards.declared.semantic import SEMANTIC, SemanticSettings
from rewards.declared.tracking import TRACKING, TrackingSettings

OwnT = TypeVar("OwnT", bound=Settings)


class RewardSettings(Settings):
    """Rewards of a motion, mixed into one total.

    R_total = beta_s * R_sem + beta_p * R_phy + beta_t * R_track + critic_weight * R_critic (+ extra rewards). A field
    with a declaration is a built-in reward: its name and its options. With `extra_rewards` the model grows by the
    options that they declare.
    """

    naming: ClassVar[str] = "extra_rewards"

    semantic: Annotated[SemanticSettings, SEMANTIC] = SemanticSettings()
    physics: Annotated[PhysicsSettings, PHYSICS] = PhysicsSettings()
    tracking: Annotated[TrackingSettings, TRACKING] = TrackingSettings()
    critic: Annotated[CriticSettings, CRITIC] = CriticSettings()

    max_motion_length: int = Field(default=196, ge=4)
    """Number of frames of a motion that rewards use; longer motions are cut."""
    extra_rewards: tuple[str, ...] = ()
    """Further rewards, as `package.module:Class` or `package.module:Class=weight`; each adds weight times its main term
    (the one with the scorer's name) to the total. A class may declare options of its own, which then are options of
    this command too; see `--help` with this option."""
    on_reward_error: Literal["fail", "drop_group"] = "fail"
    """If a reward raises an error or is not finite: stop the run, or leave the group out of the update and count it."""
    reward_device: str = Field(default="cpu", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Device of the reward networks."""

    @model_validator(mode="before")
    @classmethod
    def _critic_in_place_of_the_semantic_reward(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("critic", {}), Mapping):
            return values
        semantic = values.get("semantic")
        kind = semantic.get("reward_model_type") if isinstance(semantic, Mapping) else None
        return {**values, "critic": {"critic_weight": 1.0, **values.get("critic", {})}} if kind == "critic" else values

    @model_validator(mode="after")
    def _critic_with_a_weight(self) -> Self:
        if self.semantic.reward_model_type == "critic" and not self.critic.critic_weight:
            raise UserError("critic_weight is 0 and reward_model_type is critic, which is the reward's only network")
        return self

    @field_validator("extra_rewards")
    @classmethod
    def _parsable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            parse_extra_reward(entry)
        return value

    @classmethod
    def groups_named(cls, values: tuple[str, ...]) -> Mapping[str, type[Settings]]:
        """Options of the user's rewards that declare some. Entries that cannot be read are left to the validation."""
        try:
            cls._parsable(values)
        except UserError:
            return {}
        declared = {name: reward.declaration for name, reward in load_extra_rewards(values, RESERVED).items()}
        return {name: found.options for name, found in declared.items() if found.options is not None}

    def own(self, kind: type[OwnT]) -> OwnT:
        """The options of a user's reward, by the class that it declares; their defaults where none is given."""
        groups = (getattr(self, name) for name in groups_of(type(self)))
        return next((group for group in groups if type(group) is kind), None) or kind()


BUILTIN_REWARDS: dict[str, RewardDeclaration] = {
    name: mark
    for name, field in RewardSettings.model_fields.items()
    for mark in field.metadata
    if isinstance(mark, RewardDeclaration)
}
"""Declarations of the built-in rewards, by name."""

RESERVED = frozenset(RewardSettings.model_fields)
"""Names that no other reward may have."""

BUILTIN_TMR_FOLDER = Path(__file__).resolve().parent / "weights" / "tmr"
"""The TMR of the reward by default."""
BUILTIN_CRITIC_FOLDER = Path(__file__).resolve().parent / "weights" / "critic"
"""The critic of the reward by default."""
BUILTIN_JUDGE_FOLDER = Path(__file__).resolve().parent / "weights" / "judge"
"""The independent TMR for evaluation, trained with another seed and other captions; never used as a reward."""
