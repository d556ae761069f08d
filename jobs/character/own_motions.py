"""What a training shows of motions of somebody's own before it begins: figures, and a page with the fitted motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from envs.settings import DeepMimicSettings
from envs.task.clips import OwnMotion, is_file, open_clip, own_motion
from jobs.report.gallery import GalleryRow, render_gallery
from motions.base.atomic import atomic_write
from motions.files.motion import Motion
from motions.humanoid.points import humanoid_skeleton, pose_points
from rewards.evaluation.character import fixed_phases, imitation_episodes, judged, open_loop

PAGE = "reference.html"
PAGE_FPS = 30.0
OPEN_LOOP_STARTS = 10


def show_own_motions(character: DeepMimicSettings, folder: Path) -> None:
    """Prints `describe_own_motions` and writes `reference.html` into a run's folder; nothing for built-in clips only.

    On the page each motion plays as it was read, beside the humanoid that is to be imitated.
    """
    motions = own_motions(character)
    # The folder of a pipeline's stage lies in the pipeline's, which has shown them.
    if not motions or (folder.parent / PAGE).is_file():
        return
    text = describe_own_motions(character)
    rows = [GalleryRow(motion.name, _played(motion)) for motion in motions]
    lead = f"{text}\nBeside a motion as it was read stands the humanoid that follows it."
    with atomic_write(folder / PAGE) as file:
        file.write(render_gallery("The motions to imitate", lead, rows).encode())
    print(f"{text}\nreference: {folder / PAGE}", flush=True)


def describe_own_motions(character: DeepMimicSettings) -> str:
    """Figures of every motion that is read from a file, and how far a character gets that follows it blindly.

    Raises:
        UserError: see `envs.task.clips.own_motion`.
    """
    lines = []
    for motion in own_motions(character):
        alone = judged(character.model_copy(update={"motion": (motion.name,), "motion_weights": None}))
        steps = max(1, round(motion.clip.duration * alone.control_hz))
        episodes = imitation_episodes(alone, open_loop, fixed_phases(OPEN_LOOP_STARTS), steps)
        possible = np.array([1.0] * OPEN_LOOP_STARTS) if motion.clip.cyclic else 1.0 - fixed_phases(OPEN_LOOP_STARTS)
        share = float(np.mean(episodes.values["survival_s"] / (possible * motion.clip.duration)))
        lines += [
            str(motion),
            f"  open loop: on its feet for {min(1.0, share):.0%} of the time, joints "
            f"{episodes.values['joint_error'].mean():.2f} rad from it",
        ]
    return "\n".join(lines)


def check_motions(character: DeepMimicSettings) -> None:
    """Opens every clip that is to be imitated, for what has to be said before a folder or a cluster is.

    Raises:
        UserError: see `envs.task.clips.open_clip`.
    """
    for name in character.motion:
        open_clip(name)


def own_motions(character: DeepMimicSettings) -> list[OwnMotion]:
    """The motions of `motion` that are files."""
    return [own_motion(name) for name in character.motion if is_file(name)]


def _played(motion: OwnMotion) -> list[Motion]:
    """What the page shows of a motion, side by side."""
    times = torch.arange(int(motion.clip.duration * PAGE_FPS + 1e-6) + 1, dtype=torch.float64) / PAGE_FPS
    points = pose_points(motion.clip.pose(times)).astype(np.float32)
    humanoid = Motion("humanoid", points, humanoid_skeleton(PAGE_FPS), PAGE_FPS)
    return [humanoid] if motion.source is None else [motion.source, humanoid]
