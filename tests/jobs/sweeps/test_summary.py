"""What follows from trials: the best one, importance, the front, a preset, and an honest difference."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from cluster.sweeps.records import TrialRecord, TrialRecords
from cluster.sweeps.space import Domain
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.sweeps.report import write_sweep_report
from jobs.sweeps.summary import (
    best_so_far,
    best_trial,
    front,
    importance,
    paired_difference,
    write_best,
)
from motions.base.errors import UserError
from motions.base.plain_yaml import plain_yaml

KL = "grpo.kl_penalty"
GROUP = "grpo.group_size"
METRIC = "evaluation/total"


def trial(number: int, value: float | None, state: str = "finished", **metrics: float) -> TrialRecord:
    found = {} if value is None else {METRIC: value}
    return TrialRecord(f"trial_{number:03d}", {}, state, 4, {**found, **metrics})  # pyright: ignore[reportArgumentType]


def test_the_best_trial_made_all_its_steps_if_any_did() -> None:
    trials = [trial(1, 0.5), trial(2, 0.9, "stopped"), trial(3, 0.6), trial(4, None, "failed")]
    assert best_trial(trials, METRIC, "max").name == "trial_003"
    assert best_trial(trials, METRIC, "min").name == "trial_001"
    assert best_trial(trials[1:2], METRIC, "max").name == "trial_002"
    with pytest.raises(UserError, match="no trial has measured"):
        best_trial(trials[3:], METRIC, "max")
    assert best_so_far(trials, METRIC, "max") == [(1, 0.5), (2, 0.9), (3, 0.9)]
    assert best_so_far(trials, METRIC, "min") == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_importance_finds_the_option_that_matters() -> None:
    """The metric is a parabola of the logarithm of one option; the other is noise."""
    rng = np.random.default_rng(0)
    domains = {KL: Domain("log_uniform", (1e-4, 1e-1)), GROUP: Domain("choice", (8, 16, 24))}
    trials = []
    for number in range(40):
        kl, group = 10 ** rng.uniform(-4, -1), int(rng.choice([8, 16, 24]))
        one = trial(number, -((math.log10(kl) + 2) ** 2) + 0.05 * rng.normal())
        one.options = {KL: kl, GROUP: group}
        trials.append(one)
    found = importance(trials, domains, METRIC)
    assert found is not None
    assert list(found) == [KL, GROUP]
    assert found[KL].share > 0.95 and found[GROUP].share < 0.2
    assert importance(trials[:4], domains, METRIC) is None


def test_importance_knows_the_direction() -> None:
    domains = {KL: Domain("uniform", (0.0, 1.0))}
    trials = [trial(number, -float(number)) for number in range(6)]
    for number, one in enumerate(trials):
        one.options = {KL: number / 5}
    found = importance(trials, domains, METRIC)
    assert found is not None and found[KL].direction == pytest.approx(-1.0)


def test_the_front_has_no_trial_that_another_one_beats() -> None:
    points = [(0.5, 2.0), (0.6, 3.0), (0.4, 2.5), (0.6, 4.0), (0.7, 9.0)]
    trials = [trial(number, value, **{"final/fid": fid}) for number, (value, fid) in enumerate(points)]
    trials += [trial(8, 0.9, "stopped", **{"final/fid": 1.0}), trial(9, 0.9)]
    found = front(trials, [(METRIC, "max"), ("final/fid", "min")])
    assert [one.name for one in found] == ["trial_000", "trial_001", "trial_004"]


def test_a_difference_is_paired_by_seed() -> None:
    mean, half_width = paired_difference([(0.5, 0.6), (0.1, 0.22), (0.9, 0.98)])
    assert mean == pytest.approx(0.1)
    assert half_width == pytest.approx(4.30 * np.std([0.1, 0.12, 0.08], ddof=1) / 3**0.5)
    assert paired_difference([(0.5, 0.6)])[1] == math.inf


def searched(folder: Path) -> Path:
    """A search over two options of GRPO, three of whose trials have ended."""
    base = cli.load_preset(GRPOConfig, "demo", "jobs.grpo", save_dir=folder / "trials" / "trial", runtime="local")
    document = {
        "job": "grpo",
        "metric": METRIC,
        "mode": "max",
        "against": [["final/fid", "min"]],
        "space": {KL: {"log_uniform": [1e-4, 1e-1]}, GROUP: {"choice": [8, 16]}},
        "base": base.by_path(),
        "set_by_search": ["cluster.runtime", "run.save_dir", "run.resume"],
        "options": {"search": {"search": "random", "scheduler": "none"}, "trial": {"preset": "demo"}},
    }
    (folder / "sweep.yaml").write_text(plain_yaml(document))
    records = TrialRecords(folder, METRIC)
    for number in range(1, 7):
        name, options = f"trial_{number:03d}", {KL: 10.0 ** -(1 + number % 3), GROUP: 8 * (1 + number % 2)}
        for step in (2, 4):
            figures = {METRIC: 0.5 + 0.01 * number * step, "final/fid": 9.0 - number}
            records.report(name, options, step, figures, 60.0)
        records.ended(name, options, "finished")
    records.ended("trial_007", {KL: 0.1, GROUP: 8}, "failed", "ValueError: <b>no</b>")
    return folder


def test_the_best_configuration_is_a_preset_of_the_training(tmp_path: Path) -> None:
    path = write_best(searched(tmp_path))
    assert path.read_text().startswith("# The best of 7 trials")
    settings = cli.parse(GRPOConfig, ["--config", str(path), "--save_dir", "runs/best"], "jobs.grpo").settings
    assert (settings.grpo.kl_penalty, settings.grpo.group_size) == (0.1, 8)
    # The rest is the preset's, and nothing is left of how trials run.
    preset = cli.load_preset(GRPOConfig, "demo", "jobs.grpo", save_dir="runs/best")
    differing = {name for name, value in settings.flat().items() if value != preset.flat()[name]}
    assert differing == {"kl_penalty", "group_size"}
    assert "save_dir" not in yaml.safe_load(path.read_text())


def test_the_report_shows_trials_importance_and_front_and_escapes_errors(tmp_path: Path) -> None:
    page = write_sweep_report(searched(tmp_path)).read_text()
    for words in ("Parallel coordinates", "Importance of the options", "Best compromises", "Best so far", "1 failed"):
        assert words in page, words
    assert page.count('<polyline class="trial"') == 6
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in page
    assert "trial_006<small>best</small>" in page
    with pytest.raises(UserError, match="holds no search"):
        write_sweep_report(tmp_path / "trials")


def test_the_report_of_a_search_that_has_just_begun(tmp_path: Path) -> None:
    searched(tmp_path)
    (tmp_path / "trials.json").unlink()
    page = write_sweep_report(tmp_path).read_text()
    assert "none yet" in page and "Parallel coordinates" not in page
