"""The best setting and the start of a search, trained again with other seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.sweeps.records import TrialRecords
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.sweeps.confirming import (
    BEST,
    CONFIRMATION,
    NUMBER,
    SETTING,
    START,
    confirmation_space,
    confirming_trials,
    read_confirmation,
)
from jobs.sweeps.trials import Trials

METRIC, KL = "evaluation/total", "grpo.kl_penalty"


def test_both_settings_get_seeds_that_the_search_did_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = cli.load_preset(GRPOConfig, "demo", "jobs.grpo", save_dir=tmp_path, seed=5, eval_seed=1000)
    made: list[Mapping[str, Any]] = []

    def call(_: Trials, options: Mapping[str, Any], place: Path, changed: Sequence[str]) -> None:
        made.append(options)

    monkeypatch.setattr(Trials, "__call__", call)
    trials = confirming_trials(Trials("grpo", base.by_path(), 1), {KL: 0.5})
    for options in confirmation_space(2).grid():
        trials(options, tmp_path, ())
    assert len(made) == 4
    assert [options for options in made if KL in options] == [
        {KL: 0.5, "run.seed": 6, "evaluation.eval_seed": 1001},
        {KL: 0.5, "run.seed": 7, "evaluation.eval_seed": 1002},
    ]
    assert {options["run.seed"] for options in made if KL not in options} == {6, 7}


def test_the_difference_counts_seeds_that_have_both_settings(tmp_path: Path) -> None:
    assert read_confirmation(tmp_path, METRIC) is None
    (tmp_path / CONFIRMATION).mkdir()
    records = TrialRecords(tmp_path / CONFIRMATION, METRIC)
    values = {(1, START): 0.5, (1, BEST): 0.6, (2, START): 0.4, (2, BEST): 0.5, (3, START): 0.1}
    for (number, setting), value in values.items():
        options = {NUMBER: number, SETTING: setting}
        records.report(f"{setting}_{number}", options, 4, {METRIC: value}, 1.0)
        records.ended(f"{setting}_{number}", options, "finished")
    confirmed = read_confirmation(tmp_path, METRIC)
    assert confirmed is not None and confirmed.seeds == (1, 2)
    assert confirmed.difference == pytest.approx(0.1)
    assert "beyond chance" in confirmed.words(METRIC)
