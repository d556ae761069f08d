"""Trainings that are hit again and again, at random: each ends with the bits of one that was left alone.

    python -m benchmarks.chaos [--minutes 5] [--every 8] [--only TRAINING ...] [--seed 0] [--json PATH] [--folder DIR]

The minutes are divided among the trainings. Each is started, and every few seconds (`--every` in the mean, between half
and three halves of it) one of its living processes gets a SIGKILL: of GRPO on Ray the rollout actor, the reward actor,
the learner or the driver, whichever the seed draws; of a training in one process that process. A run whose driver was
killed is started again with `--resume`, on Ray again, as soon as none of its processes is left, and hit again once it
has all its actors. A run that has come to its end before the time is up is followed by another one in a new folder.
When the time is up, the last run is left alone and comes to its end.

Compared are, of every run, the hash of the learner's state and of the evaluations with those of an undisturbed run (of
GRPO in one process); the exit statuses with 137 of a killed driver and 0 of a finished run; and the processes that are
left a minute after each end with none. No output may hold a traceback of the driver.

Target: every run is right. The exit code is 1 if one is not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.kills import JOB, LEFT_AFTER_S, TOO_BUSY, Run, hash_of, processes, survivors

KILLED = 128 + signal.SIGKILL
DRIVER = "driver"
ALONE = ("--save_interval", "2", "--log_interval", "1000")
SHORT = ("--num_steps", "40", "--batch_size", "4", *ALONE)


@dataclass(frozen=True, slots=True)
class Training:
    """A small run, and which of its processes are hit.

    Example:
        Training(("jobs.train_critic", "--num_steps", "100"))
    """

    words: tuple[str, ...]
    """Its module and options."""
    actors: tuple[str, ...] = ()
    """Beginnings of the names of its actors; none if it runs in one process."""

    @property
    def on_ray(self) -> bool:
        """Whether its driver is the child of a process that guards it, and starts a cluster."""
        return bool(self.actors)

    @property
    def victims(self) -> tuple[str, ...]:
        """What may be hit."""
        return (*self.actors, DRIVER)


TRAININGS: dict[str, Training] = {
    "grpo": Training(
        # An actor may be hit while it is built, and the same call again and again: the run shall outlive all of it.
        (*JOB, "--max_attempts", "1000"),
        ("rollout-", "reward:", "learner-"),
    ),
    "trpo": Training(
        (
            "jobs.trpo",
            "--env_id",
            "Hopper-v5",
            "--runtime",
            "local",
            "--num_timesteps",
            "40000",
            "--num_envs",
            "4",
            *ALONE,
        )
    ),
    "pretrain": Training(
        ("jobs.pretrain", "--preset", "pretrain_small", "--num_composites", "0", "--composite_fraction", "0", *SHORT)
    ),
    "train_retrieval": Training(("jobs.train_retrieval", "--preset", "retrieval_small", "--num_steps", "60", *ALONE)),
}


@dataclass(slots=True)
class Found:
    """What came of a training that was hit; `wrong` is empty if all is right."""

    training: str
    runs: int = 0
    """Runs that came to their end."""
    starts: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    """By what was hit."""
    same_bits: int = 0
    """Runs that ended with the bits of the undisturbed one."""
    left: int = 0
    """Processes that outlived their run by a minute."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Chaos:
    """Hits the runs of one training until a time.

    Args:
        training: what runs.
        folder: for its runs.
        whole: hash of the undisturbed run.
        every: mean seconds between two hits.
        chance: draws the times and the victims.
        timeout_s: longest time without a hit in which a run must end.
    """

    def __init__(
        self, name: str, training: Training, folder: Path, whole: str, every: float, chance: random.Random,
        timeout_s: float = 1800.0,
    ) -> None:  # fmt: skip
        self.found = Found(name)
        self._training = training
        self._folder = folder
        self._whole = whole
        self._every = every
        self._chance = chance
        self._timeout_s = timeout_s
        self._kills: Counter[str] = Counter()
        self._until, self._least = 0.0, 0

    def last(self, seconds: float, least: int = 0) -> Found:
        """Hits run after run for a time and at least so often, and lets the last one come to its end."""
        started = time.monotonic()
        self._until, self._least = started + seconds, least
        while not self.found.wrong and (self.found.runs == 0 or self._goes_on()):
            self._one_run()
        self.found.kills = dict(self._kills)
        self.found.seconds = time.monotonic() - started
        return self.found

    def _goes_on(self) -> bool:
        return time.monotonic() < self._until or self._kills.total() < self._least

    def _one_run(self) -> None:
        folder = self._folder / f"run_{self.found.runs}"
        folder.mkdir(parents=True)
        run = Run(self._training.words, folder / "run", folder / "log.txt")
        status = KILLED
        while status == KILLED:
            run.start("--resume")
            self.found.starts += 1
            status = self._until_it_ends(run)
        said = run.log.read_text(errors="replace")
        if status:
            self.found.wrong.append(f"{folder.name} ended with status {status}: {said[-600:]}")
            return
        if "Traceback (most recent call last)" in said:
            self.found.wrong.append(f"a traceback in {run.log}")
        self.found.runs += 1
        if hash_of(run.save_dir) == self._whole:
            self.found.same_bits += 1
        else:
            self.found.wrong.append(f"{folder.name} has other bits")

    def _until_it_ends(self, run: Run) -> int:
        """Hits a started run until it ends; returns its exit status, and `KILLED` too where it was only too busy."""
        process, session = run.process, ""
        assert process is not None
        limit = max(self._until, time.monotonic()) + self._timeout_s
        due = self._next_hit() if not self._training.on_ray else math.inf
        while process.poll() is None:
            if time.monotonic() > limit:
                self.found.wrong.append(f"hangs: see {run.log}")
                process.kill()
                return process.wait()
            if self._training.on_ray and not session:
                with contextlib.suppress(ValueError, StopIteration, AssertionError):
                    session = run.session().name
            if due == math.inf and self._has_all_actors(run):
                due = self._next_hit()
            if due < time.monotonic() and self._goes_on():
                self._hit(run)
                due = self._next_hit()
            time.sleep(0.05)
        left = survivors(process.pid, session or f"no session of {process.pid}", LEFT_AFTER_S)
        if left:
            self.found.left += len(left)
            self.found.wrong.append(f"processes left: {left}")
        if self._training.on_ray and process.returncode == 2 and TOO_BUSY in run.log.read_text(errors="replace"):
            run.log.unlink()
            return KILLED
        # Without a guard, which says 137, the status is the signal.
        return KILLED if process.returncode == -signal.SIGKILL else process.returncode

    def _has_all_actors(self, run: Run) -> bool:
        """Whether all actors are there: on a slow machine a driver would else be hit before it has any, again and
        again."""
        with contextlib.suppress(ValueError, StopIteration, AssertionError):
            return all(self._process_of(run, actor) for actor in self._training.actors)
        return False

    def _next_hit(self) -> float:
        return time.monotonic() + self._every * self._chance.uniform(0.5, 1.5)

    def _hit(self, run: Run) -> None:
        """Kills one of the processes that live, which need not be all: an actor may just be on its way back."""
        for victim in self._chance.sample(self._training.victims, len(self._training.victims)):
            # What is not there yet cannot be found, and what has just ended cannot be killed.
            with contextlib.suppress(ValueError, StopIteration, AssertionError, ProcessLookupError):
                os.kill(self._process_of(run, victim), signal.SIGKILL)
                self._kills[victim.rstrip("-:")] += 1
                return

    def _process_of(self, run: Run, victim: str) -> int:
        """Process id of a victim. Raises ValueError if there is none now."""
        if victim != DRIVER:
            found = run.actor(victim)
            # Its log outlives it, and the number may be another process's by now.
            if not any(pid == found and words[0].startswith("ray::") for pid, _, words in processes()):
                raise ValueError(f"{victim} is not there")
            return found
        assert run.process is not None
        return run.driver() if self._training.on_ray else run.process.pid


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trainings and returns the exit code."""
    options = parse_arguments(argv)
    chance = random.Random(options.seed)
    found: list[Found] = []
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos_")))
        print(f"{'training':<16} {'runs':>4} {'same':>4} {'starts':>6} {'left':>4} {'s':>5}  kills", flush=True)
        for name in options.only:
            training = TRAININGS[name]
            whole = undisturbed(training, folder / name / "whole", options.timeout_s)
            chaos = Chaos(name, training, folder / name, whole, options.every, chance, options.timeout_s)
            found.append(chaos.last(60.0 * options.minutes / len(options.only)))
            print(line_of(found[-1]), flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 1 if any(one.wrong for one in found) else 0


def undisturbed(training: Training, folder: Path, timeout_s: float) -> str:
    """Hash of a run in one process that nobody hits."""
    folder.mkdir(parents=True)
    run = Run(training.words, folder / "run", folder / "log.txt")
    status = run.start(*(("--runtime", "local") if training.on_ray else ())).wait(timeout_s)
    if status:
        raise RuntimeError(f"the undisturbed run ended with status {status}: {run.log.read_text(errors='replace')}")
    return hash_of(run.save_dir)


def line_of(found: Found) -> str:
    """What came of a training as a line of the table."""
    kills = ", ".join(f"{name} {count}" for name, count in sorted(found.kills.items()))
    wrong = f"  WRONG: {'; '.join(found.wrong)}" if found.wrong else ""
    numbers = f"{found.runs:>4} {found.same_bits:>4} {found.starts:>6} {found.left:>4} {found.seconds:>5.0f}"
    return f"{found.training:<16} {numbers}  {kills}{wrong}"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(TRAININGS)
    positive: Callable[[str], float] = float
    parser.add_argument("--minutes", type=positive, default=5.0, help="how long all trainings together are hit")
    parser.add_argument("--every", type=positive, default=8.0, help="mean seconds between two hits")
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="TRAINING", help="what is hit")
    parser.add_argument("--seed", type=int, default=0, help="of times and victims")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was found there")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the runs there; by default a temporary one")
    parser.add_argument("--timeout_s", type=float, default=1800.0, help="seconds after which a run counts as hung")
    options = parser.parse_args(argv)
    for name in ("minutes", "every", "timeout_s"):
        if not 0 < getattr(options, name) < float("inf"):
            parser.error(f"--{name} is {getattr(options, name)}, expected a positive number")
    return options


if __name__ == "__main__":
    sys.exit(main())
