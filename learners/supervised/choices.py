"""A person's choices between two motions, as the page of `jobs.prefer` saves them, and the motions that they are about.

choices.json    {"kind": "kinetune choices", "id": ..., "folder": ..., "choices": [{"left": NAME, "right": NAME,
                "choice": "left" | "right" | "equal" | "skip", "again": whether the pair was asked before}, ...]}
motions.pth     beside it or in the folder: {"id": ..., "poses": {NAME: [T, 25, 3]}}, see `rewards.critic.poses`
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.base.safe_files import TensorFileError, read_tensor_file
from rewards.critic.network import NUM_ROWS

MOTIONS = "motions.pth"
"""Name of the file of the motions."""
KIND = "kinetune choices"
ANSWERS = ("left", "right", "equal", "skip")


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to the question which of two motions is better."""

    left: str
    right: str
    answer: str
    """Of `ANSWERS`."""
    again: bool
    """Whether the pair was asked before, with the sides exchanged."""

    @property
    def better(self) -> str | None:
        """The motion that was preferred; None if neither was."""
        return {"left": self.left, "right": self.right}.get(self.answer)


@dataclass(frozen=True, eq=False)
class Choices:
    """The answers of a file, of which at least one prefers a motion."""

    answers: tuple[Choice, ...]
    poses: Mapping[str, Tensor]
    """[T, 25, 3] float32, by name."""
    files: tuple[Path, Path]
    """Of the answers, and of the motions."""

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Better and worse motion of each answer that prefers one."""
        found = []
        for one in self.answers:
            if one.better is not None:
                worse = one.right if one.better == one.left else one.left
                found.append((self.poses[one.better], self.poses[worse]))
        return found

    def agreement(self) -> dict[str, int]:
        """Numbers: answers, decided, equal, skipped, repeated (decided twice, or equal twice or once), consistent."""
        counts = Counter(one.answer for one in self.answers)
        first = {frozenset((one.left, one.right)): one for one in self.answers if not one.again}
        repeated = [
            (first[pair], one)
            for one in self.answers
            if one.again and (pair := frozenset((one.left, one.right))) in first
        ]
        compared = [(one, other) for one, other in repeated if "skip" not in (one.answer, other.answer)]
        return {
            "answers": len(self.answers),
            "decided": counts["left"] + counts["right"],
            "equal": counts["equal"],
            "skipped": counts["skip"],
            "repeated": len(compared),
            "consistent": sum(one.better == other.better for one, other in compared),
        }


def save_motions(folder: Path, identity: str, poses: Mapping[str, Tensor]) -> None:
    """Writes `motions.pth` into the folder of a page.

    Args:
        identity: by which page, choices and motions know that they belong together.
        poses: [T, 25, 3] of each motion by its name.
    """
    with atomic_write(folder / MOTIONS) as file:
        torch.save({"id": identity, "poses": dict(poses)}, file)


def read_choices(path: Path) -> Choices:
    """The choices of a file and their motions.

    Raises:
        UserError: naming the file, the choice and what is wrong: no such file, not a file of choices, no choice, none
            that prefers a motion, no motions of that page, a motion that is missing, not finite, of another skeleton or
            of another length than the one that it was compared with.
    """
    where = f"pairs_path {path}"
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    try:
        document = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise UserError(f"{where}: no choices; expected a file that the page of jobs.prefer saved")
    entries = document.get("choices")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{where}: holds no choice; answer on the page of jobs.prefer, then save")
    answers = tuple(_answer(entry, f"{where}: choice {row}") for row, entry in enumerate(entries))
    if not any(one.better for one in answers):
        counts = Counter(one.answer for one in answers)
        raise UserError(
            f"{where}: none of its {len(answers)} choices prefers a motion ({counts['equal']} equal, "
            f"{counts['skip']} skipped)"
        )
    file, poses = _read_motions(path, document, where)
    for row, one in enumerate(answers):
        _check_pair(one, poses, f"{where}: choice {row}", file)
    return Choices(answers, poses, (path, file))


def _answer(entry: Any, where: str) -> Choice:
    if not isinstance(entry, dict) or not {"left", "right", "choice"} <= entry.keys():
        raise UserError(f"{where} is {entry!r}; expected left, right and choice")
    left, right, answer = entry["left"], entry["right"], entry["choice"]
    if not isinstance(left, str) or not isinstance(right, str) or left == right:
        raise UserError(f"{where}: left {left!r} and right {right!r}; expected the names of two motions")
    if answer not in ANSWERS:
        raise UserError(f"{where}: choice is {answer!r}; legal are {', '.join(ANSWERS)}")
    return Choice(left, right, answer, bool(entry.get("again", False)))


def _read_motions(path: Path, document: Mapping[str, Any], where: str) -> tuple[Path, Mapping[str, Any]]:
    """The file and its poses by name, of the page that the choices were made on."""
    named = document.get("folder")
    folders = [path.parent, *([Path(named)] if isinstance(named, str) else [])]
    found = [folder / MOTIONS for folder in folders if (folder / MOTIONS).is_file()]
    if not found:
        raise UserError(
            f"{where}: its motions are missing: {MOTIONS}, which jobs.prefer wrote beside its page, is neither in "
            f"{' nor in '.join(map(str, folders))}"
        )
    for file in found:
        try:
            content = read_tensor_file(file)
        except TensorFileError as error:
            raise UserError(f"{where}: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("poses"), dict):
            raise UserError(f"{where}: {file} holds no poses by name")
        if content.get("id") == document.get("id"):
            return file, content["poses"]
    raise UserError(f"{where}: the motions of {', '.join(map(str, found))} belong to another page of jobs.prefer")


def _check_pair(one: Choice, poses: Mapping[str, Any], where: str, file: Path) -> None:
    for name in (one.left, one.right):
        if name not in poses:
            raise UserError(f"{where}: {file} has no motion {name!r}")
        motion = poses[name]
        if not isinstance(motion, Tensor) or motion.ndim != 3 or motion.shape[1:] != (NUM_ROWS, 3) or not len(motion):
            shape = list(motion.shape) if isinstance(motion, Tensor) else type(motion).__name__
            raise UserError(f"{where}: {name} in {file} is {shape}; expected poses [T, {NUM_ROWS}, 3] of SMPL's joints")
        if not bool(motion.isfinite().all()):
            raise UserError(f"{where}: {name} in {file} has values that are not finite")
    lengths = [len(poses[name]) for name in (one.left, one.right)]
    if lengths[0] != lengths[1]:
        raise UserError(f"{where}: {one.left} and {one.right} have {lengths[0]} and {lengths[1]} frames")
