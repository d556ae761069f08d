"""The reward's numbers: errors, weights and scales of every preset and option, against a table of this file's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from envs.body.tracked import TRACKED_BODIES, TrackedState
from envs.settings import DeepMimicSettings
from envs.task.imitation_reward import TERMS, ImitationReward, reward_recipe
from envs.task.imitation_task import ImitationTask

PARTS = ("root", "chest", "neck", "hip", "knee", "ankle", "shoulder", "elbow")


@dataclass(frozen=True)
class Recipe:
    """A preset as its authors publish it."""

    weights: tuple[float, ...]
    """Pose, velocity, end effectors, root, velocity of the root, centre of mass."""
    scales: tuple[float, ...]
    joints: tuple[float, ...]
    """By `PARTS`; left and right alike."""
    effectors: float
    """What a squared distance of a hand or foot counts."""
    com: float
    """What a squared difference of the centre of mass counts."""
    frame: str
    com_velocity: bool = True
    apart: bool = False
    """The root's velocity is no part of the root's term."""


DEEPMIMIC_JOINTS = tuple(weight / 4.8 for weight in (1.0, 0.5, 0.3, 0.5, 0.3, 0.2, 0.3, 0.2))
PUBLISHED = {
    "upstream": Recipe(
        (0.5, 0.05, 0.15, 0.2, 0.0, 0.1), (2.0, 0.1, 10.0, 5.0, 1.0, 10.0), DEEPMIMIC_JOINTS, 1.0, 0.1, "root"
    ),
    "paper": Recipe(
        (0.65, 0.1, 0.15, 0.0, 0.0, 0.1), (2.0, 0.1, 40.0, 5.0, 1.0, 10.0), (1.0,) * 8, 1.0, 1.0, "world", False
    ),
    "pybullet": Recipe(
        (0.5, 0.05, 0.15, 0.2, 0.0, 0.0), (2.0, 0.1, 40.0, 5.0, 1.0, 10.0), DEEPMIMIC_JOINTS, 0.25, 0.0, "world"
    ),
    "mimickit": Recipe(
        (0.5, 0.1, 0.15, 0.15, 0.1, 0.0),
        (0.25, 0.01, 10.0, 5.0, 1.0, 10.0),
        (0.0, 1.0, 0.6, 1.0, 0.6, 0.4, 0.6, 0.4),
        *(1.0, 0.0, "root"),
        apart=True,
    ),
}

ANGLES = {name: 0.3 + 0.02 * index for index, name in enumerate(TRACKED_BODIES)}
RATES = {name: 1.0 + 0.1 * index for index, name in enumerate(TRACKED_BODIES)}
REACH = (0.01, 0.02, 0.03, 0.04)
PLACE, SPEED, COM = np.array([0.03, 0.0, 0.04]), np.array([0.1, 0.2, 0.2]), np.array([0.0, 0.5, 0.0])
"""Differences in metres and metres per second: squared .0025, .09, .25."""


def states() -> tuple[TrackedState, TrackedState]:
    """A character and its reference, apart by those differences."""

    def state(share: float) -> TrackedState:
        halves = share * np.array(list(ANGLES.values())) / 2
        rotations = np.stack((np.cos(halves), 0 * halves, np.sin(halves), 0 * halves), axis=-1)
        rates = share * np.array([[0.0, 0.0, rate] for rate in RATES.values()])
        effectors = np.array([[reach * share, 1.0, 1.0] for reach in REACH])
        parts = (rotations, rates, PLACE * share, SPEED * share, effectors, COM * share)
        return TrackedState(*(part[None] for part in parts))

    return state(1.0), state(0.0)


def expected_errors(recipe: Recipe) -> list[float]:
    joints = {name: recipe.joints[PARTS.index(name.split("_")[-1])] for name in TRACKED_BODIES}
    pose = sum(joints[name] * angle**2 for name, angle in ANGLES.items())
    velocity = sum(joints[name] * rate**2 for name, rate in RATES.items())
    effectors = recipe.effectors * sum(reach**2 for reach in REACH)
    root = 0.0025 + 0.1 * ANGLES["root"] ** 2
    if not recipe.apart:
        return [pose, velocity, effectors, root + 0.01 * 0.09 + 0.001 * RATES["root"] ** 2, 0.0, recipe.com * 0.25]
    return [pose, velocity, effectors, root, 0.09 + 0.1 * RATES["root"] ** 2, recipe.com * 0.25]


def assert_is(options: dict[str, Any], recipe: Recipe) -> None:
    """These settings give that recipe's errors, terms and reward."""
    reward = ImitationReward(reward_recipe(DeepMimicSettings.model_validate(options)))
    errors = expected_errors(recipe)
    # pybullet writes its joint weights out and cuts some to three digits.
    rtol = 2e-3 if options.get("reward_preset") == "pybullet" else 1e-9
    np.testing.assert_allclose(reward.errors(*states())[0], errors, rtol=rtol, atol=1e-12)
    terms = [math.exp(-scale * error) for scale, error in zip(recipe.scales, errors, strict=True)]
    np.testing.assert_allclose(reward.terms(np.array([errors]))[0], terms, rtol=1e-12)
    total = sum(weight * term for weight, term in zip(recipe.weights, terms, strict=True)) / sum(recipe.weights)
    assert 0.05 < total < 0.98
    np.testing.assert_allclose(reward.total(np.array([terms])), [total], rtol=1e-12)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_are_what_their_authors_publish(preset: str) -> None:
    assert_is({"reward_preset": preset}, PUBLISHED[preset])
    recipe = reward_recipe(DeepMimicSettings.model_validate({"reward_preset": preset}))
    assert recipe.end_effector_frame == PUBLISHED[preset].frame
    assert recipe.com_velocity == PUBLISHED[preset].com_velocity


def test_the_default_is_the_authors_present_code() -> None:
    assert_is({}, PUBLISHED["upstream"])


@pytest.mark.parametrize("kind", ["weight", "scale"])
@pytest.mark.parametrize("term", TERMS)
def test_each_weight_and_scale_can_be_chosen(term: str, kind: str) -> None:
    for preset, published in PUBLISHED.items():
        changed = {"weights": list(published.weights), "scales": list(published.scales)}
        changed[f"{kind}s"][TERMS.index(term)] = 0.37
        com = published.com
        if (term, kind) == ("com", "weight"):
            com = 1.0 if preset == "paper" else 0.1
        recipe = Recipe(
            *(tuple(changed["weights"]), tuple(changed["scales"]), published.joints, published.effectors, com),
            published.frame,
            apart=published.apart or (term, kind) == ("root_velocity", "weight"),
        )
        assert_is({"reward_preset": preset, f"{term}_{kind}": 0.37}, recipe)


def test_a_weight_of_0_takes_its_term_out() -> None:
    """MimicKit's velocity of the root does not slip back into the term of the root."""
    for term in ("pose", "velocity", "end_effector", "root", "root_velocity"):
        published = PUBLISHED["mimickit"]
        weights = [0.0 if name == term else weight for name, weight in zip(TERMS, published.weights, strict=True)]
        parts = (published.scales, published.joints, published.effectors, published.com, published.frame)
        assert_is({"reward_preset": "mimickit", f"{term}_weight": 0.0}, Recipe(tuple(weights), *parts, apart=True))


def test_the_task_rewards_by_its_settings() -> None:
    options = {f"{term}_weight": 0.1 + index for index, term in enumerate(TERMS)}
    options |= {f"{term}_scale": 0.2 + index for index, term in enumerate(TERMS)}
    recipe = ImitationTask(DeepMimicSettings.model_validate(options), 1).reward.recipe
    assert recipe.weights == pytest.approx([0.1, 1.1, 2.1, 3.1, 4.1, 5.1])
    assert recipe.scales == pytest.approx([0.2, 1.2, 2.2, 3.2, 4.2, 5.2])
