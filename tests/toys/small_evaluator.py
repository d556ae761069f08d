"""A tiny evaluator of Guo et al. with random weights and a vocabulary of a few words, on disk as its users have it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from motions.skeleton.normalization import Normalizer
from rewards.evaluator.checkpoints import COMPONENTS
from rewards.evaluator.network import Evaluator, EvaluatorConfig

WORDS = ["sos", "eos", "unk", "a", "person", "walk", "kick", "jump", "forward", "chair", "slowly", "hand", "sit"]
CONFIG = EvaluatorConfig(
    word_dim=7, movement_hidden=12, movement_dim=10, text_hidden=8, motion_hidden=14, embedding_dim=6
)


def small_evaluator(seed: int = 0) -> Evaluator:
    """Random weights, large enough that different inputs are far from each other."""
    evaluator = Evaluator(CONFIG, Normalizer(np.zeros(263), np.full(263, 2.0))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in evaluator.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.5, generator=generator))
    return evaluator


def states_of(evaluator: Evaluator) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts by component."""
    return {name: dict(evaluator.get_submodule(name).state_dict()) for name in COMPONENTS}


def write_evaluator(folder: Path, seed: int = 0) -> dict[str, str]:
    """Weights, statistics and vocabulary in a folder, and the options that name them."""
    model = folder / "text_mot_match" / "model"
    model.mkdir(parents=True)
    torch.save(states_of(small_evaluator(seed)) | {"epoch": 3, "opt_text_encoder": {}}, model / "finest.tar")
    np.save(folder / "t2m_mean.npy", np.zeros(263))
    np.save(folder / "t2m_std.npy", np.full(263, 2.0))
    write_vocabulary(folder / "glove")
    return {
        "reward_model_type": "mdm",
        "evaluator_path": str(folder / "text_mot_match"),
        "evaluator_stats_path": str(folder),
        "glove_path": str(folder / "glove"),
    }


def write_vocabulary(folder: Path) -> None:
    """The three files of the vocabulary."""
    folder.mkdir()
    rows = np.random.default_rng(0).standard_normal((len(WORDS), CONFIG.word_dim))
    np.save(folder / "our_vab_data.npy", rows)
    index = {word: row for row, word in enumerate(WORDS)}
    for name, content in (("words", WORDS), ("idx", index)):
        (folder / f"our_vab_{name}.pkl").write_bytes(pickle.dumps(content))
