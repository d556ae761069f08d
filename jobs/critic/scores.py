"""Scores motions of files by a critic: what `jobs.critic_score` does."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from jobs.critic.settings import CriticScoreConfig
from jobs.report.gallery import GalleryRow, render_gallery
from jobs.report.viewing import new_folder, read_inputs
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.files.motion import Motion
from motions.files.reading import MotionReader
from motions.files.writing import PAGE, check_free
from rewards.critic.scorer import load_critic_of, reference_of, window_of
from rewards.critic.scoring import poses_of_motion, score_windows
from rollouts.devices import resolve_device

SCORES = Path("outputs/critic")
TABLE = "scores.csv"


@dataclass(frozen=True, eq=False)
class Scored:
    """A motion and what the critic says of it."""

    motion: Motion
    score: float
    """Mean of its windows."""
    worst: float
    """Of the worst window."""
    preferred: float
    """Probability of being preferred to a typical real motion, by the mean score."""

    @property
    def rotations(self) -> str:
        """Where its rotations come from."""
        return "approximate" if self.motion.turns is None else "own"


def run(config: CriticScoreConfig) -> None:
    """Scores the motions, prints the table, and writes the files."""
    motions, folder = prepare(config)
    scored = score(config, motions)
    shown = ends(scored, config.max_shown or len(scored))
    print(table(shown, len(scored)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    with atomic_write(folder / TABLE) as file:
        file.write(csv_text(scored).encode())
    print(folder / TABLE)
    if config.max_shown:
        with atomic_write(folder / PAGE) as file:
            file.write(page(shown, len(scored)).encode())
        print(folder / PAGE)


def plan(config: CriticScoreConfig) -> None:
    """Reads motions and critic, and says what would be scored."""
    motions, folder = prepare(config)
    loaded = load_critic_of(config.critic)
    window_of(loaded, config.critic)
    print(f"critic {loaded.source}, {len(motions)} motions")
    for name in names(config):
        print(f"would write {folder / name}")


def prepare(config: CriticScoreConfig) -> tuple[list[Motion], Path]:
    """The motions with names of their own, and the folder for the files, in which none of them exists.

    Raises:
        UserError: a file cannot be read, or a file of the same name exists.
    """
    motions = read_inputs(config.inputs, MotionReader(config.files, config.max_motions))
    folder = config.save_dir or new_folder(SCORES, config.inputs[0])
    check_free(folder, names(config))
    return motions, folder


def names(config: CriticScoreConfig) -> list[str]:
    """Names of the files that are written."""
    return [TABLE, PAGE] if config.max_shown else [TABLE]


def score(config: CriticScoreConfig, motions: Sequence[Motion]) -> list[Scored]:
    """The motions from best to worst."""
    loaded = load_critic_of(config.critic)
    critic = loaded.critic.to(resolve_device(config.device))
    with torch.inference_mode():
        poses = [poses_of_motion(motion) for motion in motions]
    windows = score_windows(critic, poses, window_of(loaded, config.critic))
    reference = reference_of(loaded, config.critic)
    scored = []
    for motion, part in zip(motions, windows, strict=True):
        mean = float(part.mean())
        preferred = float(torch.tensor(mean - reference).sigmoid())
        scored.append(Scored(motion, mean, float(part.min()), preferred))
    return sorted(scored, key=lambda one: -one.score)


def ends(scored: Sequence[Scored], most: int) -> list[tuple[int, Scored]]:
    """Places, from 1, and motions: all, or as many of the best as of the worst."""
    placed = list(enumerate(scored, start=1))
    if len(placed) <= most:
        return placed
    best = (most + 1) // 2
    return placed[:best] + placed[len(placed) - (most - best) :]


def table(shown: Sequence[tuple[int, Scored]], number: int) -> str:
    """The motions as lines of text."""
    width = max(len(one.motion.name) for _, one in shown)
    lines = [f"{'':>5}  {'motion':<{width}}  {'score':>8}  {'worst':>8}  {'preferred':>9}  rotations"]
    for place, one in shown:
        lines.append(
            f"{place:>5}  {one.motion.name:<{width}}  {one.score:>8.3f}  {one.worst:>8.3f}  {one.preferred:>9.1%}  "
            f"{one.rotations}"
        )
    if len(shown) < number:
        lines.append(f"{len(shown)} of {number} motions, the best and the worst; all are in {TABLE}")
    return "\n".join(lines)


def csv_text(scored: Sequence[Scored]) -> str:
    """All motions as CSV."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["place", "motion", "text", "score", "worst_window", "preferred", "frames", "fps", "rotations"])
    for place, one in enumerate(scored, start=1):
        motion = one.motion
        text = ", then ".join(text for text, _, _ in motion.spans)
        figures = [f"{value:.6g}" for value in (one.score, one.worst, one.preferred)]
        rows.writerow([place, motion.name, text, *figures, len(motion.joints), f"{motion.fps:g}", one.rotations])
    return out.getvalue()


def page(shown: Sequence[tuple[int, Scored]], number: int) -> str:
    """The page that plays the motions from best to worst."""
    rows = [GalleryRow(f"{place}. {one.score:.2f} · {one.motion.title}", [one.motion]) for place, one in shown]
    left_out = "" if len(shown) == number else f" Shown are {len(shown)} of {number}, the best and the worst."
    lead = (
        "From the highest score of the critic to the lowest; the number is the mean score of the motion's windows."
        + left_out
    )
    return render_gallery(f"{number} motions, best first", lead, rows)
