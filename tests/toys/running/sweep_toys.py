"""A training that takes no time, for searches: its value rises to `height` with the step, and falls with `drag`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cluster.records.run import open_run
from cluster.settings import SteppedRunSettings
from cluster.sweeps import tuning
from cluster.sweeps.records import TrialRecord
from cluster.sweeps.search import SearchPlan
from cluster.sweeps.space import Space
from motions.base.errors import UserError

GRID = {"height": {"choice": [2.0]}, "fails": {"choice": [False, True]}, "dies_at": 2, "step_s": 0.3}
GRID_STEPS = 4


class ToyTraining(SteppedRunSettings):
    """Options of the training."""

    height: float = 1.0
    drag: float = 0.1
    step_s: float = 0.0
    """How long a step takes."""
    dies_at: int = 0
    """Its process dies once, after this step."""
    fails: bool = False
    population: int = 0
    """So many trials make their steps together: each waits before a step until the others have made the one before."""


def run(options: Mapping[str, Any], place: Path, changed: Sequence[str]) -> None:
    """Runs or resumes it. The state is the sum of `drag` over the steps, so that it shows what a step was made with."""
    config = ToyTraining.of(options, save_dir=place, resume=True, allow_changed=changed, keep_checkpoints=100)
    if config.fails:
        raise UserError("this one fails")
    with open_run(config, config, "toy", config.num_steps) as opened:
        total = opened.directory.load_state()["total"] if opened.directory.manifest else 0.0
        for step in range(opened.directory.step + 1, config.num_steps + 1):
            time.sleep(config.step_s)
            wait_for_others(place.parent, config.population, step - 1)
            total += config.drag
            opened.record(step, {"toy/value": config.height * step - total, "toy/total": total})
            opened.checkpoint(step, {"total": total})
            mark = place.parent / f"{place.name}.died"
            if step == config.dies_at and not mark.exists():
                mark.touch()
                os._exit(1)


def wait_for_others(trials: Path, population: int, step: int) -> None:
    """Waits until so many trials have recorded a step; a minute at most."""
    for _ in range(600):
        lines = [len(path.read_text().splitlines()) for path in trials.glob("trial_???/metrics.jsonl")]
        if sum(count >= step for count in lines) >= population:
            return
        time.sleep(0.1)


def run_fixed(fixed: Mapping[str, Any], options: Mapping[str, Any], place: Path, changed: Sequence[str]) -> None:
    """The same with options that all trials have."""
    run({**fixed, **options}, place, changed)


def search_grid(folder: Path) -> list[TrialRecord]:
    """Two trials, of which one fails for good, and one dies once."""
    space = Space.read(GRID, "")
    plan = SearchPlan("grid", "none", 2, "toy/value", "max", (), 1, 3.0, 2, 0)
    trials = partial(run_fixed, {**space.fixed, "num_steps": GRID_STEPS})
    return tuning.search(folder, trials, space, plan, tuning.TrialResources(0.5, 0.0), retries=2)
