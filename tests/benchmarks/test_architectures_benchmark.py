"""The comparison of architectures: equal sizes, one row for each training, bad options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import architectures
from jobs.text.pretraining import build_network


def test_contenders_have_about_the_same_number_of_parameters() -> None:
    counts = {}
    for name, changes in architectures.CONTENDERS.items():
        words = [f"--{key}={value}" for key, value in changes.items()]
        network = build_network(architectures.configuration(["--save_dir=unused", *words]), 263, 384)
        counts[name] = sum(parameter.numel() for parameter in network.parameters())
    assert max(counts.values()) <= 1.05 * min(counts.values()), counts


def test_every_training_gives_a_row_and_options_of_the_job_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[str, int, int, float]] = []

    def trained_for(config: Any, cpu_seconds: float, measures: object) -> dict[str, float]:
        trained.append((config.network.arch, config.run.seed, config.supervised.batch_size, cpu_seconds))
        return {"steps": 7.0, "fid": len(trained)}

    monkeypatch.setattr(architectures, "prepare", lambda config: config)
    monkeypatch.setattr(architectures, "make_measures", lambda config, prompts: prompts)
    monkeypatch.setattr(architectures, "real_figures", lambda config, measures: {"fid": 0.5})
    monkeypatch.setattr(architectures, "train_and_measure", trained_for)
    words = ["--seeds=2", "--cpu_seconds=9", f"--json={tmp_path / 'rows.json'}", "--batch_size=6"]
    assert architectures.main(words) == 0
    assert trained == [(arch, seed, 6, 9.0) for seed in (0, 1) for arch in ("trans_enc", "mamba")]
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert list(rows) == ["real motions", *(f"{arch}, seed {seed}" for arch, seed, *_ in trained)]
    assert "mamba, seed 1" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        architectures.main(["--batch_sise=6"])
    assert "unknown option --batch_sise" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        architectures.main(["--cpu_seconds=0"])
    assert "must be above 0" in capsys.readouterr().err


def test_a_training_is_measured_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    words = ["--cpu_seconds=0.01", "--prompts=2", "--contenders", "mamba", "--batch_size=2", f"--json={path}"]
    assert architectures.main(words) == 0
    real, mamba = json.loads(path.read_text())["rows"].values()
    assert mamba["steps"] == 1 and mamba["validation_loss"] > 0.5, "one step learns nothing"
    assert mamba["judge_matching"] < 0.3 < real["judge_matching"] and mamba["jerk_mps3"] > real["jerk_mps3"]
