"""Left/right mirroring of joints, feature vectors and captions.

Mirroring commutes with the feature extraction except for retargeting, because the target skeleton is not quite
symmetric. For exact bone lengths mirror the joints before `extract_features`; mirror features if you have no joints.
"""

from __future__ import annotations

import re

import numpy as np

from motions.skeleton.features import FeatureLayout
from motions.skeleton.skeletons import Skeleton

_FLIP_X = np.array([-1.0, 1.0, 1.0], dtype=np.float32)
_FLIP_SIX = np.array([1.0, -1.0, -1.0, -1.0, 1.0, 1.0], dtype=np.float32)
"""Signs of M R M for M = diag(-1, 1, 1) in 6D form: y and z of the first column change sign, x of the second."""

_SIDED = re.compile(
    r"\b(?:(?P<side>left|right)(?P<rest>wards?|most|hand(?:ed)?)?|(?P<counter>(?:counter|anti)[- ]?)?clockwise)\b",
    re.IGNORECASE,
)


def mirror_joints(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Global joint positions [..., J, 3] seen in a mirror: x changes sign, left and right joints change places."""
    if joints.shape[-2:] != (skeleton.num_joints, 3):
        raise ValueError(f"joints have shape {joints.shape}, expected [..., {skeleton.num_joints}, 3]")
    return joints[..., _partners(skeleton), :] * _FLIP_X.astype(joints.dtype)


def mirror_features(features: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Feature vectors [..., D] (physical, not normalised) of the mirrored motion.

    Equal to extracting features from the mirrored joints without retargeting.
    """
    if features.shape[-1] != skeleton.num_features:
        raise ValueError(f"features have shape {features.shape}, expected [..., {skeleton.num_features}]")
    layout = FeatureLayout(skeleton.num_joints)
    partners = _partners(skeleton)
    without_root = partners[1:] - 1
    mirrored = features.copy()
    mirrored[..., layout.root_yaw] *= -1
    mirrored[..., layout.root_velocity.start] *= -1
    for part, order, signs in (
        (layout.positions, without_root, _FLIP_X),
        (layout.rotations, without_root, _FLIP_SIX),
        (layout.velocities, partners, _FLIP_X),
    ):
        joints = features[..., part].reshape(*features.shape[:-1], len(order), len(signs))
        mirrored[..., part] = (joints[..., order, :] * signs.astype(features.dtype)).reshape(*features.shape[:-1], -1)
    mirrored[..., layout.contacts] = np.roll(features[..., layout.contacts], 2, axis=-1)
    return mirrored


def mirror_caption(caption: str) -> str:
    """Swaps left with right and clockwise with counterclockwise, whole words only, keeping upper and lower case.

    Compounds are included (leftward, right-handed, anti-clockwise); "upright" and "bright" stay. A "left" that means
    "went away" or a "right" that means "correct" is swapped too, as in HumanML3D's own mirrored captions.

    Example:
        mirror_caption("Turns Left, then clockwise")   # "Turns Right, then counterclockwise"
    """
    return _SIDED.sub(_swap, caption)


def _swap(match: re.Match[str]) -> str:
    word = match.group(0)
    if match["side"]:
        swapped = {"left": "right", "right": "left"}[match["side"].lower()] + (match["rest"] or "").lower()
    else:
        swapped = "clockwise" if match["counter"] else "counterclockwise"
    if word.isupper():
        return swapped.upper()
    return swapped.capitalize() if word[0].isupper() else swapped


def _partners(skeleton: Skeleton) -> np.ndarray:
    """Index of the joint on the other side, [J]; joints of the middle are their own."""
    partners = np.arange(skeleton.num_joints)
    for left, right in skeleton.mirror_pairs:
        partners[[left, right]] = right, left
    return partners
