"""Checkpoints of MDM's decoder and GRU: official files as their args.json says, and ours in the official layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from motions.skeleton.normalization import Normalizer
from rollouts.checkpoints.adapters import add_lora
from rollouts.checkpoints.file_kinds import CheckpointError
from rollouts.checkpoints.mdm_files import LoadedMDM, load_mdm, model_args_of, save_mdm
from rollouts.checkpoints.model_args import ModelArgsError
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.mdm import MDM
from rollouts.networks.mdm_config import MDMConfig
from rollouts.networks.mdm_naming import official_shapes
from rollouts.settings import PolicySettings

SIZES: dict[str, Any] = {"latent_dim": 16, "ff_size": 24, "num_layers": 2, "text_dim": 12, "max_positions": 64}
ARGS: dict[str, Any] = {
    **{"dataset": "humanml", "layers": 2, "latent_dim": 16, "noise_schedule": "cosine", "diffusion_steps": 50},
    **{"text_encoder_type": "clip", "pos_embed_max_len": 64, "sigma_small": True, "keyframe_cond_prob": 0.1},
}
"""As MDM's code writes them; with a field that its public version lacks."""
VARIANTS: dict[str, dict[str, Any]] = {
    "trans_dec": {},
    "trans_dec with a step token": {"emb_trans_dec": True},
    "trans_dec by token": {"text_by_token": True},
    "gru": {},
}


def config_of(variant: str, **changes: Any) -> MDMConfig:
    return MDMConfig(**SIZES | changes, arch=variant.split()[0], **VARIANTS[variant])


def load_official(folder: Path, config: MDMConfig, **args: Any) -> LoadedMDM:
    """A network written as MDM's code would write it, and read."""
    torch.save(MDM(config, seed=3).to_file(), folder / "model000200000.pt")
    (folder / "args.json").write_text(json.dumps(ARGS | {"arch": config.arch} | args))
    return load_mdm(folder)


def output(loaded: LoadedMDM, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.empty(2, 7, loaded.network.num_features).normal_(generator=generator)
    tokens = 3 if loaded.network.text_form == "tokens" else 1
    text = torch.empty(2, tokens, 12).normal_(generator=generator)
    with torch.no_grad():
        return loaded.network(x, torch.tensor([0, 9]), text)


def test_a_decoder_reads_what_its_text_encoder_gave_in_mdm(tmp_path: Path) -> None:
    bert = load_official(tmp_path, config_of("trans_dec by token"), text_encoder_type="bert")
    assert (bert.network.text_form, bert.args.text_encoder) == ("tokens", "distilbert")
    clip = load_official(tmp_path, config_of("trans_dec"))
    assert (clip.network.text_form, clip.args.text_encoder) == ("pooled", "clip")
    step = load_official(tmp_path, config_of("trans_dec with a step token"), emb_trans_dec=True)
    assert step.network.args()["emb_trans_dec"] is True and step.report.unknown_args == ("keyframe_cond_prob",)
    assert not torch.equal(output(step), output(clip)), "the same weights, but another network"


def test_an_option_that_mdm_s_encoder_ignores_is_ignored(tmp_path: Path) -> None:
    loaded = load_official(tmp_path, MDMConfig(**SIZES), emb_trans_dec=True)
    assert "emb_trans_dec" not in loaded.network.args()


def test_an_official_gru_computes_each_motion_alone_and_ours_carries_its_state(tmp_path: Path) -> None:
    official = load_official(tmp_path, config_of("gru"))
    assert official.network.args()["gru_recurrence"] == "none"
    ours = load_official(tmp_path, config_of("gru"), gru_recurrence="time")
    torch.testing.assert_close(output(ours)[:, 0], output(official)[:, 0], atol=1e-6, rtol=0)
    assert (output(ours) - output(official))[:, 1:].abs().max() > 1e-3


@pytest.mark.parametrize("arch", ["trans_enc", "gru"])
def test_weights_of_another_architecture_than_args_json_says_are_refused(tmp_path: Path, arch: str) -> None:
    with pytest.raises(CheckpointError, match=rf"the weights are of arch trans_dec, not {arch}"):
        load_official(tmp_path, config_of("trans_dec"), arch=arch)


def test_distilbert_without_a_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelArgsError, match="text_encoder_type bert belongs to arch trans_dec"):
        load_official(tmp_path, config_of("gru"), text_encoder_type="bert")


@pytest.mark.parametrize("skeleton", ["humanml3d", "kit"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_ours_are_saved_in_the_official_layout_and_come_back(tmp_path: Path, variant: str, skeleton: str) -> None:
    width = {"humanml3d": 263, "kit": 251}[skeleton]
    network = MDM(config_of(variant, num_features=width), seed=5).eval()
    add_lora(network, PolicySettings(lora_r=2))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(0.02)
    encoder = "distilbert" if network.text_form == "tokens" else "clip"
    args = model_args_of(network, DiffusionSchedule("cosine", 10), skeleton, encoder)
    path = save_mdm(tmp_path, 7, network, args, Normalizer(np.zeros(width), np.ones(width)))
    state = torch.load(path, weights_only=True)
    shapes = official_shapes(network.config)
    assert {n: tuple(v.shape) for n, v in state.items() if not n.endswith("pe")} == shapes
    said = json.loads((tmp_path / "args.json").read_text())
    assert said["arch"] == network.config.arch and said["dataset"] == {"humanml3d": "humanml", "kit": "kit"}[skeleton]
    assert said["text_encoder_type"] == {"distilbert": "bert", "clip": "clip"}[encoder]
    loaded = load_mdm(path)
    assert isinstance(loaded.network, MDM) and loaded.network.config == network.config
    expected = LoadedMDM(network, loaded.schedule, args, loaded.skeleton, None, loaded.report)
    torch.testing.assert_close(output(loaded), output(expected), atol=1e-5, rtol=0)


def test_the_official_decoder_computes_the_official_numbers(tmp_path: Path, parity_dir: Path) -> None:
    fixture = torch.load(parity_dir / "mdm_trans_dec.pt", weights_only=True)
    config, inputs = fixture["config"], fixture["inputs"]
    sizes = {"layers": config["num_layers"], "latent_dim": config["latent_dim"], "mask_frames": config["mask_frames"]}
    torch.save({"model": fixture["state_dict"]}, tmp_path / "model000000001.pt")
    said = ARGS | sizes | {"arch": "trans_dec", "text_encoder_type": "bert", "pos_embed_max_len": 5000}
    (tmp_path / "args.json").write_text(json.dumps(said))
    tokens, hidden = inputs["text_embed"]
    with torch.no_grad():
        ours = load_mdm(tmp_path).network(
            inputs["x_t"].flatten(1, 2).transpose(1, 2),
            inputs["timesteps"],
            tokens.transpose(0, 1),
            inputs["mask"][:, 0, 0],
            ~hidden,
        )
    expected = fixture["model_output"]["mask_frames_True"].flatten(1, 2).transpose(1, 2)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
