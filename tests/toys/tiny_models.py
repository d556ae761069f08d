"""A data set of a few short clips, a policy and a retrieval model of a few thousand parameters, made by the jobs that
make real ones: most of what a test of a job would otherwise cost is the encoding of captions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import pretrain, train_retrieval
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from motions.data.dataset import load_dataset
from motions.data.folder_writer import FolderClip, write_dataset

SOURCES = ("walk", "run", "dance_b", "punch", "kick", "jump")
NUM_FRAMES = 42
"""Of each clip. A folder's clips of fewer than 40 are skipped, as MDM does; two fit into the 96 frames of the tests."""


@dataclass(frozen=True)
class TinyModels:
    """Folders as `--dataset`, `--model_path` and `--tmr_checkpoint_path` take them."""

    dataset: Path
    policy: Path
    tmr: Path
    judge: Path
    """Another retrieval model, for `--judge_path`."""

    @property
    def policy_file(self) -> Path:
        """The policy's last checkpoint."""
        return self.policy / "model000000004.pt"


def pretrain_config(dataset: Path, folder: Path, **changes: object) -> PretrainConfig:
    """A few steps of a policy with one layer."""
    values: dict[str, object] = {
        "dataset": str(dataset),
        "save_dir": folder,
        "latent_dim": 32,
        "ff_size": 32,
        "layers": 1,
        "num_heads": 2,
        "pos_embed_max_len": 256,
        "diffusion_steps": 6,
        "batch_size": 6,
        "num_steps": 4,
        "save_interval": 2,
        "composite_fraction": 0.5,
        "num_composites": 2,
        "max_frames": 96,
        "num_samples": 0,
    }
    return PretrainConfig.model_validate(values | changes)


def retrieval_config(dataset: Path, folder: Path, **changes: object) -> RetrievalConfig:
    """A few steps of a retrieval model with one layer."""
    values: dict[str, object] = {
        "dataset": str(dataset),
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


def write_tiny_dataset(folder: Path) -> None:
    """Two short clips of each source with two captions, and one held-out clip with one."""
    builtin = load_dataset("builtin")
    clips = []
    for split, count, num_captions in (("train", 2, 2), ("test", 1, 1)):
        for source in SOURCES:
            long_enough = [
                item for item in builtin.items(split) if item.source == source and item.num_frames >= NUM_FRAMES
            ]
            for item in long_enough[:count]:
                features, captions = item.features[:NUM_FRAMES], item.captions[:num_captions]
                clips.append(FolderClip(features, captions, split, f"{item.clip_id}.bvh", 0.0))
    write_dataset(folder, builtin.skeleton, clips, "for tests")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Data and both models, made once a session; read only."""
    folder = tmp_path_factory.mktemp("models")
    models = TinyModels(folder / "data", folder / "policy", folder / "tmr", folder / "judge")
    write_tiny_dataset(models.dataset)
    pretrain.run(pretrain_config(models.dataset, models.policy))
    train_retrieval.run(retrieval_config(models.dataset, models.tmr))
    train_retrieval.run(retrieval_config(models.dataset, models.judge, num_steps=1, seed=77))
    return models
