"""Training functions for the tests of Ray Train; importable, since workers find them by name."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from learners.workers import TrainContext


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
