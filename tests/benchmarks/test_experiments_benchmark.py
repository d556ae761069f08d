"""The five experiments with tiny models: a chain that goes on where it was, its table, and when a target is missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import experiments
from benchmarks.experiments import BASE, EXPERIMENTS, SHOWN, Table
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow


def test_the_chain_is_run_once_and_writes_table_and_curves(
    tiny_models: TinyModels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = {name: EXPERIMENTS[name] for name in ("exp1", "exp3", "exp5")}
    monkeypatch.setattr(experiments, "EXPERIMENTS", chosen)
    own = grpo_words(
        *(tiny_models, tmp_path),
        **{"save_dir": None, "max_motion_length": 128, "use_dense_reward": None, "use_physics_reward": None},
        **{"num_steps": 1, "sampling_steps": 3, "num_eval_prompts": None, "num_eval_samples": None},
    )
    words = ["--seeds=1", "--prompts=4", "--samples=1", f"--save_dir={tmp_path}", *own]
    assert experiments.main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("$ python -m jobs.grpo --preset") == len(chosen)
    assert printed.count("$ python -m jobs.evaluate") == 1 + len(chosen)
    document = json.loads((tmp_path / "experiments.json").read_text())
    assert document["figures"].keys() == {BASE, *chosen, "real"}
    assert "| Logic-Acc ↑ | " in (tmp_path / "experiments.md").read_text()
    for name in ("experiments.png", "compare/compare.html"):
        assert (tmp_path / name).stat().st_size > 0
    changes = [document["figures"][name]["segment_cosine"]["minus_base"]["mean"] for name in chosen]
    assert all(changes) and len(set(changes)) > 1, "policies were trained, by different rewards"

    assert experiments.main(words) == 0
    again = capsys.readouterr().out
    assert "$ python -m" not in again and again.splitlines()[-1] == printed.splitlines()[-1]


def result(seed: int, **shifts: float) -> dict[str, Any]:
    """An evaluation of forty prompts with two samples each, whose figures lie near 1 + shift."""
    rng = np.random.default_rng(seed)
    prompts = []
    for number in range(40):
        level = np.random.default_rng(number).normal(1.0, 0.3)
        own = {name: (level + shifts.get(name, 0.0) + rng.normal(0.0, 0.02, 2)).tolist() for name in SHOWN}
        prompts.append({"text": f"prompt {number}", **own})
    rows = {"model": {"fid": {"mean": 3.0 + seed}}, "ground truth": {"segment_cosine": {"mean": 1.4}}}
    return {"prompts": prompts, "rows": rows}


def table(**shifts: dict[str, float]) -> Table:
    runs = {name: [result(seed, **shifts.get(name, {})) for seed in (1, 2, 3)] for name in EXPERIMENTS}
    return Table({BASE: [result(0)], **runs})


GOOD = {
    "exp3": {"skating_ratio": -0.1},
    "exp5": {"skating_ratio": -0.1, "logic_accuracy": 0.1, "segment_cosine": 0.1, "joint_speed_mps": -0.1},
}


def test_differences_are_paired_by_prompt_and_targets_are_met() -> None:
    found = table(**GOOD)
    assert found.missed() == []
    change = found.difference("exp5", "segment_cosine", BASE)
    assert change.mean == pytest.approx(0.1, abs=0.01)
    assert change.low < change.mean < change.high
    assert change.high - change.low < 0.03, "prompts differ by far more than that from each other"
    assert (found.whole("exp1", "fid"), found.whole("exp1", "diversity")) == (5.0, None)
    cells = next(line for line in found.lines() if "dense cosine" in line).split(" | ")
    assert cells[-1] == "1.4 |" and "(+0.0" in cells[6]


@pytest.mark.parametrize(
    ("name", "figure", "shift", "words"),
    [
        ("exp5", "logic_accuracy", 0.0, "exp5 changes logic_accuracy by"),
        ("exp3", "skating_ratio", 0.0, "exp3 has skating_ratio"),
        ("exp5", "joint_speed_mps", -0.4, "exp5 has 0.60 times the joint_speed_mps of exp1"),
    ],
)
def test_a_missed_target_is_named(name: str, figure: str, shift: float, words: str) -> None:
    missed = table(**GOOD | {name: GOOD[name] | {figure: shift}}).missed()
    assert missed and words in missed[0]


def test_other_prompts_are_no_pair() -> None:
    other = result(1)
    other["prompts"][0]["text"] = "another"
    with pytest.raises(ValueError, match="exp1 was evaluated on other prompts"):
        Table({BASE: [result(0)], "exp1": [other]})


@pytest.mark.parametrize(
    ("words", "message"),
    [("--seeds=0", "--seeds is 0, expected at least 1"), ("--group_size=1", "group_size"), ("--seed=3x", "seed")],
)
def test_bad_options(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        experiments.main([words])
    assert message in capsys.readouterr().err
