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
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from pydantic import ValidationError

from cluster.runtime import stopping
from jobs.command_line.endings import explained, has_made_all_steps, how_to_go_on, resuming
from jobs.command_line.flags import Flag, ForeignFlag, UsageError, flags_of, is_none, known_flags, read_flags
from jobs.command_line.guard import Guard, Silenced
from jobs.command_line.help_text import help_text
from jobs.command_line.settings_files import given_file, preset_names, preset_path, read_mapping, read_settings_file
from jobs.command_line.validation import Sources, check_outputs, validate, with_dashes
from motions.base.errors import MistakesError, is_mendable
from motions.base.plain_yaml import plain_yaml
from motions.settings import (
    Settings,
    SettingsT,
    grown,
    naming_options,
    options_of,
    retired_options,
    spelled_options,
    spellings_of,
)

ERROR_LOG = "error.log"

CLI_FLAGS = {
    "preset": Flag("preset", (), "scalar", "name of a preset or path of a .yaml file", "none", False),
    "config": Flag("config", (), "scalar", "path of a .yaml file", "none", False),
    "dry_run": Flag("dry_run", (), "bool", "true or false", "false", False),
    "debug": Flag("debug", (), "bool", "true or false", "false", False),
    "help": Flag("help", (), "bool", "true or false", "false", False),
}


@dataclass(frozen=True, slots=True)
class CommandLine(Generic[SettingsT]):
    """The settings and options that a command line gives."""

    settings: SettingsT
    dry_run: bool = False
    notes: tuple[str, ...] = ()
    """Notes about options of other public tools that change nothing here."""


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
    outputs: Sequence[str] = ("save_dir", "output_dir"),
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
        outputs: options that name a folder in which this machine will write: those that the job has are checked first.

    Raises:
        Exception: any bug; with `--debug` also errors that the user can mend.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    words = list(sys.argv[1:] if argv is None else argv)
    debug = known_flags(words, {"debug": CLI_FLAGS["debug"]}).get("debug") is True
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
        check_outputs(settings, outputs)
        if command.dry_run:
            with _text_that_may_be_cut():
                if plan is None:
                    print(settings_yaml(settings))
                else:
                    plan(settings)
        else:
            if argv is None and not debug and _uses_ray(settings):
                guard = Guard.fork()
                if guard.is_parent:
                    return guard.wait()
            with stopping.handled(ends=guard is not None):
                run(settings)
    except UsageError as error:
        for line in error.lines:
            print(f"error: {line}", file=sys.stderr)
        print(f"python -m {job} --help lists every option", file=sys.stderr)
        return 2
    except (Silenced, stopping.Stopped) as ending:
        assert settings is not None, "only a run is stopped"
        stopped = explained(ending) if isinstance(ending, Silenced) else ending
        if isinstance(stopped, stopping.ClusterLost) and has_made_all_steps(settings):
            print(f"{stopped}, after the last step: what is left is done in this process", file=sys.stderr, flush=True)
            alone = resuming(settings, words, runtime="local")
            if (status := main(config, run, doc, job, plan, foreign, alone, outputs)) != 2:
                return status
        print(how_to_go_on(stopped, settings, job, words), file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BaseException as error:
        if is_mendable(error) and not debug:
            for text in _texts(error):
                print(f"error: {with_dashes(' '.join(text.split()), config) or type(error).__name__}", file=sys.stderr)
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
    # A job whose own options are called so (jobs.sweep) has them for the job that it starts.
    general = {name: flag for name, flag in CLI_FLAGS.items() if name not in spellings_of(config)}
    given = read_flags(argv, {**flags_of(config), **general}, {**retired, **(foreign or {})}, notes.append)
    asked = {name: given.pop(name, None) for name in general}
    sources = Sources()
    for path, origin in _named_files(asked, job):
        sources.update(read_settings_file(path, config, job), origin)
    sources.update(given, "")
    return CommandLine(validate(config, sources), asked["dry_run"] is True, tuple(notes))


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
            option: value
            for _, option, value in spelled_options(config, read_mapping(path))
            if option in flags and not is_none(flags[option], value)
        }
    return grown(config, values | given)


def _named_files(given: dict[str, Any], job: str) -> Iterator[tuple[Path, str]]:
    """Takes preset and configuration out of the flags: files in the order in which they count, and what each is."""
    if isinstance(preset := given.pop("preset", None), str):
        yield preset_path(preset, job), f"preset {preset}"
    if isinstance(path := given.pop("config", None), str):
        yield given_file("config", path), path


def load_preset(config: type[SettingsT], preset: str, job: str, **overrides: object) -> SettingsT:
    """The settings of a preset with some values replaced, for jobs and benchmarks that start other jobs."""
    return load_settings(config, job, {"": overrides}, preset=preset)


def load_settings(
    config: type[SettingsT],
    job: str,
    values: Mapping[str, Mapping[str, object]],
    *,
    preset: str | None = None,
    file: Path | None = None,
) -> SettingsT:
    """The settings of another job, as its own command line would give them.

    Args:
        values: options by any of their names, by where they come from, for messages; they win over the files.
        preset: name or path.
        file: as for `--config`.

    Raises:
        UsageError: with one line per mistake.
    """
    named = {"preset": preset, "config": None if file is None else str(file)}
    words = [word for name, value in named.items() if value is not None for word in (f"--{name}", value)]
    config = with_named_groups(config, words, job)
    sources = Sources()
    for path, origin in _named_files(dict(named), job):
        sources.update(read_settings_file(path, config, job), origin)
    for origin, given in values.items():
        sources.update({spellings_of(config)[name]: value for name, value in given.items()}, origin)
    return validate(config, sources)


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
        return [
            message if message.startswith(f"{place.rpartition('.')[2]} ") else ": ".join(filter(None, (place, message)))
            for place, message in zip(places, messages, strict=True)
        ]
    return error.lines if isinstance(error, MistakesError) else (str(error),)


def _help_topic(words: Sequence[str]) -> str | None:
    """The word behind `--help` or in `--help=WORD`, or an empty one; None where no help is asked for."""
    for index, word in enumerate(words):
        name, _, topic = word.partition("=")
        if name in ("--help", "-h"):
            following = [topic] if topic else words[index + 1 : index + 2]
            word = following[0] if following else ""
            # `--help --seed` asks for that option; in `--help --seed 3` the command goes on, and none is meant.
            ends = word == words[-1] and word.removeprefix("--") not in CLI_FLAGS and "=" not in word
            return "" if word.startswith("-") and not ends else word
    return None


def _uses_ray(settings: Settings) -> bool:
    """Whether the job runs on Ray if it is not told otherwise."""
    place = spellings_of(type(settings)).get("runtime")
    return place is not None and options_of(type(settings))[place].of(settings) == "ray"


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
