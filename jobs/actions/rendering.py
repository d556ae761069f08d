"""Pages that play motions of a tuning's evaluations, and real clips: `--render_video` and `--render_gt`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from jobs.report.gallery import GalleryRow, render_gallery
from motions.base.atomic import atomic_write
from motions.files.motion import Motion
from rewards.actions.humanact12 import HUMANACT12, ActionClips, joints_of_mdm, mdm_of_features
from rewards.critic.poses import upright
from rollouts.messages import GroupMotions

FOLDER = "rendered"


class EvaluationPages:
    """Writes a page after each evaluation: a motion of each of the first actions.

    Example:
        pages = EvaluationPages(save_dir, num_motions=4)
        pages.see(group)        # as `Algorithm.beside_rewards`
        pages.write(step=100)   # rendered/step000000100.html
    """

    def __init__(self, save_dir: Path, num_motions: int) -> None:
        self._folder = save_dir / FOLDER
        self._num_motions = num_motions
        self._seen: list[Motion] = []

    def see(self, group: GroupMotions) -> dict[str, np.ndarray]:
        """Keeps the group's first motion, while there are too few; no further terms."""
        if len(self._seen) < self._num_motions:
            self._seen.append(motion_of(group.features[0, : int(group.lengths[0])], group.prompt.text))
        return {}

    def write(self, step: int) -> None:
        """Writes the page of the evaluation after `step`."""
        write_page(self._folder / f"step{step:09d}.html", f"After {step} steps", self._seen)
        self._seen = []


def write_real_clips(save_dir: Path, clips: ActionClips, num_motions: int, frames: int) -> None:
    """`rendered/gt.html`: the first clip of each of the first actions."""
    rows = [int(np.flatnonzero(clips.actions == action)[0]) for action in np.unique(clips.actions)[:num_motions]]
    windows = clips.windows(0, rows, frames)
    motions = [
        motion_of(window, clips.names[int(clips.actions[row])]) for window, row in zip(windows, rows, strict=True)
    ]
    write_page(save_dir / FOLDER / "gt.html", "Real clips", motions)


def motion_of(features: np.ndarray, text: str) -> Motion:
    """The motion of features [T, 150], upright."""
    joints = (
        joints_of_mdm(upright(mdm_of_features(torch.from_numpy(np.array(features))[None])))[0].permute(2, 0, 1).numpy()
    )
    floor = joints[..., 1].min() * np.array([0.0, 1.0, 0.0], np.float32)
    return Motion("motion", joints - floor, HUMANACT12, HUMANACT12.fps, ((text, 0, len(joints)),))


def write_page(path: Path, title: str, motions: Sequence[Motion]) -> None:
    """Writes a page that plays motions, with a button for each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = render_gallery(title, "", [GalleryRow(motion.title, [motion]) for motion in motions])
    with atomic_write(path) as file:
        file.write(page.encode())
