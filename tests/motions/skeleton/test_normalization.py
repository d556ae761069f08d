"""Statistics files, both array kinds, and what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motions.skeleton.features import FeatureLayout, extract_features
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT
from tests.toys.synthetic_motion import walking_joints


def clips() -> list[np.ndarray]:
    return [extract_features(walking_joints(HUMANML3D, num_frames=20, seed=seed), HUMANML3D) for seed in range(2)]


def test_fit_averages_std_within_groups_and_round_trips() -> None:
    normalizer = Normalizer.fit(clips(), HUMANML3D)
    frames = np.concatenate(clips())
    np.testing.assert_allclose(normalizer.mean, frames.mean(axis=0), atol=1e-6)
    for part in FeatureLayout(22).groups:
        np.testing.assert_allclose(normalizer.std[part], frames[:, part].std(axis=0).mean(), rtol=1e-5)
    normalised = normalizer.normalize(clips()[0])
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalizer.denormalize(normalised), clips()[0], atol=1e-5)


def test_fit_per_feature_gives_unit_variance() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(500, 251)) * rng.uniform(0.1, 9.0, size=251)
    normalised = Normalizer.fit([frames[:200], frames[200:]], KIT, grouped=False).normalize(frames)
    np.testing.assert_allclose(normalised.std(axis=0), 1.0, rtol=1e-4)


def test_torch_and_numpy_agree_and_keep_type() -> None:
    normalizer = Normalizer(np.arange(3.0), np.array([1.0, 2.0, 4.0]), eps=0.5)
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    for dtype in (torch.float32, torch.float64):
        tensor = torch.from_numpy(x).to(dtype).requires_grad_()
        ours = normalizer.normalize(tensor)
        assert ours.dtype == dtype and ours.requires_grad
        np.testing.assert_allclose(ours.detach().numpy(), (x - np.arange(3)) / [1.5, 2.5, 4.5], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(normalizer.denormalize(ours).detach().numpy(), x, rtol=1e-5, atol=1e-6)


def test_files_round_trip(tmp_path: Path) -> None:
    normalizer = Normalizer.fit(clips(), HUMANML3D)
    normalizer.save(tmp_path)
    again = Normalizer.load(tmp_path / "Mean.npy", tmp_path / "Std.npy", num_features=263)
    np.testing.assert_array_equal(again.mean, normalizer.mean)
    np.testing.assert_array_equal(again.std, normalizer.std)
    torch.save(torch.from_numpy(normalizer.mean.copy()), tmp_path / "mean.pt")
    torch.save(torch.from_numpy(normalizer.std.copy()), tmp_path / "std.pt")
    tmr = Normalizer.load(tmp_path / "mean.pt", tmp_path / "std.pt", eps=1e-12)
    np.testing.assert_array_equal(tmr.normalize(clips()[0]), normalizer.normalize(clips()[0]))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.0, np.nan], [1.0, 1.0], r"mean\[1\] is not finite"),
        ([0.0, 0.0], [1.0, np.inf], r"std\[1\] is not finite"),
        ([0.0, 0.0], [0.0, 1.0], r"std\[0\] is 0.0"),
        ([0.0, 0.0], [1.0, -1.0], r"std\[1\] is -1.0"),
        ([0.0, 0.0], [1.0], "mean has 2 numbers but std has 1"),
        ([[0.0]], [[1.0]], r"mean has shape \(1, 1\)"),
    ],
)
def test_bad_statistics_are_named(mean: list, std: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalizer(np.array(mean), np.array(std))


def test_bad_widths_are_named(tmp_path: Path) -> None:
    normalizer = Normalizer(np.zeros(263), np.ones(263))
    with pytest.raises(ValueError, match=r"251.*263"):
        normalizer.normalize(np.zeros((4, 251), dtype=np.float32))
    with pytest.raises(ValueError, match=r"251.*263"):
        normalizer.denormalize(torch.zeros(4, 251))
    with pytest.raises(ValueError, match="clips is empty"):
        Normalizer.fit([], HUMANML3D)
    with pytest.raises(ValueError, match=r"clip 1 has shape \(5, 251\)"):
        Normalizer.fit([clips()[0], np.zeros((5, 251))], HUMANML3D)
    normalizer.save(tmp_path)
    with pytest.raises(ValueError, match=r"Mean.npy: shape \(263,\), expected \(251,\)"):
        Normalizer.load(tmp_path / "Mean.npy", tmp_path / "Std.npy", num_features=251)


def test_bad_files_are_named(tmp_path: Path) -> None:
    good = tmp_path / "good.npy"
    np.save(good, np.ones(3))
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    torch.save({"mean": torch.ones(3)}, tmp_path / "dict.pt")
    (tmp_path / "mean.txt").write_text("1 2 3")
    for name in ("absent.npy", "pickled.npy", "broken.pt", "dict.pt", "mean.txt"):
        with pytest.raises(ValueError, match=name):
            Normalizer.load(tmp_path / name, good)
    np.save(tmp_path / "zero.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"zero.npy: std\[0\] is 0.0"):
        Normalizer.load(good, tmp_path / "zero.npy")


def test_official_statistics_load(parity_dir: Path) -> None:
    folder = parity_dir.parent / "data" / "humanml3d"
    if not folder.is_dir():
        pytest.skip(f"no HumanML3D sample files in {folder}")
    for mean, std, width in (
        ("Mean.npy", "Std.npy", 263),
        ("evaluator_stats/kit_mean.npy", "evaluator_stats/kit_std.npy", 251),
        ("tmr_stats/kitml/mean.pt", "tmr_stats/kitml/std.pt", 263),
    ):
        assert Normalizer.load(folder / mean, folder / std, num_features=width).num_features == width
    std = Normalizer.load(folder / "Mean.npy", folder / "Std.npy").std
    assert all(np.ptp(std[part]) < 2e-3 for part in FeatureLayout(22).groups)
