"""The two skeletons of text-to-motion data: HumanML3D's 22 joints and KIT-ML's 21.

The tables (chains, raw directions, face and foot joints, thresholds) are those of HumanML3D's processing. Axes: x to
the character's left, y up, z forward. Arrays are read-only, so a skeleton is shared and used as a constant.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from motions.base.errors import UserError


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints, their hierarchy, and the constants that the feature vector needs.

    Example:
        HUMANML3D.joint_names[15], HUMANML3D.num_features   # ("head", 263)
    """

    name: str
    joint_names: tuple[str, ...]
    chains: tuple[tuple[int, ...], ...]
    """Kinematic chains. Inverse kinematics starts each one at the root's rotation, whichever joint it begins at."""
    raw_directions: np.ndarray
    """[J, 3] float64, unit direction of each bone (parent to joint) in the rest pose; zero for the root."""
    target_offsets: np.ndarray
    """[J, 3] float64, bone vectors of the skeleton that every motion is retargeted to, in data units."""
    face_joints: tuple[int, int, int, int]
    """Right hip, left hip, right shoulder, left shoulder, which define the heading."""
    foot_joints: tuple[int, int, int, int]
    """Left ankle, left toe, right ankle, right toe: the order of the four contact features."""
    leg_joints: tuple[int, int]
    """Knee and ankle, whose bone lengths give the scale between a source skeleton and this one."""
    mirror_pairs: tuple[tuple[int, int], ...]
    """(left, right) joints that change places under mirroring."""
    fps: float
    contact_threshold: float
    """A foot joint is in contact while its squared displacement per frame (squared data units) is below this."""
    metres_per_unit: float

    def __post_init__(self) -> None:
        for name in ("raw_directions", "target_offsets"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != (self.num_joints, 3):
                raise ValueError(f"{self.name}: {name} has shape {array.shape}, expected {(self.num_joints, 3)}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Skeleton):
            return NotImplemented
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def num_joints(self) -> int:
        """Number J of joints."""
        return len(self.joint_names)

    @property
    def num_features(self) -> int:
        """Width of the feature vector: 263 for 22 joints, 251 for 21."""
        return 12 * self.num_joints - 1

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent of each joint, -1 for the root, derived from the chains."""
        parent_of = {child: parent for chain in self.chains for parent, child in pairwise(chain)}
        return tuple(parent_of.get(joint, -1) for joint in range(self.num_joints))

    def index(self, joint_name: str) -> int:
        """Index of a joint by name. Raises ValueError that lists the joints' names."""
        if joint_name not in self.joint_names:
            raise ValueError(f"joint {joint_name!r}: {self.name} has {', '.join(self.joint_names)}")
        return self.joint_names.index(joint_name)


_RIGHT, _LEFT, _UP, _DOWN, _FORWARD, _NONE = (-1, 0, 0), (1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, 0)


def _offsets(bones: tuple[tuple[tuple[int, int, int], float], ...]) -> np.ndarray:
    return np.array([np.array(direction, dtype=np.float64) * length for direction, length in bones])


def _directions(bones: tuple[tuple[tuple[int, int, int], float], ...]) -> np.ndarray:
    return np.array([direction for direction, _ in bones], dtype=np.float64)


# Bone lengths in metres, from the first frame of clip 000021, HumanML3D's reference.
_HUMANML3D_BONES = (
    (_NONE, 0.0),
    (_LEFT, 0.10307396948337555),
    (_RIGHT, 0.1098833680152893),
    (_UP, 0.13156823813915253),
    (_DOWN, 0.3936232030391693),
    (_DOWN, 0.39018821716308594),
    (_UP, 0.14319021999835968),
    (_DOWN, 0.4324330687522888),
    (_DOWN, 0.42564335465431213),
    (_UP, 0.05736473575234413),
    (_FORWARD, 0.14338181912899017),
    (_FORWARD, 0.14941906929016113),
    (_UP, 0.21936005353927612),
    (_LEFT, 0.1374867707490921),
    (_RIGHT, 0.14338283240795135),
    (_FORWARD, 0.1030392199754715),
    (_DOWN, 0.13161404430866241),
    (_DOWN, 0.122984379529953),
    (_DOWN, 0.2568399906158447),
    (_DOWN, 0.2630917429924011),
    (_DOWN, 0.26601171493530273),
    (_DOWN, 0.2698763906955719),
)

HUMANML3D = Skeleton(
    name="humanml3d",
    joint_names=(
        *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle"),
        *("right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head"),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    ),
    chains=(
        (0, 2, 5, 8, 11),
        (0, 1, 4, 7, 10),
        (0, 3, 6, 9, 12, 15),
        (9, 14, 17, 19, 21),
        (9, 13, 16, 18, 20),
    ),
    raw_directions=_directions(_HUMANML3D_BONES),
    target_offsets=_offsets(_HUMANML3D_BONES),
    face_joints=(2, 1, 17, 16),
    foot_joints=(7, 10, 8, 11),
    leg_joints=(5, 8),
    mirror_pairs=((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21)),
    fps=20.0,
    contact_threshold=0.002,
    metres_per_unit=1.0,
)

# KIT-ML's reference (first frame of clip 03950) is not public. Its released mean pose and the anthropometry of the MMM
# model that KIT-ML is recorded with (Winter: thigh .245, shank .246, upper arm .188, forearm .145 of the body height,
# 1000 units) give this substitute; pass your own `target_offsets` to the extraction if you have the clip.
_KIT_BONES = (
    (_NONE, 0.0),
    (_UP, 77.0),
    (_UP, 108.0),
    (_UP, 40.0),
    (_UP, 27.0),
    (_LEFT, 97.0),
    (_DOWN, 188.0),
    (_DOWN, 145.0),
    (_RIGHT, 97.0),
    (_DOWN, 188.0),
    (_DOWN, 145.0),
    (_LEFT, 45.0),
    (_DOWN, 245.0),
    (_DOWN, 246.0),
    (_FORWARD, 26.0),
    (_FORWARD, 46.0),
    (_RIGHT, 45.0),
    (_DOWN, 245.0),
    (_DOWN, 246.0),
    (_FORWARD, 26.0),
    (_FORWARD, 46.0),
)

KIT = Skeleton(
    name="kit",
    # Sides as HumanML3D's processing names them (although its raw directions of joints 5 and 11 point to +x).
    joint_names=(
        *("pelvis", "spine1", "spine2", "neck", "head", "right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "right_midfoot"),
        *("right_foot", "left_hip", "left_knee", "left_ankle", "left_midfoot", "left_foot"),
    ),
    chains=(
        (0, 11, 12, 13, 14, 15),
        (0, 16, 17, 18, 19, 20),
        (0, 1, 2, 3, 4),
        (3, 5, 6, 7),
        (3, 8, 9, 10),
    ),
    raw_directions=_directions(_KIT_BONES),
    target_offsets=_offsets(_KIT_BONES),
    face_joints=(11, 16, 5, 8),
    foot_joints=(19, 20, 14, 15),
    leg_joints=(17, 18),
    mirror_pairs=((8, 5), (9, 6), (10, 7), (16, 11), (17, 12), (18, 13), (19, 14), (20, 15)),
    fps=12.5,
    contact_threshold=0.05,
    # Mean root height 559.6 units in KIT against 0.9386 m in HumanML3D; leg lengths give the same figure.
    metres_per_unit=0.00168,
)

_SKELETONS = {skeleton.name: skeleton for skeleton in (HUMANML3D, KIT)}


def get_skeleton(name: str) -> Skeleton:
    """A skeleton by name (`humanml3d` or its short name `t2m`, `kit`). Raises UserError for others."""
    resolved = {"t2m": "humanml3d", "humanml": "humanml3d"}.get(name, name)
    if resolved not in _SKELETONS:
        raise UserError(f"skeleton {name!r}: known are {', '.join(_SKELETONS)}")
    return _SKELETONS[resolved]
