"""A person's choices: read with their motions, counted, and every file that is none refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from learners.supervised.choices import KIND, MOTIONS, read_choices, save_motions
from motions.base.errors import UserError

POSES = {
    name: torch.randn(6, 25, 3, generator=torch.Generator().manual_seed(place)) for place, name in enumerate("abcd")
}


def choice(left: str, right: str, answer: str, again: bool = False) -> dict[str, Any]:
    return {"left": left, "right": right, "choice": answer, "again": again, "seconds": 1.0}


CHOICES = [
    choice("a", "b", "left"),
    choice("c", "d", "right"),
    choice("b", "d", "equal"),
    choice("a", "c", "skip"),
    choice("b", "a", "right", again=True),
    choice("d", "c", "right", again=True),
    choice("c", "a", "left", again=True),
]


def write(folder: Path, poses: dict[str, Any] | None = None, **changes: Any) -> Path:
    path = folder / "choices.json"
    path.write_text(
        json.dumps({"kind": KIND, "id": "x", "folder": str(folder / "pairs"), "choices": CHOICES} | changes)
    )
    save_motions(folder, "x", POSES if poses is None else poses)
    return path


def test_pairs_have_the_better_motion_first_and_answers_are_counted(tmp_path: Path) -> None:
    choices = read_choices(write(tmp_path))
    wanted = [("a", "b"), ("d", "c"), ("a", "b"), ("c", "d"), ("c", "a")]
    for (better, worse), (one, other) in zip(choices.pairs(), wanted, strict=True):
        assert torch.equal(better, POSES[one]) and torch.equal(worse, POSES[other])
    # Of the three pairs that were asked again, one was skipped before, one was answered the same, one was not.
    assert choices.agreement() == {
        **{"answers": 7, "decided": 5, "equal": 1, "skipped": 1, "repeated": 2, "consistent": 1}
    }


def test_motions_are_found_in_the_folder_that_the_file_names(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "pairs").mkdir()
    (tmp_path / MOTIONS).rename(tmp_path / "pairs" / MOTIONS)
    assert read_choices(path).files[1] == tmp_path / "pairs" / MOTIONS
    # Beside the file lie the motions of another page.
    save_motions(tmp_path, "another", POSES)
    assert read_choices(path).files[1] == tmp_path / "pairs" / MOTIONS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": []}, "holds no choice; answer on the page of jobs.prefer, then save"),
        ({"choices": "all"}, "holds no choice"),
        ({"kind": "other"}, "no choices; expected a file that the page of jobs.prefer saved"),
        (
            {"choices": [choice("a", "b", "equal"), choice("c", "d", "skip")]},
            r"none of its 2 .*\(1 equal, 1 skipped",
        ),
        ({"choices": [choice("a", "b", "up")]}, "choice 0: choice is 'up'; legal are left, right, equal, skip"),
        ({"choices": [choice("a", "a", "left")]}, "choice 0: left 'a' and right 'a'; expected the names of two"),
        ({"choices": [{"left": "a"}]}, "choice 0 is {'left': 'a'}; expected left, right and choice"),
        ({"choices": [choice("a", "e", "left")]}, r"choice 0: .*motions\.pth has no motion 'e'"),
        ({"id": "y"}, "belong to another page of jobs.prefer"),
        ({"poses": POSES | {"b": torch.zeros(5, 25, 3)}}, "choice 0: a and b have 6 and 5 frames"),
        ({"poses": POSES | {"b": torch.zeros(6, 21, 3)}}, r"choice 0: b in .* is \[6, 21, 3\]; expected poses"),
        ({"poses": POSES | {"b": torch.full((6, 25, 3), torch.nan)}}, "b in .* has values that are not finite"),
        ({"poses": POSES | {"b": 3}}, "b in .* is int; expected poses"),
    ],
)
def test_other_files_are_one_clear_error(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as raised:
        read_choices(path)
    assert str(raised.value).startswith(f"pairs_path {path}: ")


def test_missing_and_broken_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.json: no such file"):
        read_choices(tmp_path / "absent.json")
    path = write(tmp_path)
    (tmp_path / MOTIONS).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"choices\.json: .*motions\.pth"):
        read_choices(path)
    torch.save([1], tmp_path / MOTIONS)
    with pytest.raises(UserError, match="holds no poses by name"):
        read_choices(path)
    (tmp_path / MOTIONS).unlink()
    with pytest.raises(UserError, match=r"its motions are missing: motions\.pth, which jobs\.prefer wrote beside its"):
        read_choices(path)
    path.write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_choices(path)
