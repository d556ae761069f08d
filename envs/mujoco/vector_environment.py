"""`kinetune/DeepMimic-v0` in batches: N characters per step in one call of `mujoco.rollout`.

    env = make_vector_env(DeepMimicSettings(motion=("walk",)), num_envs=64, seed=0)
    observations, infos = env.reset()
    observations, rewards, terminated, truncated, infos = env.step(env.expert_action())

Row i uses a generator seeded with seed + i, so it equals the single environment reset with that seed. Step infos are
arrays over rows with gymnasium's masks: `reward_<term>`, `joint_error`, `root_error`, `body_error`, `phase`, `clip`.

`metadata["autoreset_mode"]` says how episodes restart: NEXT_STEP (the default of gymnasium, expected by RLlib; the step
after the end of an episode ignores its action and returns the first observation of the next one, reward 0) or SAME_STEP
(the step that ends an episode returns the next one's first observation; the last one is in `infos["final_obs"]`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.body.joint_coordinates import NUM_COORDINATES
from envs.body.state import CharacterState, KinematicsReader
from envs.body.tracked import heading
from envs.mujoco.physics import make_physics
from envs.mujoco.rendering import RENDER_MODES, CharacterRenderer, check_render_mode
from envs.settings import DeepMimicSettings
from envs.task.imitation_task import ALL, ANYWHERE, FIGURES, EpisodeStarts, ImitationTask, Outcome, Rows

Float32 = NDArray[np.float32]
Flags = NDArray[np.bool_]


class DeepMimicVectorEnv(VectorEnv[Any, Any, Any]):
    """N independent characters; see the module's docstring.

    Args:
        num_envs: number N of characters.
        settings: options of the task.
        seed: seed of row 0 at the first reset without one; row i has seed + i. None draws one at random.
        autoreset_mode: NEXT_STEP or SAME_STEP (or their names).
        render_mode: rgb_array for pictures by `render`.

    Raises:
        ValueError: see `ReferenceMotion`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        settings: DeepMimicSettings | None = None,
        *,
        seed: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.closed = True  # until there is something to close: the base class closes on deletion
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; legal: at least 1")
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._renderer: CharacterRenderer | None = None
        self.settings = resolve_settings(settings, options)
        self._mode = AutoresetMode(autoreset_mode)
        if self._mode == AutoresetMode.DISABLED:
            raise ValueError("autoreset_mode is DISABLED; legal: NEXT_STEP, SAME_STEP")
        self.num_envs = num_envs
        rendering = {"render_modes": RENDER_MODES, "render_fps": self.settings.control_hz}
        self.metadata = {"autoreset_mode": self._mode, **rendering}
        self._physics = make_physics(self.settings)
        self.task = ImitationTask(self.settings, num_envs)
        self.single_observation_space = observation_space(self.task)
        self.single_action_space = action_space(self.settings)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._reader = make_reader(self.task)
        self._qpos = np.zeros((num_envs, self._physics.model.nq))
        self._qvel = np.zeros((num_envs, self._physics.model.nv))
        self._generators = _generators(seed, num_envs)
        self._ended = np.zeros(num_envs, dtype=bool)
        self._everyone = np.ones(num_envs, dtype=bool)
        self.closed = False

    @property
    def observation_schema(self) -> dict[str, Any]:
        """What a controller's checkpoint records about these environments, as plain JSON values."""
        return self.task.schema

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Starts new episodes in all rows.

        Args:
            seed: row i gets seed + i, or entry i of a sequence; None continues with the present generators.
            options: `phase`: a number or [N], where on the clip to start, in [0, 1). `clip`: an index into `motion` or
                [N], which clip. `reset_mask`: [N] bool, the rows to restart while the others continue.

        Raises:
            ValueError: an unknown option, a wrong shape, a phase outside [0, 1) or an index without a clip.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", self._everyone), dtype=bool)
        starts = read_starts(options, self.num_envs)
        if mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask has shape {mask.shape}; legal: ({self.num_envs},)")
        rows = np.flatnonzero(mask)
        if seed is not None:
            fresh = _generators(seed, self.num_envs)
            for row in rows:
                self._generators[row] = fresh[row]
        self._restart(rows, starts)
        self._ended[rows] = False
        observations = self.task.observe(self._reader.read(self._qpos, self._qvel))
        return observations, self._masked({"phase": self.task.phase, "clip": self.task.clip.copy()}, mask)

    def step(self, actions: NDArray[Any]) -> tuple[Float32, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """One control step of all rows with actions [N, 28].

        Raises:
            ValueError: wrong shape, or an action that is not finite.
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs, NUM_COORDINATES):
            raise ValueError(f"actions have shape {actions.shape}; legal: ({self.num_envs}, {NUM_COORDINATES})")
        if self._ended.any():
            return self._step_and_restart(actions)
        state, outcome = self._advance(actions, ALL)
        ended = outcome.terminated | outcome.truncated
        infos = self._masked(self._step_infos(outcome), self._everyone)
        observations = self.task.observe(state)
        if self._mode == AutoresetMode.NEXT_STEP:
            self._ended = ended
        elif ended.any():
            self._restart_now(ended, observations, infos)
        return observations, outcome.reward, outcome.terminated, outcome.truncated, infos

    def expert_action(self) -> Float32:
        """The open-loop expert's actions [N, 28]: reference target at t + lookahead, with velocity feed-forward."""
        return self.task.expert_action()

    def state(self) -> dict[str, Any]:
        """Everything that determines the future, for `set_state`: arrays and plain values."""
        return {
            "qpos": self._qpos.copy(),
            "qvel": self._qvel.copy(),
            "ended": self._ended.copy(),
            "task": self.task.state(),
            "generators": [generator.bit_generator.state for generator in self._generators],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`.

        Raises:
            ValueError: the state has another number of rows or is that of another model.
        """
        for name, mine in (("qpos", self._qpos), ("qvel", self._qvel), ("ended", self._ended)):
            if np.shape(state[name]) != mine.shape:
                raise ValueError(f"state has {name} of shape {np.shape(state[name])}; legal: {mine.shape}")
        self.task.set_state(state["task"])
        self._qpos[:], self._qvel[:] = state["qpos"], state["qvel"]
        self._ended = np.array(state["ended"])
        for generator, words in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = words

    def observe(self) -> Float32:
        """The current observations [N, D], as the last step or reset returned them (useful after `set_state`)."""
        return self.task.observe(self._reader.read(self._qpos, self._qvel))

    def root_state(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Root of all rows in MuJoCo's convention: position and quaternion [N, 7]; linear velocity in the world and
        angular velocity in the root's frame [N, 6]."""
        return self._qpos[:, :7].copy(), self._qvel[:, :6].copy()

    def coordinates(self) -> NDArray[np.float64]:
        """Joint coordinates [N, 28] of all rows."""
        return self._reader.coordinates(self._qpos).copy()

    def recorded_state(self) -> dict[str, NDArray[Any]]:
        """Arrays [N, ...] that say where every row is: MuJoCo's `qpos` and `qvel`; `clip`, `time` and `origin` of its
        reference (`ImitationTask`); `pushed`, whether a push acted on it during the last step."""
        task = self.task
        return {
            "qpos": self._qpos.copy(),
            "qvel": self._qvel.copy(),
            "clip": task.clip.copy(),
            "time": task.time,
            "origin": task.origin.copy(),
            "pushed": (task.pushes.force != 0.0).any(axis=1),
        }

    def pause_pushes(self, paused: bool) -> None:
        """Whether nobody is pushed from now on, though `push_force` says so; not a part of `state()`."""
        self.task.pushes.paused = paused

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """An image [360, 480, 3] of every row if `render_mode` is rgb_array, else None."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = CharacterRenderer(self._physics.model)
        return tuple(map(self._renderer.draw, self._qpos))

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the engine's threads and releases the rendering context."""
        self._physics.close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _advance(self, actions: NDArray[Any], rows: Rows) -> tuple[CharacterState, Outcome]:
        qpos, qvel = self._qpos[rows], self._qvel[rows]
        targets = self.task.targets(actions[rows], self._reader.coordinates(qpos), rows)
        push = self.task.push(heading(qpos[:, 3:7]), rows) if self.settings.push_force > 0.0 else None
        after = self._physics.step(qpos, qvel, targets, push)
        self._qpos[rows], self._qvel[rows] = after.qpos, after.qvel
        state = self._reader.read(after.qpos, after.qvel)
        return state, self.task.advance(state, after.touching, after.diverged, rows)

    def _step_and_restart(
        self, actions: NDArray[Any]
    ) -> tuple[Float32, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Step for NEXT_STEP: rows whose episode has ended begin a new one, the others take their step."""
        restarting, going = np.flatnonzero(self._ended), np.flatnonzero(~self._ended)
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, dtype=bool), np.zeros(self.num_envs, dtype=bool)
        infos: dict[str, Any] = {}
        if len(going):
            _, outcome = self._advance(actions, going)
            reward[going], terminated[going], truncated[going] = outcome.reward, outcome.terminated, outcome.truncated
            for name, values in self._step_infos(outcome, going).items():
                infos[name] = np.zeros(self.num_envs, dtype=values.dtype)
                infos[name][going] = values
        infos = self._masked(infos, ~self._ended)
        self._restart(restarting)
        self._ended = terminated | truncated
        return self.observe(), reward, terminated, truncated, infos

    def _restart_now(self, ended: Flags, observations: Float32, infos: dict[str, Any]) -> None:
        """Restart for SAME_STEP: last observations move into the infos, first ones of new episodes replace them."""
        rows = np.flatnonzero(ended)
        final = np.full(self.num_envs, None, dtype=object)
        for row in rows:
            final[row] = observations[row].copy()
        infos["final_obs"], infos["_final_obs"] = final, ended
        infos["final_info"] = {
            name: values.copy() for name, values in infos.items() if name[0] != "_" and name != "final_obs"
        }
        infos["_final_info"] = ended
        self._restart(rows)
        observations[rows] = self.task.observe(self._reader.read(self._qpos[rows], self._qvel[rows]), rows)

    def _restart(self, rows: NDArray[np.int64], starts: EpisodeStarts = ANYWHERE) -> None:
        self.task.start(rows, [self._generators[row] for row in rows], starts.of(rows))
        self._qpos[rows], self._qvel[rows] = self.task.start_states(rows)

    def _step_infos(self, outcome: Outcome, rows: Rows = ALL) -> dict[str, NDArray[Any]]:
        return step_infos(self.task, outcome, rows)

    def _masked(self, infos: dict[str, Any], mask: Flags) -> dict[str, Any]:
        return infos | {f"_{name}": mask for name in infos}


def make_vector_env(settings: DeepMimicSettings, num_envs: int, seed: int | None = None) -> DeepMimicVectorEnv:
    """The batched environment, without gymnasium's registry."""
    return DeepMimicVectorEnv(num_envs, settings, seed=seed)


def step_infos(task: ImitationTask, outcome: Outcome, rows: Rows = ALL) -> dict[str, NDArray[Any]]:
    """Diagnostics [n] of a step by name."""
    return dict(zip(FIGURES, outcome.figures.T, strict=True)) | {"clip": task.clip[rows]}


def step_info(task: ImitationTask, outcome: Outcome) -> dict[str, Any]:
    """Diagnostics of a single character's step by name, as plain numbers."""
    info: dict[str, Any] = dict(zip(FIGURES, outcome.figures[0].tolist(), strict=True))
    info["clip"] = task.clip.item()
    return info


def resolve_settings(settings: DeepMimicSettings | None, options: dict[str, Any]) -> DeepMimicSettings:
    """Settings with some options changed, or made from options alone.

    Raises:
        pydantic.ValidationError (a ValueError): an unknown option or an illegal value.
    """
    base = {} if settings is None else {name: getattr(settings, name) for name in DeepMimicSettings.model_fields}
    return DeepMimicSettings.model_validate(base | options)


def observation_space(task: ImitationTask) -> spaces.Box:
    """Observation space of one row: float32, unbounded (positions and velocities have no natural bound)."""
    return spaces.Box(-np.inf, np.inf, (task.observation_size,), np.float32)


def action_space(settings: DeepMimicSettings) -> spaces.Box:
    """Action space of one row: 28 numbers within `action_bound`."""
    return spaces.Box(-settings.action_bound, settings.action_bound, (NUM_COORDINATES,), np.float32)


def make_reader(task: ImitationTask) -> KinematicsReader:
    """A reader of just the quantities that the task uses."""
    recipe = task.reference.recipe
    com = "velocity" if recipe.com_velocity else "position"
    return KinematicsReader(
        task.settings, com if recipe.needs_com else None, with_bodies="bodies" in task.observation_blocks
    )


def read_starts(options: dict[str, Any], count: int) -> EpisodeStarts:
    """Starts from `options["phase"]` and `options["clip"]`, each a number or one per row; other options are errors.

    Raises:
        ValueError: another option, or another number of phases or clips.
    """
    if unknown := options.keys() - {"phase", "clip"}:
        raise ValueError(f"unknown reset option {min(unknown)!r}; legal: 'phase', 'clip'")
    values: dict[str, NDArray[Any] | None] = dict.fromkeys(("phase", "clip"))
    for name, kind in (("phase", np.float64), ("clip", np.int64)):
        if options.get(name) is not None:
            given = np.asarray(options[name], dtype=kind)
            if given.shape not in ((), (count,)):
                raise ValueError(f"{name} has shape {given.shape}; legal: one number or ({count},)")
            values[name] = np.broadcast_to(given, (count,))
    return EpisodeStarts(values["phase"], values["clip"])


def _generators(seed: int | Sequence[int | None] | None, count: int) -> list[np.random.Generator]:
    if seed is None or isinstance(seed, int):
        first = seeding.np_random(seed)[1] % 2**32 if seed is None else seed
        seeds: Sequence[int | None] = [first + row for row in range(count)]
    else:
        seeds = seed
    if len(seeds) != count:
        raise ValueError(f"seed has {len(seeds)} entries; legal: {count}")
    return [seeding.np_random(value)[0] for value in seeds]
