"""What a GPU changes: rounding and speed, nothing else. Skipped where there is none."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import grpo, pretrain
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from learners.supervised.diffusion import SupervisedLearner
from learners.supervised.settings import SupervisedSettings
from motions.skeleton.skeletons import HUMANML3D
from rewards.settings import RewardSettings
from rewards.tmr.scorer import Embedder, SemanticScorer
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import PolicyVersion, Trajectory, Weights
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.settings import AmpDtype
from tests.toys.running.cluster_runs import final_state
from tests.toys.small_tmr import WordEncoder, prompt_of, random_group, small_tmr
from tests.toys.tiny_learners import (
    SCHEDULE,
    SINES,
    advantages,
    equal,
    make_learner,
    make_policy,
    roll_out,
    sine_batch,
    train,
)
from tests.toys.tiny_models import TinyModels, grpo_words, pretrain_config
from tests.toys.tiny_policy import motion_noise, rollout_request, text_features, tiny_policy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
PRECISIONS: tuple[AmpDtype, ...] = ("fp32", "bf16", "fp16")


def predicted(policy: DiffusionPolicy) -> torch.Tensor:
    """Clean motions of four samples, on the CPU."""
    device = policy.device
    text, noise = text_features(4).to(device), motion_noise(4, 9).to(device)
    with policy.inference():
        return policy.transition(noise, 2, text, None).x0.cpu()


@pytest.mark.parametrize(("amp_dtype", "tolerance"), [("fp32", 1e-4), ("bf16", 0.1), ("fp16", 0.1)])
def test_predictions_are_those_of_the_cpu(amp_dtype: AmpDtype, tolerance: float) -> None:
    ours = predicted(tiny_policy(device="cuda", amp_dtype=amp_dtype))
    torch.testing.assert_close(ours, predicted(tiny_policy()), rtol=0, atol=tolerance)


def test_the_official_size_in_fp32_is_that_of_the_cpu() -> None:
    """float32 products are not rounded to TF32 on the way."""
    network = MDM(MDMConfig(), seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 196, 263, generator=generator), torch.randn(2, 1, 512, generator=generator)
    with torch.no_grad():
        outputs = []
        for device in ("cpu", "cuda"):
            network.to(device)
            time = network.embed_timesteps(torch.tensor([5, 40], device=device))
            embedded = network.encode_text(text.to(device))
            outputs.append(network.denoise(x.to(device), embedded, time, None).cpu())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("amp_dtype", PRECISIONS)
def test_replayed_forwards_are_the_bits_of_launched_ones(amp_dtype: AmpDtype, lora: bool) -> None:
    policy = make_policy(lora, device="cuda", amp_dtype=amp_dtype)
    noise = motion_noise(4, 9).to("cuda")
    text = torch.randn(4, 1, 4, generator=torch.Generator().manual_seed(0)).to("cuda")

    def replayed() -> torch.Tensor:
        """After two launched runs of these shapes a graph is captured, in the third."""
        with policy.inference():
            return [policy.transition(noise, 2, text, None).x0 for _ in range(4)][-1]

    def launched() -> torch.Tensor:
        with torch.no_grad():
            return policy.transition(noise, 2, text, None).x0

    base = launched()
    assert torch.equal(replayed(), base)
    for parameter in policy.trainable_parameters().values():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    assert torch.equal(replayed(), launched()) and not torch.equal(launched(), base)
    if lora:
        with policy.adapters_disabled():
            assert torch.equal(replayed(), base)
    copied = copy.deepcopy(policy)
    with copied.inference():
        assert torch.equal(copied.transition(noise, 2, text, None).x0, launched())


@pytest.mark.parametrize("amp_dtype", PRECISIONS)
def test_a_rollout_is_a_function_of_its_request(amp_dtype: AmpDtype) -> None:
    def run(*before: int) -> tuple[np.ndarray, Trajectory]:
        policy = tiny_policy(device="cuda", amp_dtype=amp_dtype)
        worker, version = RolloutWorker(policy), PolicyVersion(0, policy.weights())
        for seed in before:
            worker.run(rollout_request(seed=seed, num_samples=5), version)
        motions, trajectory = worker.run(rollout_request(), version)
        return motions.features, trajectory

    (features, first), (again, second) = run(), run(1, 2)
    np.testing.assert_array_equal(features, again)
    np.testing.assert_array_equal(first.log_probs, second.log_probs)


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("amp_dtype", PRECISIONS)
def test_updates_start_at_ratio_one_and_repeat_to_the_bit(amp_dtype: AmpDtype, lora: bool) -> None:
    results: list[Weights] = []
    for _ in range(2):
        learner = make_learner(make_policy(lora, device="cuda", amp_dtype=amp_dtype))
        first, second = train(learner, 2)
        # Kernels round differently where they keep what a gradient needs.
        assert 0 <= first["kl_reference"] <= (1e-12 if amp_dtype == "fp32" else 1e-5)
        assert second["kl_reference"] > 1e-6
        tolerance = 1e-5 if amp_dtype == "fp32" else 1e-3
        assert max(first["first_ratio_error"], second["first_ratio_error"]) <= tolerance
        results.append(learner.version().weights)
    assert equal(*results)


@pytest.mark.parametrize(("amp_dtype", "cosine"), [("fp32", 0.99999), ("bf16", 0.98), ("fp16", 0.98)])
def test_gradients_are_those_of_the_cpu(amp_dtype: AmpDtype, cosine: float) -> None:
    learners = make_learner(), make_learner(make_policy(device="cuda", amp_dtype=amp_dtype))
    for learner in learners:
        train(learner)
    a, b = (learner.state()["optimizer"]["moments"] for learner in learners)
    flat = [torch.cat([entry["exp_avg"].flatten() for entry in item.values()]) for item in (a, b)]
    assert torch.cosine_similarity(flat[0], flat[1], dim=0) > cosine


@pytest.mark.parametrize("amp_dtype", PRECISIONS)
def test_memory_does_not_grow_with_groups(amp_dtype: AmpDtype) -> None:
    peaks = []
    for num_groups in (8, 32):
        learner = make_learner(make_policy(device="cuda", amp_dtype=amp_dtype), micro_batch_size=16)
        _, trajectories = roll_out(learner, 0, frames=(36,) * num_groups, num=16)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        learner.update(trajectories, advantages(num_groups, 16))
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 1.1 * peaks[0]


def test_a_resumed_learner_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = make_learner(make_policy(device="cuda"), policy_ema_decay=0.5)
    train(whole, 2)
    state = whole.state()
    moments = [value for entry in state["optimizer"]["moments"].values() for value in entry.values()]
    kept = [*moments, *state["parameters"].values(), *state["ema"]["average"].values()]
    assert {value.device.type for value in kept} == {"cpu"}, "to be loaded where there is no GPU"
    torch.save(state, tmp_path / "state.pt")
    train(whole, 1, first=2)
    resumed = make_learner(make_policy(device="cuda"), policy_ema_decay=0.5)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, 1, first=2)
    assert equal(whole.version().weights, resumed.version().weights)


def test_rewards_are_those_of_the_cpu() -> None:
    group = random_group(prompt_of(("walks forward", 20), ("kicks high", 14)), [34, 34, 34])
    settings = RewardSettings.of(use_dense_reward=True)
    on_cpu, on_gpu = (
        SemanticScorer(Embedder(small_tmr(), WordEncoder(), device), settings, HUMANML3D).score(group).terms
        for device in ("cpu", "cuda")
    )
    for name, values in on_cpu.items():
        np.testing.assert_allclose(on_gpu[name], values, atol=1e-5, err_msg=name)


def test_supervised_training_is_that_of_the_cpu_and_leaves_the_generators_alone() -> None:
    settings = SupervisedSettings(learning_rate=3e-3, avg_model_beta=0.9)
    config = dataclasses.replace(SINES, dropout=0.0)
    losses = {}
    torch.cuda.manual_seed(3)
    expected = torch.rand(1, device="cuda")
    torch.cuda.manual_seed(3)
    for device in ("cpu", "cuda"):
        learner = SupervisedLearner(MDM(config).to(device), SCHEDULE, settings, 100, 0)
        losses[device] = [learner.update(sine_batch(step))["loss"] for step in range(20)]
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-2)
    assert torch.equal(torch.rand(1, device="cuda"), expected)


def test_pretraining_that_was_stopped_ends_with_the_same_bits(tiny_models: TinyModels, tmp_path: Path) -> None:
    for folder, parts in (("whole", (4,)), ("parts", (2, 4))):
        for index, num_steps in enumerate(parts):
            config = pretrain_config(
                tiny_models.dataset, tmp_path / folder, device="cuda", num_steps=num_steps, resume=index > 0
            )
            pretrain.run(config)
    ours, theirs = (
        torch.load(tmp_path / folder / "model000000004.pt", weights_only=True)["model"] for folder in ("whole", "parts")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("amp_dtype", ["fp32", "bf16"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    tiny_models: TinyModels, tmp_path: Path, amp_dtype: AmpDtype
) -> None:
    for folder, parts in (("whole", (4,)), ("parts", (2, 4))):
        for index, num_steps in enumerate(parts):
            flags = grpo_words(tiny_models, tmp_path / folder, num_steps=num_steps, resume=index > 0)
            words = [*flags, "--device=cuda", "--reward_device=cuda", f"--amp_dtype={amp_dtype}"]
            assert cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", argv=words) == 0
    whole, parts = (final_state(tmp_path / folder)["parameters"] for folder in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
