"""Ray Train: collectives, restart from the checkpoint, and what a failure says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.connect import Connection
from cluster.data_parallel import TrainingFailed, train_here, train_on_ray
from tests.train_toys import add_up, complain


@pytest.mark.ray
def test_workers_add_up_and_a_dead_one_costs_a_restart(ray_cluster: Connection, tmp_path: Path) -> None:
    result = train_on_ray(add_up, str(tmp_path), tmp_path, name="toy", num_workers=2, cpus_per_worker=1, max_failures=1)
    assert (tmp_path / "died").exists()
    assert result.metrics["total"] == 3.0 and result.metrics["pair"] == 4.0
    assert result.metrics["rows"] == 3.0 and result.metrics["last"] == 1.0
    assert result.checkpoint is not None
    assert json.loads((result.checkpoint / "state.json").read_text()) == {"done": 2}


@pytest.mark.ray
def test_a_failed_training_says_what_was_raised(ray_cluster: Connection, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="no such clip"):
        train_on_ray(complain, "no such clip", tmp_path, name="bad", num_workers=1, cpus_per_worker=1)


def test_without_ray_it_is_a_plain_call(tmp_path: Path) -> None:
    (tmp_path / "died").touch()
    result = train_here(add_up, str(tmp_path), tmp_path)
    assert result.metrics["total"] == 1.0 and result.checkpoint is not None
    assert json.loads((result.checkpoint / "state.json").read_text()) == {"done": 2}
    (result.checkpoint / "state.json").write_text('{"done": 1}')
    assert train_here(add_up, str(tmp_path), tmp_path).metrics["step"] == 1.0
    with pytest.raises(ValueError, match="no such clip"):
        train_here(complain, "no such clip", tmp_path)
