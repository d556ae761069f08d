"""How a command that was stopped ends: what is said, how it can go on, and whether the rest of it needs a cluster."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.records.checkpoints import RunDirectoryError, last_commit
from cluster.runtime import stopping
from jobs.command_line.flags import flags_of, without
from jobs.command_line.guard import Silenced
from motions.settings import Settings, options_of, spellings_of


def explained(silenced: Silenced) -> stopping.Stopped:
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


def how_to_go_on(stopped: stopping.Stopped, settings: Settings, job: str, words: Sequence[str]) -> str:
    """What was stopped and saved, and the command that continues it, if the job can be continued.

    A job without `--resume` that has saved something, such as `jobs.demo`, goes on by itself when it is called again.
    """
    if "resume" not in spellings_of(type(settings)):
        if not stopped.saved:
            return str(stopped)
        going_on = list(words)
    else:
        going_on = resuming(settings, words)
    command = shlex.join(["python", "-m", job, *going_on])
    return f"{stopped}{'; ' if stopped.saved else ''}{stopped.saved}. To go on:\n  {command}"


def resuming(settings: Settings, words: Sequence[str], **instead: str) -> list[str]:
    """The words of the same command with `--resume`.

    Args:
        instead: other values of options, by their names.
    """
    config = type(settings)
    paths = spellings_of(config)
    overwrite = paths.get("overwrite", "")
    left_out = {paths["resume"], overwrite, *(paths[name] for name in instead)}
    going_on, found = without(words, flags_of(config), left_out)
    going_on.append("--resume")
    if overwrite and overwrite not in found and options_of(config)[overwrite].of(settings):
        going_on.append("--no_overwrite")  # A file says so.
    return [*going_on, *(word for name, value in instead.items() for word in (f"--{name}", value))]


def has_made_all_steps(settings: Settings) -> bool:
    """Whether all that is left of a run on a Ray cluster can be done in one process: its last step is committed, and
    only measurements and files are missing."""
    values: Mapping[str, Any] = {
        name: options_of(type(settings))[path].of(settings)
        for name, path in spellings_of(type(settings)).items()
        if name in ("save_dir", "num_steps", "resume", "runtime")
    }
    if len(values) < 4:
        return False
    try:
        commit = last_commit(values["save_dir"])
    except RunDirectoryError:
        return False  # `--resume` says what is damaged.
    return commit is not None and commit.step >= values["num_steps"]
