"""TMR training: the losses by hand, the batches, learning on toy motions, and resuming to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learners.optimizer import DivergenceError
from learners.supervised.retrieval import (
    RetrievalBatch,
    RetrievalLearner,
    contrastive_loss,
    not_negatives,
    sample_latent,
)
from learners.supervised.retrieval_data import RetrievalData, smooth_noise
from learners.supervised.settings import RetrievalSettings
from motions.data.text_motion import TextMotion
from motions.skeleton.normalization import Normalizer
from rewards.tmr.network import TMRConfig
from rollouts.gaussians import Gaussian, diagonal_gaussian_kl
from tests.toys.small_tmr import WordEncoder, small_tmr

WIDTH = 10
CONFIG = TMRConfig(num_features=WIDTH, text_dim=6, latent_dim=16, ff_size=16, num_layers=1, num_heads=2, dropout=0.1)
NORMALIZER = Normalizer(np.zeros(WIDTH), np.ones(WIDTH))
SETTINGS = RetrievalSettings(
    learning_rate=5e-3, batch_size=8, lambda_contrastive=1.0, sentence_threshold=1.0, min_crop_frames=8
)
TEXTS = {"walk": ("walks ahead", "strolls along"), "kick": ("kicks hard",), "sit": ("sits down", "takes a seat")}


def toy_items(seed: int = 0, per_class: int = 6) -> list[TextMotion]:
    """Motions that are a pattern of their class and some noise."""
    patterns = np.random.default_rng(99).standard_normal((len(TEXTS), WIDTH)) * 1.5
    rng = np.random.default_rng(seed)
    items = []
    for (name, captions), pattern in zip(TEXTS.items(), patterns, strict=True):
        for index in range(per_class):
            features = pattern + 0.5 * rng.standard_normal((int(rng.integers(12, 24)), WIDTH))
            items.append(TextMotion(f"{name}-{index}", name, features.astype(np.float32), captions))
    return items


def toy_data(settings: RetrievalSettings = SETTINGS, seed: int = 0, max_frames: int = 32) -> RetrievalData:
    return RetrievalData(toy_items(seed), WordEncoder(), settings, NORMALIZER, max_frames)


def learner(settings: RetrievalSettings = SETTINGS, seed: int = 3, total_steps: int = 60) -> RetrievalLearner:
    return RetrievalLearner(small_tmr(0, config=CONFIG, with_decoder=True), settings, total_steps, seed)


def batch(step: int = 0, settings: RetrievalSettings = SETTINGS) -> RetrievalBatch:
    return toy_data(settings).sample(np.random.default_rng([7, step]))


def test_kl_and_sampling_by_hand() -> None:
    first = Gaussian(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, float(np.log(4.0))]]))
    standard = Gaussian(torch.zeros(1, 2), torch.zeros(1, 2))
    # KL(N(1,1)||N(0,1)) = 1/2; KL(N(0,4)||N(0,1)) = (4 - 1 - log 4) / 2.
    assert diagonal_gaussian_kl(first, standard).item() == pytest.approx((0.5 + 0.5 * (3 - np.log(4))) / 2)
    assert diagonal_gaussian_kl(first, first).item() == 0.0
    torch.testing.assert_close(sample_latent(first, torch.tensor([[2.0, -1.0]])), torch.tensor([[3.0, -2.0]]))


def test_contrastive_loss_by_hand() -> None:
    text, motion = torch.eye(2) * 3.0, torch.tensor([[5.0, 0.0], [5.0, 5.0]])
    half = float(np.sqrt(0.5))
    rows = [[1.0, half], [0.0, half]]
    nce = np.log(np.exp(np.array(rows) / 0.5).sum(axis=1)) - np.diag(rows) / 0.5
    nce_t = np.log(np.exp(np.array(rows).T / 0.5).sum(axis=1)) - np.diag(rows) / 0.5
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    expected = (nce.mean() + nce_t.mean()) / 2
    assert contrastive_loss(text, motion, nothing, 0.5).item() == pytest.approx(expected, rel=1e-5)
    skipped = torch.tensor([[False, True], [False, False]])
    # Without the pair (0, 1), text 0 and motion 1 have no wrong partner left.
    expected = (nce[1] / 2 + nce_t[0] / 2) / 2
    assert contrastive_loss(text, motion, skipped, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_pairs_that_are_no_negatives() -> None:
    sentences = torch.tensor([[2.0, 0.0], [7.0, 1.0], [0.0, 1.0]])
    assert not_negatives(sentences, None, 0.8).nonzero().tolist() == [[0, 1], [1, 0]]
    assert not_negatives(sentences, None, 0.999).sum() == 0
    describes = torch.eye(3, dtype=torch.bool)
    describes[2, 0] = True
    assert not_negatives(sentences, describes, 1.0).nonzero().tolist() == [[2, 0]]


def test_toy_motions_are_learnt() -> None:
    trainer, data = learner(), toy_data()
    held_out = toy_data(seed=1).pairs(np.random.default_rng(0))
    before = trainer.evaluate(held_out)
    losses = [trainer.update(data.sample(np.random.default_rng([7, step])))["loss"] for step in range(60)]
    after = trainer.evaluate(held_out)
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    assert after["t2m/R01"] == after["m2t/R01"] == 100.0
    assert after["cosine_right"] - after["cosine_wrong"] > 0.5 > before["cosine_right"] - before["cosine_wrong"]


def test_updates_report_their_terms() -> None:
    metrics = learner().update(batch())
    weighted = metrics["recons"] + 1e-5 * metrics["kl"] + 1e-5 * metrics["latent"] + metrics["contrastive"]
    assert metrics["loss"] == pytest.approx(weighted, rel=1e-6)
    assert metrics["learning_rate"] == 5e-3 and metrics["grad_norm"] > 0
    pair_batch = batch()
    off_diagonal = pair_batch.describes & ~torch.eye(8, dtype=torch.bool)
    assert metrics["skipped_share"] == pytest.approx(float(off_diagonal.sum()) / 56) and metrics["skipped_share"] > 0


@pytest.mark.parametrize("weight", ["lambda_recons", "lambda_kl", "lambda_latent", "lambda_contrastive"])
def test_each_weight_reaches_the_gradient(weight: str) -> None:
    others = dict.fromkeys(("lambda_recons", "lambda_kl", "lambda_latent", "lambda_contrastive"), 0.0)
    norms = []
    for value in (0.0, 1.0):
        settings = SETTINGS.model_copy(update=others | {weight: value})
        norms.append(learner(settings).update(batch())["grad_norm"])
    assert norms[0] == 0.0 < norms[1]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"sentence_threshold": 0.3},
        {"weight_decay": 0.5},
        {"max_grad_norm": 1e-9},
        {"warmup_steps": 10},
        {"latent_noise": 0.0},
        {"lr_schedule": "cosine"},
    ],
)
def test_options_change_the_result(change: dict[str, object]) -> None:
    results = []
    for settings in (SETTINGS, SETTINGS.model_copy(update=change)):
        trainer = learner(settings, total_steps=2)
        for step in range(2):
            trainer.update(batch(step))
        results.append(trainer.tmr.text_encoder.projection.weight.detach().clone())
    assert not torch.equal(results[0], results[1])


def test_resumed_equals_uninterrupted() -> None:
    whole = learner()
    for step in range(4):
        whole.update(batch(step))
    first, second = learner(), learner()
    for step in range(2):
        first.update(batch(step))
    state = first.state()
    first.update(batch(9))  # The state is a copy.
    second.load(state)
    torch.manual_seed(12345)  # Nothing is drawn from the global generator.
    for step in (2, 3):
        second.update(batch(step))
    for name, value in whole.tmr.state_dict().items():
        assert torch.equal(second.tmr.state_dict()[name], value), name
    before = torch.get_rng_state()
    whole.update(batch(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_states_of_others_are_refused() -> None:
    trainer = learner()
    with pytest.raises(ValueError, match="'supervised' learner"):
        trainer.load({"kind": "supervised"})
    with pytest.raises(ValueError, match="seed 4, this run has seed 3"):
        trainer.load(learner(seed=4).state())
    state = trainer.state()
    del state["parameters"]["text_encoder.tokens"]
    with pytest.raises(ValueError, match=r"text_encoder\.tokens"):
        trainer.load(state)
    with pytest.raises(ValueError, match="needs the motion decoder"):
        RetrievalLearner(small_tmr(0, config=CONFIG), SETTINGS, 60, 0)


def test_without_reconstruction_no_decoder_is_needed() -> None:
    settings = SETTINGS.model_copy(update={"lambda_recons": 0.0})
    without, with_decoder = (
        RetrievalLearner(small_tmr(0, config=CONFIG, with_decoder=decoder), settings, 60, 3)
        for decoder in (False, True)
    )
    for trainer in (without, with_decoder):
        assert trainer.update(batch())["recons"] == 0.0
    assert all("decoder" not in name for name in without.state()["parameters"])
    with_state = with_decoder.state()["parameters"]
    fresh = small_tmr(0, config=CONFIG, with_decoder=True).state_dict()
    assert all(torch.equal(with_state[name], fresh[name]) for name in with_state if "decoder" in name)


def test_divergence_leaves_the_weights_alone() -> None:
    trainer = learner()
    before = trainer.state()["parameters"]
    broken = batch()
    broken.features[0, 0, 0] = torch.nan
    with pytest.raises(DivergenceError, match=r"step 0: the loss is nan"):
        trainer.update(broken)
    assert all(torch.equal(value, before[name]) for name, value in trainer.state()["parameters"].items())


def test_evaluation_uses_mu_without_dropout_and_keeps_the_mode() -> None:
    trainer, held_out = learner(), toy_data(seed=1).pairs(np.random.default_rng(0))
    trainer.tmr.train()
    assert trainer.evaluate(held_out) == trainer.evaluate(held_out)
    assert trainer.tmr.training


def test_batches_hold_motions_captions_and_who_describes_whom() -> None:
    encoder = WordEncoder()
    data = RetrievalData(toy_items(), encoder, SETTINGS, NORMALIZER, 32)
    assert sorted(encoder.asked) == sorted(2 * [text for texts in TEXTS.values() for text in texts])
    drawn = data.sample(np.random.default_rng(0))
    assert drawn.features.shape == (8, int(drawn.lengths.max()), WIDTH)
    assert drawn.tokens.shape == (8, int(drawn.token_lengths.max()), 6) and drawn.sentences.shape == (8, 6)
    assert drawn.describes.diagonal().all() and not drawn.describes.all()
    again = data.sample(np.random.default_rng(0))
    assert torch.equal(drawn.features, again.features) and torch.equal(drawn.tokens, again.tokens)
    for row, length in zip(drawn.features, drawn.lengths, strict=True):
        assert not row[length:].any()
    assert len(encoder.asked) == 2 * sum(map(len, TEXTS.values())), "captions are encoded once"


def test_near_misses_are_the_captions_nearest_to_the_others() -> None:
    verbs, sides = ("kicks", "punches", "waves", "turns", "leans"), ("left", "right", "upper", "lower")
    items = [
        TextMotion(
            f"{verb} {side}", verb, np.full((12, WIDTH), index, np.float32), (f"someone {verb} now to the {side}",)
        )
        for index, (verb, side) in enumerate((verb, side) for verb in verbs for side in sides)
    ]
    settings = SETTINGS.model_copy(update={"near_miss_share": 0.5, "noise_share": 0.0, "crop_share": 0.0})
    data = RetrievalData(items, WordEncoder(), settings, NORMALIZER, 32)
    sentences = WordEncoder().encode_pooled([item.captions[0] for item in items])
    directions = sentences / np.linalg.norm(sentences, axis=1, keepdims=True)
    similarity = directions @ directions.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1)[:, :3]
    partners = set()
    for seed in range(20):
        numbers = data.sample(np.random.default_rng(seed)).features[:, 0, 0].int().tolist()
        for original, partner in zip(numbers[:2], numbers[-2:], strict=True):
            assert partner in nearest[original]
            partners.add((original, partner))
    assert len(partners) > 20
    without = RetrievalData(items, WordEncoder(), settings.model_copy(update={"near_miss_share": 0.0}), NORMALIZER, 32)
    assert len(without.sample(np.random.default_rng(0)).lengths) == 8
    lonely = RetrievalData(items[:1], WordEncoder(), settings, NORMALIZER, 32)
    assert lonely.sample(np.random.default_rng(0)).describes.all()


def test_windows_and_noise() -> None:
    whole = SETTINGS.model_copy(update={"crop_share": 0.0, "noise_share": 0.0})
    items = {item.features.tobytes() for item in toy_items()}
    drawn = toy_data(whole).sample(np.random.default_rng(1))
    assert all(
        row[:length].numpy().tobytes() in items for row, length in zip(drawn.features, drawn.lengths, strict=True)
    )
    cropped = toy_data(whole.model_copy(update={"crop_share": 1.0}))
    lengths = [cropped.sample(np.random.default_rng(seed)).lengths.max().item() for seed in range(40)]
    assert min(lengths) == 8 and max(lengths) > 16
    assert toy_data(whole, max_frames=10).sample(np.random.default_rng(1)).lengths.tolist() == [10] * 8
    noisy = toy_data(whole.model_copy(update={"noise_share": 1.0})).sample(np.random.default_rng(1))
    difference = (noisy.features - drawn.features) if noisy.features.shape == drawn.features.shape else torch.ones(1)
    assert 0 < difference.std() < 1.0


def test_smooth_noise_is_smooth_and_of_unit_size() -> None:
    noise = smooth_noise(2000, 3, np.random.default_rng(0))
    assert noise.shape == (2000, 3)
    assert noise.std() == pytest.approx(0.85, abs=0.1)
    assert np.diff(noise, axis=0).std() < 0.6 * noise.std()


def test_evaluation_pairs_repeat_nothing() -> None:
    data = toy_data()
    pairs = data.pairs(np.random.default_rng(0))
    assert len(pairs.lengths) == 5
    assert len({row.numpy().tobytes() for row in pairs.features}) == 5
    assert len({row.numpy().tobytes() for row in pairs.sentences}) == 5
    assert data.pairs(np.random.default_rng(0), num_frames=9).lengths.tolist() == [9] * 5


def test_data_that_cannot_be_used() -> None:
    with pytest.raises(ValueError, match="items is empty"):
        RetrievalData([], WordEncoder(), SETTINGS, NORMALIZER, 32)
    with pytest.raises(ValueError, match="kick-0 has no captions"):
        silent = TextMotion("kick-0", "kick", np.zeros((9, WIDTH), np.float32), ())
        RetrievalData([silent], WordEncoder(), SETTINGS, NORMALIZER, 32)
    with pytest.raises(ValueError, match="max_frames is 7"):
        toy_data(max_frames=7)
