"""Options of the DeepMimic task, the same for MuJoCo and PyBullet; imports neither torch, ray nor a physics engine.

The defaults are the ones that learn: spring targets as offsets from the reference (action 0 is the open-loop expert),
damping in the joints, 240 Hz physics under 30 Hz control, the reward of the authors' present code, a fall on any
contact of a body that the clip keeps off the ground.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import Settings

JointModel = Literal["hinge", "ball"]
PDControl = Literal["damping", "actuator", "stable"]
ActionMode = Literal["residual", "absolute"]
RewardPreset = Literal["upstream", "paper", "pybullet", "mimickit"]
ObservationBlock = Literal["root", "joints", "key_positions", "bodies", "phase", "targets"]

BODY_NAMES: tuple[str, ...] = (
    *("root", "chest", "neck"),
    *("right_hip", "right_knee", "right_ankle", "right_shoulder", "right_elbow", "right_wrist"),
    *("left_hip", "left_knee", "left_ankle", "left_shoulder", "left_elbow", "left_wrist"),
)
"""Bodies of the humanoid, named after the joint that moves them (`right_hip` is the right thigh)."""


class HumanoidSettings(Settings):
    """The character: how its joints are modelled and driven."""

    joints: JointModel = "hinge"
    """3-dof joints as three stacked hinges x, y, z, or as ball joints, which have no singular pose (backflip, get-ups,
    crawl)."""

    pd: PDControl = "damping"
    """How a PD target becomes torque. `damping`: limited spring, damper inside the joint; stable at any rate, and the
    fastest. `actuator`: MuJoCo's position actuator with limited total force; chatters below 480 Hz. `stable`: stable PD
    with limited total torque, solved in Python at every physics step; half the speed or less."""

    physics_hz: int = Field(default=240, ge=60, le=4800)
    """Physics steps per second; a multiple of `control_hz`."""

    control_hz: int = Field(default=30, ge=5, le=240)
    """Actions per second."""

    armature: float = Field(default=0.02, ge=0.0, le=1.0)
    """Rotor inertia added to every joint axis, kg m^2."""

    torque_scale: float = Field(default=1.0, gt=0.0, le=10.0)
    """Multiplies all torque limits: with `pd = damping` the damper is free, and fast clips saturate the spring."""

    self_collision: bool = False
    """Let the bodies collide with each other; upstream lets them pass."""

    friction: float = Field(default=1.0, gt=0.0, le=5.0)
    """Sliding friction between bodies and ground."""

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if self.physics_hz % self.control_hz:
            raise UserError(f"physics_hz is {self.physics_hz}; legal: multiples of control_hz, {self.control_hz}")
        return self


class ReferenceSettings(Settings):
    """Which clips are imitated, and how a cycle joins the next."""

    motion: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("walk",), validation_alias=AliasChoices("motion", "mocap")
    )
    """Clips to imitate: names such as `walk` or paths of DeepMimic motion files; several are drawn at each reset."""

    motion_weights: tuple[Annotated[float, Field(gt=0.0)], ...] | None = None
    """Chance of each clip of `motion`, up to a common factor; by default all are equal."""

    seam_blend_s: float = Field(default=0.1, ge=0.0)
    """Cyclic clips: seconds on either side of the seam over which the jump between last and first pose is spread."""

    keep_cycle_height: bool = False
    """Let the root rise or sink from cycle to cycle as the clip's last frame does against its first; without
    `seam_blend_s`, which levels cycles."""

    root_sync: bool = True
    """At the start of every cycle put the reference where the character is (horizontally): drift is forgiven once per
    cycle."""

    lookahead_s: float | None = Field(default=None, ge=0.0, le=0.5)
    """Residual actions and expert: how far ahead of now the target pose is; by default one control step."""

    velocity_feedforward: bool = True
    """Residual actions and expert: add Kd / Kp times the reference velocity, so that damping does not hold back."""

    @field_validator("motion", mode="before")
    @classmethod
    def _one_motion(cls, value: object) -> object:
        """A single name needs no list; a command line may join several with commas."""
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.motion_weights is not None and len(self.motion_weights) != len(self.motion):
            raise UserError(
                f"motion_weights has {len(self.motion_weights)} numbers; legal: one for each of the "
                f"{len(self.motion)} clips of motion"
            )
        if self.keep_cycle_height and self.seam_blend_s > 0.0:
            raise UserError(f"keep_cycle_height needs seam_blend_s 0, which is {self.seam_blend_s} and levels cycles")
        return self


class ImitationRewardSettings(Settings):
    """The reward of a step: sum of weight times exp(-scale times error), divided by the sum of weights."""

    reward_preset: RewardPreset = "upstream"
    """Errors, weights and scales of the authors' present code, of the paper, of pybullet's port or of MimicKit."""

    pose_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the joint rotations; this and the following: by default what the preset says."""
    velocity_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the joints' angular velocities."""
    end_effector_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the positions of hands and feet."""
    root_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the root's pose (with its velocity, except in MimicKit's reward)."""
    root_velocity_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the root's velocity by itself."""
    com_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the centre of mass: its velocity, or in the paper its position."""

    pose_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the joint rotations."""
    velocity_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the joints' angular velocities."""
    end_effector_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the positions of hands and feet."""
    root_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the root's pose."""
    root_velocity_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the root's velocity by itself."""
    com_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the centre of mass."""


class EpisodeSettings(Settings):
    """How an episode starts, is disturbed and ends."""

    reference_start: Literal["random", "fixed"] = "random"
    """Start on the clip at a random time, or always at `start_phase`."""

    start_phase: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Phase of the clip at which episodes with a fixed start begin."""

    max_episode_s: float = Field(default=20.0, gt=0.0)
    """Time limit; a clip that does not repeat also ends its episode. Both are truncation, not termination."""

    early_termination: bool = True
    """End the episode, with reward 0, at a fall: contact of a body that must not touch the ground, or a pose too far
    from the reference."""

    ground_bodies: Literal["auto"] | tuple[str, ...] = "auto"
    """Bodies that may touch the ground without being a fall. `auto`: feet; hands too for cartwheel; all for roll, crawl
    and the get-ups."""

    max_body_deviation: float | None = Field(default=1.0, gt=0.0)
    """Metres by which a body may be away from its place in the reference before that is a fall; null for any."""

    push_force: float = Field(default=0.0, ge=0.0, le=5000.0)
    """Newtons of a horizontal push on `push_body`; 0 for none."""

    push_duration_s: float = Field(default=0.2, gt=0.0)
    """Seconds that a push lasts."""

    push_interval_s: float = Field(default=4.0, gt=0.0)
    """Seconds from one push to the next; the first comes at a random time within the first interval."""

    push_at_s: float | None = Field(default=None, ge=0.0)
    """One single push per episode, at this time, instead of regular ones."""

    push_direction_deg: float | None = None
    """Direction of pushes against the facing at that time, counter-clockwise (0 forward, 90 to the left); by default
    random."""

    push_body: str = "chest"
    """Body that is pushed."""

    @field_validator("ground_bodies", mode="before")
    @classmethod
    def _split_bodies(cls, value: object) -> object:
        if isinstance(value, str) and value != "auto":
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @model_validator(mode="after")
    def _known_bodies(self) -> Self:
        for field, names in (("ground_bodies", self.ground_bodies), ("push_body", (self.push_body,))):
            for name in () if names == "auto" else names:
                if name not in BODY_NAMES:
                    raise UserError(f"{field} names {name!r}; legal: {', '.join(BODY_NAMES)}")
        if self.push_at_s is None and self.push_force > 0.0 and self.push_duration_s > self.push_interval_s:
            raise UserError(
                f"push_duration_s is {self.push_duration_s}; legal: at most push_interval_s, {self.push_interval_s}"
            )
        return self


class ControlInterfaceSettings(Settings):
    """What a policy sees and what its actions mean."""

    action_mode: ActionMode = "residual"
    """`residual`: offset from the reference's own target (action 0 is the open-loop expert). `absolute`: the PD target
    itself, centred on the clips' mean pose and scaled to their range."""

    action_scale: float = Field(default=0.5, gt=0.0)
    """Radians per unit of action: of every joint in residual mode, the least of any joint in absolute mode."""

    action_bound: float = Field(default=3.0, gt=0.0)
    """Actions are clipped to plus and minus this, in units."""

    observation_blocks: tuple[ObservationBlock, ...] = ("root", "joints", "key_positions", "phase", "targets")
    """What is observed, in this order. root: height, rotation, velocities (13); joints: angles and rates (56);
    key_positions: hands and feet from the root (12); bodies: places, rotations, velocities of all 15 bodies (225);
    phase: sine and cosine (2); targets: reference poses ahead (37 each). All in the root's heading frame."""

    target_steps: tuple[Annotated[int, Field(ge=0, le=60)], ...] = (1, 2, 3)
    """Control steps ahead of the reference poses of the block `targets`."""

    @field_validator("observation_blocks")
    @classmethod
    def _each_once(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        if not blocks or len(set(blocks)) < len(blocks):
            raise UserError(f"observation_blocks is {list(blocks)}; legal: at least one block, each at most once")
        return blocks

    @model_validator(mode="after")
    def _targets_have_steps(self) -> Self:
        if "targets" in self.observation_blocks and not self.target_steps:
            raise UserError("target_steps is empty; legal: at least one step while observation_blocks has targets")
        return self


class DeepMimicSettings(
    HumanoidSettings, ReferenceSettings, ImitationRewardSettings, EpisodeSettings, ControlInterfaceSettings
):
    """Everything that defines the task."""

    nthread: int = Field(default=1, ge=1, le=256)
    """Threads of the batched physics; results do not depend on it."""
