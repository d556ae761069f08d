"""A simulated scene: floor, things and humanoids. One interface for MuJoCo and PyBullet.

    world = make_world("mujoco", assets, settings, task, ("man",))
    touching, diverged = world.step(targets, wrench)
    world.object_poses(), world.contacts.events

Humanoids begin on their references, with the references' velocities; things begin at rest where the layout has them.
From then on only forces act: motors in the joints, an external wrench at the root where one is given, gravity, contact
and friction. Nothing is ever put back. A thing slides on floor and humanoids by its own material's friction. Worlds are
independent of each other, whatever their number in a process, and the same steps give the same bits.

Legend: n humanoids, m things; z up, metres, quaternions w, x, y, z.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.body.state import CharacterState
from envs.scenes.assets import Asset
from envs.scenes.contacts import ContactLog
from envs.settings import DeepMimicSettings
from envs.task.imitation_task import ImitationTask
from motions.base.errors import UserError

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Engine = Literal["mujoco", "bullet"]


class World(Protocol):
    """See the module's docstring."""

    contacts: ContactLog
    """All contacts so far."""
    num_bad_steps: int
    """Control steps whose result was not finite. Such a world stays where it was, and is never continued."""

    @property
    def time(self) -> float:
        """Seconds since the beginning."""
        ...

    @property
    def state(self) -> CharacterState:
        """The humanoids. Raises ValueError if there are none."""
        ...

    def step(self, targets: Array | None = None, wrench: Array | None = None) -> tuple[Flags, Flags]:
        """One control step towards PD targets [n, 28] (None: the joints are loose) with wrenches [n, 6] at the roots.

        Returns which bodies touched the floor [n, 15], and which humanoids diverged [n].
        """
        ...

    def keep(self, going: Flags) -> None:
        """Does nothing: who lost a motion stays in the scene."""
        ...

    def object_poses(self) -> Array:
        """Places of the centres, and rotations, [m, 7]."""
        ...

    def object_velocities(self) -> Array:
        """Velocities of the centres of mass [m, 3], m/s."""
        ...

    def body_poses(self) -> Array:
        """Places of the joints, and rotations, of the humanoids' bodies, [n, 15, 7]."""
        ...

    def close(self) -> None:
        """Releases the engine."""
        ...


def make_world(
    engine: Engine,
    assets: Sequence[Asset],
    settings: DeepMimicSettings,
    task: ImitationTask | None = None,
    actors: Sequence[str] = (),
) -> World:
    """A world at its beginning.

    Args:
        settings: of physics and humanoids; those of the task, if there is one.
        task: whose rows, just started, are the humanoids' references; None for things alone.
        actors: names of the humanoids, one for each row of the task.

    Raises:
        UserError: settings that MuJoCo's world does not simulate (`pd` stable).
    """
    if (task.num_envs if task is not None else 0) != len(actors):
        raise ValueError(f"{len(actors)} actors do not fit to the rows of the task")
    if engine == "bullet":
        from envs.scenes.bullet_world import BulletWorld

        return BulletWorld(assets, settings, task, actors)
    if settings.pd == "stable":
        raise UserError("pd is 'stable': in a scene, MuJoCo simulates 'damping' and 'actuator'; use the engine bullet")
    from envs.scenes.mujoco_world import MujocoWorld

    return MujocoWorld(assets, settings, task, actors)
