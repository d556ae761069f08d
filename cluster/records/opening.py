"""How a run directory is opened, and which options may be others when a run is resumed."""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml

from cluster.records.checkpoints import MANIFEST, RunDirectoryError, last_commit
from cluster.runtime.ray_job import in_ray_job
from cluster.settings import RunSettings
from motions.base.foreign_files import read_text
from motions.base.plain_yaml import plain_yaml, yaml_mistake
from motions.settings import (
    Settings,
    SettingsT,
    changeable_options,
    kept_values,
    options_of,
    retired_options,
    spelled_options,
    spellings_of,
)

CONFIG = "config.yaml"
OF_ONE_CALL = ("resume", "overwrite", "allow_changed")
"""Options that say how to open a run directory: they are of one call, and `config.yaml` is without them."""
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
LOCK = ".lock"
_WITHOUT_RECORDS = (CONFIG, "error.log", "stages.json", "trace.json", "events.out.tfevents", "wandb_id.txt")
"""Beginnings of the names of files that a run writes before it has recorded anything."""

Opening = Literal["new", "resume", "overwrite"]


def read_config(folder: Path) -> dict[str, Any]:
    """The options in the `config.yaml` of a run directory, nested by group or flat.

    Raises:
        RunDirectoryError: the file is no longer one of options, because somebody has edited it.
    """
    path = folder / CONFIG
    try:
        values = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise RunDirectoryError(f"{path}: not a YAML file: {yaml_mistake(error)}") from error
    if not isinstance(values, dict):
        raise RunDirectoryError(f"{path}: expected options by name, found a {type(values).__name__}")
    return values


def inspect(
    settings: RunSettings, environ: Mapping[str, str] = os.environ, *, config: Settings | None = None
) -> Opening:
    """How `RunDirectory.open` would open the directory; changes nothing, for `--dry_run`.

    A run that ended before its first step does not stand in the way of the next try: a directory without any record is
    as good as a new one, and one in which only the start was measured is moved aside.

    Args:
        config: all options of the job, to compare with those of a run that would be resumed.

    Raises:
        RunDirectoryError: a relative path inside a Ray job, not a directory, not writable, or not empty while neither
            `resume` nor `overwrite` allows it; an option that may not change at a resume; `allow_changed` names what is
            no option.
    """
    opening = _opening(settings, environ)
    if config is not None and opening == "resume":
        last_commit(settings.save_dir)
        allowed_changes(settings, config)
    elif config is not None:
        require_options(config)
    return opening


def _opening(settings: RunSettings, environ: Mapping[str, str]) -> Opening:
    path = settings.save_dir
    check_place(path, environ)
    # Hidden names are those of file managers and file systems, and our lock.
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} if path.is_dir() else set()
    if not names or _is_blank(path):
        return "new"
    if CONFIG not in names:
        raise RunDirectoryError(
            f"save_dir {path} is not empty and holds no run (no {CONFIG}); choose an empty or new directory"
        )
    if settings.resume:
        return "resume"
    if settings.overwrite or _has_no_step(path):
        return "overwrite"
    raise RunDirectoryError(
        f"save_dir {path} holds a run already; continue it with --resume, or move it aside with --overwrite"
    )


def in_use(path: Path) -> bool:
    """Whether a process has a run directory open."""
    if not (path / LOCK).is_file():
        return False
    with open(path / LOCK, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_blank(path: Path) -> bool:
    """Whether a run was opened here that recorded nothing, so that it may be tried again with any options."""
    return _was_opened(path) and all(
        entry.name.startswith((".", *_WITHOUT_RECORDS)) for entry in path.rglob("*") if not entry.is_dir()
    )


def _has_no_step(path: Path) -> bool:
    """Whether a run was opened here that made no step, and only measured the start."""
    metrics = path / METRICS
    if not _was_opened(path) or (path / MANIFEST).exists() or not metrics.is_file():
        return False
    with open(metrics, encoding="utf-8") as lines, suppress(ValueError):
        return all(json.loads(line)["step"] == 0 for line in lines)
    return False


def _was_opened(path: Path) -> bool:
    return all((path / name).exists() for name in (LOCK, CONFIG, "checkpoints"))


def allowed_changes(settings: RunSettings, config: Settings, data_before: str = "", data: str = "") -> dict[str, str]:
    """Options that affect results and are others than those of the run in `save_dir`: flag -> what changed.

    Args:
        data_before: fingerprint of the run's data.
        data: fingerprint of the data now.

    Raises:
        RunDirectoryError: `allow_changed` does not name one of them, or names what is no option.
    """
    spellings = spellings_of(type(config))
    path = settings.save_dir.absolute()
    changed = changed_options(read_config(path), config)
    if data_before != data:
        changed["data"] = f"was {data_before}, is {data}"
    require_options(config, changed)
    allowed = {spellings.get(name, name) for name in settings.allow_changed}
    refused = {name: what for name, what in changed.items() if spellings.get(name, name) not in allowed}
    if refused:
        listed = "; ".join(f"{name} {what}" for name, what in refused.items())
        raise RunDirectoryError(
            f"the run in {path} had other options, and results depend on them: {listed}. Give them as they were, or "
            f"allow the change with --allow_changed {' '.join(refused)}"
        )
    return changed


def require_options(config: Settings, gone: Collection[str] = ()) -> None:
    """Checks what the user allows to change.

    Args:
        gone: options that only an older version of the job had.

    Raises:
        RunDirectoryError: `allow_changed` names what is neither an option of the job nor its data.
    """
    spellings = spellings_of(type(config))
    if "allow_changed" not in spellings:
        return
    named = options_of(type(config))[spellings["allow_changed"]].of(config)
    for name in named:
        if name not in ("data", *spellings, *gone):
            near = difflib.get_close_matches(name, ["data", *spellings], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RunDirectoryError(f"allow_changed {name}: legal are data and the names of this job's options{hint}")


def config_yaml(config: Settings) -> str:
    """The content of `config.yaml`."""
    values = _without(config.model_dump(mode="json"), OF_ONE_CALL)
    return plain_yaml(values)


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Options, which may be nested by group, without some of them."""
    return {
        name: _without(value, names) if isinstance(value, dict) else value
        for name, value in values.items()
        if name not in names
    }


def check_place(path: Path, environ: Mapping[str, str] = os.environ, *, option: str = "save_dir") -> None:
    """Checks that a folder can be created, or written to if it exists; changes nothing.

    Args:
        option: that names it, for the messages.

    Raises:
        RunDirectoryError: a relative path inside a Ray job, a file in its place, or not writable.
    """
    if not path.is_absolute() and in_ray_job(environ):
        raise RunDirectoryError(
            f"{option} {str(path)!r} is relative, and this is a Ray job: its working copy is thrown away with "
            "everything in it. Give an absolute path on storage that you can read afterwards"
        )
    parent = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not parent.is_dir():
        raise RunDirectoryError(f"{option} {path}: {parent} is a file, not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunDirectoryError(f"{option} {path} is not writable: {parent} belongs to somebody else or is read-only")


def check_output(option: str, path: Path) -> None:
    """Checks that a file can be written or replaced; changes nothing.

    Raises:
        RunDirectoryError: a folder in its place, or what `check_place` raises of its folder.
    """
    if path.is_dir():
        raise RunDirectoryError(f"{option} {path} is a folder; expected the name of a file")
    check_place(path.parent, option=option)


def move_aside(path: Path) -> None:
    """Renames a folder to `<name>.old-1` (`-2`, ...), the first that is free."""
    number = 1
    while (target := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    path.rename(target)


def changed_options(before: Mapping[str, Any], config: Settings) -> dict[str, str]:
    """Options that affect results and differ from those of a `config.yaml`, which may be nested or flat: flag -> what
    changed."""
    options, retired, free = options_of(type(config)), retired_options(type(config)), changeable_options(config)
    changed = {options[path].flag: what for path, what in differing_options(before, config).items() if path not in free}
    for spelling, path, value in spelled_options(type(config), before):
        if path is None and (spelling not in retired or not retired[spelling].accepts(value)):
            changed[spelling] = f"is gone (was {value})"
    return dict(sorted(changed.items()))


def differing_options(before: Mapping[str, Any], config: Settings) -> dict[str, str]:
    """All options that differ from those of a `config.yaml`: dotted path -> what changed. An option that the file does
    not know yet has not changed where it means what there was before it."""
    now = config.by_path()
    then = {path: value for _, path, value in spelled_options(type(config), before) if path is not None}
    changed = {}
    for path, option in options_of(type(config)).items():
        if path not in then:
            if option.of(config) != option.before:
                changed[path] = f"is new ({now[path]})"
        elif then[path] != now[path]:
            changed[path] = f"was {then[path]}, is {now[path]}"
    return changed


def as_begun(settings: RunSettings, config: SettingsT) -> SettingsT:
    """The options of a run that is resumed, where defaults have changed since it began; others are as they are."""
    if not settings.resume or not (settings.save_dir / CONFIG).is_file():
        return config
    return kept_values(config, read_config(settings.save_dir))


def config_sha256(config: Settings) -> str:
    """Hash of the options that affect results."""
    free = changeable_options(config)
    flags = {path: option.flag for path, option in options_of(type(config)).items()}
    relevant = {flags[path]: value for path, value in config.by_path().items() if path not in free}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
