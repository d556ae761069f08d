"""Ray Train: restart from the checkpoint, and what a failure says; collectives; the same without Ray."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cluster.data_parallel import TrainingFailed, train_here, train_on_ray
from cluster.runtime.connect import Connection
from learners.workers import ProcessGroup
from motions.base.errors import is_mendable
from tests.toys.running.cluster_runs import die_then_complain, two_steps

pytestmark = pytest.mark.slow


@pytest.mark.ray
def test_a_dead_worker_costs_a_restart_and_a_mistake_is_told(ray_cluster: Connection, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="resumed at 1: no such clip") as caught:
        train_on_ray(
            die_then_complain, "no such clip", tmp_path, name="toy", num_workers=1, cpus_per_worker=1, max_failures=1
        )
    # It raises a ValueError, which is a mistake in the code.
    assert isinstance(caught.value.cause, ValueError) and not is_mendable(caught.value)
    assert "in die_then_complain\n" in "".join(traceback.format_exception(caught.value))


def test_without_ray_it_is_a_plain_call_that_resumes(tmp_path: Path) -> None:
    result = train_here(two_steps, "", tmp_path)
    assert result.metrics == {"total": 1.0, "rows": 1.0, "step": 1.0} and result.checkpoint is not None
    state = result.checkpoint / "state.json"
    assert json.loads(state.read_text()) == {"done": 2}
    assert train_here(two_steps, "", tmp_path).metrics == {}
    state.write_text('{"done": 1}')
    assert train_here(two_steps, "", tmp_path).metrics["step"] == 1.0
    with pytest.raises(ValueError, match="resumed at 2: no such clip"):
        train_here(die_then_complain, "no such clip", tmp_path)


def collect(rank: int, meeting_place: Path) -> None:
    dist.init_process_group("gloo", init_method=meeting_place.as_uri(), rank=rank, world_size=2)
    workers = ProcessGroup()
    total, pair = torch.tensor([rank + 1.0]), torch.tensor([[1.0, 2.0 * rank]])
    workers.sum([total, pair])
    assert total.tolist() == [3.0] and pair.tolist() == [[2.0, 2.0]]
    gathered = workers.gather(np.full((rank + 1, 2), rank, dtype=np.int64))
    assert gathered.tolist() == [[0, 0], [1, 1], [1, 1]] and gathered.dtype == np.int64
    dist.destroy_process_group()


def test_processes_add_up_and_gather_arrays_of_different_lengths(tmp_path: Path) -> None:
    mp.spawn(collect, args=(tmp_path / "meeting",), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
