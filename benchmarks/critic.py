"""How often a critic prefers a real motion to a flawed one, and what a cheater would earn by it.

    python -m benchmarks.critic [--critic builtin] [--pairs 200] [--seed 1] [--json PATH] [--check]

The motions are those of the built-in recordings that the built-in critic neither learned from nor was chosen by, in
windows as long as its clips; the seed is none of its training's.

Flaws (`motions.data.flaws`), each in as many pairs as `--pairs` says: how often the clean motion scores higher than the
same motion with the flaw at a strength of .5 to 1, and how often less of the flaw scores higher than more of it.

Cheats, each of 24 windows: what might score well and is not how a person moves.

    still        the first pose throughout
    half_speed   half as fast
    in_place     the body moves as before and stays where it is
    backwards    the frames in reverse order
    smoothed     every joint's path is a mean over half a second
    t_pose       arms out, legs straight, gliding as the real body does
    ascent       the still pose after 40 steps along the gradient of its score

The reward is that of `--critic_weight`, the logarithm of the probability of being preferred to a typical real motion. A
cheat reaches a window if its reward is at least that of the real one. Target with `--check`, which ends with 1 if it is
missed: the clean motion is preferred in 90 % of the pairs of every flaw. Cheats have no target; they say what to watch.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learners.supervised.critic import PairBatch
from learners.supervised.critic_pairs import SyntheticPairs, split_recordings
from motions.base.atomic import atomic_write
from motions.data.dataset import load_dataset
from motions.data.flaws import FLAWS
from motions.skeleton.skeletons import HUMANML3D
from rewards.critic.checkpoints import LoadedCritic
from rewards.critic.network import MotionCritic
from rewards.critic.poses import poses_of_joints
from rewards.critic.scorer import load_critic_of, reference_of, reward_of_scores
from rewards.critic.scoring import score_windows
from rewards.declared.critic import CriticModelSettings

WINDOWS = 24
ASCENT_STEPS = 40
TARGET = 0.9

Table = dict[str, dict[str, float]]


def held_out(frames: int) -> SyntheticPairs:
    """Synthetic pairs of the recordings of the test, in windows of so many frames."""
    dataset = load_dataset("builtin")
    items = [item for split in ("train", "test") if split in dataset.splits for item in dataset.items(split)]
    return SyntheticPairs(split_recordings(items)["test"], dataset.skeleton, frames, frames)


def flaw_table(loaded: LoadedCritic, pairs: SyntheticPairs, number: int, seed: int) -> Table:
    """Shares of pairs in which the cleaner motion scores higher, by flaw."""
    table: Table = {}
    for place, flaw in enumerate(FLAWS):
        against_clean = pairs.of_flaw(flaw, np.random.default_rng([seed, place, 0]), number, graded_share=0.0)
        against_less = pairs.of_flaw(flaw, np.random.default_rng([seed, place, 1]), number, graded_share=1.0)
        table[flaw] = {"clean": _share(loaded, against_clean), "less": _share(loaded, against_less)}
    return table


def _share(loaded: LoadedCritic, batch: PairBatch) -> float:
    better, worse = (_means(loaded, list(side)) for side in (batch.better, batch.worse))
    return float((better > worse).mean())


def _means(loaded: LoadedCritic, poses: list[Tensor]) -> np.ndarray:
    return np.array([scores.mean() for scores in score_windows(loaded.critic, poses, loaded.clip_frames)])


def cheats(joints: Tensor, critic: MotionCritic) -> dict[str, Tensor]:
    """The cheats as poses [B, T, 25, 3], by name, of windows of joints [B, T, 22, 3]."""
    frames = torch.arange(joints.shape[1])
    in_place = joints - (joints[:, :, :1] - joints[:, :1, :1]) * joints.new_tensor([1.0, 0.0, 1.0])
    padded = F.pad(joints.flatten(2).transpose(1, 2), (5, 5), mode="replicate")
    smoothed = F.avg_pool1d(padded, 11, 1).transpose(1, 2).unflatten(2, joints.shape[2:])
    made = {
        "still": joints[:, :1].expand_as(joints),
        "half_speed": (joints[:, frames // 2] + joints[:, (frames + 1) // 2]) / 2,
        "in_place": in_place,
        "backwards": joints.flip(1),
        "smoothed": smoothed,
    }
    poses = {name: poses_of_joints(motion, HUMANML3D) for name, motion in made.items()}
    t_pose = poses_of_joints(joints, HUMANML3D)
    t_pose[:, :, 0], t_pose[:, :, 1:-1] = t_pose[:, :1, 0], 0.0
    return {**poses, "t_pose": t_pose, "ascent": ascended(critic, poses["still"])}


def ascended(critic: MotionCritic, poses: Tensor) -> Tensor:
    """Poses [B, T, 25, 3] after some steps of Adam along the gradient of their scores."""
    changed = poses.clone().requires_grad_()
    optimizer = torch.optim.Adam([changed], lr=0.02)
    for _ in range(ASCENT_STEPS):
        optimizer.zero_grad()
        (-critic(changed).sum()).backward()
        optimizer.step()
    return changed.detach()


def cheat_table(loaded: LoadedCritic, pairs: SyntheticPairs, seed: int, reference: float) -> Table:
    """Mean score and reward of each cheat, and the share of windows whose reward it reaches; `real` is the first."""
    joints = torch.from_numpy(np.stack(pairs.windows(np.random.default_rng([seed, len(FLAWS)]), WINDOWS)))
    made = {"real": poses_of_joints(joints, HUMANML3D)} | cheats(joints, loaded.critic)
    scores = {name: _means(loaded, list(poses)) for name, poses in made.items()}
    rewards = {
        name: np.array([float(reward_of_scores(value, reference)) for value in torch.from_numpy(values)[:, None]])
        for name, values in scores.items()
    }
    return {
        name: {
            "score": float(scores[name].mean()),
            "reward": float(rewards[name].mean()),
            "reaches_real": float((rewards[name] >= rewards["real"]).mean()),
        }
        for name in made
    }


def main(argv: list[str] | None = None) -> int:
    """Prints both tables; 1 if a target is missed and `--check` is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--critic", default="builtin", help="builtin, a file, or a folder of jobs.train_critic")
    parser.add_argument("--pairs", type=int, default=200, help="pairs of each flaw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the tables")
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    options = parser.parse_args(argv)
    own = CriticModelSettings(critic_checkpoint_path=options.critic)
    loaded = load_critic_of(own)
    loaded.critic.requires_grad_(False)
    pairs = held_out(loaded.clip_frames)
    flaws = flaw_table(loaded, pairs, options.pairs, options.seed)
    found = cheat_table(loaded, pairs, options.seed, reference_of(loaded, own))
    print(f"critic {loaded.source}; recordings: {', '.join(pairs.sources)}")
    print(f"{'flaw':<18}  clean preferred  less preferred")
    for name, row in flaws.items():
        print(f"{name:<18}  {row['clean']:>15.3f}  {row['less']:>14.3f}")
    print(f"{'motion':<18}  {'score':>8}  {'reward':>8}  reaches real")
    for name, row in found.items():
        print(f"{name:<18}  {row['score']:>8.2f}  {row['reward']:>8.3f}  {row['reaches_real']:>12.3f}")
    if options.json:
        with atomic_write(options.json) as file:
            file.write(json.dumps({"flaws": flaws, "cheats": found}, indent=1).encode())
    missed = [name for name, row in flaws.items() if row["clean"] < TARGET]
    if missed:
        print(f"missed: {', '.join(missed)}")
    return int(bool(missed) and options.check)


if __name__ == "__main__":
    sys.exit(main())
