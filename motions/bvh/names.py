"""Recognises HumanML3D's joints by the names of a BVH file's joints, for the common naming schemes.

A name gives a side (Left, L_, l, .L, _l, " L ", 左) and a part (UpLeg, Thigh, UpperLeg, Hip, ひざ, ...) once prefixes
such as `mixamorig:`, `Bip01 ` or `DEF-`, Blender's `.001`, running numbers, and what most names of the file begin or
end with are removed. That covers CMU (BVH and ASF names), Mixamo, LaFAN1, SMPL, Xsens, Rokoko, 3ds Max Biped, Unreal,
VRM, DAZ, Character Creator, MikuMikuDance, Roblox, Bandai-Namco and Blender's Rigify. Spine joints are not recognised
by name: all joints between pelvis and neck are taken as the spine.
"""

from __future__ import annotations

import re
from collections import Counter
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
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")
_BLENDER_COPY = re.compile(r"\.\d{3}$")
_MOST = 0.8
"""Words that this share of a file's names begin or end with say nothing about the joint."""
_MIDDLES = ("c", "m", "mid")
_JAPANESE = {
    **{"左": " left ", "右": " right ", "足首": " ankle ", "つま先": " toe ", "ひざ": " knee ", "足": " upleg "},
    **{"手首": " wrist ", "ひじ": " elbow ", "肩": " shoulder ", "腕": " arm ", "首": " neck ", "頭": " head "},
    **{"下半身": " lowerbody ", "上半身": " upperbody ", "センター": " center "},
}
"""MikuMikuDance's names; longer ones are replaced first."""

_SIDED_PARTS = {
    "hip": ("upleg", "upperleg", "thighbend", "thigh", "uleg", "femur", "hipjoint", "hip", "leg"),
    "knee": ("knee", "shin", "calf", "lowerleg", "lowleg", "lleg", "tibia", "leg"),
    "ankle": ("ankle", "foot", "feet"),
    "foot": ("toebase", "toe", "toes", "toe0", "ball"),
    "collar": ("collar", "clavicle", "collarbone", "clav"),
    "shoulder": ("upperarm", "uparm", "shldrbend", "uarm", "arm", "humerus"),
    "elbow": ("elbow", "forearm", "forearmbend", "lowerarm", "lowarm", "larm", "farm", "radius"),
    "wrist": ("wrist", "hand"),
}
"""Names in use for the joints of a limb, most reliable first."""
_SHOULDERS = ("shoulder", "shldr")
_KNOWN_PARTS = frozenset(part for parts in _SIDED_PARTS.values() for part in parts) | set(_SHOULDERS)


def joints_by_name(names: tuple[str, ...]) -> dict[str, str]:
    """HumanML3D joint -> joint of the file, for all joints recognised by name; of two equal ones the first."""
    parts: dict[tuple[str, str], str] = {}
    for name, key in zip(names, _sides_and_parts(names), strict=True):
        parts.setdefault(key, name)
    found = _trunk(parts)
    for side in ("left", "right"):
        found.update({f"{side}_{joint}": name for joint, name in _limbs(parts, side).items()})
    return found


def _trunk(parts: Mapping[tuple[str, str], str]) -> dict[str, str]:
    names = {part: name for (side, part), name in parts.items() if not side}
    if names.keys().isdisjoint(("hips", "pelvis", "hip")) and {"spine", "spine4", "spine6"} <= names.keys():
        # Rigify numbers one chain from the pelvis to the head.
        return {"pelvis": names["spine"], "neck": names["spine4"], "head": names["spine6"]}
    found = {}
    for joint, candidates in (
        ("pelvis", ("hips", "pelvis", "hip", "lowerbody")),
        ("neck", ("neck", "neck0", "neck1", "necklower", "lowerneck", "necktwist1")),
        ("head", ("head",)),
    ):
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
    known = frozenset(names)
    # Blender numbers copies, LeftArm.001; where the name without number is there too, it is a chain such as Rigify's.
    plain = [short if (short := _BLENDER_COPY.sub("", name)) not in known else name for name in names]
    words = [_name_words(name) for name in plain]
    while (first := _common([each[0] for each in words if len(each) > 1], len(words))) is not None:
        words = [each[1:] if len(each) > 1 and each[0] == first else each for each in words]
    while (last := _common([each[-1] for each in words if len(each) > 1], len(words))) is not None:
        words = [each[:-1] if len(each) > 1 and each[-1] == last else each for each in words]
    if _are_numbered(words):
        words = [each[:-1] if len(each) > 1 and each[-1].isdigit() else each for each in words]
    # Where sides are marked at the end, the middle often is, too: Hips_C.
    words = [each[:-1] if len(each) > 1 and each[-1] in _MIDDLES else each for each in words]
    return [_side_and_part(each) for each in words]


def _are_numbered(words: list[list[str]]) -> bool:
    """Whether the names end with running numbers, as some converters write them: Hips_00, Spine1_01, LeftUpLeg_02."""
    numbers = [each[-1] for each in words if len(each) > 1 and each[-1].isdigit()]
    return len(numbers) > 3 and len(numbers) >= _MOST * len(words) and len(set(numbers)) >= _MOST * len(numbers)


def _common(words: list[str], num_names: int) -> str | None:
    """The word, no side, that most of the names begin or end with."""
    if num_names <= 3 or not words:
        return None
    word, count = Counter(words).most_common(1)[0]
    return word if count >= _MOST * num_names and word not in _SIDES else None


def _name_words(name: str) -> list[str]:
    """Lower-case words and numbers of a name, without rig prefix: "mixamorig:LeftUpLeg" -> left, up, leg."""
    name = re.split(r"[:|]", name)[-1]
    for part in sorted(_JAPANESE, key=len, reverse=True):
        name = name.replace(part, _JAPANESE[part])
    words = [word.lower().lstrip("0") or "0" for word in _WORDS.findall(name)]
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
