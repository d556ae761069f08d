"""`jobs.grpo` with losses that follow the reward's gradient: rollouts, a resumed run, options that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.report.from_run import read_document
from jobs.text.grpo_prompts import PromptBatches
from motions.data.prompts import Prompt, Segment
from rewards.critic.checkpoints import save_critic
from rollouts.messages import RolloutRequest, TextCondition
from tests.toys.small_critic import small_critic
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow


def main(*words: str) -> int:
    return cli.main(GRPOConfig, grpo.run, grpo.__doc__, "jobs.grpo", grpo.dry_run, argv=list(words))


def test_a_run_that_was_stopped_ends_with_the_same_bits(tiny_models: TinyModels, tmp_path: Path) -> None:
    """Of a mixture of all differentiable rewards, with the loss on real clips."""
    save_critic(tmp_path / "critic", small_critic(), typical_score=0.5, clip_frames=20)
    changes = {
        **{"policy_loss": "easytune", "tuned_steps": 2, "mdm_loss_weight": 0.5, "mdm_batch_size": 2},
        **{"critic_weight": 0.1, "critic_checkpoint_path": tmp_path / "critic", "kl_penalty": 0.1},
        **{"eval_every": 0, "num_eval_prompts": 1, "ddim_sampling": False, "kl_chain_penalty": 0.1},
    }
    for folder, steps, resume in (("whole", 2, False), ("parts", 1, False), ("parts", 2, True)):
        words = grpo_words(tiny_models, tmp_path / folder, num_steps=steps, resume=resume, **changes)
        assert main(*words) == 0
    whole, parts = (torch.load(tmp_path / name / "model_final.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if "policy/tuned_reward" in line]
    assert [line["step"] for line in updates] == [1, 2]
    assert updates[0]["policy/num_optimizer_steps"] == 2 and updates[0]["policy/mdm_loss"] > 0
    assert updates[1]["policy/kl_reference"] > 0 and "reward/critic" in updates[0]
    titles = [chart.title for chart in read_document(tmp_path / "whole").charts]
    assert "Reward that is followed" in titles and "Importance ratio" not in titles


def requests(**options: object) -> list[RolloutRequest]:
    config = GRPOConfig.of({"save_dir": "unused", "batch_size": 2, "sampling_steps": 4, **options})
    prompts = [Prompt(text, (Segment(text, 9),)) for text in ("walks", "jumps")]
    batches = PromptBatches(config, prompts, prompts, lambda given: [TextCondition(None)] * len(given), 4)  # type: ignore[arg-type]
    return batches.requests(0, 0)


def test_rollouts_keep_the_states_that_are_trained() -> None:
    for request in requests(policy_loss="draft", draft_steps=3, sde_window=9):
        assert request.kept_steps == (1,) and request.stochastic_steps == request.trained_steps == ()
        assert not request.share_initial_noise and not request.keep_motions
    (first, second) = requests(policy_loss="refl", ddim_sampling=False)
    assert first.kept_steps == second.kept_steps and first.stochastic_steps == tuple(range(first.kept_steps[0]))
    assert all(request.kept_steps == (0, 1, 2, 3) for request in requests(policy_loss="easytune"))


def test_the_plan_says_what_is_trained_and_what_is_not_heard(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(*grpo_words(tiny_models, tmp_path / "run", policy_loss="easytune"), "--dry_run") == 0
    plan = capsys.readouterr().out
    assert "update: 6 motions x 4 trained steps = 24 pairs" in plan
    assert "update: 1 epoch(s) x 4 window(s) of 2 groups = 4 optimizer step(s)" in plan
    assert "policy_loss easytune: it follows the reward's gradient" in plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"policy_loss": "refl", "use_tracking_reward": True},
            "policy_loss refl follows the gradient of the reward, and reward 'tracking' has none",
        ),
        (
            {"policy_loss": "refl", "extra_rewards": "tests.toys.rewards:MeanFeature"},
            "reward 'brightness' has none",
        ),
        ({"policy_loss": "draft", "draft_steps": 5}, "draft_steps is 5; the policy denoises in 4 steps"),
        ({"policy_loss": "refl", "denoise_lower": 950}, "denoise_lower is 950, more than denoise_upper"),
        ({"policy_loss": "refl", "denoise_upper": 1001}, "denoise_upper 1001"),
        ({"policy_loss": "refl", "rollout_sampling_steps": 2}, "rollout_sampling_steps is 2; policy_loss refl trains"),
        ({"mdm_loss_weight": 1}, "mdm_loss_weight is 1; policy_loss clipped has no such part"),
        ({"policy_loss": "refl", "reward_scale": -1}, "--reward_scale -1"),
    ],
)
def test_options_that_do_not_fit_are_said_before_anything_starts(
    changes: dict[str, object],
    message: str,
    tiny_models: TinyModels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(*grpo_words(tiny_models, tmp_path / "run", **changes)) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.strip().splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_too_many_steps_with_a_gradient_are_refused_before_rewards_are_loaded(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {"critic_weight": 1.0, "critic_checkpoint_path": tmp_path / "nowhere.pth"}
    words = grpo_words(tiny_models, tmp_path / "run", policy_loss="easytune", tuned_steps=5, **missing)
    assert main(*words, "--dry_run") == 2
    assert "tuned_steps is 5; the policy denoises in 4 steps" in capsys.readouterr().err
