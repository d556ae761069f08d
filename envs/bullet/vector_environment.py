"""`kinetune/DeepMimicBullet-v0` in batches: N environments stepped in turn, with the interface of MuJoCo's vector one.

    env = gymnasium.make_vec("kinetune/DeepMimicBullet-v0", num_envs=4, motion="walk")

PyBullet steps one client at a time, so a batch is no faster; it offers the same interface (`observation_schema`, the
expert, states that can be saved). Row i equals the single environment reset with seed + i.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from envs.bullet.environment import DeepMimicBulletEnv
from envs.mujoco.vector_environment import resolve_settings
from envs.settings import DeepMimicSettings

Float32 = NDArray[np.float32]


class DeepMimicBulletVectorEnv(SyncVectorEnv):
    """N characters, each in its own engine client; options as in `DeepMimicBulletEnv`.

    Raises:
        ValueError: see `envs.task.reference.ReferenceMotion`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        settings: DeepMimicSettings | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; legal: at least 1")
        self.settings = resolve_settings(settings, options)
        make = partial(DeepMimicBulletEnv, self.settings, render_mode=render_mode)
        super().__init__([make] * num_envs, autoreset_mode=autoreset_mode)

    @property
    def rows(self) -> list[DeepMimicBulletEnv]:
        """The single environments, one per row."""
        return [env for env in self.envs if isinstance(env, DeepMimicBulletEnv)]

    @property
    def observation_schema(self) -> dict[str, Any]:
        """What a controller's checkpoint records about these environments, as plain JSON values."""
        return self.rows[0].observation_schema

    def expert_action(self) -> Float32:
        """The open-loop expert's actions [N, 28]: reference target at t + lookahead, with velocity feed-forward."""
        return np.concatenate([env.expert_action() for env in self.rows])

    def state(self) -> dict[str, Any]:
        """Everything that determines the future, for `set_state`: arrays and plain values."""
        return {"rows": [env.state() for env in self.rows], "ended": self._autoreset_envs.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`.

        Raises:
            ValueError: the state has another number of rows, or is that of another kind of environment.
        """
        if len(state["rows"]) != self.num_envs:
            raise ValueError(f"state is of {len(state['rows'])} rows; legal: {self.num_envs}")
        for env, row in zip(self.rows, state["rows"], strict=True):
            env.set_state(row)
        self._env_obs = [env.observe()[0] for env in self.rows]
        self._autoreset_envs = np.array(state["ended"], dtype=bool)
