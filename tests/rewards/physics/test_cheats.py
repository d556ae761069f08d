"""Real motions earn more of the physics reward than cheats do, and constants come from the data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from motions.data.builtin import build_builtin
from motions.data.text_motion import TextMotion
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import HUMANML3D
from rewards.declared.physics import PhysicsConstants, PhysicsSettings
from rewards.physics.calibration import calibrate, read_constants, write_constants
from rewards.physics.kinematic import physics_terms, skate_loss

FPS = HUMANML3D.fps
FEET = list(HUMANML3D.foot_joints)


@pytest.fixture(scope="module")
def walks() -> tuple[TextMotion, ...]:
    return build_builtin(("walk",))["train"]


def joints_of(item: TextMotion) -> torch.Tensor:
    return recover_joints(torch.from_numpy(np.array(item.features, np.float64))[None], HUMANML3D)


def reward(joints: torch.Tensor, settings: PhysicsSettings) -> float:
    lengths = torch.full((1,), joints.shape[1])
    return float(physics_terms(joints, lengths, HUMANML3D, settings)["physics"][0])


def sliding(joints: torch.Tensor, speed: float) -> torch.Tensor:
    """The same pose, carried over the floor."""
    frozen = joints[:, :1].expand(-1, joints.shape[1], -1, -1).clone()
    frozen[..., 2] += (torch.arange(joints.shape[1]) * speed / FPS)[None, :, None]
    return frozen


def wriggling(joints: torch.Tensor) -> torch.Tensor:
    """One pose whose joints shake, faster than the speed gate."""
    shaken = joints[:, :1].expand(-1, joints.shape[1], -1, -1).clone()
    return shaken + 0.03 * (-1.0) ** torch.arange(joints.shape[1])[None, :, None, None]


CHEATS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "slides": lambda joints: sliding(joints, 1.0),
    "slides fast": lambda joints: sliding(joints, 3.0),
    "freezes": lambda joints: sliding(joints, 0.0),
    "wriggles": wriggling,
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_real_motion_beats(cheat: str, walks: Sequence[TextMotion]) -> None:
    constants = calibrate(walks, HUMANML3D)
    settings = PhysicsSettings(
        jerk_scale=constants.jerk_scale, jerk_floor=constants.jerk_floor, min_joint_speed=constants.min_joint_speed
    )
    for item in walks[::6]:
        joints = joints_of(item)
        assert reward(joints, settings) > reward(CHEATS[cheat](joints), settings)


def one_foot_slides(speed: float, other: float = 0.0) -> float:
    """L_skate of a body whose left foot slides, and whose right foot does so at another speed."""
    joints = torch.zeros(1, 21, 22, 3, dtype=torch.float64)
    seconds = torch.arange(21) / FPS
    joints[0, :, FEET[:2], 2] = (seconds * speed)[:, None].double()
    joints[0, :, FEET[2:], 2] = (seconds * other)[:, None].double()
    standing, valid = torch.ones(1, 20, 4, dtype=torch.bool), torch.ones(1, 20, dtype=torch.bool)
    return float(skate_loss(joints, standing, valid, HUMANML3D, 0.0, swing_speed=1.2)[0])


def test_sliding_faster_never_costs_less() -> None:
    for other in (0.0, 0.6, 1.19, 2.0):
        costs = [one_foot_slides(speed, other) for speed in np.linspace(0.0, 4.0, 41)]
        assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(costs))
        assert max(later - earlier for earlier, later in itertools.pairwise(costs)) < 0.5, "no cliff"
    assert one_foot_slides(0.3) == pytest.approx(0.5 * 0.3**2, rel=0.01), "slow feet pay their squared speed"
    assert one_foot_slides(3.0) <= 0.5 * 1.2**2, "a swinging foot beside a standing one pays a bounded price"
    assert one_foot_slides(3.0, 3.0) > 0.8 * 3.0**2, "where both slide, nobody walks"


def test_constants_come_from_the_data(walks: Sequence[TextMotion]) -> None:
    constants = calibrate(walks, HUMANML3D)
    assert constants.jerk_scale < 150, "walking is smoother than the built-in clips together"
    moves = np.arange(263) >= 3  # the first features turn and carry the root
    still = [replace(item, frames=np.repeat(item.features[:1], 40, axis=0) * moves) for item in walks]
    assert calibrate(still, HUMANML3D).min_joint_speed < 0.01, "people who stand are not frozen"
    with pytest.raises(ValueError, match="none of 1 motions has 4 frames"):
        calibrate([replace(walks[0], frames=walks[0].features[:3])], HUMANML3D)


def test_given_constants_win_and_a_run_keeps_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    measured = PhysicsConstants(jerk_scale=100.0, jerk_floor=0.5, min_joint_speed=0.05)
    settings = PhysicsSettings(min_joint_speed=0.0)
    assert settings.over(measured) == PhysicsConstants(100.0, 0.5, 0.0)
    assert settings.constants == PhysicsConstants(280.0, 0.35, 0.0)
    folder = tmp_path_factory.mktemp("run")
    assert read_constants(folder) is None
    write_constants(folder, measured)
    assert read_constants(folder) == measured
