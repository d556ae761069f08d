"""Corrupted motions and the learner that restores them: what each kind does, leaks, learning, and exact resumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from learners.optimizer import DivergenceError
from learners.physics_losses import violations
from learners.refining.corruption import Corruption, corrupted
from learners.refining.learner import RefinerLearner, gate_figures
from learners.supervised.settings import RefinerTrainingSettings
from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.data.text_motion import MotionBatch, padded_batch
from motions.humanoid.physics_state import StateStatistics
from motions.skeleton.features import FeatureLayout, recover_joints, replace_joints
from motions.skeleton.skeletons import HUMANML3D
from rollouts.refining.network import RefinerConfig, RefinerNetwork
from rollouts.refining.refiner import Refiner, RefinerInput
from rollouts.settings import RefinerGate

LAYOUT = FeatureLayout(HUMANML3D.num_joints)
NONE = {"lift_m": 0.0, "slide_mps": 0.0, "shake_m": 0.0, "turn": 0.0}


@pytest.fixture(scope="module")
def batch() -> MotionBatch:
    """Four motions of different lengths."""
    items = [item for item in load_dataset("builtin").items("train") if item.num_frames >= 40][:80:20]
    return padded_batch([item.features[: 40 - 5 * n] for n, item in enumerate(items)], ["a person"] * 4)


@pytest.fixture
def motions(batch: MotionBatch) -> tuple[Tensor, Tensor]:
    """Features and mask."""
    features = torch.from_numpy(batch.features)
    return features, torch.arange(features.shape[1]) < torch.from_numpy(batch.lengths)[:, None]


def worse(motions: tuple[Tensor, Tensor], **sizes: float) -> Tensor:
    return corrupted(*motions[:1], HUMANML3D, motions[1], np.random.default_rng(2), Corruption(**NONE | sizes))


def amounts(motions: tuple[Tensor, Tensor], features: Tensor) -> dict[str, float]:
    real, mask = motions
    joints = [recover_joints(each, HUMANML3D) for each in (features, real)]
    found = violations(joints[0], joints[1], real[..., LAYOUT.contacts] > 0.5, mask, HUMANML3D)
    return {name: float(one.mean().max()) for name, one in found.items()}


def test_replaced_joints_are_recovered_and_a_motion_s_own_change_nothing(motions: tuple[Tensor, Tensor]) -> None:
    features, mask = motions
    own = recover_joints(features, HUMANML3D)
    same = replace_joints(features, own, HUMANML3D, mask)
    geometry = slice(0, LAYOUT.rotations.stop)
    torch.testing.assert_close(same[..., geometry], features[..., geometry], rtol=0, atol=1e-5)
    moved = own.clone()
    moved[:, 10:] += torch.tensor([0.1, 0.2, -0.3])
    again = recover_joints(replace_joints(features, moved, HUMANML3D, mask), HUMANML3D)
    torch.testing.assert_close(again[mask], moved[mask], rtol=0, atol=1e-5)


def test_each_kind_of_corruption_does_what_it_says(motions: tuple[Tensor, Tensor]) -> None:
    clean = amounts(motions, motions[0])
    kinds = {
        "penetration_m": {"lift_m": 0.3},
        "float_m": {"lift_m": 0.3},
        "slide_mps": {"slide_mps": 0.5},
        "jerk_mps3": {"shake_m": 0.01},
    }
    for name, sizes in kinds.items():
        assert amounts(motions, worse(motions, **sizes))[name] > clean[name] + 0.02, name
    nothing = worse(motions)
    torch.testing.assert_close(amounts(motions, nothing), clean, rtol=0, atol=1e-3)
    lifted = worse(motions, lift_m=0.3)
    assert amounts(motions, lifted)["slide_mps"] == pytest.approx(clean["slide_mps"], abs=1e-3)


def test_features_of_a_corrupted_motion_are_those_of_its_joints(motions: tuple[Tensor, Tensor]) -> None:
    """Nothing of the motion that it was is left in velocities or contacts, and padding stays 0."""
    features, mask = motions
    slid = worse(motions, slide_mps=0.5)
    assert float(slid[~mask].abs().max()) == 0.0
    consistent = replace_joints(slid, recover_joints(slid, HUMANML3D), HUMANML3D, mask)
    torch.testing.assert_close(slid, consistent, rtol=0, atol=1e-5)
    assert float((slid - features)[..., LAYOUT.velocities].abs().max()) > 0.01
    shaken = worse(motions, shake_m=0.01, turn=0.03)
    assert float((shaken - features)[..., LAYOUT.rotations].std()) > 0.002


def test_a_share_of_the_motions_is_left_alone_and_equal_generators_agree(motions: tuple[Tensor, Tensor]) -> None:
    features, mask = motions
    results = [corrupted(features, HUMANML3D, mask, np.random.default_rng(1), share=0.5) for _ in range(2)]
    assert torch.equal(*results)
    untouched = (results[0] == features).flatten(1).all(dim=1)
    assert 0 < int(untouched.sum()) < 4
    assert torch.equal(corrupted(features, HUMANML3D, mask, np.random.default_rng(1), share=0.0), features)


def learner(gate: RefinerGate = "sigmoid", seed: int = 0, **changes: float) -> RefinerLearner:
    data = load_dataset("builtin")
    statistics = StateStatistics.fit([item.features for item in data.items("train")[:20]], HUMANML3D)
    network = RefinerNetwork(RefinerConfig(263, d_model=24, d_state=4, n_layers=1, gate=gate), seed=1)
    settings = RefinerTrainingSettings.model_validate({"learning_rate": 3e-3, "warmup_steps": 1, **changes})
    return RefinerLearner(Refiner(network, data.normalizer, statistics, HUMANML3D), settings, 40, seed)


def test_it_learns_and_its_gate_is_measured(batch: MotionBatch) -> None:
    trained = learner()
    first = trained.validate([batch])
    metrics = [trained.update(batch) for _ in range(25)]
    last = trained.validate([batch])
    assert last["validation_loss"] < 0.9 * first["validation_loss"]
    assert 0.0 < metrics[-1]["gate_mean"] < 1.0 and metrics[-1]["gate_std"] > 0.0
    assert metrics[-1]["gate_std"] != metrics[0]["gate_std"], "the gate moves"
    assert trained.validate([batch]) == last
    with pytest.raises(ValueError, match="there are no motions"):
        trained.validate([])


def test_weights_of_the_loss(batch: MotionBatch) -> None:
    terms = {
        (joints, physics): learner(lambda_joints=joints, lambda_physics=physics).update(batch)
        for joints, physics in ((0.0, 0.0), (0.0, 0.5), (0.2, 0.0))
    }
    plain = terms[0.0, 0.0]
    assert plain["loss"] == plain["mse"]
    assert terms[0.0, 0.5]["loss"] == pytest.approx(plain["mse"] + 0.5 * plain["physics"], rel=1e-5)
    assert plain["mse"] < terms[0.2, 0.0]["loss"] < plain["mse"] + 0.2, "the term of the joints is below its weight"
    assert {"slide_mps", "penetration_m", "float_m", "jerk_mps3"} <= plain.keys()
    assert "gate_mean" not in learner("concat").update(batch)


def test_the_network_reads_the_corrupted_motion_alone(batch: MotionBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refiner that is handed its target, or the physics of it, learns to copy."""
    given: list[tuple[Tensor, Tensor]] = []
    prepare = Refiner.prepare

    def watched(refiner: Refiner, features: Tensor, mask: Tensor) -> RefinerInput:
        given.append((features, mask))
        return prepare(refiner, features, mask)

    monkeypatch.setattr(Refiner, "prepare", watched)
    learner(corrupted_share=1.0).update(batch)
    ((features, mask),) = given
    assert mask.sum(dim=1).tolist() == batch.lengths.tolist()
    apart = (features - torch.from_numpy(batch.features)).abs().amax(dim=(1, 2))
    assert float(apart.min()) > 0.01, "every motion that is read is another than the one in the loss"


def test_the_gate_s_figures_leave_padding_out() -> None:
    gate = torch.tensor([[[0.2, 0.4], [0.9, 0.9]]])
    found = gate_figures(gate, torch.tensor([[True, False]]))
    assert found == pytest.approx({"gate_mean": 0.3, "gate_std": 0.1})
    assert gate_figures(None, torch.ones(1, 2, dtype=torch.bool)) == {}


def test_a_resumed_training_makes_the_same_updates(batch: MotionBatch) -> None:
    whole, begun, resumed = learner(), learner(), learner()
    for _ in range(2):
        whole.update(batch)
        begun.update(batch)
    resumed.load(begun.state())
    for _ in range(2):
        whole.update(batch)
        resumed.update(batch)
    for name, value in whole.refiner.network.named_parameters():
        assert torch.equal(value, resumed.refiner.network.get_parameter(name)), name
    with pytest.raises(UserError, match="seed 0"):
        learner(seed=1).load(begun.state())


def test_numbers_that_are_not_finite_change_no_weight(batch: MotionBatch) -> None:
    trained = learner()
    before = trained.state()["parameters"]
    with pytest.raises(DivergenceError, match="step 0: the loss is nan"):
        trained.update(MotionBatch(np.full_like(batch.features, np.nan), batch.lengths, batch.texts))
    after = trained.state()["parameters"]
    assert all(torch.equal(before[name], after[name]) for name in before)
