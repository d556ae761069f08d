"""The physics reward's declaration; its scorer is `rewards.physics.kinematic.PhysicsScorer`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from motions.settings import Settings
from rewards.declared.declaration import RewardDeclaration, Term


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
    jerk_scale: float = Field(default=280.0, gt=0.0)
    """Jerk (m/s^3) that counts as 1; the median over the built-in training windows is 279."""
    jerk_floor: float = Field(default=0.35, ge=0.0)
    """Jerk below this, in units of `jerk_scale`, earns nothing more, so that slowing down does not pay. A tenth of the
    built-in training windows is smoother."""
    min_joint_speed: float = Field(default=0.2, ge=0.0)
    """Mean joint speed (m/s) below which R_phy and R_track are reduced linearly, to 0 for a frozen motion; 0 turns that
    off. The slowest built-in training window has 0.4."""
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
    """A low foot faster than this (m/s) while the other foot stands counts as swinging, as in walking, not as sliding.
    None: every low foot counts, as in the literature."""
    lambda_contact: float = Field(default=1.0, ge=0.0)
    """With `contact_source model`: weight of the fraction of standing feet that the motion's own contact features
    deny."""


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
