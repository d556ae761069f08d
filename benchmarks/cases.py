"""Inputs that people really have, and what becomes of each: never a wrong motion without a word.

    python -m benchmarks.cases --folder DIR

DIR holds one folder for each case: `cmd`, the command that takes the case, and the files that it takes. In the command
CASES stands for DIR, OUT for a new folder; a remark in brackets behind the command is left out. Every command is run,
and one line says what came of it:

* refused: exit status 2 and an error that names a file of the case;
* warned: a warning that names a file of the case and a figure;
* right: an import whose clips are the recorded motion, or a data set of which every listed clip and caption is read;
* WRONG: anything else, such as another motion without a word, a traceback, or the advice to load a file unsafely.

The motion that a case of recordings must give is that of `expected.json` in its folder, by default a walk: 1 m/s along
the facing, right arm straight up, pelvis .94 m above the floor, 3.95 s. It is measured in the data set that was
written, by code that shares nothing with the import.

Target: no case is WRONG. The exit code is 1 if one is, or if DIR holds no cases.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

Verdict = Literal["refused", "warned", "right", "WRONG"]
FPS = 20.0
_RIGHT_HIP, _LEFT_HIP, _RIGHT_SHOULDER, _LEFT_SHOULDER, _HEAD, _RIGHT_WRIST = 2, 1, 17, 16, 15, 21
_PARENTS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
"""Parent of each of HumanML3D's joints but the first."""
_UNSAFE_ADVICE = ("weights_only", "allow_pickle")
"""Options of PyTorch and NumPy that let a file run code: their names occur in the advice of their own errors alone."""
_ENCODINGS = ("utf-8-sig", "utf-16", "cp1252")


@dataclass(frozen=True, slots=True)
class Motion:
    """Figures of a motion on its floor."""

    speed: float = 1.0
    """Mean speed of the pelvis along the body's facing, m/s; negative for walking backwards."""
    height: float = 0.94
    """Median height of the pelvis above the lowest joint, metres."""
    path: float = 3.8
    """Distance that the pelvis travels over the ground, metres."""
    seconds: float = 3.95
    right_hand: float = 0.3
    """Median height of the right wrist above the head, metres."""
    longest_bone: float = 0.42
    """Length of the longest bone, metres: joints of two bodies are far apart."""

    def __str__(self) -> str:
        return (
            f"{self.speed:.2f} m/s along its facing, pelvis at {self.height:.2f} m, path {self.path:.2f} m in "
            f"{self.seconds:.2f} s, right hand {self.right_hand:+.2f} m above the head, longest bone "
            f"{self.longest_bone:.2f} m"
        )


TOLERANCE = Motion(speed=0.15, height=0.1, path=0.5, seconds=0.3, right_hand=0.15, longest_bone=0.1)
"""Largest deviation of each figure that counts as right; the bones are those of HumanML3D after an import."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case, and the words that show it."""

    verdict: Verdict
    words: str


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all cases of a folder and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="folder of cases")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="beginnings of the names of cases to run")
    parser.add_argument("--timeout_s", type=float, default=600.0, help="seconds after which a command counts as WRONG")
    options = parser.parse_args(argv)
    folder = options.folder.resolve()
    cases = sorted(path.parent for path in folder.glob("*/cmd"))
    cases = [case for case in cases if not options.only or case.name.startswith(tuple(options.only))]
    if not cases:
        print(f"error: {folder}: no cases in it (a case is a folder with a file cmd)", file=sys.stderr)
        return 1
    counts: dict[Verdict, int] = {"refused": 0, "warned": 0, "right": 0, "WRONG": 0}
    for case in cases:
        outcome = judge(case, options.timeout_s)
        counts[outcome.verdict] += 1
        print(f"{case.name:<30} {outcome.verdict:<8} {outcome.words}", flush=True)
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    return 1 if counts["WRONG"] else 0


def judge(case: Path, timeout_s: float) -> Outcome:
    """Runs the command of a case in a new folder and says what came of it."""
    with tempfile.TemporaryDirectory(prefix="case_") as temporary:
        out = Path(temporary) / "out"
        words = command(case, out)
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return Outcome("WRONG", f"not done after {timeout_s:g} s")
        return assess(case, out, done.returncode, done.stdout + "\n" + done.stderr, "--dry_run" in words)


def command(case: Path, out: Path) -> list[str]:
    """The words of a case's command with their places filled in. Raises ValueError for anything but a Python module."""
    text = re.sub(r"\s\([^()]*(\([^()]*\)[^()]*)*\)\s*$", "", (case / "cmd").read_text(encoding="utf-8").strip())
    words = shlex.split(text.replace("/abs/OUT", "OUT"))
    if words[:2] != ["python", "-m"]:
        raise ValueError(f"{case / 'cmd'}: expected python -m MODULE ..., found {text[:60]!r}")
    places = {"CASES": str(case.parent), "OUT": str(out)}
    return [sys.executable, *(re.sub(r"\b(CASES|OUT)\b", lambda found: places[found[1]], word) for word in words[1:])]


def assess(case: Path, out: Path, status: int, output: str, dry_run: bool) -> Outcome:
    """The verdict on what a command said and wrote."""
    for advice in _UNSAFE_ADVICE:
        if advice in output:
            return Outcome("WRONG", f"advises to load a file unsafely: {advice}")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if "Traceback (most recent call last)" in output:
        return Outcome("WRONG", f"traceback: {lines[-1]}")
    names = _file_names(case)
    if status != 0:
        errors = [line for line in lines if line.startswith("error:")]
        named = [line for line in errors if any(name in line for name in names)]
        if named:
            return Outcome("refused", named[0].removeprefix("error:").strip())
        return Outcome("WRONG", f"status {status} without a file's name: {(errors or lines or ['no output'])[-1]}")
    warnings = [line for line in lines if "warning" in line.lower() and re.search(r"\d", line)]
    wrong = list(_deviations(case, out, dry_run))
    silent = [words for name, words in wrong if not any(_names(line, name, names) for line in warnings)]
    if silent:
        return Outcome("WRONG", "; ".join(silent))
    told = [line for line in warnings if any(name in line for name in names)]
    if wrong or (dry_run and told):
        return Outcome("warned", told[0])
    if dry_run:
        return Outcome("WRONG", "accepted without a word")
    return Outcome("right", "; ".join(_figures(out)) or f"all of {len(_listed(case))} listed clips")


def measure(joints: np.ndarray) -> Motion:
    """Figures of global joints [F, 22, 3], y up, in metres at 20 frames per second."""
    pelvis, across = joints[:, 0], joints[:, _LEFT_HIP] - joints[:, _RIGHT_HIP]
    across = across + joints[:, _LEFT_SHOULDER] - joints[:, _RIGHT_SHOULDER]
    facing = np.cross(across, [0.0, 1.0, 0.0])
    facing /= np.linalg.norm(facing, axis=-1, keepdims=True)
    steps = np.diff(pelvis, axis=0) * [1.0, 0.0, 1.0]
    return Motion(
        speed=float((steps * facing[:-1]).sum(-1).mean() * FPS),
        height=float(np.median(pelvis[:, 1]) - joints[..., 1].min()),
        path=float(np.linalg.norm(steps, axis=-1).sum()),
        seconds=len(joints) / FPS,
        right_hand=float(np.median(joints[:, _RIGHT_WRIST, 1] - joints[:, _HEAD, 1])),
        longest_bone=float(np.linalg.norm(joints[:, 1:] - joints[:, list(_PARENTS)], axis=-1).max()),
    )


def _deviations(case: Path, out: Path, dry_run: bool) -> Iterator[tuple[str, str]]:
    """Source file and words for everything in which a written or read data set is not what the case says."""
    if (out / "index.csv").is_file():
        expected = _expected(case)
        clips = list(_clips(out))
        for name in sorted({path.name for path in case.glob("**/*.bvh")} - {Path(name).name for name, _ in clips}):
            yield name, f"{name}: no clip of it"
        for name, motion in clips:
            far = [
                field.name
                for field in fields(Motion)
                if not abs(getattr(motion, field.name) - getattr(expected, field.name))
                <= getattr(TOLERANCE, field.name)
            ]
            if far:
                yield Path(name).name, f"{name}: {', '.join(far)}: {motion}"
    elif (case / "data" / "train.txt").is_file() and not dry_run:
        yield from _unread(case)
    elif not dry_run:
        yield case.name, "status 0, but neither a data set was written nor one read"


def _unread(case: Path) -> Iterator[tuple[str, str]]:
    """What of a data set in HumanML3D's layout is not read as it is written."""
    from motions.data.dataset import load_dataset

    if (case / "data" / "dataset.json").is_file():
        rate = json.loads((case / "data" / "dataset.json").read_text(encoding="utf-8")).get("fps", FPS)
        if rate != FPS:
            yield "dataset.json", f"dataset.json: {rate:g} frames per second are taken for {FPS:g}"
    items = {item.clip_id: item for item in load_dataset(case / "data").items("train")}
    for name in _listed(case):
        if name not in items:
            yield "train.txt", f"clip {name} is lost"
            continue
        captions = [line.partition("#")[0] for line in _text(case / "data" / "texts" / f"{name}.txt").splitlines()]
        if list(items[name].captions) != captions:
            yield f"{name}.txt", f"captions of {name} are {items[name].captions}, expected {captions}"


def _listed(case: Path) -> list[str]:
    path = case / "data" / "train.txt"
    return [line.strip().removesuffix(".npy") for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    content = path.read_bytes()
    for encoding in _ENCODINGS:
        if (encoding == "utf-16") == content.startswith((b"\xff\xfe", b"\xfe\xff")):
            try:
                return content.decode(encoding)
            except UnicodeDecodeError:
                continue
    raise ValueError(f"{path}: of no known encoding")


def _clips(out: Path) -> Iterator[tuple[str, Motion]]:
    """Source file and figures of every clip that is not a mirrored copy."""
    with (out / "index.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not row["new_name"].startswith("M"):
                yield row["source_path"], measure(np.load(out / "new_joints" / f"{row['new_name']}.npy"))


def _figures(out: Path) -> list[str]:
    return [f"{name}: {motion}" for name, motion in _clips(out)] if (out / "index.csv").is_file() else []


def _expected(case: Path) -> Motion:
    path = case / "expected.json"
    return Motion(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else Motion()


def _file_names(case: Path) -> list[str]:
    """Names of the files of a case, and of the folders that hold them."""
    paths = [path for path in case.rglob("*") if path.name != "cmd"]
    return [str(path.relative_to(case.parent)) if path.is_dir() else path.name for path in paths]


def _names(line: str, name: str, names: Sequence[str]) -> bool:
    """Whether a warning names a file; one that the case has not counts as named by any of the case's files."""
    return name in line if name in names else any(other in line for other in names)


if __name__ == "__main__":
    sys.exit(main())
