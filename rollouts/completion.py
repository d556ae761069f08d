"""Motions that go on from given frames, or lie between them.

Completion is in-painting: before every denoising step the given frames replace the policy's own prediction of the clean
motion, so that they are kept exactly and the others are made to fit (Tevet et al. 2023, section 4.1; the prefix
completion of CLoSD's DiP, Tevet et al. 2024, with a policy that needs no training for it). A motion of any length is
made window by window, each of which continues the last frames of the one before: `generate_onward`, or in parts that
have prompts of their own: `generate_parts`.

Features of HumanML3D and KIT are relative to the root of their frame, so frames that follow each other are a motion
whatever place and direction the given ones had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from motions.base.errors import UserError
from motions.data.composites import merged_prompt
from motions.data.prompts import MIN_SEGMENT_FRAMES, OVERLAP_FRAMES, Prompt, Segment
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.requests import evaluation_requests, prompt_conditions
from rollouts.diffusion.windows import ancestral_positions
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import GivenFrames, GroupMotions, PolicyVersion
from rollouts.text.encoders import TextEncoder


@dataclass(frozen=True, slots=True)
class Windows:
    """How a motion is made in parts."""

    context_frames: int
    """Frames before a window that it continues."""
    new_frames: int
    """Frames that it adds."""

    def check(self, policy: DiffusionPolicy) -> None:
        """Checks that the policy can make a window.

        Raises:
            UserError: too few frames, or too many.
        """
        at_once = self.context_frames + self.new_frames
        too_few = self.context_frames < 1 or self.new_frames < MIN_SEGMENT_FRAMES
        if too_few or at_once + MIN_SEGMENT_FRAMES > policy.most_frames_at_once:
            raise UserError(
                f"context_len is {self.context_frames} and pred_len {self.new_frames}; expected at least 1 and "
                f"{MIN_SEGMENT_FRAMES}, together at most {policy.most_frames_at_once - MIN_SEGMENT_FRAMES}"
            )


def keep_ends(features: np.ndarray, num_frames: int, first: int, last: int = 0) -> GivenFrames:
    """The first frames of a motion at the beginning of another, and its last ones at the end.

    Args:
        features: [T, D] in physical units.
        num_frames: length of the motion to be made.
        first: number of its first frames that are given.
        last: number of its last frames that are given.

    Raises:
        UserError: nothing is given or nothing left to make, or the motion is shorter than what is kept of it.

    Example:
        keep_ends(walk, num_frames=120, first=20, last=20)   # in-betweening of 80 frames
    """
    if min(first, last) < 0 or first + last < 1:
        raise UserError(f"{first} first and {last} last frames are kept; at least one is needed")
    if first + last >= num_frames:
        raise UserError(f"{first} first and {last} last frames are kept of {num_frames}; nothing is left to make")
    if len(features) < max(first, last):
        raise UserError(f"the given motion has {len(features)} frames; {max(first, last)} are to be kept")
    motion = np.zeros((1, num_frames, features.shape[1]), np.float32)
    keep = np.zeros(num_frames, bool)
    if first:
        motion[0, :first], keep[:first] = features[:first], True
    if last:
        motion[0, -last:], keep[-last:] = features[-last:], True
    return GivenFrames(motion, keep)


def generate_onward(
    policy: DiffusionPolicy,
    encoder: TextEncoder,
    prompts: Sequence[Prompt],
    num_samples: int,
    seed: int,
    windows: Windows,
    *,
    beginning: np.ndarray | None = None,
    stochastic: bool = False,
) -> list[GroupMotions]:
    """`num_samples` motions of each prompt, window by window; a function of the arguments.

    Each window is denoised under the text of the segment in which it begins, and ends where that segment ends.

    Args:
        windows: frames that a window continues, and adds.
        beginning: features [T, D] of the first frames of all motions; by default the first window is made from nothing.
        stochastic: draw noise in every step; otherwise only the initial noise.

    Raises:
        UserError: the policy cannot make so many frames at once, a prompt is not longer than its beginning, or cannot
            be read.
    """
    windows.check(policy)
    at_once = windows.context_frames + windows.new_frames
    worker, version = RolloutWorker(policy), PolicyVersion(0, policy.weights())
    steps = ancestral_positions(policy.num_steps) if stochastic else ()
    groups = []
    for index, prompt in enumerate(prompts):
        if beginning is not None and len(beginning) >= prompt.num_frames:
            raise UserError(
                f"prompt {prompt.text!r:.100} lasts {prompt.num_frames} frames, and {len(beginning)} are given"
            )
        texts = dict.fromkeys(segment.text for segment in prompt.segments)
        single = [Prompt(text, (Segment(text, at_once),)) for text in texts]
        conditions = dict(zip(texts, prompt_conditions(policy, encoder, single), strict=True))
        start = np.zeros((0, policy.skeleton.num_features), np.float32) if beginning is None else beginning
        made = np.repeat(start[None].astype(np.float32), num_samples, axis=0)
        seconds = 0.0
        for number, (text, end) in enumerate(_parts(prompt, len(start), windows.new_frames)):
            context = made[:, -windows.context_frames :] if made.shape[1] else made
            whole = _padded(context, end - made.shape[1] + context.shape[1])
            window = Prompt(text, (Segment(text, whole.shape[1]),))
            [request] = evaluation_requests([window], [conditions[text]], num_samples, seed, 0, steps)
            keep = np.arange(whole.shape[1]) < context.shape[1]
            given = GivenFrames(whole, keep) if keep.any() else None
            group, _ = worker.run(replace(request, step=number, prompt_index=index, given=given), version)
            made = np.concatenate([made, group.features[:, context.shape[1] :]], axis=1)
            seconds += group.seconds
        lengths = np.full(num_samples, prompt.num_frames, dtype=np.int64)
        groups.append(GroupMotions(made, lengths, prompt, version.number, seconds))
    return groups


def generate_parts(
    policy: DiffusionPolicy,
    encoder: TextEncoder,
    motions: Sequence[Sequence[Prompt]],
    num_samples: int,
    seed: int,
    *,
    overlap_frames: int = OVERLAP_FRAMES,
    stochastic: bool = False,
) -> list[GroupMotions]:
    """`num_samples` motions, each made part by part; a function of the arguments. A motion of one part is that of
    `generate`.

    The last frames of a part are given as the first ones of the next, which so goes on in their heading: its features
    are relative to them.

    Args:
        motions: prompts of the parts of each motion.
        overlap_frames: of a part from which the next one goes on; fewer where it is shorter.
        stochastic: draw noise in every step; otherwise only the initial noise.

    Raises:
        UserError: a part that the policy cannot make at once together with its overlap, or cannot read.
    """
    worker, version = RolloutWorker(policy), PolicyVersion(0, policy.weights())
    steps = ancestral_positions(policy.num_steps) if stochastic else ()
    groups = []
    for index, parts in enumerate(motions):
        windows, ends = _continued(parts, overlap_frames)
        if len(parts) > 1 and (longest := max(one.num_frames for one in windows)) > policy.most_frames_at_once:
            raise UserError(
                f"a part of {merged_prompt(parts).text!r:.100} has {longest} frames with the {overlap_frames} that it "
                f"goes on from; this policy makes {policy.most_frames_at_once} at once: give a smaller max_frames to "
                "jobs.parse_scene"
            )
        conditions = prompt_conditions(policy, encoder, windows)
        made = np.zeros((num_samples, 0, policy.skeleton.num_features), np.float32)
        seconds = 0.0
        for number, (window, condition) in enumerate(zip(windows, conditions, strict=True)):
            [request] = evaluation_requests([window], [condition], num_samples, seed, 0, steps)
            context = made[:, made.shape[1] - ends[number] :]
            given = GivenFrames(_padded(context, window.num_frames), np.arange(window.num_frames) < ends[number])
            request = replace(request, step=number, prompt_index=index, given=given if number else None)
            group, _ = worker.run(request, version)
            made = np.concatenate([made, group.features[:, ends[number] :]], axis=1)
            seconds += group.seconds
        lengths = np.full(num_samples, made.shape[1], dtype=np.int64)
        groups.append(GroupMotions(made, lengths, merged_prompt(parts), version.number, seconds))
    return groups


def _continued(parts: Sequence[Prompt], overlap_frames: int) -> tuple[list[Prompt], list[int]]:
    """Prompts of the parts with the frames that they go on from, which belong to their first segments, and the number
    of these frames."""
    windows, ends, done = [], [], 0
    for part in parts:
        ends.append(min(overlap_frames, done))
        first, *others = part.segments
        windows.append(Prompt(part.text, (Segment(first.text, first.num_frames + ends[-1]), *others)))
        done += part.num_frames
    return windows, ends


def _padded(context: np.ndarray, num_frames: int) -> np.ndarray:
    """[N, T, D] of [N, t, D], with zeros for the frames that are to be made."""
    new = np.zeros((len(context), num_frames - context.shape[1], context.shape[2]), np.float32)
    return np.concatenate([context, new], axis=1)


def _parts(prompt: Prompt, done: int, most: int) -> list[tuple[str, int]]:
    """The text of every window and the frame at which it ends, after `done` frames; a rest that is too short for a
    window of its own belongs to the one before it."""
    parts: list[tuple[str, int]] = []
    for segment, (start, end) in zip(prompt.segments, prompt.boundaries, strict=True):
        at = max(start, done)
        while at < end:
            stop = min(at + most, end)
            if end - stop < MIN_SEGMENT_FRAMES:
                stop = end
            parts.append((segment.text, stop))
            at = stop
    return parts
