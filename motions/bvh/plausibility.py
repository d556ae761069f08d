"""Whether a converted recording can be a human motion: what the figures of the outcome say against it.

A file whose units, axes, sides or times were misunderstood converts without an error, so the result is measured
(`motions.skeleton.figures`). The limits lie beyond what captured walks, runs, jumps, dances, falls, crawls and
acrobatics reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from motions.skeleton.figures import Figures, resting_speed

Check = Literal[
    "up_axis",
    "rotations",
    "sides",
    "bones",
    "pace",
    "speed",
    "jump",
    "frozen",
    "in_place",
    "root_motion",
    "glide",
    "height",
    "root_unit",
]
"""What a finding is about."""

_LEAST_FPS, _MOST_FPS = 5.0, 1000.0
_FEWEST_DEGREES = 2.02 * np.pi
"""If no rotation of a whole file exceeds this, its numbers are radians."""
_TURNED, _FEET_TURNED = -0.3, -0.5
"""Mean cosines with the forward direction below which knees and feet point backwards. In a file without toes the end of
a foot can be right below the ankle, and says nothing."""
_LEAST_BEND_M = 0.01
"""A knee that is nearly straight has no direction."""
_TORN = 0.15
"""A bone that changes by this fraction of its length is none."""
_PROPORTIONS = {
    "hips": (0.04, 0.6, "legs"),
    "shoulders": (0.15, 1.1, "legs"),
    "arms": (0.35, 1.5, "legs"),
    "feet": (0.0, 0.6, "legs"),
    "torso": (0.3, 1.3, "legs"),
    "forearms": (0.4, 2.5, "upper arms"),
    # As long as the upper arm is what begins at the shoulder and ends at the elbow.
    "collars": (0.0, 0.85, "upper arms"),
    "shins": (0.4, 2.5, "thighs"),
}
"""Least and most of each part as a multiple of another: beyond people of any age, and beyond most drawn figures."""
_MOST_SPEED = 12.0
"""Metres per second: beyond the fastest sprinter."""
_MOST_HEIGHT = 1.5
_SLOW, _VERY_SLOW = 0.011, 0.02
"""Step length (m) divided by cadence (steps a minute). People keep it near 0.006 at any speed they choose; slow motion
multiplies it."""
_SHORT_STEP, _SHORTEST_STEP = 0.21, 0.17
"""Seconds a step; sprinters need 0.21."""
_HURRIED_STEP, _LONG_STEP_M = 0.36, 0.45
"""Who takes longer steps in a shorter time runs, and is in the air between them."""
_MOON_GRAVITY, _LEAST_GRAVITY, _MOST_GRAVITY = 1.2, 4.0, 25.0
_IN_PLACE = 0.2
_WALKING = 0.4
"""The pelvis stays behind where steps that would carry it at `_WALKING` m/s or more move it at less than this share."""
_LEAST_CARRIED, _MOST_CARRIED = 0.7, 1.4
"""The pelvis of people who walk and run moves 0.95 to 1.15 times as fast as the standing foot carries it."""
_GLIDING = 0.25
_UNIT_RATIOS = (1000.0, 100.0, 39.37, 10.0, 2.54, 1 / 2.54, 0.1, 1 / 39.37, 0.01, 0.001)
_RATIO_TOLERANCE = 0.2
_SLIDING = 0.15
"""Speed, m/s, from which feet that should stand count as sliding."""
_LESS_SLIDING = 0.75
"""The lowest point of the feet must slow down to this fraction in the other unit."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that figures say against a recording, in words with the figure."""

    check: Check
    refuses: bool
    """Whether the file is refused; otherwise it is taken with a warning."""
    text: str


def findings(figures: Figures) -> tuple[Finding, ...]:
    """What the figures say against a recording, the worst first; nothing for a plausible one."""
    return tuple(sorted(_findings(figures), key=lambda finding: not finding.refuses))


def frame_rate_fault(frame_time: float) -> str | None:
    """What is wrong with a file's seconds per frame, and which frame rates its number could mean; None if nothing."""
    fps = 1.0 / frame_time
    if _LEAST_FPS <= fps <= _MOST_FPS:
        return None
    meant = {"milliseconds": 1000.0 / frame_time, "frames per second": frame_time, "microseconds": 1e6 / frame_time}
    likely = [f"{rate:.4g} if it is in {unit}" for unit, rate in meant.items() if 10.0 <= rate <= 500.0]
    hint = f" (it would be {', or '.join(likely)})" if likely else ""
    return (
        f"'Frame Time: {frame_time:g}' is {fps:.3g} frames per second, which no recording has{hint}; --fps gives the "
        "true rate"
    )


def root_unit_misfit(joints: np.ndarray) -> tuple[float, str] | None:
    """How many times larger the root's unit is than the bones', and the figures; None where it is the same.

    Two things must say so together: the height of the pelvis above the file's origin is to that above its feet as one
    unit to another, and in the other unit the feet stand where they slid.

    Args:
        joints: [F, 22, 3] upright, in metres by the lengths of the bones.
    """
    pelvis = joints[:, 0]
    above_origin = abs(float(np.median(pelvis[:, 1])))
    above_feet = float(np.median(pelvis[:, 1] - joints[..., 1].min(axis=1)))
    ratio = next((r for r in _UNIT_RATIOS if abs(above_feet - r * above_origin) <= _RATIO_TOLERANCE * above_feet), None)
    if ratio is None:
        return None
    slides = resting_speed(joints), resting_speed(joints + joints[:, :1] * (ratio - 1.0))
    if slides[0] < _SLIDING or slides[1] > _LESS_SLIDING * slides[0]:
        return None
    text = (
        f"the root's translation is taken in a unit {ratio:g} times that of the bones: the pelvis is "
        f"{above_origin:.3g} m above the origin and {above_feet:.3g} m above the feet, which would move at "
        f"{slides[0]:.3g} m/s where they stand, and so move at {slides[1]:.3g} m/s"
    )
    return ratio, text


def _findings(figures: Figures) -> Iterator[Finding]:
    f = figures
    if f.rotation_degrees <= _FEWEST_DEGREES:
        yield Finding(
            "rotations",
            True,
            f"no rotation exceeds {f.rotation_degrees:.2f}, so the rotations are in radians (--rotation_unit radians) "
            "or nobody moves (--rotation_unit degrees)",
        )
    yield from _side_findings(f)
    if f.torn_share > _TORN:
        yield Finding(
            "bones",
            True,
            f"the bone {f.torn_bone} changes its length by {f.torn_share:.0%}: its ends are no joints of one body "
            "(--mapping, --root)",
        )
    for part, (least, most, other) in _PROPORTIONS.items():
        if not least <= f.proportions[part] <= most:
            yield Finding(
                "bones",
                False,
                f"the {part} measure {f.proportions[part]:.2f} times the {other}, a person's {least:g} to {most:g} "
                "times: is a joint mapped wrongly (--mapping)?",
            )
    yield from _time_findings(f)
    if f.frozen:
        yield Finding("frozen", False, "no joint ever moves: every frame holds the same pose")
    elif f.still:
        yield Finding("in_place", False, "the pelvis never moves: the root's translation is missing")
    elif f.gait and f.gait.speed_mps >= _WALKING and f.speed_mps < _IN_PLACE * f.gait.speed_mps:
        yield Finding(
            "in_place",
            False,
            f"walks on the spot: its steps would carry it at {f.gait.speed_mps:.2f} m/s, the pelvis moves at "
            f"{f.speed_mps:.2f} m/s; is the root's translation missing or in another unit?",
        )
    elif f.gait and f.gait.speed_mps >= _WALKING and (fault := _root_fault(f)):
        yield Finding("root_motion", False, f"{fault} (feet slide {f.slide_mps:.2f} m/s)")
    if f.upright and f.speed_mps > _WALKING and f.stride_mps < _GLIDING * f.speed_mps:
        yield Finding(
            "glide",
            False,
            f"glides: the pelvis moves at {f.speed_mps:.2f} m/s, the feet at {f.stride_mps:.2f} m/s relative to it",
        )
    if f.pelvis_height_m > _MOST_HEIGHT:
        yield Finding("height", False, f"the pelvis is {f.pelvis_height_m:.2f} m above the lowest point: is it up?")


def _root_fault(f: Figures) -> str | None:
    """What is wrong with the root's translation of a body that makes steps, if its feet say so."""
    if f.ground_axes is not None:
        return (
            f"the pelvis goes where the steps lead only if the two axes of the ground are {f.ground_axes}: are the "
            "axes of the root's translation others than those of the bones?"
        )
    if f.carried is not None and not _LEAST_CARRIED <= f.carried <= _MOST_CARRIED:
        return (
            f"the pelvis moves {f.carried:.2f} times as fast as its standing feet carry it: is the root's translation "
            "scaled against the bones?"
        )
    return None


def _side_findings(f: Figures) -> Iterator[Finding]:
    signs = []
    if f.feet < _FEET_TURNED:
        signs.append(f"the feet point backwards (cosine {f.feet:+.2f})")
    if f.knee_bend_m > _LEAST_BEND_M and f.knees < _TURNED:
        elbows = f", elbows {f.elbows:+.2f}" if f.elbows else ""
        signs.append(f"the knees bend backwards (cosine {f.knees:+.2f}{elbows})")
    if signs:
        yield Finding(
            "sides",
            True,
            f"{' and '.join(signs)}, so left and right are exchanged: the file's axes are left-handed (--negate_x "
            "true) or the joint names are (--mapping)",
        )
    if f.shoulders_to_hips < _TURNED:
        yield Finding(
            "sides",
            True,
            f"left and right shoulder are exchanged against left and right hip (cosine {f.shoulders_to_hips:+.2f}): "
            "--mapping names them",
        )


def _time_findings(f: Figures) -> Iterator[Finding]:
    if f.top_speed_mps > _MOST_SPEED and not f.jump_m:
        yield Finding(
            "speed",
            True,
            f"the pelvis reaches {f.top_speed_mps:.3g} m/s, faster than anybody: the frame rate ({f.source_fps:.4g}) "
            "or the unit is wrong (--fps, --scale)",
        )
    if f.jump_m:
        yield Finding(
            "jump",
            f.top_speed_mps > _MOST_SPEED,
            f"jumps by {f.jump_m:.2f} m at {f.jump_s:.2f} s within one frame (pelvis {f.top_speed_mps:.3g} m/s): two "
            "takes in one file? start and end in the captions cut it",
        )
    if f.gravity is not None and not _LEAST_GRAVITY <= f.gravity <= _MOST_GRAVITY:
        times = np.sqrt(9.81 / f.gravity)
        yield Finding(
            "pace",
            f.gravity < _MOON_GRAVITY,
            f"in the air it falls at {f.gravity:.2g} m/s^2, as if at {1.0 / times:.2g} times the true speed: is the "
            f"frame rate ({f.source_fps:.4g}) right? --fps gives another",
        )
    if f.gait is None:
        return
    cadence = f"steps of {f.gait.step_m:.2f} m take {f.gait.step_s:.2f} s each at {f.source_fps:.4g} fps"
    if f.gait.walk_ratio > _SLOW:
        times = f.gait.walk_ratio / 0.0065
        yield Finding(
            "pace",
            f.gait.walk_ratio > _VERY_SLOW,
            f"{cadence}, about {times:.0f} times slower than people walk: is the frame rate right? --fps gives another",
        )
    elif not f.flies and f.gait.step_s < _HURRIED_STEP and f.gait.step_m > _LONG_STEP_M:
        yield Finding(
            "pace",
            False,
            f"{cadence} with a foot always on the ground, as if people hurried: is the frame rate right? --fps gives "
            "another",
        )
    elif f.gait.step_s < _SHORT_STEP:
        yield Finding(
            "pace",
            f.gait.step_s < _SHORTEST_STEP,
            f"{cadence}, faster than a sprinter's: is the frame rate right? --fps gives another",
        )
