"""Settings in files: presets, and YAML that may be nested, flat or mixed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from jobs.command_line.flags import UsageError, flags_of, is_none, shown, unknown
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.base.plain_yaml import yaml_mistake
from motions.settings import Settings, groups_of, retired_options, spelled_options

PRESETS = Path(__file__).resolve().parents[1] / "presets"


def preset_path(preset: str, job: str) -> Path:
    """The file of a preset given by name (`jobs/presets/NAME.yaml`) or by path."""
    if preset.endswith((".yaml", ".yml")):
        return given_file("preset", preset)
    path = PRESETS / f"{preset}.yaml"
    if not path.is_file():
        names = ", ".join(preset_names(job)) or "none"
        raise UsageError([f"--preset {preset}: no such preset; for {job} there are: {names}; or give a .yaml path"])
    return path


def given_file(flag: str, word: str) -> Path:
    """The file of options that a flag names. Raises a UsageError where there is none."""
    path = Path(os.path.expanduser(word))
    if not word or path.is_dir() or not path.exists():
        kind = "a folder" if word and path.is_dir() else "no such file"
        raise UsageError([f"--{flag} {shown(word)}: {kind}; expected a .yaml file"])
    return path


def preset_names(job: str) -> list[str]:
    """Names of the presets of a job."""
    return [
        path.stem
        for path in sorted(PRESETS.glob("*.yaml"))
        if yaml.safe_load(path.read_text(encoding="utf-8"))["job"] == job
    ]


def read_settings_file(path: Path, config: type[Settings], job: str) -> dict[str, Any]:
    """Values by dotted path of a YAML file, nested, flat or mixed. Its `job` key, if any, must name this job.

    Raises:
        UsageError: the file cannot be read, is no mapping, is for another job, or has an unknown or repeated key.
    """
    content = read_mapping(path)
    wanted = content.pop("job", job)
    if wanted != job:
        raise UsageError([f"{path}: these settings are for {wanted}, not for {job}"])
    flags, retired = flags_of(config), retired_options(config)
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    errors = []
    for spelling, option, value in spelled_options(config, content):
        if option is None and spelling in retired:
            if not retired[spelling].accepts(value):
                errors.append(f"{path}: {spelling} {value} is not supported: {retired[spelling].reason}")
        elif option is None and spelling in groups_of(config):
            errors.append(f"{path}: {spelling} is a group: expected a mapping of its options to values, got {value!r}")
        elif option is None:
            errors.append(f"{path}: {unknown(repr(spelling), spelling, flags)}")
        elif option in values:
            errors.append(f"{path}: {flags[option].name} is given twice: as {written[option]} and as {spelling}")
        else:
            flag = flags[option]
            values[option], written[option] = flag.nothing if is_none(flag, value) else value, spelling
    if errors:
        raise UsageError(errors)
    return values


def read_mapping(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds, its keys once each.

    Raises:
        UsageError: the file cannot be read or is no such mapping.
    """
    try:
        content = yaml.load(read_text(path), _UniqueKeys)
    except UserError as error:
        raise UsageError([str(error)]) from error
    except OSError as error:
        raise UsageError([f"{path}: {error.strerror or error}"]) from error
    except _RepeatedKeyError as error:
        raise UsageError([f"{path}, line {error.line}: {error.key} is given twice"]) from error
    except yaml.YAMLError as error:
        raise UsageError([f"{path}: not a YAML file: {yaml_mistake(error)}"]) from error
    if not isinstance(content, dict):
        found = "the file is empty" if content is None else f"got {type(content).__name__}"
        raise UsageError([f"{path}: expected a mapping of option names to values; {found}"])
    return content


class _RepeatedKeyError(Exception):
    def __init__(self, key: str, line: int) -> None:
        self.key, self.line = key, line


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a mapping may not say a key twice; PyYAML takes the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping. Raises _RepeatedKeyError."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _RepeatedKeyError(key.value, key.start_mark.line + 1)
                seen.add(key.value)
        return super().construct_mapping(node, deep)
