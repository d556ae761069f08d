"""The directory of a run: its files, exclusive access to it, its checkpoints.

    config.yaml          every option of the run
    manifest.json        the last commit: step, policy version, checkpoint files with their SHA-256, data, versions
    metrics.jsonl        one object a line, `step` counts finished updates
    evaluations.jsonl    one object per evaluation, with the value of every term for every prompt and sample
    checkpoints/step_000000010/   learner.pt, what the job exports, and a copy of the manifest
    best/step_000000010/          the same of the checkpoint with the best value of `best_metric`
    samples/, report.html         the job's

Choices: a checkpoint is written into a hidden folder, renamed, and only then named by the manifest, so that a killed
process or a full disk leaves the previous one as it was. Without the manifest the run continues from the newest intact
checkpoint. Lines of the two .jsonl files beyond the manifest's step are cut when the run continues, so that nothing is
recorded twice. Nothing else that was there is deleted or overwritten, except older checkpoints of this very run beyond
the number to keep (see cluster/records/checkpoints.py). The best checkpoint is made of hard links where the file system
has them, so that it takes room only once the checkpoint itself is gone. A lock keeps a second process out (a retried
job whose first try still runs). How a directory is opened, and which options may change then, is in
cluster/records/opening.py.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import logging
import math
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.records.checkpoints import (
    MANIFEST,
    BestCheckpoint,
    Manifest,
    RunDirectoryError,
    checkpoint_name,
    checkpoints_in,
    damage,
    last_commit,
    link_or_copy,
    remove_checkpoint,
    remove_unfinished,
    sha256,
    write_manifest,
)
from cluster.records.measured import read_records
from cluster.records.opening import (
    CONFIG,
    EVALUATIONS,
    LOCK,
    METRICS,
    Opening,
    allowed_changes,
    config_sha256,
    config_yaml,
    inspect,
    move_aside,
    require_options,
)
from cluster.settings import RunSettings
from motions.base.atomic import WriteError, atomic_write
from motions.base.errors import UserError
from motions.base.safe_files import read_tensor_file
from motions.settings import Settings

logger = logging.getLogger(__name__)

LEARNER_STATE = "learner.pt"
LINKED_BYTES = 1 << 20
"""From this size on an exported file is linked, not copied."""
LIBRARIES = ("kinetune", "numpy", "torch", "ray", "peft", "transformers", "mujoco", "pybullet")

Export = Callable[[Path], object]
"""Writes the files of a checkpoint that users need (adapters, merged weights) into its folder."""


class CheckpointWriteError(OSError, UserError):
    """A checkpoint could not be written; the previous one is intact."""


class RunDirectory:
    """An open run directory; create one with `RunDirectory.open`."""

    def __init__(self, path: Path, settings: RunSettings, config: Settings, data_fingerprint: str) -> None:
        self.path = path
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"
        self.best = path / "best"
        self.manifest: Manifest | None = None
        self._settings = settings
        self._config = config
        self._data_fingerprint = data_fingerprint
        self._origin = settings.seed, config_sha256(config), data_fingerprint
        self._origins = {self._origin}
        """Those of this run's checkpoints: more than one if options were allowed to change."""
        self._lock: int | None = None

    @classmethod
    def open(cls, settings: RunSettings, config: Settings, data_fingerprint: str) -> RunDirectory:
        """Opens the directory: a new one (an old run may be moved aside), or that of the last commit.

        Args:
            settings: path, and whether to resume or overwrite.
            config: all options of the job.
            data_fingerprint: hash of the data and prompts; a run with another one is not resumed.

        Raises:
            RunDirectoryError: for the reasons given at `inspect`; also if another process still uses the directory, or
                if an option, the data or a checkpoint file has changed at resume.
            WriteError: the directory cannot be written to.
        """
        opening = inspect(settings)
        if opening != "resume":
            require_options(config)
        path = settings.save_dir.absolute()
        directory = cls(path, settings, config, data_fingerprint)
        if opening == "overwrite":
            # A run that is still alive would continue to write into the files of the new one.
            directory._take_lock()
            move_aside(path)
            directory.close()
        try:
            for folder in (path, directory.checkpoints, directory.samples):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"save_dir {path} cannot be created: {error.strerror}") from error
        directory._take_lock()
        try:
            directory._prepare(opening)
        except BaseException:
            directory.close()
            raise
        return directory

    @property
    def step(self) -> int:
        """Number of committed updates."""
        return self.manifest.step if self.manifest else 0

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Adds a line to `metrics.jsonl`."""
        _append(self.path / METRICS, record)

    def append_evaluation(self, record: Mapping[str, Any]) -> None:
        """Adds a line to `evaluations.jsonl`."""
        _append(self.path / EVALUATIONS, record)

    def evaluated(self, step: int) -> bool:
        """Whether `evaluations.jsonl` has an evaluation of this step."""
        return any(record["step"] == step for record in read_records(self.path / EVALUATIONS))

    def rewind(self) -> None:
        """Removes lines beyond the last commit, and checkpoints whose writing was interrupted."""
        for name in (METRICS, EVALUATIONS):
            path = self.path / name
            if path.is_file():
                kept = [record for record in read_records(path) if record["step"] <= self.step]
                with atomic_write(path) as file:
                    file.writelines(json.dumps(record).encode() + b"\n" for record in kept)
        for folder in (self.checkpoints, self.best):
            remove_unfinished(folder)
        self._drop_former_best()

    def save_checkpoint(
        self,
        step: int,
        policy_version: int,
        state: Mapping[str, Any],
        export: Export | None = None,
        value: float | None = None,
    ) -> None:
        """Writes and commits a checkpoint, then deletes old ones beyond `keep_checkpoints`.

        Args:
            export: writes what belongs beside the learner's state.
            value: of `best_metric` at this step; None where it was not measured.

        Raises:
            CheckpointWriteError: it cannot be written (for example because the disk is full); the last commit stays
                valid.
        """
        import torch

        name = checkpoint_name(step)
        hidden = self.checkpoints / f".{name}"
        best = self._best_with(step, value)
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir(parents=True)
            with atomic_write(hidden / LEARNER_STATE) as file:
                torch.save(dict(state), file)
            if export is not None:
                export(hidden)
            files = {str(p.relative_to(hidden)): sha256(p) for p in sorted(hidden.rglob("*")) if p.is_file()}
            manifest = Manifest(
                step,
                policy_version,
                name,
                files,
                *self._origin,
                library_versions(),
                best,
            )
            write_manifest(hidden / MANIFEST, manifest)
            self._put_in_place(hidden)
            if best is not None and best.step == step:
                self._keep_apart(name)
            write_manifest(self.path / MANIFEST, manifest)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            kept = (
                f"the one of step {self.step} is intact, resume from there" if self.manifest else "there was none yet"
            )
            raise CheckpointWriteError(error.errno, f"checkpoint of step {step}: {error}; {kept}") from error
        self.manifest = manifest
        ours = [kept for kept in self._own_checkpoints(self.checkpoints) if kept.step <= step]
        kept_names = {name for kept in ours[-self._settings.keep_checkpoints :] for name in kept.files}
        for old in ours[: -self._settings.keep_checkpoints]:
            self._withdraw(old, kept_names)
            remove_checkpoint(self.checkpoints / old.checkpoint, old)
        self._drop_former_best()

    def publish(self) -> None:
        """Put what the last checkpoint exported on top of the directory: large files as hard links, which take no room,
        small ones as copies, since people may edit those in place."""
        assert self.manifest is not None
        for name in self.manifest.files.keys() - {LEARNER_STATE}:
            source, target = self.checkpoints / self.manifest.checkpoint / name, self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".{target.name}.new")
            fresh.unlink(missing_ok=True)
            if source.stat().st_size < LINKED_BYTES:
                shutil.copyfile(source, fresh)
            else:
                link_or_copy(str(source), str(fresh))
            fresh.replace(target)

    def _withdraw(self, old: Manifest, kept_names: set[str]) -> None:
        """Removes from the top of the directory what a checkpoint published and no kept one will replace, such as the
        model file of its step; not what somebody has changed since."""
        for name in old.files.keys() - kept_names:
            published = self.path / name
            if published.is_file() and sha256(published) == old.files[name]:
                published.unlink()

    def load_state(self) -> dict[str, Any]:
        """The learner's state at the last commit.

        Raises:
            RunDirectoryError: a file is missing, or its SHA-256 differs from the manifest's.
        """
        assert self.manifest is not None
        folder = self.checkpoints / self.manifest.checkpoint
        problem = damage(folder, self.manifest)
        if problem is not None:
            raise RunDirectoryError(problem)
        return read_tensor_file(folder / LEARNER_STATE)

    def close(self) -> None:
        """Releases the lock, so that other processes can open the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _best_with(self, step: int, value: float | None) -> BestCheckpoint | None:
        """The best checkpoint once there is one of this step and value."""
        metric, mode = self._settings.best_metric, self._settings.best_mode
        before = self.manifest.best if self.manifest else None
        if metric is None or value is None or not math.isfinite(value):
            return before
        if before is not None and (before.metric, before.mode) == (metric, mode):
            sign = 1 if mode == "max" else -1
            # Of equal values the first stays: a copy less.
            if sign * value <= sign * before.value:
                return before
        return BestCheckpoint(metric, mode, value, step, f"{self.best.name}/{checkpoint_name(step)}")

    def _keep_apart(self, name: str) -> None:
        hidden = self.best / f".{name}"
        shutil.rmtree(hidden, ignore_errors=True)
        shutil.copytree(self.checkpoints / name, hidden, copy_function=link_or_copy)
        self._put_in_place(hidden)

    def _put_in_place(self, hidden: Path) -> None:
        """Gives a finished checkpoint its name. An earlier one of this run makes room, anything else moves aside."""
        target = hidden.with_name(hidden.name[1:])
        for before in self._own_checkpoints(target.parent):
            if before.checkpoint == target.name:
                remove_checkpoint(target, before)
        if target.exists():
            move_aside(target)
        hidden.rename(target)

    def _own_checkpoints(self, folder: Path) -> list[Manifest]:
        return [manifest for manifest in checkpoints_in(folder) if manifest.origin in self._origins]

    def _drop_former_best(self) -> None:
        kept = self.manifest.best.folder if self.manifest and self.manifest.best else None
        for manifest in self._own_checkpoints(self.best):
            folder = self.best / manifest.checkpoint
            if kept is None or folder != self.path / kept:
                remove_checkpoint(folder, manifest)

    def _take_lock(self) -> None:
        try:
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunDirectoryError(f"save_dir {self.path} is not writable: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have moved the folder aside since the file was opened.
            if not os.path.samestat(os.fstat(self._lock), os.stat(self.path / LOCK)):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError) as error:
            self.close()
            raise RunDirectoryError(f"save_dir {self.path} is in use by another run that is still alive") from error

    def _prepare(self, opening: Opening) -> None:
        text = config_yaml(self._config).encode()
        if opening == "resume":
            self._resume()
        with atomic_write(self.path / CONFIG) as file:
            file.write(text)

    def _resume(self) -> None:
        self.manifest = last_commit(self.path)
        if self.manifest is not None:
            self._origins.add(self.manifest.origin)
            if not (self.path / MANIFEST).is_file():
                logger.warning(
                    "%s is missing: the run continues from %s", self.path / MANIFEST, self.manifest.checkpoint
                )
                write_manifest(self.path / MANIFEST, self.manifest)
        known = self._data_fingerprint if self.manifest is None else self.manifest.data_fingerprint
        if allowed_changes(self._settings, self._config, known, self._data_fingerprint):
            shutil.copyfile(self.path / CONFIG, self.path / f"config_until_step_{self.step:09d}.yaml")
        self.rewind()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that can change results."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _append(path: Path, record: Mapping[str, Any]) -> None:
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise WriteError.of(path, error) from error
