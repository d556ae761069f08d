"""Builds the built-in text-motion dataset from the 15 clips of `pybullet_data`, without a download, in seconds.

Every clip is played at several speeds (cyclic clips repeatedly, with a blended seam), retargeted to HumanML3D's
skeleton, its feet planted on the floor, and cut into windows. Each window starts facing +z and has a mirrored copy,
with left and right swapped in its captions. The held-out windows of split "test" come from other speeds and start
between those of "train". The result is always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from motions.data.captions import CAPTION_GROUPS, load_captions
from motions.data.prompts import MAX_FRAMES
from motions.data.text_motion import TextMotion
from motions.humanoid.ground import floor_height, plant_feet
from motions.humanoid.mocap import CLIP_NAMES, MocapClip, load_clip
from motions.humanoid.retarget import retarget
from motions.skeleton.features import extract_features
from motions.skeleton.mirroring import mirror_caption, mirror_features
from motions.skeleton.skeletons import HUMANML3D

TRAIN_SPEEDS = (0.85, 0.95, 1.05, 1.2)
TEST_SPEEDS = (0.9, 1.0, 1.12)

_SEAM_S = 0.3
_STEADY_FRAMES = ((28, 44), (45, 79), (80, 120))
"""Ranges of window lengths, in frames, for steady clips: short (for composites of many parts), middle and long."""

Kind = Literal["steady", "event", "once"]
"""steady: a window may start anywhere; event: windows hold whole cycles from about their start; once: not cyclic."""


@dataclass(frozen=True, slots=True)
class _Plan:
    kind: Kind
    cycles: tuple[int, ...] = (1,)
    """Numbers of repetitions that a window of kind `event` may hold."""


_PLANS: dict[str, _Plan] = {
    "backflip": _Plan("event", (1, 2)),
    "cartwheel": _Plan("event", (1, 2)),
    "crawl": _Plan("steady"),
    "dance_a": _Plan("steady"),
    "dance_b": _Plan("steady"),
    "getup_facedown": _Plan("once"),
    "getup_faceup": _Plan("once"),
    "jump": _Plan("event", (1, 2, 3)),
    "kick": _Plan("once"),
    "punch": _Plan("once"),
    "roll": _Plan("event", (1, 2)),
    "run": _Plan("steady"),
    "spin": _Plan("event", (1,)),
    "spinkick": _Plan("event", (1, 2, 3)),
    "walk": _Plan("steady"),
}


def build_builtin(names: Sequence[str] = CLIP_NAMES) -> dict[str, tuple[TextMotion, ...]]:
    """The items of the splits "train", "judge" (the same windows as train, with the judge's captions) and "test".

    `names` chooses clips; the windows of a clip do not depend on the others.
    """
    captions = load_captions()
    splits: dict[str, list[TextMotion]] = {group: [] for group in CAPTION_GROUPS}
    for name in names:
        clip = load_clip(name)
        for held_out in (False, True):
            windows = _windows(clip, held_out)
            for group in ("test",) if held_out else ("train", "judge"):
                texts = captions[name].group(group)
                mirrored_texts = tuple(mirror_caption(text) for text in texts)
                for window, features in windows.items():
                    splits[group].append(TextMotion(window, name, features, texts))
                    mirrored = mirror_features(features, HUMANML3D)
                    splits[group].append(TextMotion(f"M{window}", name, mirrored, mirrored_texts))
    return {group: tuple(items) for group, items in splits.items()}


def play(clip: MocapClip, times: np.ndarray, floor: float) -> np.ndarray:
    """Joints [F, 22, 3] of a clip at `times` [F] seconds on HumanML3D's skeleton, feet planted on a floor at y = 0.

    The result counts as F frames at HumanML3D's 20 frames per second, so the spacing of `times` sets the playback
    speed; `floor` is the height returned by `clip_floor`.
    """
    joints = retarget(clip.pose(torch.from_numpy(times))).numpy()
    joints[..., 1] -= floor
    return plant_feet(joints, HUMANML3D.fps)


def clip_floor(clip: MocapClip) -> float:
    """Height of the floor under a clip played at its own speed, in metres on HumanML3D's skeleton."""
    times = torch.arange(0.0, clip.duration, 1.0 / HUMANML3D.fps, dtype=torch.float64)
    return floor_height(retarget(clip.pose(times)).numpy(), HUMANML3D.fps)


def _windows(clip: MocapClip, held_out: bool) -> dict[str, np.ndarray]:
    """Features of all windows of one clip and split, by id."""
    if clip.cyclic:
        clip = clip.with_blended_seam(min(_SEAM_S, clip.duration / 4))
    fps, floor = HUMANML3D.fps, clip_floor(clip)
    rng = np.random.default_rng([CLIP_NAMES.index(clip.name), int(held_out)])
    windows: dict[str, np.ndarray] = {}
    for speed in TEST_SPEEDS if held_out else TRAIN_SPEEDS:
        cycle = clip.duration / speed * fps
        ranges = _ranges(_PLANS[clip.name], cycle, held_out, rng)
        first = min(start for start, _ in ranges)
        last = max(start + length for start, length in ranges)
        joints = play(clip, np.arange(first, last + 1) * speed / fps, floor)
        for number, (start, length) in enumerate(ranges):
            piece = joints[start - first : start - first + length + 1]
            features = extract_features(piece, HUMANML3D, retarget=False, floor=0.0, continuous_heading=True)
            windows[f"{clip.name}-{speed:.2f}-{number}"] = features
    return windows


def _ranges(plan: _Plan, cycle: float, held_out: bool, rng: np.random.Generator) -> list[tuple[int, int]]:
    """First frame and length of the windows of a clip whose cycle (or whole length) is `cycle` frames."""
    ranges = []
    for number in range(len(_STEADY_FRAMES)):
        if plan.kind == "steady":
            # Held-out windows start half way between those of the training split.
            phase = (number + 0.5 * held_out + rng.uniform(0.0, 0.4)) / len(_STEADY_FRAMES)
            low, high = _STEADY_FRAMES[number]
            ranges.append((round(phase * cycle), int(rng.integers(low, high + 1))))
        elif plan.kind == "event":
            repeats = plan.cycles[number % len(plan.cycles)]
            start = round(rng.uniform(-0.06, 0.06) * cycle)
            ranges.append((start, min(round(repeats * cycle), MAX_FRAMES)))
        else:
            start = round(rng.uniform(0.0, 0.08) * cycle)
            end = int(cycle - rng.uniform(0.0, 0.06) * cycle) - 1
            ranges.append((start, end - start))
    return ranges
