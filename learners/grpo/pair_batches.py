"""Divides the trajectories of an update into micro-batches of (sample, step) pairs.

The order is fixed: groups as given, then steps, then samples. A micro-batch only mixes groups whose motions
are padded to the same number of frames, whose texts have the same number of tokens, and which are cut into the same
segments, because padding can change the result of a network, and then the ratio would not start at 1.

Samples that share their initial noise are in the same state until the first stochastic step: its pairs differ in the
sampled next state and in the advantage, not in the Gaussian. Such pairs share one row of the forward, which with a
window of two steps saves almost half of the work.

Legend: P groups, N samples, S recorded steps, M pairs and U distinct states of a micro-batch, L tokens, E text width;
a state has R rows of F numbers: frames and features of a noisy motion, or what a policy has in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motions.base.errors import UserError
from rollouts.messages import Boundaries, Trajectory


@dataclass(frozen=True, slots=True)
class PairOrigins:
    """Origins of M pairs, a few bytes each."""

    groups: np.ndarray
    """Index of the group in the update, [M]."""
    samples: np.ndarray
    """Index of the sample in its group, [M]."""
    positions: np.ndarray
    """Position in the denoising sequence, [M] int64, 0 = noisiest."""

    def __len__(self) -> int:
        return len(self.groups)

    def described(self, pair: int) -> str:
        """Description of a pair's origin, for messages."""
        return f"group {self.groups[pair]}, sample {self.samples[pair]}, denoising position {self.positions[pair]}"


@dataclass(frozen=True, slots=True)
class PairBatch:
    """M pairs as NumPy arrays, and the U distinct states that they are in."""

    states: np.ndarray
    """[U, R, F] float32."""
    state_positions: np.ndarray
    """Place of each state in the denoising sequence [U] int64, 0 = noisiest."""
    state_lengths: np.ndarray
    """[U] int64."""
    text: np.ndarray
    """[U, L, E] float32, with segments [U, K, L, E]."""
    text_mask: np.ndarray | None
    """[U, L] or [U, K, L] bool, True = real token; None = all are real."""
    boundaries: Boundaries
    """Frames of the segments of every state; empty where one text is for all frames."""
    num_frames: int
    """Frames of the motions, where the trajectories say their prompts; else 0."""
    rows: np.ndarray
    """Which state each pair is in [M] int64."""
    next_states: np.ndarray
    """[M, R, F] float32."""
    old_log_probs: np.ndarray
    """[M] float32."""
    advantages: np.ndarray
    """[M] float32."""
    origins: PairOrigins

    def __len__(self) -> int:
        return len(self.rows)


def require_trajectories(
    trajectories: Sequence[Trajectory], advantages: np.ndarray, version: int, staleness: int = 0
) -> None:
    """Checks that trajectories fit each other, their advantages [P, N] and the learner's version.

    Args:
        staleness: largest number of updates by which the version that rolled out, the same for all groups, may be
            behind.

    Raises:
        ValueError: naming the group and what is wrong with it; UserError where its numbers are not finite.
    """
    if not trajectories:
        raise ValueError("the update has no trajectories")
    if advantages.ndim != 2 or len(advantages) != len(trajectories):
        raise ValueError(f"advantages have shape {advantages.shape}; expected [{len(trajectories)} groups, samples]")
    for group, trajectory in enumerate(trajectories):
        num_steps, num_samples = trajectory.states.shape[:2]
        acted = trajectory.policy_version
        if not version - staleness <= acted <= version:
            raise ValueError(
                f"group {group} was rolled out by policy version {acted}, the learner is at {version}"
                + (f" and may be at most {staleness} ahead" if staleness else "")
            )
        if acted != trajectories[0].policy_version:
            raise ValueError(
                f"group {group} was rolled out by policy version {acted}, group 0 by {trajectories[0].policy_version}"
            )
        if num_steps == 0:
            raise ValueError(f"group {group} recorded no denoising step: nothing to train (trained_steps is empty)")
        if num_samples != advantages.shape[1]:
            raise ValueError(f"group {group} has {num_samples} samples but {advantages.shape[1]} advantages")
        for name in ("states", "next_states", "log_probs"):
            if not np.isfinite(getattr(trajectory, name)).all():
                raise UserError(f"{name} of group {group} are not finite")
    if not np.isfinite(advantages).all():
        group, sample = np.argwhere(~np.isfinite(advantages))[0]
        raise ValueError(f"the advantage of group {group}, sample {sample} is {advantages[group, sample]}")


def split_groups(kept: Sequence[int], groups_per_window: int) -> list[list[int]]:
    """Divides group indices into consecutive windows; with `groups_per_window` 0 all are in one."""
    size = groups_per_window or max(len(kept), 1)
    return [list(kept[start : start + size]) for start in range(0, len(kept), size)]


def num_pairs(trajectories: Sequence[Trajectory], groups: Sequence[int]) -> int:
    """Number of (sample, step) pairs of the groups."""
    return sum(int(np.prod(trajectories[group].states.shape[:2])) for group in groups)


def micro_batches(
    trajectories: Sequence[Trajectory],
    advantages: np.ndarray,
    groups: Sequence[int],
    size: int,
    rank: int = 0,
    num_learners: int = 1,
) -> Iterator[tuple[int, PairBatch]]:
    """Numbered batches of at most `size` pairs of the groups, in the fixed order. Only the current one is in memory.

    Args:
        rank: of this learner; it gets every `num_learners`-th batch, beginning with this number.
    """
    number = 0
    start = 0
    while start < len(groups):
        end = start + 1
        while end < len(groups) and _shape(trajectories[groups[end]]) == _shape(trajectories[groups[start]]):
            end += 1
        # [number of pairs, 3]: group, step, sample.
        places = np.concatenate([_places(group, trajectories[group]) for group in groups[start:end]])
        for first in range(0, len(places), size):
            if number % num_learners == rank:
                yield number, _gather(trajectories, advantages, places[first : first + size])
            number += 1
        start = end


def _shape(trajectory: Trajectory) -> tuple[object, ...]:
    """What has to agree within a batch: shape of a state, tokens, text width, whether tokens are masked, segments,
    frames."""
    condition = trajectory.condition
    return (
        *trajectory.states.shape[2:],
        *condition.values.shape,
        condition.mask is not None,
        condition.boundaries,
        _num_frames(trajectory),
    )


def _num_frames(trajectory: Trajectory) -> int:
    return 0 if trajectory.prompt is None else trajectory.prompt.num_frames


def _places(group: int, trajectory: Trajectory) -> np.ndarray:
    steps, samples = np.indices(trajectory.states.shape[:2]).reshape(2, -1)
    return np.stack([np.full_like(steps, group), steps, samples], axis=1)


def _gather(trajectories: Sequence[Trajectory], advantages: np.ndarray, places: np.ndarray) -> PairBatch:
    states, positions, lengths, text, masks, rows = [], [], [], [], [], []
    next_states, old_log_probs = [], []
    num_states = 0
    # Consecutive pairs with the same group and step.
    starts = np.flatnonzero(np.diff(places[:, :2], axis=0, prepend=-1).any(axis=1))
    for run in np.split(places, starts[1:]):
        group, step = run[0, :2]
        samples = run[:, 2]
        trajectory = trajectories[group]
        distinct = samples[:1] if _in_one_state(trajectory, step, samples) else samples
        states.append(trajectory.states[step, distinct])
        positions.append(np.full(len(distinct), trajectory.steps[step]))
        lengths.append(trajectory.lengths[distinct])
        text.append(_repeated(trajectory.condition.values, len(distinct)))
        if trajectory.condition.mask is not None:
            masks.append(_repeated(trajectory.condition.mask, len(distinct)))
        rows.append(num_states + (np.zeros(len(samples), np.int64) if len(distinct) == 1 else np.arange(len(samples))))
        next_states.append(trajectory.next_states[step, samples])
        old_log_probs.append(trajectory.log_probs[step, samples])
        num_states += len(distinct)
    groups, _, samples = places.T
    joined_rows, joined_positions = np.concatenate(rows), np.concatenate(positions)
    return PairBatch(
        states=np.concatenate(states),
        state_positions=joined_positions,
        state_lengths=np.concatenate(lengths),
        text=np.concatenate(text),
        text_mask=np.concatenate(masks) if masks else None,
        boundaries=trajectories[groups[0]].condition.boundaries,
        num_frames=_num_frames(trajectories[groups[0]]),
        rows=joined_rows,
        next_states=np.concatenate(next_states),
        old_log_probs=np.concatenate(old_log_probs),
        advantages=advantages[groups, samples].astype(np.float32),
        origins=PairOrigins(groups, samples, joined_positions[joined_rows]),
    )


def _repeated(array: np.ndarray, times: int) -> np.ndarray:
    """[...] as [times, ...]."""
    return np.broadcast_to(array, (times, *array.shape))


def _in_one_state(trajectory: Trajectory, step: int, samples: np.ndarray) -> bool:
    """Whether the samples have bitwise equal states and equal lengths before a recorded step."""
    first = samples[0]
    if (trajectory.lengths[samples] != trajectory.lengths[first]).any():
        return False
    states = trajectory.states[step]
    return all(np.array_equal(states[sample], states[first]) for sample in samples[1:])
