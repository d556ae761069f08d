"""Figures of a human motion: how it stands, walks, bends its limbs and falls.

All functions are pure and work on global joints [F, 22, 3] of HumanML3D's skeleton, in metres, y up, at 20 frames per
second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from motions.skeleton.skeletons import HUMANML3D

_FPS = HUMANML3D.fps
_STEP_M = 0.12
"""Least distance of the ankles along the heading that makes a step, metres."""
_AIR_M, _FEWEST_AIR_FRAMES, _BALLISTIC_M = 0.08, 5, 0.02
"""In the air nothing is within this height above the floor, for so many frames, and the flight is a parabola within
this deviation (metres)."""
_STILL_M = 1e-6
_AGREES = 0.9
"""Correlation from which the pelvis goes where the standing foot carries it."""
_GROUND_AXES = {
    "exchanged": ((0.0, 1.0), (1.0, 0.0)),
    "exchanged and reversed": ((0.0, -1.0), (-1.0, 0.0)),
    "reversed": ((-1.0, 0.0), (0.0, -1.0)),
}
"""What may have happened to the two axes of the ground, as matrices."""
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
    carried: float | None
    """How many times as fast the pelvis moves over the ground as the standing foot would carry it; None where the two
    do not go the same way."""
    ground_axes: str | None
    """What has to be done to the axes of the ground so that they do: `exchanged`, `reversed` or both; None where that
    does not help, or nothing has to be."""
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
    proportions: dict[str, float]
    """Median length of each part (`hips`, `shoulders`, `arms`, `feet`, `torso`) as a multiple of the legs' length,
    `forearms` and `collars` (to the shoulder) as multiples of the upper arms', `shins` of the thighs'."""
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
    frozen: bool
    """Whether no joint ever moves."""
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
    carried, axes = _carried(joints)
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
        carried=carried,
        ground_axes=axes,
        knees=knees,
        knee_bend_m=knee_bend,
        elbows=_elbows(joints),
        feet=_feet(joints),
        shoulders_to_hips=float(np.median((_unit(hips) * _unit(shoulders)).sum(-1))),
        hips_m=float(np.median(np.linalg.norm(hips, axis=-1))),
        shoulders_m=float(np.median(np.linalg.norm(shoulders, axis=-1))),
        proportions=_proportions(joints),
        torn_bone=bone,
        torn_share=torn,
        jump_m=jump,
        jump_s=start_s + frame / _FPS,
        upright=upright,
        rotation_degrees=rotation_degrees,
        still=float(np.ptp(pelvis, axis=0).max()) < _STILL_M,
        frozen=float(np.ptp(joints, axis=0).max()) < _STILL_M,
        flies=bool(_in_air(joints).any()),
        gravity=_gravity(joints),
        gait=_gait(joints) if upright else None,
    )


def resting_speed(joints: np.ndarray) -> float:
    """Median speed, in space, of the lowest point of the feet."""
    return float(np.median(np.linalg.norm(_foot_steps(joints), axis=-1)) * _FPS)


def _foot_speeds(joints: np.ndarray) -> tuple[float, float]:
    """Mean speed over the ground of the lowest point of the feet, as it is and relative to the pelvis."""
    steps = _foot_steps(joints)
    relative = steps - np.diff(joints[:, 0], axis=0)
    return float(_ground(steps).mean() * _FPS), float(_ground(relative).mean() * _FPS)


def _foot_steps(joints: np.ndarray) -> np.ndarray:
    """How the lowest point of the feet moves from frame to frame, [F - 1, 3]."""
    feet = joints[:, _FEET]
    lowest = feet[..., 1].argmin(axis=1)[:-1, None, None]
    return np.take_along_axis(np.diff(feet, axis=0), lowest, axis=1)[:, 0]


def _carried(joints: np.ndarray) -> tuple[float | None, str | None]:
    """`carried` and `ground_axes`: the pelvis' steps over the ground against those of a body whose foot stands."""
    pelvis = np.diff(joints[:, 0], axis=0)
    stands = (pelvis - _foot_steps(joints))[:, [0, 2]]
    pelvis = pelvis[:, [0, 2]]
    size = float(np.linalg.norm(pelvis) * np.linalg.norm(stands))
    if size < _STILL_M**2:
        return None, None
    if (pelvis * stands).sum() >= _AGREES * size:
        return float((pelvis * stands).sum() / (stands * stands).sum()), None
    agree = (name for name, turn in _GROUND_AXES.items() if (pelvis @ np.array(turn) * stands).sum() >= _AGREES * size)
    return None, next(agree, None)


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


def _proportions(joints: np.ndarray) -> dict[str, float]:
    """Lengths of parts of the body as multiples of others; left and right are averaged."""

    def length(start: str, end: str) -> float:
        sides = [(side + start, side + end) for side in ("left_", "right_")] if start != "pelvis" else [(start, end)]
        ends = [(HUMANML3D.index(one), HUMANML3D.index(other)) for one, other in sides]
        return float(np.mean([np.median(np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)) for a, b in ends]))

    thigh, shin = length("hip", "knee"), length("knee", "ankle")
    upper, lower = length("shoulder", "elbow"), length("elbow", "wrist")
    widths = {
        f"{part}s": float(np.median(np.linalg.norm(_across(joints, part), axis=-1))) for part in ("hip", "shoulder")
    }
    parts = {**widths, "arms": upper + lower, "feet": length("ankle", "foot"), "torso": length("pelvis", "neck")}
    shares = {name: value / max(thigh + shin, 1e-6) for name, value in parts.items()}
    collar = length("collar", "shoulder")
    return {
        **shares,
        "forearms": lower / max(upper, 1e-6),
        "collars": collar / max(upper, 1e-6),
        "shins": shin / max(thigh, 1e-6),
    }


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
