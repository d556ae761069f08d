"""Where targets stand, from the motions of actors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motions.base.errors import UserError
from motions.humanoid.retarget import leg_scale
from motions.scenes.objects import ObjectIndex, load_objects
from motions.scenes.rules import parse_text
from motions.scenes.staging import Track, anchors_of, path_of, placed, read_fps, read_tracks, to_scene

RIGHT_TOE, RIGHT_WRIST = 11, 21


def walking_kicker(frames: int = 60) -> np.ndarray:
    """Joints [T, 22, 3], y up: walks 2 m along +z in 40 frames, then swings the right toes 0.8 m forward and back."""
    joints = np.zeros((frames, 22, 3))
    joints[..., 1] = 1.0
    joints[..., 2] = np.minimum(np.arange(frames) / 40, 1.0)[:, None] * 2.0
    joints[:, (10, RIGHT_TOE), 1] = 0.05
    swing = np.sin(np.linspace(0, np.pi, frames - 40)) ** 2
    joints[40:, RIGHT_TOE, 2] += 0.8 * swing
    return joints


def test_a_motion_is_turned_and_not_mirrored() -> None:
    axes = to_scene(np.eye(3)[None])[0]
    np.testing.assert_array_equal(axes, [[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert np.linalg.det(axes) == pytest.approx(1.0)


def test_what_is_kicked_stands_at_the_foot_and_what_is_walked_to_ahead() -> None:
    scene = parse_text("A man walks to the table, then kicks the ball.")
    bodies = ObjectIndex(load_objects()).bodies(scene)
    track = Track("man", to_scene(walking_kicker()), ((0, 0, 40), (1, 40, 60)))
    found = {anchor.name: np.array(anchor.point) for anchor in anchors_of(scene, [track], bodies)}
    assert set(found) == {"man", "table", "ball"}
    np.testing.assert_allclose(found["man"], (0.0, 0.0))
    # The kick needs the room ahead, so the table is at a side.
    assert abs(found["table"][0]) > 0.7 and abs(found["table"][1] - -1.95) < 0.4
    assert found["ball"][0] == pytest.approx(0.0, abs=1e-6)
    assert -2.0 - 0.8 - 0.11 < found["ball"][1] < -2.0 - 0.2 - 0.11, "at the toes on their way out, with its face"
    path = path_of([track])
    assert path[0].tolist() == [0.0, 0.0] and path[-1][1] == pytest.approx(-2.0, abs=0.15)
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).min() >= 0.15 - 1e-9


def test_what_is_walked_to_is_straight_ahead_where_nothing_else_needs_the_room() -> None:
    scene = parse_text("A man walks to the table.")
    track = Track("man", to_scene(walking_kicker()[:41]), ((0, 0, 41),))
    anchors = anchors_of(scene, [track], ObjectIndex(load_objects()).bodies(scene))
    found = {anchor.name: anchor.point for anchor in anchors}
    assert found["table"] == pytest.approx((0.0, -(2.0 + 0.35 + 0.4)))


def test_a_ball_is_met_where_the_foot_is_low() -> None:
    scene = parse_text("A man kicks the ball.")
    bodies = ObjectIndex(load_objects()).bodies(scene)
    low, high = walking_kicker()[40:], walking_kicker()[40:]
    # Fastest where it is higher than the ball, which it would miss.
    high[4:, RIGHT_TOE, 1] = 0.6
    found = [anchors_of(scene, [Track("man", to_scene(one), ((0, 0, 20),))], bodies)[1].point for one in (low, high)]
    assert found[1][1] > found[0][1], "nearer, where the foot is still low"


def test_motions_of_several_actors_are_moved_to_their_places() -> None:
    track = Track("man", to_scene(walking_kicker()), ((0, 0, 40),), 7)
    moved = placed(track, (1.0, 2.0, 0.9))
    np.testing.assert_allclose(moved.joints - track.joints, np.broadcast_to((1.0, 2.0, 0.0), track.joints.shape))
    assert moved.start_frame == 7


def test_a_seat_is_under_the_pelvis_and_touching_decides_over_walking() -> None:
    scene = parse_text("A woman walks to the chair and sits on it.")
    bodies = ObjectIndex(load_objects()).bodies(scene)
    track = Track("woman", to_scene(walking_kicker()), ((0, 0, 40), (1, 40, 60)))
    found = {anchor.name: anchor.point for anchor in anchors_of(scene, [track], bodies)}
    assert found["chair"] == pytest.approx((0.0, -2.0))


def test_tracks_are_those_of_the_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    line = {"text": "x", "actor": "man", "part": 0, "start_frame": 0}
    line["segments"] = [
        {"text": "x", "num_frames": 40, "actions": [0]},
        {"text": "y", "num_frames": 20, "actions": [1, 2]},
    ]
    path.write_text(f"{json.dumps({'metadata': {'fps': 20}})}\n{json.dumps(line)}\n")
    (track,) = read_tracks(path, [walking_kicker()])
    assert read_fps(path) == 20.0
    np.testing.assert_allclose(track.joints * leg_scale(), to_scene(walking_kicker()))
    assert track.actor == "man" and track.spans == ((0, 0, 40), (1, 40, 60), (2, 40, 60))
    later = line | {"part": 1, "segments": [{"text": "z", "num_frames": 30, "actions": [3]}]}
    path.write_text(f"{json.dumps(line)}\n{json.dumps(later)}\n")
    (track,) = read_tracks(path, [walking_kicker(90)])
    assert track.spans[-1] == (3, 60, 90), "a later part belongs to the same motion"
    for content, motions, message in [
        (line, [], "has prompts of 1 motions, and there are 0 motions"),
        (line, [walking_kicker(50)], "has 50 frames, its prompt 60"),
        ({"text": "x"}, [walking_kicker()], "was not written by jobs.parse_scene: 'actor' is missing"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            read_tracks(path, motions)
    path.write_text(f"{json.dumps(line)}\n{json.dumps(line)}\n")
    with pytest.raises(UserError, match="has two motions of 'man'"):
        read_tracks(path, [walking_kicker(), walking_kicker()])
    with pytest.raises(UserError, match="does not say its fps"):
        read_fps(path)
    with pytest.raises(UserError, match="cannot read"):
        read_tracks(tmp_path / "nowhere.jsonl", [])
