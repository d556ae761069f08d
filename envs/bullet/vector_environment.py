"""`kinetune/DeepMimicBullet-v0` in batches: N environments one after the other, behind MuJoCo's vector interface.

    env = gymnasium.make_vec("kinetune/DeepMimicBullet-v0", num_envs=4, motion="walk")

PyBullet steps one client at a time, so there is nothing to gain but the interface: what a controller must know
(`observation_schema`), the expert, and states that can be saved. Row i is the single environment reset with seed + i.
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
from motions.base.errors import UserError

Float32 = NDArray[np.float32]


class DeepMimicBulletVectorEnv(SyncVectorEnv):
    """N characters, each in an engine client of its own; options as of `DeepMimicBulletEnv`.

    Raises:
        ClipError, ValueError: see `envs.task.reference.ReferenceMotion`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        settings: DeepMimicSettings | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"num_envs is {num_envs}; legal: at least 1")
        self.settings = resolve_settings(settings, options)
        make = partial(DeepMimicBulletEnv, self.settings)
        super().__init__([make] * num_envs, autoreset_mode=autoreset_mode)

    @property
    def rows(self) -> list[DeepMimicBulletEnv]:
        """The single environments."""
        return [env for env in self.envs if isinstance(env, DeepMimicBulletEnv)]

    @property
    def observation_schema(self) -> dict[str, Any]:
        """What a controller's checkpoint records of these environments; plain JSON values."""
        return self.rows[0].observation_schema

    def expert_action(self) -> Float32:
        """The open-loop expert's actions [N, 28]: reference target at t + lookahead, with velocity feed-forward."""
        return np.concatenate([env.expert_action() for env in self.rows])

    def state(self) -> dict[str, Any]:
        """Everything that determines the future, for `set_state`: arrays and plain values."""
        return {"rows": [env.state() for env in self.rows], "ended": self._autoreset_envs.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on exactly where `state()` was taken.

        Raises:
            UserError: it is of another number of rows, or of another kind.
        """
        if len(state["rows"]) != self.num_envs:
            raise UserError(f"state is of {len(state['rows'])} rows; legal: {self.num_envs}")
        for env, row in zip(self.rows, state["rows"], strict=True):
            env.set_state(row)
        self._env_obs = [env.observe()[0] for env in self.rows]
        self._autoreset_envs = np.array(state["ended"], dtype=bool)
