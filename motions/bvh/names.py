"""Recognises HumanML3D's joints by the names of a BVH file's joints, for the common naming schemes.

A name gives a side (Left, L_, l, .L, _l, " L ") and a part (UpLeg, Thigh, UpperLeg, Hip, ...) once prefixes such as
`mixamorig:`, `Bip01 ` or `DEF-` are removed. That covers CMU (BVH and ASF names), Mixamo, LaFAN1, SMPL, Xsens, Rokoko,
3ds Max Biped, Unreal, VRM, DAZ, Bandai-Namco and Blender's Rigify. Spine joints are not recognised by name: all joints
between pelvis and neck are taken as the spine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PREFIXES = (
    "mixamorig",
    "bip",
    "biped",
    "character",
    "def",
    "org",
    "mch",
    "skeleton",
    "armature",
    "rig",
    "j",
    "c",
    "valve",
)
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
"""Names in use for the joints of a limb, most reliable first."""
_SHOULDERS = ("shoulder", "shldr")
_KNOWN_PARTS = frozenset(part for parts in _SIDED_PARTS.values() for part in parts) | set(_SHOULDERS)


def joints_by_name(names: tuple[str, ...]) -> dict[str, str]:
    """HumanML3D joint -> joint of the file, for all joints recognised by name; `names` begins with the root."""
    parts: dict[tuple[str, str], str] = {}
    for name, key in zip(names, _sides_and_parts(names), strict=True):
        parts.setdefault(key, name)
    found = _trunk(parts, names[0])
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
    """Side ("left", "right" or "") and part ("upleg", "spine1", ...) that each name gives."""
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
        # "L5" is a vertebra, not a left joint.
        if word in _SIDES and any(other.isalpha() for other in rest):
            return _SIDES[word], "".join(rest)
    part = "".join(words)
    for prefix in ("left", "right", "l", "r"):
        rest = part.removeprefix(prefix)
        if rest != part and rest in _KNOWN_PARTS:
            return _SIDES[prefix], rest
    return "", part
