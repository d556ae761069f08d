"""From the trajectories of an update to micro-batches of (sample, step) pairs.

The order is fixed: groups as given, then denoising steps, then samples. A micro-batch mixes groups only where their
motions are padded to the same number of frames and their texts have the same number of tokens, because padding can
change what a network computes, and then the ratio would not start at 1.

Legend: P groups, N samples, S recorded steps, M pairs of a micro-batch, T frames, D features, L tokens, E text width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rollouts.messages import Trajectory


@dataclass(frozen=True, slots=True)
class PairBatch:
    """M pairs as NumPy arrays, and where they come from."""

    states: np.ndarray
    """[M, T, D] float32."""
    next_states: np.ndarray
    """[M, T, D] float32."""
    positions: np.ndarray
    """Place in the denoising sequence [M] int64, 0 = noisiest."""
    old_log_probs: np.ndarray
    """[M] float32."""
    advantages: np.ndarray
    """[M] float32."""
    lengths: np.ndarray
    """[M] int64."""
    text: np.ndarray
    """[M, L, E] float32."""
    groups: np.ndarray
    """Index of the group in the update [M]."""
    samples: np.ndarray
    """Index in the group [M]."""

    def __len__(self) -> int:
        return len(self.positions)

    def described(self, pair: int) -> str:
        """Where a pair comes from, for messages."""
        return f"group {self.groups[pair]}, sample {self.samples[pair]}, denoising position {self.positions[pair]}"


def require_trajectories(trajectories: Sequence[Trajectory], advantages: np.ndarray, version: int) -> None:
    """Check that trajectories fit each other, their advantages [P, N] and the learner's version.

    Raises:
        ValueError: naming the group and what is wrong with it.
    """
    if not trajectories:
        raise ValueError("the update has no trajectories")
    if advantages.ndim != 2 or len(advantages) != len(trajectories):
        raise ValueError(f"advantages have shape {advantages.shape}; expected [{len(trajectories)} groups, samples]")
    for group, trajectory in enumerate(trajectories):
        num_steps, num_samples = trajectory.states.shape[:2]
        if trajectory.policy_version != version:
            raise ValueError(
                f"group {group} was rolled out by policy version {trajectory.policy_version}, "
                f"the learner is at {version}"
            )
        if num_steps == 0:
            raise ValueError(f"group {group} recorded no denoising step: nothing to train (trained_steps is empty)")
        if num_samples != advantages.shape[1]:
            raise ValueError(f"group {group} has {num_samples} samples but {advantages.shape[1]} advantages")
        for name in ("states", "next_states", "log_probs"):
            if not np.isfinite(getattr(trajectory, name)).all():
                raise ValueError(f"{name} of group {group} are not finite")
    if not np.isfinite(advantages).all():
        group, sample = np.argwhere(~np.isfinite(advantages))[0]
        raise ValueError(f"the advantage of group {group}, sample {sample} is {advantages[group, sample]}")


def split_groups(kept: Sequence[int], groups_per_window: int) -> list[list[int]]:
    """Consecutive windows of group indices; 0 groups a window means all in one."""
    size = groups_per_window or max(len(kept), 1)
    return [list(kept[start : start + size]) for start in range(0, len(kept), size)]


def num_pairs(trajectories: Sequence[Trajectory], groups: Sequence[int]) -> int:
    """Pairs (sample, step) of the groups."""
    return sum(int(np.prod(trajectories[group].states.shape[:2])) for group in groups)


def micro_batches(
    trajectories: Sequence[Trajectory], advantages: np.ndarray, groups: Sequence[int], size: int
) -> Iterator[PairBatch]:
    """Batches of at most `size` pairs of the groups, in the fixed order. Only the current one is in memory."""
    start = 0
    while start < len(groups):
        end = start + 1
        while end < len(groups) and _shape(trajectories[groups[end]]) == _shape(trajectories[groups[start]]):
            end += 1
        # [number of pairs, 3]: group, step, sample.
        places = np.concatenate([_places(group, trajectories[group]) for group in groups[start:end]])
        for first in range(0, len(places), size):
            yield _gather(trajectories, advantages, places[first : first + size])
        start = end


def _shape(trajectory: Trajectory) -> tuple[int, ...]:
    """What has to agree within a batch: frames, features, tokens, text width."""
    return (*trajectory.states.shape[2:], *trajectory.condition.values.shape)


def _places(group: int, trajectory: Trajectory) -> np.ndarray:
    steps, samples = np.indices(trajectory.states.shape[:2]).reshape(2, -1)
    return np.stack([np.full_like(steps, group), steps, samples], axis=1)


def _gather(trajectories: Sequence[Trajectory], advantages: np.ndarray, places: np.ndarray) -> PairBatch:
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("x", "y", "position", "old", "length", "text")}
    for group in np.unique(places[:, 0]):
        trajectory = trajectories[group]
        _, steps, samples = places[places[:, 0] == group].T
        parts["x"].append(trajectory.states[steps, samples])
        parts["y"].append(trajectory.next_states[steps, samples])
        parts["position"].append(trajectory.steps[steps])
        parts["old"].append(trajectory.log_probs[steps, samples])
        parts["length"].append(trajectory.lengths[samples])
        text = trajectory.condition.values
        parts["text"].append(np.broadcast_to(text, (len(steps), *text.shape)))
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    groups, _, samples = places.T
    return PairBatch(
        states=joined["x"],
        next_states=joined["y"],
        positions=joined["position"],
        old_log_probs=joined["old"],
        advantages=advantages[groups, samples].astype(np.float32),
        lengths=joined["length"],
        text=joined["text"],
        groups=groups,
        samples=samples,
    )
