"""Each flaw is what its name says, grows with its strength, and leaves the rest of the motion as it was."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from motions.data.flaws import FLAWS, flawed
from motions.skeleton.skeletons import HUMANML3D, KIT
from tests.toys.synthetic_motion import walking_joints

JOINTS = walking_joints(HUMANML3D, 40)


def make(flaw: str, strength: float = 1.0, seed: int = 0) -> np.ndarray:
    return flawed(JOINTS, HUMANML3D, flaw, strength, np.random.default_rng(seed))


def bones(joints: np.ndarray) -> np.ndarray:
    """Lengths [T, bones]."""
    ends = [pair for chain in HUMANML3D.chains for pair in pairwise(chain)]
    return np.stack([np.linalg.norm(joints[:, a] - joints[:, b], axis=-1) for a, b in ends], axis=1)


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_a_pure_function_that_grows_with_its_strength(flaw: str) -> None:
    kept = JOINTS.copy()
    distances = [np.abs(make(flaw, strength) - JOINTS).mean() for strength in (0.0, 0.3, 1.0)]
    assert distances[0] < 1e-12 < distances[1] < distances[2]
    np.testing.assert_array_equal(JOINTS, kept)
    np.testing.assert_array_equal(make(flaw), make(flaw))
    assert np.abs(make(flaw, seed=1) - make(flaw)).max() > 0
    single = flawed(JOINTS.astype(np.float32), HUMANML3D, flaw, 1.0, np.random.default_rng(0))
    assert single.dtype == np.float32


@pytest.mark.parametrize("flaw", ["skating", "self_intersecting", "floating"])
def test_bones_keep_their_lengths(flaw: str) -> None:
    np.testing.assert_allclose(bones(make(flaw)), bones(JOINTS), atol=1e-5)


def test_jitter_moves_every_joint_from_frame_to_frame() -> None:
    step = np.linalg.norm(np.diff(make("jittered") - JOINTS, axis=0), axis=-1)
    assert (step.mean(axis=0) > 0.04).all()


def test_skating_moves_the_body_alone_over_the_floor() -> None:
    moved = make("skating") - JOINTS
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1], moved.shape), atol=1e-9)
    speed = np.linalg.norm(np.diff(moved[:, 0], axis=0), axis=-1) * HUMANML3D.fps
    assert not moved[..., 1].any() and 0.5 < speed.max() <= 1.5


@pytest.mark.parametrize("seed", range(4))
def test_a_hand_ends_in_the_trunk(seed: int) -> None:
    joints = make("self_intersecting", seed=seed)
    pelvis, neck = (joints[:, HUMANML3D.index(name)] for name in ("pelvis", "neck"))
    hands = [joints[-1, HUMANML3D.index(f"{side}_wrist")] for side in ("left", "right")]
    axis = np.linspace(0.0, 1.0, 50)[:, None]
    line = (1 - axis) * pelvis[-1] + axis * neck[-1]
    assert min(np.linalg.norm(line - hand, axis=-1).min() for hand in hands) < 0.12
    changed = np.abs(joints - JOINTS).max(axis=(0, 2)) > 1e-9
    assert changed.sum() == 2


def test_floating_raises_the_whole_body_for_good() -> None:
    rise = (make("floating") - JOINTS)[..., 1]
    assert rise[0].max() == 0 and (np.diff(rise[:, 0]) >= 0).all()
    np.testing.assert_allclose(rise[-1], 0.6, atol=1e-9)


def test_frozen_stands_still_from_the_first_half_on() -> None:
    still = np.abs(np.diff(make("frozen"), axis=0)).max(axis=(1, 2)) < 1e-12
    assert still[20:].all()
    half = np.abs(np.diff(make("frozen", 0.5), axis=0)).max(axis=(1, 2)) < 1e-12
    assert 10 <= half.sum() <= 20 and not half[-1], "with half the strength the motion goes on"


def test_other_skeletons_and_wrong_arguments() -> None:
    kit = walking_joints(KIT, 20) * KIT.metres_per_unit
    for flaw in FLAWS:
        assert flawed(kit, KIT, flaw, 0.5, np.random.default_rng(0)).shape == kit.shape
    for flaw, strength in (("ugly", 0.5), ("frozen", 1.5)):
        with pytest.raises(ValueError, match="legal are jittered, skating"):
            make(flaw, strength)
