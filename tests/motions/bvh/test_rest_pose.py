"""Rest poses at either end of a file, of any length and heading, are no motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from motions.bvh.joints import map_joints
from motions.bvh.reader import Bvh, parse_bvh
from motions.bvh.rest_pose import MotionRange, has_motion, motion_range
from tests.toys.characters.mocap_files import Recording

WALK = Recording(seconds=1.0)


def range_of(recording: Recording) -> MotionRange:
    bvh = parse_bvh(recording.text(), "walk")
    return motion_range(bvh, map_joints(bvh))


@pytest.mark.parametrize("rest", ["t_pose", "hanging", "along_x"])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (7, 0), (0, 1), (0, 40), (45, 3)])
@pytest.mark.parametrize("heading", [0.0, 130.0])
def test_rest_poses_at_either_end_are_left_out(rest: str, before: int, after: int, heading: float) -> None:
    recording = replace(WALK, rest=rest, rest_before=before, rest_after=after, rest_heading=heading)
    assert range_of(recording) == MotionRange(before, before + recording.num_frames - 1)


def shown(values: np.ndarray, recording: Recording) -> Bvh:
    return replace(parse_bvh(recording.text(), "walk"), values=values)


def test_a_held_pose_of_any_kind_is_left_out_where_the_body_jumps_out_of_it() -> None:
    """A calibration pose that is not that of the OFFSETs."""
    values = parse_bvh(WALK.text(), "walk").values
    pose = parse_bvh(replace(WALK, clip="getup_faceup").text(), "lying").values[:1]
    bvh = shown(np.concatenate([pose.repeat(20, axis=0), values]), WALK)
    assert motion_range(bvh, map_joints(bvh)) == MotionRange(20, 20 + WALK.num_frames - 1)


def test_standing_still_is_motion() -> None:
    """Nobody jumps out of it, and arms hang."""
    values = parse_bvh(WALK.text(), "walk").values
    bvh = shown(np.concatenate([values[:1].repeat(20, axis=0), values, values[-1:].repeat(20, axis=0)]), WALK)
    assert motion_range(bvh, map_joints(bvh)) == MotionRange(0, bvh.num_frames - 1)


def test_a_t_pose_is_left_out_also_where_the_motion_begins_slowly() -> None:
    recording = replace(WALK, rest_before=10)
    values = parse_bvh(recording.text(), "walk").values
    blend = np.linspace(0.0, 1.0, 32)[1:-1, None]
    bvh = shown(np.concatenate([values[:10], (1 - blend) * values[9] + blend * values[10], values[10:]]), recording)
    assert motion_range(bvh, map_joints(bvh)).first == 10


def test_a_file_of_nothing_but_rest_poses_has_no_motion() -> None:
    values = parse_bvh(replace(WALK, rest_before=30).text(), "walk").values[:30]
    bvh = shown(values, WALK)
    assert not has_motion(bvh, map_joints(bvh))
    assert motion_range(bvh, map_joints(bvh)) == MotionRange(0, 29)
    walking = parse_bvh(WALK.text(), "walk")
    assert has_motion(walking, map_joints(walking))
