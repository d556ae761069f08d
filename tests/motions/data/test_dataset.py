"""The built-in dataset: what is in it, what is held out, that it is always the same; batches drawn from datasets."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from motions.data.builtin import clip_floor, play
from motions.data.captions import load_captions
from motions.data.dataset import MotionDataset, load_dataset
from motions.data.text_motion import MDM_CROP, CropRule, TextMotion, sample_batch
from motions.humanoid.mocap import CLIP_NAMES, load_clip
from motions.skeleton.features import FeatureLayout, extract_features, recover_joints
from motions.skeleton.mirroring import mirror_caption, mirror_features
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.synthetic_motion import foot_skate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def builtin() -> MotionDataset:
    return load_dataset("builtin")


def joints_of(item: TextMotion) -> np.ndarray:
    return recover_joints(torch.from_numpy(item.features), HUMANML3D).numpy()


def ramp(num_frames: int, name: str = "ramp") -> TextMotion:
    """Feature 0 counts the frames."""
    features = np.repeat(np.arange(num_frames, dtype=np.float32)[:, None], 263, axis=1)
    return TextMotion(name, name, features, (f"{name} one", f"{name} two"))


def test_every_clip_is_in_every_split_equally(builtin: MotionDataset) -> None:
    assert builtin.splits == ("train", "judge", "test")
    for split, count in (("train", 24), ("judge", 24), ("test", 18)):
        items = builtin.items(split)
        assert Counter(item.source for item in items) == dict.fromkeys(CLIP_NAMES, count)
        assert len({item.clip_id for item in items}) == len(items)
        for item in items:
            assert item.features.dtype == np.float32 and item.features.shape[1] == 263
            assert np.isfinite(item.features).all()
            assert 20 <= item.num_frames <= 196


def test_lengths_are_varied(builtin: MotionDataset) -> None:
    for source in ("walk", "run", "crawl", "dance_b"):
        lengths = sorted(item.num_frames for item in builtin.items("train") if item.source == source)
        assert lengths[0] <= 44 and lengths[-1] >= 80
    jumps = {item.num_frames for item in builtin.items("train") if item.source == "jump"}
    assert max(jumps) > 2.5 * min(jumps)  # one jump, or three


def test_splits_have_their_captions(builtin: MotionDataset) -> None:
    captions = load_captions()
    for split in ("train", "judge", "test"):
        for item in builtin.items(split):
            texts = getattr(captions[item.source], split)
            mirrored = tuple(mirror_caption(text) for text in texts)
            assert item.captions == (mirrored if item.clip_id.startswith("M") else texts)


def test_fewer_captions_can_be_learnt(builtin: MotionDataset) -> None:
    fewer = builtin.with_captions(4)
    for item, whole in zip(fewer.items("train"), builtin.items("train"), strict=True):
        assert item.captions == whole.captions[:4] and item.features is whole.features
    assert fewer.items("test") is builtin.items("test") and fewer.fingerprint != builtin.fingerprint
    with pytest.raises(ValueError, match="count is 0"):
        builtin.with_captions(0)


def test_held_out_windows_are_no_training_windows(builtin: MotionDataset) -> None:
    train = {item.clip_id: item for item in builtin.items("train")}
    assert [item.clip_id for item in builtin.items("judge")] == list(train)
    for item in builtin.items("test"):
        assert item.clip_id not in train
        for other in train.values():
            if other.source == item.source:
                length = min(item.num_frames, other.num_frames)
                assert np.abs(item.features[:length] - other.features[:length]).max() > 0.01


def test_mirrored_copies(builtin: MotionDataset) -> None:
    items = {item.clip_id: item for item in builtin.items("train")}
    plain = [clip_id for clip_id in items if not clip_id.startswith("M")]
    assert len(plain) * 2 == len(items)
    for clip_id in plain:
        expected = mirror_features(items[clip_id].features, HUMANML3D)
        np.testing.assert_array_equal(items[f"M{clip_id}"].features, expected)
    kicks = [item for item in items.values() if item.source == "kick"]
    for item in kicks:
        side, other = ("left", "right") if item.clip_id.startswith("M") else ("right", "left")
        joints = joints_of(item)
        high = {each: joints[:, HUMANML3D.index(f"{each}_ankle"), 1].max() for each in (side, other)}
        assert high[side] > 0.8 > 0.4 > high[other]
        assert f"a person kicks with the {side} leg" in item.captions


def test_windows_start_at_the_origin_in_direction_z(builtin: MotionDataset) -> None:
    for item in builtin.items("train"):
        joints = joints_of(item)
        np.testing.assert_allclose(joints[0, 0, [0, 2]], 0.0, atol=1e-6)
        if item.source in ("walk", "run", "jump"):
            across = (joints[0, 2] - joints[0, 1]) + (joints[0, 17] - joints[0, 16])
            forward = np.cross([0.0, 1.0, 0.0], across)[[0, 2]]
            assert forward[1] > 0.9 * np.linalg.norm(forward), item.clip_id
            travel = joints[-1, 0, [0, 2]]
            assert travel[1] > 0.9 * np.linalg.norm(travel), item.clip_id


def test_headings_do_not_jump(builtin: MotionDataset) -> None:
    """Neither from the first to the second frame nor at 180 degrees, as they would in HumanML3D's own features."""
    for split in ("train", "test"):
        for item in builtin.items(split):
            assert np.abs(item.features[:, 0]).max() < 0.15, item.clip_id


def test_features_show_what_the_clip_shows() -> None:
    """Fast turns included: joints recovered from the features are the clip's, but for where they stand and face."""
    for name in ("spin", "dance_a"):
        clip = load_clip(name)
        joints = play(clip, np.arange(0.0, 4.0, 1 / 20), clip_floor(clip))
        features = extract_features(joints, HUMANML3D, retarget=False, floor=0.0, continuous_heading=True)
        recovered = recover_joints(torch.from_numpy(features), HUMANML3D).numpy()
        (first, *_), expected = recovered, joints[:-1] - joints[0, 0] * np.array([1.0, 0.0, 1.0])
        angle = np.arctan2(first[16, 0], first[16, 2]) - np.arctan2(expected[0, 16, 0], expected[0, 16, 2])
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        np.testing.assert_allclose(recovered, expected @ turn.T, atol=2e-3)


def test_motions_stand_on_the_floor(builtin: MotionDataset) -> None:
    skates = []
    for item in builtin.items("train"):
        joints = joints_of(item)
        assert -0.02 < joints[..., 1].min() < 0.06, item.clip_id
        skates.append(foot_skate(joints, HUMANML3D))
    assert np.mean(skates) < 0.12
    # A window cut from a jump's flight keeps its height: its lowest joint is not on the floor throughout.
    layout = FeatureLayout(22)
    flips = [item.features[:, layout.root_height] for item in builtin.items("train") if item.source == "backflip"]
    assert min(float(heights.max()) for heights in flips) > 0.9


def test_cyclic_windows_have_no_seam(builtin: MotionDataset) -> None:
    """No joint jumps where a cycle starts again: the largest step is not far above the usual large ones."""
    for item in builtin.items("train"):
        if item.source in ("walk", "run", "crawl", "spinkick"):
            steps = np.linalg.norm(np.diff(joints_of(item), axis=0), axis=-1).max(axis=1)
            assert steps.max() < 1.8 * np.quantile(steps, 0.9), item.clip_id


def test_speeds_differ(builtin: MotionDataset) -> None:
    paces = [
        float(np.linalg.norm(item.features[:, 1:3], axis=1).mean()) * 20
        for item in builtin.items("train")
        if item.source == "walk"
    ]
    assert 0.75 < min(paces) < 0.95 and 1.05 < max(paces) < 1.3


def test_statistics_are_those_of_the_training_split(builtin: MotionDataset) -> None:
    frames = np.concatenate([item.features for item in builtin.items("train")])
    np.testing.assert_allclose(builtin.normalizer.mean, frames.mean(axis=0), atol=1e-4)
    assert len(set(builtin.normalizer.std[4:67].tolist())) == 1
    assert builtin.skeleton is HUMANML3D


def test_it_is_always_the_same(builtin: MotionDataset) -> None:
    """In another process, and clip by clip."""
    script = (
        "import hashlib; from motions.data.builtin import build_builtin\n"
        "items = build_builtin(['kick'])['test']\n"
        "print([(item.clip_id, hashlib.sha256(item.features.tobytes()).hexdigest()) for item in items])"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    here = [item for item in builtin.items("test") if item.source == "kick"]
    assert other.stdout.strip() == str(
        [(item.clip_id, hashlib.sha256(item.features.tobytes()).hexdigest()) for item in here]
    )
    assert load_dataset("builtin") is builtin


def test_the_fingerprint_sees_every_change(builtin: MotionDataset) -> None:
    items = builtin.items("train")[:3]

    def fingerprint(*changed: TextMotion) -> str:
        motions = (*changed, *items[len(changed) :])
        return MotionDataset("x", HUMANML3D, builtin.normalizer, {"train": lambda: motions}).fingerprint

    first = items[0]
    moved = first.features.copy()
    moved[-1, -1] += 1e-3
    prints = {
        fingerprint(),
        fingerprint(TextMotion(first.clip_id, first.source, moved, first.captions)),
        fingerprint(TextMotion(first.clip_id, first.source, first.features, first.captions[:-1])),
        fingerprint(TextMotion("other", first.source, first.features, first.captions)),
    }
    assert len(prints) == 4
    assert fingerprint() == fingerprint()


def test_unknown_splits_are_named(builtin: MotionDataset) -> None:
    with pytest.raises(ValueError, match=r"split 'val': dataset builtin has train, judge, test"):
        builtin.items("val")


def test_batches_are_padded_and_repeatable(builtin: MotionDataset) -> None:
    items = builtin.items("train")
    batch = sample_batch(items, np.random.default_rng(1), 32, 196)
    assert batch.features.shape == (32, int(batch.lengths.max()), 263) and batch.features.dtype == np.float32
    assert batch.lengths.dtype == np.int64 and len(batch.texts) == 32
    for motion, length in zip(batch.features, batch.lengths, strict=True):
        assert not motion[length:].any() and motion[length - 1].any()
    again = sample_batch(items, np.random.default_rng(1), 32, 196)
    np.testing.assert_array_equal(batch.features, again.features)
    assert batch.texts == again.texts
    assert sample_batch(items, np.random.default_rng(2), 32, 196).texts != batch.texts


def test_long_motions_are_cut_anywhere() -> None:
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(60):
        batch = sample_batch([ramp(30)], rng, 1, 20)
        assert batch.lengths.tolist() == [20]
        values = batch.features[0, :, 0]
        assert all(after - before == 1 for before, after in pairwise(values))
        starts.add(int(values[0]))
    assert starts == set(range(11))


def test_crop_rule_of_mdm() -> None:
    """Multiples of four, a third of them one unit shorter than possible, starting anywhere."""
    rng = np.random.default_rng(0)
    draws = [MDM_CROP.draw(50, 196, rng) for _ in range(3000)]
    lengths = Counter(length for _, length in draws)
    assert set(lengths) == {48, 44}
    assert lengths[44] / 3000 == pytest.approx(1 / 3, abs=0.03)
    assert {start for start, length in draws if length == 48} == {0, 1, 2}
    assert {start for start, length in draws if length == 44} == set(range(7))
    assert MDM_CROP.draw(3, 196, rng) == (0, 3)
    assert MDM_CROP.draw(300, 199, rng)[1] in (196, 192)
    batch = sample_batch([ramp(50)], rng, 16, 196, crop=MDM_CROP)
    assert set(batch.lengths.tolist()) <= {44, 48}


def test_composites_take_their_share() -> None:
    rng = np.random.default_rng(0)
    joined = ramp(60, "joined")
    batch = sample_batch([ramp(30)], rng, 2000, 196, composites=(joined,), composite_share=0.25)
    assert float((batch.lengths == 60).mean()) == pytest.approx(0.25, abs=0.03)
    # Composites are never cut.
    batch = sample_batch([ramp(30)], rng, 50, 60, crop=CropRule(unit=7), composites=(joined,), composite_share=1.0)
    assert set(batch.lengths.tolist()) == {60}
    with pytest.raises(ValueError, match=r"composite joined has 60 frames; max_frames is 59"):
        sample_batch([ramp(30)], rng, 50, 59, composites=(joined,), composite_share=1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"items": []}, r"items is empty"),
        ({"batch_size": 0}, r"batch_size is 0, max_frames is 20"),
        ({"max_frames": 0}, r"batch_size is 2, max_frames is 0"),
        ({"composite_share": 0.5}, r"composite_share is 0.5 with 0 composites"),
        ({"composite_share": 1.5}, r"composite_share is 1.5"),
    ],
)
def test_unusable_batches(arguments: dict, message: str) -> None:
    given = {"items": [ramp(9)], "batch_size": 2, "max_frames": 20, **arguments}
    with pytest.raises(ValueError, match=message):
        sample_batch(given.pop("items"), np.random.default_rng(0), **given)


@pytest.mark.parametrize(("unit", "share", "message"), [(0, 0.0, r"unit is 0"), (4, 1.2, r"shorter_share is 1.2")])
def test_unusable_crop_rules(unit: int, share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CropRule(unit, share)
