"""Finds HumanML3D's 22 joints in a BVH hierarchy.

Joints are recognised by what their names say, whatever the naming scheme: a side (Left, L_, l, .L, _l, " L ") and a
part (UpLeg, Thigh, UpperLeg, Hip, ...), after prefixes such as `mixamorig:`, `Bip01 ` or `DEF-` are taken off. That
covers CMU, Mixamo, LaFAN1, SMPL, Xsens, Rokoko, 3ds Max Biped, Unreal, VRM, Bandai-Namco and Blender's Rigify. A mapping
by the user wins over names. What a file lacks - spine joints, collars, toes - is placed between joints that it has,
always as a fixed linear combination; the report says what was mapped, what was placed and what was left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from motions.bvh import Bvh, BvhError
from motions.skeletons import HUMANML3D

REQUIRED = tuple(
    ["pelvis"]
    + [f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow") for side in ("left", "right")]
)
"""Joints that cannot be made up; also one of neck and head."""

_PREFIXES = ("mixamorig", "bip", "biped", "character", "def", "org", "mch", "skeleton", "armature", "rig", "j", "valve")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")

_SIDED_PARTS = {
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip", "leg"),
    "knee": ("knee", "shin", "calf", "lowerleg", "lowleg", "tibia", "leg"),
    "ankle": ("ankle", "foot", "feet"),
    "foot": ("toebase", "toe", "toes", "toe0", "ball"),
    "collar": ("collar", "clavicle", "collarbone"),
    "shoulder": ("upperarm", "uparm", "arm", "humerus"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm", "radius"),
    "wrist": ("wrist", "hand"),
}
"""What names call the joints of a limb, best first."""
_SHOULDERS = ("shoulder", "shldr")
_KNOWN_PARTS = frozenset(part for parts in _SIDED_PARTS.values() for part in parts) | set(_SHOULDERS)

# Where the three spine joints lie on the way from pelvis to neck, as shares of its length.
_SPINE = ("spine1", "spine2", "spine3")
_SPINE_LENGTHS = np.array([np.linalg.norm(HUMANML3D.target_offsets[joint]) for joint in (3, 6, 9, 12)])
_SPINE_SHARES = np.cumsum(_SPINE_LENGTHS)[:3] / _SPINE_LENGTHS.sum()
_COLLAR_MIX = {"spine3": 0.24, "neck": 0.39, "shoulder": 0.37}
"""A collar as a mixture of its neighbours, from HumanML3D's mean pose."""
_NECK_SHARE = 0.68
"""The neck on the way from upper spine to head."""
_TOE_SHARE = 0.7
"""The ball of the foot on the way from ankle to the foot's tip."""
_LEAST_COLLAR = 0.03
"""Least distance of a collar from the neck to the side, as a share of the distance of the shoulders."""
_COINCIDENT = 0.02
"""Joints nearer to one another than this share of the leg are taken for one."""


@dataclass(frozen=True, eq=False)
class JointMap:
    """How the 22 joints follow from a file's nodes: joints = weights @ nodes."""

    weights: np.ndarray
    """[22, N] float64, rows sum to 1."""
    mapped: dict[str, str]
    """HumanML3D joint -> joint of the file."""
    placed: dict[str, str]
    """HumanML3D joint -> how it is made from others."""
    left_out: tuple[str, ...]
    """Joints of the file that are not used."""

    def apply(self, nodes: np.ndarray) -> np.ndarray:
        """Positions [T, N, 3] of a file's nodes to those of the 22 joints [T, 22, 3]."""
        return np.einsum("jn,tnc->tjc", self.weights, nodes)

    def report(self) -> str:
        """What was mapped, placed and left out, one line each."""
        mapped = ", ".join(f"{joint}={source}" for joint, source in self.mapped.items())
        placed = ", ".join(f"{joint} ({how})" for joint, how in self.placed.items())
        return "\n".join(
            (f"mapped: {mapped}", f"placed: {placed or 'none'}", f"left out: {', '.join(self.left_out) or 'none'}")
        )


def load_mapping(path: str | Path) -> dict[str, str | None]:
    """Reads a user's mapping, YAML or JSON: HumanML3D joint -> joint of the file, or null for "place it".

    Raises ValueError naming file and key for unknown joints, anything but names, and a name given twice.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected lines such as 'left_hip: LeftUpLeg', found a {type(content).__name__}")
    for joint, source in content.items():
        if joint not in HUMANML3D.joint_names:
            raise ValueError(f"{path}: {joint!r} is no HumanML3D joint{_nearest(str(joint), HUMANML3D.joint_names)}")
        if not (source is None or isinstance(source, str)):
            raise ValueError(f"{path}: {joint}: expected the name of a joint or null, found {source!r}")
        if source is None and joint in REQUIRED:
            raise ValueError(f"{path}: {joint}: cannot be placed between others, name a joint")
    return content


def map_joints(bvh: Bvh, mapping: Mapping[str, str | None] | None = None) -> JointMap:
    """Finds or places the 22 joints of HumanML3D.

    Args:
        mapping: joints the user decides on (`load_mapping`); the others are found by name.

    Raises:
        BvhError: a joint of the mapping is not in the file, or a required joint is not found; names the file's joints
            and the nearest ones.
    """
    mapping = mapping or {}
    found = {joint: source for joint, source in _by_name(bvh).items() if joint not in mapping}
    for joint, source in mapping.items():
        if source is not None:
            if source not in bvh.joint_names:
                raise BvhError(
                    f"{bvh.name}: {joint}: no joint {source!r}{_nearest(source, bvh.joint_names)}; {_all(bvh)}"
                )
            found[joint] = source
    missing = [joint for joint in REQUIRED if joint not in found]
    if "neck" not in found and "head" not in found:
        missing.append("neck or head")
    if missing:
        hints = "".join(_nearest(joint, bvh.joint_names, f" for {joint}") for joint in missing)
        raise BvhError(
            f"{bvh.name}: no joint found for {', '.join(missing)}{hints}; {_all(bvh)}; name them with --mapping"
        )
    return _Placement(bvh, found, frozenset(mapping)).run()


def _by_name(bvh: Bvh) -> dict[str, str]:
    """HumanML3D joint -> joint of the file, for all that names tell."""
    parts: dict[tuple[str, str], str] = {}
    for name, key in zip(bvh.joint_names, _sides_and_parts(bvh.joint_names), strict=True):
        parts.setdefault(key, name)
    found = _trunk(parts, bvh.joint_names[0])
    for side in ("left", "right"):
        found.update({f"{side}_{joint}": name for joint, name in _limbs(parts, side).items()})
    return found


def _trunk(parts: Mapping[tuple[str, str], str], root: str) -> dict[str, str]:
    names = {part: name for (side, part), name in parts.items() if not side}
    pelvis = next((names[part] for part in ("hips", "pelvis", "hip") if part in names), None)
    if pelvis is None and {"spine", "spine4", "spine6"} <= names.keys():
        # Rigify numbers one chain from the pelvis to the head.
        return {"pelvis": names["spine"], "neck": names["spine4"], "head": names["spine6"]}
    found = {"pelvis": pelvis or root}
    for joint, candidates in (("neck", ("neck", "neck0", "neck1")), ("head", ("head",))):
        name = next((names[part] for part in candidates if part in names), None)
        if name is not None:
            found[joint] = name
    return found


def _limbs(parts: Mapping[tuple[str, str], str], side: str) -> dict[str, str]:
    names = {part: name for (its_side, part), name in parts.items() if its_side == side}

    def first(*candidates: str) -> str | None:
        return next((names[part] for part in candidates if part in names), None)

    limbs = {joint: first(*candidates) for joint, candidates in _SIDED_PARTS.items()}
    if limbs["foot"] is None and "ankle" in names:
        limbs["foot"] = first("foot")  # SMPL: the ball of the foot
    # A "shoulder" is the collar where an upper arm is named beside it, else the upper arm.
    shoulder = first(*_SHOULDERS)
    if limbs["shoulder"] is None:
        limbs["shoulder"] = shoulder
    elif limbs["collar"] is None:
        limbs["collar"] = shoulder
    if limbs["hip"] == limbs["knee"]:
        limbs["hip"] = None
    return {joint: name for joint, name in limbs.items() if name is not None}


def _sides_and_parts(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Side ("left", "right" or "") and part ("upleg", "spine1", ...) that each name says."""
    words = [_name_words(name) for name in names]
    if len(words) > 3 and all(len(each) > 1 and each[0] == words[0][0] for each in words) and words[0][0] not in _SIDES:
        words = [each[1:] for each in words]
    return [_side_and_part(each) for each in words]


def _name_words(name: str) -> list[str]:
    """Lower-case words and numbers of a name, without rig prefix: "mixamorig:LeftUpLeg" -> left, up, leg."""
    words = [word.lower().lstrip("0") or "0" for word in _WORDS.findall(re.split(r"[:|]", name)[-1])]
    while words and words[0] in _PREFIXES:
        words = words[1:]
        while words and words[0].isdigit():
            words = words[1:]
    return words


def _side_and_part(words: list[str]) -> tuple[str, str]:
    for place, word in enumerate(words):
        rest = words[:place] + words[place + 1 :]
        # "L5" is a vertebra.
        if word in _SIDES and any(other.isalpha() for other in rest):
            return _SIDES[word], "".join(rest)
    part = "".join(words)
    for prefix in ("left", "right", "l", "r"):
        rest = part.removeprefix(prefix)
        if rest != part and rest in _KNOWN_PARTS:
            return _SIDES[prefix], rest
    return "", part


class _Placement:
    """Builds the weights of one file's joint map; distances are those of its first frame."""

    def __init__(self, bvh: Bvh, found: dict[str, str], given: frozenset[str]) -> None:
        self.bvh = bvh
        self.found = found
        self.given = given
        self.rest = bvh.positions(np.zeros(1))[0]
        self.rows: dict[str, np.ndarray] = {}
        self.placed: dict[str, str] = {}
        for joint, source in found.items():
            self.rows[joint] = self.unit(bvh.index(source))
        leg = [self.at(f"left_{joint}") for joint in ("hip", "knee", "ankle")]
        self.near = _COINCIDENT * float(np.linalg.norm(leg[0] - leg[1]) + np.linalg.norm(leg[1] - leg[2]))

    def run(self) -> JointMap:
        self.place_neck_and_head()
        self.place_spine()
        for side in ("left", "right"):
            self.place_collar(side)
            self.place_end(f"{side}_foot", f"{side}_ankle", _TOE_SHARE)
            self.place_end(f"{side}_wrist", f"{side}_elbow", 1.0)
        weights = np.stack([self.rows[joint] for joint in HUMANML3D.joint_names])
        used = weights.any(axis=0)
        left_out = (node.name for node, use in zip(self.bvh.nodes, used, strict=True) if not (node.is_end or use))
        mapped = {joint: self.found[joint] for joint in HUMANML3D.joint_names if joint not in self.placed}
        placed = {joint: self.placed[joint] for joint in HUMANML3D.joint_names if joint in self.placed}
        return JointMap(weights, mapped, placed, tuple(left_out))

    def place_neck_and_head(self) -> None:
        if "neck" not in self.rows:
            below = self.bvh.nodes[self.bvh.index(self.found["head"])].parent
            self.mix("neck", {below: 1.0 - _NECK_SHARE, self.bvh.index(self.found["head"]): _NECK_SHARE})
        self.place_end("head", "neck", 1.0)

    def place_spine(self) -> None:
        """Three joints of the file as they are where it has just three; else equal shares of the way as HumanML3D's."""
        missing = [joint for joint in _SPINE if joint not in self.rows]
        pelvis = self.bvh.index(self.found["pelvis"])
        top = self.bvh.index(self.found["neck" if "neck" in self.found else "head"])
        way = [self.at("pelvis")]
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
        if len(inner) == 3 and len(missing) == 3:
            for joint, node in zip(_SPINE, inner, strict=True):
                self.rows[joint] = self.unit(node)
                self.found[joint] = self.bvh.nodes[node].name
            return
        lengths = np.linalg.norm(np.diff(way, axis=0), axis=1)
        ends = np.concatenate([[0.0], np.cumsum(lengths)])
        for joint in missing:
            share = _SPINE_SHARES[_SPINE.index(joint)]
            segment = min(int(np.searchsorted(ends, share * ends[-1], side="right")) - 1, len(lengths) - 1)
            along = (share * ends[-1] - ends[segment]) / lengths[segment]
            self.rows[joint] = (1.0 - along) * rows[segment] + along * rows[segment + 1]
            self.placed[joint] = f"{share:.0%} of the way from pelvis to neck"

    def place_collar(self, side: str) -> None:
        """A collar that lies on the spine or at the shoulder, as in CMU's files, is placed between its neighbours."""
        joint = f"{side}_collar"
        if joint in self.rows:
            across = self.at("left_shoulder") - self.at("right_shoulder")
            share = float((self.at(joint) - self.at("neck")) @ across / max(float(across @ across), 1e-12))
            lateral = share if side == "left" else -share
            at_shoulder = self.touches(self.at(joint), self.at(f"{side}_shoulder"))
            if joint in self.given or (lateral > _LEAST_COLLAR and not at_shoulder):
                return
        names = {"spine3": "spine3", "neck": "neck", "shoulder": f"{side}_shoulder"}
        self.rows[joint] = sum(
            (share * self.rows[names[part]] for part, share in _COLLAR_MIX.items()), start=0.0 * self.rows["neck"]
        )
        self.placed[joint] = "between upper spine, neck and shoulder"

    def place_end(self, joint: str, base: str, share: float) -> None:
        """A chain's last joint, if no name says it: the next joint behind `base`, or a share of the way to its end."""
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
        """Nodes below a node, parents first."""
        below = {node}
        for index, each in enumerate(self.bvh.nodes):
            if each.parent in below:
                below.add(index)
                yield index

    def path(self, start: int, end: int) -> list[int]:
        """Joints from below `start` (or from where the two chains meet) to above `end`."""
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
        self.rows[joint] = sum(
            (share * self.unit(node) for node, share in shares.items()), start=np.zeros(len(self.rest))
        )
        names = " and ".join(self.bvh.nodes[node].name for node in shares)
        self.placed[joint] = f"between {names}"

    def touches(self, point: np.ndarray, other: np.ndarray) -> bool:
        return float(np.linalg.norm(point - other)) < self.near

    def at(self, joint: str) -> np.ndarray:
        return self.rows[joint] @ self.rest

    def unit(self, node: int) -> np.ndarray:
        row = np.zeros(len(self.bvh.nodes))
        row[node] = 1.0
        return row


def _nearest(name: str, names: Sequence[str], behind: str = "") -> str:
    """A hint such as ", did you mean 'LeftKnee'?", or nothing."""
    lower = {each.lower(): each for each in names}
    plain = name.lower().replace("_", "")
    close = difflib.get_close_matches(plain, lower, n=1, cutoff=0.5) or difflib.get_close_matches(
        name.lower(), lower, 1
    )
    return f" (nearest{behind}: {lower[close[0]]!r})" if close else ""


def _all(bvh: Bvh) -> str:
    return f"the file's joints are {', '.join(bvh.joint_names)}"
