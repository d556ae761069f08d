"""HumanAct12 as MDM reads it: clips of SMPL rotations with one of twelve actions, and what is computed from them.

A clip's features [T, 150] are MDM's `[25, 6, T]`, frame by frame: the first two rows of the rotation matrix of each of
SMPL's 24 joints, then the root's translation from its first frame with three zeros. They are not normalised; y points
down, as in the data. There is one set of clips, without a split: figures against it are figures on the training set.

Without SMPL's licensed files joints come from rotations by a rest pose of SMPL's mean body that is rounded to a
centimetre, for data and generated motions alike; figures are not comparable with published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.base.safe_files import read_plain_pickle
from motions.data.text_motion import TextMotion
from motions.files.rigging import rest_place
from motions.skeleton.rotations import six_to_matrix
from motions.skeleton.skeletons import HUMANML3D, Skeleton
from rewards.actions.classifier import ACTIONS, NUM_JOINTS
from rewards.critic.network import NUM_ROWS
from rewards.critic.poses import rotations_of_poses

CLIP_FRAMES = 60
FILE = "humanact12poses.pkl"
NUM_FEATURES = 6 * NUM_ROWS
_HAND_M = 0.09
"""From wrist to hand."""


class RotationSkeleton(Skeleton):
    """A skeleton whose features are rotations: six numbers for each joint, six for the translation."""

    @property
    def num_features(self) -> int:
        """Width of the feature vector."""
        return 6 * (self.num_joints + 1)


def _with_hands() -> Skeleton:
    known = {field.name: getattr(HUMANML3D, field.name) for field in fields(Skeleton)}
    zeros = np.zeros((2, 3))
    return RotationSkeleton(
        **known
        | {
            "name": "humanact12",
            "joint_names": (*HUMANML3D.joint_names, "left_hand", "right_hand"),
            "chains": (*HUMANML3D.chains, (20, 22), (21, 23)),
            "raw_directions": np.concatenate((HUMANML3D.raw_directions, zeros)),
            "target_offsets": np.concatenate((HUMANML3D.target_offsets, zeros)),
            "fps": 20.0,
        }
    )


HUMANACT12 = _with_hands()
"""SMPL's 24 joints."""


@dataclass(frozen=True, slots=True)
class ActionClips:
    """N clips with their actions."""

    features: tuple[np.ndarray, ...]
    """[T_i, 150] float32 each."""
    actions: np.ndarray
    """[N] int64."""
    names: tuple[str, ...] = ACTIONS
    """Of all actions of the data, by their numbers."""

    def windows(self, seed: int, rows: Sequence[int] | None = None, frames: int = CLIP_FRAMES) -> np.ndarray:
        """Windows [n, frames, 150] of the clips `rows`, by default of all: from a random start, as MDM draws it, or
        with the last frame repeated."""
        rng = np.random.default_rng(seed)
        return np.stack(
            [_window(self.features[row], frames, rng) for row in (range(len(self.actions)) if rows is None else rows)]
        )

    def items(self, frames: int = CLIP_FRAMES) -> list[TextMotion]:
        """The clips as a training draws them, at least `frames` long; a caption is the number of the action."""
        return [
            TextMotion(str(place), str(place), _at_least(features, frames), (str(int(action)),))
            for place, (features, action) in enumerate(zip(self.features, self.actions, strict=True))
        ]


def read_humanact12(path: str | Path) -> ActionClips:
    """The clips of `humanact12poses.pkl`, or of a folder that holds it.

    Raises:
        UserError: no such file, one that names objects, or clips that do not fit: the message names clip and field.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    content = read_plain_pickle(file)
    if not isinstance(content, dict) or not {"poses", "joints3D", "y"} <= content.keys():
        raise UserError(f"{file}: expected a dictionary with poses, joints3D and y")
    poses, joints, actions = content["poses"], content["joints3D"], content["y"]
    if not len(poses) == len(joints) == len(actions) or not len(poses):
        raise UserError(f"{file}: {len(poses)} poses, {len(joints)} joints3D and {len(actions)} y; expected as many")
    features = []
    for clip, (turns, places, action) in enumerate(zip(poses, joints, actions, strict=True)):
        turns, places = np.asarray(turns, np.float32), np.asarray(places, np.float32)
        where = f"{file}: clip {clip}"
        if turns.ndim != 2 or turns.shape[1] != 3 * NUM_JOINTS or not len(turns):
            raise UserError(f"{where}: poses have shape {turns.shape}; expected [frames, {3 * NUM_JOINTS}]")
        if places.shape != (len(turns), NUM_JOINTS, 3):
            raise UserError(f"{where}: joints3D have shape {places.shape}; expected {(len(turns), NUM_JOINTS, 3)}")
        if not (np.isfinite(turns).all() and np.isfinite(places).all()):
            raise UserError(f"{where} holds numbers that are not finite")
        if not 0 <= int(action) < len(ACTIONS):
            raise UserError(f"{where}: y is {int(action)}; actions are 0 to {len(ACTIONS) - 1}")
        rows = np.concatenate((turns.reshape(-1, NUM_JOINTS, 3), places[:, :1] - places[:1, :1]), axis=1)
        features.append(features_of_mdm(rotations_of_poses(torch.from_numpy(rows)[None]))[0].numpy())
    return ActionClips(tuple(features), np.asarray(actions, np.int64))


def mdm_of_features(features: Tensor) -> Tensor:
    """MDM's `[N, 25, 6, T]` of features [N, T, 150]."""
    return features.unflatten(2, (NUM_ROWS, 6)).permute(0, 2, 3, 1)


def features_of_mdm(motion: Tensor) -> Tensor:
    """Features [N, T, 150] of MDM's `[N, 25, 6, T]`."""
    return motion.permute(0, 3, 1, 2).flatten(2)


def joints_of_mdm(motion: Tensor) -> Tensor:
    """Joints [N, 24, 3, T] in metres of `[N, 25, 6, T]`, by the rounded rest pose; differentiable. The root stands
    where the translation says."""
    turns = six_to_matrix(motion[:, :-1].transpose(2, 3)).mT  # [N, 24, T, 3, 3]
    offsets = motion.new_tensor(_rest_offsets())
    places, world = [motion[:, -1, :3].transpose(1, 2)], [turns[:, 0]]
    for joint, parent in list(enumerate(HUMANACT12.parents))[1:]:
        places.append(places[parent] + (world[parent] @ offsets[joint]))
        world.append(world[parent] @ turns[:, joint])
    return torch.stack(places, dim=1).transpose(2, 3)


def _rest_offsets() -> np.ndarray:
    """[24, 3] metres, each joint from its parent."""
    known = np.array([rest_place(name) for name in HUMANML3D.joint_names])
    hands = known[[20, 21]] + np.array([[_HAND_M, 0.0, 0.0], [-_HAND_M, 0.0, 0.0]])
    places = np.concatenate((known, hands))
    return np.stack([places[joint] - places[max(parent, 0)] for joint, parent in enumerate(HUMANACT12.parents)])


def _at_least(features: np.ndarray, frames: int) -> np.ndarray:
    if len(features) >= frames:
        return features
    return np.concatenate((features, np.repeat(features[-1:], frames - len(features), axis=0)))


def _window(features: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(max(len(features) - frames, 1)))
    return _at_least(features, frames)[start : start + frames]
