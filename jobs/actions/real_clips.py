"""`jobs.eval_fid` and `jobs.save_gt`: real clips, sorted by the critic's score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from jobs.actions.parts import load_action_critic, open_output, read_clips, scores_in_batches, write_tensors
from jobs.actions.settings import EvalFidConfig, SaveGtConfig
from rewards.actions.classifier import load_action_classifier
from rewards.actions.humanact12 import joints_of_mdm, mdm_of_features
from rewards.actions.measures import action_features, block_fids, score_blocks
from rewards.critic.poses import upright

NUM_BLOCKS = 5
NOT_COMPARABLE = (
    "joints come from a rounded rest pose and not from SMPL's files, and the reference is the training set: FID is not "
    "comparable with published figures"
)


def eval_fid(config: EvalFidConfig) -> None:
    """FID of each block of real clips, from the best scores to the worst, against all."""
    clips = read_clips(config.data)
    critic = load_action_critic(config.critic, config.data.num_frames)
    classifier = load_action_classifier(config.classifier.classifier_path)
    folder = open_output(config.output)
    features = clips.windows(config.output.seed, frames=config.data.num_frames)
    scores = scores_in_batches(critic, features, config.output.batch_size)
    joints = joints_of_mdm(mdm_of_features(torch.from_numpy(features))).numpy()
    lengths = np.full(len(features), config.data.num_frames)
    read = action_features(classifier, joints, lengths, clips.actions)
    blocks = score_blocks(scores, NUM_BLOCKS)
    rows = [
        {"block": number, "clips": len(block), "fid": fid, "critic": float(scores[block].mean())}
        for number, (block, fid) in enumerate(zip(blocks, block_fids(read.features, blocks), strict=True))
    ]
    (folder / "eval_fid.yaml").write_text(yaml.safe_dump({"note": NOT_COMPARABLE, "blocks": rows}, sort_keys=False))
    print(NOT_COMPARABLE)
    for row in rows:
        print(f"block {row['block']} ({row['clips']} clips, mean score {row['critic']:.3f}): FID {row['fid']:.4f}")
    print(f"results: {folder / 'eval_fid.yaml'}")


def save_gt(config: SaveGtConfig) -> None:
    """Real clips in blocks by score (`motion-evalbatch{0..4}.pth`, 0 the best) and by action (`motion-gt{0..11}.pth`,
    those of UESTC `motion-gtuestc{0..39}.pth`), y up."""
    clips = read_clips(config.data)
    critic = load_action_critic(config.critic, config.data.num_frames)
    folder = open_output(config.output)
    features = clips.windows(config.output.seed, frames=config.data.num_frames)
    scores = scores_in_batches(critic, features, config.output.batch_size)
    motion = upright(mdm_of_features(torch.from_numpy(features)))
    groups = {f"motion-evalbatch{number}": block for number, block in enumerate(score_blocks(scores, NUM_BLOCKS))}
    prefix = "motion-gtuestc" if config.data.dataset == "uestc" else "motion-gt"
    groups |= {
        f"{prefix}{action}": rows
        for action in range(len(clips.names))
        if len(rows := np.flatnonzero(clips.actions == action))
    }
    for name, rows in groups.items():
        save_group(folder / f"{name}.pth", motion[rows], clips.actions[rows], scores[rows], clips.names)
    print(f"{len(groups)} files of {len(features)} clips in {folder}; scores {scores.min():.2f} to {scores.max():.2f}")


def save_group(
    path: Path, motion: torch.Tensor, actions: np.ndarray, scores: np.ndarray, action_names: Sequence[str]
) -> None:
    """Motions [n, 25, 6, T], y up, in the form that `jobs.direct` and MotionCritic's own programs read."""
    names = [action_names[int(action)] for action in actions]
    content = {
        "motion": motion.clone(),
        "comment": [f"{name}, score {score:.3f}" for name, score in zip(names, scores, strict=True)],
        "path": [f"{path.stem}-{place}" for place in range(len(names))],
        "action": torch.from_numpy(np.array(actions)),
        "score": torch.from_numpy(np.array(scores)),
    }
    write_tensors(path, content)
