"""Trials as run directories: what they report, and how one goes on from a checkpoint of another."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from cluster.records import commits
from cluster.records.checkpoints import read_manifest
from cluster.records.measured import last_metrics
from cluster.sweeps.trial import take_over
from tests.toys.running.sweep_toys import run


def lines_of(place: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]


def test_every_commit_is_told_after_its_metrics(tmp_path: Path) -> None:
    heard: list[tuple[str, int, float]] = []

    def listen(place: Path, step: int) -> None:
        heard.append((place.name, step, last_metrics(place)["toy/value"]))

    with commits.listening(listen):
        run({"num_steps": 2, "drag": 0.25}, tmp_path / "a", ())
    run({"num_steps": 1}, tmp_path / "b", ())
    assert heard == [("a", 1, 0.75), ("a", 2, 1.5)]


def test_a_copy_goes_on_from_the_step_of_the_other_trial(tmp_path: Path) -> None:
    """With changed options the steps before stay as they were, those after are made with the new ones: as if the donor
    itself had been resumed with them at that step."""
    donor, place = tmp_path / "donor", tmp_path / "lagging"
    run({"num_steps": 4, "drag": 0.1}, donor, ())
    run({"num_steps": 3, "drag": 9.0}, place, ())
    take_over(donor, 2, place)
    assert [line["step"] for line in lines_of(place)] == [1, 2]
    run({"num_steps": 4, "drag": 0.5}, place, ("drag",))
    assert [round(line["toy/total"], 6) for line in lines_of(place)] == [0.1, 0.2, 0.7, 1.2]
    assert read_manifest(place / "manifest.json").step == 4
    # The donor, and what the lagging trial had made, are as they were.
    assert read_manifest(donor / "manifest.json").step == 4
    assert yaml.safe_load((tmp_path / "lagging.old-1" / "config.yaml").read_text())["drag"] == 9.0


def test_a_copy_survives_its_donor(tmp_path: Path) -> None:
    donor, place = tmp_path / "donor", tmp_path / "copy"
    run({"num_steps": 2}, donor, ())
    take_over(donor, 1, place)
    for file in donor.rglob("learner.pt"):
        file.unlink()
    run({"num_steps": 2}, place, ())
    assert lines_of(place)[-1]["step"] == 2


def test_last_metrics_join_all_files_and_pass_over_a_line_that_was_cut(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "time": 5, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo'
    )
    (tmp_path / "evaluations.jsonl").write_text(
        '{"step": 2, "score": 0.5, "prompts": ["a"]}\n{"step": 3, "terms": {"score": 0.5}'
    )
    (tmp_path / "evaluation.json").write_text(
        json.dumps({"rows": [{"name": "fid", "before": 3.0, "after": 2.0}, {"name": "x", "after": None}]})
    )
    assert last_metrics(tmp_path) == {"loss": 1.0, "evaluation/score": 0.5, "final/fid": 2.0}
    assert last_metrics(tmp_path / "nothing") == {}
