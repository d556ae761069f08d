"""Whether a converted recording can be a human motion: figures of the outcome, and what they say against it.

A file whose units, axes, sides or times were misunderstood converts without an error, so the result is measured. All
functions are pure and work on global joints [F, 22, 3] of HumanML3D's skeleton, in metres, y up, at 20 frames per
second. The limits lie beyond what captured walks, runs, jumps, dances, falls, crawls and acrobatics reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from motions.skeleton.skeletons import HUMANML3D

Check = Literal[
    "up_axis", "rotations", "sides", "bones", "pace", "speed", "jump", "in_place", "glide", "height", "root_unit"
]
"""What a finding is about."""

_FPS = HUMANML3D.fps
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
_MOST_SPEED = 12.0
"""Metres per second: beyond the fastest sprinter."""
_MOST_HEIGHT = 1.5
_STEP_M = 0.12
"""Least distance of the ankles along the heading that makes a step, metres."""
_SLOW, _VERY_SLOW = 0.011, 0.02
"""Step length (m) divided by cadence (steps a minute). People keep it near 0.006 at any speed they choose; slow motion
multiplies it."""
_SHORT_STEP, _SHORTEST_STEP = 0.21, 0.17
"""Seconds a step; sprinters need 0.21."""
_HURRIED_STEP, _LONG_STEP_M = 0.36, 0.45
"""Who takes longer steps in a shorter time runs, and is in the air between them."""
_AIR_M, _FEWEST_AIR_FRAMES, _BALLISTIC_M = 0.08, 5, 0.02
"""In the air nothing is within this height above the floor, for so many frames, and the flight is a parabola within
this deviation (metres)."""
_MOON_GRAVITY, _LEAST_GRAVITY, _MOST_GRAVITY = 1.2, 4.0, 25.0
_STILL_M = 1e-6
_IN_PLACE = 0.2
_WALKING = 0.4
"""The pelvis stays behind where steps that would carry it at `_WALKING` m/s or more move it at less than this share."""
_GLIDING = 0.25
_UNIT_RATIOS = (1000.0, 100.0, 39.37, 10.0, 2.54, 1 / 2.54, 0.1, 1 / 39.37, 0.01, 0.001)
_RATIO_TOLERANCE = 0.2
_SLIDING = 0.15
"""Speed, m/s, from which feet that should stand count as sliding."""
_LESS_SLIDING = 0.75
"""The lowest point of the feet must slow down to this fraction in the other unit."""
_FEET = [HUMANML3D.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("ankle", "foot")]


@dataclass(frozen=True, slots=True)
class Gait:
    """Steps of an upright body, measured by how far one ankle is before the other."""

    step_s: float
    """Median time of a step, seconds."""
    step_m: float
    """Median distance of the ankles at the ends of a step, metres."""

    @property
    def speed_mps(self) -> float:
        """Speed at which such steps carry a body whose feet do not slide."""
        return self.step_m / self.step_s

    @property
    def walk_ratio(self) -> float:
        """Step length divided by cadence, metres a step a minute."""
        return self.step_m * self.step_s / 60.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one recording."""

    seconds: float
    source_fps: float
    pelvis_height_m: float
    """Median height of the pelvis above the floor, which is under the lowest joint."""
    path_m: float
    """Length of the pelvis' path over the ground."""
    top_speed_mps: float
    """Highest speed of the pelvis."""
    slide_mps: float
    """Mean speed over the ground of the lowest point of the feet."""
    stride_mps: float
    """Mean speed over the ground of the lowest point of the feet, relative to the pelvis."""
    knees: float
    """Mean cosine between the way the knees bend and the body's forward direction, weighted by the bend."""
    knee_bend_m: float
    """Mean distance of the knees from the lines between hips and ankles."""
    elbows: float
    """As `knees`, for elbows of hanging arms and the backward direction; 0 where no arm hangs."""
    feet: float
    """Mean cosine between feet (ankle to toe) and the forward direction."""
    shoulders_to_hips: float
    """Median cosine between the line through the shoulders and that through the hips."""
    hips_m: float
    shoulders_m: float
    """Widths: distances between left and right joint."""
    torn_bone: str
    torn_share: float
    """The bone that changes its length most, and by which fraction of it."""
    jump_m: float
    jump_s: float
    """Largest step of all joints (mean distance) from one frame to the next that neither neighbour comes near, and
    when; 0 without one."""
    upright: bool
    """Whether the spine is within 45 degrees of the vertical most of the time."""
    rotation_degrees: float
    """Largest absolute number in the file's rotation channels."""
    still: bool
    """Whether the pelvis never moves at all."""
    flies: bool
    """Whether there are frames in which nothing is near the floor."""
    gravity: float | None
    """Acceleration downwards while the body is in the air, m/s^2; None if it never is."""
    gait: Gait | None

    @property
    def speed_mps(self) -> float:
        """Mean speed of the pelvis over the ground."""
        return self.path_m / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        steps = f", steps of {self.gait.step_m:.2f} m in {self.gait.step_s:.2f} s" if self.gait else ""
        return (
            f"{self.seconds:.2f} s from {self.source_fps:.4g} fps, pelvis {self.pelvis_height_m:.2f} m high, path "
            f"{self.path_m:.2f} m, {self.speed_mps:.2f} m/s (top {self.top_speed_mps:.1f}), feet slide "
            f"{self.slide_mps:.2f} m/s{steps}, knees {self.knees:+.2f}, elbows {self.elbows:+.2f}, feet "
            f"{self.feet:+.2f}, hips {self.hips_m:.2f} m, shoulders {self.shoulders_m:.2f} m, rotations to "
            f"{self.rotation_degrees:.0f}"
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that figures say against a recording, in words with the figure."""

    check: Check
    refuses: bool
    """Whether the file is refused; otherwise it is taken with a warning."""
    text: str


def measure(joints: np.ndarray, *, source_fps: float, rotation_degrees: float, start_s: float = 0.0) -> Figures:
    """Figures of joints [F, 22, 3], F at least 2.

    Args:
        source_fps: frames per second of the file.
        rotation_degrees: largest absolute number in its rotation channels.
        start_s: time of the first frame in the file, for `jump_s`.
    """
    pelvis = joints[:, 0]
    ground_steps = _ground(np.diff(pelvis, axis=0))
    lowest = joints[..., 1].min(axis=1)
    height = float(np.median(pelvis[:, 1]) - np.quantile(lowest, 0.05))
    slide, stride = _foot_speeds(joints)
    knees, knee_bend = _knees(joints)
    bone, torn = _torn_bone(joints)
    jump, frame = _jump(joints)
    spine = _unit(joints[:, HUMANML3D.index("neck")] - pelvis)
    hips, shoulders = (_across(joints, part) for part in ("hip", "shoulder"))
    upright = bool(np.median(spine[:, 1]) > np.sqrt(0.5))
    return Figures(
        seconds=(len(joints) - 1) / _FPS,
        source_fps=source_fps,
        pelvis_height_m=height,
        path_m=float(ground_steps.sum()),
        top_speed_mps=float(np.linalg.norm(np.diff(pelvis, axis=0), axis=-1).max() * _FPS),
        slide_mps=slide,
        stride_mps=stride,
        knees=knees,
        knee_bend_m=knee_bend,
        elbows=_elbows(joints),
        feet=_feet(joints),
        shoulders_to_hips=float(np.median((_unit(hips) * _unit(shoulders)).sum(-1))),
        hips_m=float(np.median(np.linalg.norm(hips, axis=-1))),
        shoulders_m=float(np.median(np.linalg.norm(shoulders, axis=-1))),
        torn_bone=bone,
        torn_share=torn,
        jump_m=jump,
        jump_s=start_s + frame / _FPS,
        upright=upright,
        rotation_degrees=rotation_degrees,
        still=float(np.ptp(pelvis, axis=0).max()) < _STILL_M,
        flies=bool(_in_air(joints).any()),
        gravity=_gravity(joints),
        gait=_gait(joints) if upright else None,
    )


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
    slides = _resting_speed(joints), _resting_speed(joints + joints[:, :1] * (ratio - 1.0))
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
    yield from _time_findings(f)
    if f.still:
        yield Finding("in_place", False, "the pelvis never moves: the root's translation is missing")
    elif f.gait and f.gait.speed_mps >= _WALKING and f.speed_mps < _IN_PLACE * f.gait.speed_mps:
        yield Finding(
            "in_place",
            False,
            f"walks on the spot: its steps would carry it at {f.gait.speed_mps:.2f} m/s, the pelvis moves at "
            f"{f.speed_mps:.2f} m/s; is the root's translation missing or in another unit?",
        )
    if f.upright and f.speed_mps > _WALKING and f.stride_mps < _GLIDING * f.speed_mps:
        yield Finding(
            "glide",
            False,
            f"glides: the pelvis moves at {f.speed_mps:.2f} m/s, the feet at {f.stride_mps:.2f} m/s relative to it",
        )
    if f.pelvis_height_m > _MOST_HEIGHT:
        yield Finding("height", False, f"the pelvis is {f.pelvis_height_m:.2f} m above the lowest point: is it up?")


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


def _foot_speeds(joints: np.ndarray) -> tuple[float, float]:
    """Mean speed over the ground of the lowest point of the feet, as it is and relative to the pelvis."""
    feet = joints[:, _FEET]
    lowest = feet[..., 1].argmin(axis=1)[:-1, None, None]
    steps = np.take_along_axis(np.diff(feet, axis=0), lowest, axis=1)[:, 0]
    relative = steps - np.diff(joints[:, 0], axis=0)
    return float(_ground(steps).mean() * _FPS), float(_ground(relative).mean() * _FPS)


def _resting_speed(joints: np.ndarray) -> float:
    """Median speed, in space, of the lowest point of the feet."""
    feet = joints[:, _FEET]
    lowest = feet[..., 1].argmin(axis=1)[:-1, None, None]
    steps = np.take_along_axis(np.diff(feet, axis=0), lowest, axis=1)[:, 0]
    return float(np.median(np.linalg.norm(steps, axis=-1)) * _FPS)


def _knees(joints: np.ndarray) -> tuple[float, float]:
    """Mean cosine of the knees' bend with the forward direction of their leg, and its mean size in metres."""
    bends, forwards = [], []
    across = _across(joints, "hip")
    for side in ("left", "right"):
        bend, upward = _bend(joints, f"{side}_hip", f"{side}_knee", f"{side}_ankle")
        bends.append(bend)
        forwards.append(np.cross(upward, -across))
    bend = np.concatenate(bends)
    return _mean_cosine(bend, np.concatenate(forwards)), float(np.linalg.norm(bend, axis=-1).mean())


def _elbows(joints: np.ndarray) -> float:
    """Mean cosine of the elbows' bend with the backward direction, for frames in which the upper arm hangs."""
    spine = _unit(joints[:, HUMANML3D.index("neck")] - joints[:, 0])
    backward = -np.cross(spine, -_across(joints, "shoulder"))
    bends, backwards = [], []
    for side in ("left", "right"):
        bend, _ = _bend(joints, f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")
        arm = _unit(joints[:, HUMANML3D.index(f"{side}_elbow")] - joints[:, HUMANML3D.index(f"{side}_shoulder")])
        hangs = (arm * spine).sum(-1) < -0.5
        bends.append(bend[hangs])
        backwards.append(backward[hangs])
    return _mean_cosine(np.concatenate(bends), np.concatenate(backwards))


def _feet(joints: np.ndarray) -> float:
    """Mean cosine of the feet with the forward direction of their leg, weighted by the feet's horizontal length."""
    across = _across(joints, "hip")
    feet, forwards = [], []
    for side in ("left", "right"):
        ankle = joints[:, HUMANML3D.index(f"{side}_ankle")]
        feet.append(joints[:, HUMANML3D.index(f"{side}_foot")] - ankle)
        forwards.append(np.cross(joints[:, HUMANML3D.index(f"{side}_knee")] - ankle, -across))
    return _mean_cosine(np.concatenate(feet), np.concatenate(forwards))


def _torn_bone(joints: np.ndarray) -> tuple[str, float]:
    """The bone whose length changes most, and by which fraction of it."""
    worst, share = "", 0.0
    for child, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            lengths = np.linalg.norm(joints[:, child] - joints[:, parent], axis=-1)
            change = float(np.ptp(lengths) / max(float(lengths.mean()), 0.02))
            if change > share:
                worst, share = f"{HUMANML3D.joint_names[parent]} to {HUMANML3D.joint_names[child]}", change
    return worst, share


def _jump(joints: np.ndarray) -> tuple[float, int]:
    """Mean distance that all joints move in the one frame that stands out of its neighbours, and its number."""
    moved = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(axis=1)
    padded = np.concatenate([moved[1:2], moved, moved[-2:-1]])
    around = np.maximum(padded[:-2], padded[2:])
    alone = np.flatnonzero((moved > 0.1) & (moved > 4.0 * around))
    if not len(alone):
        return 0.0, 0
    frame = int(alone[moved[alone].argmax()])
    return float(moved[frame]), frame


def _gait(joints: np.ndarray) -> Gait | None:
    """The steps of a body: the ankles change places along its heading at least three times."""
    forward = np.cross([0.0, 1.0, 0.0], -_across(joints, "hip"))
    ankles = joints[:, HUMANML3D.index("left_ankle")] - joints[:, HUMANML3D.index("right_ankle")]
    ahead = (ankles * _unit(forward * [1.0, 0.0, 1.0])).sum(-1)
    ends: list[tuple[int, float]] = []
    for frame, distance in enumerate(ahead):
        if abs(distance) < _STEP_M:
            continue
        if not ends or np.sign(distance) != np.sign(ends[-1][1]):
            ends.append((frame, float(distance)))
        elif abs(distance) > abs(ends[-1][1]):
            ends[-1] = (frame, float(distance))
    if len(ends) < 4:
        return None
    frames, distances = zip(*ends, strict=True)
    # The first and the last one may be cut off by the ends of the recording.
    times = np.diff(frames)[1:-1] if len(ends) > 4 else np.diff(frames)
    return Gait(float(np.median(times)) / _FPS, float(np.median(np.abs(distances[1:-1]))))


def _in_air(joints: np.ndarray) -> np.ndarray:
    """Frames [F] in which nothing is near the floor."""
    lowest = joints[..., 1].min(axis=1)
    return lowest > np.quantile(lowest, 0.05) + _AIR_M


def _gravity(joints: np.ndarray) -> float | None:
    """Median downward acceleration of the body's middle over the stretches in which nothing is near the floor."""
    middle, pelvis = joints[..., 1].mean(axis=1), joints[:, 0, 1]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], _in_air(joints).astype(np.int8), [0]]))).reshape(-1, 2)
    found = []
    for start, end in edges:
        time, height = np.arange(end - start) / _FPS, middle[start:end]
        if end - start < _FEWEST_AIR_FRAMES:
            continue
        bend, slope, level = np.polyfit(time, height, 2)
        left = height - np.polyval((bend, slope, level), time)
        rises = 0.0 < -slope / (2.0 * bend) < time[-1] if bend < 0.0 else False
        # The pelvis falls with the body; where it does not, limbs move and nobody is in the air.
        falls = 0.5 < np.polyfit(time, pelvis[start:end], 2)[0] / bend < 2.0
        if rises and falls and np.abs(left).max() < _BALLISTIC_M:
            found.append(-2.0 * float(bend))
    return float(np.median(found)) if found else None


def _bend(joints: np.ndarray, upper: str, middle: str, lower: str) -> tuple[np.ndarray, np.ndarray]:
    """From the line between the ends of a limb to its middle joint [F, 3], and the direction of the limb upwards."""
    top, joint, end = (joints[:, HUMANML3D.index(name)] for name in (upper, middle, lower))
    axis = _unit(top - end)
    arm = joint - top
    return arm - (arm * axis).sum(-1, keepdims=True) * axis, axis


def _across(joints: np.ndarray, part: str) -> np.ndarray:
    """From the right to the left joint [F, 3]."""
    return joints[:, HUMANML3D.index(f"left_{part}")] - joints[:, HUMANML3D.index(f"right_{part}")]


def _mean_cosine(vectors: np.ndarray, directions: np.ndarray) -> float:
    """Mean cosine of vectors [N, 3] with directions [N, 3], weighted by the vectors' lengths; 0 for none."""
    lengths = float(np.linalg.norm(vectors, axis=-1).sum())
    return float((vectors * _unit(directions)).sum() / lengths) if lengths > 1e-9 else 0.0


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _ground(steps: np.ndarray) -> np.ndarray:
    """Lengths [F] of steps [F, 3] over the ground."""
    return np.linalg.norm(steps[:, [0, 2]], axis=-1)
