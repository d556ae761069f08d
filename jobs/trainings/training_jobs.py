"""The trainings that other commands start: which options each has, and which of them a run directory belongs to."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from cluster.records.opening import CONFIG, read_config
from jobs.actions.settings import TrainMDMConfig, TuneMDMConfig
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import TRPOJobConfig
from jobs.configs.world_model import WorldModelJobConfig
from jobs.critic.settings import CriticConfig
from jobs.scenes.parser_settings import TrainParserConfig
from jobs.ssm.refiner_settings import PhysicsSSMConfig
from jobs.ssm.settings import MotionSSMConfig
from motions.base.errors import UserError
from motions.settings import Settings, groups_of

SearchableJob = Literal[
    "grpo", "pretrain", "train_retrieval", "train_critic", "train_mdm", "tune_mdm", "sft", "trpo", "world_model"
]
TrainingJob = Literal[SearchableJob, "train_motion_ssm", "train_physics_ssm", "train_m1_t5", "deepmimic"]
CONFIGS: Mapping[str, type[Settings]] = {
    "grpo": GRPOConfig,
    "pretrain": PretrainConfig,
    "train_retrieval": RetrievalConfig,
    "train_critic": CriticConfig,
    "train_mdm": TrainMDMConfig,
    "tune_mdm": TuneMDMConfig,
    "train_motion_ssm": MotionSSMConfig,
    "train_physics_ssm": PhysicsSSMConfig,
    "train_m1_t5": TrainParserConfig,
    "sft": SFTConfig,
    "trpo": TRPOJobConfig,
    "world_model": WorldModelJobConfig,
    "deepmimic": DeepMimicConfig,
}
"""Options by the name of the command, `python -m jobs.NAME`."""
SEARCHABLE: tuple[str, ...] = get_args(SearchableJob)


def run_of(job: str) -> Callable[[Any], None]:
    """The function that runs a training with its options."""
    run: Callable[[Any], None] = importlib.import_module(f"jobs.{job}").run
    return run


def plan_of(job: str) -> Callable[[Any], None]:
    """What a training does for `--dry_run`: prints what would run, and raises UserError where it could not."""
    page = importlib.import_module(f"jobs.{job}")
    plan: Callable[[Any], None] = page.dry_run if job == "grpo" else page.plan
    return plan


def job_of(folder: Path) -> str:
    """Name of the training that a run directory belongs to: the one whose groups of options its `config.yaml` has.

    Raises:
        UserError: there is no such file, or no training has these options.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} holds no run: there is no {CONFIG} in it")
    found = set(read_config(folder))
    for job, config in CONFIGS.items():
        # A user's own rewards add groups inside a group, and versions add options; neither adds a group on top.
        if found <= set(config.model_fields) and found >= set(groups_of(config)):
            return job
    raise UserError(f"{folder / CONFIG}: the groups {', '.join(sorted(map(str, found)))} are those of no training")
