"""The text of `--help`: what the job is for, how to call it, and its options by group, the important ones first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from jobs.command_line.flags import REQUIRED, Flag, UsageError, flags_of
from motions.settings import Settings, spellings_of

WIDTH = 100
INDENT = " " * 6

FILES = """  --preset NAME|PATH.yaml
      Start from a preset: {presets}.
  --config PATH.yaml
      Read options from a file, such as the config.yaml of an earlier run. Flags win over it, it wins over the preset.
"""

GENERAL = """General
{files}  --dry_run
      Check the settings and say what would run, without starting it.
  --debug
      Show the whole traceback of an error.
  --help [{topics}"""

MOST = "The options that matter most"
OTHERS = "All options by group; --help all explains them, --help GROUP those of one group"


def help_text(config: type[Settings], doc: str | None, job: str, presets: Sequence[str], topic: str = "") -> str:
    """The help page of a job.

    Args:
        doc: docstring of the job's module.
        presets: names of the job's presets.
        topic: `all`, a group or an option; by default a page on which those options are explained that the model calls
            important, or all of them where it does not say which.

    Raises:
        UsageError: there is no such group or option.
    """
    flags = flags_of(config)
    if topic and topic != "all":
        return "\n\n".join(_explained(_chosen(config, flags, topic)))
    names = ", ".join(presets) or "this job has none with a name"
    # A job whose own options are called so (jobs.sweep) explains them itself.
    files = "" if "preset" in spellings_of(config) else FILES.format(presets=names)
    sections = [
        f"python -m {job} {f'{config.positional.upper()} ' if config.positional else ''}[options]",
        (doc or "").strip(),
        GENERAL.format(files=files, topics=_topics(list(flags.values()))),
    ]
    if topic == "all" or not config.important:
        return "\n\n".join([*sections, *_explained(list(flags.values()))])
    important = [flags[spellings_of(config)[name]] for name in config.important]
    sections.append("\n".join([MOST, *map(_option, important)]))
    listed = [_listed(heading, members) for heading, members in _grouped(list(flags.values()))]
    return "\n\n".join([*sections, OTHERS, *listed])


def _topics(flags: list[Flag]) -> str:
    """What may stand behind `--help`."""
    if any(flag.group for flag in flags):
        words = "every option explained; those of a group, whose name stands in brackets; or a single one."
        return f"all|GROUP|OPTION]\n{INDENT}This text; {words}"
    return f"all|OPTION]\n{INDENT}This text, every option explained, or a single one."


def _chosen(config: type[Settings], flags: Mapping[str, Flag], topic: str) -> list[Flag]:
    name = topic.lstrip("-").replace("-", "_")
    groups = {group for flag in flags.values() for group in _and_outer(flag.group)}
    # A group and an option may have the same name.
    option = spellings_of(config).get(name)
    chosen = [
        flag
        for path, flag in flags.items()
        if path == option or any(f".{group}".endswith(f".{name}") for group in _and_outer(flag.group))
    ]
    if not chosen:
        listed = f"; the groups are {', '.join(sorted(groups))}" if groups else ""
        raise UsageError([f"--help {topic}: no such {'group or ' if groups else ''}option{listed}"])
    return chosen


def _and_outer(group: str) -> list[str]:
    """A dotted path and those of the groups around it."""
    parts = group.split(".") if group else []
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _grouped(flags: list[Flag]) -> Iterator[tuple[str, list[Flag]]]:
    """Headings and their options. Groups stand in the order of their first option, the required ones before all."""
    flags = sorted(flags, key=lambda flag: flag.default != REQUIRED)
    places: dict[tuple[str, str], int] = {}
    for flag in flags:
        places.setdefault((flag.group, flag.heading), len(places))
    ordered = sorted(flags, key=lambda flag: places[flag.group, flag.heading])
    for (group, heading), members in groupby(ordered, key=lambda flag: (flag.group, flag.heading)):
        yield f"{heading} [{group}]" if group else heading, list(members)


def _explained(flags: list[Flag]) -> list[str]:
    return ["\n".join([heading, *map(_option, members)]) for heading, members in _grouped(flags)]


def _listed(heading: str, members: list[Flag]) -> str:
    names = "  ".join(f"--{spelling}" for flag in members for spelling in (flag.name, *flag.aliases))
    return f"{heading}\n{_filled(names, '  ')}"


def _option(flag: Flag) -> str:
    spelled = ", ".join("--" + name for name in (flag.name, *flag.aliases))
    value = "" if flag.kind == "bool" else " VALUE ..." if flag.kind in ("list", "numbers") else " VALUE"
    default = REQUIRED if flag.default == REQUIRED else f"default: {flag.default}"
    text = f"{flag.doc} " if flag.doc else ""
    body = _filled(f"{text}[{flag.legal}; {default}]", INDENT)
    return f"  {spelled}{value}\n{body}"


def _filled(text: str, indent: str) -> str:
    """Lines of a paragraph. Paths and options with a dash stay in one piece, to be copied."""
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
