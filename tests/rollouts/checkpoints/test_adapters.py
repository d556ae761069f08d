"""LoRA: no bit changes at the start, every adapter learns, peft reads what we save, merging and reloading are exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from motions.base.atomic import WriteError
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rollouts.checkpoints.adapters import (
    AdapterError,
    adapter_summary,
    add_lora,
    base_fingerprint,
    load_adapter,
    merge_into_base,
    plain_state_dict,
    resolve_targets,
    save_adapter,
)
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.networks.mdm_naming import from_official_state_dict, official_shapes
from rollouts.settings import PolicySettings, SamplingSettings

CONFIG = MDMConfig(latent_dim=16, ff_size=24, num_layers=2, num_heads=2, text_dim=8, max_positions=32)


def network(seed: int = 0) -> MDM:
    return MDM(CONFIG, seed=seed).eval()


def adapted(seed: int = 3, **options: object) -> MDM:
    """A network whose adapters have learned something."""
    result = network()
    add_lora(result, PolicySettings.model_validate({"lora_r": 4, "lora_alpha": 6, **options}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.empty(parameter.shape).normal_(0, 0.05, generator=generator))
    return result


def output(model: torch.nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.empty(3, 7, CONFIG.num_features).normal_(generator=generator)
    text = torch.empty(3, 1, CONFIG.text_dim).normal_(generator=generator)
    with torch.no_grad():
        return model(x, torch.tensor([0, 4, 9]), text)


def trainable(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("spec", ["attn", "ffn", "text", "all", "q_proj,output_proj"])
def test_new_adapters_change_no_bit(spec: str) -> None:
    base, model = network(), network()
    state = torch.random.get_rng_state()
    summary = add_lora(model, PolicySettings(lora_target_spec=spec))
    assert torch.equal(torch.random.get_rng_state(), state), "global random state is left alone"
    assert torch.equal(output(model), output(base))
    assert not model.training
    learned = trainable(model)
    assert learned and all(".lora_" in name for name in learned)
    assert summary.num_parameters == sum(parameter.numel() for parameter in learned.values())


def test_the_specification_says_where_adapters_go() -> None:
    per_layer = {"attn": 4, "ffn": 2}
    counts = {"attn": 2 * per_layer["attn"], "ffn": 2 * per_layer["ffn"], "text": 1, "all": 15}
    for spec, count in counts.items():
        assert add_lora(network(), PolicySettings(lora_target_spec=spec)).num_layers == count
    assert resolve_targets(network(), "text, attn,q_proj") == ("embed_text", "q_proj", "k_proj", "v_proj", "out_proj")
    one = network()
    assert add_lora(one, PolicySettings(lora_target_spec="backbone.layers.1.linear1,time_embed.0")).num_layers == 2
    with pytest.raises(
        AdapterError, match=r"no layer is called in_proj, norm1; legal: attn, ffn, .*time_embed\.0.*q_pr"
    ):
        resolve_targets(network(), "in_proj,norm1,q_proj")
    with pytest.raises(AdapterError, match="no layer is called nothing"):
        resolve_targets(network(), " , ")
    with pytest.raises(AdapterError, match="has adapters already"):
        add_lora(one, PolicySettings())


def test_the_seed_decides_the_random_half() -> None:
    first, same, other = network(), network(), network()
    for model, seed in ((first, 1), (same, 1), (other, 2)):
        add_lora(model, PolicySettings(lora_seed=seed))
    assert all(torch.equal(value, trainable(same)[name]) for name, value in trainable(first).items())
    assert not all(torch.equal(value, trainable(other)[name]) for name, value in trainable(first).items())


def test_every_adapter_gets_a_gradient() -> None:
    model = adapted(lora_target_spec="all")
    model(torch.ones(2, 5, 263), torch.tensor([1, 2]), torch.ones(2, 1, 8)).square().sum().backward()
    dead = [name for name, parameter in trainable(model).items() if parameter.grad is None or not parameter.grad.any()]
    assert dead == []


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_adapters_off_is_the_base_bit_for_bit(dtype: str) -> None:
    sampling = SamplingSettings.model_validate({"amp_dtype": dtype, "device": "cpu"})
    normalizer = Normalizer(np.zeros(263, np.float32), np.ones(263, np.float32))
    base, policy = (
        DiffusionPolicy(model, DiffusionSchedule("cosine", 10), normalizer, HUMANML3D, sampling)
        for model in (network(), adapted())
    )
    x_t, text = torch.ones(2, 5, 263), torch.ones(2, 1, 8)
    names = set(policy.trainable_parameters())

    def mean(acting: DiffusionPolicy) -> Tensor:
        return acting.transition(x_t, 3, text, None).mean.detach()

    with policy.adapters_disabled():
        assert torch.equal(mean(policy), mean(base))
    assert (mean(policy) - mean(base)).abs().max() > 1e-3
    assert set(policy.trainable_parameters()) == names


def test_round_trip_is_exact(tmp_path: Path) -> None:
    model = adapted()
    summary = adapter_summary(model)
    folder = save_adapter(tmp_path / "adapter", model, base_model="save/model000000001.pt")
    fresh = network()
    assert load_adapter(fresh, folder) == summary
    assert torch.equal(output(fresh), output(model))
    assert trainable(fresh).keys() == trainable(model).keys()
    present = adapted(seed=4)
    load_adapter(present, folder / "adapter_model.safetensors")
    assert torch.equal(output(present), output(model))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "save/model000000001.pt"
    assert (config["r"], config["lora_alpha"]) == (4, 6)
    assert config["target_modules"] == sorted(summary.targets)


def test_peft_reads_our_adapters_and_we_read_those_of_peft(tmp_path: Path) -> None:
    model = adapted()
    save_adapter(tmp_path / "ours", model)
    theirs = peft.PeftModel.from_pretrained(network(), tmp_path / "ours").eval()
    assert torch.equal(output(theirs), output(model))
    theirs.save_pretrained(str(tmp_path / "theirs"))
    back = network()
    load_adapter(back, tmp_path / "theirs")
    assert torch.equal(output(back), output(model))


def test_adapters_of_single_layers_come_back_to_those_layers(tmp_path: Path) -> None:
    model = adapted(lora_target_spec="backbone.layers.1.linear1")
    fresh = network()
    assert load_adapter(fresh, save_adapter(tmp_path, model)).num_layers == 1
    assert torch.equal(output(fresh), output(model))


def rewrite(folder: Path, rename: dict[str, str] | None = None, drop: str = "", **metadata: str) -> None:
    """Rewrite an adapter's tensors with parts of their names replaced or some dropped."""
    path = folder / "adapter_model.safetensors"
    tensors = {name: value for name, value in load_file(path).items() if not drop or drop not in name}
    for old, new in (rename or {}).items():
        tensors = {name.replace(old, new): value for name, value in tensors.items()}
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "rename", [{"base_model.model.": ""}, {"lora_A.": "lora_A.default.", "lora_B.": "lora_B.default."}]
)
def test_either_naming_is_read(tmp_path: Path, rename: dict[str, str]) -> None:
    model = adapted()
    save_adapter(tmp_path, model)
    rewrite(tmp_path, rename)
    fresh = network()
    load_adapter(fresh, tmp_path)
    assert torch.equal(output(fresh), output(model))


def test_another_base_is_refused_unless_asked_for(tmp_path: Path) -> None:
    save_adapter(tmp_path, adapted(), base_model="the/base.pt")
    other = network(seed=9)
    before = output(other)
    with pytest.raises(AdapterError, match=r"trained on other base weights .*the/base\.pt.*--allow_other_base"):
        load_adapter(other, tmp_path)
    assert torch.equal(output(other), before)
    load_adapter(other, tmp_path, allow_other_base=True)
    assert not torch.equal(output(other), before)
    assert base_fingerprint(adapted()) == base_fingerprint(network()) != base_fingerprint(other)


def test_wrong_rank_targets_and_numbers_are_refused(tmp_path: Path) -> None:
    save_adapter(tmp_path / "small", adapted(lora_r=2))
    with pytest.raises(AdapterError, match="has r 2 and alpha 6, the network's adapters have r 4 and alpha 6"):
        load_adapter(adapted(), tmp_path / "small")
    save_adapter(tmp_path / "attn", adapted(lora_target_spec="attn"))
    with pytest.raises(AdapterError, match=r"16 of 30 tensors match; missing: .*linear1.*unexpected: none"):
        load_adapter(adapted(), tmp_path / "attn")
    rewrite(tmp_path / "attn", drop="layers.1.attention.q_proj.lora_A")
    fresh = network()
    with pytest.raises(
        AdapterError, match=r"15 of 16 tensors match; missing: backbone.layers.1.attention.q_proj.lora_A"
    ):
        load_adapter(fresh, tmp_path / "attn")
    assert trainable(fresh).keys() == dict(fresh.named_parameters()).keys(), "no half-loaded adapter stays"

    config = json.loads((tmp_path / "small/adapter_config.json").read_text())
    (tmp_path / "small/adapter_config.json").write_text(json.dumps(config | {"r": 3}))
    with pytest.raises(
        AdapterError, match=r"has shape \(2, 263\); expected \(3, 263\)|has shape \(2, \d+\); expected \(3"
    ):
        load_adapter(network(), tmp_path / "small")
    (tmp_path / "small/adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(AdapterError, match="use_dora is True; only plain LoRA"):
        load_adapter(network(), tmp_path / "small")
    (tmp_path / "small/adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    with pytest.raises(AdapterError, match="peft_type is 'IA3'"):
        load_adapter(network(), tmp_path / "small")

    broken = adapted()
    with torch.no_grad():
        next(iter(trainable(broken).values()))[0, 0] = torch.nan
    save_adapter(tmp_path / "nan", broken)
    with pytest.raises(AdapterError, match=r"input_proj\.lora_A\.default\.weight has numbers that are not finite"):
        load_adapter(network(), tmp_path / "nan")


def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json: no such file; an adapter is a folder with"):
        load_adapter(network(), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match="not JSON"):
        load_adapter(network(), tmp_path)
    save_adapter(tmp_path, adapted())
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(AdapterError, match="not a safetensors file"):
        load_adapter(network(), tmp_path)
    with pytest.raises(AdapterError, match="has no adapters"):
        save_adapter(tmp_path, network())


def test_merged_weights_compute_what_the_adapters_do() -> None:
    model = adapted()
    official = model.to_file(plain_state_dict(model))
    assert set(official) >= set(official_shapes(CONFIG)) and not any("lora" in name for name in official)
    plain = network(seed=8)
    plain.load_state_dict(from_official_state_dict(official, CONFIG))
    torch.testing.assert_close(output(plain), output(model), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output(merge_into_base(model).eval()), output(model), atol=1e-6, rtol=1e-5)
    assert (output(network()) - output(model)).abs().max() > 1e-2


def test_full_disk_keeps_the_old_adapter(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    first, second = adapted(seed=1), adapted(seed=2)
    save_adapter(tmp_path, first)
    with file_size_limit(4000), pytest.raises(WriteError, match=r"adapter_model\.safetensors: File too large"):
        save_adapter(tmp_path, second)
    fresh = network()
    load_adapter(fresh, tmp_path)
    assert torch.equal(output(fresh), output(first))
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        assert file.metadata()["base_sha256"] == base_fingerprint(first)


def test_adapters_that_have_no_place_are_refused() -> None:
    with pytest.raises(ValidationError, match="merge_adapter is set without adapter_path"):
        PolicySettings(merge_adapter=True)
    with pytest.raises(ValidationError, match="use_lora is off and adapter_path is given"):
        PolicySettings(use_lora=False, adapter_path="x")


def test_equal_adapters_are_equal_files(tmp_path: Path) -> None:
    files = []
    for number in range(8):
        folder = save_adapter(tmp_path / str(number), adapted(), "somewhere")
        files.append([(folder / name).read_bytes() for name in ("adapter_model.safetensors", "adapter_config.json")])
    assert all(file == files[0] for file in files)
