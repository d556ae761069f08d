"""Configuration of `jobs.sft`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import ConnectionSettings, TrackerSettings, WorkerSettings
from learners.cloning.settings import CloneRounds
from motions.base.errors import UserError
from motions.settings import Affects, Effect, Settings
from rewards.evaluation.settings import ControlEvaluationSettings


class SFTRunSettings(Settings):
    """Run directory and evaluation."""

    affects: ClassVar[Affects] = "records"

    save_path: Path = Field(
        default=Path("policy_sft_pretrained"), validation_alias=AliasChoices("save_path", "save_dir")
    )
    """Directory of the clone: `controller.safetensors`, `config.yaml`, `metrics.jsonl`, `evaluation.json`. Inside a
    submitted Ray job the path must be absolute."""

    resume: bool = False
    """Continue the cloning in `save_path` after its last finished round."""

    overwrite: bool = False
    """If `save_path` holds a run, move it aside to `save_path.old-1` (`-2`, ...) and start a new one."""

    evaluate: Annotated[bool, Effect("evaluation")] = Field(
        default=True, validation_alias=AliasChoices("evaluate", "eval")
    )
    """Evaluate the clone and the baselines after the training; `--no_eval` skips it."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite are both set: continue the cloning in save_path, or start anew?")
        return self


class SFTConfig(
    CloneRounds,
    ControlEvaluationSettings,
    SFTRunSettings,
    WorkerSettings,
    TrackerSettings,
    ConnectionSettings,
):
    """Behaviour cloning of a controller from motion clips."""
