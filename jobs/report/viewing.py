"""Reads motions, shows them on a page and writes them to files: what `jobs.view` does."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from jobs.configs.view import ViewConfig
from jobs.report.gallery import GalleryRow, render_gallery
from motions.base.errors import UserError
from motions.files.motion import Motion, file_name
from motions.files.reading import MotionReader
from motions.files.writing import PAGE, check_free, planned_files, smpl_note, unique_names, write_motions

VIEWS = Path("outputs/view")


def run(config: ViewConfig) -> None:
    """Writes the files, says where they are, and opens the page."""
    motions, folder = prepare(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    rows = [GalleryRow(motion.title, [motion]) for motion in motions]
    title = motions[0].title if len(motions) == 1 else f"{len(motions)} motions"
    written = write_motions(folder, motions, config.formats, lambda: render_gallery(title, "", rows))
    if "npz" in config.formats:
        print(f"note: {smpl_note(motions)}")
    for files in written:
        print(files)
    if "html" in config.formats and config.open and has_display():
        webbrowser.open((folder / PAGE).absolute().as_uri())


def plan(config: ViewConfig) -> None:
    """Reads and checks the motions, and prints what would be written."""
    motions, folder = prepare(config)
    for motion in motions:
        print(f"{motion.name}: {len(motion.joints)} frames of {motion.skeleton.name} at {motion.fps:g} per second")
    for name in planned_files(motions, config.formats):
        print(f"would write {folder / name}")


def prepare(config: ViewConfig) -> tuple[list[Motion], Path]:
    """The motions with names of their own, and the folder for the files, in which none of them exists.

    Raises:
        UserError: a file cannot be read, or a file of the same name exists.
    """
    motions = read_inputs(config.inputs, MotionReader(config.files, config.max_motions))
    folder = config.save_dir or new_folder(VIEWS, config.inputs[0])
    check_free(folder, planned_files(motions, config.formats))
    return motions, folder


def read_inputs(inputs: Sequence[Path], reader: MotionReader) -> list[Motion]:
    """The motions of files and folders, with names of their own; what was peculiar goes to the error output.

    Raises:
        UserError: a file cannot be read.
    """
    motions: list[Motion] = []
    for path in inputs:
        found = reader.read(path)
        # Several folders have motions of the same names.
        prefix = f"{file_name(path.name)}_" if path.is_dir() and len(inputs) > 1 else ""
        motions += [replace(motion, name=f"{prefix}{motion.name}") for motion in found]
    for note in reader.notes:
        print(f"note: {note}", file=sys.stderr)
    return unique_names(motions)


def new_folder(parent: Path, first: Path) -> Path:
    """A folder below `parent` that does not exist, called after the first input."""
    name = file_name(first.absolute().stem)
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(path for path in (parent / name for name in names) if not path.exists())


def has_display() -> bool:
    """Whether a browser could show something."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
