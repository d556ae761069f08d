"""Prompts that do not fit are named before anything starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from motions.data.prompts import Prompt
from rewards.evaluation.prompt_checks import PromptLimits, check_prompts
from rewards.settings import RewardSettings
from tests.toys.small_tmr import WordEncoder, prompt_of

DENSE = RewardSettings(use_dense_reward=True, max_motion_length=80)
LIMITS = PromptLimits(max_frames=120, rewards=DENSE, reward_encoder=WordEncoder(), judge_encoder=None)
GLOBAL = replace(LIMITS, rewards=RewardSettings(max_motion_length=80))
FITTING = prompt_of(("walks", 76), ("runs", 44))


class ShortEncoder(WordEncoder):
    """Reads three words."""

    name = "short"
    max_tokens = 3


class CuttingEncoder(ShortEncoder):
    """Reads the first three words of any text."""

    truncate = True


@pytest.mark.parametrize(
    ("prompt", "limits", "message"),
    [
        (prompt_of(("walks", 121)), LIMITS, r"lasts 121 frames; .* at most 120, unless --composite_denoising composed"),
        (
            prompt_of(("walks", 77), ("runs", 43)),
            LIMITS,
            r"segment 2 is frames 77 to 120; .* first 80 \(max_motion_len",
        ),
        (
            prompt_of(("walks to the door", 40)),
            replace(LIMITS, reward_encoder=ShortEncoder()),
            "the reward reads 'walks to the door', 4 tokens; its text encoder short reads at most 3",
        ),
        (
            prompt_of(("walks on", 40), ("runs on", 40)),
            replace(GLOBAL, reward_encoder=ShortEncoder()),
            "the reward reads 'walks on runs on', 4 tokens",
        ),
        (
            prompt_of(("walks to the door", 40)),
            replace(LIMITS, judge_encoder=ShortEncoder()),
            "the judge reads 'walks to the door', 4 tokens",
        ),
    ],
)
def test_what_does_not_fit_is_named(prompt: Prompt, limits: PromptLimits, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^prompts_path p.jsonl, prompt 2 '.*': .*{message}"):
        check_prompts("prompts_path p.jsonl", [FITTING, prompt], limits)


def test_what_is_cut_by_design_fits() -> None:
    check_prompts("", [prompt_of(("walks", 300))], replace(GLOBAL, max_frames=None))
    # The end of a segment beyond max_motion_length, a whole motion in global mode, a text that is truncated.
    check_prompts("", [FITTING], LIMITS)
    check_prompts("", [prompt_of(("walks", 77), ("runs", 43))], GLOBAL)
    check_prompts("", [prompt_of(("walks to the door", 40))], replace(LIMITS, reward_encoder=CuttingEncoder()))
