"""Configuration of `jobs.sft`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import AliasChoices, Field

from cluster.settings import ConnectionSettings, RunSettings, WorkerSettings
from learners.cloning.settings import CloningSettings
from motions.settings import Affects, redeclared
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.imitation.settings import CloneTaskSettings


class SFTRunSettings(RunSettings):
    """Run directory of a cloning."""

    save_dir: Path = redeclared(
        RunSettings, "save_dir", Path("policy_sft_pretrained"), spellings=("save_path", "save_dir")
    )
    """Directory of the clone: `controller.safetensors`, `config.yaml`, `metrics.jsonl`, `evaluation.json`. Inside a
    submitted Ray job the path must be absolute."""

    seed: int = redeclared(RunSettings, "seed", 0, below=2**31)

    best_metric: str | None = redeclared(RunSettings, "best_metric")
    """Figure of a clone, such as `val_loss`, by which the best one is kept as well, in `best/`. There is a checkpoint
    after every round, and each round validates on data of its own."""

    best_mode: Literal["max", "min"] = redeclared(RunSettings, "best_mode", "min")

    resume: bool = redeclared(RunSettings, "resume")
    """Continue the run in `save_path` from its last checkpoint, bit for bit; an empty directory starts a new run, so a
    retried job may always set this."""

    overwrite: bool = redeclared(RunSettings, "overwrite")
    """If `save_path` holds a run, move it aside to `save_path.old-1` (`-2`, ...) and start a new one. Nothing is
    deleted."""


class CloneEvaluationSettings(ControlEvaluationSettings):
    """Evaluation after the cloning."""

    affects: ClassVar[Affects] = "evaluation"

    evaluate: bool = Field(default=True, validation_alias=AliasChoices("evaluate", "eval"))
    """Evaluate the clone and the baselines after the training; `--no_eval` skips it."""


class SFTConfig(CloneTaskSettings):
    """Behaviour cloning of a controller from motion clips."""

    cloning: CloningSettings = CloningSettings()
    run: SFTRunSettings = SFTRunSettings()
    evaluation: CloneEvaluationSettings = CloneEvaluationSettings()
    workers: WorkerSettings = WorkerSettings()
    cluster: ConnectionSettings = ConnectionSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("motion", "save_path", "expert", "dagger_rounds", "epochs", "hidden_size", "refine_actions", "evaluate"),
        *("num_workers", "resume"),
    )
