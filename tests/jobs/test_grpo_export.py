"""What a GRPO run exports can be loaded again: the adapter of a run that began with merging another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_actors import PolicyExport
from rollouts.checkpoints.adapters import AdapterError
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.messages import PolicyVersion
from rollouts.settings import PolicySettings, SamplingSettings
from tests.toys.tiny_models import TinyModels


def trained(config: GRPOConfig, seed: int) -> DiffusionPolicy:
    """The policy of a run with adapters that are no longer zero."""
    policy = load_policy(config.policy, config.sampling)
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable_parameters().values():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy


def output(policy: DiffusionPolicy) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, policy.skeleton.num_features, generator=generator)
    text = torch.randn(1, 1, policy.network.text_dim, generator=generator)
    with policy.inference():
        return policy.transition(x, 0, text, torch.ones(1, 8, dtype=torch.bool)).x0


def test_an_adapter_on_a_merged_base_loads_on_the_base_beside_it(tiny_models: TinyModels, tmp_path: Path) -> None:
    values = {"model_path": str(tiny_models.policy), "save_dir": tmp_path, "use_lora": True, "device": "cpu"}
    values |= {"guidance_scale": 1.0}
    first = GRPOConfig.of(values)
    policy = trained(first, 1)
    encoder = load_policy_text_encoder(first.policy)
    PolicyExport(first, policy, encoder)(PolicyVersion(1, policy.weights()), tmp_path / "first")
    assert not (tmp_path / "first" / "merged_base").exists()

    merging = {"adapter_path": str(tmp_path / "first" / "adapter"), "merge_adapter": True}
    second = GRPOConfig.of(values | merging)
    policy = trained(second, 2)
    PolicyExport(second, policy, encoder)(PolicyVersion(1, policy.weights()), tmp_path / ".hidden")
    (tmp_path / ".hidden").rename(tmp_path / "second")
    adapter = tmp_path / "second" / "adapter"
    base = adapter / json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    sampling = SamplingSettings(device="cpu", guidance_scale=1.0)
    again = load_policy(
        PolicySettings(model_path=str(base.resolve()), adapter_path=str(adapter), use_lora=True), sampling
    )
    torch.testing.assert_close(output(again), output(policy), rtol=0, atol=0)
    merged = load_policy(PolicySettings(model_path=str(tmp_path / "second"), use_lora=False), sampling)
    torch.testing.assert_close(output(merged), output(policy), rtol=0, atol=1e-4)
    with pytest.raises(AdapterError, match=r"\.\./merged_base"):
        load_policy(
            PolicySettings(model_path=str(tiny_models.policy), adapter_path=str(adapter), use_lora=True), sampling
        )
