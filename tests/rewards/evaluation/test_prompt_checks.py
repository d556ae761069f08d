"""Prompts that do not fit are named before anything starts."""

from __future__ import annotations

import pytest

from motions.data.prompts import Prompt
from motions.skeleton.skeletons import HUMANML3D
from rewards.evaluation.prompt_checks import check_prompts
from rewards.settings import RewardSettings
from rewards.tmr.scorer import Embedder, SemanticScorer
from tests.toys.small_tmr import WordEncoder, prompt_of, small_tmr

FITTING = prompt_of(("walks", 76), ("runs", 44))


class ShortEncoder(WordEncoder):
    """Reads three words."""

    name = "short"
    max_tokens = 3


class CuttingEncoder(ShortEncoder):
    """Reads the first three words of any text."""

    truncate = True


def scorer(encoder: WordEncoder | None = None, *, dense: bool = True) -> SemanticScorer:
    settings = RewardSettings.of(use_dense_reward=dense, max_motion_length=80)
    return SemanticScorer(Embedder(small_tmr(), encoder or WordEncoder()), settings, HUMANML3D)


DENSE, GLOBAL = scorer(), scorer(dense=False)
SHORT, SHORT_GLOBAL = scorer(ShortEncoder()), scorer(ShortEncoder(), dense=False)


@pytest.mark.parametrize(
    ("prompt", "limiting", "judge", "message"),
    [
        (
            prompt_of(("walks", 121)),
            DENSE,
            None,
            r"lasts 121 frames; .* at most 120, unless --composite_denoising composed",
        ),
        (
            prompt_of(("walks", 77), ("runs", 43)),
            DENSE,
            None,
            r"segment 2 is frames 77 to 120; .* first 80 \(max_motion_len",
        ),
        (
            prompt_of(("walks to the door", 40)),
            SHORT,
            None,
            "the reward reads 'walks to the door', 4 tokens; its text encoder short reads at most 3",
        ),
        (
            prompt_of(("walks on", 40), ("runs on", 40)),
            SHORT_GLOBAL,
            None,
            "the reward reads 'walks on runs on', 4 tokens",
        ),
        (
            prompt_of(("walks to the door", 40)),
            DENSE,
            SHORT.embedder,
            "the judge reads 'walks to the door', 4 tokens",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    prompt: Prompt, limiting: SemanticScorer, judge: Embedder | None, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^prompts_path p.jsonl, prompt 2 '.*': .*{message}"):
        check_prompts("prompts_path p.jsonl", [FITTING, prompt], 120, [limiting], judge)


def test_what_is_cut_by_design_fits() -> None:
    check_prompts("", [prompt_of(("walks", 300))], None, [GLOBAL], None)
    # The end of a segment beyond max_motion_length, a whole motion in global mode, a text that is truncated.
    check_prompts("", [FITTING], 120, [DENSE], None)
    check_prompts("", [prompt_of(("walks", 77), ("runs", 43))], 120, [GLOBAL], None)
    check_prompts("", [prompt_of(("walks to the door", 40))], 120, [scorer(CuttingEncoder())], None)
