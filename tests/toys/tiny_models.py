"""A data set of a few short clips, a policy and a retrieval model of a few thousand parameters, made by the jobs that
make real ones: most of what a test of a job would otherwise cost is the encoding of captions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from jobs import pretrain, train_retrieval
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from motions.data.dataset import load_dataset
from motions.data.folder_writer import FolderClip, write_dataset
from rollouts.text.library import transformers
from rollouts.text.models import load_minilm

SOURCES = ("walk", "run", "dance_b", "punch", "kick", "jump")
WORDS = ["a", "person", "walks", "forward", "jump", "in", "circle", "then", "sits", "down", "on", "chair", ","]
"""The vocabulary of `distilbert_folder`."""

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
    return PretrainConfig.of(values | changes)


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
    return RetrievalConfig.of(values | changes)


def grpo_words(models: TinyModels, folder: Path, **changes: object) -> list[str]:
    """A command line of `jobs.grpo`; a value of None leaves an option out."""
    values: dict[str, object] = {
        "dataset": models.dataset,
        "model_path": models.policy,
        "tmr_checkpoint_path": models.tmr,
        "judge_path": models.judge,
        "runtime": "local",
        "num_steps": 2,
        "batch_size": 2,
        "group_size": 3,
        "num_prompts": 4,
        "num_eval_prompts": 3,
        "num_eval_samples": 2,
        "sampling_steps": 4,
        "max_motion_length": 96,
        "composite_fraction": 0.5,
        "use_lora": True,
        "learning_rate": 1e-2,
        "use_dense_reward": True,
        "use_physics_reward": True,
        "save_dir": folder,
    }
    return [f"--{name}={value}" for name, value in (values | changes).items() if value is not None]


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
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyModels]:
    """Data and both models, made once a session; read only. All parts of all jobs share one network of texts."""
    kept = load_minilm(None)
    folder = tmp_path_factory.mktemp("models")
    models = TinyModels(folder / "data", folder / "policy", folder / "tmr", folder / "judge")
    write_tiny_dataset(models.dataset)
    pretrain.run(pretrain_config(models.dataset, models.policy))
    train_retrieval.run(retrieval_config(models.dataset, models.tmr))
    train_retrieval.run(retrieval_config(models.dataset, models.judge, num_steps=1, seed=77))
    yield models
    del kept


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer CLIP with random weights and a byte tokenizer, saved whole as the published one is; read only."""
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz,"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    end = vocabulary["<|endoftext|>"]
    text = {
        "vocab_size": len(pieces),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "projection_dim": 24,
    }
    text |= {"num_attention_heads": 4, "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    vision |= {"image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def distilbert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer DistilBERT with random weights and a vocabulary of a few words; read only."""
    folder = tmp_path_factory.mktemp("distilbert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    transformers.BertTokenizer(vocab={p: n for n, p in enumerate(pieces)}).save_pretrained(folder)
    config = transformers.DistilBertConfig(
        vocab_size=len(pieces), dim=32, hidden_dim=64, n_layers=2, n_heads=4, max_position_embeddings=64
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.DistilBertModel(config).save_pretrained(folder)
    return folder
