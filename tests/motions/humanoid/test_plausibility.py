"""Clips with the faults of real exporters, made from built-in ones: refused or warned of, with their figures."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from envs.task.clips import open_clip
from motions.humanoid.mocap import CLIP_NAMES, ClipError, clips_folder, load_clip
from motions.humanoid.plausibility import check_clip, implausible

Rows = np.ndarray
BALLS = (4, 8, 12, 16, 21, 25, 30, 35, 39)
HINGES = [20, 29, 34, 43]
RIGHT, LEFT = [*range(16, 30)], [*range(30, 44)]


def frames(name: str) -> Rows:
    """The rows [N, 44] of a built-in clip's file."""
    return np.array(json.loads((clips_folder() / f"humanoid3d_{name}.txt").read_text())["Frames"])


def scaled(columns: list[int] | slice, factor: float) -> Callable[[Rows], Rows]:
    """Multiplies columns."""

    def change(rows: Rows) -> Rows:
        rows[:, columns] *= factor
        return rows

    return change


def reordered(rows: Rows) -> Rows:
    """Quaternions x, y, z, w."""
    for column in BALLS:
        rows[:, column : column + 4] = np.roll(rows[:, column : column + 4], -1, axis=1)
    return rows


def z_up(rows: Rows) -> Rows:
    """The root's y and z exchanged."""
    rows[:, [2, 3]] = rows[:, [3, 2]]
    return rows


def exchanged(rows: Rows) -> Rows:
    """The columns of right and left exchanged."""
    rows[:, RIGHT + LEFT] = rows[:, LEFT + RIGHT]
    return rows


def sunk(rows: Rows) -> Rows:
    """Half a metre lower."""
    rows[:, 2] -= 0.5
    return rows


def torn(rows: Rows) -> Rows:
    """The second half two metres away."""
    rows[len(rows) // 2 :, 1] += 2.0
    return rows


FAULTS: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "milliseconds": (scaled([0], 1000.0), r"a frame lasts (33|41|16)\.\d+ s"),
    "microseconds for seconds": (scaled([0], 1e-4), "a frame lasts .*e-06 s"),
    "degrees": (scaled(HINGES, 180 / np.pi), r"turn by up to \d+\.\d rad"),
    "knees backward": (scaled([20, 34], -1.0), r"knees bend the wrong way: .* \+\d\.\d+ rad"),
    "elbows backward": (scaled([29, 43], -1.0), r"elbows bend the wrong way: .* -\d\.\d+ rad"),
    "quaternions x, y, z, w": (reordered, r"turned by 1\d\d degrees .* w, x, y, z"),
    "z up": (z_up, r"\d\.\d\d m below the floor"),
    "centimetres": (scaled([1, 2, 3], 100.0), r"no joint comes nearer to the floor than \d\d\.\d\d m"),
    "sides exchanged": (exchanged, r"elbows are 0\.\d\d m inside .* exchanged"),
    "in the floor": (sunk, r"0\.4\d m below the floor"),
    "two takes": (torn, r"the root jumps by [12]\.\d\d m within one frame, at \d\.\d\d s"),
}


@pytest.mark.parametrize("name", ["walk", "run", "jump", "spin"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_with_its_figure(fault: str, name: str, tmp_path: Path) -> None:
    change, words = FAULTS[fault]
    path = tmp_path / "mine.txt"
    path.write_text(json.dumps({"Loop": "none", "Frames": change(frames(name)).tolist()}))
    with pytest.raises(ClipError, match=f"mine.txt: .*{words}"):
        open_clip(str(path))


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_every_built_in_clip_is_plausible(name: str, caplog: pytest.LogCaptureFixture) -> None:
    clip = load_clip(name)
    assert implausible(clip) == []
    check_clip(dataclasses.replace(clip, cyclic=False), f"{name}.txt")
    assert caplog.text == ""


@pytest.mark.parametrize("turned", [(0.0, 0.0), (-1.0, -1.0)])
def test_a_walk_on_the_spot_or_backwards_is_warned_of_with_its_figure(
    turned: tuple[float, float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = frames("walk")
    rows[:, [1, 3]] *= turned
    path = tmp_path / "mine.txt"
    path.write_text(json.dumps({"Loop": "none", "Frames": rows.tolist()}))
    open_clip(str(path))
    assert re.search(r"mine\.txt: the lower foot slides at [01]\.\d\d m/s", caplog.text)


def test_a_jump_at_the_seam_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames("kick").tolist()}))
    with caplog.at_level(logging.WARNING):
        open_clip(str(path))
        open_clip(str(path))
    (record,) = caplog.records
    assert "mine.txt" in record.getMessage() and "by 149 degrees" in record.getMessage()
    path.write_text(json.dumps({"Loop": "none", "Frames": frames("kick").tolist()}))
    assert not open_clip(str(path)).cyclic
    assert len(caplog.records) == 1


def held(rows: Rows) -> Rows:
    """The first pose all the time."""
    rows[:, 1:] = rows[0, 1:]
    return rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (held, "no joint moves in any frame"),
        (scaled([0], 10.0), r"joints accelerate by 0\.\d+ m/s\^2 .* 0\.3333 s \(median\)"),
        (scaled([0], 0.25), r"joints accelerate by 1\d\d m/s\^2"),
    ],
)
def test_a_clip_that_never_moves_or_at_another_pace_is_warned_of(
    change: Callable[[Rows], Rows], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(json.dumps({"Loop": "none", "Frames": change(frames("walk")).tolist()}))
    open_clip(str(path))
    assert re.search(rf"mine\.txt: {words}", caplog.text), caplog.text


@pytest.mark.parametrize("factor", [0.2, 4.0])
def test_quaternions_far_from_norm_one_are_warned_of(
    factor: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.txt"
    rows = scaled(slice(8, 12), factor)(frames("walk"))
    path.write_text(json.dumps({"Loop": "none", "Frames": rows.tolist()}))
    open_clip(str(path))
    assert re.search(r"mine\.txt: row 0: the rotation of chest is a quaternion of norm [0-4]", caplog.text)
