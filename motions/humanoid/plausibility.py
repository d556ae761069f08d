"""Whether a clip of somebody's own is the motion of a person: units, axes, order and sides, by figures.

A file in degrees, centimetres or milliseconds, with another axis up, with quaternions x, y, z, w or with its sides
exchanged has the right shape and is another motion. The bounds lie between the figures of all 15 built-in clips (run,
backflip, crawl, getting up, ...) and those of the same clips with such a fault.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from motions.humanoid.kinematics import BODY_INDEX, HINGE_BODIES, forward_kinematics
from motions.humanoid.mocap import ClipError, MocapClip, warn_once
from motions.skeleton.rotations import quat_inverse, quat_rotate, quat_to_rotation_vector

FRAME_S = (1 / 2000, 0.5)
"""Median duration of a frame; built-in clips: 1/60 to 1/16 s."""
HINGE_RAD = 3.3
"""Largest angle of knees and elbows; built-in clips: up to 2.8."""
WRONG_BEND_RAD = 0.1
"""Median angle of knees or elbows in the direction in which they do not bend; built-in clips: below -0.13."""
LOCAL_TURN_DEG = 150.0
"""Median rotation of a joint against its parent, of the median joint; built-in clips: up to 65."""
DEPTH_M, FLIGHT_M = 0.15, 1.0
"""How far the lowest joint is below the floor in the median frame, and above it in every frame; built-in clips: -0.03
and 0.06."""
SPEED_MPS = 20.0
"""Speed of the root in 95 % of the frames; built-in clips: up to 5."""
JUMP_MPS = 15.0
"""Speed of the root between any two frames; built-in clips: up to 5.3."""
SLIDE_MPS = 0.65
"""Speed over the ground of the lower ankle in the calmest quarter of the frames; built-in clips: up to 0.47, a walk on
the spot, sideways or backwards with the legs of a walk ahead: 0.83 and more."""
INWARD_M = 0.03
"""How far elbows are on average on the other side of their shoulders; built-in clips: below -0.06, with exchanged sides
above 0.06."""
SLOW_MPS2, FAST_MPS2 = 3.0, 100.0
"""Acceleration that 5 % of joints and frames exceed, at `_PACE_HZ`; built-in clips: 14 to 97, at a tenth of their speed
at most 2.3, at four times their speed 72 to 600."""
_PACE_HZ = 20.0
_STILL_M = 1e-4
"""How far joints move in a clip that holds one pose."""
SEAM_DEG = 75.0
"""Angle between last and first pose of a clip that repeats, in any joint; built-in clips: up to 58."""


def check_clip(clip: MocapClip, source: str) -> None:
    """Checks that a clip is plausible; logs a warning, once, if it only repeats with a jump, if its feet slide, if it
    never moves, or at another pace than people.

    Args:
        source: its file, for the messages.

    Raises:
        ClipError: it is not; with every figure that is out of bounds, and what may be the cause.
    """
    if found := implausible(clip):
        raise ClipError(f"{source}: {'; '.join(found)}")
    seam = math.degrees(float(clip.seam_gaps().max())) if clip.cyclic else 0.0
    if seam > SEAM_DEG:
        warn_once(
            f'{source}: Loop is "wrap", but a joint turns by {seam:.0f} degrees from the last frame to the first, over '
            f'which the character would jump in every cycle (built-in clips: up to 58); is Loop "none" meant?'
        )
    if pace := _pace(clip):
        warn_once(f"{source}: {pace}")
    slide = _slide(clip)
    if slide > SLIDE_MPS:
        warn_once(
            f"{source}: the lower foot slides at {slide:.2f} m/s even in the calmest quarter of the frames (built-in "
            "clips: up to 0.47); is the root's translation missing, or of another heading than its rotation?"
        )


def implausible(clip: MocapClip) -> list[str]:
    """Every figure of a clip that is out of bounds, in words."""
    positions, quaternions = forward_kinematics(clip.root_positions, clip.ball_rotations, clip.hinge_angles)
    return [
        *_times(clip),
        *_hinges(clip),
        *_rotations(clip),
        *_places(clip, positions),
        *_sides(positions, quaternions),
    ]


def _slide(clip: MocapClip) -> float:
    positions, _ = forward_kinematics(clip.root_positions, clip.ball_rotations, clip.hinge_angles)
    ankles = positions[:, [BODY_INDEX["left_ankle"], BODY_INDEX["right_ankle"]]]
    speeds = ankles.diff(dim=0)[..., [0, 2]].norm(dim=-1) / clip.times.diff()[:, None]
    lower = ankles[:-1, :, 1].argmin(dim=1, keepdim=True)
    return float(speeds.gather(1, lower).quantile(0.25))


def _pace(clip: MocapClip) -> str | None:
    """What is odd about the pace of a clip, in words."""
    poses = clip.pose(torch.arange(0.0, clip.duration, 1 / _PACE_HZ, dtype=torch.float64))
    positions, _ = forward_kinematics(poses.root_positions, poses.ball_rotations, poses.hinge_angles)
    if len(positions) < 3:
        return None
    if float((positions.amax(dim=0) - positions.amin(dim=0)).max()) < _STILL_M:
        return "no joint moves in any frame: a pose that is held"
    accelerations = positions.diff(n=2, dim=0).norm(dim=-1) * _PACE_HZ**2
    lively = float(accelerations.quantile(0.95))
    if SLOW_MPS2 <= lively <= FAST_MPS2:
        return None
    return (
        f"joints accelerate by {lively:.3g} m/s^2 (95 % of joints and frames), people's by {SLOW_MPS2:g} to "
        f"{FAST_MPS2:g}; the durations of frames, {float(clip.times.diff().median()):.4g} s (median), are to be seconds"
    )


def _times(clip: MocapClip) -> list[str]:
    seconds = float(clip.times.diff().median())
    if FRAME_S[0] <= seconds <= FRAME_S[1]:
        return []
    return [f"a frame lasts {seconds:g} s (median), which are to be seconds, {FRAME_S[0]:g} to {FRAME_S[1]:g}"]


def _hinges(clip: MocapClip) -> list[str]:
    largest = float(clip.hinge_angles.abs().max())
    if largest > HINGE_RAD:
        return [f"knees and elbows turn by up to {largest:.1f} rad, at most {HINGE_RAD}; are these degrees?"]
    found = []
    # Knees bend below 0, elbows above.
    for part, sign in (("knee", 1), ("elbow", -1)):
        columns = [index for index, body in enumerate(HINGE_BODIES) if body.endswith(part)]
        angle = float(clip.hinge_angles[:, columns].median())
        if sign * angle > WRONG_BEND_RAD:
            found.append(
                f"{part}s bend the wrong way: their median angle is {angle:+.2f} rad, and bent ones are "
                f"{'below' if sign > 0 else 'above'} 0"
            )
    return found


def _rotations(clip: MocapClip) -> list[str]:
    turns = quat_to_rotation_vector(clip.ball_rotations[:, 1:]).norm(dim=-1)
    median = math.degrees(float(turns.median(dim=0).values.median()))
    if median <= LOCAL_TURN_DEG:
        return []
    return [f"joints are turned by {median:.0f} degrees (median) against their parents; quaternions are w, x, y, z"]


def _places(clip: MocapClip, positions: Tensor) -> list[str]:
    found = []
    lowest, root = positions[..., 1].amin(dim=-1), float(clip.root_positions[:, 1].median())
    if (depth := -float(lowest.median())) > DEPTH_M:
        found.append(
            f"the lowest joint is {depth:.2f} m below the floor, at y = 0, in the median frame, and the root is at "
            f"{root:.2f} m; y is up"
        )
    if (height := float(lowest.min())) > FLIGHT_M:
        found.append(f"no joint comes nearer to the floor than {height:.2f} m; positions are metres")
    speed = float(clip.frame_velocities.root_linear.norm(dim=-1).quantile(0.95))
    if speed > SPEED_MPS:
        found.append(f"the root moves at {speed:.1f} m/s; positions are metres, durations seconds")
    steps = clip.root_positions.diff(dim=0).norm(dim=-1)
    speeds = steps / clip.times.diff()
    if not found and float(speeds.max()) > JUMP_MPS:
        frame = int(speeds.argmax())
        found.append(
            f"the root jumps by {float(steps[frame]):.2f} m within one frame, at {float(clip.times[frame]):.2f} s; two "
            "takes in one file?"
        )
    return found


def _sides(positions: Tensor, quaternions: Tensor) -> list[str]:
    inward = 0.0
    for side, sign in (("right", -1.0), ("left", 1.0)):
        arm = positions[:, BODY_INDEX[f"{side}_elbow"]] - positions[:, BODY_INDEX[f"{side}_shoulder"]]
        across = quat_rotate(quat_inverse(quaternions[:, BODY_INDEX["chest"]]), arm)[:, 2]
        inward += 0.5 * sign * float(across.mean())
    if inward <= INWARD_M or not math.isfinite(inward):
        return []
    return [f"elbows are {inward:.2f} m inside their shoulders, within the chest; are left and right exchanged?"]
