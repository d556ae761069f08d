"""One body of a file is read: its joints from one subtree, its pelvis where its legs and its spine meet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from motions.bvh.hierarchy import BvhError
from motions.bvh.joints import map_joints
from motions.bvh.people import find_people
from motions.bvh.reader import Bvh, parse_bvh
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.characters.mocap_files import NAMES, Recording

WALK = Recording(seconds=1.0)


def two_people(second: Recording, names: tuple[str, str] = ("A:{}", "B:{}"), root: str | None = "Scene") -> Bvh:
    """A walk and another recording in one file, below one root or as two."""
    people = [replace(WALK, name_format=names[0]), replace(second, name_format=names[1])]
    parts = [person.text().split("MOTION\n") for person in people]
    bodies = [part[0].removeprefix("HIERARCHY\n") for part in parts]
    rows = [part[1].splitlines()[2:] for part in parts]
    if root is None:
        hierarchy = "".join(bodies)
    else:
        joints = "".join(body.replace("ROOT", "JOINT") for body in bodies)
        hierarchy = f"ROOT {root}\n{{\nOFFSET 0 0 0\nCHANNELS 0\n{joints}}}\n"
    motion = "\n".join(f"{first} {other}" for first, other in zip(*rows, strict=True))
    return parse_bvh(
        f"HIERARCHY\n{hierarchy}MOTION\nFrames: {len(rows[0])}\nFrame Time: 0.033333333\n{motion}\n", "two"
    )


def joints_of(bvh: Bvh, root: str | None = None) -> np.ndarray:
    return map_joints(bvh, None, root).apply(bvh.positions(np.arange(bvh.num_frames) * bvh.frame_time))


def assert_is(joints: np.ndarray, recording: Recording) -> None:
    for joint, path in recording.joints().items():
        np.testing.assert_allclose(joints[:, HUMANML3D.index(joint)] * 0.01, path, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "root", "roots"),
    [
        (("A:{}", "B:{}"), "Scene", ("A:Hips", "B:Hips")),
        (("{}_one", "{}_two"), "Scene", ("Hips_one", "Hips_two")),
        (("{}", "{}.001"), "Scene", ("Hips", "Hips.001")),
        (("{}", "{}"), None, ("Hips", "2:Hips")),
    ],
    ids=["namespaces", "suffixes", "copies", "two roots"],
)
def test_several_people_are_named_and_the_root_chooses(
    names: tuple[str, str], root: str | None, roots: tuple[str, str]
) -> None:
    other = replace(WALK, clip="kick", turn=90.0)
    bvh = two_people(other, names, root)
    assert tuple(bvh.nodes[person].name for person in find_people(bvh)) == roots
    with pytest.raises(
        BvhError, match=rf"two: 2 people are in it, below '{roots[0]}' and '{roots[1]}'; --root chooses"
    ):
        map_joints(bvh)
    for person, recording in zip(roots, (WALK, other), strict=True):
        assert_is(joints_of(bvh, person), recording)


def test_a_mapping_chooses_a_person_too() -> None:
    bvh = two_people(replace(WALK, clip="kick"))
    mapped = map_joints(bvh, {"left_knee": "B:LeftLeg"}).mapped
    assert {name.partition(":")[0] for name in mapped.values()} == {"B"}


def test_the_root_of_another_file_does_not_matter_where_one_person_is() -> None:
    bvh = parse_bvh(WALK.text(), "one")
    assert map_joints(bvh, None, "A:Hips").mapped == map_joints(bvh).mapped


@pytest.mark.parametrize(
    ("above", "pelvis"),
    [
        (("HumanoidRootPart",), "LowerTorso"),
        (("Root",), "COG"),
        (("Scene", "Root", "Motion"), "Waist"),
        (("Hips",), "Body"),
        (("Reference", "Pelvis"), "Base"),
    ],
)
def test_the_pelvis_is_where_legs_and_spine_meet(above: tuple[str, ...], pelvis: str) -> None:
    """Also if a joint that stands still above it has the name of hips."""
    recording = replace(WALK, above=above, names={**NAMES, "root": pelvis})
    bvh = parse_bvh(recording.text(), "walk")
    assert map_joints(bvh).mapped["pelvis"] == pelvis
    assert_is(joints_of(bvh), recording)


def test_a_pelvis_beside_the_place_where_they_meet_is_kept() -> None:
    """3ds Max Biped: the legs hang on the spine, which hangs on the pelvis."""
    text = WALK.text().replace("JOINT Chest", "JOINT Spine").replace("ROOT Hips", "ROOT Spine0")
    top = "ROOT Pelvis\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
    hierarchy, motion = text.removeprefix("HIERARCHY\n").split("MOTION\n")
    moving = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    hierarchy = hierarchy.replace("ROOT", "JOINT").replace(moving, "CHANNELS 3 Zrotation Xrotation Yrotation")
    header, rows = motion.splitlines()[:2], [row.split() for row in motion.splitlines()[2:]]
    moved = [" ".join([*row[:3], "0 0 0", *row[3:]]) for row in rows]
    bvh = parse_bvh("\n".join([f"HIERARCHY\n{top}{hierarchy}}}\nMOTION", *header, *moved]), "biped")
    assert map_joints(bvh).mapped["pelvis"] == "Pelvis"
    assert_is(joints_of(bvh), WALK)
