"""`kinetune/DeepMimic-v0`: one humanoid in MuJoCo whose task is to imitate a motion clip.

    import envs
    env = gymnasium.make("kinetune/DeepMimic-v0", motion="walk")
    observation, info = env.reset(seed=0, options={"phase": 0.25})
    observation, reward, terminated, truncated, info = env.step(env.unwrapped.expert_action()[0])

It computes the same numbers as a row of `envs.mujoco.vector_environment` with equal seed and actions. Step infos are
floats:
`reward_<term>`, `joint_error` (rad), `root_error` (m), `body_error` (m), `phase`, `clip` (index into `motion`).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from envs.body.joint_coordinates import NUM_COORDINATES
from envs.body.tracked import heading
from envs.mujoco.physics import make_physics
from envs.mujoco.rendering import RENDER_MODES, CharacterRenderer, check_render_mode
from envs.mujoco.vector_environment import (
    action_space,
    make_reader,
    observation_space,
    read_starts,
    resolve_settings,
    step_info,
)
from envs.settings import DeepMimicSettings
from envs.task.imitation_task import ImitationTask

Float32 = NDArray[np.float32]

_ROW = np.zeros(1, dtype=np.int64)


class DeepMimicEnv(gymnasium.Env[Float32, Float32]):
    """The DeepMimic task for one character; options of `DeepMimicSettings` may be given as keyword arguments.

    Raises:
        ValueError: see `envs.task.reference.ReferenceMotion`.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 30}  # noqa: RUF012 (gymnasium's own name and type)

    def __init__(
        self, settings: DeepMimicSettings | None = None, *, render_mode: str | None = None, **options: Any
    ) -> None:
        check_render_mode(render_mode)
        self.settings = resolve_settings(settings, options)
        self.metadata = {"render_modes": RENDER_MODES, "render_fps": self.settings.control_hz}
        self.render_mode = render_mode
        self._renderer: CharacterRenderer | None = None
        self.task = ImitationTask(self.settings, 1)
        self.observation_space = observation_space(self.task)
        self.action_space = action_space(self.settings)
        self._physics = make_physics(self.settings)
        self._reader = make_reader(self.task)
        self._qpos = np.zeros((1, self._physics.model.nq))
        self._qvel = np.zeros((1, self._physics.model.nv))
        self._state = self._reader.read(self._qpos, self._qvel)

    @property
    def observation_schema(self) -> dict[str, Any]:
        """What a controller's checkpoint records about this environment, as plain JSON values."""
        return self.task.schema

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Starts an episode; `options["phase"]` in [0, 1) is where on the clip, `options["clip"]` the index of the
        clip.

        Raises:
            ValueError: an unknown option, a phase outside [0, 1) or an index without a clip.
        """
        super().reset(seed=seed)
        self.task.start(_ROW, [self.np_random], read_starts(dict(options or {}), 1))
        self._qpos, self._qvel = self.task.start_states(_ROW)
        self._read()
        return self.observe()[0], {"phase": float(self.task.phase[0]), "clip": int(self.task.clip[0])}

    def step(self, action: NDArray[Any]) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """One control step with an action [28].

        Raises:
            ValueError: wrong shape, or values that are not finite.
        """
        action = np.asarray(action)
        if action.shape != (NUM_COORDINATES,):
            raise ValueError(f"action has shape {action.shape}; legal: ({NUM_COORDINATES},)")
        targets = self.task.targets(action[None], self._state.coordinates)
        push = self.task.push(heading(self._qpos[:, 3:7])) if self.settings.push_force > 0.0 else None
        after = self._physics.step(self._qpos, self._qvel, targets, push)
        self._qpos, self._qvel = after.qpos, after.qvel
        self._read()
        outcome = self.task.advance(self._state, after.touching, after.diverged)
        return (
            self.observe()[0],
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(outcome.truncated[0]),
            step_info(self.task, outcome),
        )

    def expert_action(self) -> Float32:
        """The open-loop expert's action [1, 28]: reference target at t + lookahead, with velocity feed-forward."""
        return self.task.expert_action()

    def state(self) -> dict[str, Any]:
        """Everything that determines the future, for `set_state`: arrays and plain values."""
        return {
            "qpos": self._qpos.copy(),
            "qvel": self._qvel.copy(),
            "task": self.task.state(),
            "generator": self.np_random.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`.

        Raises:
            ValueError: the state is that of another model.
        """
        for name, mine in (("qpos", self._qpos), ("qvel", self._qvel)):
            if np.shape(state[name]) != mine.shape:
                raise ValueError(f"state has {name} of shape {np.shape(state[name])}; legal: {mine.shape}")
        self.task.set_state(state["task"])
        self._qpos, self._qvel = np.array(state["qpos"]), np.array(state["qvel"])
        generator = seeding.np_random(0)[0]
        generator.bit_generator.state = state["generator"]
        self.np_random = generator
        self._read()

    def observe(self) -> Float32:
        """The current observation [1, D], as the last step or reset returned it."""
        return self.task.observe(self._state)

    def render(self) -> NDArray[np.uint8] | None:
        """An image [360, 480, 3] of the current state if `render_mode` is rgb_array, else None."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = CharacterRenderer(self._physics.model)
        return self._renderer.draw(self._qpos[0])

    def close(self) -> None:
        """Ends the engine's threads and releases the rendering context."""
        self._physics.close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _read(self) -> None:
        self._reader.read(self._qpos, self._qvel, into=self._state)
