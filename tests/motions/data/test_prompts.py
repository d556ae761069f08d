"""Files of prompts: text, JSON lines, and the composite .npy without running what is in it."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motions.base.errors import UserError
from motions.base.safe_files import read_object_array
from motions.data.prompts import Prompt, Segment, load_prompts, save_prompts, seconds_to_frames

RECORD: dict[str, Any] = {
    "composite_prompt": "First walk, then kick, finally sit",
    "sub_prompts": ["walk", "kick", "sit"],
    "durations": [3.0, 2.5, 4.0],
    "durations_frames": [60, 50, 80],
    "source_ids": ["000001", "000002", "M000003"],
    "total_frames": 190,
}
METADATA = {"dataset_name": "humanml", "split": "train", "k_segments": 3, "fps": 20.0, "num_samples": 1}


def save_pickled(path: Path, content: object) -> Path:
    """What `numpy.save` does with a dictionary."""
    np.save(path, np.array(content, dtype=object))
    return path


def test_prompt_geometry() -> None:
    prompt = Prompt("a, then b", (Segment("a", 60), Segment("b", 30)))
    assert prompt.num_frames == 90
    assert prompt.boundaries == ((0, 60), (60, 90))


def test_durations_are_rounded_at_their_ends() -> None:
    """0.26 s is 5.2 frames: rounding each alone would lose a frame every five segments."""
    assert seconds_to_frames([0.26] * 5, 20.0) == (5, 5, 6, 5, 5)
    assert sum(seconds_to_frames([1.33, 1.33, 1.33], 12.5)) == round(3.99 * 12.5)
    assert seconds_to_frames([1.125, 1.125], 20.0) == (23, 22)  # ends at 22.5 and 45: halves go up


@pytest.mark.parametrize("seconds", [[], [0.0], [-1.0], [float("nan")], [float("inf")], [1.0, 0.1]])
def test_unusable_durations(seconds: list[float]) -> None:
    with pytest.raises(ValueError, match=r"durations are|segment 2 lasts 0.1 s: 2 frames at 20 per second"):
        seconds_to_frames(seconds, 20.0)


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# mine\na person walks\n\n  a person kicks | 1.5  # short\na person runs|2\n")
    assert load_prompts(path, 20.0) == [
        Prompt("a person walks", (Segment("a person walks", 120),)),
        Prompt("a person kicks", (Segment("a person kicks", 30),)),
        Prompt("a person runs", (Segment("a person runs", 40),)),
    ]
    assert load_prompts(path, 20.0, default_frames=50)[0].num_frames == 50
    assert load_prompts(path, 12.5)[0].num_frames == 75


def test_json_lines_round_trip(tmp_path: Path) -> None:
    prompts = [
        Prompt("a person wärms up", (Segment("a person wärms up", 40),)),
        Prompt("a, then b", (Segment("a", 60), Segment("b", 31))),
        Prompt("lines\u2028of\x85Unicode", (Segment("lines\u2028of\x85Unicode", 40),)),
    ]
    path = tmp_path / "prompts.jsonl"
    save_prompts(path, prompts)
    assert load_prompts(path, 20.0) == prompts
    assert path.read_text().count("\n") == 3


def test_json_lines_forms(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines: list[dict[str, Any]] = [
        {"metadata": METADATA},
        {"text": "walk", "seconds": 2.0, "note": "ignored"},
        {"text": "walk", "num_frames": 41},
        {"text": "walk"},
        {"text": "w, then k", "segments": [{"text": "w", "seconds": 1.26}, {"text": "k", "seconds": 1.26}]},
        RECORD,
        {key: value for key, value in RECORD.items() if key != "durations_frames"},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    prompts = load_prompts(path, 20.0, default_frames=100)
    assert [prompt.num_frames for prompt in prompts] == [40, 41, 100, 50, 190, 190]
    assert [segment.num_frames for segment in prompts[3].segments] == [25, 25]
    assert prompts[4].segments == prompts[5].segments == (Segment("walk", 60), Segment("kick", 50), Segment("sit", 80))


def test_composite_npy(tmp_path: Path) -> None:
    nested = {**RECORD, "sub_prompts": [["walk"], ["kick"], ["sit"]], "B_matrix": np.eye(3)}
    numpy_types = {**RECORD, "durations_frames": np.array([60, 50, 80]), "total_frames": np.int64(190)}
    path = save_pickled(tmp_path / "composite_k3_train.npy", {"samples": [nested, numpy_types], "metadata": METADATA})
    prompts = load_prompts(path, 20.0, num_segments=3)
    assert prompts[0] == prompts[1]
    assert prompts[0].text == "First walk, then kick, finally sit"
    assert prompts[0].boundaries == ((0, 60), (60, 110), (110, 190))
    with pytest.raises(ValueError, match=r"sample 0: it has 3 segments; expected 4"):
        load_prompts(path, 20.0, num_segments=4)
    with pytest.raises(ValueError, match=r"made for 20.0 frames per second, the motions have 12.5"):
        load_prompts(path, 12.5)


class Runs:
    """Unpickling this runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickles_that_run_code_are_refused(tmp_path: Path, protocol: int) -> None:
    path, witness = tmp_path / "evil.npy", tmp_path / "witness"
    save_pickled(path, {"samples": []})
    header = path.read_bytes()[:128]
    content = {"samples": [Runs(f"touch {witness}")]}
    path.write_bytes(header + pickle.dumps(np.array(content, dtype=object), protocol=protocol))
    with pytest.raises(ValueError, match=r"evil\.npy is refused: it names (posix|nt)\.system; only NumPy arrays"):
        load_prompts(path, 20.0)
    assert not witness.exists()


def test_object_arrays_of_any_shape(tmp_path: Path) -> None:
    array = np.empty(2, dtype=object)
    array[:] = [{"a": 1.5, "b": [True, None, "x"]}, (np.float32(2), np.arange(3.0))]
    np.save(tmp_path / "objects.npy", array)
    read = read_object_array(tmp_path / "objects.npy")
    assert isinstance(read, np.ndarray) and read.shape == (2,)
    assert read[0] == array[0]
    np.testing.assert_array_equal(read[1][1], array[1][1])


def test_broken_npy_files(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(ValueError, match=r"cannot read .*x\.npy: No such file"):
        read_object_array(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.npy is not a \.npy file"):
        read_object_array(path)
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match=r"array of float64, not Python objects"):
        read_object_array(path)
    save_pickled(path, {"samples": []})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"x\.npy is (broken|refused)"):
        read_object_array(path)
    save_pickled(path, {"data": 1})
    with pytest.raises(ValueError, match=r"is no composite dataset: expected a dictionary with a list 'samples'"):
        load_prompts(path, 20.0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": " "}, r"text is ' '; expected a text"),
        ({"text": 3}, r"text is 3"),
        ({}, r"text is None"),
        ([1], r"expected an object, found \[1\]"),
        ({"text": "a", "num_frames": 3}, r"a segment has 3 frames; expected a whole number of at least 4"),
        ({"text": "a", "num_frames": 10.5}, r"a segment has 10.5 frames"),
        ({"text": "a", "num_frames": "10"}, r"a duration is '10'; expected a number"),
        ({"text": "a", "seconds": 0.1}, r"segment 1 lasts 0.1 s: 2 frames"),
        ({"text": "a", "segments": []}, r"durations are \[\]|0 texts and 0 durations"),
        ({"text": "a", "segments": ["b"]}, r"text is None"),
        ({**RECORD, "durations_frames": [60, 50]}, r"it has 3 texts and 2 durations"),
        ({**RECORD, "sub_prompts": "walk"}, r"sub_prompts is 'walk'; expected a list"),
        ({**RECORD, "sub_prompts": [["a", "b"], "c", "d"]}, r"sub_prompts is \['a', 'b'\]"),
        ({**RECORD, "durations_frames": [60, 50, True]}, r"a duration is True"),
    ],
)
def test_wrong_records_are_named(tmp_path: Path, record: object, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"text": "fine"}\n' + json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=message) as raised:
        load_prompts(path, 20.0)
    assert "prompts.jsonl, line 2: " in str(raised.value)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    with pytest.raises(ValueError, match=r"a\.csv: prompts are read from \.txt, \.jsonl, \.npy files"):
        load_prompts(tmp_path / "a.csv", 20.0)
    with pytest.raises(ValueError, match=r"cannot read .*a\.txt"):
        load_prompts(text, 20.0)
    text.write_text("walk | soon")
    with pytest.raises(ValueError, match=r"a\.txt, line 1: 'soon' after \| is no number of seconds"):
        load_prompts(text, 20.0)
    for mark in (b"", b"\xef\xbb\xbf"):
        text.write_bytes(mark + b"sits\na man walks to the caf\xe9")
        with pytest.raises(ValueError, match=r"a\.txt, line 2: byte 0xe9 is not UTF-8;"):
            load_prompts(text, 20.0)
    lines = tmp_path / "a.jsonl"
    lines.write_text("{}}")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1 is not JSON"):
        load_prompts(lines, 20.0)
    lines.write_text('{"metadata": {"fps": "20"}}')
    with pytest.raises(UserError, match=r"a\.jsonl was made for 20 frames per second, the motions have 20"):
        load_prompts(lines, 20.0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_prompts_in_any_encoding_of_unicode(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("a man walks to the caf\u00e9 | 2\r\nhe sits\r\n".encode(encoding))
    assert [prompt.text for prompt in load_prompts(path, 20.0)] == ["a man walks to the caf\u00e9", "he sits"]
