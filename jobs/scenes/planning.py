"""Plans where everything in a scene stands: what `jobs.plan_scene` does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jobs.scenes.known_objects import object_index
from jobs.scenes.parsing import PROMPTS, check_free
from jobs.scenes.settings import PlanSceneConfig
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.safe_files import read_npy
from motions.scenes.layout import Layout, plan_layout
from motions.scenes.layout_file import layout_file, write_layout
from motions.scenes.scene import Scene, read_scene
from motions.scenes.staging import Track, anchors_of, path_of, placed, read_tracks

LAYOUT, PICTURE = "layout.json", "layout.png"
_COLOURS = {"gold": "goldenrod", "golden": "goldenrod", "grey": "gray"}


def run(config: PlanSceneConfig) -> None:
    """Writes the layout and its picture, and prints what it meets."""
    folder = _folder(config)
    check_free(folder, (LAYOUT, PICTURE), None, overwrite=config.overwrite)
    print("\n".join([*summary(plan_scene(config)), str(folder / LAYOUT), str(folder / PICTURE)]))


def plan_scene(config: PlanSceneConfig) -> Layout:
    """Writes the layout and its picture; what is there is replaced.

    Raises:
        UserError: see `prepare`; or the folder cannot be made.
    """
    folder = _folder(config)
    scene, layout, tracks = prepare(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    write_layout(folder / LAYOUT, layout_file(layout, config.seed))
    with atomic_write(folder / PICTURE) as file:
        file.write(picture(scene, layout, tracks))
    return layout


def plan(config: PlanSceneConfig) -> None:
    """Prints what would be written, and the layout in words."""
    folder = _folder(config)
    check_free(folder, (LAYOUT, PICTURE), None, overwrite=config.overwrite)
    _, layout, _ = prepare(config)
    print("\n".join([*summary(layout), f"would write {folder / LAYOUT} and {folder / PICTURE}"]))


def prepare(config: PlanSceneConfig) -> tuple[Scene, Layout, list[Track]]:
    """Scene, layout and the actors' motions, if there are any.

    Raises:
        UserError: a file is wrong, an entity has no size, relations contradict each other, or motions do not belong to
            the scene.
    """
    scene = read_scene(config.scene)
    bodies = object_index(config.objects).bodies(scene)
    tracks = tracks_of(config.scene, config.motion, config.sample)
    options: dict[str, Any] = {"seed": config.seed, "starts": config.starts, "room_m": config.room_m}
    if len(tracks) > 1:
        # Each motion begins where its actor would stand without it, not all of them in one place.
        alone = plan_layout(scene, bodies, **options)
        tracks = [placed(track, alone.places[track.actor]) for track in tracks]
    layout = plan_layout(
        scene,
        bodies,
        **options,
        anchors=anchors_of(scene, tracks, bodies),
        path=path_of(tracks) if tracks else None,
    )
    return scene, layout, tracks


def _folder(config: PlanSceneConfig) -> Path:
    return config.save_dir or config.scene.parent


def tracks_of(scene: Path, motion: Path | None, sample: int) -> list[Track]:
    """The motions of a scene's prompts in a folder of `jobs.generate`; none without a folder.

    Raises:
        UserError: the folder has no motions of that number, or they do not belong to the scene's prompts.
    """
    if motion is None:
        return []
    files = sorted(motion.glob(f"sample*_rep{sample:02d}.npy"))
    if not files:
        raise UserError(f"motion {motion} has no sample*_rep{sample:02d}.npy, as jobs.generate writes them")
    return read_tracks(scene.parent / PROMPTS, [read_npy(file).astype(np.float64) for file in files])


def summary(layout: Layout) -> list[str]:
    """Places, and what is not as it should be, in lines."""
    lines = []
    for name, place in layout.places.items():
        body = layout.bodies[name]
        size = " x ".join(f"{value:.2f}" for value in body.size_m)
        where = ", ".join(f"{value:.2f}" for value in place)
        lines.append(f"{name}: {size} m, {body.mass_kg:.3g} kg ({body.source}) at {where}")
    for one in layout.unmet:
        relation = one.relation
        lines.append(f"NOT MET: {relation.subject} {relation.relation} {relation.object}, missed by {one.by_m:.2f} m")
    lines += [f"OVERLAP: {a} and {b}, {depth:.2f} m deep" for a, b, depth in layout.overlaps]
    if layout.is_met:
        lines.append(f"all {len(layout.relations)} relations are met, after {layout.starts} starts")
    return lines


def picture(scene: Scene, layout: Layout, tracks: list[Track]) -> bytes:
    """A PNG of the scene as the camera sees it, and from above with the camera below."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    front, above = figure.subplots(1, 2)
    _draw(front, scene, layout, vertical=2)
    _draw(above, scene, layout, vertical=1)
    front.set(title="from the camera", xlabel="x, m (right)", ylabel="z, m (up)")
    front.axhline(0.0, color="black", linewidth=0.8)
    above.set(title="from above; the camera is below", xlabel="x, m (right)", ylabel="y, m (away from the camera)")
    for track in tracks:
        above.plot(*track.joints[:, 0, :2].T, color="black", linewidth=1.0, linestyle=":")
    content = io.BytesIO()
    figure.savefig(content, dpi=90, format="png")
    return content.getvalue()


def _draw(axes: Axes, scene: Scene, layout: Layout, vertical: int) -> None:
    """Boxes, the farthest from the viewer first."""
    depth = 1 if vertical == 2 else 2
    far_first = sorted(layout.places, key=lambda name: layout.places[name][depth] * (-1 if depth == 1 else 1))
    for name in far_first:
        place, size = layout.places[name], layout.bodies[name].size_m
        colour = scene.entity(name).colour or ""
        colour = _COLOURS.get(colour, colour)
        corner = (place[0] - size[0] / 2, place[vertical] - size[vertical] / 2)
        axes.add_patch(
            Rectangle(
                corner,
                size[0],
                size[vertical],
                facecolor=colour if is_color_like(colour) else "lightgray",
                edgecolor="black",
                alpha=0.8,
            )
        )
        axes.annotate(name, (place[0], place[vertical]), ha="center", va="center", fontsize=8)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.margins(0.1)
