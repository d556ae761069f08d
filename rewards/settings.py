"""Options of the rewards, named as in MDM-GRPO (jufan666/text-to-motion) where it has them. Imports neither torch nor
ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import BUILTIN, Retired, Settings


class TrackingRewardSettings(Settings):
    """The tracking reward: can a simulated humanoid follow the motion? See rewards/physics/tracking.py."""

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


class RewardSettings(TrackingRewardSettings):
    """Rewards of a motion: R_total = beta_s * R_sem + beta_p * R_phy + beta_t * R_track (+ extra rewards)."""

    retired: ClassVar[Mapping[str, Retired]] = {
        "reward_model_type": Retired(
            ("tmr",), "a TMR compares text and motion; the evaluator of Guo et al. is not built yet"
        )
    }

    reward_type: Literal["cosine", "matching"] = "cosine"
    """`cosine`: cosine of the two embeddings. `matching`: the similarity of `tmr_similarity_type`."""
    tmr_similarity_type: Literal["cosine", "euclidean"] = "cosine"
    """Similarity for `reward_type matching`: cosine, or a reward computed from the euclidean distance of the embeddings
    by `tmr_normalization`."""
    tmr_normalization: Literal["linear", "exponential", "sigmoid"] = "linear"
    """Reward of a euclidean distance d: 1 - clamp(d / tmr_max_distance, 0, 1), exp(-d / tmr_scale), or sigmoid(-d /
    tmr_scale), whose range is (0, 0.5]. Not used for cosine."""
    tmr_max_distance: float = Field(default=10.0, gt=0.0)
    """Distance at which the linear reward reaches 0."""
    tmr_scale: float = Field(default=2.0, gt=0.0)
    """Distance scale of the exponential and sigmoid rewards."""
    tmr_checkpoint_path: str = BUILTIN
    """TMR weights: `builtin` (trained on the built-in clips), a folder in TMR's layout, or a single file."""
    tmr_text_encoder_path: str | None = None
    """File of the text encoder; with `tmr_motion_encoder_path` it replaces `tmr_checkpoint_path`."""
    tmr_motion_encoder_path: str | None = None
    """File of the motion encoder."""
    tmr_movement_encoder_path: str | None = None
    """Third file on the command line of MDM-GRPO. TMR has no movement encoder: give `motion_decoder.pt`, which is
    checked but not needed for the reward."""
    tmr_stats_path: str | None = None
    """Folder with TMR's own `mean.pt` and `std.pt`; by default searched for beside the weights."""
    tmr_text_model: str | None = None
    """Text encoder whose tokens the TMR takes, if its folder has no `config.json` that names it, or names a class of
    your own, `package.module:Class`, which only this option imports."""
    tmr_text_model_path: str | None = None
    """Local folder of that text encoder; by default the one that its name implies."""
    use_dense_reward: bool = False
    """Compare every segment of a composite prompt with its own text (R_pos) and penalise similarity to the other
    segments' texts (R_neg), instead of comparing the whole motion with the joined text."""
    alpha: float = Field(default=0.5, ge=0.0)
    """Weight of R_neg in the dense reward: R_sem = R_pos - alpha * R_neg."""
    max_motion_length: int = Field(default=196, ge=4)
    """Number of frames of a motion that rewards use; longer motions are cut."""
    beta_s: float = Field(default=1.0, ge=0.0)
    """Weight of the semantic reward in the total; at 0 it is off, and no TMR is loaded for it."""
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
    extra_rewards: tuple[str, ...] = ()
    """Further rewards, as `package.module:Class` or `package.module:Class=weight`; each adds weight times its main term
    (the one with the scorer's name) to the total."""
    on_reward_error: Literal["fail", "drop_group"] = "fail"
    """If a reward raises an error or is not finite: stop the run, or leave the group out of the update and count it."""
    reward_device: str = Field(default="cpu", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Device of the reward networks."""

    @field_validator("reward_type", mode="before")
    @classmethod
    def _evaluator_only(cls, value: object) -> object:
        if value in ("r_precision", "combined"):
            raise UserError(f"reward_type '{value}' belongs to reward_model_type mdm; TMR has 'cosine' and 'matching'")
        return value

    @field_validator("extra_rewards")
    @classmethod
    def _parsable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            parse_extra_reward(entry)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reward_type == "cosine" and self.tmr_similarity_type != "cosine":
            raise UserError("tmr_similarity_type 'euclidean' needs reward_type 'matching' (reward_type is 'cosine')")
        files = {
            "tmr_text_encoder_path": self.tmr_text_encoder_path,
            "tmr_motion_encoder_path": self.tmr_motion_encoder_path,
        }
        given = [name for name, path in files.items() if path]
        if len(given) == 1:
            missing = next(name for name in files if name not in given)
            raise UserError(f"{given[0]} is given without {missing}: TMR needs both encoders")
        if self.tmr_movement_encoder_path and not given:
            raise UserError("tmr_movement_encoder_path is given without the text and motion encoder paths")
        if given and self.tmr_checkpoint_path != BUILTIN:
            raise UserError("tmr_checkpoint_path and the tmr_*_encoder_path options exclude each other")
        return self

    @property
    def builtin_tmr(self) -> bool:
        """Whether the reward uses the TMR that comes with kinetune."""
        return self.tmr_checkpoint_path == BUILTIN and not self.tmr_text_encoder_path


def parse_extra_reward(entry: str) -> tuple[str, float]:
    """Splits `package.module:Class=0.5` into class and weight, (`package.module:Class`, 0.5); the default weight is 1.

    Raises:
        UserError: no module, no class, or a weight that is no finite number.
    """
    target, separator, text = entry.partition("=")
    module, colon, cls = target.partition(":")
    if not (colon and all(part.isidentifier() for part in (*module.split("."), cls))):
        raise UserError(f"extra reward {entry!r}: expected package.module:Class or package.module:Class=weight")
    try:
        weight = float(text) if separator else 1.0
    except ValueError:
        weight = float("nan")
    if weight != weight or abs(weight) == float("inf"):
        raise UserError(f"extra reward {entry!r}: the weight {text!r} is not a finite number")
    return target, weight


BUILTIN_TMR_FOLDER = Path(__file__).resolve().parent / "weights" / "tmr"
"""The TMR of the reward by default."""
BUILTIN_JUDGE_FOLDER = Path(__file__).resolve().parent / "weights" / "judge"
"""The independent TMR for evaluation, trained with another seed and other captions; never used as a reward."""
