"""Composite prompts and motions: texts, parts that fit, smooth borders, sets for any dataset."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from motions.data.composite_records import build_composite_records, ordered_prompt, write_composite_records
from motions.data.composites import Composer, join_captions, join_motions, split_caption, split_prompt
from motions.data.dataset import MotionDataset, load_dataset
from motions.data.prompts import Prompt, Segment, load_prompts
from motions.data.text_motion import TextMotion
from motions.skeleton.features import extract_features, recover_joints
from motions.skeleton.skeletons import HUMANML3D, KIT
from tests.toys.synthetic_motion import foot_skate

pytestmark = pytest.mark.slow

LYING = ("crawl", "getup_facedown", "getup_faceup")


@pytest.fixture(scope="module")
def builtin() -> MotionDataset:
    return load_dataset("builtin")


@pytest.fixture(scope="module")
def composer(builtin: MotionDataset) -> Composer:
    return Composer(builtin.items("train"), HUMANML3D)


def joints_of(features: np.ndarray) -> np.ndarray:
    return recover_joints(torch.from_numpy(features), HUMANML3D).numpy()


def part(source: str, items: tuple[TextMotion, ...]) -> np.ndarray:
    return next(item.features for item in items if item.source == source)


def test_captions_are_joined_to_a_sentence() -> None:
    assert join_captions(["a person walks"]) == "a person walks"
    assert join_captions(["a person walks.", "someone kicks high"]) == "a person walks, then kicks high"
    joined = join_captions(["The man runs", "a martial artist jumps", "the figure turns", "Somebody sits"])
    assert joined == "The man runs, then jumps, then turns, and finally sits"
    # Where leaving out the subject would make no sentence, it stays.
    assert join_captions(["he walks", "a person is running"]) == "he walks, then a person is running"
    assert join_captions(["a man sits", "a man lying down rises"]) == "a man sits, then a man lying down rises"
    assert join_captions(["a man sits", "his arms rise"]) == "a man sits, then his arms rise"
    with pytest.raises(ValueError, match=r"captions is empty"):
        join_captions([])


def test_a_sentence_is_split_into_its_actions() -> None:
    captions = ["a person walks forward", "a person kicks high", "a person jumps"]
    for count in (1, 2, 3):
        assert split_caption(join_captions(captions[:count])) == captions[:count]
    assert split_caption("a man walks in a circle. Then he sits down; waves") == [
        *("a man walks in a circle", "he sits down", "a man waves")
    ]
    assert split_caption("he runs and then his arms rise") == ["he runs", "his arms rise"]
    assert split_caption("walks, then kicks") == ["walks", "kicks"]
    assert split_caption("a person walks and waves") == ["a person walks and waves"]


def test_the_actions_of_a_prompt_become_segments_of_equal_length() -> None:
    text = "a person walks, then kicks"
    single = Prompt(text, (Segment(text, 61),))
    assert split_prompt(single) == Prompt(text, (Segment("a person walks", 30), Segment("a person kicks", 31)))
    brief, one = Prompt(text, (Segment(text, 7),)), Prompt("a person walks", (Segment("a person walks", 9),))
    for prompt in (split_prompt(single), brief, one):
        assert split_prompt(prompt) == prompt


def test_composites_fit_together(composer: Composer) -> None:
    rng = np.random.default_rng(0)
    drawn = [composer.draw(rng) for _ in range(150)]
    assert set(Counter(len(each.parts) for each in drawn)) == {2, 3, 4, 5}
    for composite in drawn:
        prompt = composite.prompt
        assert prompt.num_frames <= 196
        assert [segment.num_frames for segment in prompt.segments] == [each.num_frames for each in composite.parts]
        assert min(segment.num_frames for segment in prompt.segments) >= 16
        for segment, motion in zip(prompt.segments, composite.parts, strict=True):
            assert segment.text in motion.captions
        assert prompt.text == join_captions([segment.text for segment in prompt.segments])
        for before, after in pairwise(each.source for each in composite.parts):
            assert before != after
            # Who stands does not lie in the next frame; who crawls gets up from lying face down.
            assert after not in LYING or (before, after) == ("crawl", "getup_facedown")
            assert before != "crawl" or after == "getup_facedown"
    assert {each.source for composite in drawn for each in composite.parts} >= {"walk", "kick", "roll", "getup_faceup"}


@pytest.mark.parametrize("num_segments", [2, 3, 4, 5])
def test_the_number_of_segments_is_kept(composer: Composer, num_segments: int) -> None:
    rng = np.random.default_rng(1)
    assert {len(composer.draw(rng, num_segments).parts) for _ in range(10)} == {num_segments}


def test_composites_are_repeatable_and_obey_max_frames(builtin: MotionDataset) -> None:
    items = builtin.items("test")
    first, again = (
        [Composer(items, HUMANML3D, 100).draw(rng).prompt for _ in range(20)]
        for rng in (np.random.default_rng(5), np.random.default_rng(5))
    )
    assert first == again
    assert max(prompt.num_frames for prompt in first) <= 100


def test_unusable_composers(builtin: MotionDataset, composer: Composer) -> None:
    with pytest.raises(ValueError, match=r"items is empty"):
        Composer([], HUMANML3D)
    with pytest.raises(ValueError, match=r"max_frames is 20; two parts need at least 32"):
        Composer(builtin.items("train"), HUMANML3D, 20)
    with pytest.raises(ValueError, match=r"num_segments is 6; legal: 2 to 5"):
        composer.draw(np.random.default_rng(0), 6)
    walks = [item for item in builtin.items("train") if item.source == "walk"]
    with pytest.raises(ValueError, match=r"no 3 of the 24 motions fit together in 196 frames"):
        Composer(walks, HUMANML3D).draw(np.random.default_rng(0), 3)


def test_joined_motions_pass_smoothly(composer: Composer) -> None:
    """At the borders no joint moves faster than in the parts, bones keep their lengths, feet stay on the floor."""
    rng = np.random.default_rng(3)
    lengths = np.linalg.norm(HUMANML3D.target_offsets[1:], axis=-1)
    for _ in range(8):
        composite = composer.draw(rng)
        features = join_motions([each.features for each in composite.parts], HUMANML3D)
        assert features.shape == (composite.prompt.num_frames, 263) and features.dtype == np.float32
        joints = joints_of(features)
        steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=1)
        usual = max(
            float(np.linalg.norm(np.diff(joints_of(each.features), axis=0), axis=-1).max()) for each in composite.parts
        )
        assert steps.max() < 1.25 * usual
        bones = np.linalg.norm(joints[:, 1:] - joints[:, list(HUMANML3D.parents[1:])], axis=-1)
        np.testing.assert_allclose(bones, np.broadcast_to(lengths, bones.shape), atol=0.01)
        assert joints[..., 1].min() > -0.02
        assert foot_skate(joints, HUMANML3D) < 0.2
        assert np.abs(features[:, 0]).max() < 0.15


def test_bending_takes_the_jump_out_of_a_border(builtin: MotionDataset) -> None:
    items = builtin.items("train")
    parts = [part("kick", items), part("run", items)]
    border = len(parts[0])

    def jump(blend_frames: int) -> float:
        joints = joints_of(join_motions(parts, HUMANML3D, blend_frames=blend_frames))
        local = joints - joints[:, :1]
        return float(np.linalg.norm(local[border] - local[border - 1], axis=-1).max())

    assert jump(7) < 0.5 * jump(0)


def test_a_part_goes_on_where_the_last_one_faced(builtin: MotionDataset) -> None:
    """The kick turns the body by more than 90 degrees; the run that follows goes in the new direction."""
    items = builtin.items("train")
    kick, run = part("kick", items), part("run", items)
    joints = joints_of(join_motions([kick, run], HUMANML3D))
    alone = joints_of(kick)
    across = (alone[-1, 2] - alone[-1, 1]) + (alone[-1, 17] - alone[-1, 16])
    facing = np.cross([0.0, 1.0, 0.0], across)[[0, 2]]
    travel = joints[-1, 0, [0, 2]] - joints[len(kick) + 8, 0, [0, 2]]
    cosine = facing @ travel / np.linalg.norm(facing) / np.linalg.norm(travel)
    assert cosine > 0.9
    assert facing[1] / np.linalg.norm(facing) < 0.2


def test_one_part_stays_as_it_is(builtin: MotionDataset) -> None:
    walk = part("walk", builtin.items("train"))
    before, after = (joints_of(features) for features in (walk, join_motions([walk], HUMANML3D)))
    np.testing.assert_allclose(after - after[:, :1], before - before[:, :1], atol=0.05)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=0.1)


def test_kit_motions_are_joined_too() -> None:
    rest = np.zeros((21, 3))
    for joint, parent in enumerate(KIT.parents):
        if parent >= 0:
            rest[joint] = rest[parent] + KIT.target_offsets[joint]
    rest[:, 1] -= rest[:, 1].min()
    rest[:, 0] *= -1  # now the body faces +z
    forward = np.arange(21)[:, None, None] * np.array([0.0, 0.0, 10.0])
    still = extract_features(np.repeat(rest[None], 21, axis=0) + forward, KIT, retarget=False)
    joined = join_motions([still, still], KIT)
    assert joined.shape == (40, 251)
    np.testing.assert_allclose(joined[:, 2], 10.0, atol=1e-3)


@pytest.mark.parametrize(("lengths", "blend"), [((), 7), ((3,), 7), ((20, 3), 7), ((20,), -1)])
def test_unusable_parts(lengths: tuple[int, ...], blend: int) -> None:
    with pytest.raises(ValueError, match=r"parts have .* frames, blend_frames is"):
        join_motions([np.zeros((length, 263), np.float32) for length in lengths], HUMANML3D, blend_frames=blend)


def test_dataset_prompts(builtin: MotionDataset) -> None:
    prompts = builtin.prompts("test", 40, 0.25, np.random.default_rng(0))
    single = [prompt for prompt in prompts if len(prompt.segments) == 1]
    assert len(prompts) == 40 and len(single) == 30
    held_out = {text for item in builtin.items("test") for text in item.captions}
    trained = {text for item in builtin.items("train") for text in item.captions}
    for prompt in prompts:
        assert {segment.text for segment in prompt.segments} <= held_out
        assert not {segment.text for segment in prompt.segments} & trained
    assert all(prompt.text == prompt.segments[0].text for prompt in single)
    assert prompts == builtin.prompts("test", 40, 0.25, np.random.default_rng(0))
    assert builtin.prompts("test", 5) == builtin.prompts("test", 5, 0.0, np.random.default_rng(0))
    two = builtin.prompts("train", 6, 1.0, num_segments=2, max_frames=90)
    assert {len(prompt.segments) for prompt in two} == {2} and max(prompt.num_frames for prompt in two) <= 90
    assert max(prompt.num_frames for prompt in builtin.prompts("train", 40, max_frames=50)) == 50


@pytest.mark.parametrize(("count", "share"), [(0, 0.5), (5, 1.5), (5, -0.1)])
def test_unusable_prompt_requests(builtin: MotionDataset, count: int, share: float) -> None:
    with pytest.raises(ValueError, match=r"num_prompts is .*, composite_share is .*; legal: at least 1, 0 to 1"):
        builtin.prompts("test", count, share)


def test_dataset_composites(builtin: MotionDataset) -> None:
    motions = builtin.composites("train", 3, np.random.default_rng(0), max_frames=120)
    assert len({motion.clip_id for motion in motions}) == 3
    for motion in motions:
        assert motion.num_frames <= 120 and motion.source == "composite"
        assert ", then " in motion.captions[0] and len(motion.captions) == 1
    again = builtin.composites("train", 3, np.random.default_rng(0), max_frames=120)
    np.testing.assert_array_equal(motions[2].features, again[2].features)


def clips(*lengths: int) -> list[TextMotion]:
    return [
        TextMotion(f"{index:06d}", f"{index:06d}", np.zeros((length, 263), np.float32), (f"he does {index}.", "other"))
        for index, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("k_segments", [2, 3, 4])
def test_records_fill_the_target(k_segments: int) -> None:
    lengths = np.random.default_rng(0).integers(40, 200, size=200)
    items = clips(*lengths.tolist())
    records = build_composite_records(
        items, k_segments=k_segments, fps=20.0, rng=np.random.default_rng(0), tolerance=20, max_samples=60
    )
    assert len(records) == 60
    sets = {frozenset(record.source_ids) for record in records}
    assert len(sets) == 60 and all(len(ids) == k_segments for ids in sets)
    last_is_longest = 0
    for record in records:
        assert 176 <= record.total_frames == sum(record.durations_frames) <= 196
        assert record.durations == tuple(frames / 20 for frames in record.durations_frames)
        for clip_id, frames, text in zip(record.source_ids, record.durations_frames, record.sub_prompts, strict=True):
            assert (items[int(clip_id)].num_frames, items[int(clip_id)].captions[0]) == (frames, text)
        last_is_longest += record.durations_frames[-1] == max(record.durations_frames)
    assert last_is_longest < 50
    again = build_composite_records(
        items, k_segments=k_segments, fps=20.0, rng=np.random.default_rng(0), tolerance=20, max_samples=60
    )
    assert again == records


def test_records_end_when_there_are_no_more() -> None:
    records = build_composite_records(clips(90, 95, 100), k_segments=2, fps=20.0, rng=np.random.default_rng(0))
    assert sorted(record.total_frames for record in records) == [185, 190, 195]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_segments": 1}, r"k_segments is 1; legal: 2 to 5"),
        ({"k_segments": 5}, r"the 5 shortest last 200 frames; target_length is 196"),
        ({"k_segments": 3, "tolerance": 196}, r"tolerance 196"),
        ({"k_segments": 3, "max_samples": 0}, r"max_samples 0"),
        ({"k_segments": 2, "tolerance": 5}, r"no 2 of 5 motions last 191 to 196 frames together"),
    ],
)
def test_impossible_records(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_composite_records(clips(40, 40, 40, 40, 40), fps=20.0, rng=np.random.default_rng(0), **options)


def test_records_are_read_as_prompts(tmp_path: Path) -> None:
    records = build_composite_records(clips(60, 60, 70), k_segments=3, fps=20.0, rng=np.random.default_rng(0))
    path = tmp_path / "composite_k3_train.jsonl"
    write_composite_records(
        path, records, {"dataset_name": "mine", "split": "train", "k_segments": 3, "fps": 20.0, "seed": 0}
    )
    (prompt,) = load_prompts(path, 20.0, num_segments=3)
    assert isinstance(prompt, Prompt)
    assert prompt.text == records[0].composite_prompt == ordered_prompt(records[0].sub_prompts)
    assert tuple(segment.num_frames for segment in prompt.segments) == records[0].durations_frames
    assert json.loads(path.read_text().splitlines()[0])["metadata"]["seed"] == 0
    with pytest.raises(ValueError, match=r"was made for 20.0 frames per second, the motions have 12.5"):
        load_prompts(path, 12.5)


def test_ordered_prompts() -> None:
    assert (
        ordered_prompt(["a man walks.", "he kicks", "he sits"]) == "First a man walks, then he kicks, finally he sits"
    )
    assert ordered_prompt(["a", "b", "c", "d"]) == "First a, then b, then c, finally d"
