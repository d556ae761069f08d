"""Options of the DeepMimic task, the same for MuJoCo and PyBullet; imports neither torch, ray nor a physics engine.

The defaults are the combination that trains best: PD targets as offsets from the reference (action 0 is the open-loop
expert), damping in the joints, 240 Hz physics under 30 Hz control, the reward of xbpeng/DeepMimic's present code, and
termination when a body touches the ground that the clip keeps off it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
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


DAMPING_RATIO = 0.1
"""Kd / Kp of every joint, in seconds, with unscaled gains."""

_DEEPMIMIC_FILE = re.compile(r"humanoid3d_(\w+)(\.txt)?")


def _built_in_clip(name: str) -> str:
    """`walk` of `data/motions/humanoid3d_walk.txt` or `humanoid3d_walk`; a file that exists keeps its name."""
    path = Path(name).expanduser()
    found = _DEEPMIMIC_FILE.fullmatch(path.name)
    return found[1] if found and not path.exists() else name


class HumanoidSettings(Settings):
    """The character: how its joints are modelled and driven."""

    joints: JointModel = "hinge"
    """Model of 3-dof joints: three stacked hinges x, y, z, or ball joints, which have no singular pose (use them for
    backflip, get-ups and crawl)."""

    pd: PDControl = "damping"
    """How a PD target becomes torque. `damping`: limited spring, damper inside the joint; stable at any rate, and the
    fastest. `actuator`: MuJoCo's position actuator with limited total force; chatters below 480 Hz. `stable`: stable PD
    (Tan et al. 2011) with limited total torque, solved in Python at every physics step; at most half the speed."""

    physics_hz: int = Field(default=240, ge=60, le=4800)
    """Physics steps per second; a multiple of `control_hz`."""

    control_hz: int = Field(default=30, ge=5, le=240)
    """Actions per second."""

    armature: float = Field(default=0.02, ge=0.0, le=1.0)
    """Rotor inertia added to every joint axis, kg m^2."""

    torque_scale: float = Field(default=1.0, gt=0.0, le=10.0)
    """Factor on all torque limits. With `pd` `damping` the limit excludes the damper, and fast clips reach it."""

    stiffness_scale: float = Field(
        default=1.0, gt=0.0, le=10.0, validation_alias=AliasChoices("stiffness_scale", "kp_scale")
    )
    """Factor on the stiffness Kp of all joints (300 to 500 N m / rad in the limbs). Stiffer springs follow a target
    more closely, and reach the torque limits sooner."""

    damping_scale: float = Field(
        default=1.0, gt=0.0, le=10.0, validation_alias=AliasChoices("damping_scale", "kd_scale")
    )
    """Factor on the damping Kd of all joints, which is a tenth of the unscaled Kp."""

    self_collision: bool = False
    """Let the bodies of the character collide with each other; in xbpeng/DeepMimic they do not."""

    friction: float = Field(default=1.0, gt=0.0, le=5.0)
    """Sliding friction between bodies and ground."""

    @property
    def damping_s(self) -> float:
        """Kd / Kp of every joint, in seconds."""
        return DAMPING_RATIO * self.damping_scale / self.stiffness_scale

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if self.physics_hz % self.control_hz:
            raise UserError(f"physics_hz is {self.physics_hz}; legal: multiples of control_hz, {self.control_hz}")
        return self


class ReferenceSettings(Settings):
    """The clips to imitate, and how their cycles are joined."""

    motion: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("walk",), validation_alias=AliasChoices("motion", "mocap")
    )
    """Clips to imitate: names such as `walk`, or files: DeepMimic motion files (.txt), BVH, and motions of HumanML3D's
    joints or features (.npy, .npz of `jobs.generate`), which are fitted to the humanoid. `results.npz#sample00_rep01`
    means one of several motions of a file, `results.npz#best` that in which feet slide least. With several clips, each
    reset draws one."""

    motion_weights: tuple[Annotated[float, Field(ge=0.0)], ...] | None = None
    """Relative probability of each clip of `motion`, 0 for one that no episode draws; by default all are equal."""

    seam_blend_s: float = Field(default=0.1, ge=0.0)
    """Cyclic clips: seconds on either side of the seam over which the jump between last and first pose is spread."""

    keep_cycle_height: bool = False
    """Let the root rise or sink from cycle to cycle by the difference between the clip's last and first frame; needs
    `seam_blend_s` 0, as blending removes that difference."""

    root_sync: bool = True
    """At the start of every cycle move the reference horizontally to the character, so that drift does not add up."""

    lookahead_s: float | None = Field(default=None, ge=0.0, le=0.5)
    """How many seconds ahead the target pose of residual actions and expert is; by default one control step."""

    velocity_feedforward: bool = True
    """Add Kd / Kp times the reference velocity to the target of residual actions and expert, to offset the damping."""

    @field_validator("motion", mode="before")
    @classmethod
    def _one_motion(cls, value: object) -> object:
        """Turns a single name, or names joined by commas, into a list."""
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @field_validator("motion")
    @classmethod
    def _built_in_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Takes xbpeng/DeepMimic's name of a clip's file, where there is no such file, for the built-in clip."""
        return tuple(map(_built_in_clip, value))

    @field_validator("motion")
    @classmethod
    def _at_home_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(os.path.expanduser, value))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.motion_weights is not None and len(self.motion_weights) != len(self.motion):
            raise UserError(
                f"motion_weights has {len(self.motion_weights)} numbers; legal: one for each of the "
                f"{len(self.motion)} clips of motion"
            )
        if self.motion_weights is not None and not sum(self.motion_weights) > 0.0:
            raise UserError(f"motion_weights is {self.motion_weights}; legal: at least one above 0")
        if self.keep_cycle_height and self.seam_blend_s > 0.0:
            raise UserError(f"keep_cycle_height needs seam_blend_s 0, which is {self.seam_blend_s} and levels cycles")
        return self


class ImitationRewardSettings(Settings):
    """The reward of a step: sum of weight times exp(-scale times error), divided by the sum of weights."""

    reward_preset: RewardPreset = "upstream"
    """Errors, weights and scales: those of xbpeng/DeepMimic's present code (`upstream`), of its paper (Peng et al.
    2018), of pybullet's port or of xbpeng/MimicKit. Of the paper's sums over joints, which do not say so, the root's
    rotation is a part here, as it is in the authors' code."""

    pose_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the joint rotations; the default of this and of the following weights and scales is the preset's."""
    velocity_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the joints' angular velocities."""
    end_effector_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the positions of hands and feet."""
    root_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the root's pose (including its velocity, except in MimicKit's reward)."""
    root_velocity_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the root's velocity as a separate term."""
    com_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the centre of mass: of its velocity, or with the paper's reward of its position."""

    pose_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the joint rotations' error."""
    velocity_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the error of the joints' angular velocities."""
    end_effector_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the error of the positions of hands and feet."""
    root_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the error of the root's pose."""
    root_velocity_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the error of the root's velocity as a separate term."""
    com_scale: float | None = Field(default=None, gt=0.0)
    """Scale of the error of the centre of mass."""


class EpisodeSettings(Settings):
    """How an episode starts, is disturbed and ends."""

    reference_start: Literal["random", "fixed"] = "random"
    """Where on the clip episodes start: at a random time, or always at `start_phase`."""

    start_phase: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Phase of the clip at which episodes start with `reference_start` `fixed`."""

    start_noise: float = Field(default=0.0, ge=0.0, le=5.0)
    """Standard deviation of a random velocity that is added to the root's at the start of an episode, m/s along each
    axis, and of an angular velocity, as many rad/s about each axis."""

    max_episode_s: float = Field(default=20.0, gt=0.0)
    """Time limit of an episode, seconds; the end of a clip that does not repeat also ends it. Both are truncation."""

    early_termination: bool = True
    """End the episode, with reward 0, at a fall: a body touches the ground that must not, or leaves the reference."""

    ground_bodies: Literal["auto"] | tuple[str, ...] = "auto"
    """Bodies whose contact with the ground is no fall. `auto`: feet; with cartwheel also hands; with roll, crawl and
    get-ups all."""

    max_body_deviation: float | None = Field(default=1.0, gt=0.0)
    """Metres by which a body may be away from its position in the reference without being a fall; null for no limit."""

    push_force: float = Field(default=0.0, ge=0.0, le=5000.0)
    """Force in newtons of horizontal pushes on `push_body`; 0 for none."""

    push_duration_s: float = Field(default=0.2, gt=0.0)
    """Duration of a push, seconds."""

    push_interval_s: float = Field(default=4.0, gt=0.0)
    """Seconds from one push to the next; the first begins at a random time within the first interval."""

    push_at_s: float | None = Field(default=None, ge=0.0)
    """Give a single push per episode, at this time in seconds, instead of regular ones."""

    push_direction_deg: float | None = None
    """Direction of pushes in degrees counter-clockwise from the heading (90: to the left); by default random."""

    push_body: str = "chest"
    """Name of the body that is pushed."""

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
    """What a policy observes and what its actions mean."""

    action_mode: ActionMode = "residual"
    """`residual`: actions are offsets from the reference's PD target (action 0 is the open-loop expert). `absolute`:
    they are the PD target itself, centred on the clips' mean pose and scaled to their range."""

    action_scale: float = Field(default=0.5, gt=0.0)
    """Radians per unit of action: for every joint in residual mode, the least for any joint in absolute mode."""

    action_bound: float = Field(default=3.0, gt=0.0)
    """Actions are clipped to plus and minus this, in units of `action_scale`."""

    observation_blocks: tuple[ObservationBlock, ...] = ("root", "joints", "key_positions", "phase", "targets")
    """Parts of the observation, in order. root: height, rotation, velocities (13); joints: angles and rates (56);
    key_positions: hands and feet relative to the root (12); bodies: positions, rotations, velocities of all 15 bodies
    (225); phase: sine and cosine (2); targets: reference poses ahead (37 each). All in the root's heading frame."""

    target_steps: tuple[Annotated[int, Field(ge=0, le=60)], ...] = (1, 2, 3)
    """How many control steps ahead the reference poses of the block `targets` are."""

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
    """All options of the task."""

    nthread: int = Field(default=1, ge=1, le=256)
    """Threads of the batched physics; results do not depend on it."""
