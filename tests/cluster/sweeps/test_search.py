"""What is refused before a search starts, room for trials, names, and records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.runtime.protocol import StartError
from cluster.sweeps import tuning
from cluster.sweeps.records import TrialRecords, read_trials
from cluster.sweeps.search import Clipped, Drawn, SearchPlan, check_plan
from cluster.sweeps.space import Domain, Space
from cluster.sweeps.tuning import TrialNames, TrialResources, check_room
from motions.base.errors import UserError

PLAN = SearchPlan("random", "none", 4, "toy/value", "max", (), 2, 3.0, 0, 0)
SPACE = Space.read({"height": {"uniform": [0, 1]}, "drag": {"choice": [0.1, 0.2]}}, "")
CHOICES = Space.read({"drag": {"choice": [0.1, 0.2]}}, "")


@pytest.mark.parametrize(
    ("changes", "space", "message"),
    [
        ({"search": "grid"}, SPACE, "a grid needs choice"),
        ({"scheduler": "asha", "metric": "final/fid"}, SPACE, "measured last"),
        ({"scheduler": "pbt"}, CHOICES, "needs a uniform or log_uniform"),
        ({"scheduler": "pbt", "num_trials": 1}, SPACE, "at least 2"),
    ],
)
def test_searches_that_cannot_work(changes: dict[str, Any], space: Space, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_plan(replace(PLAN, **changes), space)


def test_a_trial_that_no_node_has_room_for_is_refused() -> None:
    """Together the nodes have 4 CPUs, but a trial is one process on one of them."""
    nodes = [{"CPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}]
    assert check_room(TrialResources(1.0, 0.0), nodes) == 4
    assert check_room(TrialResources(1.0, 0.5), nodes) == 2
    with pytest.raises(StartError, match="each needs 3 CPU on one node, and the nodes have 2 CPU; 2 CPU"):
        check_room(TrialResources(3.0, 0.0), nodes)
    with pytest.raises(StartError, match="2 GPU"):
        check_room(TrialResources(0.5, 2.0), nodes)


def test_a_second_search_is_kept_out_of_a_folder(tmp_path: Path) -> None:
    with tuning.held(tmp_path), pytest.raises(UserError, match="still alive"), tuning.held(tmp_path):
        pass
    with tuning.held(tmp_path):
        pass


def test_no_name_is_given_twice_by_a_search_that_goes_on(tmp_path: Path) -> None:
    trial = cast("Any", None)
    first = TrialNames(tmp_path)
    assert [first(trial), first(trial)] == ["trial_001", "trial_002"]
    assert TrialNames(tmp_path)(trial) == "trial_003"


def test_perturbed_options_stay_in_their_domain() -> None:
    domain = Domain("log_uniform", (1e-3, 1e-1))
    assert Clipped({"x": domain})({"x": 0.12, "y": 5}) == {"x": 1e-1, "y": 5}
    draws = [Drawn(domain, seed=1)() for _ in range(2)]
    assert draws[0] == draws[1] and 1e-3 <= draws[0] <= 1e-1


def test_the_past_of_a_trial_that_went_on_from_another_is_the_other_ones(tmp_path: Path) -> None:
    records = TrialRecords(tmp_path, "toy/value")
    for name, value in (("trial_001", 1.0), ("trial_002", 5.0)):
        for step in (2, 4):
            records.report(name, {}, step, {"toy/value": value * step}, 1.0)
    records.report("trial_001", {}, 4, {"toy/value": 11.0}, 1.0, ("trial_002", 2))
    records.report("trial_001", {}, 6, {"toy/value": 12.0}, 1.0, ("trial_002", 2))
    first = read_trials(tmp_path)[0]
    assert first.history == [(2, 10.0), (4, 11.0), (6, 12.0)]
    assert first.origins == [("trial_002", 2)]


def test_records_survive_and_forget_what_a_trial_went_back_behind(tmp_path: Path) -> None:
    records = TrialRecords(tmp_path, "toy/value")
    for step in (2, 4):
        records.report("trial_001", {"drag": 0.1}, step, {"toy/value": float(step)}, 1.0)
    records.ended("trial_002", {"drag": 0.2}, "failed", "ValueError: no")
    again = TrialRecords(tmp_path, "toy/value")
    again.report("trial_001", {"drag": 0.3}, 4, {"toy/value": 9.0}, 2.0)
    again.ended("trial_001", {"drag": 0.3}, "finished")
    first, second = read_trials(tmp_path)
    assert first.history == [(2, 2.0), (4, 9.0)] and first.options == {"drag": 0.3}
    assert first.state == "finished"
    assert (second.state, second.error) == ("failed", "ValueError: no")
