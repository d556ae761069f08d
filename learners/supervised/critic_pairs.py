"""Pairs of motions for the training of a critic: synthetic ones, made from good motions, and lists of choices.

Synthetic pairs are a clean window of a motion and the same window with a flaw (`motions.data.flaws`), both turned by
the same random angle about the vertical. Lists are MotionCritic's: a `.pth` file with a list of dictionaries
`motion_better` and `motion_worse`, each [T, 25, 3].

All pairs of one recording (or, in lists, pairs that share a motion) are on the same side of a split. Of nine groups in
order, the eighth is for validation, which may choose a checkpoint, and the ninth for the test, which chooses nothing;
synthetic pairs have so few recordings that of five the fourth and the fifth are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from learners.supervised.critic import PairBatch
from motions.base.errors import UserError
from motions.base.safe_files import TensorFileError, read_tensor_file
from motions.data.flaws import FLAWS, flawed
from motions.data.text_motion import TextMotion
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import Skeleton
from rewards.critic.network import NUM_ROWS
from rewards.critic.poses import poses_of_joints
from rewards.critic.scoring import from_first_frame, pad_poses

Part = Literal["train", "validation", "test"]

ROUND_OF_LISTS = 9
ROUND_OF_RECORDINGS = 5
LEAST_STRENGTH = 0.5
"""Of a flaw in a pair with a clean motion. Weaker ones occur in graded pairs."""


def part_of_group(place: int, of: int) -> Part:
    """The part of a split that the group of this place (from 0) belongs to, with `of` groups to a round."""
    return "test" if place % of == of - 1 else "validation" if place % of == of - 2 else "train"


def split_recordings(items: Sequence[TextMotion]) -> dict[Part, list[TextMotion]]:
    """The motions by the part of a split; all of a recording are in one."""
    places = {name: place for place, name in enumerate(sorted({item.source for item in items}))}
    parts: dict[Part, list[TextMotion]] = {"train": [], "validation": [], "test": []}
    for item in items:
        parts[part_of_group(places[item.source], ROUND_OF_RECORDINGS)].append(item)
    return parts


class SyntheticPairs:
    """Source of synthetic pairs from motions of some recordings.

    Example:
        pairs = SyntheticPairs(items, HUMANML3D, min_frames=24, clip_frames=60)
        batch = pairs.sample(np.random.default_rng([seed, step]), 32, graded_share=0.25)
    """

    def __init__(self, items: Sequence[TextMotion], skeleton: Skeleton, min_frames: int, clip_frames: int) -> None:
        """Recovers the joints of the motions; windows have `min_frames` to `clip_frames` frames.

        Raises:
            UserError: no motion has `min_frames` frames.
        """
        self.skeleton = skeleton
        self.min_frames = min_frames
        self.clip_frames = clip_frames
        self.sources = sorted({item.source for item in items})
        self._joints = [
            recover_joints(torch.from_numpy(item.features), skeleton).numpy() * skeleton.metres_per_unit
            for item in items
            if item.num_frames >= min_frames
        ]
        if not self._joints:
            raise UserError(f"none of {len(items)} motions has {min_frames} frames (min_crop_frames)")

    def sample(self, rng: np.random.Generator, num_pairs: int, graded_share: float) -> PairBatch:
        """Pairs with random flaws, strengths and windows."""
        names = list(FLAWS)
        return self._pairs([names[rng.integers(len(names))] for _ in range(num_pairs)], rng, graded_share)

    def held_out(self, rng: np.random.Generator, num_pairs: int) -> dict[str, PairBatch]:
        """Pairs of a clean and a flawed motion, `num_pairs` for each flaw, by its name."""
        return {name: self.of_flaw(name, rng, num_pairs, 0.0) for name in FLAWS}

    def of_flaw(self, flaw: str, rng: np.random.Generator, num_pairs: int, graded_share: float) -> PairBatch:
        """Pairs of one flaw, a share of which have less of it instead of none on the better side."""
        return self._pairs([flaw] * num_pairs, rng, graded_share)

    def clean(self, rng: np.random.Generator, num_motions: int) -> list[Tensor]:
        """Windows [T_i, 25, 3] of clean motions."""
        windows = self.windows(rng, num_motions)
        poses = self._poses(windows)
        return [poses[row, : len(window)] for row, window in enumerate(windows)]

    def windows(self, rng: np.random.Generator, num_motions: int) -> list[np.ndarray]:
        """Joints [T_i, J, 3] in metres of windows of clean motions."""
        return [self._window(rng) for _ in range(num_motions)]

    def _pairs(self, flaws: Sequence[str], rng: np.random.Generator, graded_share: float) -> PairBatch:
        windows: list[np.ndarray] = []
        for flaw in flaws:
            window = self._window(rng)
            strengths = (0.0, rng.uniform(LEAST_STRENGTH, 1.0))
            if rng.random() < graded_share:
                much = rng.uniform(LEAST_STRENGTH, 1.0)
                strengths = (rng.uniform(0.0, 0.6) * much, much)
            seed = int(rng.integers(2**63))
            windows += [flawed(window, self.skeleton, flaw, s, np.random.default_rng(seed)) for s in strengths]
        poses = self._poses(windows)
        return PairBatch(poses[::2], poses[1::2], torch.tensor([len(window) for window in windows[::2]]))

    def _poses(self, windows: Sequence[np.ndarray]) -> Tensor:
        """Poses [N, T, 25, 3] of windows [T_i, J, 3]; after its end a window stays as it was last."""
        frames = max(map(len, windows))
        padded = [np.pad(window, ((0, frames - len(window)), (0, 0), (0, 0)), mode="edge") for window in windows]
        return poses_of_joints(torch.from_numpy(np.stack(padded)), self.skeleton)

    def _window(self, rng: np.random.Generator) -> np.ndarray:
        """A random window [T, J, 3] of a motion, turned about the vertical."""
        joints = self._joints[rng.integers(len(self._joints))]
        longest = min(len(joints), self.clip_frames)
        length = longest if rng.random() < 0.5 else int(rng.integers(self.min_frames, longest + 1))
        start = int(rng.integers(len(joints) - length + 1))
        angle = rng.uniform(0.0, 2.0 * np.pi)
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        return (joints[start : start + length] @ turn.T).astype(np.float64)


class ListedPairs:
    """Source of pairs from a list."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._pairs = tuple(pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, rng: np.random.Generator, num_pairs: int, clip_frames: int | None = None) -> PairBatch:
        """Random pairs of the list, each at most once where the list has as many. Of motions that are longer than
        `clip_frames` the same random window of both is taken."""
        rows = rng.choice(len(self._pairs), num_pairs, replace=num_pairs > len(self._pairs))
        pairs = [self._pairs[row] for row in rows.tolist()]
        if clip_frames is not None:
            starts = [int(rng.integers(max(len(better) - clip_frames, 0) + 1)) for better, _ in pairs]
            pairs = [
                (from_first_frame(better[at : at + clip_frames]), from_first_frame(worse[at : at + clip_frames]))
                for at, (better, worse) in zip(starts, pairs, strict=True)
            ]
        return _batch(pairs)

    def all(self) -> PairBatch:
        """All pairs in their order."""
        return _batch(self._pairs)

    def better(self, most: int) -> list[Tensor]:
        """The better motions of the first pairs."""
        return [better for better, _ in self._pairs[:most]]

    def joined(self, others: ListedPairs) -> ListedPairs:
        """These pairs, then the others."""
        return ListedPairs([*self._pairs, *others._pairs])

    def groups(self) -> list[int]:
        """For each pair the number of its group, from 0 in the order of the list: pairs that share a motion, also by
        way of others, are in one."""
        places: dict[bytes, int] = {}
        ends = [[places.setdefault(motion.numpy().tobytes(), len(places)) for motion in pair] for pair in self._pairs]
        rows, columns = np.array(ends).reshape(-1, 2).T
        links = coo_matrix((np.ones(len(ends)), (rows, columns)), shape=(len(places), len(places)))
        label_of = connected_components(links, directed=False)[1]
        numbers: dict[int, int] = {}
        return [numbers.setdefault(int(label_of[row]), len(numbers)) for row in rows]

    def split(self, of: int = ROUND_OF_LISTS) -> dict[Part, ListedPairs]:
        """The pairs by the part of a split; pairs of a group stay together."""
        return self.parts(self.groups(), of)

    def parts(self, groups: Sequence[int], of: int = ROUND_OF_LISTS) -> dict[Part, ListedPairs]:
        """The pairs by the part of a split, which follows from the number of each pair's group."""
        parts: dict[Part, list[tuple[Tensor, Tensor]]] = {"train": [], "validation": [], "test": []}
        for pair, group in zip(self._pairs, groups, strict=True):
            parts[part_of_group(group, of)].append(pair)
        return {part: ListedPairs(pairs) for part, pairs in parts.items()}


def read_pairs(path: Path) -> ListedPairs:
    """The pairs of a MotionCritic pair list, without running code from the file.

    Raises:
        UserError: naming file, pair and what is wrong: no such file, no list of pairs, a motion of another shape, two
            motions of different lengths, a number that is not finite, or no pair.
    """
    if not path.is_file():
        raise UserError(f"pairs_path {path}: no such file")
    try:
        content = read_tensor_file(path)
    except TensorFileError as error:
        raise UserError(f"pairs_path {error}") from error
    if not isinstance(content, list) or not content:
        raise UserError(f"pairs_path {path}: holds {_described(content)}, expected a list of pairs")
    return ListedPairs([_checked_pair(entry, f"pairs_path {path}: pair {row}") for row, entry in enumerate(content)])


def _checked_pair(entry: object, where: str) -> tuple[Tensor, Tensor]:
    if not isinstance(entry, Mapping) or not {"motion_better", "motion_worse"} <= entry.keys():
        raise UserError(f"{where} is {_described(entry)}, expected motion_better and motion_worse")
    motions: list[Tensor] = []
    for name in ("motion_better", "motion_worse"):
        motion = entry[name]
        if not isinstance(motion, Tensor) or motion.ndim != 3 or motion.shape[1:] != (NUM_ROWS, 3) or not len(motion):
            raise UserError(f"{where}: {name} is {_described(motion)}, expected a tensor [T, {NUM_ROWS}, 3]")
        if not bool(motion.isfinite().all()):
            raise UserError(f"{where}: {name} has values that are not finite")
        motions.append(motion.to(torch.float32))
    if len(motions[0]) != len(motions[1]):
        raise UserError(f"{where}: its motions have {len(motions[0])} and {len(motions[1])} frames")
    return motions[0], motions[1]


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(str, list(value)[:4])) or 'nothing'}"
    return "an empty list" if value == [] else f"a {type(value).__name__}"


def _batch(pairs: Sequence[tuple[Tensor, Tensor]]) -> PairBatch:
    first, lengths = pad_poses([better for better, _ in pairs])
    return PairBatch(first, pad_poses([worse for _, worse in pairs])[0], lengths)
