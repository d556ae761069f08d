"""Demonstrations: visited states, labelled with an expert's actions.

They are the data of behaviour cloning with DAgger (Ross et al. 2011): in round k the expert acts with probability
beta_k and the clone otherwise, with noise on the executed actions; every visited state is labelled with the expert's
action without noise; the data of all rounds are kept. A state and its label belong to the same instant, before the
step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

ActionFunction = Callable[[np.ndarray], np.ndarray]
"""Maps raw observations [N, O] to actions [N, A]."""


class ImitationEnv(Protocol):
    """The parts of `envs.mujoco.vector_environment.DeepMimicVectorEnv` that demonstrations use."""

    num_envs: int
    metadata: dict[str, Any]

    @property
    def task(self) -> Any:
        """The imitation task, which has `phase` [N]."""
        ...

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts new episodes; returns observations [N, O] and infos."""
        ...

    def step(self, actions: np.ndarray, /) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step; returns observations, rewards, terminated, truncated, infos, all with N rows."""
        ...


class Expert(Protocol):
    """Labels the present states of an environment."""

    def label(self, env: Any, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A] for the environment's current states, whose observations are given."""
        ...


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """N labelled states: `observations` [N, O] raw, `actions` [N, A], `weights` [N], `phases` [N] in [0, 1), all
    float32, and `blocks` [N] int64, the number of the time block of `block_s` seconds of one rollout."""

    observations: np.ndarray
    actions: np.ndarray
    weights: np.ndarray
    phases: np.ndarray
    blocks: np.ndarray

    def __len__(self) -> int:
        return len(self.observations)

    def __post_init__(self) -> None:
        sizes = {len(array) for array in self.arrays()}
        assert len(sizes) == 1, f"arrays of different lengths: {sizes}"

    def arrays(self) -> tuple[np.ndarray, ...]:
        """The fields, in order of declaration."""
        return self.observations, self.actions, self.weights, self.phases, self.blocks

    @classmethod
    def of(cls, arrays: Iterable[np.ndarray]) -> Demonstrations:
        """Demonstrations from their fields, in order of declaration."""
        observations, actions, weights, phases, blocks = arrays
        return cls(observations, actions, weights, phases, blocks)

    def take(self, chosen: np.ndarray) -> Demonstrations:
        """The samples that an index array or a mask selects."""
        return Demonstrations.of(array[chosen] for array in self.arrays())


def aggregate(parts: Sequence[Demonstrations]) -> Demonstrations:
    """All samples of several rounds; block numbers of later rounds are shifted to stay distinct."""
    start, joined = 0, []
    for part in parts:
        joined.append((*part.arrays()[:-1], part.blocks + start))
        start += int(part.blocks.max(initial=-1)) + 1
    return Demonstrations.of(np.concatenate(column) for column in zip(*joined, strict=True))


def split_by_blocks(
    data: Demonstrations, val_split: float, rng: np.random.Generator
) -> tuple[Demonstrations, Demonstrations]:
    """Splits the data into training and validation data.

    Whole time blocks are held out. The first and last tenth of a held-out block are dropped, so that no validation
    state is adjacent to a training state.
    """
    blocks, inverse = np.unique(data.blocks, return_inverse=True)
    if val_split == 0.0 or len(blocks) < 2:
        return data, data.take(np.zeros(len(data), dtype=bool))
    num_held = min(max(1, round(val_split * len(blocks))), len(blocks) - 1)
    held = np.zeros(len(blocks), dtype=bool)
    held[rng.permutation(len(blocks))[:num_held]] = True
    # Position within the block: samples of a block are in chronological order.
    order = np.argsort(inverse, kind="stable")
    counts = np.bincount(inverse)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    position = np.empty(len(data), dtype=np.int64)
    position[order] = np.arange(len(data)) - np.repeat(starts, counts)
    margin = counts[inverse] // 10
    inner = (position >= margin) & (position < counts[inverse] - margin)
    return data.take(~held[inverse]), data.take(held[inverse] & inner)


def collect(
    env: ImitationEnv,
    expert: Expert,
    actor: ActionFunction | None,
    *,
    beta: float,
    num_steps: int,
    noise_std: float | np.ndarray,
    noise_hold_steps: int,
    block_steps: int,
    rng: np.random.Generator,
    reward_weights: bool = False,
) -> Demonstrations:
    """Rolls out a mixture of expert and actor from random starts of the environment and labels every state.

    Args:
        actor: the clone; may be None if `beta` is 1.
        beta: probability that the expert acts in a step of an environment.
        noise_std: standard deviation of the noise on executed actions, in their unit, a number or [A]; the noise is
            redrawn every `noise_hold_steps`.
        block_steps: steps of a time block, see `split_by_blocks`.
        rng: generator of mixture and noise. The environments' seed is drawn from it.
        reward_weights: weight samples by the reward of their step instead of by 1.

    Raises:
        ValueError: `beta` is below 1 and there is no actor.
    """
    if beta < 1.0 and actor is None:
        raise ValueError(f"beta is {beta}: someone else than the expert must act, and no actor is given")
    observations, _ = env.reset(seed=int(rng.integers(2**31)))
    rows: list[tuple[np.ndarray, ...]] = []
    num_envs = env.num_envs
    episode = np.zeros(num_envs, dtype=np.int64)
    started = np.zeros(num_envs, dtype=np.int64)
    resting = np.zeros(num_envs, dtype=bool)
    noise = np.zeros(0)
    for step in range(num_steps):
        labels = expert.label(env, observations)
        if step % noise_hold_steps == 0:
            noise = noise_std * rng.standard_normal(labels.shape)
        acted = labels
        if actor is not None and beta < 1.0:
            by_expert = rng.random(num_envs) < beta
            acted = np.where(by_expert[:, None], labels, actor(observations))
        phases = phase_of(env)
        after, rewards, terminated, truncated, _ = env.step((acted + noise).astype(np.float32))
        weights = np.asarray(rewards) if reward_weights else np.ones(num_envs)
        # In a step that only resets the environment the action has no effect: such a step is no sample.
        rows.append((observations, labels, weights, phases, episode.copy(), step - started, ~resting))
        done = np.logical_or(terminated, truncated)
        started[resting] = step
        episode += done
        started = np.where(done, step + 1, started)
        resting = done if next_step_reset(env) else resting
        observations = after
    return _demonstrations(rows, block_steps)


def next_step_reset(env: Any) -> bool:
    """Whether the step after the end of an episode only resets (gymnasium's NEXT_STEP) and ignores its action."""
    mode = env.metadata.get("autoreset_mode", "")
    return "next" in str(getattr(mode, "value", mode)).lower()


def phase_of(env: Any) -> np.ndarray:
    """Phase [N] of every environment's motion, in [0, 1)."""
    return np.asarray(env.task.phase, dtype=np.float32)


def _demonstrations(rows: Sequence[tuple[np.ndarray, ...]], block_steps: int) -> Demonstrations:
    """Time-major rows [T][N, ...] as samples, environment by environment in the order of time."""
    observations, labels, weights, phases, episodes, times, valid = (
        np.stack(column).swapaxes(0, 1) for column in zip(*rows, strict=True)
    )
    keep = valid.reshape(-1)
    lane = np.broadcast_to(np.arange(valid.shape[0])[:, None], valid.shape)
    keys = np.stack([lane, episodes, times // block_steps], axis=-1).reshape(-1, 3)[keep]
    _, blocks = np.unique(keys, axis=0, return_inverse=True)
    columns = (observations, labels, weights, phases)
    flat = [array.reshape(-1, *array.shape[2:])[keep].astype(np.float32) for array in columns]
    return Demonstrations.of([*flat, blocks.reshape(-1).astype(np.int64)])
