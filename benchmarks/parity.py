"""Agreement with the original networks and processing, fixture by fixture.

    python -m benchmarks.parity --fixtures DIR

Runs the check of every .pt and .npz file in DIR (formats are recognised by content, see benchmarks/fixtures) and prints
one line per quantity: `name  max_abs_error  tolerance  ok`. Parts that are not implemented yet are listed as pending
and count as neither met nor missed. The last line is a summary or names the missed quantities.

Target: every quantity within its tolerance. The exit code is 1 if one is not, if a file cannot be read or has no known
format, or if DIR holds no fixtures.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.fixtures.quantity import Fixture, Pending, Quantity
from benchmarks.fixtures.registry import find_format

ENDINGS = (".pt", ".npz")


class FixtureError(ValueError):
    """A file is no fixture, or its content does not match its format."""


def main(argv: Sequence[str] | None = None) -> int:
    """Checks all fixtures of a folder and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fixtures", type=Path, required=True, metavar="DIR", help="folder of .pt and .npz fixtures")
    folder = parser.parse_args(argv).fixtures
    try:
        paths = fixture_files(folder)
    except FixtureError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    met, missed, pending = 0, [], 0
    for path in paths:
        try:
            for entry in check_file(path):
                print(format_line(path.stem, entry), flush=True)
                if isinstance(entry, Pending):
                    pending += 1
                elif entry.ok:
                    met += 1
                else:
                    missed.append(f"{path.stem}/{entry.name}")
        except FixtureError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            missed.append(path.name)
    print(f"{met} ok, {len(missed)} missed, {pending} pending" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


def fixture_files(folder: Path) -> list[Path]:
    """The fixtures of a folder, sorted by name. Raises FixtureError if there are none."""
    if not folder.is_dir():
        raise FixtureError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    if not paths:
        raise FixtureError(f"{folder}: no fixtures ({', '.join(ENDINGS)}) in it")
    return paths


def load_fixture(path: Path) -> Fixture:
    """Reads a file, unpickling only tensors and plain types. Raises FixtureError naming the file."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise FixtureError(f"{path}: cannot be read: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise FixtureError(f"{path}: holds a {type(content).__name__}, expected a dict")
    return content


def check_file(path: Path) -> Iterator[Quantity | Pending]:
    """All quantities of one file. Raises FixtureError if it cannot be read or recognised, or its check fails."""
    fixture = load_fixture(path)
    entry = find_format(fixture)
    if entry is None:
        raise FixtureError(f"{path}: of no known format; its keys are {', '.join(map(str, list(fixture)[:8]))}")
    try:
        yield from entry.check(fixture)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise FixtureError(f"{path}: its check stopped with {kind}: {_first_line(error)}") from error


def format_line(file: str, entry: Quantity | Pending) -> str:
    """`name  max_abs_error  tolerance  ok`, or why the quantity is pending."""
    name = f"{file}/{entry.name}"
    if isinstance(entry, Pending):
        return f"{name:<64}  pending: {entry.reason}"
    return f"{name:<64}  {entry.max_abs_error:.2e}  {entry.tolerance:.0e}  {'ok' if entry.ok else 'MISSED'}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
