"""Reads motions kept as rotations of SMPL's 24 joints, as MotionCritic and MDM on HumanAct12 and UESTC have them.

An array is [25, 6, T], rotations as the first two rows of their matrices, or [T, 25, 3], rotation vectors in radians;
the 25th row is the root's translation in metres. Arrays of several motions have one more dimension in front. There are
20 frames a second. Files are `.npy` arrays and torch files (`.pth`, `.pt`) of a tensor, of a dictionary with `motion`
and perhaps `comment`, or of a list of such dictionaries, of which MotionCritic's pair lists (`motion_better`,
`motion_worse`) are some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.files.motion import Motion
from motions.files.smpl import body_joints
from motions.skeleton.rotations import (
    matrix_to_quat,
    quat_from_rotation_vector,
    quat_multiply,
    quat_rotate,
    six_to_matrix,
)
from motions.skeleton.skeletons import HUMANML3D

_ROWS = 25
_KEYS = ("motion", "motion_better", "motion_worse")
_TO_Y_UP: dict[str, tuple[float, float, float, float]] = {
    "auto": (1.0, 0.0, 0.0, 0.0),
    "y": (1.0, 0.0, 0.0, 0.0),
    "z": (0.5**0.5, -(0.5**0.5), 0.0, 0.0),
    "-y": (0.0, 1.0, 0.0, 0.0),
}
"""Rotation to y up by the axis that points up in the file. HumanAct12 as MDM reads it has -y; `auto` means y."""


def are_rotations(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape holds motions as rotations."""
    return len(shape) in (3, 4) and (shape[-3:-1] == (_ROWS, 6) or shape[-2:] == (_ROWS, 3))


def read_rotations(content: object, name: str, up_axis: str = "auto") -> Iterator[Motion]:
    """The motions of an array or of a torch file's content.

    Args:
        name: begins the names of the motions.
        up_axis: axis that points up in the file: y (also `auto`), z or -y.

    Raises:
        UserError: there is no motion in it, one is not finite, or another axis.
    """
    if up_axis not in _TO_Y_UP:
        raise UserError(f"up_axis is {up_axis}; of files of SMPL's rotations it is one of {', '.join(_TO_Y_UP)}")
    turn = torch.tensor(_TO_Y_UP[up_axis], dtype=torch.float64)
    for label, values, text in _arrays(content, name):
        for row, motion in enumerate(values if values.ndim == 4 else values[None]):
            local, translation = _local(motion)
            if not (local.isfinite().all() and translation.isfinite().all()):
                raise UserError(f"{label}: motion {row} has values that are not finite")
            local = torch.cat((quat_multiply(turn.expand_as(local[:, :1]), local[:, :1]), local[:, 1:]), dim=1)
            joints = body_joints(local, quat_rotate(turn, translation))
            # Translations are counted from the first frame: where the floor is follows from the body.
            joints = joints - joints.new_tensor([0.0, 1.0, 0.0]) * joints[..., 1].min()
            caption = text[row] if row < len(text) else ""
            spans = ((caption, 0, len(joints)),) if caption else ()
            number = f"_{row:03d}" if values.ndim == 4 and len(values) > 1 else ""
            places = joints.numpy().astype(np.float32)
            yield Motion(f"{label}{number}", places, HUMANML3D, HUMANML3D.fps, spans, local.numpy())


def _arrays(content: object, name: str) -> Iterator[tuple[str, Tensor, list[str]]]:
    """Name, values and captions of each array."""
    if isinstance(content, (Tensor, np.ndarray)):
        values = torch.as_tensor(content)
        if not are_rotations(tuple(values.shape)) or not values.is_floating_point() or not values.numel():
            raise UserError(
                f"{name} is an array {list(values.shape)} of {values.dtype}; motions as rotations are [25, 6, T] or "
                "[T, 25, 3] floats, or several of them"
            )
        yield name, values.to(torch.float64), []
    elif isinstance(content, Mapping) and any(key in content for key in _KEYS):
        comment = content.get("comment", [])
        texts = [comment] if isinstance(comment, str) else [str(text) for text in comment]
        for key in _KEYS:
            if key in content:
                label = name if key == "motion" else f"{name}_{key.removeprefix('motion_')}"
                for inner, values, _ in _arrays(content[key], label):
                    yield inner, values, texts
    elif isinstance(content, list) and content:
        for place, entry in enumerate(content):
            yield from _arrays(entry, f"{name}_{place:04d}")
    else:
        raise UserError(f"{name} holds a {type(content).__name__} without a motion of SMPL's rotations")


def _local(motion: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations [T, 22, 4] of SMPL's first 22 joints, and translations [T, 3], of one motion."""
    joints = HUMANML3D.num_joints
    if motion.shape[-2] == 6:
        frames = motion.permute(2, 0, 1)
        # The rows of a matrix are the columns of its transpose.
        return matrix_to_quat(six_to_matrix(frames[:, :joints]).mT), frames[:, -1, :3]
    return quat_from_rotation_vector(motion[:, :joints]), motion[:, -1]
