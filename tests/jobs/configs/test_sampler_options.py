"""Samplers as options of the commands: what each may be used for, and what it is told by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import generate
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_measurement import sampler_words
from jobs.text.grpo_prompts import PromptBatches
from motions.data.prompts import Prompt, Segment
from rollouts.messages import TextCondition
from tests.toys.tiny_models import TinyModels


def config(**options: object) -> GRPOConfig:
    return GRPOConfig.of({"save_dir": "unused", "sampling_steps": 4, **options})


def batches(**options: object) -> PromptBatches:
    prompts = [Prompt("walks", (Segment("walks", 9),))]
    return PromptBatches(
        config(batch_size=1, **options), prompts, prompts, lambda given: [TextCondition(np.zeros((1, 2)))], 4
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "dpmpp_2m"}, "sampler is 'dpmpp_2m': its steps draw no noise, so that they have no density"),
        ({"sampler": "dpmpp_2m", "policy_loss": "nft"}, "rollout_sampler"),
        ({"eval_sampler": "dpmpp_2m", "eval_eta": 1.0}, "eval_eta is 1.0: dpmpp_2m never draws noise"),
        ({"eval_sampler": "dpm"}, "eval_sampler is 'dpm'; legal: ddpm, ddim, dpmpp_2m"),
        ({"rollout_sampler": "dpm"}, "rollout_sampler is 'dpm'; legal"),
        ({"sampler": "ddim", "noise_scale": 0.7}, "noise_scale is 0.7, which sampler ddim does not have"),
        ({"grpo_type": "flow_grpo", "sampler": "ddpm"}, "grpo_type is flow_grpo and sampler ddpm, which knows no flow"),
        ({"sampler": "cps", "eval_eta": 0.5}, "eval_eta is 0.5: cps has noise .1. or none .0."),
        ({"noise_scale": 0.0, "sampler": "flow_sde"}, "noise_scale"),
    ],
)
def test_a_sampler_where_it_cannot_be_is_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_flow_grpo_is_a_way_to_say_several_options() -> None:
    told = {"noise_scale": 0.7, "train_timesteps": 12, "inference_timesteps": 50}
    chosen = GRPOConfig.of({"save_dir": "unused", "grpo_type": "flow_grpo", **told}).sampling
    assert (chosen.sampler, chosen.sampling_steps, chosen.eval_sampling_steps) == ("flow_sde", 12, 50)
    assert (chosen.sde_window, chosen.share_initial_noise, chosen.evaluation.eta) == (0, False, 0.0)
    assert chosen.denoising.scale == 0.7
    plain = GRPOConfig.of({"save_dir": "unused", "grpo_type": "flow_grpo"}).sampling
    assert (plain.sampling_steps, plain.eval_sampling_steps, plain.denoising.scale) == (10, 40, 0.7)
    given = {"sampler": "cps", "sde_window": 2, "share_initial_noise": True}
    kept = GRPOConfig.of({"save_dir": "unused", "grpo_type": "flow_grpo", **given}).sampling
    assert (kept.sampler, kept.sde_window, kept.share_initial_noise) == ("cps", 2, True)
    assert GRPOConfig.of(GRPOConfig.of({"save_dir": "unused", "grpo_type": "flow_grpo"}).flat()).sampling == plain


def test_rollouts_of_final_motions_take_any_solver() -> None:
    (request,) = batches(policy_loss="awm", rollout_sampler="dpmpp_2m").requests(0, 0)
    assert request.denoising is not None and request.stochastic_steps == ()
    assert (request.denoising.sampler, request.denoising.sampling_steps) == ("dpmpp_2m", 4)
    with pytest.raises(ValueError, match="rollout_sampler is dpmpp_2m; policy_loss clipped trains the denoising steps"):
        batches(rollout_sampler="dpmpp_2m")


def test_an_evaluation_says_its_solver() -> None:
    chosen = config(eval_sampler="dpmpp_2m", eval_sampling_steps=10, guidance_scale=1.0)
    words = sampler_words(chosen.sampling.evaluation, 50)
    assert words == "10 deterministic denoising steps by dpmpp_2m, guidance 1"
    (request,) = batches(eval_sampler="dpmpp_2m").evaluation(0)
    assert request.denoising is not None and request.denoising.sampler == "dpmpp_2m"


def test_motions_are_generated_by_a_solver(tiny_models: TinyModels, tmp_path: Path) -> None:
    given = {"model_path": str(tiny_models.policy), "text": ("walks",), "seconds": 1.0, "gif": False}
    made = {}
    for name in ("ddim", "dpmpp_2m"):
        folder = tmp_path / name
        generate.run(GenerateConfig.of({**given, "save_dir": folder, "sampler": name, "sampling_steps": 4}))
        made[name] = np.load(folder / "sample00_rep00.npy")
    assert not np.allclose(made["ddim"], made["dpmpp_2m"], atol=1e-4)
    noisy = GenerateConfig.of({**given, "save_dir": tmp_path / "no", "sampler": "dpmpp_2m", "stochastic": True})
    with pytest.raises(ValueError, match="stochastic is set, and sampler dpmpp_2m never draws noise"):
        generate.run(noisy)
    assert not (tmp_path / "no").exists()
