"""Flaws that motions of bad models have, made from good motions: what a critic learns to dislike.

    jittered            joints shake from frame to frame
    skating             the body glides over the floor, without its legs
    self_intersecting   a hand goes through the trunk
    floating            the body rises from the floor without a jump and hovers
    frozen              the motion stands still for a while, or for good

Every flaw is a pure function of joint positions, strength and random numbers. The same random numbers with a smaller
strength give less of the same flaw, and strength 0 none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from motions.skeleton.skeletons import Skeleton

Flaw = Callable[[np.ndarray, Skeleton, float, np.random.Generator], np.ndarray]

_JITTER_M = 0.04
_SKATE_MPS = 1.5
_RISE_M = 0.6
_UP = 1


def flawed(joints: np.ndarray, skeleton: Skeleton, flaw: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The motion with a flaw: joints [T, J, 3] in metres, y up, as a new array.

    Args:
        flaw: a name of `FLAWS`.
        strength: in 0..1.

    Raises:
        ValueError: an unknown flaw, or a strength outside 0..1.
    """
    if flaw not in FLAWS or not 0.0 <= strength <= 1.0:
        raise ValueError(f"flaw {flaw!r}, strength {strength}; legal are {', '.join(FLAWS)} and 0..1")
    return FLAWS[flaw](joints, skeleton, strength, rng).astype(joints.dtype)


def _jittered(joints: np.ndarray, skeleton: Skeleton, strength: float, rng: np.random.Generator) -> np.ndarray:
    return joints + strength * _JITTER_M * rng.standard_normal(joints.shape)


def _skating(joints: np.ndarray, skeleton: Skeleton, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The whole body moves along a wave of a random direction, up to 1.5 m/s beyond its own movement."""
    times = np.arange(len(joints)) / skeleton.fps
    heading, phase = rng.uniform(0.0, 2.0 * np.pi, 2)
    hertz = rng.uniform(0.1, 0.6)
    speed = strength * _SKATE_MPS * np.cos(2.0 * np.pi * hertz * times + phase)
    path = np.cumsum(speed) / skeleton.fps
    direction = np.array([np.cos(heading), 0.0, np.sin(heading)])
    return joints + (path - path[0])[:, None, None] * direction


def _self_intersecting(joints: np.ndarray, skeleton: Skeleton, strength: float, rng: np.random.Generator) -> np.ndarray:
    """From some frame on, a hand is as deep in the trunk as the strength says; the arm keeps its bones' lengths."""
    side = "left" if rng.random() < 0.5 else "right"
    names = ("pelvis", "neck", f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")
    pelvis, neck, shoulder, elbow, wrist = (joints[:, skeleton.index(name)] for name in names)
    height = rng.uniform(0.4, 0.8)
    target = pelvis + height * (neck - pelvis)
    share = strength * _onset(len(joints), rng, 0.3, skeleton.fps)[:, None]
    hand = (1.0 - share) * wrist + share * target
    bent, reached = _two_bones(shoulder, elbow, wrist, hand)
    result = joints.copy()
    # Without the flaw the arm is the given one, and not its reconstruction.
    result[:, skeleton.index(names[3])] = np.where(share > 0.0, bent, elbow)
    result[:, skeleton.index(names[4])] = np.where(share > 0.0, reached, wrist)
    return result


def _floating(joints: np.ndarray, skeleton: Skeleton, strength: float, rng: np.random.Generator) -> np.ndarray:
    rise = _onset(len(joints), rng, rng.uniform(0.3, 0.8), skeleton.fps)
    result = joints.copy()
    result[..., _UP] += (strength * _RISE_M * rise)[:, None]
    return result


def _frozen(joints: np.ndarray, skeleton: Skeleton, strength: float, rng: np.random.Generator) -> np.ndarray:
    """From some frame on the pose is held, for the strength's share of what is left, and the motion goes on from it."""
    start = int(rng.uniform(0.0, 0.4) * len(joints))
    held = round(strength * (len(joints) - start))
    frames = np.arange(len(joints))
    return joints[np.where(frames < start, frames, np.maximum(start, frames - held))]


def _onset(num_frames: int, rng: np.random.Generator, seconds: float, fps: float) -> np.ndarray:
    """A share [T] that rises from 0 to 1 within some seconds, from a random frame of the first half on."""
    start = rng.uniform(0.05, 0.5) * num_frames
    ramp = np.clip((np.arange(num_frames) - start) / max(seconds * fps, 1.0), 0.0, 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)


def _two_bones(
    first: np.ndarray, middle: np.ndarray, last: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and last joint [T, 3] of a limb that reaches for a target as far as its bones allow, bent to the side to
    which it was bent."""
    upper, lower = (np.linalg.norm(bone, axis=-1, keepdims=True) for bone in (middle - first, last - middle))
    way = target - first
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    along = way / np.maximum(distance, 1e-9)
    distance = np.clip(distance, np.abs(upper - lower) + 1e-6, upper + lower)
    forward = (upper**2 - lower**2 + distance**2) / (2.0 * distance)
    aside = (middle - first) - ((middle - first) * along).sum(-1, keepdims=True) * along
    aside = aside / np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-9)
    height = np.sqrt(np.maximum(upper**2 - forward**2, 0.0))
    return first + forward * along + height * aside, first + distance * along


FLAWS: Mapping[str, Flaw] = {
    "jittered": _jittered,
    "skating": _skating,
    "self_intersecting": _self_intersecting,
    "floating": _floating,
    "frozen": _frozen,
}
"""Each takes joints [T, J, 3], skeleton, strength and random numbers."""
