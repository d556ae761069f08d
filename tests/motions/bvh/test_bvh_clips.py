"""Units by the length of the legs, and the frames that captions describe."""

from __future__ import annotations

import numpy as np
import pytest

from motions.bvh import clips as bvh_clips
from motions.bvh.caption_table import CaptionedStretch
from motions.bvh.clips import Stretch, find_stretches
from motions.bvh.hierarchy import BvhError
from motions.bvh.reader import parse_bvh
from motions.bvh.rest_pose import MotionRange
from motions.bvh.settings import ShortClips
from tests.toys.bvh_files import MIXAMO, Rig, animate, bvh_text

BVH = parse_bvh(bvh_text(animate(Rig(MIXAMO), 361, fps=60.0), fps=60.0), "clip.bvh")
"""Six seconds."""
WHOLE = MotionRange(0, 360)


def row(start: float | None, end: float | None, *captions: str, line: int = 2) -> CaptionedStretch:
    return CaptionedStretch("clip.bvh", start, end, captions or ("walks",), line, (True,) * (len(captions) or 1))


def found(rows: list[CaptionedStretch], short: ShortClips = "refuse") -> tuple[list[range], list[str]]:
    stretches, problems = find_stretches(BVH, rows, 121, WHOLE, short)
    return [stretch.frames for stretch in stretches], problems


@pytest.mark.parametrize(("unit", "metres"), bvh_clips.UNITS.items())
def test_units_follow_from_the_legs(unit: str, metres: float) -> None:
    joints = animate(Rig(MIXAMO), 2).positions() / metres
    assert bvh_clips.find_unit("clip.bvh", joints) == (unit, metres)
    assert bvh_clips.leg_length(joints) * metres == pytest.approx(0.8, abs=0.01)
    bvh_clips.check_scale("clip.bvh", joints, metres)
    with pytest.raises(BvhError, match=rf"clip.bvh: scale={metres * 10:g} makes legs 8.* the unit is {unit}"):
        bvh_clips.check_scale("clip.bvh", joints, metres * 10)


def test_an_unknown_unit_is_scaled_to_human_legs() -> None:
    unit, metres = bvh_clips.find_unit("clip.bvh", animate(Rig(MIXAMO), 2).positions() * 7.3)
    assert "unknown" in unit and metres * 7.3 * 0.8 == pytest.approx(0.82, abs=0.02)
    with pytest.raises(BvhError, match=r"clip.bvh: hips, knees and ankles are in one place"):
        bvh_clips.find_unit("clip.bvh", np.zeros((2, 22, 3)))


def test_stretches_are_cut_at_their_times() -> None:
    rows = [row(None, None), row(0.5, 3.0), row(3.0, None), row(None, 2.5)]
    assert found(rows) == ([range(0, 121), range(10, 61), range(60, 121), range(0, 51)], [])


def test_times_count_from_the_files_first_frame_also_behind_a_rest_pose() -> None:
    motion = MotionRange(60, 330)
    (whole, cut), problems = find_stretches(BVH, [row(None, None), row(0.5, 4.0)], 91, motion, "refuse")
    assert (whole.frames, cut.frames, problems) == (range(0, 91), range(0, 61), [])


def test_what_is_wrong_with_stretches_is_told_for_each() -> None:
    ranges, problems = found([row(1.5, 6.5, line=3), row(0.0, 1.0, line=4), row(0.0, 2.0, line=5)])
    assert ranges == [range(0, 41)]
    assert problems[0] == "clip.bvh: 1.5 to 6.5 s is no stretch of this file, which is 6.00 s long"
    assert "clip.bvh (line 4 of the captions): the clip has 20 frames at 20 per second; 40 are the least" in problems[1]
    assert "--short_clips pads or joins it" in problems[1]


def test_short_stretches_hold_their_last_pose_where_padded() -> None:
    (stretch,), problems = find_stretches(BVH, [row(1.0, 2.0)], 121, WHOLE, "pad")
    assert (stretch.frames, stretch.available, problems) == (range(20, 61), 41, [])
    joints = np.arange(121.0)[:, None, None] * np.ones((1, 22, 3))
    piece = bvh_clips.cut(joints, bvh_clips.parts(stretch, 196)[0], stretch.available)[:, 0, 0]
    np.testing.assert_array_equal(piece, [*range(20, 41), *[40] * 20])


def test_short_stretches_are_joined_with_their_neighbours() -> None:
    rows = [row(0.0, 1.0, "waves", "greets"), row(1.0, 2.5, "turns"), row(2.5, 5.0, "walks"), row(5.2, 6.0, "stops")]
    stretches, problems = find_stretches(BVH, rows, 121, WHOLE, "join")
    assert problems == [] and [stretch.frames for stretch in stretches] == [range(0, 51), range(50, 121)]
    assert [stretch.captions for stretch in stretches] == [
        ("waves, then turns", "greets, then turns"),
        ("walks, then stops",),
    ]
    far, problems = find_stretches(BVH, [row(0.0, 1.0), row(2.0, 6.0)], 121, WHOLE, "join")
    assert [stretch.frames for stretch in far] == [range(40, 121)] and "no neighbour is near" in problems[0]


def test_long_stretches_become_equal_parts() -> None:
    stretch = Stretch(("walks",), range(0, 121), 121, 2, (True,))
    assert bvh_clips.parts(stretch, 196) == [slice(0, 121)]
    assert bvh_clips.parts(stretch, 50) == [slice(0, 41), slice(40, 81), slice(80, 121)]
