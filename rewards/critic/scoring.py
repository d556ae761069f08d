"""Scores of motions of any length, by a critic that has learned from short clips.

A motion is scored by windows of as many frames as the critic's clips have, each half over the next, and the last one at
the motion's end. Its score is their mean: a flaw counts by the share of the windows that show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.files.motion import Motion
from motions.skeleton.rotations import quat_slerp
from motions.skeleton.skeletons import Skeleton
from rewards.critic.inputs import CRITIC_FPS
from rewards.critic.network import CLIP_FRAMES, MotionCritic
from rewards.critic.poses import poses_of_joints, poses_of_turns

_BATCH = 64


def window_starts(num_frames: int, window: int) -> list[int]:
    """First frames of the windows of a motion; a motion that is no longer than a window is one."""
    last = max(num_frames - window, 0)
    return [*range(0, last, max(window // 2, 1)), last]


def window_scores(critic: MotionCritic, poses: Sequence[Tensor], window: int = CLIP_FRAMES) -> list[Tensor]:
    """Scores [W_i] float32 of the windows of N motions; gradients flow to the poses.

    Args:
        critic: in eval mode; windows go to its device.
        poses: [T_i, 25, 3] each, see `rewards.critic.poses`.
        window: frames.

    Raises:
        UserError: a window longer than the critic's longest clip.
    """
    if window > critic.config.maxlen:
        raise UserError(f"a window of {window} frames: this critic takes at most {critic.config.maxlen}")
    pieces: list[Tensor] = []
    counts: list[int] = []
    for motion in poses:
        starts = window_starts(len(motion), window)
        pieces += [from_first_frame(motion[start : start + window]) for start in starts]
        counts.append(len(starts))
    device = next(critic.parameters()).device
    scores: list[Tensor] = []
    for place in range(0, len(pieces), _BATCH):
        batch, lengths = pad_poses(pieces[place : place + _BATCH])
        scores.append(critic(batch.to(device), lengths.to(device)))
    return list(torch.cat(scores).split(counts))


def score_windows(critic: MotionCritic, poses: Sequence[Tensor], window: int = CLIP_FRAMES) -> list[np.ndarray]:
    """`window_scores` as arrays, without gradient."""
    with torch.inference_mode():
        return [scores.cpu().numpy() for scores in window_scores(critic, poses, window)]


def score_joints(
    critic: MotionCritic, motions: Sequence[np.ndarray], skeleton: Skeleton, fps: float, window: int = CLIP_FRAMES
) -> list[np.ndarray]:
    """`score_windows` of joint positions [T_i, J, 3] in metres at `fps` frames per second: approximate, by inverse
    kinematics, at the 20 frames per second that critics know."""
    with torch.inference_mode():
        scores = joint_scores(critic, [torch.from_numpy(joints) for joints in motions], skeleton, fps, window)
    return [each.cpu().numpy() for each in scores]


def joint_scores(
    critic: MotionCritic, motions: Sequence[Tensor], skeleton: Skeleton, fps: float, window: int = CLIP_FRAMES
) -> list[Tensor]:
    """`score_joints` of tensors; gradients flow to the joints."""
    placed = [resampled(joints, fps, CRITIC_FPS) for joints in motions]
    poses: dict[int, Tensor] = {}
    # Inverse kinematics is many small operations, which cost as much for one motion as for several of a length.
    for length in dict.fromkeys(map(len, placed)):
        rows = [row for row, joints in enumerate(placed) if len(joints) == length]
        poses |= zip(rows, poses_of_joints(torch.stack([placed[row] for row in rows]), skeleton), strict=True)
    return window_scores(critic, [poses[row] for row in range(len(placed))], window)


def poses_of_motion(motion: Motion) -> Tensor:
    """Poses [T, 25, 3] of a motion from a file, at the 20 frames per second that critics know: by its own rotations if
    it has them, otherwise approximate, by inverse kinematics."""
    joints = resampled(torch.from_numpy(motion.joints.astype(np.float64)), motion.fps, CRITIC_FPS)
    if motion.turns is None:
        return poses_of_joints(joints[None], motion.skeleton)[0]
    before, after, share = _between(len(motion.turns), motion.fps, CRITIC_FPS)
    turns = torch.from_numpy(motion.turns)
    turns = quat_slerp(turns[before], turns[after], torch.from_numpy(share)[:, None].expand(-1, turns.shape[1]))
    return poses_of_turns(turns, joints[:, 0])


def from_first_frame(poses: Tensor) -> Tensor:
    """Poses [T, 25, 3] with the translation counted from their first frame."""
    return torch.cat((poses[:, :-1], poses[:, -1:] - poses[:1, -1:]), dim=1)


def pad_poses(pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A batch [B, T, 25, 3] of pieces [T_i, 25, 3], zero after their ends, and their lengths [B] int64."""
    return torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True), torch.tensor([len(p) for p in pieces])


def resampled(joints: Tensor, fps: float, wanted_fps: float) -> Tensor:
    """Joints [T, J, 3] at other times, linear between the frames; the first frame stays and nothing is extrapolated."""
    if fps == wanted_fps:
        return joints
    before, after, share = _between(len(joints), fps, wanted_fps)
    later = torch.from_numpy(share)[:, None, None]
    return ((1.0 - later) * joints[before] + later * joints[after]).to(joints.dtype)


def _between(num_frames: int, fps: float, wanted_fps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames before and after each wanted time, and the share of the later one, [T] each."""
    times = np.arange(int((num_frames - 1) / fps * wanted_fps + 1e-6) + 1) * (fps / wanted_fps)
    before = np.minimum(times.astype(np.int64), num_frames - 1)
    return before, np.minimum(before + 1, num_frames - 1), times - before
