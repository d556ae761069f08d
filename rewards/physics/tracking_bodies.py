"""The simulated humanoids of the tracking reward in either engine: n characters that start on their motions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from envs.body.joint_coordinates import local_rotations
from envs.body.state import CharacterState
from envs.bullet.environment import character_states, start_on_reference
from envs.bullet.physics import BulletHumanoid
from envs.mujoco.physics import make_physics
from envs.mujoco.vector_environment import make_reader
from envs.task.imitation_task import ImitationTask

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Bodies(Protocol):
    """n simulated characters of a task whose rows have just been started."""

    @property
    def state(self) -> CharacterState:
        """The characters now."""
        ...

    def step(self, targets: Array, wrench: Array | None) -> tuple[Flags, Flags]:
        """One control step towards PD targets [n, 28] with a wrench [n, 6] at the root.

        Returns which bodies touched the ground [n, 15], and which characters diverged [n].
        """
        ...

    def keep(self, going: Flags) -> None:
        """Removes all other characters from the simulation."""
        ...

    def close(self) -> None:
        """Releases the engine."""
        ...


class MujocoBodies:
    """All characters in one call of MuJoCo."""

    def __init__(self, task: ImitationTask) -> None:
        self._physics = make_physics(task.settings)
        self._reader = make_reader(task)
        self._qpos, self._qvel = task.start_states(np.arange(task.num_envs))
        self.state = self._reader.read(self._qpos, self._qvel)

    def step(self, targets: Array, wrench: Array | None) -> tuple[Flags, Flags]:
        """One control step: see `Bodies.step`."""
        after = self._physics.step(self._qpos, self._qvel, targets, wrench)
        self._qpos, self._qvel = after.qpos, after.qvel
        self.state = self._reader.read(after.qpos, after.qvel)
        return after.touching, after.diverged

    def keep(self, going: Flags) -> None:
        """Removes characters: see `Bodies.keep`."""
        if not going.all():
            self._qpos, self._qvel = self._qpos[going], self._qvel[going]
            self.state = self._reader.read(self._qpos, self._qvel)

    def close(self) -> None:
        """Releases the engine: see `Bodies.close`."""
        self._physics.close()


class BulletBodies:
    """A single character in PyBullet, which has no batches."""

    def __init__(self, task: ImitationTask) -> None:
        assert task.num_envs == 1
        self._task = task
        self._humanoid = BulletHumanoid(task.settings)
        self.state = start_on_reference(self._humanoid, task)

    def step(self, targets: Array, wrench: Array | None) -> tuple[Flags, Flags]:
        """One control step: see `Bodies.step`."""
        rotations = local_rotations(targets, self._task.reference.joints)[0]
        touching = self._humanoid.step(rotations, None if wrench is None else wrench[0])
        self.state = character_states([self._humanoid.read()], self._task, self.state.coordinates)
        return touching[None], np.array([not np.isfinite(self.state.packed).all()])

    def keep(self, going: Flags) -> None:
        """Does nothing, as there is one character only."""

    def close(self) -> None:
        """Releases the engine: see `Bodies.close`."""
        self._humanoid.close()
