"""Composite prompts and motions: two to five actions in sequence, "a person walks forward, then kicks".

Parts are chosen so that each can begin where the previous one ends (nobody starts walking while lying on the floor) and
the whole fits into the policy's frames. `join_motions` builds the motion of a composite prompt: each part continues at
the place and in the direction where the previous one ended; poses near a border are blended; then bone lengths, foot
contacts and all features are recomputed from the joints. (Feature vectors cannot simply be concatenated: HumanML3D
smooths the heading within a clip except in its first frame, so the parts would be rotated against each other.)
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from motions.base.errors import UserError
from motions.data.prompts import MAX_FRAMES, MIN_SEGMENT_FRAMES, Prompt, Segment
from motions.data.text_motion import TextMotion
from motions.humanoid.ground import plant_feet
from motions.skeleton.features import FeatureLayout, extract_features, recover_joints, recover_root
from motions.skeleton.skeletons import HUMANML3D, Skeleton

BLEND_FRAMES = 7
"""Frames on each side of a border over which the poses are blended."""
MAX_POSE_GAP_M = 0.35
"""Largest mean distance of the joints, in metres, at which one pose can be blended into another."""
MIN_PART_FRAMES = 16

_FLAT = np.array([1.0, 0.0, 1.0])

_SUBJECT = re.compile(
    r"^(?:(?:a|an|the|some)\s+)?(?:person|man|woman|human|figure|character|guy|girl|boy|someone|somebody|performer|dancer"
    r"|gymnast|acrobat|fighter|boxer|martial artist|ballet dancer|taekwondo fighter)\s+(?!is\b|lying\b|in\b|facing\b)",
    re.IGNORECASE,
)

_HAS_SUBJECT = re.compile(rf"{_SUBJECT.pattern}|(?:he|she|they|it|the|his|her|their|both|one)\b", re.IGNORECASE)
_NEXT_ACTION = re.compile(r"(?:[.;]|,?)\s+(?:and\s+)?(?:then|finally|afterwards|after that)\s+|[.;]\s+", re.IGNORECASE)


@dataclass(frozen=True, eq=False, slots=True)
class Composite:
    """A composite prompt and, for each of its segments, the motion of the same length that it was made from."""

    prompt: Prompt
    parts: tuple[TextMotion, ...]


def join_captions(captions: Sequence[str]) -> str:
    """One sentence for several actions; the subject is kept in the first caption only.

    Example:
        join_captions(["a person walks forward", "someone kicks", "a man jumps"])
        # "a person walks forward, then kicks, and finally jumps"
    """
    if not captions:
        raise ValueError("captions is empty: there is nothing to join")
    sentence = captions[0].strip().rstrip(".")
    for number, caption in enumerate(captions[1:], start=2):
        link = "and finally" if number == len(captions) and number > 2 else "then"
        sentence += f", {link} {_SUBJECT.sub('', caption.strip().rstrip('.'))}"
    return sentence


def merged_prompt(parts: Sequence[Prompt]) -> Prompt:
    """The prompt of a whole motion that is made in parts. Of several parts each action is said once, however
    many segments it has."""
    segments = tuple(segment for part in parts for segment in part.segments)
    texts = [segment.text for segment in segments]
    said = [text for place, text in enumerate(texts) if not place or text != texts[place - 1]]
    return Prompt(join_captions(said) if len(parts) > 1 else parts[0].text, segments)


def split_caption(text: str) -> list[str]:
    """The actions of a sentence that `join_captions` could have made, or of several sentences, each with the subject.

    Example:
        split_caption("a person walks forward, then kicks, and finally jumps")
        # ["a person walks forward", "a person kicks", "a person jumps"]
    """
    parts = [part for part in _NEXT_ACTION.split(text.strip().rstrip(".")) if part]
    subject = _SUBJECT.match(parts[0]) if parts else None
    if subject is None:
        return parts or [text]
    return [part if _HAS_SUBJECT.match(part) else f"{subject.group()}{part}" for part in parts]


def split_prompt(prompt: Prompt) -> Prompt:
    """A composite prompt of the actions of a single one, of equal lengths; unchanged where there is one action, or
    where a segment would be too short."""
    texts = split_caption(prompt.text)
    if len(prompt.segments) != 1 or prompt.num_frames < MIN_SEGMENT_FRAMES * len(texts):
        return prompt
    return Prompt(prompt.text, prompt.segments[0].divided(texts))


class NoCompositeError(UserError):
    """No composite of the wanted length or number of parts can be made of the motions."""


class Composer:
    """Draws composites from the motions of one split. Equal generators give equal composites.

    Raises NoCompositeError where `max_frames` is too short for two parts.
    """

    def __init__(self, items: Sequence[TextMotion], skeleton: Skeleton, max_frames: int = MAX_FRAMES) -> None:
        if not items:
            raise ValueError("items is empty: there is nothing to compose")
        if max_frames < 2 * MIN_PART_FRAMES:
            raise NoCompositeError(f"max_frames is {max_frames}; two parts need at least {2 * MIN_PART_FRAMES}")
        self.items = tuple(items)
        self.skeleton = skeleton
        self.max_frames = max_frames
        self._lengths = np.array([item.num_frames for item in self.items])
        _, self._sources = np.unique([item.source for item in self.items], return_inverse=True)
        self._starts = np.stack([_local_pose(item.features[0], skeleton) for item in self.items])
        self._ends = np.stack([_local_pose(item.features[-1], skeleton) for item in self.items])

    def draw(self, rng: np.random.Generator, num_segments: int | None = None) -> Composite:
        """One composite of `num_segments` parts (2 to 5; by default a random number, small ones more often).

        Neighbouring parts come from different recordings. If no parts with fitting lengths and poses are found, fewer
        are tried; remaining frames stay unused.

        Raises:
            NoCompositeError: no two parts fit together, or not `num_segments` of them.
        """
        if num_segments is None:
            num_segments = int(rng.choice([2, 3, 4, 5], p=[0.4, 0.3, 0.2, 0.1]))
            attempts = range(num_segments, 1, -1)
        elif 2 <= num_segments <= 5:
            attempts = (num_segments,)
        else:
            raise ValueError(f"num_segments is {num_segments}; legal: 2 to 5")
        for count in attempts:
            for _ in range(50):
                chain = self._chain(rng, count)
                if chain is not None:
                    return self._composite(chain, rng)
        raise NoCompositeError(
            f"no {attempts[-1]} of the {len(self.items)} motions fit together in {self.max_frames} frames"
        )

    def _chain(self, rng: np.random.Generator, count: int) -> list[int] | None:
        """Indices of parts that can follow each other, or None where this draw found no next part."""
        chain: list[int] = []
        room = self.max_frames
        for place in range(count):
            # Reserve twice the least length for every later part; otherwise long early parts would leave few that fit.
            later = count - place - 1
            fits = (self._lengths >= MIN_PART_FRAMES) & (self._lengths <= room - later * 2 * MIN_PART_FRAMES)
            if chain:
                gaps = np.linalg.norm(self._starts - self._ends[chain[-1]], axis=-1).mean(axis=-1)
                fits &= (gaps <= MAX_POSE_GAP_M) & (self._sources != self._sources[chain[-1]])
            candidates = np.flatnonzero(fits)
            if not len(candidates):
                return None
            # Draw a recording first, then one of its windows, so that recordings with many windows are not drawn more
            # often.
            source = rng.choice(np.unique(self._sources[candidates]))
            chain.append(int(rng.choice(candidates[self._sources[candidates] == source])))
            room -= int(self._lengths[chain[-1]])
        return chain

    def _composite(self, chain: Sequence[int], rng: np.random.Generator) -> Composite:
        parts = tuple(self.items[index] for index in chain)
        captions = [part.captions[int(rng.integers(len(part.captions)))] for part in parts]
        segments = tuple(Segment(text, part.num_frames) for text, part in zip(captions, parts, strict=True))
        return Composite(Prompt(join_captions(captions), segments), parts)


def compose_motions(composer: Composer, num_motions: int, rng: np.random.Generator) -> tuple[TextMotion, ...]:
    """Composite motions with their texts, for supervised training."""
    motions = []
    for number in range(num_motions):
        composite = composer.draw(rng)
        features = join_motions([part.features for part in composite.parts], composer.skeleton)
        name = "+".join(part.clip_id for part in composite.parts)
        motions.append(TextMotion(f"{number}:{name}", "composite", features, (composite.prompt.text,)))
    return tuple(motions)


def join_motions(parts: Sequence[np.ndarray], skeleton: Skeleton, *, blend_frames: int = BLEND_FRAMES) -> np.ndarray:
    """Features [sum of T_k, D] of motions [T_k, D] shown one after the other, float32.

    Up to `blend_frames` on either side of each border (at most half a part) are blended towards the pose at the border.
    The feet are planted again on HumanML3D's skeleton.

    Raises ValueError for no parts, a part of fewer than 4 frames, or a negative `blend_frames`.
    """
    if not parts or min(len(part) for part in parts) < MIN_SEGMENT_FRAMES or blend_frames < 0:
        raise ValueError(
            f"parts have {[len(part) for part in parts]} frames, blend_frames is {blend_frames}; expected at least one "
            f"part, each of {MIN_SEGMENT_FRAMES} or more frames, and no negative blend"
        )
    joints = _joints_with_next(parts[0], skeleton)
    root, bones = joints[:, 0], _directions(joints, skeleton)
    for part in parts[1:]:
        after = _joints_with_next(part, skeleton)
        turn = _facing(bones[-1], skeleton) - _facing(_directions(after, skeleton)[0], skeleton)
        after = _turned(after - after[0, 0] * _FLAT, turn) + root[-1] * _FLAT
        next_root, next_bones = after[:, 0], _directions(after, skeleton)
        # The last frame so far extrapolates the earlier part by one frame: the same moment as the first frame of
        # `after`.
        first, last = min(blend_frames, len(root) // 2), min(blend_frames, len(after) // 2)
        shares = np.concatenate([np.zeros(len(root) - 1 - first), 0.5 * _rise(first), -0.5 * _rise(last)[::-1]])
        shares = np.concatenate([shares, np.zeros(len(after) - last)])[:, None]
        drop = shares * (next_root[0] - root[-1])
        root = np.concatenate([root[:-1], next_root]) + drop
        bones = _bent(np.concatenate([bones[:-1], next_bones]), bones[-1], next_bones[0], shares)
    joints = _assembled(root, bones, skeleton)
    if skeleton is HUMANML3D:
        joints = plant_feet(joints, skeleton.fps)
    return extract_features(joints, skeleton, retarget=False, floor=0.0, continuous_heading=True)


def _joints_with_next(features: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Joints [T + 1, J, 3] float64 of features [T, D]; the last frame follows from the last velocities."""
    tensor = torch.from_numpy(features.astype(np.float64))
    joints = recover_joints(tensor, skeleton).numpy()
    half_angles, _ = recover_root(tensor)
    step = features[-1:, FeatureLayout(skeleton.num_joints).velocities].reshape(-1, 3)
    return np.concatenate([joints, joints[-1:] + _turned(step, -2.0 * float(half_angles[-1]))])


def _local_pose(frame: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Joints [J, 3] of one feature vector in metres, horizontally relative to the root, the body facing +z."""
    layout = FeatureLayout(skeleton.num_joints)
    root = np.array([[0.0, float(frame[layout.root_height.start]), 0.0]])
    joints = np.concatenate([root, frame[layout.positions].reshape(-1, 3)])
    facing = _facing(_directions(joints[None], skeleton)[0], skeleton)
    return _turned(joints, -facing) * skeleton.metres_per_unit


def _directions(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Unit vectors [F, J, 3] from each joint's parent to it; zero for the root."""
    bones = joints[:, 1:] - joints[:, list(skeleton.parents[1:])]
    bones = bones / np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-9)
    return np.concatenate([np.zeros_like(bones[:, :1]), bones], axis=1)


def _bent(bones: np.ndarray, start: np.ndarray, end: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Directions [F, J, 3] turned by a share [F, 1] of the shortest turns that take `start` to `end` [J, 3]."""
    axes = np.cross(start, end)
    sines = np.linalg.norm(axes, axis=-1)
    axes = axes / np.maximum(sines, 1e-9)[:, None]
    angles = (shares * np.arctan2(sines, (start * end).sum(-1)))[..., None]
    cos, sin = np.cos(angles), np.sin(angles)
    return bones * cos + np.cross(axes, bones) * sin + axes * (axes * bones).sum(-1, keepdims=True) * (1.0 - cos)


def _assembled(root: np.ndarray, bones: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Joints [F, J, 3] of the target skeleton's bone lengths from the root's path [F, 3] and directions [F, J, 3]."""
    lengths = np.linalg.norm(skeleton.target_offsets, axis=-1)
    joints = np.empty_like(bones)
    joints[:, 0] = root
    done = {0}
    for chain in skeleton.chains:
        for parent, joint in itertools.pairwise(chain):
            assert parent in done, "chains start at a joint of an earlier one"
            joints[:, joint] = joints[:, parent] + lengths[joint] * bones[:, joint]
            done.add(joint)
    return joints


def _facing(bones: np.ndarray, skeleton: Skeleton) -> float:
    """Angle about y from +z to where the body faces, by the directions [J, 3] of its bones: hips and shoulders."""
    right_hip, left_hip, right_shoulder, left_shoulder = _assembled(np.zeros((1, 3)), bones[None], skeleton)[
        0, list(skeleton.face_joints)
    ]
    across = (right_hip - left_hip) + (right_shoulder - left_shoulder)
    return math.atan2(across[2], -across[0])


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points [..., 3] turned about y; +z goes towards +x."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def _rise(count: int) -> np.ndarray:
    """Smooth weights [count] from nearly 0 to nearly 1."""
    share = (np.arange(count) + 1) / (count + 1)
    return share * share * (3.0 - 2.0 * share)
