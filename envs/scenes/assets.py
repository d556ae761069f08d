"""What the things of a scene are made of: a few boxes, balls and cylinders by category, or a mesh of one's own.

Every thing fills the box that the planner gave it. Its mass is spread evenly over its pieces. Space is the scene's: x
to the right, y away from the camera, z up, metres.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from motions.base.errors import UserError
from motions.scenes.layout_file import LayoutFile, Place
from motions.scenes.scene import Scene

Array = NDArray[np.float64]

trimesh: Any = importlib.import_module("trimesh")
"""Without the annotations of the package, whose functions give one of many kinds of geometry."""
Shape = Literal["box", "sphere", "cylinder", "mesh"]
Point = tuple[float, float, float]

MESH_SUFFIXES = (".glb", ".obj", ".ply", ".stl")
FRICTION: Mapping[str, float] = {
    "metal": 0.4, "glass": 0.4, "plastic": 0.4, "ceramic": 0.4, "ice": 0.05, "wood": 0.5, "stone": 0.7,
    "leather": 0.7, "rubber": 0.9, "fabric": 0.8, "flesh": 0.9,
}  # fmt: skip
"""Sliding friction with floor and humanoids, by material; `OTHER_FRICTION` for any other."""
OTHER_FRICTION = 0.6
ROLLING_M = 0.004
"""Rolling friction: how far ahead of the centre a rolling thing is carried, as of a ball on a carpet."""
_COLOURS: Mapping[str, str] = {
    "wood": "#a9794f", "metal": "#8f989e", "glass": "#a8c8d0", "stone": "#8d8a84", "plastic": "#6d8fb3",
    "fabric": "#9a6f7d", "leather": "#7a4b32", "rubber": "#444648", "flesh": "#b98a6c", "paper": "#e4dfd0",
    "plant": "#5c8a4a",
}  # fmt: skip
_OTHER_COLOUR = "#b5aa98"
_UNREADABLE = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError),
    *(NotImplementedError, OSError, struct.error),
)
"""What the readers of the formats raise for files that are none of theirs."""
_HANGS_M = 0.02
"""What begins higher than this, and neither stands on nor lies in anything, hangs where it is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A convex part of a thing, beside the thing's centre."""

    shape: Shape
    size: tuple[float, ...]
    """Half extents of a box; radius of a sphere; radius and half length of a cylinder; nothing for a mesh."""
    centre: Point = (0.0, 0.0, 0.0)
    axis: Literal["x", "y", "z"] = "z"
    """Along which a cylinder lies."""
    points: Array | None = None
    """[V, 3] of a mesh, whose convex hull collides."""

    @property
    def volume(self) -> float:
        """Its volume in cubic metres."""
        if self.points is not None:
            return float(trimesh.convex.convex_hull(self.points).volume)
        if self.shape == "box":
            return 8.0 * float(np.prod(self.size))
        if self.shape == "sphere":
            return 4.0 / 3.0 * np.pi * self.size[0] ** 3
        return 2.0 * np.pi * self.size[0] ** 2 * self.size[1]

    @property
    def mesh(self) -> Any:
        """As a closed `trimesh.Trimesh`, in the thing's frame."""
        if self.points is not None:
            made = trimesh.convex.convex_hull(self.points)
        elif self.shape == "box":
            made = trimesh.creation.box(extents=2.0 * np.array(self.size))
        elif self.shape == "sphere":
            made = trimesh.creation.icosphere(subdivisions=3, radius=self.size[0])
        else:
            made = trimesh.creation.cylinder(radius=self.size[0], height=2.0 * self.size[1], sections=32)
            made.apply_transform(trimesh.geometry.align_vectors((0, 0, 1), axis_vector(self.axis)))
        made.apply_translation(self.centre)
        return made


@dataclass(frozen=True, slots=True)
class Asset:
    """A thing of a scene as the simulators and the film need it."""

    name: str
    pieces: tuple[Piece, ...]
    place: Point
    """Of its centre at the beginning."""
    size_m: Point
    mass_kg: float
    friction: float
    colour: tuple[float, float, float]
    """Red, green, blue in [0, 1]."""
    fixed: bool = False
    """Whether it hangs where it is, and nothing moves it."""
    velocity_mps: Point = (0.0, 0.0, 0.0)
    """At the beginning."""

    @property
    def masses(self) -> list[float]:
        """Of the pieces, kilograms."""
        volumes = np.array([piece.volume for piece in self.pieces])
        return (self.mass_kg * volumes / volumes.sum()).tolist()

    @property
    def rolls(self) -> bool:
        """Whether it is round at the bottom."""
        return self.pieces[0].shape == "sphere"

    @property
    def balance(self) -> tuple[Array, Array]:
        """Centre of mass [3] beside the centre, and moments of inertia [3] about the axes through it, kg m^2."""
        centres = np.array([piece.mesh.center_mass for piece in self.pieces])
        middle = np.array(self.masses) @ centres / self.mass_kg
        inertia = np.zeros((3, 3))
        for piece, mass, centre in zip(self.pieces, self.masses, centres, strict=True):
            mesh = piece.mesh
            offset = centre - middle
            own = np.asarray(mesh.moment_inertia) / mesh.mass * mass
            inertia += own + mass * (offset @ offset * np.eye(3) - np.outer(offset, offset))
        return middle, np.diag(inertia).copy()


def axis_vector(axis: str) -> Point:
    """The unit vector of x, y or z."""
    return (float(axis == "x"), float(axis == "y"), float(axis == "z"))


def build_assets(scene: Scene, layout: LayoutFile, actors: frozenset[str], meshes: Path | None = None) -> list[Asset]:
    """The things of a scene, all of its entities but the actors, in the scene's order.

    Args:
        meshes: folder with NAME.glb, .obj, .ply or .stl (z up) for things of a shape of their own; they are scaled to
            their boxes.

    Raises:
        UserError: the layout is of another scene, or a mesh cannot be read or is not watertight.
    """
    if missing := [one.name for one in scene.entities if one.name not in layout.places]:
        raise UserError(f"the layout has no place for {missing[0]!r}: plan the scene as it is now")
    holders = {one.object for one in scene.at_start() if one.relation == "inside"}
    carried = {one.subject for one in layout.relations if one.relation in ("on", "inside")}
    found = []
    for entity in scene.entities:
        if entity.name in actors:
            continue
        place = layout.places[entity.name]
        own = None if meshes is None else mesh_file(meshes, entity.name)
        pieces = (
            pieces_of("container" if entity.name in holders else place.category, place.size_m)
            if own is None
            else (mesh_piece(own, place.size_m),)
        )
        bottom = place.center_m[2] - place.size_m[2] / 2
        found.append(
            Asset(
                entity.name,
                pieces,
                place.center_m,
                place.size_m,
                place.mass_kg,
                FRICTION.get(place.material, OTHER_FRICTION),
                colour_of(entity.colour, place),
                fixed=bottom > _HANGS_M and entity.name not in carried,
            )
        )
    return found


def colour_of(name: str | None, place: Place) -> tuple[float, float, float]:
    """The colour of that name, else that of the material."""
    for text in (name, _COLOURS.get(place.material), _OTHER_COLOUR):
        try:
            red, green, blue = ImageColor.getrgb((text or "").replace(" ", ""))[:3]
        except ValueError:
            continue
        return red / 255, green / 255, blue / 255
    raise AssertionError("the last colour is one")


def mesh_file(folder: Path, name: str) -> Path | None:
    """The mesh of a thing of that name, if the folder has one."""
    return next((path for suffix in MESH_SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def mesh_piece(path: Path, size_m: Point) -> Piece:
    """The mesh of a file, scaled to fill a box.

    Raises:
        UserError: it cannot be read, is flat, or is not watertight, so that it has no inside.
    """
    try:
        mesh = trimesh.load(path, force="mesh")
    except _UNREADABLE as error:
        raise UserError(f"{path} is no mesh that can be read: {error}") from error
    if not len(mesh.faces):
        raise UserError(f"{path} has no faces")
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    if not mesh.is_watertight:
        raise UserError(f"{path} is not watertight: its surface has holes, so it has no volume; close them")
    low, high = mesh.bounds
    if not ((high - low) > 0).all():
        raise UserError(f"{path} is flat")
    points = (np.asarray(mesh.vertices, dtype=np.float64) - (low + high) / 2) * (np.array(size_m) / (high - low))
    return Piece("mesh", (), points=np.asarray(trimesh.convex.convex_hull(points).vertices, dtype=np.float64))


def asset_glb(asset: Asset) -> bytes:
    """The thing as a GLB file: y up, as glTF's files are."""
    mesh = trimesh.util.concatenate([piece.mesh for piece in asset.pieces])
    mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0)))
    mesh.visual.face_colors = [*(round(255 * value) for value in asset.colour), 255]
    return mesh.export(file_type="glb")


def pieces_of(category: str, size: Point) -> tuple[Piece, ...]:
    """The pieces of a thing of a category, which fill a box of that size."""
    return _SHAPES.get(category, _box)(*size)


def _between(low: Point, high: Point) -> Piece:
    """The box between two corners."""
    centre = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
    half = tuple((b - a) / 2 for a, b in zip(low, high, strict=True))
    return Piece("box", half, centre)  # type: ignore[arg-type]


def _box(w: float, d: float, h: float) -> tuple[Piece, ...]:
    return (Piece("box", (w / 2, d / 2, h / 2)),)


def _legs(w: float, d: float, low: float, high: float) -> list[Piece]:
    """Four legs at the corners."""
    thick = min(0.06, 0.2 * min(w, d))
    return [
        _between(
            (min(x * w / 2, x * (w / 2 - thick)), min(y * d / 2, y * (d / 2 - thick)), low),
            (max(x * w / 2, x * (w / 2 - thick)), max(y * d / 2, y * (d / 2 - thick)), high),
        )
        for x in (-1, 1)
        for y in (-1, 1)
    ]


def _table(w: float, d: float, h: float) -> tuple[Piece, ...]:
    under = h / 2 - min(0.05, 0.2 * h)
    return (_between((-w / 2, -d / 2, under), (w / 2, d / 2, h / 2)), *_legs(w, d, -h / 2, under))


def _chair(w: float, d: float, h: float) -> tuple[Piece, ...]:
    seat, thick = -h / 2 + 0.5 * h, min(0.05, 0.1 * d)
    return (
        _between((-w / 2, -d / 2, seat - 0.05 * h), (w / 2, d / 2, seat)),
        _between((-w / 2, d / 2 - thick, seat), (w / 2, d / 2, h / 2)),
        *_legs(w, d, -h / 2, seat - 0.05 * h),
    )


def _sofa(w: float, d: float, h: float) -> tuple[Piece, ...]:
    seat, thick = -h / 2 + 0.5 * h, 0.2 * min(w, d)
    return (
        _between((-w / 2, -d / 2, -h / 2), (w / 2, d / 2, seat)),
        _between((-w / 2, d / 2 - thick, seat), (w / 2, d / 2, h / 2)),
        *(
            _between((min(x * w / 2, x * (w / 2 - thick)), -d / 2, seat),
                     (max(x * w / 2, x * (w / 2 - thick)), d / 2 - thick, seat + 0.2 * h))
            for x in (-1, 1)
        ),
    )  # fmt: skip


def _bed(w: float, d: float, h: float) -> tuple[Piece, ...]:
    lying, thick = -h / 2 + 0.6 * h, min(0.08, 0.1 * d)
    return (
        _between((-w / 2, -d / 2, -h / 2), (w / 2, d / 2, lying)),
        _between((-w / 2, d / 2 - thick, lying), (w / 2, d / 2, h / 2)),
    )


def _shelf(w: float, d: float, h: float) -> tuple[Piece, ...]:
    thick = min(0.03, 0.1 * w)
    boards = np.linspace(-h / 2, h / 2 - thick, 4)
    return (
        _between((-w / 2, -d / 2, -h / 2), (-w / 2 + thick, d / 2, h / 2)),
        _between((w / 2 - thick, -d / 2, -h / 2), (w / 2, d / 2, h / 2)),
        *(_between((-w / 2 + thick, -d / 2, z), (w / 2 - thick, d / 2, z + thick)) for z in boards.tolist()),
    )


def _lamp(w: float, d: float, h: float) -> tuple[Piece, ...]:
    """A foot, a post and a crown: also trees and plants."""
    radius, crown = min(w, d) / 2, 0.35 * h
    foot = 0.05 * h
    return (
        Piece("cylinder", (0.7 * radius, foot / 2), (0.0, 0.0, -h / 2 + foot / 2)),
        Piece("cylinder", (0.15 * radius, (h - foot - crown) / 2), (0.0, 0.0, (foot - crown) / 2)),
        Piece("cylinder", (radius, crown / 2), (0.0, 0.0, h / 2 - crown / 2)),
    )


def _cylinder(w: float, d: float, h: float) -> tuple[Piece, ...]:
    return (Piece("cylinder", (min(w, d) / 2, h / 2)),)


def _sphere(w: float, d: float, h: float) -> tuple[Piece, ...]:
    return (Piece("sphere", (min(w, d, h) / 2,)),)


def _container(w: float, d: float, h: float) -> tuple[Piece, ...]:
    """Floor and four walls, open above."""
    thick = min(0.03, 0.08 * min(w, d, h))
    low = -h / 2 + thick
    return (
        _between((-w / 2, -d / 2, -h / 2), (w / 2, d / 2, low)),
        _between((-w / 2, -d / 2, low), (-w / 2 + thick, d / 2, h / 2)),
        _between((w / 2 - thick, -d / 2, low), (w / 2, d / 2, h / 2)),
        _between((-w / 2 + thick, -d / 2, low), (w / 2 - thick, -d / 2 + thick, h / 2)),
        _between((-w / 2 + thick, d / 2 - thick, low), (w / 2 - thick, d / 2, h / 2)),
    )


def _animal(w: float, d: float, h: float) -> tuple[Piece, ...]:
    """Trunk, legs and a head that looks at the camera."""
    belly, back, head = -h / 2 + 0.45 * h, -h / 2 + 0.8 * h, 0.25 * d
    return (
        _between((-w / 2, -d / 2 + head, belly), (w / 2, d / 2, back)),
        _between((-0.35 * w, -d / 2, belly + 0.15 * h), (0.35 * w, -d / 2 + head, h / 2)),
        *(
            Piece(piece.shape, piece.size, (piece.centre[0], piece.centre[1] + head / 2, piece.centre[2]))
            for piece in _legs(w, d - head, -h / 2, belly)
        ),
    )


def _vehicle(w: float, d: float, h: float) -> tuple[Piece, ...]:
    """A body on four wheels, along the longer side, with a cabin."""
    along_x = w > d
    length, width = (w, d) if along_x else (d, w)
    wheel = min(0.2 * h, 0.15 * length)
    sill, roof = -h / 2 + wheel, -h / 2 + 0.6 * h

    def turned(x: float, y: float, z: float) -> Point:
        return (y, x, z) if along_x else (x, y, z)

    def block(low: Point, high: Point) -> Piece:
        return _between(turned(*low), turned(*high))

    thick = min(0.12 * width, 0.1)
    wheels = [
        Piece(
            "cylinder",
            (wheel, thick),
            turned(x * (width / 2 - thick), y * (length / 2 - 1.5 * wheel), -h / 2 + wheel),
            "y" if along_x else "x",
        )
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return (
        block((-width / 2, -length / 2, sill), (width / 2, length / 2, roof)),
        block((-0.45 * width, -0.25 * length, roof), (0.45 * width, 0.3 * length, h / 2)),
        *wheels,
    )


def _person(w: float, d: float, h: float) -> tuple[Piece, ...]:
    """Somebody without a motion: a figure that stands."""
    hip, neck = -h / 2 + 0.48 * h, h / 2 - 0.14 * h
    head = min(0.07 * h, d / 2)
    return (
        _between((-0.3 * w, -d / 2, -h / 2), (-0.05 * w, d / 2, hip)),
        _between((0.05 * w, -d / 2, -h / 2), (0.3 * w, d / 2, hip)),
        _between((-0.4 * w, -0.35 * d, hip), (0.4 * w, 0.35 * d, neck)),
        Piece("sphere", (head,), (0.0, 0.0, h / 2 - head)),
    )


_SHAPES: Mapping[str, Callable[[float, float, float], tuple[Piece, ...]]] = {
    "table": _table, "chair": _chair, "stool": _table, "sofa": _sofa, "bed": _bed, "shelf": _shelf, "lamp": _lamp,
    "cylinder": _cylinder, "sphere": _sphere, "container": _container, "animal": _animal, "vehicle": _vehicle,
    "person": _person,
}  # fmt: skip
"""Shapes by the category of the known object; any other category is a box."""
