"""A HumanAct12 and a UESTC of a few random clips, an action MDM, a classifier and a critic, in the true formats."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import torch

from rewards.actions.classifier import ActionClassifier
from rollouts.networks.action_mdm import ActionMDM
from rollouts.networks.mdm_config import MDMConfig
from tests.toys.small_critic import small_critic

SIZES = {"arch": "trans_enc", "layers": 1, "latent_dim": 16, "cond_mask_prob": 0.0}


def write_clips(folder: Path, num: int = 24, seed: int = 0) -> Path:
    """`humanact12poses.pkl` in a folder; every third clip is shorter than 60 frames."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lengths = [(40, 60, 75)[clip % 3] for clip in range(num)]
    poses = [0.3 * rng.standard_normal((1, 72)) + np.linspace(0, 0.3, n)[:, None] for n in lengths]
    joints = [rng.standard_normal((1, 24, 3)) + np.linspace(0, 0.5, n)[:, None, None] for n in lengths]
    content = {"poses": poses, "joints3D": joints, "y": [clip % 12 for clip in range(num)]}
    (folder / "humanact12poses.pkl").write_bytes(pickle.dumps(content))
    return folder


def write_uestc(folder: Path, num: int = 24, seed: int = 0, *, places: bool = False) -> Path:
    """UESTC's folder. Of every three videos the first is of side 1 and the others of side 2; the second is of a person
    for the test, and every eighth of view 8.

    Args:
        places: whether `globtrans_usez.pkl` is there.
    """
    (folder / "info").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lengths = [50 + clip % 3 for clip in range(num)]
    names = [
        f"a{clip % 40}_d{8 if clip % 8 == 7 else clip % 7}_p{(1, 3, 2)[clip % 3]:03d}_c{(1, 2, 2)[clip % 3]}_color.avi"
        for clip in range(num)
    ]
    content = {
        "pose": [0.3 * rng.standard_normal((1, 72)) + np.linspace(0, 0.3, n)[:, None] for n in lengths],
        "joints3d": [rng.standard_normal((1, 49, 3)) + np.linspace(0, 0.5, n)[:, None, None] for n in lengths],
        "orig_cam": [np.abs(rng.standard_normal((1, 4))) + np.linspace(1, 1.2, n)[:, None] for n in lengths],
    }
    (folder / "vibe_cache_refined.pkl").write_bytes(pickle.dumps(content))
    if places:
        moved = [rng.standard_normal((n, 3)) for n in lengths]
        (folder / "globtrans_usez.pkl").write_bytes(pickle.dumps(moved))
    (folder / "info" / "names.txt").write_text("\n".join(names))
    (folder / "info" / "num_frames_min.txt").write_text("\n".join(str(n - 2) for n in lengths))
    (folder / "info" / "action_classes.txt").write_text("\n".join(f"action {number}" for number in range(40)))
    return folder


def write_policy(folder: Path, num_actions: int = 12) -> Path:
    """`model000000100.pt` with args.json, as MDM writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = MDMConfig(
        num_features=150, latent_dim=16, ff_size=1024, num_layers=1, text_dim=num_actions, cond_mask_prob=0.0
    )
    torch.save(ActionMDM(config).to_file(), folder / "model000000100.pt")
    args = SIZES | {"dataset": "humanact12", "diffusion_steps": 1000, "noise_schedule": "cosine"}
    (folder / "args.json").write_text(json.dumps(args))
    return folder / "model000000100.pt"


def write_critic(path: Path) -> Path:
    """A critic's file with the names of a parallel training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model_state_dict": {f"module.{k}": v for k, v in small_critic().state_dict().items()}}, path)
    return path


def write_classifier(path: Path) -> Path:
    """`humanact12_gru.tar`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save({"model": ActionClassifier().state_dict(), "iteration": 1}, path)
    return path
