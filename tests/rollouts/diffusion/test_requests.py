"""Prompts are checked before anything is generated: words that are not known, motions that are longer than any seen."""

from __future__ import annotations

import pytest

from motions.base.errors import MistakesError, UserError
from motions.data.prompts import Prompt, Segment
from rollouts.checkpoints.loading import load_policy
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.requests import prompt_conditions
from rollouts.settings import PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder, load_text_encoder
from tests.toys.tiny_policy import tiny_policy


@pytest.fixture(scope="module")
def policy() -> DiffusionPolicy:
    return load_policy(
        PolicySettings(use_lora=False), SamplingSettings(sampling_steps=2, composite_denoising="composed")
    )


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder("minilm")


def prompt(text: str, *lengths: int) -> Prompt:
    return Prompt(text, tuple(Segment(text, length) for length in lengths))


def test_every_prompt_without_a_known_word_is_named(policy: DiffusionPolicy, encoder: TextEncoder) -> None:
    prompts = [prompt("a person walks", 40), prompt("\u0e04\u0e19", 40), prompt("a jump", 40), prompt(" ", 40)]
    with pytest.raises(MistakesError) as raised:
        prompt_conditions(policy, encoder, prompts)
    second, fourth = raised.value.lines
    assert second.startswith("prompt 2: prompt '\u0e04\u0e19' has no word") and fourth.startswith("prompt 4: ")


def test_unknown_words_are_told_by_prompt(
    policy: DiffusionPolicy, encoder: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    prompt_conditions(policy, encoder, [prompt("a person walks", 40), prompt("a \U0001f57a jump", 40)])
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "prompt 2 'a \U0001f57a jump': text_encoder minilm does not know '\U0001f57a'"
    )


def test_motions_that_are_longer_than_any_trained_are_told(
    policy: DiffusionPolicy, encoder: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    seen = policy.trained_frames
    prompt_conditions(policy, encoder, [prompt("a person walks", seen), prompt("a person walks", seen, seen)])
    assert not caplog.text
    prompt_conditions(policy, encoder, [prompt("a person walks", seen), prompt("a person walks", 1200)])
    assert (
        f"prompt 2 lasts 1200 frames (60.0 s), and the longest motion the policy was trained on {seen}" in caplog.text
    )
    assert "1 of 2 prompts are longer" in caplog.text


def test_a_motion_has_at_most_the_frames_that_the_network_has_places_for(encoder: TextEncoder) -> None:
    whole, composed = tiny_policy(), tiny_policy(composite_denoising="composed")
    assert (whole.max_frames, composed.max_frames, composed.most_frames_at_once) == (63, None, 63)
    assert len(prompt_conditions(whole, encoder, [prompt("walks", 63)])) == 1
    with pytest.raises(UserError, match="'walks' lasts 64 frames; at most 63 are possible, unless"):
        prompt_conditions(whole, encoder, [prompt("walks", 64)])
    assert len(prompt_conditions(composed, encoder, [prompt("walks", 64)])) == 1
