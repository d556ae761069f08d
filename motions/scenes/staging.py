"""What a motion says about where things stand: what is kicked is where the foot is, and nobody walks through a table.

Motions have y up and begin facing +z, as HumanML3D's. In a scene z is up and the camera looks along +y: a motion is
turned by 90 degrees about x, so that an actor begins facing the camera, whose right is then the actor's left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motions.base.errors import UserError
from motions.base.foreign_files import read_text
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
_AHEAD_M = 0.3
"""Between an actor who goes to something and that thing."""
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


def read_tracks(prompts: Path, motions: Sequence[np.ndarray]) -> list[Track]:
    """The motions of a file of prompts, actor by actor; an actor's parts must be one.

    Args:
        motions: joints [T, J, 3], y up, for each line of the file.

    Raises:
        UserError: the file was not written by `jobs.parse_scene`, or there are not as many motions as lines, or a
            motion is shorter than its prompt, or an actor's motion is in several parts.
    """
    try:
        records = [json.loads(line) for line in read_text(prompts).splitlines() if line.strip()]
    except (json.JSONDecodeError, OSError) as error:
        raise UserError(f"cannot read {prompts}: {error}") from error
    records = [one for one in records if isinstance(one, dict) and "metadata" not in one]
    if len(records) != len(motions):
        raise UserError(f"{prompts} has {len(records)} prompts, and there are {len(motions)} motions")
    tracks = []
    for record, joints in zip(records, motions, strict=True):
        try:
            actor, part, segments = record["actor"], record["part"], record["segments"]
            spans, frame = [], 0
            for segment in segments:
                spans += [(int(action), frame, frame + segment["num_frames"]) for action in segment["actions"]]
                frame += segment["num_frames"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{prompts} was not written by jobs.parse_scene: {error} is missing") from error
        if part or any(track.actor == actor for track in tracks):
            raise UserError(f"{prompts}: the motion of {actor!r} is in several parts; plan it without motions")
        if joints.ndim != 3 or joints.shape[1:] != (_NUM_JOINTS, 3):
            raise UserError(
                f"the motion of {actor!r} is {list(joints.shape)}; expected joints [T, {_NUM_JOINTS}, 3] of HumanML3D"
            )
        if len(joints) < frame:
            raise UserError(f"the motion of {actor!r} has {len(joints)} frames, its prompt {frame}")
        tracks.append(Track(actor, to_scene(joints), tuple(spans)))
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
    for track in tracks:
        for index, first, last in track.spans:
            action = scene.actions[index]
            if action.target is None or action.target in {one.actor for one in tracks}:
                continue
            rank, point = _touch(
                action.verb, track.joints[first:last], np.array(bodies[action.target].size_m), effectors
            )
            if action.target not in found or rank < found[action.target][0]:
                found[action.target] = (rank, Anchor(action.target, (float(point[0]), float(point[1])), _WEIGHTS[rank]))
    return [anchor for _, anchor in found.values()]


def path_of(tracks: Sequence[Track], effectors: Effectors = HUMANML3D_EFFECTORS) -> np.ndarray:
    """Places [K, 2] of the actors' pelvises, a step of about 15 cm apart."""
    places: list[np.ndarray] = []
    for track in tracks:
        for point in track.joints[:, effectors.pelvis, :2]:
            if not places or np.linalg.norm(point - places[-1]) >= _PATH_STEP_M:
                places.append(point)
    return np.array(places).reshape(-1, 2)


def _touch(verb: str, joints: np.ndarray, size: np.ndarray, effectors: Effectors) -> tuple[int, np.ndarray]:
    """How certain a target's place is (0 most), and its centre [2], from the joints [T, J, 3] of an action."""
    pelvis = joints[:, effectors.pelvis, :2]
    if verb in _SEATS:
        return 1, pelvis[-1]
    if verb in _FEET or verb in _HANDS:
        chosen = joints[:, list(effectors.feet if verb in _FEET else effectors.hands), :2]
        reach = np.linalg.norm(chosen - pelvis[:, None], axis=-1)
        score = reach
        if verb in _STRIKES and len(joints) > 2:
            # The fastest moment on the way out, not back.
            score = np.gradient(reach, axis=0) + np.linalg.norm(np.gradient(chosen, axis=0), axis=-1)
        frame, which = np.unravel_index(int(score.argmax()), score.shape)
        point, center = chosen[frame, which], pelvis[frame]
        ahead = point - center
    else:
        point = pelvis[-1]
        ahead = _heading(joints[-1], pelvis, effectors)
        point = point + ahead * _AHEAD_M
        direction = ahead
        return 2, point + direction * _half_extent(size, direction)
    direction = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    return 1, point + direction * _half_extent(size, direction)


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
