"""The policy: one code path for rollout, scoring and reference, in every precision, and its weights."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT
from rollouts.devices import resolve_device
from rollouts.diffusion.policy import DiffusionPolicy, Inpainting
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.gaussians import gaussian_log_prob
from rollouts.networks.mdm import MDM
from rollouts.policy import WeightsError
from rollouts.settings import AmpDtype, SamplingSettings
from tests.toys.tiny_policy import CONFIG, NUM_FEATURES, NUM_STEPS, motion_noise, text_features, tiny_policy

N, T = 3, 9
MASK = torch.arange(T) < torch.tensor([[9], [5], [1]])


def with_lora(policy: DiffusionPolicy, seed: int | None = None) -> DiffusionPolicy:
    """Adapters on queries, outputs and text, injected in place; `seed` makes them differ from zero."""
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "out_proj", "embed_text"])
    peft.inject_adapter_in_model(config, policy.network)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in policy.trainable_parameters().values():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return policy


def act(policy: DiffusionPolicy, position: int | Tensor = 2, **options: Any) -> Tensor:
    return policy.transition(motion_noise(N, T), position, text_features(N), MASK, **options).mean


def test_guidance_is_one_batched_forward_equal_to_two() -> None:
    guided, conditional, unconditional = (tiny_policy(guidance_scale=scale) for scale in (2.5, 1.0, 0.0))
    batches: list[int] = []
    hook = guided.network.get_submodule("backbone").register_forward_hook(
        lambda module, args, out: batches.append(args[0].shape[0])
    )
    step = guided.transition(motion_noise(N, T), 2, text_features(N), MASK)
    hook.remove()
    assert batches == [2 * N]
    with_text = conditional.transition(motion_noise(N, T), 2, text_features(N), MASK).x0
    without = unconditional.transition(motion_noise(N, T), 2, text_features(N), MASK).x0
    torch.testing.assert_close(step.x0, without + 2.5 * (with_text - without), atol=5e-6, rtol=0)
    assert not torch.allclose(with_text, without, atol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_guidance_there_is_one_forward_of_n(scale: float) -> None:
    policy = tiny_policy(guidance_scale=scale)
    batches: list[int] = []
    policy.network.get_submodule("backbone").register_forward_hook(
        lambda module, args, out: batches.append(args[0].shape[0])
    )
    act(policy)
    assert batches == [N]


def test_positions_may_differ_within_a_batch() -> None:
    policy = tiny_policy()
    mixed = act(policy, torch.tensor([0, 2, NUM_STEPS - 1]))
    for row, position in enumerate((0, 2, NUM_STEPS - 1)):
        torch.testing.assert_close(mixed[row], act(policy, position)[row], atol=2e-6, rtol=0)


def test_the_network_is_told_the_step_it_was_trained_with() -> None:
    respaced = tiny_policy(sampling_steps=3)
    whole = tiny_policy(sampling_steps=None)
    assert whole.num_steps == 12 and respaced.schedule.timestep_map.tolist() == [0, 6, 11]

    def clean(policy: DiffusionPolicy, position: int) -> Tensor:
        return policy.transition(motion_noise(N, T), position, text_features(N), MASK).x0

    torch.testing.assert_close(clean(respaced, 1), clean(whole, 11 - 6), atol=5e-6, rtol=0)


def test_deterministic_steps_use_the_same_prediction() -> None:
    policy = tiny_policy()
    noisy = policy.transition(motion_noise(N, T), 2, text_features(N), MASK)
    quiet = policy.transition(motion_noise(N, T), 2, text_features(N), MASK, stochastic=False)
    assert torch.equal(noisy.x0, quiet.x0)
    assert noisy.std.min() > 0 and not quiet.std.any()
    assert not torch.allclose(noisy.mean, quiet.mean, atol=1e-3)


def test_the_sampler_setting_chooses_the_gaussian() -> None:
    policies = (tiny_policy(), tiny_policy(sampler="ddim"), tiny_policy(sampler="ddim", eta=0.5))
    ddpm, full, half = (policy.transition(motion_noise(N, T), 2, text_features(N), MASK) for policy in policies)
    torch.testing.assert_close(ddpm.mean, full.mean, atol=5e-6, rtol=0)
    torch.testing.assert_close(half.std, 0.5 * full.std)


@pytest.mark.parametrize("amp_dtype", ["fp32", "bf16", "fp16"])
def test_scoring_computes_the_bits_of_the_rollout(amp_dtype: str) -> None:
    """Cached casts and precomputed embeddings in the rollout, differentiable casts in scoring: the same numbers."""
    policy = with_lora(tiny_policy(amp_dtype=amp_dtype), seed=1)
    text = text_features(N)
    with policy.inference():
        embedded = policy.embed(text)
        rolled = policy.transition(motion_noise(N, T), 2, embedded, MASK)
    scored = policy.transition(motion_noise(N, T), 2, text, MASK)
    assert scored.mean.dtype == torch.float32 and scored.mean.requires_grad and not rolled.mean.requires_grad
    assert torch.equal(rolled.mean, scored.mean)
    log_prob = gaussian_log_prob(motion_noise(N, T, seed=1), scored.mean, scored.std, MASK)
    log_prob.sum().backward()
    for name, parameter in policy.trainable_parameters().items():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert parameter.grad.abs().max() > 0, name


def test_low_precision_changes_the_prediction_a_little() -> None:
    exact = act(tiny_policy())
    for amp_dtype in ("bf16", "fp16"):
        error = (act(tiny_policy(amp_dtype=amp_dtype)) - exact).abs().max()
        assert 0 < error < 0.1


def test_scoring_in_train_mode_is_refused() -> None:
    policy = tiny_policy()
    policy.network.train()
    with pytest.raises(AssertionError, match="eval mode"):
        act(policy)


def test_inpainting_replaces_the_clean_motion() -> None:
    policy = tiny_policy()
    keep = torch.zeros(N, T, NUM_FEATURES, dtype=torch.bool)
    keep[:, :3] = True
    given = Inpainting(motion_noise(N, T, seed=8), keep)
    step = policy.transition(motion_noise(N, T), 2, text_features(N), MASK, inpainting=given)
    free = policy.transition(motion_noise(N, T), 2, text_features(N), MASK)
    assert torch.equal(step.x0[keep], given.motion[keep]) and torch.equal(step.x0[~keep], free.x0[~keep])
    assert torch.equal(step.mean[:, 3:], free.mean[:, 3:]) and not torch.equal(step.mean[:, :3], free.mean[:, :3])


def test_adapters_start_at_zero_and_their_absence_is_the_reference() -> None:
    base = act(tiny_policy())
    assert torch.equal(act(with_lora(tiny_policy())), base)
    policy = with_lora(tiny_policy(), seed=1)
    moved = act(policy)
    with policy.adapters_disabled():
        reference = act(policy)
    assert torch.equal(reference, base) and not torch.allclose(moved, base, atol=1e-3)
    assert torch.equal(act(policy), moved)


def test_merged_adapters_act_as_separate_ones() -> None:
    policy = with_lora(tiny_policy(guidance_scale=1.0), seed=1)
    text, position = policy.embed(text_features(N)), 2
    time = text.times[[policy.num_steps - 1 - position] * N]
    separate = policy.network.denoise(motion_noise(N, T), text.text, time, MASK)
    merged = policy.transition(motion_noise(N, T), position, text_features(N), MASK).x0
    torch.testing.assert_close(merged, separate, atol=1e-5, rtol=0)


@pytest.mark.parametrize("amp_dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("lora", [True, False])
def test_accumulation_merges_once_and_gives_the_gradients_of_single_merges(
    lora: bool, amp_dtype: AmpDtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny_policy(amp_dtype=amp_dtype)
    if lora:
        with_lora(policy, seed=1)
    merges: list[str] = []
    delta = LoraLinear.get_delta_weight

    def counted(layer: LoraLinear, adapter: str) -> Tensor:
        merges.append(adapter)
        return delta(layer, adapter)

    monkeypatch.setattr(LoraLinear, "get_delta_weight", counted)

    def gradients(shared: bool) -> list[Tensor]:
        policy.network.zero_grad()
        merges.clear()
        with policy.accumulation() if shared else nullcontext():
            for position in (1, 2, 3):
                act(policy, position).square().sum().backward()
                if lora:  # the reference in between acts on its own weights
                    with policy.adapters_disabled(), policy.inference():
                        assert torch.equal(act(policy), act(tiny_policy(amp_dtype=amp_dtype)))
        return [g for p in policy.trainable_parameters().values() if (g := p.grad) is not None]

    alone, num_alone = gradients(shared=False), len(merges)
    together, num_together = gradients(shared=True), len(merges)
    assert num_together * 3 == num_alone and bool(num_alone) == (lora and amp_dtype == "fp32")
    assert len(together) == len(alone) == len(policy.trainable_parameters())
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * float(b.abs().max()), rtol=0)


def test_a_failed_accumulation_leaves_no_gradient_and_no_weights_behind() -> None:
    policy = with_lora(tiny_policy(), seed=1)
    before = act(policy)
    adapter = policy.trainable_parameters()["backbone.layers.0.attention.q_proj.lora_A.default.weight"]
    with pytest.raises(KeyError), policy.accumulation():
        act(policy).sum().backward()
        raise KeyError
    assert adapter.grad is None
    with torch.no_grad():
        adapter.mul_(2.0)
    assert not torch.equal(act(policy), before)


def test_the_reference_between_forward_and_backward_leaves_gradients_alone() -> None:
    policy = with_lora(tiny_policy(), seed=1)

    def gradients(visit_reference: bool) -> list[Tensor]:
        loss = act(policy).square().sum()
        if visit_reference:
            with policy.adapters_disabled(), torch.no_grad():
                act(policy)
        parameters = list(policy.trainable_parameters().values())
        return list(torch.autograd.grad(loss, parameters))

    for a, b in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(a, b)
    frozen = next(iter(policy.trainable_parameters().values()))
    frozen.requires_grad_(False)
    with pytest.raises(KeyError), policy.adapters_disabled():
        raise KeyError
    assert not frozen.requires_grad and len(policy.trainable_parameters()) == 9
    assert not any(getattr(module, "disable_adapters", False) for module in policy.network.modules())


def test_a_policy_without_adapters_has_no_reference_of_its_own() -> None:
    with pytest.raises(ValueError, match="no adapters"), tiny_policy().adapters_disabled():
        pass


def test_weights_round_trip_exactly_and_are_copies() -> None:
    policy, other = with_lora(tiny_policy(), seed=1), with_lora(tiny_policy(), seed=2)
    weights = policy.weights()
    assert len(weights) == 10 and all(array.dtype == np.float32 for array in weights.values())
    assert all("lora" in name for name in weights)
    for array in weights.values():
        array.flags.writeable = False  # as from an object store
    other.load_weights(weights)
    assert torch.equal(act(other), act(policy))
    with torch.no_grad():
        nn.init.zeros_(next(iter(policy.trainable_parameters().values())))
    assert any(array.any() for array in list(weights.values())[:1])
    assert len(tiny_policy().weights()) == len(tiny_policy().network.state_dict())


@pytest.mark.parametrize("case", ["missing", "unexpected", "shape", "dtype", "nan"])
def test_weights_that_do_not_fit_change_nothing(case: str) -> None:
    policy = with_lora(tiny_policy(), seed=1)
    before = policy.weights()
    weights = {name: array + 1 for name, array in before.items()}
    name = list(weights)[-1]
    if case == "missing":
        del weights[name]
    elif case == "unexpected":
        weights["head.weight"] = np.zeros(3, np.float32)
    elif case == "shape":
        weights[name] = weights[name][:1]
    elif case == "dtype":
        weights[name] = weights[name].astype(np.float64)
    else:
        weights[name].flat[0] = np.nan
    message = {
        "missing": "1 of 10 names missing",
        "unexpected": r"1 unexpected \['head.weight'\]",
        "shape": "expected float32",
        "dtype": "float64",
        "nan": "1 of .* numbers are not finite",
    }[case]
    with pytest.raises(WeightsError, match=message):
        policy.load_weights(weights)
    after = policy.weights()
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_construction_errors() -> None:
    network, schedule = MDM(CONFIG), DiffusionSchedule("cosine", 12)
    normalizer = Normalizer(np.zeros(NUM_FEATURES), np.ones(NUM_FEATURES))
    with pytest.raises(ValueError, match="network 263, normalizer 263, skeleton kit 251"):
        DiffusionPolicy(network, schedule, normalizer, KIT, SamplingSettings())
    with pytest.raises(ValueError, match="section 0 has 12 steps, cannot keep 13"):
        tiny_policy(sampling_steps=13)
    with pytest.raises(ValueError, match="the schedule has step 11; max_positions is 8"):
        tiny_policy(config=dataclasses.replace(CONFIG, max_positions=8))
    with pytest.raises(ValueError, match="'cuda:99'"):
        DiffusionPolicy(network, schedule, normalizer, HUMANML3D, SamplingSettings(device="cuda:99"))
    for position in (-1, NUM_STEPS, torch.tensor([0, 1]), torch.tensor([0, 1, NUM_STEPS])):
        with pytest.raises(ValueError, match=f"3 positions from 0 to {NUM_STEPS - 1}"):
            act(tiny_policy(), position)


@pytest.mark.parametrize("supported", [True, False])
def test_a_cpu_without_units_for_half_precision_is_told_of(
    supported: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported, raising=False)
    tiny_policy(amp_dtype="fp32")
    assert not caplog.records
    tiny_policy(amp_dtype="bf16")
    assert [record.message for record in caplog.records] == (
        [] if supported else ["amp_dtype is bf16, which this CPU has no units for: fp32 will be many times faster"]
    )


def test_device_names() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert SamplingSettings.model_validate({"device": 1}).device == "cuda:1"
    assert SamplingSettings.model_validate({"device": "0"}).device == "cuda:0"
    with pytest.raises(ValueError, match="device"):
        SamplingSettings(device="gpu")
