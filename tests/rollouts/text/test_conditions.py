"""What a composed policy reads: the texts of segments, and of pieces where a text or a motion is too long."""

from __future__ import annotations

import numpy as np
import pytest

from motions.data.prompts import Prompt, Segment
from rollouts.messages import TextForm
from rollouts.text.conditions import composed_conditions, pooled_conditions, segments_to_read
from rollouts.text.encoders import PromptTooLongError, TextEncoder

OVERLAP = 3


class Words:
    """A text network with a token for each word."""

    dim, max_tokens, max_positions, fingerprint = 2, 6, 20, "words"

    def tokenize(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def pooled(self, ids: list[int]) -> np.ndarray:
        return np.array([sum(ids), len(ids)], np.float32)

    def tokens(self, ids: list[int]) -> np.ndarray:
        return np.array([[number, 1] for number in ids], np.float32)


def encoder(**options: object) -> TextEncoder:
    return TextEncoder("words", Words(), **options)  # type: ignore[arg-type]


def prompt(text: str, *segments: tuple[str, int]) -> Prompt:
    return Prompt(text, tuple(Segment(*segment) for segment in segments))


def read(given: Prompt, max_frames: int = 60, **options: object) -> list[tuple[str, int]]:
    found = segments_to_read(given, encoder(**options), max_frames, OVERLAP)
    return [(segment.text, segment.num_frames) for segment in found]


SINGLE = prompt("a person walks", ("walks", 60))
DOUBLE = prompt("a person walks, then kicks", ("a person walks", 20), ("kicks", 12))


def test_a_single_prompt_is_its_text_and_a_composite_one_its_segments() -> None:
    assert read(SINGLE) == [("a person walks", 60)]
    assert read(DOUBLE) == [("a person walks", 20), ("kicks", 12)]


def test_conditions_of_single_prompts_are_those_of_their_text() -> None:
    ours = composed_conditions(encoder(), [SINGLE, DOUBLE], "pooled", 60, OVERLAP)
    (alone,) = encoder().conditions(["a person walks"], "pooled")
    np.testing.assert_array_equal(ours[0].values, alone.values)
    assert ours[0].boundaries == () and ours[0].mask is None
    np.testing.assert_array_equal(ours[1].values[:, 0], encoder().encode_pooled(["a person walks", "kicks"]))
    assert ours[1].boundaries == ((0, 20), (20, 32)) and ours[1].mask is None


def test_tokens_of_segments_are_padded_to_the_longest() -> None:
    form: TextForm = "tokens"
    (condition,) = composed_conditions(encoder(), [DOUBLE], form, 60, OVERLAP)
    assert condition.values.shape == (2, 3, 2)
    assert condition.mask is not None and condition.mask.tolist() == [[True] * 3, [True, False, False]]
    assert condition.values[1, :, 0].tolist() == [5, 0, 0]
    equal = prompt("x", ("a person walks", 20), ("a person kicks", 20))
    assert composed_conditions(encoder(), [equal], form, 60, OVERLAP)[0].mask is None


def test_a_long_text_is_cut_into_its_actions() -> None:
    text = "a person walks forward, then kicks, and finally jumps"
    assert read(prompt(text, (text, 60))) == [
        ("a person walks forward", 20),
        ("a person kicks", 20),
        ("a person jumps", 20),
    ]
    sentences = "a man walks in a circle. he sits down"
    assert [part for part, _ in read(prompt(sentences, (sentences, 41)))] == ["a man walks in a circle", "he sits down"]


def test_a_long_action_is_cut_where_a_clause_ends_next_to_its_middle() -> None:
    text = "someone walks slowly, quietly and without shoes, with both arms up"
    pieces = read(prompt(text, (text, 60)))
    assert all(len(part.split()) <= 6 for part, _ in pieces)
    assert " ".join(part for part, _ in pieces).split()[:3] == ["someone", "walks", "slowly,"]
    assert sum(frames for _, frames in pieces) == 60
    both = prompt("joined", (text, 40), ("kicks", 20))
    assert read(both)[-1] == ("kicks", 20) and sum(frames for _, frames in read(both)) == 60


def test_what_cannot_be_cut_is_refused_or_truncated_on_request() -> None:
    endless = prompt("walks " * 9, ("walks " * 9, 60))
    with pytest.raises(PromptTooLongError, match="has 9 tokens"):
        composed_conditions(encoder(), [endless], "pooled", 60, OVERLAP)
    assert read(endless, truncate=True) == [("walks " * 9, 60)]
    # A piece has at least four frames.
    brief = "a person walks forward, then kicks, and finally jumps"
    assert read(prompt(brief, (brief, 11))) == [(brief, 11)]


def test_a_whole_text_over_the_limit_is_read_by_segment_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    long = prompt(
        "a person walks forward, then kicks very high, then sits",
        ("a person walks forward", 20),
        ("kicks very high", 20),
    )
    own = encoder()
    short, found = pooled_conditions(own, [SINGLE, long], "pooled")
    assert np.array_equal(short.values, own.encode_pooled([SINGLE.text]))
    parts = own.encode_pooled(["a person walks forward", "kicks very high"])
    np.testing.assert_allclose(found.values, parts.mean(axis=0, keepdims=True))
    assert "1 of 2 prompts are over the 6 tokens that text_encoder words reads" in caplog.text
    [tokens] = pooled_conditions(own, [long], "tokens")
    assert np.array_equal(
        tokens.values, np.concatenate(own.encode_tokens(["a person walks forward", "kicks very high"]))
    )
    # Without segments it is cut into its actions; every one of them counts.
    plain = prompt("a person walks forward, then kicks, and finally jumps", ("", 60))
    [whole] = pooled_conditions(own, [plain], "pooled")
    actions = own.encode_pooled(["a person walks forward", "a person kicks", "a person jumps"])
    np.testing.assert_allclose(whole.values[0], actions.mean(axis=0))
    [cut] = pooled_conditions(encoder(truncate=True), [plain], "pooled")
    assert not np.array_equal(cut.values, whole.values)
    with pytest.raises(PromptTooLongError, match="has 9 tokens"):
        pooled_conditions(own, [prompt("walks " * 9, ("walks " * 9, 60))], "pooled")


def test_a_long_motion_is_cut_into_equal_parts_and_no_crop_is_too_long() -> None:
    assert read(prompt("walks", ("walks", 61))) == [("walks", 30), ("walks", 31)]
    parts = read(prompt("x", ("walks", 200), ("kicks", 30)))
    assert [text for text, _ in parts] == ["walks"] * 4 + ["kicks"]
    assert sum(frames for _, frames in parts) == 230
    assert max(frames for _, frames in parts) + 2 * OVERLAP <= 60
    with pytest.raises(ValueError, match=r"composite_overlap is 3: .* a segment of 4 frames is over the 9 frames"):
        read(prompt("walks", ("walks", 61)), max_frames=9)
