"""The training loop: a new training is a learner and a page; records, the best checkpoint, exact resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.records.run import open_run
from cluster.run.training_loop import BatchTraining, to_arrays, to_tensors, train
from cluster.runtime.stopping import Stopped, handled
from cluster.settings import SteppedRunSettings
from motions.settings import redeclared

pytestmark = pytest.mark.slow

TARGET = torch.tensor([1.0, -2.0])


class Toy:
    """Moves a point half of the way to each batch."""

    def __init__(self) -> None:
        self.num_steps = 0
        self.point = torch.zeros(2)

    def update(self, batch: torch.Tensor) -> dict[str, float]:
        self.point += 0.5 * (batch - self.point)
        self.num_steps += 1
        return {"loss": float((TARGET - self.point).square().sum())}

    def state(self) -> dict[str, Any]:
        return {"point": self.point, "num_steps": self.num_steps}

    def load(self, state: Mapping[str, Any]) -> None:
        self.point, self.num_steps = state["point"].clone(), state["num_steps"]


class Settings(SteppedRunSettings):
    """The options of a job with the toy."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 7)
    spread: float = 1.0
    """An option that results depend on."""


def batch(step: int, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return TARGET + spread * torch.randn(2, generator=generator)


def job(folder: Path, asked_at: int | None = None, **options: Any) -> Toy:
    """The whole page of a job; it is asked to end in the step after `asked_at`."""
    config = Settings.model_validate({"save_dir": folder, "save_interval": 2, **options})
    toy = Toy()

    def make_batch(step: int) -> torch.Tensor:
        if step == asked_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step, config.spread)

    training = BatchTraining(
        toy,
        config.num_steps,
        make_batch=make_batch,
        export=lambda place: (place / "point.txt").write_text(str(toy.point.tolist())),
    )
    with open_run(config, config, "toy data", config.num_steps, shown=("loss",)) as run:
        train(
            run,
            training,
            config.save_interval,
            curves=("loss",),
            evaluate=lambda: {"distance": float((toy.point - TARGET).norm())},
        )
    return toy


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_learner_and_a_page_are_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy = job(tmp_path, train_platform_type="TensorboardPlatform")
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == list(range(1, 8))
    assert [line["step"] for line in lines(tmp_path / "evaluations.jsonl")] == [2, 4, 6, 7]
    assert (tmp_path / "point.txt").read_text() == str(toy.point.tolist())
    assert {"training_curves_latest.png", "config.yaml", "manifest.json"} <= set(names(tmp_path))
    # Those of the last two checkpoints, each with what was exported then.
    assert names(tmp_path / "checkpoints") == ["step_000000006", "step_000000007"]
    assert names(tmp_path / "checkpoints/step_000000006") == ["learner.pt", "manifest.json", "point.txt"]
    progress = capsys.readouterr().err
    assert "step 7/7  loss " in progress and progress.rstrip().endswith("0:00 left")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 8))
    assert [event.step for event in events.Scalars("evaluation/distance")] == [2, 4, 6, 7]


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = job(tmp_path / "whole")
    job(tmp_path / "parts", num_steps=3)
    (tmp_path / "parts/point.txt").unlink()
    parts = job(tmp_path / "parts", resume=True)
    assert torch.equal(whole.point, parts.point)
    for name in ("metrics.jsonl", "point.txt"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()
    with pytest.raises(ValueError, match=r"spread was 1.0, is 2.0"):
        job(tmp_path / "parts", resume=True, spread=2.0)


def test_what_a_killed_training_left_unpublished_is_published_when_it_goes_on(tmp_path: Path) -> None:
    toy = job(tmp_path)
    (tmp_path / "point.txt").unlink()
    job(tmp_path, resume=True)
    assert (tmp_path / "point.txt").read_text() == str(toy.point.tolist())


@pytest.mark.parametrize(("metric", "mode"), [("loss", "min"), ("loss", "max"), ("evaluation/distance", "min")])
def test_the_best_checkpoint_outlives_the_newest(tmp_path: Path, metric: str, mode: str) -> None:
    options = {"num_steps": 40, "keep_checkpoints": 1, "best_metric": metric, "best_mode": mode, "spread": 0.3}
    job(tmp_path / "run", **{**options, "num_steps": 20})
    job(tmp_path / "run", **options, resume=True)
    file, name = ("metrics", "loss") if metric == "loss" else ("evaluations", "distance")
    values = {line["step"]: line[name] for line in lines(tmp_path / f"run/{file}.jsonl") if line["step"] % 2 == 0}
    step = (min if mode == "min" else max)(values, key=values.__getitem__)
    best = json.loads((tmp_path / "run/manifest.json").read_text())["best"]
    assert (best["metric"], best["mode"], best["step"], best["value"]) == (metric, mode, step, values[step])
    assert best["folder"] == f"best/step_{step:09d}" and names(tmp_path / "run/best") == [f"step_{step:09d}"]
    assert names(tmp_path / "run" / best["folder"]) == ["learner.pt", "manifest.json", "point.txt"]
    assert names(tmp_path / "run/checkpoints") == ["step_000000040"]
    assert torch.load(tmp_path / "run" / best["folder"] / "learner.pt", weights_only=True)["num_steps"] == step


def test_another_metric_starts_the_search_anew(tmp_path: Path) -> None:
    job(tmp_path, best_metric="evaluation/distance", best_mode="min")
    job(tmp_path, num_steps=9, resume=True, best_metric="loss", best_mode="max")
    best = json.loads((tmp_path / "manifest.json").read_text())["best"]
    assert best["metric"] == "loss" and best["step"] in (8, 9)
    assert names(tmp_path / "best") == [Path(best["folder"]).name]


def test_a_metric_that_nobody_measures_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(tmp_path, best_metric="los")
    assert "best_metric los was not measured at the step of a checkpoint; measured: evaluation/distance, loss" in (
        capsys.readouterr().err
    )
    assert json.loads((tmp_path / "manifest.json").read_text())["best"] is None


def test_a_best_checkpoint_of_a_step_that_is_done_again_is_dropped(tmp_path: Path) -> None:
    """A process that dies between keeping the best apart and the commit leaves the manifest of before."""
    options: dict[str, Any] = {"best_metric": "loss", "best_mode": "min"}
    job(tmp_path, num_steps=4, **options)
    best = json.loads((tmp_path / "manifest.json").read_text())["best"]["folder"]
    manifest = json.loads((tmp_path / best / "manifest.json").read_text())
    shutil.copytree(tmp_path / best, tmp_path / "best/step_000000006")
    (tmp_path / "best/step_000000006/manifest.json").write_text(
        json.dumps(manifest | {"step": 6, "checkpoint": "step_000000006"})
    )
    (tmp_path / "best/.step_000000006").mkdir()
    job(tmp_path, num_steps=4, resume=True, **options)
    assert names(tmp_path / "best") == [Path(best).name]


def test_a_best_metric_that_nobody_measures_is_told_at_the_first_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job(tmp_path, best_metric="nonsense")
    told = capsys.readouterr().err
    assert told.index("best_metric nonsense was not measured") < told.index("step 3/7")


def test_a_resumed_run_that_asks_for_fewer_steps_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(tmp_path, num_steps=4)
    before = (tmp_path / "metrics.jsonl").read_text()
    capsys.readouterr()
    job(tmp_path, num_steps=3, resume=True)
    assert "step 4 is finished already: the options ask for no further step\n" in capsys.readouterr().err
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_states_survive_the_file(tmp_path: Path) -> None:
    state = {
        "a": np.arange(3.0),
        1: [np.bool_(True), {"inc": 2**127 + 1}],
        "none": None,
        "flags": np.array([True, False]),
    }
    torch.save(to_tensors(state), tmp_path / "state.pt")
    read = to_arrays(torch.load(tmp_path / "state.pt", weights_only=True))
    np.testing.assert_array_equal(read["a"], state["a"])
    assert read["flags"].dtype == bool and read[1] == [True, {"inc": 2**127 + 1}] and read["none"] is None


def test_a_training_that_is_asked_to_end_saves_its_last_step_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = job(tmp_path / "whole")
    with pytest.raises(Stopped) as stopped, handled():
        job(tmp_path / "parts", asked_at=2)
    assert (stopped.value.status, stopped.value.saved) == (128 + signal.SIGTERM, "step 3 is saved")
    assert json.loads((tmp_path / "parts/manifest.json").read_text())["step"] == 3
    assert (tmp_path / "parts/point.txt").is_file()
    assert torch.equal(job(tmp_path / "parts", resume=True).point, whole.point)
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert lines(tmp_path / "parts" / name) == lines(tmp_path / "whole" / name)


def test_a_training_that_cannot_be_saved_anywhere_ends_at_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchTraining, "saves_anywhere", False)
    with pytest.raises(Stopped) as stopped, handled():
        job(tmp_path, asked_at=2)
    assert stopped.value.saved == "step 2 is saved"
    with pytest.raises(Stopped) as stopped, handled():
        job(tmp_path / "other", asked_at=0)
    assert stopped.value.saved == "no checkpoint was made yet"
