"""The tracking reward's declaration; its scorer is `rewards.physics.tracking.TrackingScorer`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from motions.settings import Settings
from rewards.declared.declaration import RewardDeclaration, Term


class TrackingSettings(Settings):
    """The tracking reward: can a simulated humanoid follow the motion?

    See `rewards.physics.tracking`.
    """

    use_tracking_reward: bool = False
    """Add the tracking reward: every motion is retargeted to the DeepMimic humanoid and simulated. Otherwise nothing is
    simulated."""
    beta_t: float = Field(default=0.2, ge=0.0)
    """Weight of the tracking reward in the total, if it is used."""
    tracking_engine: Literal["mujoco", "bullet"] = "mujoco"
    """Physics engine: MuJoCo, which simulates all motions of a call at once, or PyBullet with its stable PD control,
    one motion after the other at a tenth of the speed."""
    tracking_controller: str | None = None
    """Folder of a trained controller (`python -m jobs.trpo`, `jobs.sft`) that tracks the motion, in the physics that it
    was trained in and without external force; null uses the open-loop PD targets alone. With a controller,
    `tracking_root_force`, `tracking_root_torque`, `tracking_torque_scale` and `tracking_physics_hz` only take effect at
    values other than their defaults."""
    tracking_root_force: float = Field(default=400.0, ge=0.0, le=2000.0)
    """Limit, in newtons, of an external force that may help at the root; its use is penalised. Open-loop targets alone
    fall within a second in nearly any motion, good or bad. The body weighs 441 N. 0 allows no force, which is the
    default with a controller."""
    tracking_root_torque: float = Field(default=200.0, ge=0.0, le=1000.0)
    """Limit, in newton metres, of an external torque that may help at the root."""
    tracking_survival_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of the tracked fraction of the motion in the tracking reward; the rest is the weight of the accuracy."""
    tracking_error_scale: float = Field(default=0.1, gt=0.0)
    """Mean body error in metres at which the accuracy of a frame is exp(-1)."""
    tracking_slip_weight: float = Field(default=0.2, ge=0.0)
    """Penalty per metre per second of simulated feet sliding on the ground."""
    tracking_assist_weight: float = Field(default=0.3, ge=0.0)
    """Penalty for using the external force and torque at the root at their limits."""
    tracking_torque_scale: float = Field(default=2.0, gt=0.0, le=10.0)
    """Factor on the humanoid's torque limits: with DeepMimic's own, limbs lag behind fast motions."""
    tracking_max_deviation: float = Field(default=0.3, gt=0.0, le=5.0)
    """Mean distance, in metres, of the bodies from their reference positions at which the motion counts as lost."""
    tracking_max_s: float = Field(default=10.0, ge=0.5, le=60.0)
    """Seconds of a motion that are simulated; later frames are not used."""
    tracking_max_floor_shift: float = Field(default=0.1, ge=0.0, le=0.5)
    """Metres by which a motion may be raised or lowered to put its lowest points on the floor. The rest of a larger
    offset remains."""
    tracking_physics_hz: int = Field(default=240, ge=120, le=1200, multiple_of=30)
    """Physics steps per second, for 30 control steps; 120 is twice as fast."""


TRACKING = RewardDeclaration(
    scorer="rewards.physics.tracking:TrackingScorer",
    options=TrackingSettings,
    weight=lambda own: own.beta_t if own.use_tracking_reward else None,
    terms={
        "tracking": Term("Tracking reward R_track"),
        "tracked_fraction": Term("Share of the motion that a simulated humanoid follows"),
        "tracking_accuracy": Term("Closeness of the humanoid to the motion, 0 to 1"),
        "tracking_fall": Term("Share of motions that it loses", "lower"),
        "tracking_error_m": Term("Its mean distance while it follows, metres", "lower", own_scale=True),
        "tracking_root_error_m": Term("Mean distance of its root while it follows, metres", "lower", own_scale=True),
        "tracking_slip_mps": Term("Mean speed of its feet on the ground, metres per second", "lower", own_scale=True),
        "tracking_assist": Term("Share of the help at its root that was used", "lower"),
        "tracking_contact_f1": Term("Agreement with the motion about which feet stand"),
        "tracking_penetration_m": Term("Depth of the motion in the floor, metres", "lower", own_scale=True),
        "tracking_floor_shift_m": Term("Metres by which the motion was raised to the floor", "neutral", own_scale=True),
        "tracking_speed_gate": Term("Factor of R_track against frozen motion", "neutral"),
        "tracking_failed": Term("Share of motions that could not be simulated", "lower"),
    },
)
