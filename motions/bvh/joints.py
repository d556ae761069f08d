"""Finds HumanML3D's 22 joints in a BVH hierarchy.

Joints are recognised by name (`motions.bvh.names`) within one body (`motions.bvh.people`); a mapping given by the user
takes precedence. Joints that a file lacks (spine joints, collars, toes) are interpolated between joints that it has,
always as a fixed linear combination; the report lists the joints that were mapped, placed and left out, and what became
of the file's spine.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.base.plain_yaml import yaml_mistake
from motions.bvh.hierarchy import BvhError
from motions.bvh.names import joints_by_name
from motions.bvh.people import LIMB_JOINTS, body_nodes, find_pelvis
from motions.bvh.reader import Bvh
from motions.skeleton.skeletons import HUMANML3D

REQUIRED_JOINTS = ("pelvis", *LIMB_JOINTS)
"""Joints that cannot be interpolated. All but the pelvis must be in the file by name, and one of neck and head."""

# Positions of the three spine joints between pelvis and neck, as fractions of that length.
_SPINE = ("spine1", "spine2", "spine3")
_SPINE_LENGTHS = np.array([np.linalg.norm(HUMANML3D.target_offsets[joint]) for joint in (3, 6, 9, 12)])
_SPINE_SHARES = np.cumsum(_SPINE_LENGTHS)[:3] / _SPINE_LENGTHS.sum()
_COLLAR_MIX = {"spine3": 0.24, "neck": 0.39, "shoulder": 0.37}
"""Weights of a collar joint between its neighbours, from HumanML3D's mean pose."""
_NECK_SHARE = 0.68
"""Position of the neck between upper spine and head, as a fraction of that length."""
_TOE_SHARE = 0.7
"""Position of the ball of the foot between ankle and tip of the foot, as a fraction of that length."""
_LEAST_COLLAR = 0.08
"""Least distance of a collar from the spine, as a fraction of the distance between the shoulders."""
_COINCIDENT = 0.02
"""Joints closer together than this fraction of the leg length count as one joint."""


@dataclass(frozen=True, eq=False)
class JointMap:
    """How the 22 joints are computed from a file's nodes: joints = weights @ nodes."""

    weights: np.ndarray
    """[22, N] float64, rows sum to 1."""
    mapped: dict[str, str]
    """HumanML3D joint -> joint of the file that it is."""
    placed: dict[str, str]
    """HumanML3D joint -> description of how it is interpolated."""
    left_out: tuple[str, ...]
    """Joints of the file that are not used."""
    spine: dict[str, float]
    """Joints of the file between pelvis and neck -> how far along that way they are, from 0 to 1."""

    def apply(self, nodes: np.ndarray) -> np.ndarray:
        """Positions [T, N, 3] of a file's nodes to those of the 22 joints [T, 22, 3]."""
        return np.einsum("jn,tnc->tjc", self.weights, nodes)

    def report(self) -> str:
        """Four lines: which joints were mapped, placed and left out, and what the file's spine became."""
        mapped = ", ".join(f"{joint}={source}" for joint, source in self.mapped.items())
        placed = ", ".join(f"{joint} ({how})" for joint, how in self.placed.items())
        sources = {source: joint for joint, source in self.mapped.items()}
        spine = ", ".join(
            f"{name} is {sources[name]}" if name in sources else f"{name} at {share:.0%} only shapes the line"
            for name, share in self.spine.items()
        )
        return "\n".join(
            (
                f"mapped: {mapped}",
                f"placed: {placed or 'none'}",
                f"spine, from pelvis to neck: {spine or 'no joint'}",
                f"left out: {', '.join(self.left_out) or 'none'}",
            )
        )


def load_mapping(path: str | Path) -> dict[str, str | None]:
    """Reads a user's mapping, YAML or JSON: HumanML3D joint -> joint of the file, or null to interpolate the joint.

    Raises UserError naming file and key for unknown joints, anything but names, and one name for two joints.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(read_text(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: neither YAML nor JSON: {yaml_mistake(error)}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected lines such as 'left_hip: LeftUpLeg', found a {type(content).__name__}")
    for joint, source in content.items():
        if joint not in HUMANML3D.joint_names:
            raise UserError(f"{path}: {joint!r} is no HumanML3D joint{_nearest(str(joint), HUMANML3D.joint_names)}")
        if not (source is None or isinstance(source, str)):
            raise UserError(f"{path}: {joint}: expected the name of a joint or null, found {source!r}")
        if source is None and joint in REQUIRED_JOINTS:
            raise UserError(f"{path}: {joint}: cannot be placed between others, name a joint")
        others = [other for other, name in content.items() if other != joint and name == source]
        if others and source is not None:
            raise UserError(f"{path}: {joint} and {others[0]} are both {source!r}")
    return content


def map_joints(bvh: Bvh, mapping: Mapping[str, str | None] | None = None, root: str | None = None) -> JointMap:
    """Finds or places the 22 joints of HumanML3D.

    Args:
        mapping: joints the user decides on (`load_mapping`); the others are found by name.
        root: joint at which the body begins, for files with several people.

    Raises:
        BvhError: a joint of the mapping is not in the file, several people are in it, or a required joint is not found;
            names the file's joints and the nearest ones.
    """
    mapping = mapping or {}
    body = (bvh.nodes[node] for node in body_nodes(bvh, root, mapping))
    names = tuple(node.name for node in body if not node.is_end)
    found = {joint: source for joint, source in joints_by_name(names).items() if joint not in mapping}
    for joint, source in mapping.items():
        if source is not None:
            if source not in bvh.joint_names:
                raise BvhError(
                    f"{bvh.name}: {joint}: no joint {source!r}{_nearest(source, bvh.joint_names)}; {_all(bvh)}"
                )
            found[joint] = source
    missing = [joint for joint in LIMB_JOINTS if joint not in found]
    if "neck" not in found and "head" not in found:
        missing.append("neck or head")
    if missing:
        hints = "".join(_nearest(joint, bvh.joint_names, f" for {joint}") for joint in missing)
        raise BvhError(
            f"{bvh.name}: no joint found for {', '.join(missing)}{hints}; {_all(bvh)}; name them with --mapping"
        )
    if "pelvis" not in mapping:
        found["pelvis"] = bvh.nodes[find_pelvis(bvh, found)].name
    return _Placement(bvh, found, frozenset(mapping)).run()


class _Placement:
    """Builds the weights of one file's joint map; distances are measured in the file's first frame."""

    def __init__(self, bvh: Bvh, found: dict[str, str], given: frozenset[str]) -> None:
        self.bvh = bvh
        self.found = found
        self.given = given
        self.rest = bvh.positions(np.zeros(1))[0]
        self.rows: dict[str, np.ndarray] = {}
        self.placed: dict[str, str] = {}
        self.way: list[np.ndarray] = []
        """Points of the spine from pelvis to neck."""
        self.spine: dict[str, float] = {}
        for joint, source in found.items():
            self.rows[joint] = self.unit(bvh.index(source))
        leg = [self.at(f"left_{joint}") for joint in ("hip", "knee", "ankle")]
        self.near = _COINCIDENT * float(np.linalg.norm(leg[0] - leg[1]) + np.linalg.norm(leg[1] - leg[2]))

    def run(self) -> JointMap:
        """The joint map of the file. Raises BvhError where a chain has no joint to use as its end."""
        self.place_neck_and_head()
        self.place_spine()
        for side in ("left", "right"):
            self.place_collar(side)
            self.place_end(f"{side}_foot", f"{side}_ankle", _TOE_SHARE)
            self.place_end(f"{side}_wrist", f"{side}_elbow", 1.0)
        weights = np.stack([self.rows[joint] for joint in HUMANML3D.joint_names])
        used = set(np.flatnonzero(np.abs(weights).sum(axis=0)).tolist())
        left_out = (node.name for index, node in enumerate(self.bvh.nodes) if not (node.is_end or index in used))
        mapped = {joint: self.found[joint] for joint in HUMANML3D.joint_names if joint not in self.placed}
        placed = {joint: self.placed[joint] for joint in HUMANML3D.joint_names if joint in self.placed}
        return JointMap(weights, mapped, placed, tuple(left_out), self.spine)

    def place_neck_and_head(self) -> None:
        """Interpolates whichever of neck and head the file lacks."""
        if "neck" not in self.rows:
            head = self.bvh.index(self.found["head"])
            below = self.bvh.nodes[head].parent
            if below < 0:
                raise BvhError(
                    f"{self.bvh.name}: no joint found for neck, and the head {self.found['head']} hangs on none; "
                    f"{_all(self.bvh)}; name it with --mapping"
                )
            self.mix("neck", {below: 1.0 - _NECK_SHARE, head: _NECK_SHARE})
        self.place_end("head", "neck", 1.0)

    def place_spine(self) -> None:
        """Uses the file's three spine joints if it has exactly three, else interpolates at HumanML3D's fractions."""
        missing = [joint for joint in _SPINE if joint not in self.rows]
        pelvis = self.bvh.index(self.found["pelvis"])
        top = self.bvh.index(self.found["neck" if "neck" in self.found else "head"])
        way = [self.at("pelvis")]
        self.way = way
        rows = [self.rows["pelvis"]]
        inner = []
        for node in [*self.path(pelvis, top), None]:
            point = self.at("neck") if node is None else self.rest[node]
            if node is not None and (self.touches(point, way[-1]) or self.touches(point, self.at("neck"))):
                continue
            way.append(point)
            rows.append(self.rows["neck"] if node is None else self.unit(node))
            if node is not None:
                inner.append(node)
        lengths = np.linalg.norm(np.diff(way, axis=0), axis=1)
        ends = np.concatenate([[0.0], np.cumsum(lengths)])
        self.spine = {self.bvh.nodes[node].name: end / ends[-1] for node, end in zip(inner, ends[1:], strict=False)}
        if len(inner) == 3 and len(missing) == 3:
            for joint, node in zip(_SPINE, inner, strict=True):
                self.rows[joint] = self.unit(node)
                self.found[joint] = self.bvh.nodes[node].name
            return
        for joint in missing:
            share = _SPINE_SHARES[_SPINE.index(joint)]
            segment = min(int(np.searchsorted(ends, share * ends[-1], side="right")) - 1, len(lengths) - 1)
            along = (share * ends[-1] - ends[segment]) / lengths[segment]
            self.rows[joint] = (1.0 - along) * rows[segment] + along * rows[segment + 1]
            self.placed[joint] = f"{share:.0%} of the way from pelvis to neck"

    def place_collar(self, side: str) -> None:
        """Interpolates a collar that coincides with the spine or the shoulder, as in files of the CMU database."""
        joint = f"{side}_collar"
        if joint in self.rows:
            width = float(np.linalg.norm(self.at("left_shoulder") - self.at("right_shoulder")))
            on_spine = _distance(self.at(joint), self.way) < _LEAST_COLLAR * width
            at_shoulder = self.touches(self.at(joint), self.at(f"{side}_shoulder"))
            if joint in self.given or not (on_spine or at_shoulder):
                return
        names = {"spine3": "spine3", "neck": "neck", "shoulder": f"{side}_shoulder"}
        self.rows[joint] = sum(
            (share * self.rows[names[part]] for part, share in _COLLAR_MIX.items()), start=0.0 * self.rows["neck"]
        )
        self.placed[joint] = "between upper spine, neck and shoulder"

    def place_end(self, joint: str, base: str, share: float) -> None:
        """Finds the last joint of a chain without a name: the next joint below `base`, or a point towards its end."""
        if joint in self.rows and (joint in self.given or not self.touches(self.at(joint), self.at(base))):
            return
        for node in self.descendants(self.bvh.index(self.found[base])):
            if self.touches(self.rest[node], self.at(base)):
                continue
            name = self.bvh.nodes[node].name
            if not self.bvh.nodes[node].is_end:
                share = 1.0
            self.rows[joint] = (1.0 - share) * self.rows[base] + share * self.unit(node)
            self.placed[joint] = name if share == 1.0 else f"{share:.0%} of the way from {base} to {name}"
            return
        raise BvhError(
            f"{self.bvh.name}: no joint found for {joint}, and nothing hangs on {base}; {_all(self.bvh)}; "
            "name it with --mapping"
        )

    def descendants(self, node: int) -> Iterator[int]:
        """All nodes below a node, parents first."""
        below = {node}
        for index, each in enumerate(self.bvh.nodes):
            if each.parent in below:
                below.add(index)
                yield index

    def path(self, start: int, end: int) -> list[int]:
        """Joints between `start` (or the joint where the two chains meet) and `end`, excluding both."""
        ancestors = {start}
        while (start := self.bvh.nodes[start].parent) >= 0:
            ancestors.add(start)
        path = []
        node = self.bvh.nodes[end].parent
        while node >= 0 and node not in ancestors:
            path.append(node)
            node = self.bvh.nodes[node].parent
        return path[::-1]

    def mix(self, joint: str, shares: dict[int, float]) -> None:
        """Sets the weights of `joint` to `shares`, which maps indices of nodes to weights."""
        self.rows[joint] = sum(
            (share * self.unit(node) for node, share in shares.items()), start=np.zeros(len(self.rest))
        )
        names = " and ".join(self.bvh.nodes[node].name for node in shares)
        self.placed[joint] = f"between {names}"

    def touches(self, point: np.ndarray, other: np.ndarray) -> bool:
        """Whether two points [3] are so close that they count as one joint."""
        return float(np.linalg.norm(point - other)) < self.near

    def at(self, joint: str) -> np.ndarray:
        """Position [3] of a HumanML3D joint in the file's first frame."""
        return self.rows[joint] @ self.rest

    def unit(self, node: int) -> np.ndarray:
        """Weights [N] that select one node."""
        row = np.zeros(len(self.bvh.nodes))
        row[node] = 1.0
        return row


def _distance(point: np.ndarray, way: Sequence[np.ndarray]) -> float:
    """Distance of a point [3] from a polyline."""
    distances = []
    for start, end in pairwise(way):
        share = np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0.0, 1.0)
        distances.append(float(np.linalg.norm(start + share * (end - start) - point)))
    return min(distances)


def _nearest(name: str, names: Sequence[str], behind: str = "") -> str:
    """A hint such as " (nearest: 'LeftKnee')", or nothing."""
    lower = {each.lower(): each for each in names}
    plain = name.lower().replace("_", "")
    close = difflib.get_close_matches(plain, lower, n=1, cutoff=0.5) or difflib.get_close_matches(
        name.lower(), lower, 1
    )
    return f" (nearest{behind}: {lower[close[0]]!r})" if close else ""


def _all(bvh: Bvh) -> str:
    return f"the file's joints are {', '.join(bvh.joint_names)}"
