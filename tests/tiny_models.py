"""A policy and a retrieval model of a few thousand parameters, made by the jobs that make real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import pretrain, train_retrieval
from jobs.configs import PretrainConfig, RetrievalConfig


@dataclass(frozen=True)
class TinyModels:
    """Folders as `--model_path` and `--tmr_checkpoint_path` take them."""

    policy: Path
    tmr: Path


def pretrain_config(folder: Path, **changes: object) -> PretrainConfig:
    """A few steps of a policy with one layer."""
    values: dict[str, object] = {
        "save_dir": folder,
        "latent_dim": 32,
        "ff_size": 32,
        "layers": 1,
        "num_heads": 2,
        "diffusion_steps": 6,
        "batch_size": 6,
        "num_steps": 4,
        "save_interval": 2,
        "composite_fraction": 0.5,
        "num_composites": 2,
        "max_frames": 80,
        "num_samples": 0,
    }
    return PretrainConfig.model_validate(values | changes)


def retrieval_config(folder: Path, **changes: object) -> RetrievalConfig:
    """A few steps of a retrieval model with one layer."""
    values: dict[str, object] = {
        "save_dir": folder,
        "tmr_latent_dim": 16,
        "tmr_ff_size": 16,
        "tmr_layers": 1,
        "tmr_heads": 2,
        "batch_size": 6,
        "num_steps": 4,
        "save_interval": 2,
    }
    return RetrievalConfig.model_validate(values | changes)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Both, trained once a session; read only."""
    folder = tmp_path_factory.mktemp("models")
    models = TinyModels(folder / "policy", folder / "tmr")
    pretrain.run(pretrain_config(models.policy))
    train_retrieval.run(retrieval_config(models.tmr))
    return models
