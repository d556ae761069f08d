"""Motions that go on from given frames or lie between them: what is kept, and how smooth the borders are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.data.prompts import Prompt, Segment
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import HUMANML3D
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.completion import Windows, generate_onward, generate_parts, keep_ends
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.worker import generate
from rollouts.messages import GivenFrames
from rollouts.settings import PolicySettings, SamplingSettings
from rollouts.text.encoders import TextEncoder

pytestmark = pytest.mark.slow

TEXT = "a person walks forward"
FIRST, LAST, LENGTH = 20, 12, 60


@pytest.fixture(scope="module")
def shipped() -> tuple[DiffusionPolicy, TextEncoder]:
    """The policy that ships, in ten steps."""
    sampling = SamplingSettings(sampling_steps=10, guidance_scale=1.0, sde_window_start=1, device="cpu")
    return load_policy(PolicySettings(), sampling), load_policy_text_encoder(PolicySettings())


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    """A real walk of 60 frames or more."""
    items = load_dataset("builtin").items("test")
    return next(item.features for item in items if item.source == "walk" and item.num_frames >= LENGTH)


def prompt(*segments: tuple[str, int]) -> Prompt:
    return Prompt(", then ".join(text for text, _ in segments), tuple(Segment(*each) for each in segments))


def jumps(features: np.ndarray, borders: list[int]) -> np.ndarray:
    """Mean way of the joints across each border, in units of the median way from frame to frame."""
    joints = recover_joints(torch.from_numpy(features.astype(np.float64)), HUMANML3D).numpy()
    ways = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(axis=-1)
    return ways[np.array(borders) - 1] / np.median(ways)


def test_given_ends_are_kept_and_the_borders_are_smooth(
    shipped: tuple[DiffusionPolicy, TextEncoder], walk: np.ndarray
) -> None:
    given = keep_ends(walk, LENGTH, FIRST, LAST)
    asked = [prompt((TEXT, LENGTH))]
    [group] = generate(*shipped, asked, 2, 7, given=[given])
    np.testing.assert_allclose(group.features[0, :FIRST], walk[:FIRST], atol=1e-4)
    np.testing.assert_allclose(group.features[1, -LAST:], walk[-LAST:], atol=1e-4)
    between = group.features[:, FIRST : LENGTH - LAST]
    assert np.abs(between[0] - between[1]).max() > 0.01, "samples differ where nothing is given"
    [free] = generate(*shipped, asked, 2, 7)
    for made, other in zip(group.features, free.features, strict=True):
        borders = [FIRST, LENGTH - LAST]
        pasted = np.concatenate([walk[:FIRST], other[FIRST : LENGTH - LAST], walk[-LAST:]])
        assert jumps(made, borders).max() < 2.0, "no larger than within the motion"
        assert jumps(made, borders).max() < jumps(pasted, borders).max()


def test_motions_go_on_window_by_window(shipped: tuple[DiffusionPolicy, TextEncoder], walk: np.ndarray) -> None:
    asked = [prompt((TEXT, 50), ("a person kicks", 43))]
    windows = Windows(context_frames=16, new_frames=20)
    [group] = generate_onward(*shipped, asked, 2, 7, windows, beginning=walk[:FIRST])
    assert group.features.shape == (2, 93, 263) and group.lengths.tolist() == [93, 93]
    np.testing.assert_allclose(group.features[:, :FIRST], np.repeat(walk[None, :FIRST], 2, axis=0), atol=1e-4)
    for made in group.features:
        assert jumps(made, [20, 40, 50, 70]).max() < 3.0
    [again] = generate_onward(*shipped, asked, 2, 7, windows, beginning=walk[:FIRST])
    np.testing.assert_array_equal(again.features, group.features)
    [other] = generate_onward(
        *shipped, [prompt((TEXT, 50), ("a person runs", 43))], 2, 7, windows, beginning=walk[:FIRST]
    )
    np.testing.assert_array_equal(other.features[:, :50], group.features[:, :50])
    assert np.abs(other.features[:, 50:] - group.features[:, 50:]).max() > 0.1, (
        "the text changes where its segment begins"
    )


def test_a_motion_may_begin_from_nothing_and_windows_matter(shipped: tuple[DiffusionPolicy, TextEncoder]) -> None:
    made = [
        generate_onward(*shipped, [prompt((TEXT, 42))], 1, 7, Windows(context, 20))[0].features for context in (4, 16)
    ]
    assert made[0].shape == (1, 42, 263), "two frames are no window, so the second one has 22"
    np.testing.assert_array_equal(made[0][:, :20], made[1][:, :20])
    assert not np.array_equal(made[0][:, 20:], made[1][:, 20:])
    longer = generate_onward(*shipped, [prompt((TEXT, 42))], 1, 7, Windows(16, 30))[0].features
    assert not np.array_equal(longer[:, 20:30], made[1][:, 20:30])


def test_parts_go_on_from_the_end_of_the_part_before(shipped: tuple[DiffusionPolicy, TextEncoder]) -> None:
    alone, parts = (
        [prompt((TEXT, 40))],
        [prompt((TEXT, 40)), prompt((TEXT, 12), ("a person kicks", 30)), prompt((TEXT, 8))],
    )
    first, group = generate_parts(*shipped, [alone, parts], 2, 7, overlap_frames=16)
    [whole] = generate(*shipped, alone, 2, 7)
    np.testing.assert_array_equal(first.features, whole.features, "one part is an ordinary motion")
    assert group.features.shape == (2, 90, 263) and group.prompt.num_frames == 90
    assert group.prompt.text == "a person walks forward, then kicks, and finally walks forward"
    [before] = generate_parts(*shipped, [alone, parts[:1]], 2, 7)[1:]
    np.testing.assert_array_equal(group.features[:, :40], before.features)
    for made, others in zip(group.features, group.features[::-1], strict=True):
        assert jumps(made, [40]).max() < 2.0, "no larger than within the motion"
        pasted = np.concatenate([others[:40], made[40:]])
        assert jumps(pasted, [40]).max() > jumps(made, [40]).max(), "each sample goes on from its own beginning"
    closer = generate_parts(*shipped, [parts], 2, 7, overlap_frames=4)[0]
    assert np.abs(closer.features[:, 40:] - group.features[:, 40:]).max() > 0.01
    with pytest.raises(UserError, match=r"a part of .* has 216 frames with the 20 that it goes on from"):
        generate_parts(*shipped, [[prompt((TEXT, 40)), prompt((TEXT, 196))]], 1, 0)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((0, 0), "at least one is needed"),
        ((30, 30), "nothing is left to make"),
        ((50, 0), "has 40 frames; 50 are to be kept"),
    ],
)
def test_what_cannot_be_kept(ends: tuple[int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        keep_ends(np.zeros((40, 263), np.float32), LENGTH, *ends)


def test_windows_and_frames_that_do_not_fit(shipped: tuple[DiffusionPolicy, TextEncoder]) -> None:
    asked = [prompt((TEXT, LENGTH))]
    with pytest.raises(
        UserError, match="context_len is 20 and pred_len 400; expected at least 1 and 4, together at most"
    ):
        generate_onward(*shipped, asked, 1, 0, Windows(20, 400))
    with pytest.raises(UserError, match="lasts 60 frames, and 60 are given"):
        generate_onward(*shipped, asked, 1, 0, Windows(20, 20), beginning=np.zeros((60, 263), np.float32))
    wrong = GivenFrames(np.zeros((1, 50, 263), np.float32), np.ones(50, bool))
    with pytest.raises(ValueError, match=r"given frames are \[1, 50, 263\] and \[50\] for prompt 0"):
        generate(*shipped, asked, 1, 0, given=[wrong])
