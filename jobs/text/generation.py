"""The files of generated motions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.report.gallery import GalleryRow, render_gallery
from motions.base.atomic import atomic_write
from motions.data.prompts import Prompt
from motions.drawing import draw_frames, save_gif
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.text import metre_joints
from rollouts.messages import GroupMotions


def write_results(folder: Path, groups: list[GroupMotions], skeleton: Skeleton, *, gif: bool) -> None:
    """Writes every file that `jobs.generate` names into an existing folder.

    Args:
        groups: one per prompt, with the same number of samples each.
    """
    joints = [metre_joints(group, skeleton) for group in groups]
    num_samples, num_repetitions = len(groups), len(groups[0].lengths)
    longest = max(motions.shape[1] for motions in joints)
    stacked = np.zeros((num_repetitions, num_samples, skeleton.num_joints, 3, longest), np.float32)
    for sample, (group, motions) in enumerate(zip(groups, joints, strict=True)):
        for repetition, length in enumerate(group.lengths.tolist()):
            motion = motions[repetition, :length].astype(np.float32)
            stacked[repetition, sample, :, :, :length] = motion.transpose(1, 2, 0)
            name = f"sample{sample:02d}_rep{repetition:02d}"
            _save_array(folder / f"{name}.npy", motion)
            _save_array(folder / f"{name}_features.npy", group.features[repetition, :length])
            if gif:
                _draw(folder / f"{name}.gif", motion, group.prompt, skeleton)
    _write_index(folder, groups, stacked)
    rows = [GalleryRow(group.prompt, list(motions)) for group, motions in zip(groups, joints, strict=True)]
    with atomic_write(folder / "index.html") as file:
        file.write(render_gallery(rows, skeleton, f"{num_samples} prompts, {num_repetitions} motions each").encode())


def _write_index(folder: Path, groups: list[GroupMotions], stacked: np.ndarray) -> None:
    """`results.npz` and the two text files, repetitions outermost as in MDM's results.npy."""
    texts = [group.prompt.text for group in groups]
    lengths = np.stack([group.lengths for group in groups], axis=1).reshape(-1)
    num_repetitions = len(stacked)
    with atomic_write(folder / "results.npz") as file:
        np.savez(
            file,
            allow_pickle=False,
            motion=stacked.reshape(-1, *stacked.shape[2:]),
            text=np.array(texts * num_repetitions),
            lengths=lengths,
            num_samples=np.array(len(groups)),
            num_repetitions=np.array(num_repetitions),
        )
    for name, lines in (("results.txt", texts * num_repetitions), ("results_len.txt", lengths.tolist())):
        with atomic_write(folder / name) as file:
            file.write("\n".join(map(str, lines)).encode() + b"\n")


def _draw(path: Path, joints: np.ndarray, prompt: Prompt, skeleton: Skeleton) -> None:
    captions = [segment.text for segment in prompt.segments for _ in range(segment.num_frames)][: len(joints)]
    save_gif(draw_frames(joints / skeleton.metres_per_unit, skeleton, captions=captions), path, skeleton.fps)


def _save_array(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)
