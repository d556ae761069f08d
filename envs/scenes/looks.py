"""A recorded scene for renderers: shapes that are moved by hand, the same for either engine's recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from envs.body.mujoco_model import PARTS
from envs.bullet.physics import pybullet
from envs.scenes.assets import Asset, Piece, axis_vector, trimesh
from envs.scenes.mujoco_world import geom_shape
from envs.settings import BODY_NAMES

Colour = tuple[float, float, float]

_ACTORS: tuple[Colour, ...] = ((0.30, 0.44, 0.62), (0.66, 0.36, 0.24), (0.36, 0.55, 0.36), (0.55, 0.38, 0.60))
"""Of humanoids in turn."""
_SKIN: Colour = (0.84, 0.68, 0.55)
_BARE = ("neck", "right_wrist", "left_wrist", "right_elbow", "left_elbow")
_NEAR_M, _FAR_M = 0.05, 60.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A body of the picture."""

    name: str
    pieces: tuple[Piece, ...]
    colour: Colour


def shown_bodies(num_actors: int, assets: Sequence[Asset]) -> list[Shown]:
    """The humanoids' bodies, 15 each in the order of `BODY_NAMES`, then the things."""
    bodies = [
        Shown(f"{actor}/{name}", _limb(name), _SKIN if name in _BARE else _ACTORS[actor % len(_ACTORS)])
        for actor in range(num_actors)
        for name in BODY_NAMES
    ]
    return bodies + [Shown(asset.name, asset.pieces, asset.colour) for asset in assets]


def _limb(name: str) -> tuple[Piece, ...]:
    part = PARTS[name]
    if part.shape != "capsule":
        kind = "box" if part.shape == "box" else "sphere"
        return (Piece(kind, part.size, part.centre),)
    radius, half = part.size
    x, y, z = part.centre
    ends = tuple(Piece("sphere", (radius,), (x, y, z + sign * half)) for sign in (-1.0, 1.0))
    return (Piece("cylinder", part.size, part.centre), *ends)


def film_xml(bodies: Sequence[Shown], width: int, height: int, field_deg: float) -> str:
    """MJCF text of the bodies, as mocap bodies in their order, on a floor under a sky."""
    root = Element("mujoco")
    visual = SubElement(root, "visual")
    SubElement(visual, "global", offwidth=str(width), offheight=str(height), fovy=f"{field_deg:g}")
    SubElement(visual, "headlight", ambient="0.35 0.35 0.37", diffuse="0.25 0.25 0.25", specular="0 0 0")
    SubElement(visual, "quality", shadowsize="2048")
    SubElement(visual, "map", znear=f"{_NEAR_M:g}", zfar=f"{_FAR_M:g}", shadowclip="6")
    SubElement(root, "statistic", extent="1", center="0 0 0.8")
    asset = SubElement(root, "asset")
    SubElement(asset, "texture", type="skybox", builtin="gradient", rgb1="0.78 0.84 0.9", rgb2="0.95 0.93 0.88",
               width="64", height="64")  # fmt: skip
    SubElement(asset, "texture", name="floor", type="2d", builtin="checker", rgb1="0.62 0.6 0.56",
               rgb2="0.67 0.65 0.61", width="256", height="256")  # fmt: skip
    SubElement(asset, "material", name="floor", texture="floor", texrepeat="1 1", texuniform="true", reflectance="0.05")
    world = SubElement(root, "worldbody")
    SubElement(world, "light", pos="-2 -3 6", dir="0.3 0.45 -1", directional="true", diffuse="0.7 0.68 0.62",
               castshadow="true")  # fmt: skip
    SubElement(world, "geom", type="plane", size="0 0 1", material="floor")
    for number, shown in enumerate(bodies):
        body = SubElement(world, "body", name=f"{number}", mocap="true")
        for place, piece in enumerate(shown.pieces):
            geom = geom_shape(piece, f"{number}/{place}", asset)
            rgba = " ".join(f"{value:.4g}" for value in (*shown.colour, 1.0))
            SubElement(body, "geom", geom | {"rgba": rgba, "contype": "0", "conaffinity": "0"})
    return ElementTree.tostring(root, encoding="unicode")


class TinyRenderer:
    """PyBullet's software renderer, which needs no GL library; it casts no soft light, and takes longer.

    Args:
        bodies: as of `shown_bodies`.
        field_deg: vertical field of view.
    """

    def __init__(self, bodies: Sequence[Shown], width: int, height: int, field_deg: float) -> None:
        self._client = pybullet.connect(pybullet.DIRECT)
        self._size = (width, height)
        self._lens = pybullet.computeProjectionMatrixFOV(field_deg, width / height, _NEAR_M, _FAR_M)
        self._bodies = [[self._make(piece, shown.colour) for piece in shown.pieces] for shown in bodies]
        self._offsets = [[np.array(piece.centre) for piece in shown.pieces] for shown in bodies]
        self._turns = [[_cylinder_turn(piece) for piece in shown.pieces] for shown in bodies]
        floor = pybullet.createVisualShape(
            pybullet.GEOM_BOX, halfExtents=(30.0, 30.0, 0.01), rgbaColor=(0.66, 0.64, 0.6, 1.0),
            physicsClientId=self._client,
        )  # fmt: skip
        pybullet.createMultiBody(0.0, -1, floor, basePosition=(0.0, 0.0, -0.01), physicsClientId=self._client)

    def render(self, poses: np.ndarray, eye: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Picture [H, W, 3] uint8 and depths [H, W] in metres of poses [B, 7]."""
        common = {"physicsClientId": self._client}
        for pose, pieces, offsets, turns in zip(poses, self._bodies, self._offsets, self._turns, strict=True):
            rotation = (*pose[4:].tolist(), float(pose[3]))
            for piece, offset, turn in zip(pieces, offsets, turns, strict=True):
                place, turned = pybullet.multiplyTransforms(pose[:3].tolist(), rotation, offset.tolist(), turn)
                pybullet.resetBasePositionAndOrientation(piece, place, turned, **common)
        view = pybullet.computeViewMatrix(eye.tolist(), target.tolist(), (0.0, 0.0, 1.0))
        width, height = self._size
        image = pybullet.getCameraImage(
            width, height, view, self._lens, lightDirection=(-2.0, -3.0, 6.0), shadow=1,
            renderer=pybullet.ER_TINY_RENDERER, **common,
        )  # fmt: skip
        picture = np.asarray(image[2], dtype=np.uint8).reshape(height, width, 4)[..., :3].copy()
        buffer = np.asarray(image[3], dtype=np.float64).reshape(height, width)
        return picture, _FAR_M * _NEAR_M / (_FAR_M - (_FAR_M - _NEAR_M) * buffer)

    def close(self) -> None:
        """Releases the client."""
        pybullet.disconnect(physicsClientId=self._client)

    def _make(self, piece: Piece, colour: Colour) -> int:
        look: dict[str, object] = {"rgbaColor": (*colour, 1.0), "physicsClientId": self._client}
        if piece.points is not None:
            mesh = trimesh.convex.convex_hull(piece.points)
            options = {"vertices": mesh.vertices.tolist(), "indices": mesh.faces.ravel().tolist()}
            shape = pybullet.createVisualShape(pybullet.GEOM_MESH, **options, **look)
        elif piece.shape == "box":
            shape = pybullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=piece.size, **look)
        elif piece.shape == "sphere":
            shape = pybullet.createVisualShape(pybullet.GEOM_SPHERE, radius=piece.size[0], **look)
        else:
            options = {"radius": piece.size[0], "length": 2.0 * piece.size[1]}
            shape = pybullet.createVisualShape(pybullet.GEOM_CYLINDER, **options, **look)
        return pybullet.createMultiBody(0.0, -1, shape, physicsClientId=self._client)


def _cylinder_turn(piece: Piece) -> tuple[float, float, float, float]:
    """Quaternion x, y, z, w that turns z to a cylinder's axis."""
    if piece.shape != "cylinder" or piece.axis == "z":
        return (0.0, 0.0, 0.0, 1.0)
    x, y, _ = np.cross((0.0, 0.0, 1.0), axis_vector(piece.axis)) * np.sqrt(0.5)
    return (float(x), float(y), 0.0, float(np.sqrt(0.5)))
