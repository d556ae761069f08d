"""Command lines with one mistake each, and what must be said of it.

A table is text. A line at the margin begins the commands of the lines below it; each of these is the rest of a command
and, behind `>>`, words of its error. Files that a command names are made where it runs, by `FILES`.
"""

from __future__ import annotations

import runpy
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rewards.settings import BUILTIN_TMR_FOLDER
from rollouts.checkpoints.mdm_files import find_checkpoint
from tests.house.source_tree import ROOT

CONTROLLER = ROOT / "docs" / "results" / "deepmimic_walk"
PLACES = {
    "CONTROLLER": lambda: CONTROLLER,
    "POLICY": lambda: find_checkpoint("builtin"),
    "TMR": lambda: BUILTIN_TMR_FOLDER,
}
"""Words of a command that stand for files that come with kinetune."""
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 170\n"
HTML = b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"


def array(path: Path, values: np.ndarray) -> None:
    """A file of an array."""
    np.save(path, values, allow_pickle=values.dtype == object)


def run_of(path: Path) -> None:
    """A folder that looks like a run that recorded a step."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text("run:\n  seed: 1\n")
    (path / "metrics.jsonl").write_text('{"step": 1}\n')
    (path / ".lock").touch()


def dataset_of(**changes: bytes) -> Callable[[Path], None]:
    """A data set's folder in HumanML3D's layout without motions, some of its files others."""

    def make(path: Path) -> None:
        for folder in ("new_joint_vecs", "texts"):
            (path / folder).mkdir(parents=True)
        array(path / "Mean.npy", np.zeros(263, np.float32))
        array(path / "Std.npy", np.ones(263, np.float32))
        (path / "train.txt").write_text("000001\n")
        (path / "texts" / "000001.txt").write_text("a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n")
        array(path / "new_joint_vecs" / "000001.npy", np.zeros((60, 263), np.float32))
        for name, content in changes.items():
            (path / name.replace("__", "/").replace("_dot_", ".")).write_bytes(content)

    return make


def policy_of(model: bytes) -> Callable[[Path], None]:
    """The folder of a policy whose file of weights is something else."""

    def make(path: Path) -> None:
        path.mkdir()
        shutil.copy(find_checkpoint("builtin").parent / "args.json", path)
        (path / "model000000001.pt").write_bytes(model)

    return make


def clips_of(**files: str) -> Callable[[Path], None]:
    """A folder of recordings."""

    def make(path: Path) -> None:
        path.mkdir()
        for name, content in files.items():
            (path / f"{name}.bvh").write_text(content)

    return make


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  End Site
  {
    OFFSET 0 1 0
  }
}
MOTION
Frames: 2
Frame Time: 0.05
0 90 0 0 0 0
0 90 0 0 0 0
"""

FILES: dict[str, bytes | Callable[[Path], object]] = {
    "empty.txt": b"",
    "blank.txt": b"\n  \n\n",
    "latin.txt": b"a person walks\nein M\xe4dchen l\xe4uft \x81\n",
    "empty.jsonl": b"",
    "broken.jsonl": b'{"text": "walks"\n',
    "list.jsonl": b"[1, 2]\n",
    "nameless.jsonl": b'{"seconds": 2}\n',
    "negative.jsonl": b'{"text": "walks", "seconds": -2}\n',
    "segments.jsonl": b'{"text": "walks", "segments": [{"text": "walks", "num_frames": 0}]}\n',
    "prompts.csv": b"text\nwalks\n",
    "numbers.npy": lambda path: array(path, np.zeros(3)),
    "object.npy": lambda path: array(path, np.array([object], dtype=object)),
    "binary.bin": bytes(range(256)) * 4,
    "page.pt": HTML,
    "folder": lambda path: path.mkdir(),
    "file": b"something",
    "used": lambda path: path.mkdir() or (path / "notes.md").write_bytes(b"mine"),
    "held": run_of,
    "empty_policy": policy_of(b""),
    "page_policy": policy_of(HTML),
    "pointer_policy": policy_of(LFS),
    "binary_policy": policy_of(bytes(range(256)) * 4),
    "no_args": lambda path: path.mkdir() or shutil.copy(find_checkpoint("builtin"), path / "model000000001.pt"),
    "bad_args": lambda path: (
        path.mkdir()
        or shutil.copy(find_checkpoint("builtin"), path / "model000000001.pt")
        or (path / "args.json").write_text("{")
    ),
    "cut_controller": lambda path: (
        path.mkdir()
        or (path / "controller.safetensors").write_bytes((CONTROLLER / "controller.safetensors").read_bytes()[:1000])
    ),
    "empty_controller": lambda path: path.mkdir() or (path / "controller.safetensors").write_bytes(b""),
    "html_controller": lambda path: path.mkdir() or (path / "controller.safetensors").write_bytes(HTML),
    "nowhere.yaml": b"num_stepz: 3\n",
    "twice.yaml": b"seed: 3\nseed: 4\n",
    "twice_nested.yaml": b"run:\n  seed: 3\n  seed: 4\n",
    "two_ways.yaml": b"seed: 3\nrun:\n  seed: 4\n",
    "list.yaml": b"- seed\n- 3\n",
    "scalar.yaml": b"seed\n",
    "empty.yaml": b"",
    "tabs.yaml": b"run:\n\tseed: 3\n",
    "open.yaml": b"seed: [3\n",
    "binary.yaml": bytes(range(256)),
    "latin.yaml": "# läuft\nseed: 3\n".encode("latin-1"),
    "group_scalar.yaml": b"run: 3\n",
    "wrong_group.yaml": b"cluster:\n  seed: 3\n",
    "unknown_group.yaml": b"running:\n  seed: 3\n",
    "text_seed.yaml": b"seed: three\n",
    "list_seed.yaml": b"seed: [3, 4]\n",
    "map_seed.yaml": b"seed:\n  value: 3\n",
    "inf_seed.yaml": b"seed: .inf\n",
    "null_seed.yaml": b"seed: null\n",
    "big_seed.yaml": b"seed: 9223372036854775808\n",
    "bool_seed.yaml": b"seed: 1.5\n",
    "python.yaml": b"seed: !!python/object/apply:os.getcwd []\n",
    "anchor.yaml": b"seed: *missing\n",
    "key.yaml": b"? [seed]\n: 3\n",
    "other.yaml": b"job: jobs.other\nseed: 3\n",
    "empty.json": b"",
    "list.json": b"[]",
    "gains.json": b'{"stance": [[1]], "swing": [[1]], "chest": [[1]]}',
    "nan.json": b'{"stance": NaN, "swing": 1, "chest": 1}',
    "motion.txt": b"walk",
    "no_frames.txt": b'{"Loop": "wrap"}',
    "one_frame.txt": b'{"Loop": "wrap", "Frames": [[0.1]]}',
    "short_rows.txt": b'{"Loop": "wrap", "Frames": [[0.1, 1], [0.1, 1]]}',
    "loop.txt": b'{"Loop": "often", "Frames": [[0.1], [0.1]]}',
    "words.txt": b'{"Loop": "wrap", "Frames": [["a"], ["b"]]}',
    "clips": clips_of(walk=BVH),
    "no_clips": lambda path: path.mkdir(),
    "cut_clips": clips_of(walk=BVH[:100]),
    "nan_clips": clips_of(walk=BVH.replace("0 90 0 0 0 0", "0 nan 0 0 0 0")),
    "short_clips": clips_of(walk=BVH.replace("Frames: 2", "Frames: 9")),
    "empty_clips": clips_of(walk=""),
    "captions.csv": b"file,caption\nwalk,a person walks\n",
    "headless.csv": b"walk,a person walks\n",
    "missing.csv": b"file,caption\nrun,a person runs\n",
    "times.csv": b"file,caption,start,end\nwalk,a person walks,3,1\n",
    "words.csv": b"file,caption,start,end\nwalk,a person walks,now,then\n",
    "silent.csv": b"file,caption\nwalk,\n",
    "split.csv": b"file,caption,split\nwalk,a person walks,holdout\n",
    "mapping.json": b"{",
    "data": dataset_of(),
    "no_train": dataset_of(train_dot_txt=b""),
    "wide_mean": dataset_of(Mean_dot_npy=b"not an array"),
    "lfs_mean": dataset_of(Mean_dot_npy=LFS),
    "cut_motion": dataset_of(new_joint_vecs__000001_dot_npy=b"\x93NUMPY"),
    "no_caption": dataset_of(texts__000001_dot_txt=b""),
    "latin_caption": dataset_of(texts__000001_dot_txt=b"l\xe4uft \x81#l/V#0.0#0.0\n"),
    "foreign_ids": dataset_of(train_dot_txt=b"000009\n"),
}


@dataclass(frozen=True)
class Case:
    """One command and what its error says."""

    words: tuple[str, ...]
    expected: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


def cases(table: str) -> list[Case]:
    """The commands of a table."""
    found, first = [], ""
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            first = line
            continue
        command, *expected = (part.strip() for part in line.split(">>"))
        assert expected, line
        found.append(Case(tuple(shlex.split(f"{first} {command}")), tuple(expected)))
    return found


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file with its content, every folder with None, by path."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def require_refusal(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs a command in a folder with the files that it names; it must end with one clear error and change nothing."""
    words = list(_with_files(case.words, folder))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", words)
    before = contents(folder)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert ended.value.code == 2, said
    assert "Traceback" not in said
    assert len(errors) == 1, said
    missing = [text for text in case.expected if text not in errors[0]]
    assert not missing, f"{errors[0]!r} lacks {missing}"
    assert len(errors[0]) < 900, said
    assert contents(folder) == before


def _with_files(words: tuple[str, ...], folder: Path) -> Iterator[str]:
    for word in words:
        first = word.partition("/")[0]
        if first in FILES and not (folder / first).exists():
            made = FILES[first]
            if callable(made):
                made(folder / first)
            else:
                (folder / first).write_bytes(made)
        yield str(PLACES[word]()) if word in PLACES else word
