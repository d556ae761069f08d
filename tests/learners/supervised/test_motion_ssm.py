"""The training of MotionSSM: what padding, cropped clips and lengths do to its loss; the divergence's warm-up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from learners.supervised.diffusion import SupervisedBatch
from learners.supervised.motion_ssm import MotionSSMLearner, latent_kl
from learners.supervised.settings import MotionSSMSettings
from rollouts.gaussians import Gaussian
from rollouts.one_action.motion_ssm import MotionSSM, MotionSSMConfig

NUM_FEATURES, TEXT_DIM, FPS, MAX_FRAMES = 7, 5, 12.5, 30
SIZES = MotionSSMConfig(
    num_features=NUM_FEATURES,
    text_dim=TEXT_DIM,
    d_model=16,
    d_state=4,
    n_layers=1,
    latent_dim=2,
    knot_frames=6,
    patch_frames=1,
    max_frames=40,
)


def learner(latent_dim: int = 2, **settings: object) -> MotionSSMLearner:
    given = {"lr_schedule": "constant", "batch_size": 2, **settings}
    network = MotionSSM(dataclasses.replace(SIZES, latent_dim=latent_dim), seed=3)
    return MotionSSMLearner(network, MotionSSMSettings.model_validate(given), 10, 0, fps=FPS, max_frames=MAX_FRAMES)


def batch(lengths: tuple[int, ...], frames: int) -> SupervisedBatch:
    """Clips that are the same however many frames they are padded to, with noise behind their ends."""
    rng = np.random.default_rng(1)
    features = torch.from_numpy(rng.standard_normal((len(lengths), frames, NUM_FEATURES), np.float32))
    for number, length in enumerate(lengths):
        own = np.random.default_rng(100 + number).standard_normal((length, NUM_FEATURES), np.float32)
        features[number, :length] = torch.from_numpy(own)
    text = torch.from_numpy(np.random.default_rng(2).standard_normal((len(lengths), 1, TEXT_DIM), np.float32))
    return SupervisedBatch(features, torch.tensor(lengths), text)


def test_the_error_is_a_mean_over_real_frames_whatever_the_padding() -> None:
    """Divided by padded elements, a short clip would count less, and the more so the longer its neighbours are."""
    trained = learner(latent_dim=0, lambda_length=0.0)
    tight, loose = (trained.validation_loss([batch((12,), frames)]) for frames in (12, 28))
    assert loose == pytest.approx(tight, rel=1e-4)


def test_a_length_counts_where_it_is_the_clips_own() -> None:
    """Squared error of log-seconds; a clip as long as the limit may have been cropped, and teaches no length."""
    trained = learner()
    with torch.no_grad():
        text = trained.network.encode_text(batch((20,), 30).text, None)
        said = float(trained.network.log_seconds(text))
    for length, expected in ((20, (said - np.log(20 / FPS)) ** 2), (MAX_FRAMES, 0.0)):
        metrics = learner().update(batch((length,), 30))
        assert metrics["length_error"] == pytest.approx(expected, rel=1e-4)


def test_training_teaches_the_length() -> None:
    trained = learner(learning_rate=1e-2)
    errors = [trained.update(batch((10, 20), 20))["length_error"] for _ in range(31)]
    assert errors[-1] < 0.2 * errors[0]


def test_the_divergence_is_of_valid_knots_and_warms_up() -> None:
    mean, log_variance = torch.full((1, 4, 2), 2.0), torch.zeros(1, 4, 2)
    mean[:, 2:] = 100.0
    assert float(latent_kl(Gaussian(mean, log_variance), torch.tensor([2]))) == pytest.approx(2.0)
    trained = learner(lambda_kl=0.5, kl_warmup_steps=4)
    weights = []
    for _ in range(6):
        weights.append(trained.kl_weight())
        trained.update(batch((10, 20), 20))
    assert weights == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5, 0.5])


def test_a_motion_depends_on_its_text_and_on_its_noise() -> None:
    """The public network's inference encodes zeros, so that texts change nothing."""
    trained = learner(learning_rate=1e-2)
    for _ in range(5):
        trained.update(batch((10, 20), 20))
    network = trained.network.eval()
    with torch.no_grad():
        text = network.encode_text(batch((20, 20), 20).text, None)
        noise = torch.randn(2, *network.action_shape(20), generator=torch.Generator().manual_seed(0))
        motion = network.decode(noise, text, 20, None)
        same_noise = network.decode(noise[:1].expand(2, -1, -1), text, 20, None)
        same_text = network.decode(noise, text[:1].expand(2, *text.shape[1:]), 20, None)
    assert not torch.allclose(same_noise[0], same_noise[1]) and not torch.allclose(same_text[0], same_text[1])
    assert bool(motion.isfinite().all())


def test_physics_losses_that_are_asked_for_are_needed() -> None:
    with pytest.raises(ValueError, match="there are no physics losses"):
        learner(lambda_physics=0.1)
