"""Writes motions as one GLB file (binary glTF 2.0): a skinned body of capsules with an animation for each motion.

glTF's axes and units are those of motions here: y up, z forward, metres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pygltflib as gltf

from motions.drawing import INK, LEFT, RIGHT, Colour
from motions.files.body import Mesh, body_meshes
from motions.files.motion import Motion
from motions.files.rigging import Rig, Take, make_rig

_KINDS = {1: gltf.SCALAR, 3: gltf.VEC3, 4: gltf.VEC4, 16: gltf.MAT4}
_NUMBERS = {np.dtype("<f4"): gltf.FLOAT, np.dtype("<u2"): gltf.UNSIGNED_SHORT, np.dtype("u1"): gltf.UNSIGNED_BYTE}

_STRETCH_M = 0.005
"""Change of a bone that is seen."""
_NAMES = {INK: "trunk", LEFT: "left", RIGHT: "right"}


@dataclass(slots=True)
class _Arrays:
    """Arrays of a file, one behind the other in its binary part."""

    document: gltf.GLTF2
    binary: bytearray = field(default_factory=bytearray)

    def add(self, values: np.ndarray, target: int | None = None, *, bounds: bool = False) -> int:
        """Appends an array [N] or [N, K] and returns the index of its accessor.

        Args:
            target: what the graphics card uses the array for; None for what it never sees.
            bounds: whether the accessor says the least and the largest values.
        """
        rows = values.reshape(len(values), -1)
        view = gltf.BufferView(buffer=0, byteOffset=len(self.binary), byteLength=rows.nbytes, target=target)
        self.binary += rows.tobytes()
        # Every array begins at a multiple of the size of its numbers.
        self.binary += bytes(-len(self.binary) % 4)
        self.document.bufferViews.append(view)
        accessor = gltf.Accessor(
            bufferView=len(self.document.bufferViews) - 1,
            componentType=_NUMBERS[rows.dtype],
            count=len(rows),
            type=_KINDS[rows.shape[1]],
            min=rows.min(axis=0).tolist() if bounds else None,
            max=rows.max(axis=0).tolist() if bounds else None,
        )
        self.document.accessors.append(accessor)
        return len(self.document.accessors) - 1


def glb_bytes(motions: Sequence[Motion]) -> bytes:
    """The content of a GLB file with motions of one skeleton; their names are those of the animations."""
    rig = make_rig(motions)
    document = gltf.GLTF2(asset=gltf.Asset(version="2.0", generator="kinetune"))
    arrays = _Arrays(document)
    stretched = {joint: len(rig.names) + number for number, joint in enumerate(_stretched(rig))}
    for joint, name in enumerate(rig.names):
        below = [child for child, parent in enumerate(rig.parents) if parent == joint]
        below += [node for child, node in stretched.items() if rig.parents[child] == joint]
        node = gltf.Node(name=name, translation=rig.rest[joint].tolist(), rotation=[0.0, 0.0, 0.0, 1.0])
        node.children = below
        document.nodes.append(node)
    for joint in stretched:
        document.nodes.append(gltf.Node(name=f"{rig.names[joint]}_place", translation=rig.rest[joint].tolist()))
    # A file that is opened shows the beginning of its first motion.
    document.nodes[0].translation = rig.takes[0].positions[0, 0].tolist()
    document.meshes.append(gltf.Mesh(name="body"))
    for part in body_meshes(rig, motions[0].skeleton):
        document.meshes[0].primitives.append(_primitive(part, stretched, arrays, document))
    document.skins.append(gltf.Skin(name="body", joints=list(range(len(document.nodes))), skeleton=0))
    places = np.concatenate([rig.places, rig.places[list(stretched)]])
    document.skins[0].inverseBindMatrices = arrays.add(_inverse_bind_matrices(places))
    document.nodes.append(gltf.Node(name="body", mesh=0, skin=0))
    document.scenes.append(gltf.Scene(nodes=[0, len(document.nodes) - 1]))
    document.scene = 0
    for motion, take in zip(motions, rig.takes, strict=True):
        document.animations.append(_animation(motion, take, rig, stretched, arrays))
    document.buffers.append(gltf.Buffer(byteLength=len(arrays.binary)))
    document.set_binary_blob(bytes(arrays.binary))
    return b"".join(document.save_to_bytes())


def _stretched(rig: Rig) -> list[int]:
    """Joints whose bones from their parents change so much that a rigid capsule would show a gap or an end that stands
    out. Each has a second node that has its place and its parent's rotation, for the points at the bone's end."""
    changes = [np.linalg.norm(take.positions - rig.rest, axis=-1).max(axis=0) for take in rig.takes]
    return [joint for joint in np.flatnonzero(np.max(changes, axis=0) > _STRETCH_M).tolist() if joint]


def _primitive(part: Mesh, stretched: Mapping[int, int], arrays: _Arrays, document: gltf.GLTF2) -> gltf.Primitive:
    weights = np.zeros((len(part.points), 4), "<f4")
    weights[:, 0] = 1.0
    joints = np.zeros((len(part.points), 4), "u1")
    joints[:, 0] = part.joints
    for joint, node in stretched.items():
        joints[part.ends == joint, 0] = node
    document.materials.append(_material(part.colour))
    return gltf.Primitive(
        attributes=gltf.Attributes(
            POSITION=arrays.add(part.points, gltf.ARRAY_BUFFER, bounds=True),
            NORMAL=arrays.add(part.normals, gltf.ARRAY_BUFFER),
            JOINTS_0=arrays.add(joints, gltf.ARRAY_BUFFER),
            WEIGHTS_0=arrays.add(weights, gltf.ARRAY_BUFFER),
        ),
        indices=arrays.add(part.triangles.astype("<u2").reshape(-1), gltf.ELEMENT_ARRAY_BUFFER),
        material=len(document.materials) - 1,
    )


def _material(colour: Colour) -> gltf.Material:
    # Colours of a material are linear, those of pictures are not.
    linear = [((value / 255) ** 2.2) for value in colour]
    surface = gltf.PbrMetallicRoughness(baseColorFactor=[*linear, 1.0], metallicFactor=0.0, roughnessFactor=0.8)
    return gltf.Material(name=_NAMES[colour], pbrMetallicRoughness=surface)


def _inverse_bind_matrices(places: np.ndarray) -> np.ndarray:
    """[J, 16], column by column: from the rest pose, in which the mesh is, to the frame of each joint at `places`."""
    matrices = np.tile(np.eye(4), (len(places), 1, 1))
    matrices[:, :3, 3] = -places
    return matrices.transpose(0, 2, 1).reshape(-1, 16).astype("<f4")


def _animation(motion: Motion, take: Take, rig: Rig, stretched: Mapping[int, int], arrays: _Arrays) -> gltf.Animation:
    animation = gltf.Animation(name=motion.name)
    times = arrays.add((np.arange(len(motion.joints)) / motion.fps).astype("<f4"), bounds=True)

    def track(node: int, path: str, values: np.ndarray) -> None:
        sampler = gltf.AnimationSampler(input=times, output=arrays.add(values.astype("<f4")), interpolation="LINEAR")
        animation.samplers.append(sampler)
        target = gltf.AnimationChannelTarget(node=node, path=path)
        animation.channels.append(gltf.AnimationChannel(sampler=len(animation.samplers) - 1, target=target))

    for joint in range(len(rig.names)):
        if rig.moves[joint]:
            track(joint, "translation", take.positions[:, joint])
        # glTF writes quaternions as x, y, z, w.
        track(joint, "rotation", take.turns[:, joint, [1, 2, 3, 0]])
    for joint, node in stretched.items():
        track(node, "translation", take.positions[:, joint])
    return animation
