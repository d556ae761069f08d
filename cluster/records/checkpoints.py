"""Checkpoints in a run directory: their names, what each says about itself, which are intact, how one is removed.

A folder is a checkpoint if it is named `step_000000010` and holds a `manifest.json` that names this folder. Everything
else beside it is somebody else's (a copy under another name, files of a file manager or of a network file system) and
is neither read nor removed. Of a checkpoint only the files that its manifest names are removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from motions.base.atomic import atomic_write
from motions.base.errors import UserError

MANIFEST = "manifest.json"
_NAME = re.compile(r"step_\d{9,}")


class RunDirectoryError(UserError):
    """The directory cannot be used as requested; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """The checkpoint with the best value of a metric."""

    metric: str
    mode: Literal["max", "min"]
    value: float
    step: int
    folder: str
    """Below the run directory."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Record of a commit."""

    step: int
    """Number of finished updates."""
    policy_version: int
    checkpoint: str
    """Name of the checkpoint's folder in `checkpoints/`."""
    files: dict[str, str]
    """Name of each file in that folder -> SHA-256."""
    seed: int
    config_sha256: str
    data_fingerprint: str
    versions: dict[str, str]
    best: BestCheckpoint | None = None
    """None where no `best_metric` was measured at a checkpoint."""

    @property
    def origin(self) -> tuple[int, str, str]:
        """What the checkpoints of one run have in common: seed, options that affect results, data."""
        return self.seed, self.config_sha256, self.data_fingerprint


def checkpoint_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step_{step:09d}"


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        RunDirectoryError: the file is damaged or no manifest.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        # Runs of before the best was kept have none.
        best = values.pop("best", None)
        manifest = Manifest(**values, best=None if best is None else BestCheckpoint(**best))
        outside = [name for name in manifest.files if Path(name).is_absolute() or ".." in Path(name).parts]
        if outside or not _NAME.fullmatch(manifest.checkpoint):
            raise ValueError(f"it names {outside[0] if outside else manifest.checkpoint!r}, which is no part of it")
        return manifest
    except (AttributeError, TypeError, ValueError) as error:
        raise RunDirectoryError(
            f"{path} is no manifest of a run: {error}. Move it away to continue from the newest intact checkpoint"
        ) from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest to a file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(json.dumps(asdict(manifest), indent=2).encode() + b"\n")


def checkpoints_in(folder: Path) -> list[Manifest]:
    """Manifests of the checkpoints in a folder, by step; what is no checkpoint is left out."""
    manifests = []
    for entry in folder.glob("step_*"):
        if _NAME.fullmatch(entry.name) and (entry / MANIFEST).is_file():
            with suppress(RunDirectoryError):
                manifests.append((entry.name, read_manifest(entry / MANIFEST)))
    return sorted((found for name, found in manifests if found.checkpoint == name), key=lambda found: found.step)


def damage(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the files of a checkpoint; None if all are as they were written."""
    for name, digest in manifest.files.items():
        if not (folder / name).is_file():
            return f"{folder / name} is missing; the manifest names it"
        if sha256(folder / name) != digest:
            return f"{folder / name} is not the file that was written: its SHA-256 differs"
    return None


def last_commit(run: Path) -> Manifest | None:
    """The commit from which a run continues; None if it has made no checkpoint yet.

    It is the one that `manifest.json` names. If that file is gone, it is the newest intact checkpoint.

    Raises:
        RunDirectoryError: the file is damaged, or it is gone and no checkpoint is intact.
    """
    if (run / MANIFEST).is_file():
        return read_manifest(run / MANIFEST)
    folder = run / "checkpoints"
    problems = []
    for manifest in reversed(checkpoints_in(folder)):
        problem = damage(folder / manifest.checkpoint, manifest)
        if problem is None:
            return manifest
        problems.append(problem)
    left = [entry for place in (folder, run / "best") for entry in place.glob("step_*") if _NAME.fullmatch(entry.name)]
    if left:
        problems = problems or [f"{entry} is left, which is not a whole checkpoint" for entry in left]
        raise RunDirectoryError(
            f"{run / MANIFEST} is missing, and no checkpoint is intact from which the run could continue: "
            f"{'; '.join(problems)}. Move the folder aside with --overwrite to start anew"
        )
    return None


def remove_checkpoint(folder: Path, manifest: Manifest) -> None:
    """Removes the files that a manifest names, the manifest, and the folders that are empty then."""
    for name in (*manifest.files, MANIFEST):
        (folder / name).unlink(missing_ok=True)
    inner = {parent for name in manifest.files for parent in (folder / name).parents if folder in parent.parents}
    for place in (*sorted(inner, key=lambda path: -len(path.parts)), folder):
        with suppress(OSError):
            place.rmdir()


def remove_unfinished(folder: Path) -> None:
    """Removes checkpoints whose writing was interrupted: hidden folders that are named as checkpoints are."""
    for entry in folder.glob(".step_*"):
        if _NAME.fullmatch(entry.name[1:]) and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def link_or_copy(source: str, target: str) -> None:
    """A second name for a file, which takes no room, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
