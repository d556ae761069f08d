"""The physics reward's declaration; its scorer is `rewards.physics.kinematic.PhysicsScorer`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from motions.settings import KeptOnResume, Settings
from rewards.declared.declaration import RewardDeclaration, Term


@dataclass(frozen=True, slots=True)
class PhysicsConstants:
    """What counts as much jerk and as little speed; these depend on the data."""

    jerk_scale: float
    jerk_floor: float
    min_joint_speed: float


BUILTIN_CONSTANTS = PhysicsConstants(jerk_scale=280.0, jerk_floor=0.35, min_joint_speed=0.2)
"""Of the built-in data, whose training windows have a mean jerk of 286; also used where there is no data."""


class PhysicsSettings(Settings):
    """The physics reward: do feet stand and joints move smoothly?

    See `rewards.physics.kinematic`.
    """

    use_physics_reward: bool = False
    """Add the physics reward. Otherwise its terms are computed and reported too, with weight 0."""
    beta_p: float = Field(default=0.1, ge=0.0)
    """Weight of the physics reward in the total, if it is used."""
    lambda_skate: float = Field(default=1.0, ge=0.0)
    """Weight of L_skate, the mean squared sliding speed (m/s) of feet in contact, in R_phy."""
    lambda_jerk: float = Field(default=1.0, ge=0.0)
    """Weight of L_jerk, the mean jerk in units of `jerk_scale`, in R_phy."""
    jerk_scale: Annotated[float | None, KeptOnResume(280.0)] = Field(default=None, gt=0.0)
    """Jerk (m/s^3) that counts as 1. None: the median of the training data, 280 for the built-in."""
    jerk_floor: Annotated[float | None, KeptOnResume(0.35)] = Field(default=None, ge=0.0)
    """Jerk below this, in units of `jerk_scale`, earns nothing more, so that slowing down does not pay. None: a tenth
    of the training data is smoother; 0.35 for the built-in."""
    min_joint_speed: Annotated[float | None, KeptOnResume(0.2)] = Field(default=None, ge=0.0)
    """Mean joint speed (m/s) below which R_phy and R_track are reduced linearly, to 0 for a frozen motion; 0 turns that
    off. None: half of what 99 of 100 motions of the training data exceed, so that people who stand are not frozen; 0.2
    for the built-in, whose slowest motion has 0.4."""
    spare_still_prompts: Annotated[bool, KeptOnResume(False)] = True
    """Where the text of a prompt or segment asks for somebody who stands still, does not move or freezes, its frames do
    not count in the mean joint speed of `min_joint_speed`: there, a motion that stands still is what was asked for."""
    skate_free_speed: float = Field(default=0.05, ge=0.0)
    """Foot speed (m/s) up to which a foot does not count as sliding."""
    contact_source: Literal["height", "model"] = "height"
    """How foot contact is determined: by the feet's height and vertical speed, or by the motion's own contact features.
    With the latter, contacts that the motion denies are penalised by `lambda_contact`."""
    contact_toe_height: float = Field(default=0.05, gt=0.0)
    """Height (m) above the floor below which a toe is in contact. The floor is the 5th percentile of foot heights."""
    contact_ankle_height: float = Field(default=0.08, gt=0.0)
    """Height (m) above the floor below which an ankle is in contact."""
    contact_vertical_speed: float = Field(default=0.2, gt=0.0)
    """Vertical speed (m/s) above which a low foot does not count as standing."""
    contact_swing_speed: float | None = Field(default=1.2, gt=0.0)
    """A low foot of about this speed (m/s) or more, while the other foot stands, counts as swinging, as in walking, and
    not only as sliding: see `swing_exemption`. None: every low foot counts as sliding, as in the literature."""
    swing_exemption: Annotated[Literal["smooth", "cliff"], KeptOnResume("cliff")] = "smooth"
    """How a swinging foot is spared. `smooth`: the cost of its speed levels off at the square of
    `contact_swing_speed`, and the less the other foot stands, the less it is spared; sliding faster never costs less.
    `cliff`: beyond that speed it costs nothing, which a policy can learn to use (earlier runs did)."""
    lambda_contact: float = Field(default=1.0, ge=0.0)
    """With `contact_source model`: weight of the fraction of standing feet that the motion's own contact features
    deny."""

    @property
    def constants(self) -> PhysicsConstants:
        """The constants that are given, and those of the built-in data for the others."""
        return self.over(BUILTIN_CONSTANTS)

    @property
    def is_calibrated(self) -> bool:
        """Whether all constants are given."""
        return None not in (self.jerk_scale, self.jerk_floor, self.min_joint_speed)

    def over(self, measured: PhysicsConstants) -> PhysicsConstants:
        """The constants that are given, and measured ones for the others."""
        given = {name: getattr(self, name) for name in ("jerk_scale", "jerk_floor", "min_joint_speed")}
        return replace(measured, **{name: value for name, value in given.items() if value is not None})


PHYSICS = RewardDeclaration(
    scorer="rewards.physics.kinematic:PhysicsScorer",
    options=PhysicsSettings,
    weight=lambda own: own.beta_p if own.use_physics_reward else 0.0,
    terms={
        "physics": Term("Physics reward R_phy"),
        "skate": Term("Squared sliding speed of standing feet, (m/s)^2", "lower", own_scale=True, like_real=True),
        "jerk": Term("Mean jerk in units of jerk_scale", "lower", own_scale=True, like_real=True),
        "joint_speed": Term("Mean joint speed, metres per second", "neutral", own_scale=True),
        "skating_ratio": Term("Share of frames with a sliding foot", "lower", own_scale=True, like_real=True),
        "speed_gate": Term("Factor of R_phy against frozen motion", "neutral", own_scale=True),
        "contact_share": Term("Share of frames a foot stands", "neutral", own_scale=True),
        "contact_denied": Term("Share of standing feet that the motion denies", "lower"),
    },
    differentiable=True,
)
