"""The text of `--help`: what the job is for, how to call it, and every option under its settings class's heading."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from jobs.command_line.flags import REQUIRED, Flag, flags_of
from motions.settings import Settings

WIDTH = 100
INDENT = " " * 6

GENERAL = """General
  --preset NAME|PATH.yaml
      Start from a preset: {presets}.
  --config PATH.yaml
      Read options from a file, such as the config.yaml of an earlier run. Flags win over it, it wins over the preset.
  --dry_run
      Check the settings and say what would run, without starting it.
  --debug
      Show the whole traceback of an error.
  --help
      This text."""


def help_text(config: type[Settings], doc: str | None, job: str, presets: Sequence[str]) -> str:
    """The help page of a job.

    Args:
        doc: the job module's docstring.
        presets: names of the job's presets.
    """
    names = ", ".join(presets) or "this job has none with a name"
    sections = [f"python -m {job} [options]", (doc or "").strip(), GENERAL.format(presets=names)]
    flags = sorted(flags_of(config).values(), key=lambda flag: (flag.default != REQUIRED,))
    ordered = sorted(flags, key=lambda flag: _group_order(flag, flags))
    for group, members in groupby(ordered, key=lambda flag: flag.group):
        sections.append("\n".join([group, *(_option(flag) for flag in members)]))
    return "\n\n".join(sections)


def _group_order(flag: Flag, flags: list[Flag]) -> int:
    """Groups stand in the order of their first option, so that a group with a required option comes first."""
    return next(index for index, other in enumerate(flags) if other.group == flag.group)


def _option(flag: Flag) -> str:
    spelled = ", ".join("--" + name for name in (flag.name, *flag.aliases))
    value = "" if flag.kind == "bool" else " VALUE ..." if flag.kind in ("list", "numbers") else " VALUE"
    default = REQUIRED if flag.default == REQUIRED else f"default: {flag.default}"
    text = f"{flag.doc} " if flag.doc else ""
    body = textwrap.fill(f"{text}[{flag.legal}; {default}]", WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return f"  {spelled}{value}\n{body}"
