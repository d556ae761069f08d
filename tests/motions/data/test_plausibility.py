"""Data sets whose clips or statistics are others than a person would believe."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from motions.data.dataset import load_dataset
from motions.data.plausibility import SplitFigures
from motions.skeleton.features import extract_features, recover_joints
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D

Clips = list[np.ndarray]


@cache
def clips() -> Clips:
    """Windows of twelve different recordings."""
    items = load_dataset("builtin").items("train")
    return [np.asarray(item.features) for item in {item.source: item for item in items}.values()][:12]


def at_rate(factor: float) -> Clips:
    """The clips, sampled so that they play `factor` times as fast."""
    found = []
    for clip in clips():
        joints = recover_joints(torch.tensor(clip), HUMANML3D).numpy()
        times = np.arange(0.0, len(joints) - 1, factor)[:196]
        low = times.astype(int)
        share = (times - low)[:, None, None]
        found.append(extract_features(joints[low] * (1 - share) + joints[low + 1] * share, HUMANML3D))
    return found


def oddities(motions: Clips, normalizer: Normalizer | None = None) -> list[str]:
    figures = SplitFigures(HUMANML3D, len(motions))
    for number, motion in enumerate(motions):
        figures.add(f"{number:06d}", motion)
    return figures.oddities(normalizer or Normalizer.fit(motions, HUMANML3D))


def changed(change: Callable[[Normalizer], tuple[np.ndarray, np.ndarray]]) -> Normalizer:
    return Normalizer(*change(Normalizer.fit(clips(), HUMANML3D)))


def test_real_clips_are_plausible_with_statistics_of_either_kind() -> None:
    assert oddities(clips()) == []
    own = np.concatenate(clips())
    assert oddities(clips(), Normalizer(own.mean(axis=0), np.maximum(own.std(axis=0), 1e-3))) == []
    assert oddities(clips()[:6], Normalizer.fit(clips()[6:], HUMANML3D)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ours: (ours.mean, ours.std**2), r"holds the squares of the features' standard deviations"),
        (lambda ours: (ours.mean * 0, ours.std * 0 + 1), r"these are no statistics, nothing is normalised"),
        (lambda ours: (ours.mean, ours.std * 100), r"Std.npy is \d+ times the standard deviation"),
        (lambda ours: (ours.mean + 5 * ours.std, ours.std), r"Mean.npy is 5 standard deviations"),
    ],
)
def test_statistics_of_something_else_are_told(
    change: Callable[[Normalizer], tuple[np.ndarray, np.ndarray]], words: str
) -> None:
    (found,) = oddities(clips(), changed(change))
    assert re.search(words, found), found


@pytest.mark.parametrize(("factor", "words"), [(0.1, "liveliest tenth"), (4.0, "half of the clips accelerate")])
def test_clips_at_another_rate_are_told(factor: float, words: str) -> None:
    (found,) = oddities(at_rate(factor))
    assert words in found and "20 frames per second" in found


def test_clips_of_one_frame_are_told() -> None:
    motions = [*clips()[:10]]
    joints = recover_joints(torch.tensor(motions[3][:1]), HUMANML3D).numpy()
    motions[3] = extract_features(np.repeat(joints, 60, axis=0), HUMANML3D)
    (found,) = oddities(motions)
    assert found.startswith("nothing moves in 1 of 10 clips that were looked at (first 000003)")


def test_many_clips_are_sampled_over_the_whole_split() -> None:
    figures = SplitFigures(HUMANML3D, 640)
    for number in range(640):
        figures.add(f"{number:06d}", clips()[number % 12] * (100.0 if number > 320 else 1.0))
    assert any("the pelvis is" in text for text in figures.oddities(Normalizer.fit(clips(), HUMANML3D))) is False
    figures = SplitFigures(HUMANML3D, 640)
    for number in range(640):
        figures.add(f"{number:06d}", clips()[number % 12] * (100.0 if number > 300 else 1.0))
    assert any("the pelvis is" in text for text in figures.oddities(Normalizer.fit(clips(), HUMANML3D)))
