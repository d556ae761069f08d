"""Whose joints they are: the people in a BVH file, and the joint of each in which both legs and the spine meet.

A file may hold several people, below one root or several, and joints above the pelvis that stand still. So the joints
of one body are taken from one subtree, and its pelvis is where its legs and its spine meet, whatever its name is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from motions.bvh.hierarchy import BvhError
from motions.bvh.names import joints_by_name
from motions.bvh.reader import Bvh

LIMB_JOINTS = tuple(
    f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow") for side in ("left", "right")
)
"""Joints that a body must have by name."""

_FARTHEST_PELVIS = 0.4
"""A joint that is called the pelvis is one while it is within this fraction of the leg's length from the place where
legs and spine meet."""


def find_people(bvh: Bvh) -> tuple[int, ...]:
    """Roots of the smallest subtrees that hold the limbs of a body by name, in the order of the file.

    Empty where no subtree does: names that are not recognised.
    """
    below = _subtrees(bvh)

    def search(node: int) -> list[int]:
        if len(below[node]) < len(LIMB_JOINTS):
            return []
        inside = [found for child in _children(bvh, node) for found in search(child)]
        return inside or [node] * _has_limbs(bvh, below[node])

    return tuple(found for root in _roots(bvh) for found in search(root))


def body_nodes(bvh: Bvh, root: str | None, mapping: Mapping[str, str | None]) -> tuple[int, ...]:
    """Nodes of the one body to read, parents first: those below the joint where it begins, and those above that joint.

    Args:
        root: joint at which the body begins, given by the user; it may be none of this file's. None looks for the only
            body there is.
        mapping: joints that the user names: they tell which body is meant, too.

    Raises:
        BvhError: naming the people where there are several and nothing chooses one.
    """
    below = _subtrees(bvh)
    people = find_people(bvh)
    if root is not None and root in bvh.joint_names:
        people = (bvh.index(root),)
    named = {bvh.index(name) for name in mapping.values() if name in bvh.joint_names}
    people = tuple(person for person in people if named & set(below[person])) or people
    if len(people) > 1:
        names = " and ".join(repr(bvh.nodes[person].name) for person in people)
        raise BvhError(f"{bvh.name}: {len(people)} people are in it, below {names}; --root chooses the one to read")
    if not people or named - set(below[people[0]]):
        return tuple(range(len(bvh.nodes)))
    return (*bvh.path(people[0])[:-1], *below[people[0]])


def meeting_joint(bvh: Bvh, nodes: Sequence[int]) -> int:
    """The lowest joint that all nodes hang on, or one of them; -1 where they have different roots."""
    paths = [bvh.path(node) for node in nodes]
    shared = -1
    for step in zip(*paths, strict=False):
        if len(set(step)) > 1:
            break
        shared = step[0]
    return shared


def find_pelvis(bvh: Bvh, found: Mapping[str, str]) -> int:
    """The node that is the pelvis of a body whose limbs are found: where its legs and its spine meet.

    A joint that is called pelvis or hips is taken instead while it stays near that place, as in rigs whose spine
    begins above the legs. Raises BvhError where the limbs have different roots.
    """
    top = found.get("neck", found.get("head"))
    ends = [bvh.index(found[joint]) for joint in ("left_hip", "right_hip")]
    meeting = meeting_joint(bvh, [*ends, *([] if top is None else [bvh.index(top)])])
    if meeting < 0:
        raise BvhError(f"{bvh.name}: {found['left_hip']}, {found['right_hip']} and {top} are below different roots")
    if "pelvis" not in found:
        return meeting
    called = bvh.index(found["pelvis"])
    joints = bvh.positions(np.linspace(0.0, bvh.duration, 32))
    leg = sum(
        np.linalg.norm(joints[:, bvh.index(found[lower])] - joints[:, bvh.index(found[upper])], axis=-1)
        for upper, lower in (("left_hip", "left_knee"), ("left_knee", "left_ankle"))
    )
    far = np.linalg.norm(joints[:, called] - joints[:, meeting], axis=-1) > _FARTHEST_PELVIS * leg
    return meeting if far.any() else called


def _has_limbs(bvh: Bvh, nodes: tuple[int, ...]) -> bool:
    names = tuple(bvh.nodes[node].name for node in nodes if not bvh.nodes[node].is_end)
    found = joints_by_name(names)
    return all(joint in found for joint in LIMB_JOINTS)


def _roots(bvh: Bvh) -> list[int]:
    return [index for index, node in enumerate(bvh.nodes) if node.parent < 0]


def _children(bvh: Bvh, parent: int) -> list[int]:
    return [index for index, node in enumerate(bvh.nodes) if node.parent == parent and not node.is_end]


def _subtrees(bvh: Bvh) -> list[tuple[int, ...]]:
    """Each node with all nodes below it, parents first."""
    below: list[list[int]] = [[index] for index in range(len(bvh.nodes))]
    for index in reversed(range(len(bvh.nodes))):
        parent = bvh.nodes[index].parent
        if parent >= 0:
            below[parent] += below[index]
    return [tuple(sorted(nodes)) for nodes in below]
