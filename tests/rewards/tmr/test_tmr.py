"""TMR's network: the original's numbers, masks, modes, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.fixtures import tmr as fixture_format
from motions.skeleton.normalization import Normalizer
from rewards.tmr.network import TMR, TMRConfig, length_mask
from rollouts.networks.attention import positional_table
from rollouts.text.padding import pad_tokens

CONFIG = TMRConfig(num_features=10, text_dim=6, latent_dim=8, ff_size=16, num_layers=2, num_heads=2)


def small_tmr(seed: int = 0, *, with_decoder: bool = True) -> TMR:
    torch.manual_seed(seed)
    mean, std = np.linspace(-1, 1, 10), np.linspace(0.5, 2, 10)
    return TMR(CONFIG, Normalizer(mean, std), "minilm", with_decoder=with_decoder).eval()


def test_parity_with_the_original(parity_dir: Path) -> None:
    fixture = torch.load(parity_dir / "tmr.pt", weights_only=True)
    assert fixture_format.recognises(fixture)
    quantities = list(fixture_format.check(fixture))
    assert {"latents/text_mu", "decoded_from_motion_mu", "training/losses/loss", "retrieval/normal"} <= {
        quantity.name for quantity in quantities
    }
    assert [quantity for quantity in quantities if not quantity.ok] == []


def test_fixture_format_recognises_by_content(parity_dir: Path) -> None:
    for name in ("t2m_evaluator.pt", "mdm_trans_enc.pt"):
        assert not fixture_format.recognises(torch.load(parity_dir / name, weights_only=True))


def test_latent_ignores_padding_and_neighbours() -> None:
    tmr, generator = small_tmr(), torch.Generator().manual_seed(1)
    features = torch.randn(3, 12, 10, generator=generator)
    lengths = torch.tensor([12, 5, 7])
    together = tmr.encode_motion(features, lengths).mu
    dirty = features.clone()
    dirty[1, 5:] = torch.nan
    assert torch.equal(tmr.encode_motion(dirty, lengths).mu, together)
    for index, length in enumerate(lengths.tolist()):
        alone = tmr.encode_motion(features[index : index + 1, :length], torch.tensor([length])).mu
        torch.testing.assert_close(alone[0], together[index], atol=1e-6, rtol=0)
    changed = features.clone()
    changed[1, 4] += 1.0
    assert (tmr.encode_motion(changed, lengths).mu[1] - together[1]).abs().max() > 1e-3


def test_text_latent_ignores_padding() -> None:
    tmr, rng = small_tmr(), np.random.default_rng(0)
    rows = [rng.standard_normal((length, 6)).astype(np.float32) for length in (4, 9)]
    tokens, lengths = pad_tokens(rows)
    assert tokens.shape == (2, 9, 6) and lengths.tolist() == [4, 9]
    together = tmr.encode_text(tokens, lengths).mu
    alone = tmr.encode_text(*pad_tokens(rows[:1])).mu
    torch.testing.assert_close(alone[0], together[0], atol=1e-6, rtol=0)


def test_train_and_eval_give_the_same_numbers_without_dropout() -> None:
    torch.manual_seed(0)
    config = TMRConfig(num_features=10, text_dim=6, latent_dim=8, ff_size=16, num_layers=2, num_heads=2, dropout=0.0)
    tmr = TMR(config, Normalizer(np.zeros(10), np.ones(10)), "minilm", with_decoder=True)
    features, lengths = torch.randn(2, 9, 10), torch.tensor([9, 6])
    for module in (lambda: tmr.encode_motion(features, lengths).mu, lambda: tmr.decode(torch.ones(2, 8), lengths)):
        trained = module()
        tmr.eval()
        with torch.no_grad():
            torch.testing.assert_close(module(), trained, atol=1e-6, rtol=0)
        tmr.train()


def test_dropout_acts_in_training_only() -> None:
    tmr = small_tmr()
    features, lengths = torch.randn(2, 9, 10), torch.tensor([9, 6])
    assert torch.equal(tmr.encode_motion(features, lengths).mu, tmr.encode_motion(features, lengths).mu)
    tmr.train()
    assert not torch.equal(tmr.encode_motion(features, lengths).mu, tmr.encode_motion(features, lengths).mu)


def test_features_are_normalised_with_its_own_statistics() -> None:
    tmr = small_tmr()
    features = torch.randn(1, 5, 10)
    expected = (features - torch.tensor(tmr.normalizer.mean)) / torch.tensor(tmr.normalizer.std)
    expected[:, 3:] = 0.0
    torch.testing.assert_close(tmr.normalize(features, torch.tensor([3])), expected)


def test_decoder_zeroes_padding_and_follows_the_latent() -> None:
    tmr = small_tmr()
    decoded = tmr.decode(torch.stack([torch.zeros(8), torch.ones(8)]), torch.tensor([4, 6]))
    assert decoded.shape == (2, 6, 10)
    assert not decoded[0, 4:].any() and decoded[1, 4:].all()
    assert (decoded[0, :4] - decoded[1, :4]).abs().max() > 1e-3


def test_state_dict_has_the_names_of_torchs_transformer() -> None:
    """The original is built of torch's layers, so its checkpoints have these keys."""
    tmr = small_tmr()
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    ours = tmr.motion_encoder.seqTransEncoder.layers[0].state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in layer.state_dict().items()
    }
    decoder_layer = torch.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    assert tmr.motion_decoder is not None
    ours = tmr.motion_decoder.seqTransDecoder.layers[0].state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in decoder_layer.state_dict().items()
    }
    assert set(tmr.text_encoder.state_dict()) >= {"tokens", "projection.weight", "projection.bias"}


def test_positions_and_masks_by_hand() -> None:
    table = positional_table(3, 4)
    expected = [np.sin(2.0), np.cos(2.0), np.sin(0.02), np.cos(0.02)]
    np.testing.assert_allclose(table[2].numpy(), expected, atol=1e-6)
    assert length_mask(torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [True, True, True]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tmr: tmr.encode_motion(torch.zeros(1, 4, 11), torch.tensor([4])), r"\[B, L, 10\]"),
        (lambda tmr: tmr.encode_motion(torch.zeros(1, 4, 10), torch.tensor([5])), r"legal are 1\.\.4"),
        (lambda tmr: tmr.encode_motion(torch.zeros(1, 4, 10), torch.tensor([0])), r"legal are 1\.\.4"),
        (lambda tmr: tmr.encode_text(torch.zeros(2, 4, 6), torch.tensor([4])), r"needs \(2,\)"),
        (lambda _: small_tmr(with_decoder=False).decode(torch.zeros(1, 8), torch.tensor([4])), "no motion decoder"),
        (lambda _: TMRConfig(latent_dim=10, num_heads=4), "latent_dim=10"),
        (lambda _: TMRConfig(num_layers=0), "num_layers=0"),
        (lambda _: TMR(CONFIG, Normalizer(np.zeros(9), np.ones(9)), "x", with_decoder=False), "statistics have 9"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(small_tmr())
