"""`kinetune/DeepMimicBullet-v0`: the task of `kinetune/DeepMimic-v0` in PyBullet, behind the same interface.

    env = gymnasium.make("kinetune/DeepMimicBullet-v0", motion="walk")

Rules, actions, observations and rewards are those of `envs.task.imitation_task`; a controller of one environment runs
in the other. The physics differ: bullet3's model and contacts, always stable PD with limited total torque (so `pd`,
`armature` and `nthread` have no effect), and no joint limits, so that an elbow can bend backwards. A tenth of MuJoCo's
speed. With hinges, coordinates are the Euler angles nearest to those of the previous step, as MuJoCo's always are.

Each instance has an engine client of its own, which `close()` releases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs.body.joint_coordinates import NUM_COORDINATES, coordinate_rates, joint_coordinates, local_rotations
from envs.body.rotations import rotation_matrices
from envs.body.state import CharacterState
from envs.bullet.physics import BulletHumanoid, LinkStates
from envs.mujoco.vector_environment import action_space, observation_space, read_starts, resolve_settings, step_info
from envs.settings import DeepMimicSettings
from envs.task.imitation_task import ImitationTask
from envs.task.paper_observation import paper_observation as observe_as_paper

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]

_ROW = np.zeros(1, dtype=np.int64)
RENDER_SIZE = (480, 360)


class DeepMimicBulletEnv(gymnasium.Env[Float32, Float32]):
    """One character; see the module's docstring.

    Args:
        settings: options of the task.
        render_mode: `rgb_array` (pybullet's software renderer) or None.
        options: single settings as keyword arguments.

    Raises:
        ValueError: see `envs.task.reference.ReferenceMotion`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (gymnasium's own name and type)

    def __init__(
        self, settings: DeepMimicSettings | None = None, *, render_mode: str | None = None, **options: Any
    ) -> None:
        self.settings = resolve_settings(settings, options)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}; legal: null, {', '.join(self.metadata['render_modes'])}")
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": self.settings.control_hz}
        self.task = ImitationTask(self.settings, 1)
        self.observation_space = observation_space(self.task)
        self.action_space = action_space(self.settings)
        self.humanoid = BulletHumanoid(self.settings)
        self._state: CharacterState | None = None

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
        self._state = start_on_reference(self.humanoid, self.task)
        infos = {"phase": float(self.task.phase[0]), "clip": int(self.task.clip[0])}
        return self.task.observe(self._state)[0], infos

    def step(self, action: NDArray[Any]) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """One control step with an action [28].

        Raises:
            ValueError: wrong shape, not finite, or `reset` has not been called.
        """
        before = self._begun()
        action = np.asarray(action)
        if action.shape != (NUM_COORDINATES,):
            raise ValueError(f"action has shape {action.shape}; legal: ({NUM_COORDINATES},)")
        targets = self.task.targets(action[None], before.coordinates)
        push = self.task.push(before.heading) if self.settings.push_force > 0.0 else None
        rotations = local_rotations(targets, self.task.reference.joints)[0]
        touching = self.humanoid.step(rotations, None if push is None else push[0])
        state = self._read(before.coordinates)
        diverged = not np.isfinite(state.packed).all()
        # If the simulation diverged, the last valid state is compared and observed.
        self._state = before if diverged else state
        outcome = self.task.advance(self._state, touching[None], np.array([diverged]))
        return (
            self.task.observe(self._state)[0],
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(outcome.truncated[0]),
            step_info(self.task, outcome),
        )

    def expert_action(self) -> Float32:
        """The open-loop expert's action [1, 28]: reference target at t + lookahead, with velocity feed-forward."""
        return self.task.expert_action()

    def observe(self) -> Float32:
        """The current observation [1, D], as the last step or reset returned it (useful after `set_state`)."""
        return self.task.observe(self._begun())

    def paper_observation(self) -> Array:
        """The current observation [197] of the DeepMimic paper, as in bullet3's environment except for its axes."""
        self._begun()
        return paper_observation(float(self.task.phase[0]), self.humanoid.read())

    def state(self) -> dict[str, Any]:
        """Everything that determines the future, for `set_state`: arrays and plain values."""
        return {
            "engine": np.frombuffer(self.humanoid.save(), dtype=np.uint8),
            "coordinates": self._begun().coordinates.copy(),
            "task": self.task.state(),
            "generator": self.np_random.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`, taken from this or another instance with the same settings.

        Raises:
            ValueError: the state is that of another kind of environment.
        """
        self.task.set_state(state["task"])
        self.humanoid.load(np.asarray(state["engine"], dtype=np.uint8).tobytes())
        self.np_random.bit_generator.state = state["generator"]
        self._state = self._read(np.asarray(state["coordinates"]))

    def render(self) -> NDArray[np.uint8] | None:
        """An image [360, 480, 3] if `render_mode` is rgb_array, else None."""
        return None if self.render_mode is None else self.humanoid.render(*RENDER_SIZE)

    def close(self) -> None:
        """Releases the engine's client."""
        self.humanoid.close()

    def _begun(self) -> CharacterState:
        if self._state is None:
            raise ValueError("no episode has begun: call reset() first")
        return self._state

    def _read(self, near: Array) -> CharacterState:
        return character_states([self.humanoid.read()], self.task, near)


def start_on_reference(humanoid: BulletHumanoid, task: ImitationTask) -> CharacterState:
    """Puts the character on the reference where the only row of `task` starts; raised if it is in the ground."""
    put_on_reference([humanoid], task)
    return character_states([humanoid.read()], task, start_coordinates(task))


def put_on_reference(humanoids: Sequence[BulletHumanoid], task: ImitationTask) -> None:
    """Puts one character on the reference of each row of `task`; raised if it is in the ground."""
    place = task.reference.state(task.clip, task.start_time, np.zeros((task.num_envs, 3))).tracked
    lifted, _ = task.start_states(np.arange(task.num_envs))
    for row, humanoid in enumerate(humanoids):
        root = np.append(place.root_position[row, :2], lifted[row, 2])
        speeds, velocities = task.start_speeds[row], place.velocities[row].copy()
        velocities[0] += rotation_matrices(place.rotations[row, 0]) @ speeds[3:]
        humanoid.reset(root, place.rotations[row], place.root_linear[row] + speeds[:3], velocities)


def start_coordinates(task: ImitationTask) -> Array:
    """Joint coordinates [n, 28] of the reference where the rows of `task` start."""
    return task.reference.target(task.clip, task.start_time, np.zeros((task.num_envs, 3))).coordinates


def paper_observation(phase: float, links: LinkStates) -> Array:
    """The DeepMimic paper's observation [197] at a phase in [0, 1)."""
    return observe_as_paper(
        np.array([phase]),
        links.root_position[None],
        links.joints[None, 0],
        links.places[None],
        links.rotations[None],
        links.linear[None],
        links.angular[None],
    )[0]


def character_states(links: Sequence[LinkStates], task: ImitationTask, near: Array) -> CharacterState:
    """The state of n characters; joint angles are the ones nearest to `near` [n, 28]."""
    kind = task.reference.joints
    rotations, velocities = np.stack([one.joints for one in links]), np.stack([one.spins for one in links])
    coordinates = joint_coordinates(rotations, kind, near)
    # The engine gives velocities of centres of mass; the task uses those of the bodies' origins.
    linear = [one.linear + np.cross(one.angular, one.positions - one.places) for one in links]
    angular = [one.angular for one in links]
    moves = task.reference.recipe.com_velocity
    com = np.stack([one.com_velocity if moves else one.com_position for one in links])
    return CharacterState.from_parts(
        rotations=rotations,
        velocities=velocities,
        root_linear=np.stack([one.root_linear for one in links]),
        coordinates=coordinates,
        rates=coordinate_rates(coordinates, velocities, kind),
        body_positions=np.stack([one.positions for one in links]),
        body_rotations=np.stack([one.rotations for one in links]),
        body_velocities=np.concatenate((np.stack(linear), np.stack(angular)), axis=-1),
        com=com if task.reference.recipe.needs_com else None,
    )
