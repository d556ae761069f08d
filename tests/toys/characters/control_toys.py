"""A task solved in seconds: push N points to their targets. Restorable, with an expert, in any autoreset mode."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

HORIZON = 12
LIMIT = 3.0


class ReachVectorEnv(VectorEnv):
    """Observation (position, target, step / HORIZON); the action is a velocity; leaving [-LIMIT, LIMIT] is a fall."""

    def __init__(self, num_envs: int = 4, mode: AutoresetMode = AutoresetMode.NEXT_STEP, width: float = 1.0) -> None:
        self.num_envs, self._width = num_envs, width
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = gymnasium.spaces.Box(-10, 10, (3,), dtype=np.float32)
        self.single_action_space = gymnasium.spaces.Box(-width, width, (1,), dtype=np.float32)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self._rng = np.random.default_rng(0)
        self._position = np.zeros(num_envs)
        self._target = np.zeros(num_envs)
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            assert isinstance(seed, int)
            self._rng = np.random.default_rng(seed)
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        self._start(mask)
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        mode = self.metadata["autoreset_mode"]
        resetting = self._ended.copy() if mode is AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, dtype=bool)
        assert np.all(np.abs(actions) <= self._width), "the sampler keeps to the bounds"
        self._position += np.where(resetting, 0.0, actions[:, 0])
        self._steps += ~resetting
        distance = np.abs(self._position - self._target)
        rewards = np.where(resetting, 0.0, 1.0 - distance)
        terminated = ~resetting & (np.abs(self._position) > LIMIT)
        truncated = ~resetting & ~terminated & (self._steps >= HORIZON)
        infos: dict[str, Any] = {"distance": distance, "_distance": np.ones(self.num_envs, dtype=bool)}
        self._start(resetting)
        self._ended = terminated | truncated
        if mode is AutoresetMode.SAME_STEP and self._ended.any():
            infos["final_obs"] = np.array(list(self._observe()), dtype=object)
            self._start(self._ended)
        return self._observe(), rewards, terminated, truncated, infos

    def expert_action(self) -> np.ndarray:
        """Straight to the target."""
        return np.clip(self._target - self._position, -self._width, self._width)[:, None].astype(np.float32)

    def state(self) -> dict[str, Any]:
        """All of it."""
        arrays = {"position": self._position, "target": self._target, "steps": self._steps, "ended": self._ended}
        return {name: array.copy() for name, array in arrays.items()} | {"rng": self._rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Back to `state()`."""
        self._position, self._target = state["position"].copy(), state["target"].copy()
        self._steps, self._ended = state["steps"].copy(), state["ended"].copy()
        self._rng.bit_generator.state = state["rng"]

    def _start(self, mask: np.ndarray) -> None:
        number = int(mask.sum())
        self._position[mask] = self._rng.uniform(-1, 1, number)
        self._target[mask] = self._rng.uniform(-1, 1, number)
        self._steps[mask] = 0
        self._ended[mask] = False

    def _observe(self) -> np.ndarray:
        return np.stack([self._position, self._target, self._steps / HORIZON], axis=1).astype(np.float32)


class PlainReach(gymnasium.Env[np.ndarray, np.ndarray]):
    """The same as a single environment that cannot be saved, for gymnasium's own vector environments."""

    def __init__(self) -> None:
        self._env = ReachVectorEnv(1, AutoresetMode.DISABLED)
        self.observation_space, self.action_space = self._env.single_observation_space, self._env.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        observations, _ = self._env.reset(seed=int(self.np_random.integers(2**31)))
        return observations[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observations, rewards, terminated, truncated, _ = self._env.step(action[None])
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}


class TroubledReach(ReachVectorEnv):
    """The first instance on a machine leaves a file and hangs in its third rollout of 20 steps; later instances, which
    find the file, break in their second."""

    def __init__(self, num_envs: int = 4, marker: str = "") -> None:
        super().__init__(num_envs)
        self._marker = Path(marker)
        self._is_second = self._marker.exists()
        self._calls = 0

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        self._calls += 1
        if self._is_second and self._calls > 20:
            raise ValueError("the floor is gone")
        if not self._is_second and self._calls > 45:
            self._marker.touch()
            time.sleep(600)
        return super().step(actions)


gymnasium.register(id="TroubledReach-v0", vector_entry_point=f"{__name__}:TroubledReach")
gymnasium.register(id="Reach-v0", entry_point=f"{__name__}:PlainReach", vector_entry_point=f"{__name__}:ReachVectorEnv")
gymnasium.register(id="PlainReach-v0", entry_point=f"{__name__}:PlainReach")
