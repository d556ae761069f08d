"""Drives a gymnasium vector environment with a controller and records what happens.

Choices: noise comes from a counter-based generator keyed by (seed, stream, iteration), so it has no state to save and a
rollout is reproducible from the environments' state; the networks run once per step for all environments; values and
advantages are computed by the learner, for whole batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from motions.base.errors import UserError
from rollouts.control.actor_critic import ActorCritic
from rollouts.control.rollouts import ControlRollout


@runtime_checkable
class RestorableEnv(Protocol):
    """A vector environment whose state can be saved: physics, time and random generators."""

    def state(self) -> dict[str, Any]:
        """The complete state, as arrays and plain values."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`."""
        ...


@runtime_checkable
class ExpertEnv(Protocol):
    """A vector environment with an open-loop expert."""

    def expert_action(self) -> np.ndarray:
        """The expert's actions [N, A] in the present states."""
        ...


@runtime_checkable
class StatefulEnv(Protocol):
    """A vector environment whose states can be recorded, for a model of its dynamics."""

    def recorded_state(self) -> dict[str, np.ndarray]:
        """Arrays [N, ...] by name."""
        ...


@runtime_checkable
class PushedEnv(Protocol):
    """A vector environment that pushes its characters."""

    def pause_pushes(self, paused: bool) -> None:
        """Whether nobody is pushed from now on."""
        ...


@dataclass(frozen=True, slots=True)
class ActionNoise:
    """The noise of a sampler's actions, in units of the policy's standard deviation."""

    correlation: float = 0.0
    """Of a component from one step to the next, in [0, 1)."""
    spread: float = 0.0
    """The standard deviation goes from 1 - this in the first environment to 1 + this in the last."""

    def draw(self, generator: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
        """Noise [T, N, A] in float32; its correlation begins anew with every call."""
        noise = generator.standard_normal(shape, dtype=np.float32)
        if self.correlation:
            fresh = np.float32(math.sqrt(1.0 - self.correlation**2))
            for t in range(1, len(noise)):
                noise[t] = np.float32(self.correlation) * noise[t - 1] + fresh * noise[t]
        if self.spread:
            place = (np.arange(shape[1], dtype=np.float32) + 0.5) / shape[1]
            noise *= (1.0 + self.spread * (2.0 * place - 1.0))[:, None]
        return noise


def spaces_of(env: VectorEnv) -> tuple[int, int]:
    """Widths of an environment's observations and actions.

    Raises:
        UserError: the spaces are not flat boxes of floats.
    """
    sizes = []
    for what, space in (("observation", env.single_observation_space), ("action", env.single_action_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UserError(f"the {what} space is {space}; a controller needs a Box with one axis")
        sizes.append(space.shape[0])
    return sizes[0], sizes[1]


WHITE_NOISE = ActionNoise()
"""Independent normal noise, the same in all environments."""


class VectorSampler:
    """Samples rollouts from vector environments whose episodes continue from one rollout to the next.

    Example:
        sampler = VectorSampler(env, seed=0)
        rollout = sampler.collect(controller, num_steps=128, iteration=0)
    """

    def __init__(
        self,
        env: VectorEnv,
        seed: int,
        stream: int = 0,
        record_expert: bool = False,
        record_states: bool = False,
        noise: ActionNoise = WHITE_NOISE,
        push_from_iteration: int = 0,
    ) -> None:
        """Resets all environments.

        Args:
            seed: seed of noise and environments.
            stream: number that distinguishes samplers with the same seed.
            record_expert: also record the actions of the environment's open-loop expert.
            record_states: also record the simulator's states.
            noise: of the actions.
            push_from_iteration: rollouts before this iteration are without the environment's pushes.

        Raises:
            UserError: unsuitable spaces, or the environment has no expert or no states to record.
        """
        spaces_of(env)
        if record_expert and not isinstance(env.unwrapped, ExpertEnv):
            raise UserError(f"{type(env.unwrapped).__name__} has no expert_action(); cloning terms need one")
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if record_states and not (isinstance(env.unwrapped, StatefulEnv) and self._mode is AutoresetMode.NEXT_STEP):
            raise UserError(f"{type(env.unwrapped).__name__} has no recorded_state() in the autoreset mode NEXT_STEP")
        self.env = env
        self.seed = seed
        self.stream = stream
        self._record_expert = record_expert
        self._record_states = record_states
        self._noise = noise
        self._push_from_iteration = push_from_iteration
        space = env.single_action_space
        assert isinstance(space, gymnasium.spaces.Box)
        self._low, self._high = space.low.astype(np.float32), space.high.astype(np.float32)
        self._observations = np.zeros(0, dtype=np.float32)
        self._resetting = np.zeros(env.num_envs, dtype=bool)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self.reset(0)

    def reset(self, key: int) -> None:
        """Starts new episodes in all environments, from random states that depend on seed, stream and `key` alone."""
        words = np.random.SeedSequence([self.seed, self.stream, key, 1]).generate_state(1)
        # gymnasium seeds environment i with seed + i; the multiplier leaves room for that.
        observations, _ = self.env.reset(seed=int(words[0]) >> 1)
        self._observations = np.array(observations, dtype=np.float32)
        self._resetting[:] = False
        self._returns[:] = 0.0
        self._lengths[:] = 0

    def collect(
        self, controller: ActorCritic, num_steps: int, iteration: int, deterministic: bool = False
    ) -> ControlRollout:
        """Drives all environments for `num_steps` steps and returns the recording.

        Args:
            iteration: key of the noise, from 0.
            deterministic: use the mean action.
        """
        started = time.perf_counter()
        if isinstance(env := self.env.unwrapped, PushedEnv):
            env.pause_pushes(iteration < self._push_from_iteration)
        recorder = _Recorder(num_steps, self.env.num_envs, *spaces_of(self.env))
        if self._record_expert:
            recorder.expert_actions = np.zeros_like(recorder.actions)
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, self.stream, iteration])))
        noise = self._noise.draw(generator, (num_steps, self.env.num_envs, recorder.actions.shape[-1]))
        log_std = controller.log_std.detach().cpu().numpy().copy()
        scaled_noise = noise * (0.0 if deterministic else np.exp(log_std))
        act = _mean_function(controller)
        for t in range(num_steps):
            self._record_state(recorder)
            recorder.observations[t] = self._observations
            recorder.means[t] = act(self._observations)
            recorder.actions[t] = recorder.means[t] + scaled_noise[t]
            if recorder.expert_actions is not None:
                expert = self.env.unwrapped
                assert isinstance(expert, ExpertEnv)
                recorder.expert_actions[t] = expert.expert_action()
            self._step(recorder, t)
        self._record_state(recorder)
        return recorder.finish(self._observations, log_std, time.perf_counter() - started)

    def _record_state(self, recorder: _Recorder) -> None:
        if self._record_states:
            env = self.env.unwrapped
            assert isinstance(env, StatefulEnv)
            recorder.states.append(env.recorded_state())

    def _step(self, recorder: _Recorder, t: int) -> None:
        """One step of all environments: fills row t of the recorder and records episodes that ended."""
        actions = np.clip(recorder.actions[t], self._low, self._high)
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        valid = ~self._resetting
        recorder.rewards[t], recorder.valid[t] = rewards, valid
        recorder.terminated[t], recorder.truncated[t] = terminated, truncated
        recorder.add_terms(infos, valid)
        self._returns += np.where(valid, rewards, 0.0)
        self._lengths += valid
        self._observations = np.array(observations, dtype=np.float32)
        ended = np.flatnonzero(terminated | truncated)
        if self._mode is AutoresetMode.NEXT_STEP:
            self._resetting = terminated | truncated
        if not len(ended):
            return
        in_place = self._mode is AutoresetMode.SAME_STEP
        last = np.stack([infos["final_obs"][n] for n in ended]) if in_place else self._observations[ended]
        recorder.add_ends(t, ended, last, self._returns[ended], self._lengths[ended])
        self._returns[ended] = 0.0
        self._lengths[ended] = 0
        if self._mode is AutoresetMode.DISABLED:
            mask = np.asarray(terminated | truncated, dtype=bool)
            fresh, _ = self.env.reset(options={"reset_mask": mask})
            self._observations = np.array(fresh, dtype=np.float32)

    @property
    def restorable(self) -> bool:
        """Whether the environments' state can be saved. If not, exact resume requires a `reset` at every checkpoint."""
        return isinstance(self.env.unwrapped, RestorableEnv)

    def state(self) -> dict[str, Any]:
        """The complete state between two rollouts, for `load`.

        Raises:
            UserError: the environments' state cannot be saved.
        """
        env = self.env.unwrapped
        if not isinstance(env, RestorableEnv):
            raise UserError(f"{type(env).__name__} has no state(); its episodes cannot be saved")
        return {
            "env": env.state(),
            "observations": self._observations.copy(),
            "resetting": self._resetting.copy(),
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`.

        Raises:
            UserError: the environments cannot be restored, or their number differs.
        """
        env = self.env.unwrapped
        if not isinstance(env, RestorableEnv):
            raise UserError(f"{type(env).__name__} has no set_state(); its episodes cannot be restored")
        if len(state["returns"]) != self.env.num_envs:
            raise UserError(f"the saved state is of {len(state['returns'])} environments, here are {self.env.num_envs}")
        env.set_state(state["env"])
        self._observations = np.array(state["observations"], dtype=np.float32)
        self._resetting = np.array(state["resetting"], dtype=bool)
        self._returns = np.array(state["returns"], dtype=np.float64)
        self._lengths = np.array(state["lengths"], dtype=np.int64)


def _mean_function(controller: ActorCritic) -> Callable[[np.ndarray], np.ndarray]:
    """A function from observations [N, O] to mean actions [N, A] with little overhead around the network."""
    device = controller.log_std.device

    def mean(observations: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return controller.act(torch.from_numpy(observations).to(device)).cpu().numpy()

    return mean


class _Recorder:
    """Arrays of a rollout that is being recorded."""

    def __init__(self, num_steps: int, num_envs: int, observation_dim: int, action_dim: int) -> None:
        shape = (num_steps, num_envs)
        self.observations = np.empty((*shape, observation_dim), dtype=np.float32)
        self.actions = np.empty((*shape, action_dim), dtype=np.float32)
        self.means = np.empty((*shape, action_dim), dtype=np.float32)
        self.rewards = np.empty(shape, dtype=np.float32)
        self.terminated = np.empty(shape, dtype=bool)
        self.truncated = np.empty(shape, dtype=bool)
        self.valid = np.empty(shape, dtype=bool)
        self.expert_actions: np.ndarray | None = None
        self.states: list[dict[str, np.ndarray]] = []
        self._ends: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._terms: dict[str, float] = {}

    def add_terms(self, infos: dict[str, Any], valid: np.ndarray) -> None:
        """Adds the means over valid steps of the infos' numbers."""
        for name, value in infos.items():
            if isinstance(value, np.ndarray) and value.shape == valid.shape and value.dtype.kind == "f":
                self._terms[name] = self._terms.get(name, 0.0) + float(value[valid].sum())

    def add_ends(
        self, t: int, ended: np.ndarray, observations: np.ndarray, returns: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Records last observations [N, O] of environments whose episode ended in step t, and the episodes' sums."""
        self._ends.append((t, ended, observations.astype(np.float32)))
        self._returns.extend(returns.tolist())
        self._lengths.extend(lengths.tolist())

    def finish(self, last_observations: np.ndarray, log_std: np.ndarray, seconds: float) -> ControlRollout:
        """The finished rollout."""
        width = self.observations.shape[-1]
        indices = [np.stack([np.full(len(ended), t), ended], axis=1) for t, ended, _ in self._ends]
        num_valid = max(1, int(self.valid.sum()))
        return ControlRollout(
            observations=self.observations,
            actions=self.actions,
            means=self.means,
            log_std=log_std,
            rewards=self.rewards,
            terminated=self.terminated,
            truncated=self.truncated,
            valid=self.valid,
            last_observations=last_observations.copy(),
            end_indices=np.concatenate([np.zeros((0, 2), dtype=np.int64), *indices]),
            end_observations=np.concatenate(
                [np.zeros((0, width), dtype=np.float32), *(values for _, _, values in self._ends)]
            ),
            expert_actions=self.expert_actions,
            states={name: np.stack([state[name] for state in self.states]) for name in self.states[0]}
            if self.states
            else None,
            episode_returns=tuple(self._returns),
            episode_lengths=tuple(self._lengths),
            terms={name: total / num_valid for name, total in self._terms.items()},
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class Episodes:
    """One episode of each of N environments, and all their S steps concatenated."""

    returns: np.ndarray
    """Sums of rewards [N]."""
    lengths: np.ndarray
    """Numbers of steps [N]."""
    terminated: np.ndarray
    """[N] bool: ended in a terminal state (a fall), not by a limit."""
    observations: np.ndarray
    """Raw observations [S, O], episode by episode."""
    actions: np.ndarray
    """Actions [S, A] as sampled."""
    rewards: np.ndarray
    """Rewards [S]."""


def run_episodes(
    controller: ActorCritic, env: VectorEnv, seed: int, deterministic: bool = True, max_steps: int = 100_000
) -> Episodes:
    """Runs one complete episode of every environment; a fixed number of steps would favour short episodes.

    Args:
        max_steps: limit for the length of an episode.
    """
    sampler = VectorSampler(env, seed)
    chunks: list[ControlRollout] = []
    lengths = np.full(env.num_envs, -1)
    done = 0
    while (lengths < 0).any() and done < max_steps:
        chunk = sampler.collect(controller, min(64, max_steps - done), len(chunks), deterministic)
        for t, n in chunk.end_indices:
            if lengths[n] < 0:
                lengths[n] = done + t + 1
        done += len(chunk.rewards)
        chunks.append(chunk)
    lengths = np.where(lengths < 0, done, lengths)

    def rows(name: str) -> np.ndarray:
        whole = np.concatenate([getattr(chunk, name) for chunk in chunks])
        return np.concatenate([whole[:length, n] for n, length in enumerate(lengths)])

    rewards, last = rows("rewards"), np.cumsum(lengths)
    return Episodes(
        returns=np.array([part.sum(dtype=np.float64) for part in np.split(rewards, last[:-1])]),
        lengths=lengths,
        terminated=rows("terminated")[last - 1],
        observations=rows("observations"),
        actions=rows("actions"),
        rewards=rewards,
    )
