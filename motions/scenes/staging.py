"""What a motion says about where things stand: what is kicked is where the foot is, and nobody walks through a table.

Motions have y up and begin facing +z, as HumanML3D's. In a scene z is up and the camera looks along +y: a motion is
turned by 90 degrees about x, so that an actor begins facing the camera, whose right is then the actor's left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.humanoid.retarget import leg_scale
from motions.scenes.layout import Anchor
from motions.scenes.objects import Body
from motions.scenes.scene import Scene

_FEET = ("kick", "stomp", "dribble")
_HANDS = (
    *("punch", "hit", "push", "pull", "touch", "reach", "pick_up", "put", "throw", "catch", "give", "lift", "lower"),
    *("carry", "hold", "drop", "open", "close", "knock", "wipe", "stir", "cut", "write", "type", "swing"),
)
_SEATS = ("sit", "lie", "kneel", "sleep", "balance", "ride")
_STRIKES = ("kick", "stomp", "punch", "hit", "knock", "throw")
_NUM_JOINTS = 22
_AHEAD_M = 0.35
"""Between an actor who goes to something and that thing."""
_SIDES_DEG = (0, 30, -30, 60, -60, 90, -90, 120, -120)
"""Directions, from where the actor goes, in which a thing that it goes to is looked for a place."""
_ROOM_M = 0.2
"""Around a thing that somebody goes to, for limbs and for what else is touched."""
_PATH_STEP_M = 0.15
_WEIGHTS = (10.0, 10.0, 1.0)
"""Of places by how certain they are: an actor's own, what is touched, what somebody goes to."""


@dataclass(frozen=True, eq=False)
class Track:
    """The motion of an actor in its scene."""

    actor: str
    joints: np.ndarray
    """[T, J, 3] in metres, z up, as the scene has it."""
    spans: tuple[tuple[int, int, int], ...]
    """Action, first frame and frame after the last one, of each segment."""
    start_frame: int = 0
    """Frame of the scene at which it begins."""


@dataclass(frozen=True, slots=True)
class Effectors:
    """Joints of a skeleton that act."""

    pelvis: int
    feet: tuple[int, ...]
    hands: tuple[int, ...]


HUMANML3D_EFFECTORS = Effectors(0, (10, 11), (20, 21))
"""Toes and wrists of HumanML3D's 22 joints."""


def to_scene(joints: np.ndarray) -> np.ndarray:
    """Joints [T, J, 3] with y up as the scene has them, with z up: a rotation, so that left stays left."""
    return np.stack([joints[..., 0], -joints[..., 2], joints[..., 1]], -1)


def read_fps(prompts: Path) -> float:
    """Frames per second of a file of prompts.

    Raises:
        UserError: the file was not written by `jobs.parse_scene`.
    """
    for record in _records(prompts):
        fps = record["metadata"].get("fps") if isinstance(record.get("metadata"), dict) else None
        if isinstance(fps, int | float) and fps > 0:
            return float(fps)
    raise UserError(f"{prompts} was not written by jobs.parse_scene: it does not say its fps")


def placed(track: Track, place: Sequence[float] | np.ndarray) -> Track:
    """The motion moved so that it begins with the pelvis at x and y."""
    offset = np.array([*place[:2], 0.0]) - track.joints[0, 0] * (1.0, 1.0, 0.0)
    return replace(track, joints=track.joints + offset)


def _records(prompts: Path) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in read_text(prompts).splitlines() if line.strip()]
    except (json.JSONDecodeError, OSError) as error:
        raise UserError(f"cannot read {prompts}: {error}") from error
    return [one for one in records if isinstance(one, dict)]


def _by_actor(prompts: Path) -> list[dict[str, Any]]:
    """Records of whole motions: the segments of later parts belong to the first one."""
    whole: list[dict[str, Any]] = []
    for record in _records(prompts):
        later, segments = record.get("part"), record.get("segments")
        if later and whole and whole[-1].get("actor") == record.get("actor") and isinstance(segments, list):
            whole[-1] = whole[-1] | {"segments": [*whole[-1]["segments"], *segments]}
        elif "metadata" not in record:
            whole.append(record)
    return whole


def read_tracks(prompts: Path, motions: Sequence[np.ndarray]) -> list[Track]:
    """The motions of a file of prompts, actor by actor, at the size of the simulated humanoid.

    Args:
        motions: joints [T, J, 3], y up, for each actor of the file; `jobs.generate` joins the parts of one.

    Raises:
        UserError: the file was not written by `jobs.parse_scene`, or there are not as many motions as actors, or a
            motion is shorter than its prompt.
    """
    records = _by_actor(prompts)
    if len(records) != len(motions):
        raise UserError(f"{prompts} has prompts of {len(records)} motions, and there are {len(motions)} motions")
    tracks: list[Track] = []
    for record, joints in zip(records, motions, strict=True):
        try:
            actor, segments = record["actor"], record["segments"]
            spans, frame = [], 0
            for segment in segments:
                spans += [(int(action), frame, frame + segment["num_frames"]) for action in segment["actions"]]
                frame += segment["num_frames"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{prompts} was not written by jobs.parse_scene: {error} is missing") from error
        if any(track.actor == actor for track in tracks):
            raise UserError(f"{prompts} has two motions of {actor!r}")
        if joints.ndim != 3 or joints.shape[1:] != (_NUM_JOINTS, 3):
            raise UserError(
                f"the motion of {actor!r} is {list(joints.shape)}; expected joints [T, {_NUM_JOINTS}, 3] of HumanML3D"
            )
        if len(joints) < frame:
            raise UserError(f"the motion of {actor!r} has {len(joints)} frames, its prompt {frame}")
        tracks.append(Track(actor, to_scene(joints) / leg_scale(), tuple(spans), int(record.get("start_frame", 0))))
    return tracks


def anchors_of(
    scene: Scene, tracks: Sequence[Track], bodies: Mapping[str, Body], effectors: Effectors = HUMANML3D_EFFECTORS
) -> list[Anchor]:
    """Where targets of actions stand, and actors at their first frame.

    What a hand or a foot acts on stands with its face at that hand or foot, in the moment in which it is fastest
    (kicks, punches) or reaches farthest; a seat is under the pelvis in the last frame of the action; what somebody goes
    to is a step ahead of the last frame. Of several actions on one target the first that touches it decides.

    Raises:
        UserError: the motions are of another scene, such as of one that was edited afterwards.
    """
    actors = dict(enumerate(action.actor for action in scene.actions))
    for track in tracks:
        if any(actors.get(index) != track.actor for index, _, _ in track.spans):
            raise UserError(
                f"the motion of {track.actor!r} is of another scene: its actions are not those of {track.actor!r} in "
                "this one; make prompts and motions of the scene as it is now"
            )
    found: dict[str, tuple[int, Anchor]] = {}
    for track in tracks:
        start = track.joints[0, effectors.pelvis, :2]
        found[track.actor] = (0, Anchor(track.actor, (float(start[0]), float(start[1]))))
    goals: list[tuple[Track, str, np.ndarray]] = []
    for track in tracks:
        for index, first, last in track.spans:
            action = scene.actions[index]
            if action.target is None or action.target in {one.actor for one in tracks}:
                continue
            joints = track.joints[first:last]
            point = _touch(action.verb, joints, np.array(bodies[action.target].size_m), effectors)
            if point is None:
                goals.append((track, action.target, joints))
            elif action.target not in found:
                found[action.target] = (1, Anchor(action.target, (float(point[0]), float(point[1])), _WEIGHTS[1]))
    for track, target, joints in goals:
        if target not in found:
            taken = [
                (np.array(anchor.point), np.array(bodies[anchor.name].size_m[:2]))
                for rank, anchor in found.values()
                if rank > 0
            ]
            point = _goal(joints, track.joints, np.array(bodies[target].size_m[:2]), taken, effectors)
            found[target] = (2, Anchor(target, (float(point[0]), float(point[1])), _WEIGHTS[2]))
    return [anchor for _, anchor in found.values()]


def path_of(tracks: Sequence[Track], effectors: Effectors = HUMANML3D_EFFECTORS) -> np.ndarray:
    """Places [K, 2] of the actors' pelvises, a step of about 15 cm apart."""
    places: list[np.ndarray] = []
    for track in tracks:
        for point in track.joints[:, effectors.pelvis, :2]:
            if not places or np.linalg.norm(point - places[-1]) >= _PATH_STEP_M:
                places.append(point)
    return np.array(places).reshape(-1, 2)


def _touch(verb: str, joints: np.ndarray, size: np.ndarray, effectors: Effectors) -> np.ndarray | None:
    """The centre [2] of what an action touches, from its joints [T, J, 3]; None for what somebody only goes to."""
    pelvis = joints[:, effectors.pelvis, :2]
    if verb in _SEATS:
        return pelvis[-1]
    if verb not in _FEET and verb not in _HANDS:
        return None
    chosen = joints[:, list(effectors.feet if verb in _FEET else effectors.hands), :2]
    reach = np.linalg.norm(chosen - pelvis[:, None], axis=-1)
    score = reach
    if verb in _STRIKES and len(joints) > 2:
        # The fastest moment on the way out, not back.
        score = np.gradient(reach, axis=0) + np.linalg.norm(np.gradient(chosen, axis=0), axis=-1)
    # What stands on the floor is met by a foot that is no higher than it is.
    low = joints[:, list(effectors.feet), 2] < size[2] if verb in _FEET else np.ones(reach.shape, dtype=np.bool_)
    score = np.where(low, score, -np.inf) if low.any() else score
    frame, which = np.unravel_index(int(score.argmax()), score.shape)
    point, ahead = chosen[frame, which], chosen[frame, which] - pelvis[frame]
    direction = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    return point + direction * _half_extent(size, direction)


def _goal(
    joints: np.ndarray,
    whole: np.ndarray,
    size: np.ndarray,
    taken: Sequence[tuple[np.ndarray, np.ndarray]],
    effectors: Effectors,
) -> np.ndarray:
    """The centre [2] of what an actor goes to: a step ahead, or to a side where it is not in the way.

    Args:
        joints: [T, J, 3] of the action.
        whole: [T, J, 3] of all that the actor does, which the thing leaves room for.
        size: [2] of the thing.
        taken: centres and sizes [2] of what is touched.
    """
    pelvis = joints[:, effectors.pelvis, :2]
    ahead = _heading(joints[-1], pelvis, effectors)
    way = whole[..., :2].reshape(-1, 2)
    best: tuple[float, np.ndarray] | None = None
    for degrees in _SIDES_DEG:
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        direction = np.array([cosine * ahead[0] - sine * ahead[1], sine * ahead[0] + cosine * ahead[1]])
        point = pelvis[-1] + direction * (_AHEAD_M + _half_extent(size, direction))
        inside = size / 2 + _ROOM_M - np.abs(way - point)
        depths = [float(inside.min(axis=1).max())]
        depths += [float((size / 2 + other / 2 + _ROOM_M - np.abs(point - place)).min()) for place, other in taken]
        deepest = max(depths)
        if deepest <= 0.0:
            return point
        if best is None or deepest < best[0]:
            best = (deepest, point)
    assert best is not None
    return best[1]


def _heading(pose: np.ndarray, pelvis: np.ndarray, effectors: Effectors) -> np.ndarray:
    """Unit vector [2] in which an actor went, else from the pelvis to the feet's toes."""
    way = pelvis[-1] - pelvis[0]
    if np.linalg.norm(way) < 0.1:
        way = pose[list(effectors.feet), :2].mean(0) - pelvis[-1]
    length = float(np.linalg.norm(way))
    return way / length if length > 1e-6 else np.array([0.0, -1.0])


def _half_extent(size: np.ndarray, direction: np.ndarray) -> float:
    """From the centre of a box to its face in a direction [2]."""
    return float(np.min(size[:2] / 2 / np.maximum(np.abs(direction), 1e-9)))
