"""Supervised training: the official loss, exact resume, the average, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learners.optimizer import DivergenceError, Optimizer, OptimizerOptions, learning_rate_factor
from learners.supervised.diffusion import (
    SupervisedLearner,
    diffusion_loss,
    masked_square_error,
    supervised_batch,
)
from learners.supervised.settings import SupervisedSettings
from motions.data.text_motion import MotionBatch
from motions.skeleton.normalization import Normalizer
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.networks.mdm_naming import from_official_state_dict
from rollouts.text.encoders import load_text_encoder
from tests.toys.tiny_learners import SCHEDULE, SINES, sine_batch

pytestmark = pytest.mark.slow


def learner(seed: int = 0, **changes: Any) -> SupervisedLearner:
    settings = {"learning_rate": 3e-3, "avg_model_beta": 0.9, **changes}
    return SupervisedLearner(MDM(SINES), SCHEDULE, SupervisedSettings.model_validate(settings), 100, seed)


def weights(trained: SupervisedLearner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("lambda_vel", [0.0, 1.0])
def test_loss_and_gradients_equal_the_official_ones(parity_dir: Path, lambda_vel: float) -> None:
    path = parity_dir / "mdm_trans_enc.pt"
    if not path.is_file():
        pytest.skip(f"no {path}")
    fixture = torch.load(path, weights_only=True)
    sizes = fixture["config"]
    config = MDMConfig(
        latent_dim=sizes["latent_dim"], ff_size=sizes["ff_size"], num_layers=sizes["num_layers"], text_dim=512
    )
    network = MDM(config).eval()
    network.load_state_dict(from_official_state_dict(fixture["state_dict"], config))
    given, inputs = fixture["training_loss"], fixture["inputs"]
    terms = diffusion_loss(
        network,
        DiffusionSchedule("cosine", sizes["diffusion_steps"]),
        given["x_start"][:, :, 0].transpose(1, 2),
        given["t"],
        given["noise"][:, :, 0].transpose(1, 2),
        inputs["text_embed"].transpose(0, 1),
        inputs["mask"][:, 0, 0],
        lambda_vel=lambda_vel,
    )
    terms.loss.mean().backward()
    expected = given["results"][f"lambda_vel_{int(lambda_vel)}"]
    torch.testing.assert_close(terms.mse, expected["terms"]["rot_mse"], atol=1e-5, rtol=0)
    torch.testing.assert_close(terms.loss, expected["terms"]["loss"], atol=1e-5, rtol=0)
    if terms.velocity_mse is not None:
        torch.testing.assert_close(terms.velocity_mse, expected["terms"]["vel_mse"], atol=1e-5, rtol=0)
    ours = {"output_process.poseFinal.bias": network.output_proj.bias, "embed_text.weight": network.embed_text.weight}
    ours["input_process.poseEmbedding.weight"] = network.input_proj.weight
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, expected["grads"][name], atol=1e-5, rtol=1e-4)
    norms = [value.grad.norm() for value in network.parameters() if value.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(expected["grad_norm"], rel=1e-4)


def test_error_is_a_mean_over_valid_frames() -> None:
    a, b = torch.zeros(2, 4, 3), torch.zeros(2, 4, 3)
    a[0, :2] = 2.0
    a[0, 2:] = torch.inf
    a[1] = 1.0
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    torch.testing.assert_close(masked_square_error(a, b, mask), torch.tensor([4.0, 1.0]))


def test_velocity_error_leaves_the_last_feature_out() -> None:
    class Constant(MDM):
        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return answer

    network = Constant(SINES)
    x0, mask = torch.zeros(1, 8, 6), torch.ones(1, 8, dtype=torch.bool)
    answer = torch.zeros(1, 8, 6)
    answer[..., 5] = torch.arange(8.0)

    def velocity() -> Tensor:
        terms = diffusion_loss(
            network, SCHEDULE, x0, torch.zeros(1, dtype=torch.int64), x0, x0[:, :1, :5], mask, lambda_vel=1.0
        )
        assert terms.velocity_mse is not None
        return terms.velocity_mse

    assert velocity().item() == 0
    answer[..., 4] = torch.arange(8.0)
    assert velocity().item() == pytest.approx(1 / 5)


def test_training_lowers_the_loss_and_text_helps() -> None:
    trained = learner(learning_rate=1e-2, cond_mask_prob=0.2)
    losses = [trained.update(sine_batch(step, 16))["loss"] for step in range(200)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    held_out = sine_batch(1000, 64)
    with trained.averaged(), torch.no_grad():
        levels, noise = torch.full((64,), 9), torch.from_numpy(batch_noise(64))
        mask = torch.arange(8) < held_out.lengths[:, None]
        arguments = (trained.network, SCHEDULE, held_out.features, levels, noise, held_out.text, mask)
        with_text = diffusion_loss(*arguments).mse.mean()
        without = diffusion_loss(*arguments, drop_text=torch.ones(64, dtype=torch.bool)).mse.mean()
    assert with_text < 0.8 * without


def batch_noise(size: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((size, 8, 6), np.float32)


def test_texts_are_dropped_with_the_given_probability() -> None:
    """The gradient of the text projection is 0 exactly if all texts are dropped."""
    moved = []
    for probability in (0.0, 1.0):
        trained = learner(cond_mask_prob=probability)
        weight = trained.network.get_parameter("embed_text.weight")
        before = weight.clone()
        trained.update(sine_batch())
        moved.append(not torch.equal(before, weight))
    assert moved == [True, False]


def test_text_noise_keeps_texts_from_being_learnt_by_heart() -> None:
    """The error that the wrong text adds, after training with and without noise of the size of the text."""
    added = []
    for text_noise in (0.0, 1.0):
        trained = learner(learning_rate=1e-2, text_noise=text_noise)
        for step in range(150):
            trained.update(sine_batch(step, 16))
        given = sine_batch(1000, 64)
        errors = []
        for text in (given.text, given.text.roll(1, 2)):
            mask = torch.arange(8) < given.lengths[:, None]
            noise = torch.from_numpy(batch_noise(64))
            levels = torch.full((64,), 9)
            with trained.averaged(), torch.no_grad():
                terms = diffusion_loss(trained.network, SCHEDULE, given.features, levels, noise, text, mask)
            errors.append(terms.mse.mean().item())
        added.append(errors[1] - errors[0])
    assert 0 < added[1] < 0.7 * added[0]


def test_dataset_batches_are_normalised_before_they_are_padded() -> None:
    features = np.zeros((2, 4, 6), np.float32)
    features[0], features[1, :2] = 3.0, 5.0
    motions = MotionBatch(features, np.array([4, 2]), ("a person walks", "a person sits down"))
    encoder = load_text_encoder("minilm")
    result = supervised_batch(motions, Normalizer(np.full(6, 1.0), np.full(6, 2.0)), encoder)
    assert torch.equal(result.features[0], torch.ones(4, 6))
    assert result.features[1, :, 0].tolist() == [2, 2, 0, 0]
    assert result.lengths.tolist() == [4, 2]
    expected = encoder.encode_pooled(["a person sits down"])
    assert result.text.shape == (2, 1, encoder.dim)
    np.testing.assert_array_equal(result.text[1].numpy(), expected)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_resume_is_bit_exact(schedule: str, tmp_path: Path) -> None:
    options = {"lr_schedule": schedule, "warmup_steps": 3, "ema_warmup": True, "max_grad_norm": 0.5}
    whole = learner(**options)
    for step in range(3):
        whole.update(sine_batch(step))
    torch.save(whole.state(), tmp_path / "state.pt")
    torch.manual_seed(1)  # global random state has no say
    whole.update(sine_batch(3))
    whole.update(sine_batch(4))
    torch.manual_seed(2)
    resumed = learner(**options)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.update(sine_batch(3))
    resumed.update(sine_batch(4))
    assert same(weights(whole), weights(resumed))
    with whole.averaged(), resumed.averaged():
        assert same(weights(whole), weights(resumed))
    assert whole.num_steps == resumed.num_steps == 5


def test_update_keeps_the_global_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    learner().update(sine_batch())
    assert torch.equal(torch.rand(1), expected)


def test_other_seed_gives_other_weights() -> None:
    first, second = learner(seed=0), learner(seed=1)
    first.update(sine_batch())
    second.update(sine_batch())
    assert not same(weights(first), weights(second))


def test_averaged_weights_are_used_inside_the_block_only() -> None:
    trained = learner()
    for step in range(3):
        trained.update(sine_batch(step))
    live = weights(trained)
    with trained.averaged():
        assert not trained.network.training
        assert not same(live, weights(trained))
    assert same(live, weights(trained))
    plain = learner(avg_model_beta=0.0)
    plain.update(sine_batch())
    live = weights(plain)
    with plain.averaged():
        assert same(live, weights(plain))


def test_poisoned_batch_is_an_error_and_touches_nothing() -> None:
    trained = learner()
    trained.update(sine_batch())
    before, state = weights(trained), trained.state()
    bad = sine_batch()
    bad.features[2, 0, 0] = float("nan")
    with pytest.raises(DivergenceError, match="loss is nan, first in clip 2"):
        trained.update(bad)
    assert same(before, weights(trained))
    assert trained.num_steps == 1
    assert same(state["ema"]["average"], trained.state()["ema"]["average"])


def test_foreign_states_are_errors() -> None:
    trained = learner()
    state = trained.state()
    with pytest.raises(ValueError, match="state of a 'grpo' learner"):
        trained.load({**state, "kind": "grpo"})
    with pytest.raises(ValueError, match="seed 0, this run has seed 1"):
        learner(seed=1).load(state)
    with pytest.raises(ValueError, match="avg_model_beta is 0"):
        learner(avg_model_beta=0.0).load(state)
    del state["parameters"]["output_proj.bias"]
    with pytest.raises(ValueError, match=r"1 of \d+ tensors missing \['output_proj.bias'\]"):
        trained.load(state)


def test_learning_rate_schedule() -> None:
    assert [learning_rate_factor(step, 4, 0) for step in (0, 1, 3, 100)] == [0.25, 0.5, 1, 1]
    assert learning_rate_factor(0, 0, 10) == 1
    assert learning_rate_factor(5, 0, 10) == pytest.approx(0.5)
    assert learning_rate_factor(20, 0, 10) == pytest.approx(0, abs=1e-12)


def test_optimizer_follows_schedule_clips_and_decays() -> None:
    weight = torch.ones(2, requires_grad=True)
    options = OptimizerOptions(learning_rate=0.1, weight_decay=0.5, max_grad_norm=1.0, warmup_steps=2)
    optimizer = Optimizer({"weight": weight}, options)
    weight.grad = torch.tensor([30.0, 40.0])
    assert optimizer.learning_rate == pytest.approx(0.05)
    assert optimizer.step() == pytest.approx(50.0)
    # Adam's first step is the learning rate in the direction of the gradient, after decay by rate * weight.
    torch.testing.assert_close(weight.detach(), torch.full((2,), 1 - 0.05 * 0.5 - 0.05), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        optimizer.state()["moments"]["weight"]["exp_avg"], torch.tensor([0.06, 0.08]), atol=1e-5, rtol=0
    )
    assert optimizer.learning_rate == pytest.approx(0.1)
    assert weight.grad is None


def test_optimizer_refuses_bad_gradients_and_foreign_states() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = Optimizer({"weight": weight}, OptimizerOptions(learning_rate=0.1))
    weight.grad = torch.tensor([float("inf"), 0.0])
    with pytest.raises(DivergenceError, match=r"not finite in 1 of 1 tensors, first \['weight'\]"):
        optimizer.step()
    assert weight.tolist() == [1, 1] and weight.grad is None and optimizer.num_steps == 0
    weight.grad = torch.ones(2)
    optimizer.step()
    state = optimizer.state()
    with pytest.raises(ValueError, match="does not fit"):
        Optimizer({"other": weight}, OptimizerOptions(learning_rate=0.1)).load(state)
    with pytest.raises(ValueError, match="shape"):
        Optimizer({"weight": torch.ones(3, requires_grad=True)}, OptimizerOptions(learning_rate=0.1)).load(state)
    with pytest.raises(ValueError, match="no trainable parameters"):
        Optimizer({}, OptimizerOptions(learning_rate=0.1))
