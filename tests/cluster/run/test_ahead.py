"""Where calls run beside the controller, the next step is requested before this one's checkpoint: the same bits."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from cluster.run.session import training_session
from cluster.runtime.local import LocalRuntime
from cluster.runtime.stopping import Stopped, handled
from rollouts.messages import RolloutRequest
from tests.toys.running import cluster_toys as toys
from tests.toys.running.cluster_runs import (
    WORKLOAD,
    ToyConfig,
    ToyRun,
    final_state,
    lines,
    results_of,
    toy_algorithm,
)


class Beside(LocalRuntime):
    """Says that its calls run beside the controller; they run at once, so that their order is certain."""

    concurrent = True


class Noting(toys.ToyBatches):
    """Notes the step of each request with the last one that is committed; may ask the process to end."""

    def __init__(self, folder: Path, ask_at: int | None = None) -> None:
        super().__init__()
        self.noted: list[tuple[int, int]] = []
        self._manifest = folder / "manifest.json"
        self._ask_at = ask_at

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        committed = json.loads(self._manifest.read_text())["step"] if self._manifest.is_file() else 0
        self.noted.append((step, committed))
        if step == self._ask_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().requests(step, policy_version)


def finished(
    folder: Path, runtime: type[LocalRuntime] = LocalRuntime, ask_at: int | None = None, *, resume: bool = False
) -> Noting:
    """A run of five steps that commits each and is evaluated after two and four of them."""
    batches = Noting(folder, ask_at)
    run = ToyRun(folder, None, runtime, toy_algorithm(batches=batches), save_interval=1, resume=resume)
    with run as controller:
        controller.run()
    return batches


def assert_same(folder: Path, other: Path) -> None:
    assert str(final_state(folder)) == str(final_state(other))
    assert results_of(folder) == results_of(other)
    assert lines(folder / "evaluations.jsonl") == lines(other / "evaluations.jsonl")


def test_the_next_step_is_requested_before_the_checkpoint(tmp_path: Path) -> None:
    assert finished(tmp_path / "alone").noted == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    assert finished(tmp_path / "beside", Beside).noted == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)]
    assert_same(tmp_path / "beside", tmp_path / "alone")


@pytest.mark.parametrize("step", [1, 2, 3])
def test_asked_to_end_while_it_requests_ahead_it_has_the_line_of_its_step(tmp_path: Path, step: int) -> None:
    """Step 2 is requested after an evaluation, the others right after an update."""
    finished(tmp_path / "alone")
    with pytest.raises(Stopped), handled():
        finished(tmp_path / "beside", Beside, ask_at=step)
    assert json.loads((tmp_path / "beside" / "manifest.json").read_text())["step"] == step
    updates = [line["step"] for line in lines(tmp_path / "beside" / "metrics.jsonl") if "reward/total" in line]
    assert updates == list(range(1, step + 1))
    finished(tmp_path / "beside", Beside, resume=True)
    assert_same(tmp_path / "beside", tmp_path / "alone")


def test_the_speed_that_is_given_is_what_a_run_is_compared_with(tmp_path: Path) -> None:
    def used(folder: Path, peak_tflops: float) -> float:
        config = ToyConfig(save_dir=folder, num_steps=1, runtime="local", peak_tflops=peak_tflops)
        roles = toys.toy_roles(config)
        with training_session(config, config, config, roles, WORKLOAD, toy_algorithm(), "toy-data") as controller:
            controller.run()
        [line] = [line for line in lines(folder / "metrics.jsonl") if "cluster/rollout_mfu" in line]
        assert line["cluster/update_mfu"] > 0 and line["cluster/queue_rollout"] >= 0
        return line["cluster/rollout_mfu"]

    # Nine powers of ten apart, so that the time of a call does not matter.
    assert used(tmp_path / "slow", 1e-9) > used(tmp_path / "fast", 1.0) > 0
