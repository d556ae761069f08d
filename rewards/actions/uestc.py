"""UESTC as MDM reads it: clips of SMPL rotations that VIBE estimated from videos, with one of forty actions.

A folder in ACTOR's layout (Petrovich et al. 2021):

    vibe_cache_refined.pkl   lists by video: pose [n, 72], joints3d [n, 49, 3] metres, orig_cam [n, 4]
    globtrans_usez.pkl       list of the body's places [n, 3] in front of the camera; made from orig_cam if it is absent
    info/names.txt           a name for each video, a{action}_d{view}_p{person}_c{side}_color.avi
    info/num_frames_min.txt  frames of each video that all its recordings have
    info/action_classes.txt  a name for each action

Videos of side 2 are turned by their view to the front; its view 8, from where a person walks around, is left out. 51 of
the 118 persons are for training, the others for the test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.base.safe_files import read_plain_pickle
from motions.skeleton.rotations import quat_from_rotation_vector, quat_multiply, quat_rotate, quat_to_rotation_vector
from rewards.actions.classifier import NUM_JOINTS
from rewards.actions.humanact12 import ActionClips, features_of_mdm
from rewards.critic.poses import rotations_of_poses

VIBE, PLACES = "vibe_cache_refined.pkl", "globtrans_usez.pkl"
NUM_ACTIONS = 40
TRAINING_PERSONS = frozenset(
    (
        *(1, 2, 6, 12, 13, 16, 21, 24, 28, 29, 30, 31, 33, 35, 39, 41, 42, 45, 47, 50, 52, 54, 55, 57, 59, 61, 63, 64),
        *(67, 69, 70, 71, 73, 77, 81, 84, 86, 87, 88, 90, 91, 93, 96, 99, 102, 103, 104, 107, 108, 112, 113),
    )
)
"""Of persons 1 to 118."""
_NAME = re.compile(r"a(\d+)_d(\d+)_p(\d+)_c(\d+)_color\.avi")
_NUM_PERSONS = 118
_FRONT_SIDE, _AROUND = 1, 8
_HIPS = 8
"""Of VIBE's joints, the middle of the hips."""
_NUM_VIBE_JOINTS = 49
_FOCAL_LENGTH, _IMAGE = 500.0, 540.0
"""Pixels."""


def read_uestc(path: str | Path, part: Literal["train", "test"], frames: int) -> ActionClips:
    """The clips of a part; those of the training have at least three quarters of `frames`.

    Raises:
        UserError: a file is missing or is another one, or a clip does not fit: the message names file, clip and field.
    """
    folder = Path(path)
    videos = _lines(folder / "info" / "names.txt")
    counts = _lines(folder / "info" / "num_frames_min.txt")
    names = _lines(folder / "info" / "action_classes.txt")
    if len(names) != NUM_ACTIONS:
        raise UserError(f"{folder / 'info' / 'action_classes.txt'}: {len(names)} actions; expected {NUM_ACTIONS}")
    file = folder / VIBE
    content = read_plain_pickle(file)
    if not isinstance(content, Mapping) or not {"pose", "joints3d"} <= content.keys():
        raise UserError(f"{file}: expected a dictionary with pose, joints3d and orig_cam")
    known = read_plain_pickle(folder / PLACES) if (folder / PLACES).is_file() else None
    lists: dict[str, Any] = {"pose": content["pose"], "joints3d": content["joints3d"], "num_frames_min": counts}
    if known is None:
        if "orig_cam" not in content:
            raise UserError(f"{file}: no orig_cam, and {folder / PLACES} is missing")
        lists["orig_cam"] = content["orig_cam"]
    else:
        lists[PLACES] = known
    for name, values in lists.items():
        if not isinstance(values, Sequence) or len(values) != len(videos):
            size = len(values) if isinstance(values, Sequence) else type(values).__name__
            raise UserError(f"{folder}: {name} has {size} entries; info/names.txt has {len(videos)} videos")
    features, actions = [], []
    for row, video in enumerate(videos):
        action, view, person, side = _parsed(video, folder / "info" / "names.txt", row)
        if (person in TRAINING_PERSONS) != (part == "train") or (side != _FRONT_SIDE and view == _AROUND):
            continue
        where = f"{file}: clip {row} ({video})"
        turns = _checked(lists["pose"][row], (3 * NUM_JOINTS,), f"{where}: pose")
        joints = _checked(lists["joints3d"][row], (_NUM_VIBE_JOINTS, 3), f"{where}: joints3d")
        places = _from_camera(_checked(lists["orig_cam"][row], (4,), f"{where}: orig_cam")) if known is None else None
        places = _checked(known[row], (3,), f"{folder / PLACES}: clip {row}") if places is None else places  # type: ignore[index]
        if not len(turns) == len(joints) == len(places):
            raise UserError(f"{where}: {len(turns)} pose, {len(joints)} joints3d and {len(places)} places; not as many")
        most = min(len(turns), _count(counts[row], folder, row))
        if part == "train" and most < 0.75 * frames:
            continue
        features.append(_features(turns[:most], (joints[:, _HIPS] + places)[:most], 0 if side == _FRONT_SIDE else view))
        actions.append(action)
    if not features:
        raise UserError(f"{folder}: no clip of the {part} part has frames enough")
    return ActionClips(tuple(features), np.array(actions, np.int64), tuple(names))


def _features(turns: np.ndarray, places: np.ndarray, view: int) -> np.ndarray:
    """Features [T, 150], turned by the view's eighths of a full turn about the vertical."""
    about = quat_from_rotation_vector(torch.tensor([0.0, -view * np.pi / 4, 0.0]))
    local = torch.from_numpy(turns).unflatten(1, (NUM_JOINTS, 3))
    root = quat_from_rotation_vector(local[:, 0])
    turned = quat_to_rotation_vector(quat_multiply(about.expand_as(root), root))
    moved = quat_rotate(about, torch.from_numpy(places - places[:1]))
    rows = torch.cat((turned[:, None], local[:, 1:], moved[:, None]), dim=1)
    return features_of_mdm(rotations_of_poses(rows[None]))[0].float().numpy()


def _from_camera(cameras: np.ndarray) -> np.ndarray:
    """Places [T, 3] of a body from cameras [T, 4], whose numbers are two scales and a shift in the image: the depth is
    that at which a perspective camera sees the body as large as the scale says."""
    depth = _FOCAL_LENGTH / (0.5 * _IMAGE * cameras[:, :1])
    return np.concatenate((cameras[:, 2:], depth), axis=1)


def _checked(values: object, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: no array of numbers ({error})") from error
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or not len(array):
        raise UserError(f"{where} has shape {array.shape}; expected [frames, {', '.join(map(str, shape))}]")
    if not np.isfinite(array).all():
        raise UserError(f"{where} holds numbers that are not finite")
    return array


def _parsed(video: str, file: Path, row: int) -> tuple[int, int, int, int]:
    """Action, view, person and side of a video's name."""
    found = _NAME.fullmatch(video.strip())
    if found is None:
        raise UserError(f"{file}: line {row + 1} is {video!r}; expected a name such as a0_d1_p001_c1_color.avi")
    action, view, person, side = map(int, found.groups())
    if not action < NUM_ACTIONS:
        raise UserError(f"{file}: line {row + 1} has action {action}; actions are 0 to {NUM_ACTIONS - 1}")
    if not 1 <= person <= _NUM_PERSONS:
        raise UserError(f"{file}: line {row + 1} has person {person}; persons are 1 to {_NUM_PERSONS}")
    return action, view, person, side


def _count(text: str, folder: Path, row: int) -> int:
    if not text.strip().isdecimal() or not int(text):
        raise UserError(f"{folder / 'info' / 'num_frames_min.txt'}: line {row + 1} is {text!r}; expected a number")
    return int(text)


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; UESTC's folder has info/, and {VIBE} as MDM's documents describe it")
    return read_text(file).splitlines()
