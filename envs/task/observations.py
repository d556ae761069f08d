"""Observations of a policy: named blocks of numbers, side by side, all in the heading frame of the character's root.

root           13   height; x and y axis of the root; linear and angular velocity
joints         56   joint coordinates and their rates; hinge angles in the representation nearest to the reference's
key_positions  12   hands and feet: horizontally relative to the root, vertically above the ground
bodies        225   per body: position relative to the root, two axes, linear and angular velocity
phase           2   cosine and sine of the phase: a full turn per cycle, half a turn for a clip that does not repeat
targets        37   per step ahead: the reference's root relative to the character's, its two axes, joint coordinates
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.body.headings import Turner
from envs.body.joint_coordinates import NUM_COORDINATES
from envs.body.state import CharacterState
from envs.body.tracked import END_EFFECTORS
from envs.settings import BODY_NAMES, DeepMimicSettings
from envs.task.reference import Prospect

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]

_VECTORS_SIZE = 9
_TARGET_SIZE = _VECTORS_SIZE + NUM_COORDINATES


class ObservationBuilder:
    """Assembles the blocks of `settings.observation_blocks`.

    Attributes:
        blocks: size of each block by name, in order; size: their sum.
        target_steps: control steps ahead of the poses that are shown; none without the block `targets`.
    """

    def __init__(self, settings: DeepMimicSettings) -> None:
        sizes = {
            "root": 13,
            "joints": 2 * NUM_COORDINATES,
            "key_positions": 3 * len(END_EFFECTORS),
            "bodies": 15 * len(BODY_NAMES),
            "phase": 2,
            "targets": _TARGET_SIZE * len(settings.target_steps),
        }
        self.blocks = {name: sizes[name] for name in settings.observation_blocks}
        self.size = sum(self.blocks.values())
        self.target_steps = settings.target_steps if "targets" in self.blocks else ()
        self._target_turner = Turner(
            range(_VECTORS_SIZE * len(self.target_steps)), ("xyz", "", "") * len(self.target_steps)
        )
        self._order = self._columns()

    def build(self, state: CharacterState, joints: tuple[Array, Array], prospect: Prospect) -> Float32:
        """Observations [n, size] float32.

        Args:
            state: n characters.
            joints: their joint coordinates [n, 28] and rates [n, 28], in the reference's branch of angles.
            prospect: what the characters see of the reference; its targets are those of `target_steps`.
        """
        parts: list[Array] = []
        for name in self.blocks:
            if name == "root":
                parts += (state.height, state.root_vectors)
            elif name == "joints":
                parts += joints
            elif name == "key_positions":
                parts.append(state.points)
            elif name == "bodies":
                parts.append(_BODIES.turned(_body_rows(state), state.root_position, state.facing.unit))
            elif name == "phase":
                parts.append(prospect.circle)
            else:
                vectors = self._target_turner.turned(prospect.vectors, state.root_position, state.facing.unit)
                parts += (vectors, prospect.coordinates)
        numbers = np.concatenate(parts, axis=1, dtype=np.float32)
        return numbers if self._order is None else numbers.take(self._order, axis=1)

    def _columns(self) -> NDArray[np.int64] | None:
        """Column of each number of an observation among its parts (of the targets first all vectors, then all joints);
        None if that is the order already."""
        count, columns = len(self.target_steps), []
        for name, size in self.blocks.items():
            block = np.arange(size) + sum(len(part) for part in columns)
            if name == "targets":
                vectors, joints = block[: _VECTORS_SIZE * count], block[_VECTORS_SIZE * count :]
                block = np.concatenate((vectors.reshape(count, -1), joints.reshape(count, -1)), axis=1).ravel()
            columns.append(block)
        order = np.concatenate(columns)
        return None if (np.diff(order) == 1).all() else order


_BODIES = Turner(range(15 * len(BODY_NAMES)), ("xyz", "", "", "", "") * len(BODY_NAMES))


def _body_rows(state: CharacterState) -> Array:
    """Position, two axes, linear and angular velocity of every body, [n, 225]."""
    return np.concatenate((state.body_positions[:, :, None], state.body_vectors), axis=2).reshape(len(state.packed), -1)
