"""Simulates a planned scene: what `jobs.simulate` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.scenes.assets import Asset, asset_glb, build_assets
from envs.scenes.contacts import Contact
from envs.scenes.world import World, make_world
from envs.settings import BODY_NAMES
from jobs.scenes.parsing import PROMPTS, check_free
from jobs.scenes.planning import LAYOUT, tracks_of
from jobs.scenes.settings import SimulateConfig, SimulationFilesSettings, WorldSettings
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.humanoid.retarget import leg_scale
from motions.scenes.layout_file import LayoutFile, read_layout
from motions.scenes.scene import Scene, read_scene
from motions.scenes.staging import Track, placed, read_fps
from rewards.physics.tracking import tracking_terms
from rewards.physics.tracking_bodies import Bodies
from rewards.physics.tracking_reference import CONTROL_HZ, TrackingReference, tracking_reference
from rewards.physics.tracking_simulation import Track as Followed
from rewards.physics.tracking_simulation import TrackingSimulator

STATES, CONTACTS, NUMBERS, ASSETS = "simulation.npz", "contacts.json", "simulation.json", "assets"
VERSION = 1
_AFTERWARDS_S = 1.0
"""Things may still roll when the last motion has ended."""
_ALONE_S = 2.0
_MAX_FLOOR_SHIFT_M = 0.1


@dataclass(frozen=True)
class Stage:
    """A planned scene, ready to be simulated."""

    scene: Scene
    layout: LayoutFile
    tracks: list[Track]
    """Of the actors, where the layout has them."""
    assets: list[Asset]
    references: list[TrackingReference]
    """Of the actors, all of the scene's length."""
    simulator: TrackingSimulator
    num_steps: int


@dataclass
class Recording:
    """What happened; T control steps, n actors, m things."""

    bodies: list[np.ndarray]
    """[n, 15, 7] at each of T + 1 times."""
    objects: list[np.ndarray]
    """[m, 7] at each of T + 1 times."""
    wrenches: list[np.ndarray]
    """[n, 6] in each step: force in N and torque in N m at the root."""
    contacts: list[Contact]
    num_bad_steps: int
    followed: list[Followed]


def run(config: SimulateConfig) -> None:
    """Simulates, writes the results, and prints the numbers."""
    folder = folder_of(config.files)
    _check_free(config, folder)
    stage = prepare(config.files, config.world)
    recording = simulate(stage, config.world)
    write_simulation(folder, stage, recording, config.world)
    print("\n".join([*summary(numbers_of(stage, recording, config.world)), *(str(folder / name) for name in _FILES)]))


def plan(config: SimulateConfig) -> None:
    """Checks the files, and prints what would be simulated."""
    folder = folder_of(config.files)
    _check_free(config, folder)
    stage = prepare(config.files, config.world)
    for asset in stage.assets:
        print(f"{asset.name}: {len(asset.pieces)} pieces, {asset.mass_kg:.3g} kg{', fixed' if asset.fixed else ''}")
    print(f"{len(stage.references)} humanoids, {stage.num_steps} steps of 1/{CONTROL_HZ} s in {config.world.engine}")
    print(f"would write {', '.join(str(folder / name) for name in _FILES)}")


_FILES = (STATES, CONTACTS, NUMBERS)


def folder_of(files: SimulationFilesSettings) -> Path:
    """Where the results go."""
    return files.save_dir or files.scene.parent


def _check_free(config: SimulateConfig, folder: Path) -> None:
    check_free(folder, _FILES, None, overwrite=config.files.overwrite)


def prepare(files: SimulationFilesSettings, world: WorldSettings) -> Stage:
    """Reads and checks everything.

    Raises:
        UserError: a file is wrong, the layout or the motions are of another scene, a motion cannot be put on the
            humanoid, a mesh is not watertight, or the controller does not fit.
    """
    scene = read_scene(files.scene)
    layout = read_layout(files.layout or files.scene.parent / LAYOUT)
    tracks = tracks_of(files.scene, files.motion, files.sample)
    for track in tracks:
        if not scene.has(track.actor) or track.actor not in layout.places:
            raise UserError(f"there is a motion of {track.actor!r}, who is not in scene and layout")
        if not np.isfinite(track.joints).all():
            raise UserError(f"the motion of {track.actor!r} is not finite")
    check_meshes(world.meshes)
    assets = build_assets(scene, layout, frozenset(track.actor for track in tracks), world.meshes)
    tracks = [placed(track, layout.places[track.actor].center_m) for track in tracks]
    fps = read_fps(files.scene.parent / PROMPTS) if tracks else float(CONTROL_HZ)
    moving_s = max((track.start_frame + len(track.joints) - 1 for track in tracks), default=0) / fps
    seconds = files.seconds or (moving_s + _AFTERWARDS_S if tracks else _ALONE_S)
    frames = int(np.ceil(seconds * fps)) + 1
    references = [_reference(track, fps, frames) for track in tracks]
    simulator = TrackingSimulator(world.tracking, help_stiffness=world.root_stiffness)
    num_steps = references[0].num_steps if references else max(1, round(seconds * CONTROL_HZ))
    return Stage(scene, layout, tracks, assets, references, simulator, num_steps)


def check_meshes(folder: Path | None) -> None:
    """Raises UserError where `meshes` is given and is no folder."""
    if folder is not None and not folder.is_dir():
        raise UserError(f"meshes {folder} is no folder")


def _reference(track: Track, fps: float, frames: int) -> TrackingReference:
    """The motion on the humanoid for the whole scene: who has not begun, or has ended, stands as then."""
    joints = np.concatenate([np.repeat(track.joints[:1], track.start_frame, axis=0), track.joints])[:frames]
    joints = np.concatenate([joints, np.repeat(joints[-1:], frames - len(joints), axis=0)])
    # In the frame of HumanML3D's joints, which the humanoid's conversion turns to the scene's: z to x, x to y, y to z.
    turned = joints[..., [1, 2, 0]] * leg_scale()
    return tracking_reference(
        turned, fps, f"the motion of {track.actor!r}", max_seconds=frames / fps, max_floor_shift=_MAX_FLOOR_SHIFT_M
    )


def simulate(stage: Stage, world: WorldSettings) -> Recording:
    """What happens in the scene."""
    recording = Recording([], [], [], [], 0, [])
    names = [track.actor for track in stage.tracks]

    def observe(simulated: World) -> None:
        recording.bodies.append(simulated.body_poses())
        recording.objects.append(simulated.object_poses())

    def end(simulated: World) -> None:
        recording.contacts, recording.num_bad_steps = simulated.contacts.events, simulated.num_bad_steps

    settings = stage.simulator.task_settings
    if not stage.references:
        simulated = make_world(world.engine, stage.assets, settings)
        observe(simulated)
        for _ in range(stage.num_steps):
            simulated.step()
            recording.wrenches.append(np.zeros((0, 6)))
            observe(simulated)
        end(simulated)
        simulated.close()
        return recording
    made: list[World] = []

    def make_bodies(task: Any) -> Bodies:
        made.append(make_world(world.engine, stage.assets, settings, task, names))
        observe(made[0])
        return made[0]

    def watch(_: Bodies, wrench: np.ndarray | None) -> None:
        recording.wrenches.append(np.zeros((len(names), 6)) if wrench is None else wrench)
        observe(made[0])

    recording.followed = stage.simulator.follow(stage.references, make_bodies, watch=watch)
    end(made[0])
    return recording


def write_simulation(folder: Path, stage: Stage, recording: Recording, world: WorldSettings) -> None:
    """Writes the three files, and the things' shapes as GLB."""
    try:
        (folder / ASSETS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    with atomic_write(folder / STATES) as file:
        np.savez(
            file,
            allow_pickle=False,
            version=np.array(VERSION),
            fps=np.array(float(CONTROL_HZ)),
            actors=np.array([track.actor for track in stage.tracks], dtype=str),
            body_names=np.array(BODY_NAMES),
            bodies=np.array(recording.bodies, dtype=np.float32),
            objects=np.array([asset.name for asset in stage.assets], dtype=str),
            object_poses=np.array(recording.objects, dtype=np.float32),
            wrench=np.array(recording.wrenches, dtype=np.float32),
        )
    contacts = {"version": VERSION, "contacts": [_rounded(asdict(one)) for one in recording.contacts]}
    for name, content in ((CONTACTS, contacts), (NUMBERS, numbers_of(stage, recording, world))):
        with atomic_write(folder / name) as file:
            file.write(f"{json.dumps(content, indent=1)}\n".encode())
    for asset in stage.assets:
        with atomic_write(folder / ASSETS / f"{asset.name}.glb") as file:
            file.write(asset_glb(asset))


def read_numbers(path: Path) -> dict[str, Any]:
    """The content of a `simulation.json`.

    Raises:
        UserError: it cannot be read, or is of another version.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; jobs.simulate writes one") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path} was not written by this version of jobs.simulate")
    return content


def numbers_of(stage: Stage, recording: Recording, world: WorldSettings) -> dict[str, Any]:
    """The content of `simulation.json`."""
    settings = world.tracking
    help_limits = (settings.tracking_root_force, settings.tracking_root_torque)
    actors = {}
    wrenches = np.array(recording.wrenches).reshape(stage.num_steps, len(stage.tracks), 6)
    for place, track in enumerate(stage.tracks):
        terms = tracking_terms(stage.references[place], recording.followed[place], 1.0, settings)
        terms.pop("tracking_speed_gate")
        if recording.num_bad_steps:
            terms["tracking"] = 0.0
        force, torque = (np.linalg.norm(part, axis=1) for part in np.split(wrenches[:, place], 2, axis=1))
        lost = recording.followed[place].lost
        actors[track.actor] = _rounded(terms) | {
            "lost_at_s": round(len(recording.followed[place].errors) / CONTROL_HZ, 3) if lost else None,
            "help_force_n": _rounded({"mean": float(force.mean()), "largest": float(force.max())}),
            "help_torque_nm": _rounded({"mean": float(torque.mean()), "largest": float(torque.max())}),
        }
    objects = {}
    for place, asset in enumerate(stage.assets):
        way = np.array([poses[place, :3] for poses in recording.objects])
        objects[asset.name] = _rounded(
            {"moved_m": float(np.linalg.norm(way[-1] - way[0])), "farthest_m": float(_distances(way).max())}
        ) | {"fixed": asset.fixed}
    return {
        "version": VERSION,
        "engine": world.engine,
        "num_steps": stage.num_steps,
        "num_bad_steps": recording.num_bad_steps,
        "help_limits": {"force_n": help_limits[0], "torque_nm": help_limits[1]},
        "actors": actors,
        "objects": objects,
        "actions": [_outcome(stage, recording, index) for index in range(len(stage.scene.actions))],
    }


def _outcome(stage: Stage, recording: Recording, index: int) -> dict[str, Any]:
    """Whether the actor of an action touched its target, and how far that moved."""
    action = stage.scene.actions[index]
    names = [asset.name for asset in stage.assets]
    found: dict[str, Any] = {"actor": action.actor, "verb": action.verb, "target": action.target}
    if action.target not in names:
        return found
    touches = [one for one in recording.contacts if one.object == action.target and _is_by(one, action.actor)]
    way = np.array([poses[names.index(action.target), :3] for poses in recording.objects])
    hardest = max(touches, key=lambda one: one.impulse_ns, default=None)
    return (
        found
        | {"moved_m": round(float(_distances(way).max()), 4)}
        | (
            {"touched_by": None}
            if hardest is None
            else _rounded({"at_s": hardest.start_s, "impulse_ns": hardest.impulse_ns})
            | {"touched_by": hardest.body.split("/")[1]}
        )
    )


def _is_by(contact: Contact, actor: str) -> bool:
    return contact.is_of_actor and contact.body.split("/")[0] == actor


def _distances(way: np.ndarray) -> np.ndarray:
    return np.linalg.norm(way - way[0], axis=1)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


def summary(numbers: dict[str, Any]) -> Sequence[str]:
    """The most important numbers in lines."""
    lines = []
    for name, one in numbers["actors"].items():
        lost = "to the end" if one["lost_at_s"] is None else f"until {one['lost_at_s']:g} s"
        force = one["help_force_n"]
        lines.append(
            f"{name}: follows its motion {lost} ({one['tracked_fraction']:.0%}), error "
            f"{one['tracking_error_m']:.3f} m, slip {one['tracking_slip_mps']:.2f} m/s, "
            f"help {force['mean']:.0f} N on average, {force['largest']:.0f} N at most"
        )
    for one in numbers["actions"]:
        if "moved_m" not in one:
            continue
        touched = "not touched"
        if (by := one["touched_by"]) is not None:
            touched = f"touched by {by} at {one['at_s']:.2f} s with {one['impulse_ns']:.2f} N s"
        touched += f", it moved {one['moved_m']:.2f} m"
        lines.append(f"{one['actor']} {one['verb']} {one['target']}: {touched}")
    if numbers["num_bad_steps"]:
        lines.append(f"BROKEN: {numbers['num_bad_steps']} steps were not finite; the reward is 0")
    return lines
