"""What a policy sees: named blocks of numbers, side by side, all in the heading frame of the character's root.

root           13   height; where the root's rotation takes the x and the y axis; linear and angular velocity
joints         56   joint coordinates and their rates; hinge angles as near to the reference's as they can be written
key_positions  12   hands and feet: horizontally from the root, vertically above the ground
bodies        225   per body: place from the root, two axes, linear and angular velocity
phase           2   cosine and sine of the phase: a full turn per cycle, half a turn for a clip that ends
targets        37   per step ahead: place of the reference's root from ours, its two axes, joint coordinates
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.character import CharacterState
from envs.imitation_reward import END_EFFECTORS, VELOCITIES
from envs.joint_coordinates import NUM_COORDINATES
from envs.settings import BODY_NAMES, DeepMimicSettings

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]

_TARGET_SIZE = 9 + NUM_COORDINATES


class ObservationBuilder:
    """Puts the blocks of `settings.observation_blocks` together.

    Attributes:
        blocks: size by name, in order; size: of all.
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
        ends = np.cumsum(list(self.blocks.values())).tolist()
        self._slices = {
            name: slice(end - size, end) for end, (name, size) in zip(ends, self.blocks.items(), strict=True)
        }

    def build(
        self,
        state: CharacterState,
        joints: tuple[Array, Array],
        phase_angle: Array,
        reference: tuple[Array, Array, Array],
    ) -> Float32:
        """Observations [n, size] float32.

        Args:
            state: n characters.
            joints: their joint coordinates [n, 28] and rates [n, 28], in the reference's branch of angles.
            phase_angle: [n] radians.
            reference: its places [n, S, 3], axes [n, S, 6] and joint coordinates [n, S, 28] at `target_steps`.
        """
        places, axes, coordinates = reference
        count, num_targets = len(state.packed), len(self.target_steps)
        observations = np.empty((count, self.size), dtype=np.float32)
        # Everything with a direction is turned into the heading at once: the root's axes and velocities, then per
        # target its place from the root and its axes.
        vectors = np.empty((count, 4 + 3 * num_targets, 3))
        flat = vectors.reshape(count, -1)
        flat[:, 0:6] = state.root_axes
        flat[:, 6:9] = state.root_linear
        flat[:, 9:12] = state.packed[:, VELOCITIES.start : VELOCITIES.start + 3]
        targets = vectors[:, 4:].reshape(count, num_targets, 9)
        if num_targets:
            np.subtract(places, state.root_position[:, None], out=targets[..., :3])
            targets[..., 3:] = axes
        _turn_back(vectors, state.heading)
        for name, part in self._slices.items():
            if name == "root":
                observations[:, part.start] = state.root_position[:, 2]
                observations[:, part.start + 1 : part.stop] = flat[:, :12]
            elif name == "joints":
                observations[:, part.start : part.start + NUM_COORDINATES] = joints[0]
                observations[:, part.start + NUM_COORDINATES : part.stop] = joints[1]
            elif name == "key_positions":
                observations[:, part] = state.key_points.reshape(count, -1)
            elif name == "bodies":
                observations[:, part] = _body_block(state)
            elif name == "phase":
                observations[:, part.start] = np.cos(phase_angle)
                observations[:, part.start + 1] = np.sin(phase_angle)
            else:
                block = observations[:, part].reshape(count, num_targets, _TARGET_SIZE)
                block[..., :9] = targets
                block[..., 9:] = coordinates
        return observations


def _turn_back(vectors: Array, heading: tuple[Array, Array]) -> None:
    """Turns world vectors [n, k, 3] in place into frames with the given headings (cosine and sine [n])."""
    cosine, sine = heading[0][:, None], heading[1][:, None]
    x, y = vectors[..., 0], vectors[..., 1]
    along = cosine * x + sine * y
    vectors[..., 1] = cosine * y - sine * x
    vectors[..., 0] = along


def _body_block(state: CharacterState) -> Array:
    """[n, 225]."""
    assert state.body_axes is not None
    assert state.body_velocities is not None
    places = state.body_positions - state.root_position[:, None]
    vectors = np.concatenate((places, state.body_axes, state.body_velocities), axis=-1)
    count = len(vectors)
    vectors = vectors.reshape(count, -1, 3)
    _turn_back(vectors, state.heading)
    return vectors.reshape(count, -1)
