"""benchmarks.tracking: the corruptions are what their names say, and the check names what is missed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import tracking
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import HUMANML3D

PELVIS = 0


@pytest.fixture(scope="module")
def joints() -> dict[str, np.ndarray]:
    """Joints [T, 22, 3] of a walk and of its corruptions."""
    real = tracking.real_motion("walk", 2.0)
    variants = {tracking.REAL: real, **tracking.corruptions(real)}
    return {name: recover_joints(torch.from_numpy(value), HUMANML3D).numpy() for name, value in variants.items()}


def travel(motion: np.ndarray) -> float:
    return float(np.linalg.norm((motion[-1] - motion[0])[PELVIS, [0, 2]]))


def test_the_body_stays_is_lifted_or_slides(joints: dict[str, np.ndarray]) -> None:
    real = joints[tracking.REAL]
    assert len(joints) == 11 and travel(real) > 1.5
    for name in ("root_still", "half_in_place", "freeze"):
        assert travel(joints[name]) < 1e-9
    np.testing.assert_allclose(joints["float"][..., 1] - real[..., 1], 0.3)
    lift = (joints["hover"] - real)[..., 1]
    assert lift.min() == pytest.approx(0, abs=1e-9) and 0.2 < lift.max() <= 0.25 + 1e-9
    sideways = np.linalg.norm((joints["slide"] - real)[-1, PELVIS])
    assert sideways == pytest.approx((len(real) - 1) / HUMANML3D.fps, rel=0.05)


def test_limbs_are_jittered_frozen_shuffled_mirrored_or_slow(joints: dict[str, np.ndarray]) -> None:
    real, still = joints[tracking.REAL], joints["root_still"]
    for name, size in (("jitter_1cm", 0.01), ("jitter_3cm", 0.03)):
        assert (joints[name] - real)[:, 1:].std() == pytest.approx(size, rel=0.05)
    assert np.ptp(joints["freeze"], axis=0).max() < 1e-9
    ordered = np.sort(joints["shuffle"][..., 1], axis=0)
    np.testing.assert_allclose(ordered, np.sort(real[..., 1], axis=0))
    left, right = (joints["mirrored_leg"][:, HUMANML3D.index(f"{side}_ankle")] for side in ("left", "right"))
    np.testing.assert_allclose(left[:, 1], right[:, 1], atol=1e-6)
    np.testing.assert_allclose(joints["half_in_place"][::2], still[: (len(still) + 1) // 2], atol=1e-9)


def test_the_check_names_what_beats_real_motion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {tracking.REAL: 0.7, "hover": 0.2, "float": 0.1}
    results = {"walk": good, "run": {**good, tracking.REAL: 0.4, "hover": 0.4}}
    monkeypatch.setattr(tracking, "measure", lambda scorer, clip, seconds: results[clip])
    words = ["--clips", "walk", "run", "--check", "--json", str(tmp_path / "scores.json")]
    assert tracking.main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "| run | 0.40 | 0.40 | 0.10 | 1 |" in lines and "| walk | 0.70 | 0.20 | 0.10 | 2 |" in lines
    assert lines[-1] == "missed on 1 of 2 clips: run: real 0.40, at most 0.5, hover 0.40"
    assert json.loads((tmp_path / "scores.json").read_text()) == results
    assert tracking.main(["--clips", "walk", "--check"]) == 0


def test_a_real_walk_is_scored_above_one_that_floats() -> None:
    from rewards.physics.tracking import TrackingScorer
    from rewards.settings import RewardSettings

    scorer = TrackingScorer(RewardSettings.of(use_tracking_reward=True), HUMANML3D)
    scores = tracking.measure(scorer, "walk", 1.0)
    assert len(scores) == 11 and scores[tracking.REAL] > scores["float"]
