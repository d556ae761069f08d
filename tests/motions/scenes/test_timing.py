"""Durations and prompts of scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from motions.base.errors import UserError
from motions.data.composites import merged_prompt
from motions.data.prompts import OVERLAP_FRAMES, load_parts, load_prompts
from motions.data.text_motion import TextMotion
from motions.scenes.rules import parse_text
from motions.scenes.timing import STANDING, CaptionTimes, save_scene_prompts, timeline, to_prompts

TWO = "A man walks. A woman dances for 3 seconds while the man claps. The woman bows twice, then the man sits."


def two_seconds(text: str) -> float:
    return 2.0


def encode(texts: Sequence[str]) -> np.ndarray:
    """How often each of a few words occurs."""
    return np.array([[1e-3 + text.count(word) for word in ("walk", "kick", "sit")] for text in texts])


def clip(name: str, frames: int, *captions: str) -> TextMotion:
    return TextMotion(name, name, np.zeros((frames, 3), np.float32), captions)


def test_lengths_are_those_of_the_nearest_captions() -> None:
    items = [clip("a", 40, "walks", "walks on"), clip("b", 60, "walks"), clip("c", 20, "kicks"), clip("d", 90, "sits")]
    times = CaptionTimes(items, 20.0, encode, nearest=2)
    assert times.captions == ("walks", "walks on", "kicks", "sits")
    assert times.seconds("a man walks") == 2.0, "the median of 40, 60 and 40 frames"
    assert CaptionTimes(items, 20.0, encode, nearest=1).seconds("a man kicks") == 1.0
    assert CaptionTimes([clip("long", 5000, "walks")], 20.0, encode).seconds("walk") == 60.0
    with pytest.raises(ValueError, match="0 captions"):
        CaptionTimes([], 20.0, encode)


def test_what_happens_together_takes_the_same_time() -> None:
    timed = timeline(parse_text(TWO), two_seconds)
    assert [(one.start, one.end) for one in timed] == [(0, 2), (2, 5), (2, 5), (5, 9), (9, 11)]
    with pytest.raises(UserError, match=r"actions\[0\], 'a man jumps', would last 100 s"):
        timeline(parse_text("A man jumps 50 times."), two_seconds)


def test_each_actor_has_a_prompt_with_a_segment_for_each_action() -> None:
    man, woman = to_prompts(parse_text(TWO), two_seconds, 20.0, max_frames=300)
    assert (man.actor, man.start_frame, woman.actor, woman.start_frame) == ("man", 0, "woman", 40)
    assert [(one.text, one.num_frames) for one in man.prompt.segments] == [
        *[("a man walks", 40), ("a man claps", 60), (STANDING, 80), ("a man sits", 40)]
    ]
    assert [(one.text, one.num_frames) for one in woman.prompt.segments] == [
        *[("a woman dances", 60), ("a woman bows", 40), ("a woman bows", 40)]
    ]
    assert woman.prompt.text == "a woman dances, then bows twice"


def test_one_actor_s_actions_together_are_one_segment() -> None:
    (one,) = to_prompts(parse_text("A boy walks forward while waving."), two_seconds, 20.0)
    assert [part.text for part in one.prompt.segments] == ["a boy walks forward and waves"]
    assert one.prompt.num_frames == 40


def test_long_motions_are_made_in_parts_one_after_the_other() -> None:
    parts = to_prompts(parse_text("A boy runs for 15 seconds and sits."), two_seconds, 20.0, max_frames=196)
    assert [[part.num_frames for part in one.prompt.segments] for one in parts] == [[150], [150], [40]]
    assert [(one.part, one.start_frame) for one in parts] == [(0, 0), (1, 150), (2, 300)]
    assert all(one.prompt.num_frames + OVERLAP_FRAMES <= 196 for one in parts), "room for the end of the part before"
    assert merged_prompt([one.prompt for one in parts]).text == "a boy runs, then sits"
    with pytest.raises(UserError, match="max_frames is 20, and the motion of 'boy' has 340 frames"):
        to_prompts(parse_text("A boy runs for 15 seconds and sits."), two_seconds, 20.0, max_frames=20)


def test_the_parts_of_a_motion_are_read_together(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    prompts = to_prompts(parse_text("A boy runs for 15 seconds while a girl waves."), two_seconds, 20.0)
    save_scene_prompts(path, prompts, 20.0)
    boy, girl = load_parts(path, 20.0)
    assert [len(boy), len(girl)] == [2, 2] and [*boy, *girl] == [one.prompt for one in prompts]
    path.write_text(path.read_text().split("\n")[2])
    with pytest.raises(UserError, match="whose first part is missing"):
        load_parts(path, 20.0)


def test_only_persons_are_prompted_and_no_action_is_too_short() -> None:
    assert to_prompts(parse_text("A dog runs."), two_seconds, 20.0) == []
    with pytest.raises(UserError, match="9 times in 20 frames; each has at least 4"):
        to_prompts(parse_text("A man claps 9 times for 1 s."), two_seconds, 20.0)


def test_prompts_are_read_back(tmp_path: Path) -> None:
    prompts = to_prompts(parse_text(TWO), two_seconds, 20.0)
    save_scene_prompts(tmp_path / "prompts.jsonl", prompts, 20.0)
    assert load_prompts(tmp_path / "prompts.jsonl", 20.0) == [one.prompt for one in prompts]
    with pytest.raises(UserError, match=r"was made for 20\.0 frames per second"):
        load_prompts(tmp_path / "prompts.jsonl", 12.5)
