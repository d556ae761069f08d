"""Turns a settings model into a command line: flags, presets, files, `--help`, `--dry_run`, and error messages.

Values come from the model's defaults, then `--preset`, then `--config`, then the flags; later ones take precedence.
Mistakes are reported in one line each with exit code 2 and without traceback; `--debug` shows where they were raised.
Any other error is a bug: it keeps its traceback, which is also written to `error.log` in the job's folder, and ends the
process with Python's exit code 1.

    from jobs.command_line import main as cli
    run, plan = cli.later("jobs.text.pretraining:run"), cli.later("jobs.text.pretraining:plan")
    if __name__ == "__main__":
        sys.exit(cli.main(PretrainConfig, run, __doc__, job="jobs.pretrain", plan=plan))
"""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError

from cluster.runtime import stopping
from jobs.command_line.flags import Flag, ForeignFlag, UsageError, flags_of, known_flags, read_flags, unknown
from jobs.command_line.guard import Guard, Silenced
from jobs.command_line.help_text import help_text
from motions.base.errors import MistakesError, UserError, is_mendable
from motions.base.foreign_files import read_text
from motions.base.plain_yaml import plain_yaml
from motions.settings import (
    Settings,
    groups_of,
    grown,
    naming_options,
    nested_values,
    options_of,
    retired_options,
    spelled_options,
    spellings_of,
)

ERROR_LOG = "error.log"
PRESETS = Path(__file__).resolve().parents[1] / "presets"
SettingsT = TypeVar("SettingsT", bound=Settings)

CLI_FLAGS = {
    "preset": Flag("preset", (), "scalar", "name of a preset or path of a .yaml file", "none", False),
    "config": Flag("config", (), "scalar", "path of a .yaml file", "none", False),
    "dry_run": Flag("dry_run", (), "bool", "true or false", "false", False),
    "debug": Flag("debug", (), "bool", "true or false", "false", False),
    "help": Flag("help", ("h",), "bool", "true or false", "false", False),
}


@dataclass(frozen=True, slots=True)
class CommandLine(Generic[SettingsT]):
    """The settings and options that a command line gives."""

    settings: SettingsT
    dry_run: bool = False
    notes: tuple[str, ...] = ()
    """Notes about options of other public tools that change nothing here."""


@dataclass(slots=True)
class _Sources:
    """Values by dotted path and the place each came from, for the error messages."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def update(self, values: Mapping[str, Any], origin: str) -> None:
        """Sets values and their origin."""
        self.values.update(values)
        self.origins.update(dict.fromkeys(values, origin))


def later(place: str, threads: Callable[[Any], int] | None = None) -> Callable[[Any], None]:
    """The function `package.module:name` of a job's settings, imported when it is called: `--help` and mistakes in the
    options need neither torch nor Ray.

    Args:
        threads: of the numeric libraries, which read their number when they are imported, in this process and in those
            that it starts.
    """

    def call(settings: Any) -> None:
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads(settings))
        module, _, name = place.partition(":")
        getattr(importlib.import_module(module), name)(settings)

    return call


def main(
    config: type[SettingsT],
    run: Callable[[SettingsT], None],
    doc: str | None,
    job: str,
    plan: Callable[[SettingsT], None] | None = None,
    foreign: Mapping[str, ForeignFlag] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a job from the command line and returns its exit code: 0, 2 for what the user can mend, 75 if the Ray
    cluster under it is lost, 130 if it was stopped by Ctrl-C, 143 by SIGTERM, 137 by SIGKILL.

    Args:
        doc: docstring of the job's module, shown by `--help`.
        job: name of the module, such as `jobs.grpo`.
        plan: function for `--dry_run`: prints what would run and checks what can be checked without starting. It raises
            `UserError` if the run cannot start. Without it the resolved settings are printed.
        foreign: options of other public tools that are not settings here.
        argv: words after the module's name; by default `sys.argv[1:]`.

    Raises:
        Exception: any bug; with `--debug` also errors that the user can mend.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    words = list(sys.argv[1:] if argv is None else argv)
    settings = guard = None
    try:
        topic = _help_topic(words)
        if topic is not None:
            with _text_that_may_be_cut():
                print(help_text(with_named_groups(config, words, job), doc, job, preset_names(job), topic))
            return 0
        command = parse(config, words, job, foreign)
        settings = command.settings
        for note in command.notes:
            print(f"note: {note}", file=sys.stderr)
        if command.dry_run:
            with _text_that_may_be_cut():
                if plan is None:
                    print(settings_yaml(settings))
                else:
                    plan(settings)
        else:
            if argv is None and "--debug" not in words and _uses_ray(settings):
                guard = Guard.fork()
                if guard.is_parent:
                    return guard.wait()
            with stopping.handled():
                run(settings)
    except Silenced as silenced:
        stopped = _explained(silenced)
        print(_how_to_go_on(stopped, config, job, words), file=sys.stderr)
        return stopped.status
    except UsageError as error:
        for line in error.lines:
            print(f"error: {line}", file=sys.stderr)
        print(f"python -m {job} --help lists every option", file=sys.stderr)
        return 2
    except stopping.Stopped as stopped:
        print(_how_to_go_on(stopped, config, job, words), file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BaseException as error:
        if is_mendable(error) and "--debug" not in words:
            for text in _texts(error):
                print(f"error: {' '.join(text.split()) or type(error).__name__}", file=sys.stderr)
            return 2
        if isinstance(error, Exception) and not is_mendable(error):
            _write_error_log(settings, job, words)
        raise
    finally:
        if guard is not None and not guard.is_parent:
            guard.speaks()
    return 0


def parse(
    config: type[SettingsT], argv: Sequence[str], job: str, foreign: Mapping[str, ForeignFlag] | None = None
) -> CommandLine[SettingsT]:
    """Reads a command line into validated settings.

    Raises:
        UsageError: with one line per mistake.
    """
    notes: list[str] = []
    if config.positional and argv and not argv[0].startswith("-"):
        argv = [f"--{config.positional}", *argv]
    config = with_named_groups(config, argv, job)
    retired = {name: ForeignFlag(option.reason, option.accepted) for name, option in retired_options(config).items()}
    given = read_flags(argv, {**flags_of(config), **CLI_FLAGS}, {**retired, **(foreign or {})}, notes.append)
    sources = _Sources()
    for path, origin in _named_files(given, job):
        sources.update(read_settings_file(path, config, job), origin)
    dry_run = bool(given.pop("dry_run", False))
    given.pop("debug", None)
    sources.update(given, "")
    return CommandLine(validate(config, sources), dry_run, tuple(notes))


def with_named_groups(config: type[SettingsT], argv: Sequence[str], job: str) -> type[SettingsT]:
    """The model with the groups that options of a command line, or of the files that it names, add to it.

    Raises:
        UserError: a file cannot be read, or a group cannot be found.
    """
    if not (naming := naming_options(config)):
        return config
    flags = {path: flag for path, flag in flags_of(config).items() if path in naming}
    given = known_flags(argv, {**flags, "preset": CLI_FLAGS["preset"], "config": CLI_FLAGS["config"]})
    values: dict[str, Any] = {}
    for path, _ in _named_files(given, job):
        values |= {
            option: value for _, option, value in spelled_options(config, _read_mapping(path)) if option in naming
        }
    return grown(config, values | given)


def _named_files(given: dict[str, Any], job: str) -> Iterator[tuple[Path, str]]:
    """Takes preset and configuration out of the flags: files in the order in which they count, and what each is."""
    if isinstance(preset := given.pop("preset", None), str):
        yield preset_path(preset, job), f"preset {preset}"
    if isinstance(path := given.pop("config", None), str):
        yield Path(os.path.expanduser(path)), path


def preset_path(preset: str, job: str) -> Path:
    """The file of a preset given by name (`jobs/presets/NAME.yaml`) or by path."""
    if preset.endswith((".yaml", ".yml")):
        return Path(os.path.expanduser(preset))
    path = PRESETS / f"{preset}.yaml"
    if not path.is_file():
        names = ", ".join(preset_names(job)) or "none"
        raise UsageError([f"--preset {preset}: no such preset; for {job} there are: {names}; or give a .yaml path"])
    return path


def preset_names(job: str) -> list[str]:
    """Names of the presets of a job."""
    return [
        path.stem
        for path in sorted(PRESETS.glob("*.yaml"))
        if yaml.safe_load(path.read_text(encoding="utf-8"))["job"] == job
    ]


def load_preset(config: type[SettingsT], preset: str, job: str, **overrides: object) -> SettingsT:
    """The settings of a preset with some values replaced, for jobs and benchmarks that start other jobs."""
    config = with_named_groups(config, ["--preset", preset], job)
    sources = _Sources()
    sources.update(read_settings_file(preset_path(preset, job), config, job), f"preset {preset}")
    sources.update({spellings_of(config)[name]: value for name, value in overrides.items()}, "")
    return validate(config, sources)


def read_settings_file(path: Path, config: type[Settings], job: str) -> dict[str, Any]:
    """Values by dotted path of a YAML file, nested, flat or mixed. Its `job` key, if any, must name this job.

    Raises:
        UsageError: the file cannot be read, is no mapping, is for another job, or has an unknown or repeated key.
    """
    content = _read_mapping(path)
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
            values[option], written[option] = value, spelling
    if errors:
        raise UsageError(errors)
    return values


def _read_mapping(path: Path) -> dict[Any, Any]:
    try:
        content = yaml.load(read_text(path), _UniqueKeys)
    except UserError as error:
        raise UsageError([str(error)]) from error
    except OSError as error:
        raise UsageError([f"{path}: {error.strerror or error}"]) from error
    except _RepeatedKeyError as error:
        raise UsageError([f"{path}, line {error.line}: {error.key} is given twice"]) from error
    except yaml.YAMLError as error:
        raise UsageError([f"{path}: not a YAML file: {' '.join(str(error).split())}"]) from error
    if not isinstance(content, dict):
        raise UsageError([f"{path}: expected a mapping of option names to values, got {type(content).__name__}"])
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


def validate(config: type[SettingsT], sources: _Sources) -> SettingsT:
    """The validated model. Raises a `UsageError` that names option, value, origin and legal values."""
    try:
        return config.model_validate(nested_values(config, sources.values))
    except ValidationError as error:
        lines = [_error_line(dict(detail), sources, config) for detail in error.errors(include_url=False)]
        raise UsageError(list(dict.fromkeys(lines))) from error


def settings_yaml(settings: Settings) -> str:
    """Every resolved setting, group by group, as a file that `--config` reads back."""
    return plain_yaml(settings.model_dump(mode="json")).rstrip()


def command_of(settings: Settings, job: str) -> str:
    """The shortest command line that gives these settings: every value that differs from its default, as a flag."""
    words = ["python", "-m", job]
    plain = settings.by_path()
    for path, option in options_of(type(settings)).items():
        value, default = plain[path], option.field
        if not default.is_required() and option.of(settings) == default.get_default(call_default_factory=True):
            continue
        if isinstance(value, bool):
            words.append(f"--{option.flag}" if value else f"--no_{option.flag}")
        elif isinstance(value, list):
            words += _assigned(option.flag, [*map(str, value)] or ["none"])
        else:
            words += _assigned(option.flag, ["none" if value is None else str(value)])
    return shlex.join(words)


def _assigned(flag: str, values: Sequence[str]) -> list[str]:
    """Words that give an option its values; one that looks like an option is joined to the flag."""
    if any(value.lstrip().startswith("--") for value in values):
        return [f"--{flag}={value}" for value in values]
    return [f"--{flag}", *values]


@contextmanager
def _text_that_may_be_cut() -> Iterator[None]:
    """For a block that only prints: a reader such as `head` may close the pipe before the end."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _texts(error: BaseException) -> Sequence[str]:
    """What is wrong, mistake by mistake."""
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False)
        places = [".".join(map(str, detail["loc"])) for detail in details]
        messages = [str(detail["msg"]).removeprefix("Value error, ") for detail in details]
        return [": ".join(filter(None, pair)) for pair in zip(places, messages, strict=True)]
    return error.lines if isinstance(error, MistakesError) else (str(error),)


def _help_topic(words: Sequence[str]) -> str | None:
    """The word behind `--help` or in `--help=WORD`, or an empty one; None where no help is asked for."""
    for index, word in enumerate(words):
        name, _, topic = word.partition("=")
        if name in ("--help", "-h"):
            following = [topic] if topic else words[index + 1 : index + 2]
            return "" if not following or following[0].startswith("-") else following[0]
    return None


def _uses_ray(settings: Settings) -> bool:
    """Whether the job runs on Ray if it is not told otherwise."""
    place = spellings_of(type(settings)).get("runtime")
    return place is not None and options_of(type(settings))[place].of(settings) == "ray"


def _explained(silenced: Silenced) -> stopping.Stopped:
    """What ended a process that said nothing."""
    if silenced.status < 0:
        name = signal.Signals(-silenced.status).name
        reason = f"the process of the run was killed by {name}"
        return stopping.Stopped(
            f"{reason} (is the memory full?)" if name == "SIGKILL" else reason, 128 - silenced.status
        )
    return stopping.ClusterLost(
        "the Ray cluster is lost: Ray ended the process of the run, as it does when the raylet of its node or the head "
        "(GCS) has ended"
    )


def _how_to_go_on(stopped: stopping.Stopped, config: type[Settings], job: str, words: Sequence[str]) -> str:
    """What was stopped and saved, and the command that continues it, if the job can be continued."""
    if "resume" not in spellings_of(config):
        return str(stopped)
    kept: list[str] = []
    left_out = False
    for word in words:
        value_of_it = left_out and word.lower() in ("true", "false")
        left_out = word.split("=")[0] in ("--overwrite", "--resume")
        if not left_out and not value_of_it:
            kept.append(word)
    command = shlex.join(["python", "-m", job, *kept, "--resume"])
    return f"{stopped}{'; ' if stopped.saved else ''}{stopped.saved}. To go on:\n  {command}"


def _error_line(detail: dict[str, Any], sources: _Sources, config: type[Settings]) -> str:
    path = _option_at(config, detail["loc"])
    message = str(detail["msg"]).removeprefix("Value error, ")
    if path is None:
        return message
    flag = flags_of(config)[path]
    if detail["type"] == "missing":
        return f"--{flag.name} is required: {flag.legal}"
    origin = sources.origins.get(path)
    place = "default" if origin is None else origin
    value = sources.values.get(path, detail["input"])
    shown = (" ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else value
    behind = f" ({place})" if place else ""
    name = path.rpartition(".")[2]
    if detail["type"] == "value_error" and message.startswith(name):
        return f"--{flag.name}{message.removeprefix(name)}{behind}"
    if detail["type"] == "value_error":
        return f"--{flag.name} {shown}{behind}: {message}"
    legal = flag.legal.replace("number", "finite number", 1) if detail["type"] == "finite_number" else flag.legal
    return f"--{flag.name} {shown}{behind}: expected {legal}"


def _option_at(config: type[Settings], place: Sequence[int | str]) -> str | None:
    """Dotted path of the option at which an error is placed; None for one of a group or of the whole model."""
    if not place:
        return None
    first, groups = str(place[0]), groups_of(config)
    if first in groups and len(place) > 1:
        inner = _option_at(groups[first], place[1:])
        return None if inner is None else f"{first}.{inner}"
    return None if first in groups else spellings_of(config).get(first)


def _write_error_log(settings: Settings | None, job: str, words: Sequence[str]) -> None:
    """Appends the present error to `error.log` in the job's folder.

    Only if the folder is not empty: several jobs require a new or empty one, and could otherwise not be tried again.
    """
    folder = getattr(settings, "folder", None)
    if settings is not None and folder is None:
        place = spellings_of(type(settings)).get("save_dir")
        folder = None if place is None else options_of(type(settings))[place].of(settings)
    with suppress(OSError):
        if folder is not None and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            with open(folder / ERROR_LOG, "a", encoding="utf-8") as file:
                command = shlex.join(["python", "-m", job, *words])
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S %z')} {command}\n{traceback.format_exc()}\n")
            print(f"this is a bug; it is written to {folder / ERROR_LOG} too", file=sys.stderr)
