"""A body that stands still is a cheat where motion was asked for, and not where it was not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motions.data.prompts import Prompt, Segment
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import HUMANML3D
from rewards.physics.kinematic import PhysicsScorer
from rewards.physics.stillness import asks_for_stillness
from rewards.settings import RewardSettings
from rollouts.messages import GroupMotions
from tests.toys.synthetic_motion import walking_joints

STILL = ("a person stands still", "a man sits completely still for a while", "someone stands there motionless")
STILL += ("the person freezes", "she does not move", "a figure holds still, arms raised", "a man waits without moving")
MOVING = ("a person walks", "a person is still walking", "he still jumps", "a person moves", "a man stands up")
FRAMES = 40


def gate(texts: tuple[str, ...], joints: torch.Tensor, **options: object) -> dict[str, float]:
    """Terms of a motion under a prompt of segments of equal lengths."""
    features = extract_features(joints.numpy(), HUMANML3D).astype(np.float32)[None]
    size = features.shape[1] // len(texts)
    prompt = Prompt(", then ".join(texts), tuple(Segment(text, size) for text in texts))
    group = GroupMotions(features, np.array([features.shape[1]]), prompt, 0, 0.0)
    settings = RewardSettings.of(use_physics_reward=True, **options)
    return {name: float(value[0]) for name, value in PhysicsScorer(settings, HUMANML3D).score(group).terms.items()}


def walking(num_frames: int = FRAMES + 1) -> torch.Tensor:
    return torch.from_numpy(walking_joints(HUMANML3D, num_frames))


def standing(num_frames: int = FRAMES + 1) -> torch.Tensor:
    return walking()[:1].repeat(num_frames, 1, 1)


@pytest.mark.parametrize("text", STILL)
def test_texts_that_ask_for_stillness(text: str) -> None:
    assert asks_for_stillness(text)
    assert asks_for_stillness(text.upper())


@pytest.mark.parametrize("text", MOVING)
def test_texts_that_ask_for_motion(text: str) -> None:
    assert not asks_for_stillness(text)


def test_standing_still_is_paid_where_it_was_asked_for() -> None:
    frozen, paid = gate(("a person walks",), standing()), gate(("a person stands still",), standing())
    assert frozen["physics"] < 0.01 < 0.5 < paid["physics"]
    assert paid["speed_gate"] == 1.0 and paid["joint_speed"] == frozen["joint_speed"]
    assert gate(("a person stands still",), standing(), spare_still_prompts=False)["physics"] == frozen["physics"]
    assert gate(("a person walks",), walking())["speed_gate"] == 1.0


def test_only_the_frames_of_the_segment_are_spared() -> None:
    texts = ("a person walks", "a person stands still")
    assert gate(texts, standing())["speed_gate"] < 0.01, "it should have walked first"
    half = torch.cat([walking()[: FRAMES // 2], walking()[FRAMES // 2 - 1 :][:1].repeat(FRAMES // 2 + 1, 1, 1)])
    speed = gate(texts, half)["joint_speed"]
    options = {"min_joint_speed": 1.5 * speed}
    assert gate(texts, half, **options)["speed_gate"] == 1.0
    assert gate(texts, half, **options, spare_still_prompts=False)["speed_gate"] == pytest.approx(1 / 1.5, rel=1e-3)
