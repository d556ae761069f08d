"""Folders in the layout of HumanML3D and KIT-ML."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from motions.base.errors import MistakesError, UserError
from motions.data import folder_reader
from motions.data.dataset import load_dataset
from motions.data.folder_reader import read_captions

WHOLE = "a person walks.#a/DET person/NOUN walk/VERB#0.0#0.0\n"


def make_folder(
    folder: Path, lengths: dict[str, int], texts: dict[str, str] | None = None, width: int = 263, **lists: list[str]
) -> Path:
    """A dataset of random motions; `lists` are split lists, by default all clips in train.txt."""
    (folder / "new_joint_vecs").mkdir(parents=True)
    (folder / "texts").mkdir()
    rng = np.random.default_rng(0)
    for clip_id, length in lengths.items():
        np.save(folder / "new_joint_vecs" / f"{clip_id}.npy", rng.normal(size=(length, width)).astype(np.float32))
        (folder / "texts" / f"{clip_id}.txt").write_text((texts or {}).get(clip_id, WHOLE))
    for split, ids in (lists or {"train": list(lengths)}).items():
        (folder / f"{split}.txt").write_text("".join(f"{clip_id}\n" for clip_id in ids))
    np.save(folder / "Mean.npy", np.zeros(width, np.float32))
    np.save(folder / "Std.npy", np.full(width, 2.0, np.float32))
    return folder


def test_a_folder_is_read_as_it_is(tmp_path: Path) -> None:
    folder = make_folder(
        tmp_path / "data",
        {"000001": 60, "M000001": 60, "000002": 50, "000003": 45},
        texts={"000001": WHOLE + "someone strolls#someone/NOUN stroll/VERB#nan#nan\n"},
        train=["000001", "M000001"],
        val=["000002"],
        test=["000003"],
    )
    dataset = load_dataset(folder)
    assert dataset.splits == ("train", "val", "test")
    assert dataset.skeleton.name == "humanml3d"
    plain, mirrored = dataset.items("train")
    assert (plain.clip_id, plain.source, plain.captions) == ("000001", "000001", ("a person walks.", "someone strolls"))
    assert (mirrored.clip_id, mirrored.source) == ("M000001", "000001")
    stored = np.load(folder / "new_joint_vecs" / "000001.npy")
    np.testing.assert_array_equal(plain.features, stored)
    np.testing.assert_array_equal(dataset.normalizer.std, np.full(263, 2.0))
    assert [item.clip_id for item in dataset.items("test")] == ["000003"]
    assert len(dataset.fingerprint) == 64
    with pytest.raises(ValueError, match=r"split 'extra': dataset .* has train, val, test"):
        dataset.items("extra")


def test_captions_with_times_become_motions(tmp_path: Path) -> None:
    text = WHOLE + "he turns#he/PRON turn/VERB#1.0#4.26\nhe stops#he/PRON stop/VERB#5.0#6.0\n"
    folder = make_folder(tmp_path / "data", {"a": 150, "b": 100}, texts={"a": text, "b": "he sits#x/NOUN#0.0#4.0\n"})
    dataset = load_dataset(folder)
    whole, turning, sitting = dataset.items("train")
    assert (whole.num_frames, whole.captions) == (150, ("a person walks.",))
    assert (turning.clip_id, turning.source, turning.captions) == ("a@1-4.26.1", "a", ("he turns",))
    np.testing.assert_array_equal(turning.features, whole.features[20:85])
    # A clip without a caption of the whole is there with its parts only; one second is too short a part.
    assert (sitting.source, sitting.num_frames) == ("b", 80)


def test_clips_beyond_what_is_held_in_memory_are_read_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = WHOLE + "he turns#he/PRON turn/VERB#1.0#4.26\n"
    folder = make_folder(tmp_path / "data", {"a": 150, "b": 60, "c": 60}, texts={"a": text})
    held = load_dataset(folder)
    monkeypatch.setattr(folder_reader, "MOST_HELD_MB", 0.16)  # the first clip only
    dataset = load_dataset(folder)
    items = dataset.items("train")
    assert [isinstance(item.frames, np.ndarray) for item in items] == [True, True, False, False]
    monkeypatch.setattr(folder_reader, "MOST_HELD_MB", 0)
    for stored in (items, load_dataset(folder).items("train")):
        for item, same in zip(stored, held.items("train"), strict=True):
            assert (item.clip_id, item.num_frames, item.captions) == (same.clip_id, same.num_frames, same.captions)
            np.testing.assert_array_equal(item.features, same.features)
    assert dataset.fingerprint == held.fingerprint
    np.save(folder / "new_joint_vecs" / "c.npy", np.zeros((59, 263), np.float32))
    with pytest.raises(UserError, match=r"c\.npy has shape \(59, 263\), and had 60 frames .* was changed meanwhile"):
        _ = items[-1].features


def test_kit_is_recognised_by_its_width(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "kit", {"00001": 24, "00002": 23}, width=251)
    dataset = load_dataset(folder)
    assert dataset.skeleton.name == "kit"
    assert [item.clip_id for item in dataset.items("train")] == ["00001"]
    timed = make_folder(tmp_path / "timed", {"1": 60}, texts={"1": "x#x/NOUN#1.0#3.0\n"}, width=251)
    assert load_dataset(timed).items("train")[0].num_frames == int(3 * 12.5) - int(12.5)


def test_dataset_json_names_the_skeleton(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 50})
    path = folder / "dataset.json"
    path.write_text(json.dumps({"skeleton": "humanml3d"}))
    assert load_dataset(folder).skeleton.name == "humanml3d"
    path.write_text(json.dumps({"skeleton": "kit"}))
    with pytest.raises(ValueError, match=r"Mean\.npy: shape \(263,\), expected \(251,\)"):
        load_dataset(folder)
    path.write_text(json.dumps({"skeleton": "smpl"}))
    with pytest.raises(ValueError, match=r"dataset\.json: skeleton 'smpl': known are humanml3d, kit"):
        load_dataset(folder)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"dataset\.json has no text 'skeleton'"):
        load_dataset(folder)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"dataset\.json is not JSON"):
        load_dataset(folder)


def test_dataset_json_must_give_the_frame_rate_of_its_features(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 50})
    path = folder / "dataset.json"
    path.write_text(json.dumps({"skeleton": "humanml3d", "fps": 20}))
    assert load_dataset(folder).skeleton.fps == 20
    path.write_text(json.dumps({"skeleton": "humanml3d", "fps": 30}))
    with pytest.raises(UserError, match=r"dataset\.json: fps is 30; features of humanml3d are of 20 frames per second"):
        load_dataset(folder)
    path.write_text(json.dumps({"skeleton": "humanml3d", "frame_rate": 30}))
    with pytest.raises(UserError, match=r"dataset\.json: 'frame_rate' is unknown; legal: skeleton, fps"):
        load_dataset(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_lists_and_captions_in_any_encoding_of_unicode(encoding: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 50, "b": 50})
    (folder / "train.txt").write_bytes("a\r\nb\r\n".encode(encoding))
    (folder / "texts" / "a.txt").write_bytes("to the caf\u00e9#x/NOUN#0.0#0.0\r\n".encode(encoding))
    items = load_dataset(folder).items("train")
    assert [(item.clip_id, item.captions[0]) for item in items] == [("a", "to the caf\u00e9"), ("b", "a person walks.")]


def test_ids_may_have_the_ending_of_their_files(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 50, "b": 50, "c": 50}, train=["a.npy", "b.txt", "c"])
    assert [item.clip_id for item in load_dataset(folder).items("train")] == ["a", "b", "c"]


def contacts_folder(folder: Path) -> Path:
    """Two clips whose foot contacts are 0 and 1."""
    make_folder(folder, {"a": 50, "b": 50})
    np.save(folder / "Mean.npy", np.full(263, 0.4, np.float32))
    for path in (folder / "new_joint_vecs").iterdir():
        features = np.load(path)
        features[:, -4:] = features[:, -4:] > 0
        np.save(path, features)
    return folder


def test_features_that_are_normalised_already_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = contacts_folder(tmp_path / "data")
    with caplog.at_level(logging.WARNING):
        load_dataset(folder).items("train")
    assert not caplog.text
    for path in (folder / "new_joint_vecs").iterdir():
        np.save(path, (np.load(path) - 0.4) / 2.0)
    with pytest.raises(
        UserError, match=r"[ab]\.npy: the features are normalised already: foot contacts are -0\.2 to 0"
    ):
        load_dataset(folder).items("train")
    # By other statistics there is no proof, only a doubt.
    np.save(folder / "Mean.npy", np.zeros(263, np.float32))
    for path in (folder / "new_joint_vecs").iterdir():
        np.save(path, np.load(path) * 20.0)
    with caplog.at_level(logging.WARNING):
        load_dataset(folder).items("train")
    assert "the foot contacts of 2 clips are far from 0 and 1" in caplog.text


def test_all_broken_clips_are_named_or_left_out_on_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder(tmp_path / "data", {"a": 50, "b": 50, "c": 50, "d": 50})
    vectors = folder / "new_joint_vecs"
    np.save(vectors / "b.npy", np.full((50, 263), np.nan, np.float32))
    (vectors / "c.npy").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    (folder / "texts" / "d.txt").write_text("a person walks\n")
    with pytest.raises(MistakesError) as raised:
        load_dataset(folder).items("train")
    first, second, third, last = raised.value.lines
    assert "b.npy: frame 0 is not finite" in first and "c.npy is a pointer of Git LFS" in second
    assert "d.txt, line 1" in third and last == "3 clips are broken; --skip_bad leaves them out"
    with caplog.at_level(logging.WARNING):
        items = load_dataset(folder, skip_bad=True).items("train")
    assert [item.clip_id for item in items] == ["a"]
    assert "lists 4 clips: 0 are not on disk, 3 are broken (first" in caplog.text and "; 1 are left" in caplog.text


def test_held_out_captions_that_training_has_seen_are_counted(tmp_path: Path) -> None:
    folder = make_folder(
        tmp_path / "data",
        {"a": 50, "b": 50, "c": 50},
        texts={"b": "A person  walks#x/NOUN#0.0#0.0\nshe sits#x/NOUN#0.0#0.0\n", "c": "a dance#x/NOUN#0.0#0.0\n"},
        train=["a"],
        val=["c"],
        test=["b"],
    )
    dataset = load_dataset(folder)
    seen = dataset.seen_in_training("test")
    assert seen is not None and seen.startswith("1 of 2 captions of split test are captions of the training split too")
    assert dataset.seen_in_training("val") is None


def test_prompts_of_an_evaluation_are_drawn_without_repetition(tmp_path: Path) -> None:
    lengths = {f"{number:03d}": 50 for number in range(12)}
    texts = {clip_id: f"motion {clip_id}#x/NOUN#0.0#0.0\n" for clip_id in lengths}
    dataset = load_dataset(make_folder(tmp_path / "data", lengths, texts=texts))
    drawn = [prompt.text for prompt in dataset.prompts("train", 12, distinct=True)]
    assert len(set(drawn)) == 12 and drawn != sorted(drawn)
    plain = [prompt.text for prompt in dataset.prompts("train", 12)]
    assert len(set(plain)) < 12
    # There are only 12 captions.
    assert [prompt.text for prompt in dataset.prompts("train", 13, distinct=True)][:12] == plain


def test_missing_and_unusual_clips_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder(
        tmp_path / "data", {"a": 40, "b": 39, "c": 200, "d": 199}, train=["a", "b", "c", "d", "e", "a"]
    )
    (folder / "texts" / "d.txt").unlink()
    with caplog.at_level(logging.WARNING):
        items = load_dataset(folder).items("train")
    assert [item.clip_id for item in items] == ["a"]
    assert "lists 5 clips: 2 are not on disk, 2 motions are too short or too long; 1 are left" in caplog.text


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 10}, train=["a", "b"])
    words = r"lists 2 clips: 1 are not on disk \(first 'b'\), 1 motions have under 40 .* none is left"
    with pytest.raises(ValueError, match=words):
        load_dataset(folder).items("train")


def test_broken_features_are_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 50, "b": 50})
    path = folder / "new_joint_vecs" / "b.npy"
    broken = np.zeros((50, 263), np.float32)
    broken[7, 3] = np.nan
    np.save(path, broken)
    with pytest.raises(ValueError, match=r"b\.npy: frame 7 is not finite"):
        load_dataset(folder).items("train")
    np.save(path, np.zeros((50, 251), np.float32))
    with pytest.raises(ValueError, match=r"b\.npy has shape \(50, 251\); expected \[T, 263\] for humanml3d"):
        load_dataset(folder).items("train")
    np.save(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"b\.npy holds Python objects, which are not loaded"):
        load_dataset(folder).items("train")


def test_folders_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset '.*nowhere' is neither 'builtin' nor a folder"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not a motion dataset: it needs train\.txt, new_joint_vecs/ and texts/"):
        load_dataset(tmp_path)
    odd = make_folder(tmp_path / "odd", {"a": 50}, width=100)
    with pytest.raises(ValueError, match=r"Mean\.npy has 100 numbers; 263 \(HumanML3D\) or 251 \(KIT\) are expected"):
        load_dataset(odd)
    (odd / "Std.npy").unlink()
    with pytest.raises(ValueError, match=r"Std\.npy"):
        load_dataset(odd)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a person walks\n", r"line 1: 'a person walks' is not caption#tokens#start#end"),
        (WHOLE + "a#b#c#d\n", r"line 2: 'a#b#c#d' is not caption#tokens#start#end"),
        ("#x/NOUN#0.0#0.0\n", r"line 1: the caption is empty"),
        ("\n", r"holds no caption"),
    ],
)
def test_malformed_captions_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "000000.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_captions(path)
    assert "000000.txt" in str(raised.value)


def test_captions_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("a man walks to the caf\u00e9#a/DET#0.0#0.0\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.txt, line 1: byte 0xe9 is not UTF-8"):
        read_captions(tmp_path / "a.txt")


def test_features_in_centimetres_are_warned_of_with_the_figure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder(tmp_path / "data", {"a": 60, "b": 60})
    for height, warned in ((0.94, False), (94.0, True)):
        for clip in ("a", "b"):
            features = np.zeros((60, 263), np.float32)
            features[:, 3] = height
            np.save(folder / "new_joint_vecs" / f"{clip}.npy", features)
        caplog.clear()
        load_dataset(folder).items("train")
        assert ("the pelvis is 94 m above the ground" in caplog.text) == warned


def test_times_numbers_and_lists_of_other_kinds_are_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 60})
    for times, said in (("0#inf", "0 to inf s"), ("-1#2", "-1 to 2 s")):
        (folder / "texts" / "a.txt").write_text(f"he walks#he/PRON#{times}\n")
        with pytest.raises(UserError, match=rf"a\.txt, line 1: {said}; expected finite times of 0 or more"):
            load_dataset(folder).items("train")
    (folder / "texts" / "a.txt").write_text(WHOLE)
    (folder / "train.txt").write_text("/data/new_joint_vecs/a.npy\n")
    with pytest.raises(UserError, match=r"1 are not on disk \(first '/data/new_joint_vecs/a'\)"):
        load_dataset(folder).items("train")
    (folder / "train.txt").write_text("a\n")
    np.save(folder / "new_joint_vecs" / "a.npy", np.zeros((60, 263), np.complex64))
    with pytest.raises(UserError, match="values of type complex64; expected numbers"):
        load_dataset(folder).items("train")
