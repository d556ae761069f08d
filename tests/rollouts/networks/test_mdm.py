"""The MDM network: against plain torch modules, in every mode, under official names; and its fixture's check."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.fixtures import mdm as mdm_fixture
from benchmarks.parity import fixture_files, load_fixture
from benchmarks.plain_mdm import PlainMDM
from rollouts.networks.mdm import MDM, MDMConfig, positional_table
from rollouts.networks.mdm_naming import (
    OFFICIAL_POSITIONS,
    StateDictError,
    from_official_state_dict,
    official_shapes,
)

CONFIG = MDMConfig(
    num_features=6, latent_dim=16, ff_size=24, num_layers=2, num_heads=2, text_dim=5, max_positions=40, mask_frames=True
)
BATCH, FRAMES = 3, 9


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Motion, timesteps, text, frame mask."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, FRAMES, 6, generator=generator)
    text = torch.randn(BATCH, 1, 5, generator=generator)
    mask = torch.arange(FRAMES) < torch.tensor([[9], [5], [1]])
    return x, torch.tensor([0, 7, 39]), text, mask


def without_dropout(config: MDMConfig = CONFIG) -> MDMConfig:
    return dataclasses.replace(config, dropout=0.0)


@pytest.mark.parametrize("mask_frames", [False, True])
def test_forward_equals_plain_torch_modules(mask_frames: bool) -> None:
    """A network of `nn.TransformerEncoder` with the official weights, in its training path."""
    config = without_dropout(dataclasses.replace(CONFIG, mask_frames=mask_frames))
    network = MDM(config, seed=1).eval()
    plain = PlainMDM(config)
    plain.load_official(network.to_file())
    x, timesteps, text, mask = inputs()
    ours = network(x, timesteps, text, mask)
    expected = plain.train()(x, timesteps, text[:, 0], mask if mask_frames else None)
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=0)


def test_train_and_eval_mode_differ_by_dropout_alone() -> None:
    x, timesteps, text, mask = inputs()
    network = MDM(without_dropout(), seed=1)
    trained = network.train()(x, timesteps, text, mask)
    with torch.no_grad():
        evaluated = network.eval()(x, timesteps, text, mask)
    assert torch.equal(trained, evaluated)
    with_dropout = MDM(CONFIG, seed=1)
    assert torch.equal(with_dropout.eval()(x, timesteps, text, mask), evaluated)
    assert not torch.allclose(with_dropout.train()(x, timesteps, text, mask), evaluated, atol=1e-3)


def test_precomputed_embeddings_give_the_forward() -> None:
    network = MDM(CONFIG).eval()
    x, timesteps, text, mask = inputs()
    ours = network.denoise(x, network.encode_text(text), network.embed_timesteps(timesteps), mask)
    assert torch.equal(ours, network(x, timesteps, text, mask))


def test_the_null_condition_is_the_bias_and_is_chosen_per_sample() -> None:
    network = MDM(CONFIG).eval()
    x, timesteps, text, mask = inputs()
    assert torch.equal(network.encode_null(2)[1, 0], network.embed_text.bias)
    drop = torch.tensor([False, True, False])
    mixed = network(x, timesteps, text, mask, None, drop)
    null = network.denoise(x, network.encode_null(BATCH), network.embed_timesteps(timesteps), mask)
    given = network(x, timesteps, text, mask)
    torch.testing.assert_close(mixed[1], null[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(mixed[[0, 2]], given[[0, 2]], atol=1e-6, rtol=0)
    assert not torch.allclose(mixed[1], given[1], atol=1e-3)


def test_padding_is_hidden_with_mask_frames_only() -> None:
    x, timesteps, text, mask = inputs()
    changed = torch.where(mask.unsqueeze(2), x, x + 3.0)
    masked, unmasked = (MDM(dataclasses.replace(CONFIG, mask_frames=flag)).eval() for flag in (True, False))

    def valid(network: MDM, motion: Tensor) -> Tensor:
        return network(motion, timesteps, text, mask)[mask]

    assert torch.equal(valid(masked, x), valid(masked, changed))
    assert not torch.allclose(valid(unmasked, x)[FRAMES:], valid(unmasked, changed)[FRAMES:], atol=1e-3)


def test_positions_start_with_the_condition() -> None:
    table = positional_table(4, 6)
    assert torch.equal(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(table[3, 2], torch.sin(torch.tensor(3 * 10000 ** (-2 / 6))))
    torch.testing.assert_close(table[3, 5], torch.cos(torch.tensor(3 * 10000 ** (-4 / 6))))


def test_weights_are_a_function_of_config_and_seed() -> None:
    before = torch.random.get_rng_state()
    first, again, other = MDM(CONFIG, seed=5), MDM(CONFIG, seed=5), MDM(CONFIG, seed=6)
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [network.state_dict() for network in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["input_proj.weight"], states[2]["input_proj.weight"])
    bound = (6 / (4 * CONFIG.latent_dim)) ** 0.5
    weight = states[0]["backbone.layers.1.attention.k_proj.weight"]
    assert weight.abs().max() <= bound and weight.abs().max() > 0.8 * bound


def test_every_projection_has_a_gradient() -> None:
    network = MDM(CONFIG)
    network(*inputs()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A key's bias moves all scores of a query alike, so softmax cancels it.
        assert name.endswith("k_proj.bias") or parameter.grad.abs().max() > 0, name


def test_bfloat16_stays_near_float32() -> None:
    network = MDM(CONFIG).eval()
    x, timesteps, text, mask = inputs()
    expected = network(x, timesteps, text, mask)
    low = copy.deepcopy(network).to(torch.bfloat16)
    ours = low.denoise(x, network.encode_text(text), network.embed_timesteps(timesteps), mask)
    assert ours.dtype == torch.bfloat16
    assert 0 < (ours.float() - expected).abs().max() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "rwkv"}, "arch is 'rwkv'; built architectures: trans_enc, trans_dec, gru, mamba"),
        ({"text_by_token": True}, "text_by_token is set and arch is trans_enc; it belongs to trans_dec"),
        ({"arch": "gru", "emb_trans_dec": True}, "emb_trans_dec is set and arch is gru"),
        ({"num_heads": 3}, "multiple of 2 \\* num_heads = 6"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_config_errors_name_field_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_input_errors() -> None:
    network = MDM(CONFIG).eval()
    x, timesteps, text, mask = inputs()
    with pytest.raises(ValueError, match=r"motion has shape \(3, 9, 5\); expected \[batch, frames, 6\]"):
        network(x[:, :, :5], timesteps, text, mask)
    with pytest.raises(ValueError, match=r"text has shape \(3, 5\)"):
        network(x, timesteps, text[:, 0], mask)
    with pytest.raises(ValueError, match="0 frames; legal are 1 to 39"):
        network(x[:, :0], timesteps, text, mask[:, :0])
    with pytest.raises(ValueError, match="40 frames; legal are 1 to 39"):
        network(x[:, :1].expand(-1, 40, -1), timesteps, text)
    with pytest.raises(ValueError, match="one pooled text embedding, not 2 tokens"):
        network(x, timesteps, text.expand(-1, 2, -1), mask)


def test_official_names_and_sizes() -> None:
    shapes = official_shapes(MDMConfig())
    assert len(shapes) + len(OFFICIAL_POSITIONS) == 108
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 17_880_327
    assert shapes["seqTransEncoder.layers.7.self_attn.in_proj_weight"] == (1536, 512)
    assert set(MDM(CONFIG).to_file()) == set(official_shapes(CONFIG)) | set(OFFICIAL_POSITIONS)


def test_official_naming_round_trip_is_exact() -> None:
    network = MDM(CONFIG, seed=2)
    official = network.to_file()
    assert official["sequence_pos_encoder.pe"].shape == (40, 1, 16)
    packed = official["seqTransEncoder.layers.0.self_attn.in_proj_weight"]
    assert torch.equal(packed[16:32], network.state_dict()["backbone.layers.0.attention.k_proj.weight"])
    for absent in ((), OFFICIAL_POSITIONS):
        given = {name: value for name, value in official.items() if name not in absent}
        loaded = MDM(CONFIG, seed=9)
        loaded.load_state_dict(from_official_state_dict(given, CONFIG), strict=True)
        again = loaded.to_file()
        assert all(torch.equal(again[name], official[name]) for name in official)
    assert official["embed_text.bias"].data_ptr() != network.embed_text.bias.data_ptr()


def test_a_file_keeps_its_own_rounding_of_the_positional_table() -> None:
    """Another processor's table: a rate off by one unit in the last place, times the row's number."""
    official = MDM(CONFIG, seed=2).to_file()
    rows = torch.arange(40.0).view(40, 1, 1)
    foreign = official | dict.fromkeys(OFFICIAL_POSITIONS, official[OFFICIAL_POSITIONS[0]] + rows * 1e-7)
    loaded = MDM.from_file(foreign, CONFIG.args())
    again = loaded.to_file()
    assert all(torch.equal(again[name], foreign[name]) for name in foreign)
    other = official | dict.fromkeys(OFFICIAL_POSITIONS, official[OFFICIAL_POSITIONS[0]] + 0.01)
    assert torch.equal(MDM.from_file(other, CONFIG.args()).positions, MDM(CONFIG).positions)


def test_naming_errors_list_what_is_wrong() -> None:
    network = MDM(CONFIG)
    official = network.to_file()
    missing = {name: value for name, value in official.items() if not name.startswith("embed_text")}
    with pytest.raises(StateDictError, match=r"missing: embed_text.weight, embed_text.bias; unexpected: none"):
        from_official_state_dict(missing, CONFIG)
    extra = official | {"clip_model.logit_scale": torch.zeros(1)}
    with pytest.raises(StateDictError, match=r"missing: none; unexpected: clip_model.logit_scale"):
        from_official_state_dict(extra, CONFIG)
    with pytest.raises(StateDictError, match="3 layers: 34 of 46 names match"):
        from_official_state_dict(official, dataclasses.replace(CONFIG, num_layers=3))
    wide = official | {"embed_text.weight": torch.zeros(16, 768)}
    with pytest.raises(StateDictError, match=r"embed_text.weight has shape \(16, 768\); the config asks for \(16, 5\)"):
        from_official_state_dict(wide, CONFIG)
    with pytest.raises(StateDictError, match=r"adapters have to be merged.*unexpected: embed_text.lora_A"):
        network.to_file(network.state_dict() | {"embed_text.lora_A": torch.zeros(1)})


def test_the_fixture_check_sees_a_changed_weight(parity_dir: Path) -> None:
    for path in fixture_files(parity_dir):
        fixture = dict(load_fixture(path))
        if mdm_fixture.recognises(fixture) and fixture["config"]["arch"] == "trans_enc":
            break
    else:
        pytest.skip(f"no trans_enc fixture in {parity_dir}")
    fixture["state_dict"] = dict(fixture["state_dict"])
    name = "seqTransEncoder.layers.0.self_attn.in_proj_weight"
    fixture["state_dict"][name] = fixture["state_dict"][name].roll(1, dims=0)
    missed = {quantity.name for quantity in mdm_fixture.check(fixture) if not quantity.ok}
    assert {
        "model_output/mask_frames_False",
        "sampling/ddpm",
        "inpainting/mean",
        "training_loss/lambda_vel_0/loss",
    } <= missed
    assert not any(name.startswith(("diffusion", "respacing", "variants", "q_sample")) for name in missed)
