"""`jobs.direct`: the motion itself is changed by the critic's gradient, without a policy.

It shows what the critic alone asks for, and how it is exploited: the score rises while nothing holds the motion near
real ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from jobs.actions.parts import load_action_critic, open_output, write_tensors
from jobs.actions.settings import DirectConfig
from motions.base.errors import UserError
from motions.base.safe_files import TensorFileError, read_tensor_file
from rewards.critic.network import CLIP_CEILING, NUM_ROWS, MotionCritic
from rewards.critic.poses import poses_of_rotations, rotations_of_poses


def direct(config: DirectConfig) -> None:
    """Optimises the motions of `input_path`, and writes them at every `save_interval`."""
    motion, comments = read_motions(config.input_path)
    critic = load_action_critic(config.critic, motion.shape[3])
    folder = open_output(config.output)
    poses = poses_of_rotations(motion).detach().requires_grad_()
    optimizer = torch.optim.Adam([poses], lr=config.lr)
    first = _scores(critic, poses)
    for step in range(1, config.num_steps + 1):
        loss = config.scale * rising_loss(critic(poses)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config.save_interval == 0 or step == config.num_steps:
            scores = _scores(critic, poses)
            notes = [f"{note}, score {score:.3f}" for note, score in zip(comments, scores.tolist(), strict=True)]
            content = {"motion": rotations_of_poses(poses.detach()), "comment": notes, "score": scores}
            write_tensors(folder / f"step{step}" / f"step{step}.pth", content)
            print(f"step {step}: mean score {float(scores.mean()):.3f}, at first {float(first.mean()):.3f}")
    print(f"motions in {folder}")


def rising_loss(scores: Tensor) -> Tensor:
    """Loss [N] of scores [N], for each clip by itself: sigmoid(12 - score), whose descent raises the score."""
    return torch.sigmoid(CLIP_CEILING - scores)


def read_motions(path: Path) -> tuple[Tensor, list[str]]:
    """Motions [N, 25, 6, T] of a file, y up, and a comment for each.

    Raises:
        UserError: no such file, or it holds something else, or numbers that are not finite.
    """
    if not path.is_file():
        raise UserError(f"input_path {path}: no such file; python -m jobs.save_gt writes such files")
    try:
        content = read_tensor_file(path)
    except TensorFileError as error:
        raise UserError(f"input_path {error}") from error
    motion = content.get("motion") if isinstance(content, dict) else content
    if not isinstance(motion, Tensor) or motion.ndim != 4 or motion.shape[1:3] != (NUM_ROWS, 6) or not len(motion):
        found = tuple(motion.shape) if isinstance(motion, Tensor) else type(motion).__name__
        raise UserError(f"input_path {path}: motion is {found}; expected [N, {NUM_ROWS}, 6, T]")
    if not bool(motion.isfinite().all()):
        raise UserError(f"input_path {path}: motions with numbers that are not finite")
    comments = content.get("comment") if isinstance(content, dict) else None
    if not isinstance(comments, list) or len(comments) != len(motion):
        comments = [f"clip {place}" for place in range(len(motion))]
    return motion.float(), [str(comment) for comment in comments]


def _scores(critic: MotionCritic, poses: Tensor) -> Tensor:
    with torch.no_grad():
        return critic(poses)
