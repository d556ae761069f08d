"""Searches on Ray Tune: trials that fail and die, a search that is killed and goes on, a population that exploits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import ray

from cluster.runtime.connect import Connection
from cluster.sweeps import tuning
from cluster.sweeps.records import read_trials
from cluster.sweeps.search import SearchPlan
from cluster.sweeps.space import Space
from tests.toys.running import sweep_toys
from tests.toys.running.sweep_toys import GRID_STEPS, search_grid

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

DRIVER = """
import sys
import ray
from pathlib import Path
from tests.toys.running.sweep_toys import search_grid
ray.init(address=sys.argv[1], runtime_env={{"env_vars": {{"PYTHONPATH": {root!r}}}}}, log_to_driver=False)
search_grid(Path(sys.argv[2]))
"""


def test_a_search_that_was_killed_goes_on_where_it_was(ray_cluster: Connection, tmp_path: Path) -> None:
    """Killed while its first trials run, in the middle of which their processes die too."""
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token"}
    command = [sys.executable, "-c", DRIVER.format(root=str(ROOT)), address, str(tmp_path)]
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while not any(trial.step >= 1 for trial in read_trials(tmp_path)):
            assert driver.poll() is None
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = {trial.name: trial.options for trial in read_trials(tmp_path)}

    trials = search_grid(tmp_path)

    whole = [trial for trial in trials if not trial.options["fails"]]
    assert len(whole) == 1
    assert before.items() <= {trial.name: trial.options for trial in trials}.items()
    for trial in whole:
        assert (trial.state, trial.step) == ("finished", GRID_STEPS)
        place = tmp_path / "trials" / trial.name
        assert place.with_name(f"{trial.name}.died").exists()
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        # Neither the kill nor the death repeated or lost a step.
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        assert lines[-1]["toy/value"] == pytest.approx(trial.options["height"] * GRID_STEPS - 0.1 * GRID_STEPS)
    failed = [trial for trial in trials if trial.options["fails"]]
    assert len(failed) == 1 and all(trial.state == "failed" and "this one fails" in trial.error for trial in failed)


@pytest.mark.skipif("KINETUNE_LONG_TESTS" not in os.environ, reason="takes minutes: set KINETUNE_LONG_TESTS=1")
def test_a_population_goes_on_from_the_leaders_checkpoints(ray_cluster: Connection, tmp_path: Path) -> None:
    space = Space.read({"height": {"uniform": [0.0, 1.0]}}, "")
    plan = SearchPlan("random", "pbt", 2, "toy/value", "max", (), 1, 3.0, 2, 0)
    trials = partial(sweep_toys.run_fixed, {"num_steps": 5, "population": 2})
    found = tuning.search(tmp_path, trials, space, plan, tuning.TrialResources(0.5, 0.0), num_steps=5)
    followers = [trial for trial in found if trial.origins]
    assert followers and all(trial.state == "finished" for trial in found)
    for trial in followers:
        donor, step = trial.origins[-1]
        assert step < 5, "the result of the last step is a trial's own"
        histories = {one.name: dict(one.history) for one in found}
        assert histories[trial.name][step] == histories[donor][step]
        assert (tmp_path / "trials" / f"{trial.name}.old-1").is_dir()
