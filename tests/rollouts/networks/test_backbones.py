"""MDM's decoder and GRU: against torch's own modules with the official weights, and what they may see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rollouts.networks.mdm import MDM
from rollouts.networks.mdm_config import MDMConfig
from rollouts.networks.mdm_naming import (
    OFFICIAL_POSITIONS,
    architecture_of,
    from_official_state_dict,
    official_shapes,
)

SIZES: dict[str, Any] = {
    **{"num_features": 6, "latent_dim": 16, "ff_size": 24, "num_layers": 2, "num_heads": 2, "text_dim": 5},
    **{"max_positions": 40, "mask_frames": True, "dropout": 0.0},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "decoder": {"arch": "trans_dec"},
    "decoder by token": {"arch": "trans_dec", "text_by_token": True},
    "decoder with a step token": {"arch": "trans_dec", "emb_trans_dec": True},
    "decoder with both": {"arch": "trans_dec", "emb_trans_dec": True, "text_by_token": True},
    "gru": {"arch": "gru"},
    "gru without a state": {"arch": "gru", "gru_recurrence": "none"},
    "mamba": {"arch": "mamba", "d_state": 5},
    "mamba with rates for channels": {"arch": "mamba", "d_state": 5, "ssm_decay": "channel"},
}
DECODERS = [name for name in VARIANTS if name.startswith("decoder")]
BATCH, FRAMES, TOKENS = 3, 9, 4
FRAME_MASK = torch.arange(FRAMES) < torch.tensor([[9], [5], [1]])
TOKEN_MASK = torch.arange(TOKENS) < torch.tensor([[4], [2], [1]])
STEPS = torch.tensor([0, 7, 39])


def build(variant: str, seed: int = 1) -> MDM:
    return MDM(MDMConfig(**SIZES, **VARIANTS[variant]), seed=seed).eval()


def motion(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, FRAMES, 6, generator=torch.Generator().manual_seed(seed))


def text_of(network: MDM, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Text and its mask, as the network reads them."""
    tokens = torch.randn(BATCH, TOKENS, 5, generator=torch.Generator().manual_seed(seed))
    return (tokens, TOKEN_MASK) if network.text_form == "tokens" else (tokens[:, :1], None)


def run(network: MDM, x: Tensor, text: Tensor, text_mask: Tensor | None) -> Tensor:
    with torch.no_grad():
        return network(x, STEPS, text, FRAME_MASK, text_mask)


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def conditions(state: dict[str, Tensor], text: Tensor) -> tuple[Tensor, Tensor]:
    """Text [B, L, d] and step [B, 1, d] by the official weights."""
    row = state["sequence_pos_encoder.pe"][STEPS, 0]
    step = linear(
        state, "embed_timestep.time_embed.2", nn.functional.silu(linear(state, "embed_timestep.time_embed.0", row))
    )
    return linear(state, "embed_text", text), step[:, None]


@pytest.mark.parametrize("variant", DECODERS)
def test_the_decoder_equals_torchs_own_modules(variant: str) -> None:
    network = build(variant)
    state = network.to_file()
    layer = nn.TransformerDecoderLayer(16, 2, 24, dropout=0.0, activation="gelu", batch_first=True)
    plain = nn.TransformerDecoder(layer, 2)
    prefix = "seqTransDecoder."
    plain.load_state_dict({n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)})
    x, (text, text_mask) = motion(), text_of(network)
    embedded, step = conditions(state, text)
    sequence, hidden = linear(state, "input_process.poseEmbedding", x), ~FRAME_MASK
    has_token = network.config.emb_trans_dec
    if has_token:
        sequence = torch.cat([step, sequence], dim=1)
        hidden = torch.cat([torch.zeros(BATCH, 1, dtype=torch.bool), hidden], dim=1)
    sequence = sequence + state["sequence_pos_encoder.pe"][: sequence.shape[1], 0]
    mixed = plain.train()(
        sequence,
        embedded + step,
        tgt_key_padding_mask=hidden,
        memory_key_padding_mask=None if text_mask is None else ~text_mask,
    )
    expected = linear(state, "output_process.poseFinal", mixed[:, 1:] if has_token else mixed)
    torch.testing.assert_close(run(network, x, text, text_mask), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("variant", ["gru", "gru without a state"])
def test_the_gru_equals_torchs_own_module(variant: str) -> None:
    network = build(variant)
    state = network.to_file()
    plain = nn.GRU(16, 16, 2, batch_first=True)
    plain.load_state_dict({n.removeprefix("gru."): value for n, value in state.items() if n.startswith("gru.")})
    x, (text, _) = motion(), text_of(network)
    condition = sum(conditions(state, text), torch.zeros(()))
    frames = torch.cat([x, condition.expand(-1, FRAMES, -1)], dim=2)
    sequence = linear(state, "input_process.poseEmbedding", frames) + state["sequence_pos_encoder.pe"][:FRAMES, 0]
    if variant == "gru":
        mixed = plain(sequence)[0]
    else:
        mixed = torch.cat([plain(sequence[:, place : place + 1])[0] for place in range(FRAMES)], dim=1)
    expected = linear(state, "output_process.poseFinal", mixed)
    torch.testing.assert_close(run(network, x, text, None), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_motion_depends_on_padding_or_on_others_of_its_batch(variant: str) -> None:
    network = build(variant)
    assert network.hides_padding
    x, (text, text_mask) = motion(), text_of(network)
    out = run(network, x, text, text_mask)
    other = torch.where(FRAME_MASK[:, :, None], x, 7.0)
    text = text if text_mask is None else torch.where(text_mask[:, :, None], text, 7.0)
    again = run(network, other, text, text_mask)
    torch.testing.assert_close(again[FRAME_MASK], out[FRAME_MASK], atol=1e-6, rtol=0)
    with torch.no_grad():
        mask = None if text_mask is None else text_mask[1:2, :2]
        alone = network(x[1:2, :5], STEPS[1:2], text[1:2, :2] if text_mask is not None else text[1:2], None, mask)
    torch.testing.assert_close(alone, out[1:2, :5], atol=2e-6, rtol=0)


def test_padding_is_seen_by_a_decoder_without_mask_frames() -> None:
    network = MDM(MDMConfig(**{**SIZES, "arch": "trans_dec", "mask_frames": False})).eval()
    assert not network.hides_padding
    x, (text, text_mask) = motion(), text_of(network)
    other = torch.where(FRAME_MASK[:, :, None], x, 7.0)
    changed = run(network, other, text, text_mask) - run(network, x, text, text_mask)
    assert changed[1, :5].abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_text_step_and_every_parameter_matter(variant: str) -> None:
    network = build(variant)
    x, (text, text_mask) = motion(), text_of(network)
    network(x, STEPS, text, FRAME_MASK, text_mask).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A key's bias moves all scores of a query alike; one row of memory has all attention, whatever its key is, and
        # a state that is never carried has no use for its matrix.
        idle = name.endswith("k_proj.bias") or "cross_attention.q" in name or "cross_attention.k" in name
        idle = idle and not (network.config.text_by_token and not name.endswith("k_proj.bias"))
        idle = idle or (variant == "gru without a state" and "weight_hh" in name)
        assert idle or parameter.grad.abs().max() > 0, name
    dropped = network(x, STEPS, text, FRAME_MASK, text_mask, torch.ones(BATCH, dtype=torch.bool))
    null = network.denoise(
        x, network.encode_null(BATCH, text.shape[1]), network.embed_timesteps(STEPS), FRAME_MASK, text_mask
    )
    torch.testing.assert_close(dropped, null, atol=1e-6, rtol=0)
    assert (dropped.detach() - run(network, x, text, text_mask)).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_official_naming_round_trip_is_exact(variant: str) -> None:
    network = build(variant, seed=2)
    official = network.to_file()
    assert set(official) == set(official_shapes(network.config)) | set(OFFICIAL_POSITIONS)
    assert architecture_of(official) == network.config.arch
    again = build(variant, seed=9)
    again.load_state_dict(from_official_state_dict(official, network.config), strict=True)
    assert all(torch.equal(again.to_file()[name], value) for name, value in official.items())
    same = MDM.build(network.args(), 6, 5, seed=2)
    assert same.config == network.config and MDM.reads(network.args()) == network.text_form
    assert all(torch.equal(same.state_dict()[name], value) for name, value in network.state_dict().items())


def test_official_names_and_sizes_of_published_networks() -> None:
    assert len(official_shapes(MDMConfig(arch="trans_dec", text_dim=768))) + len(OFFICIAL_POSITIONS) == 156
    shapes = official_shapes(MDMConfig(arch="trans_dec", text_dim=768))
    assert shapes["seqTransDecoder.layers.7.multihead_attn.in_proj_weight"] == (1536, 512)
    assert official_shapes(MDMConfig(arch="gru"))["input_process.poseEmbedding.weight"] == (512, 263 + 512)


@pytest.mark.parametrize("variant", ["decoder", "gru"])
def test_tokens_where_one_vector_is_read_are_an_error(variant: str) -> None:
    network = build(variant)
    with pytest.raises(ValueError, match="takes one pooled text embedding, not 4 tokens"):
        network(motion(), STEPS, torch.zeros(BATCH, TOKENS, 5))
