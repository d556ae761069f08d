"""Each file's up axis is found from several cues, or the file is known to be unclear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from motions.bvh.joints import map_joints
from motions.bvh.reader import parse_bvh
from motions.bvh.up_axis import AXES, UpCues, settle, turn_upright, up_cues
from tests.toys.bvh_files import MIXAMO, Rig, animate
from tests.toys.characters.mocap_files import Z_UP, Recording

WALK = Recording(seconds=2.0)
RIG = ("Hips", "y")


def cues_of(recording: Recording) -> UpCues:
    bvh = parse_bvh(recording.text(), "walk")
    joint_map = map_joints(bvh)
    return up_cues(bvh, joint_map, joint_map.apply(bvh.positions(np.arange(bvh.num_frames) * bvh.frame_time)))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("rest", ["t_pose", "along_x"])
def test_every_axis_is_found_with_and_without_a_rest_pose_that_stands(axis: str, rest: str) -> None:
    turn = np.stack([turn_upright(row, axis) for row in np.eye(3)], axis=1)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1.0)
    cues = cues_of(replace(WALK, rest=rest, basis=turn.T))
    assert cues.agreed == cues.body == cues.support == axis
    assert cues.rest == (axis if rest == "t_pose" else None)


def test_turning_upright_is_undone_by_its_inverse() -> None:
    upright = animate(Rig(MIXAMO), 3).positions()
    turn = np.stack([turn_upright(row, "-x") for row in np.eye(3)], axis=1)
    np.testing.assert_allclose(turn_upright(upright @ turn, "-x"), upright, atol=1e-12)
    with pytest.raises(ValueError, match="up_axis='w'"):
        turn_upright(upright, "w")


def test_a_body_that_lies_is_unclear_alone_and_clear_among_others_of_its_rig() -> None:
    lying = cues_of(replace(WALK, lying=True))
    assert (lying.body, lying.rest, lying.agreed) == ("-z", "y", None)
    assert "the body stands along -z, the rest pose stands along y" in str(lying)
    walking, sideways = cues_of(WALK), cues_of(replace(WALK, basis=Z_UP))
    assert settle([lying]) == [(None, False)]
    assert settle([lying, sideways]) == [(None, False), ("z", False)], "another rig, by its rest pose"
    assert settle([sideways, lying, walking]) == [("z", False), ("y", True), ("y", False)]


@pytest.mark.parametrize(
    ("body", "rest", "support", "agreed"),
    [
        ("y", "y", None, "y"),
        ("y", "z", "y", "y"),
        (None, "y", None, "y"),
        (None, None, "z", "z"),
        ("z", "y", "y", "y"),
        ("y", "y", "x", "y"),
        ("y", "z", None, None),
        ("-y", "y", None, None),
        ("z", None, "y", None),
        ("x", "y", "z", None),
        (None, None, None, None),
    ],
)
def test_two_cues_outvote_the_third(
    body: str | None, rest: str | None, support: str | None, agreed: str | None
) -> None:
    assert UpCues(body, rest, support, RIG).agreed == agreed


def test_rigs_that_contradict_themselves_decide_nothing() -> None:
    unclear = UpCues("z", "y", None, RIG)
    others = [UpCues("y", "y", None, RIG), UpCues("z", "z", None, RIG)]
    assert settle([unclear, *others])[0] == (None, False)
