"""The page of an animation: the film, the generated motion beside the simulated one, and what each stage decided."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.body.rotations import rotation_matrices
from envs.settings import BODY_NAMES
from jobs.report.gallery import GalleryRow, render_gallery
from jobs.scenes.filming import FILM, POSTER
from jobs.scenes.parsing import PROMPTS, SCENE
from jobs.scenes.planning import tracks_of
from jobs.scenes.simulation import STATES
from motions.base.safe_files import read_array_file
from motions.files.motion import Motion
from motions.humanoid.points import EXTRA_POINTS, POINT_NAMES, humanoid_skeleton
from motions.scenes.scene import read_scene
from motions.scenes.staging import read_fps
from motions.skeleton.skeletons import HUMANML3D

_PAGE_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""From the scene's frame, z up, to the player's: y up, z towards the camera."""


def animation_page(folder: Path, decisions: Mapping[str, Sequence[str]]) -> str:
    """The page as HTML text, for a folder in which every stage has been done."""
    scene = read_scene(folder / SCENE)
    states = read_array_file(folder / STATES)
    fps, skeleton = float(states["fps"]), humanoid_skeleton(float(states["fps"]))
    points = humanoid_points(states["bodies"].astype(np.float64))
    generated_fps = read_fps(folder / PROMPTS)
    rows = []
    for place, track in enumerate(tracks_of(folder / SCENE, folder / "motion", 0)):
        spans = tuple((scene.actions[index].text, first, last) for index, first, last in track.spans)
        joints = (track.joints @ _PAGE_AXES.T).astype(np.float32)
        generated = Motion(f"{track.actor} as generated", joints, HUMANML3D, generated_fps, spans)
        simulated = Motion(f"{track.actor} as simulated", points[:, place].astype(np.float32), skeleton, fps, ())
        rows.append(GalleryRow(f"{track.actor}: as generated (1), as simulated (2)", [generated, simulated]))
    sections = "".join(
        f"<h3>{html.escape(stage)}</h3>\n<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>\n"
        for stage, lines in decisions.items()
    )
    film = (
        f'\n<h2>The film</h2>\n<video src="{FILM}" poster="{POSTER}" controls loop muted playsinline '
        f'style="width:100%;max-width:960px"></video>\n<h2>What each stage decided</h2>\n{sections}'
    )
    return render_gallery(scene.text or "A scene", "", rows, film)


def humanoid_points(bodies: np.ndarray) -> np.ndarray:
    """Points [T, n, 18, 3] of `POINT_NAMES`, y up, for recorded bodies [T, n, 15, 7] of the scene."""
    places, turns = bodies[..., :3], rotation_matrices(bodies[..., 3:])
    found = []
    for name in POINT_NAMES:
        body, (x, y, z) = EXTRA_POINTS.get(name, (name, (0.0, 0.0, 0.0)))
        index = BODY_NAMES.index(body)
        # Offsets are in the clip files' frame: x forward, y up, z to the right.
        found.append(places[..., index, :] + turns[..., index, :, :] @ np.array((x, -z, y)))
    return np.stack(found, axis=-2) @ _PAGE_AXES.T
