"""Physics losses: closed forms, both skeletons' units and frame rates, gradients, padding, and the option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learners.physics_losses import FLOAT_TOLERANCE_M, FLOOR_TOLERANCE_M, SCALES, PhysicsLoss, violations
from learners.supervised.diffusion import SupervisedLearner, diffusion_loss
from learners.supervised.settings import SupervisedSettings
from motions.data.dataset import load_dataset
from motions.skeleton.features import FeatureLayout, replace_joints
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton
from rollouts.diffusion.schedule import DiffusionSchedule
from tests.toys.tiny_policy import tiny_policy

FRAMES = 9
SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)
MASK = torch.ones(1, FRAMES, dtype=torch.bool)
STANDING = torch.ones(1, FRAMES, 4, dtype=torch.bool)


def still(skeleton: Skeleton) -> Tensor:
    """A body that stands: feet at the floor, the other joints one metre above it; [1, T, J, 3] metres, float64."""
    joints = torch.ones(1, FRAMES, skeleton.num_joints, 3, dtype=torch.float64)
    joints[:, :, list(skeleton.foot_joints), 1] = 0.0
    return joints


def amounts(joints: Tensor, skeleton: Skeleton, contacts: Tensor = STANDING, mask: Tensor = MASK) -> dict[str, float]:
    found = violations(joints, still(skeleton), contacts, mask, skeleton)
    return {name: float(one.mean()) for name, one in found.items()}


@SKELETONS
def test_a_body_that_stands_does_nothing_wrong(skeleton: Skeleton) -> None:
    assert amounts(still(skeleton), skeleton) == dict.fromkeys(SCALES, 0.0)


@SKELETONS
def test_quantities_are_in_metres_and_seconds(skeleton: Skeleton) -> None:
    times = torch.arange(FRAMES, dtype=torch.float64) / skeleton.fps
    sliding = still(skeleton)
    sliding[0, :, skeleton.foot_joints[1], 2] += 0.6 * times
    assert amounts(sliding, skeleton)["slide_mps"] == pytest.approx(0.6 / 4)
    lifted_foot = STANDING.clone()
    lifted_foot[..., 1] = False
    assert amounts(sliding, skeleton, lifted_foot)["slide_mps"] == 0.0

    moved = still(skeleton)
    moved[..., 1] -= 0.03
    assert amounts(moved, skeleton)["penetration_m"] == pytest.approx(0.03 - FLOOR_TOLERANCE_M)
    moved[..., 1] += 0.03 + 0.2
    assert amounts(moved, skeleton)["float_m"] == pytest.approx(0.2 - FLOAT_TOLERANCE_M)
    assert amounts(moved, skeleton, ~STANDING)["float_m"] == 0.0, "a jump does not float"

    shaking = still(skeleton)
    shaking[0, :, 0, 0] += 7.0 * times**3 / 6.0  # a jerk of 7 m/s^3
    assert amounts(shaking, skeleton)["jerk_mps3"] == pytest.approx(7.0 / skeleton.num_joints)
    own = violations(shaking, shaking, STANDING, MASK, skeleton)
    assert float(own["jerk_mps3"].mean()) == 0.0, "the data's own jerk is no fault"


def test_padding_counts_nowhere() -> None:
    mask = torch.arange(FRAMES) < 5
    joints = torch.where(mask[:, None, None], still(HUMANML3D), -3.0)
    assert amounts(joints, HUMANML3D, mask=mask[None]) == dict.fromkeys(SCALES, 0.0)
    short = still(HUMANML3D)[:, :2]
    found = violations(short, short, STANDING[:, :2], MASK[:, :2], HUMANML3D)
    assert {name: float(one.mean()) for name, one in found.items()} == dict.fromkeys(SCALES, 0.0)


@pytest.fixture(scope="module")
def clip() -> tuple[PhysicsLoss, Normalizer, Tensor]:
    """A real window of 40 frames, normalised, [1, T, D]."""
    data = load_dataset("builtin")
    item = next(item for item in data.items("train") if item.num_frames >= 40)
    x0 = data.normalizer.normalize(torch.from_numpy(item.features[:40].copy())).unsqueeze(0)
    return PhysicsLoss(data.normalizer, HUMANML3D), data.normalizer, x0


def test_every_quantity_has_a_gradient_in_the_prediction(clip: tuple[PhysicsLoss, Normalizer, Tensor]) -> None:
    """And none is negative, whatever the features are."""
    physics, normalizer, x0 = clip
    layout, mask = FeatureLayout(HUMANML3D.num_joints), torch.ones(x0.shape[:2], dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    changes: dict[str, Any] = {name: torch.zeros_like(x0) for name in SCALES}
    changes["slide_mps"][..., layout.root_velocity] += 1.0
    height = torch.zeros(x0.shape[2])
    height[layout.root_height] = 1.0
    height[layout.positions][1::3] = 1.0
    for name, metres in (("penetration_m", -0.2), ("float_m", 0.3)):
        changes[name] += metres * height / torch.from_numpy(np.array(normalizer.std))
    changes["jerk_mps3"] = 0.5 * torch.randn(x0.shape, generator=generator)
    before = physics(x0, x0, mask)[1]
    for name, change in changes.items():
        predicted = (x0 + change).requires_grad_()
        cost, found = physics(predicted, x0, mask)
        assert float(found[name]) > float(before[name]), name
        assert min(float(value) for value in found.values()) >= 0.0
        (gradient,) = torch.autograd.grad(cost.sum(), predicted)
        assert bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0, name
        smaller, _ = physics(predicted - 1e-3 * gradient / gradient.norm(), x0, mask)
        assert float(smaller) < float(cost), f"{name}: the gradient points uphill"


def statistics(skeleton: Skeleton, seed: int) -> Normalizer:
    """Made-up ones, whose contacts have a mean and a deviation as every other number has."""
    rng = np.random.default_rng(seed)
    return Normalizer(rng.normal(0.5, 0.3, skeleton.num_features), rng.uniform(0.2, 2.0, skeleton.num_features))


@SKELETONS
def test_no_penalty_is_ever_a_reward(skeleton: Skeleton) -> None:
    """For any prediction, any data and any statistics; and standing still costs nothing."""
    mask = torch.arange(FRAMES).expand(8, FRAMES) < torch.arange(2, 10).unsqueeze(1)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        predicted, x0 = 3.0 * torch.randn(2, 8, FRAMES, skeleton.num_features, generator=generator)
        cost, found = PhysicsLoss(statistics(skeleton, seed), skeleton)(predicted, x0, mask)
        assert float(cost.min()) > 0.0 and set(found) == set(SCALES)
        assert all(bool(amount.isfinite().all()) and float(amount.min()) >= 0.0 for amount in found.values())

        features = torch.zeros(1, FRAMES, skeleton.num_features, dtype=torch.float64)
        features = replace_joints(features, still(skeleton) / skeleton.metres_per_unit, skeleton)
        features[..., FeatureLayout(skeleton.num_joints).contacts] = 1.0
        stands = statistics(skeleton, seed).normalize(features)
        cost, found = PhysicsLoss(statistics(skeleton, seed), skeleton)(stands, stands, MASK)
        assert float(cost) < 1e-9 and all(float(amount) < 1e-6 for amount in found.values())


def test_statistics_do_not_weigh_the_penalties(clip: tuple[PhysicsLoss, Normalizer, Tensor]) -> None:
    """One motion costs the same however its features are normalised: the terms are of metres, not of z-scores."""
    physics, normalizer, x0 = clip
    mask = torch.ones(x0.shape[:2], dtype=torch.bool)
    shaken = x0 + 0.3 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    other = statistics(HUMANML3D, 1)
    guess, truth = (other.normalize(normalizer.denormalize(features)) for features in (shaken, x0))
    cost, found = physics(shaken, x0, mask)
    same, amounts = PhysicsLoss(other, HUMANML3D)(guess, truth, mask)
    torch.testing.assert_close(same, cost, rtol=1e-3, atol=0.0)
    for name, amount in found.items():
        torch.testing.assert_close(amounts[name], amount, rtol=1e-3, atol=1e-6)


def test_sliding_as_the_data_does_can_be_free(clip: tuple[PhysicsLoss, Normalizer, Tensor]) -> None:
    physics, normalizer, x0 = clip
    forgiving = PhysicsLoss(normalizer, HUMANML3D, data_slides=True)
    mask, slid = torch.ones(x0.shape[:2], dtype=torch.bool), x0.clone()
    slid[..., FeatureLayout(HUMANML3D.num_joints).root_velocity] += 1.0
    (same, amounts), (more, _) = forgiving(slid, slid, mask), forgiving(slid, x0, mask)
    assert float(same) < float(physics(slid, slid, mask)[0]) and float(same) < float(more)
    assert float(amounts["slide_mps"]) > 0.0, "it is measured all the same"


def test_contacts_are_those_of_physical_features(clip: tuple[PhysicsLoss, Normalizer, Tensor]) -> None:
    """Normalised flags are no flags: the data's are read after denormalising, and the prediction's are not."""
    physics, _, x0 = clip
    mask = torch.ones(x0.shape[:2], dtype=torch.bool)
    flags = FeatureLayout(HUMANML3D.num_joints).contacts
    other = x0.clone()
    other[..., flags] = -9.0
    assert torch.equal(physics(other, x0, mask)[0], physics(x0, x0, mask)[0])
    assert float(physics(x0, other, mask)[1]["slide_mps"]) == 0.0


def test_the_weighted_cost_is_added_to_the_training_s_loss(clip: tuple[PhysicsLoss, Normalizer, Tensor]) -> None:
    physics, _, x0 = clip
    mask, noise = torch.ones(x0.shape[:2], dtype=torch.bool), torch.zeros_like(x0)
    network = tiny_policy().network
    given = (network, DiffusionSchedule("cosine", 12), x0, torch.tensor([7]), noise, torch.zeros(1, 1, 8), mask)
    plain, weighed = diffusion_loss(*given), diffusion_loss(*given, physics=physics, lambda_physics=0.25)
    assert plain.physics == {} and set(weighed.physics) == set(SCALES)
    indices = torch.tensor([7])
    steps = torch.from_numpy(given[1].timestep_map[indices.numpy()].copy())
    x_t = x0 * float(given[1].alphas_cumprod[7]) ** 0.5
    cost, amounts = physics(network(x_t, steps, given[5], mask), x0, mask)
    torch.testing.assert_close(weighed.loss, plain.mse + 0.25 * cost)
    torch.testing.assert_close(weighed.physics["jerk_mps3"], amounts["jerk_mps3"])
    settings = SupervisedSettings(lambda_physics=0.25)
    with pytest.raises(ValueError, match=r"lambda_physics is 0\.25, and there are no physics losses"):
        SupervisedLearner(network, given[1], settings, 10, 0)
