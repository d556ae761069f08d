"""Toy runs for tests of the cluster layer, on either runtime.

The training functions of Ray Train stand in a module because its workers find them by name.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.records.run import open_run
from cluster.records.run_directory import RunDirectory
from cluster.run.algorithm import Algorithm
from cluster.run.controller import Controller
from cluster.run.plan import Workload
from cluster.runtime.local import LocalRuntime
from cluster.runtime.protocol import Role, Runtime
from cluster.settings import ClusterSettings, RolloutRunSettings
from learners.workers import TrainContext
from rewards.messages import RewardError, RewardTerms
from tests.toys.running import cluster_toys as toys


class ToyConfig(RolloutRunSettings, ClusterSettings):
    """A job's configuration."""

    learning_rate: float = 2.0
    """An option that results depend on."""


class ToyMixed:
    """Rewards of one group."""

    def __init__(self, terms: dict[str, np.ndarray]) -> None:
        self.terms = terms
        self.total = toys.mix(terms)


def combine(results: Sequence[RewardTerms], prompt_text: str) -> ToyMixed:
    """As `rewards.mixing.combine`: refuses what is not finite."""
    for result in results:
        for name, values in result.terms.items():
            if not np.isfinite(values).all():
                sample = int(np.flatnonzero(~np.isfinite(values))[0])
                raise RewardError(
                    f"reward {result.scorer!r}, term {name!r}, prompt {prompt_text!r}, sample {sample}: nan"
                )
    return ToyMixed({name: values for result in results for name, values in result.terms.items()})


def toy_algorithm(**changes: Any) -> Algorithm:
    fields: dict[str, Any] = {
        "batches": toys.ToyBatches(),
        "scorers": ("near", "small"),
        "combine": combine,
        "advantages": toys.advantages,
    }
    return Algorithm(**{**fields, **changes})


WORKLOAD = Workload(
    num_prompts=3,
    group_size=toys.GROUP_SIZE,
    trained_steps=1,
    denoising_steps=1,
    guided=False,
    max_frames=toys.NUM_FRAMES,
    num_features=toys.NUM_FEATURES,
    text_elements=2,
    model_parameters=3,
    trainable_parameters=3,
)


class ToyRun:
    """A controller with everything around it, without a session's Ray.

    Example:
        with ToyRun(tmp_path, num_steps=5) as controller: controller.run()
    """

    def __init__(
        self,
        folder: Path,
        roles: Sequence[Role] | None = None,
        runtime: Callable[[], Runtime] = LocalRuntime,
        algorithm: Algorithm | None = None,
        **settings: Any,
    ) -> None:
        self.config = ToyConfig(save_dir=folder, **{"num_steps": 5, "save_interval": 2, "eval_every": 2, **settings})
        self.runtime = runtime()
        self._roles = list(roles or toys.toy_roles(self.config))
        self._algorithm = algorithm or toy_algorithm()

    def __enter__(self) -> Controller:
        self._run = open_run(self.config, self.config, "toy-data", self.config.num_steps, trace=self.config.trace)
        controller = Controller(self.runtime, self._roles, self._algorithm, self._run.__enter__(), self.config)
        controller.start()
        return controller

    def __exit__(self, *_: object) -> None:
        self.runtime.close()
        self._run.__exit__(None, None, None)


def opened(path: Path, data: str = "data", **settings: Any) -> RunDirectory:
    """An open directory of a toy run; `data` is the fingerprint."""
    config = ToyConfig(save_dir=path, **settings)
    return RunDirectory.open(config, config, data)


def saved(directory: RunDirectory, step: int) -> None:
    """Commits a small checkpoint."""
    directory.save_checkpoint(step, step, {"weights": torch.arange(4) + step, "number": step})


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Terminal(io.StringIO):
    """A terminal that does not tell its size."""

    def isatty(self) -> bool:
        return True


def final_state(folder: Path) -> dict[str, Any]:
    """The learner's state in the last commit: the bits of a run."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return torch.load(folder / "checkpoints" / manifest["checkpoint"] / "learner.pt", weights_only=True)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def results_of(folder: Path) -> list[dict[str, float]]:
    """Lines of `metrics.jsonl` without what depends on the clock and on mishaps."""
    clocks = ("seconds/", "cluster/", "time")
    return [
        {name: value for name, value in line.items() if not name.startswith(clocks)}
        for line in lines(folder / "metrics.jsonl")
    ]


def two_steps(context: TrainContext, folder: str) -> None:
    """Two steps with a checkpoint each, sums and gathers on the way."""
    workers = context.workers
    total, pair = torch.tensor([workers.rank + 1.0]), torch.tensor([[1.0, 2.0]])
    workers.sum([total, pair])
    rows = workers.gather(np.full((workers.rank + 1, 2), workers.rank, dtype=np.int64))
    for step in range(resumed_at(context), 2):
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "state.json").write_text(json.dumps({"done": step + 1}))
            context.report({"total": float(total), "rows": float(len(rows)), "step": float(step)}, Path(scratch))


def die_then_complain(context: TrainContext, text: str) -> None:
    """A checkpoint, then the process dies; after the restart, a mistake of the user."""
    done = resumed_at(context)
    if done:
        raise ValueError(f"resumed at {done}: {text}")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "state.json").write_text(json.dumps({"done": 1}))
        context.report({}, Path(scratch))
    os._exit(3)


def resumed_at(context: TrainContext) -> int:
    """Steps that the checkpoint holds."""
    if context.resume_from is None:
        return 0
    return json.loads((context.resume_from / "state.json").read_text())["done"]
