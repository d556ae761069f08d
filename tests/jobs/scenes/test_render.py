"""`jobs.render`: films of a simulation, by either renderer, and cameras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from jobs import render, simulate
from jobs.command_line import main as cli
from jobs.scenes import filming
from jobs.scenes.cameras import make_view
from jobs.scenes.settings import RenderConfig, SimulateConfig
from motions.base.errors import UserError
from motions.files import mp4
from motions.scenes.layout import plan_layout
from motions.scenes.layout_file import layout_file, write_layout
from motions.scenes.objects import ObjectIndex, load_objects
from motions.scenes.rules import parse_text
from motions.scenes.scene import write_scene

pytestmark = pytest.mark.slow

SMALL = ("--width", 96, "--height", 64, "--fps", 5, "--sub_frames", 1)


def filmed(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(RenderConfig, render.run, None, "jobs.render", render.plan, argv=argv)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red ball beside a table, for a second."""
    folder = tmp_path_factory.mktemp("simulated")
    scene = parse_text("A red ball is next to a table. A car is behind the table.")
    write_scene(folder / "scene.json", scene)
    write_layout(folder / "layout.json", layout_file(plan_layout(scene, ObjectIndex(load_objects()).bodies(scene)), 0))
    argv = ["--scene", str(folder / "scene.json"), "--seconds", "0.6"]
    assert cli.main(SimulateConfig, simulate.run, None, "jobs.simulate", simulate.plan, argv=argv) == 0
    return folder


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def is_red(picture: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (red > 100) & (red > 2 * green) & (red > 2 * blue)


def test_the_software_renderer_films_what_is_there(simulated: Path, tmp_path: Path) -> None:
    base = ("--simulation", simulated, *SMALL, "--renderer", "tiny")
    assert filmed(*base, "--save_dir", tmp_path / "dry", "--dry_run") == 0 and not (tmp_path / "dry").exists()
    for name in ("first", "again"):
        assert filmed(*base, "--save_dir", tmp_path / name) == 0
    pictures = frames(tmp_path / "first" / "film.mp4")
    assert len(pictures) == 4 and pictures[0].shape == (64, 96, 3)
    assert is_red(pictures[0]).sum() > 3, "the ball"
    assert (tmp_path / "first" / "film.mp4").read_bytes() == (tmp_path / "again" / "film.mp4").read_bytes()
    assert Image.open(tmp_path / "first" / "film.png").size == (288, 128)
    assert filmed(*base, "--save_dir", tmp_path / "first") == 2, "nothing is overwritten"


def test_mujoco_films_the_same_scene(simulated: Path, tmp_path: Path) -> None:
    code = filmed("--simulation", simulated, *SMALL, "--renderer", "mujoco", "--save_dir", tmp_path)
    if code == 2:
        pytest.skip("no GL library works here")
    assert is_red(frames(tmp_path / "film.mp4")[0]).sum() > 3


@pytest.mark.parametrize(
    "option",
    [
        *(("--camera", "orbit"), ("--camera", "follow"), ("--sub_frames", 2), ("--saturation", 0), ("--contrast", 2)),
        *(("--gamma", 2), ("--warmth", 0), ("--vignette", 0), ("--grain", 0.2), ("--focus_blur_px", 0)),
    ],
)
def test_options_change_the_pictures(simulated: Path, option: tuple[str, Any]) -> None:
    film: dict[str, Any] = {"width": 96, "height": 64, "fps": 3.0, "sub_frames": 1, "renderer": "tiny"}
    name, value = option[0].removeprefix("--"), option[1]
    config = RenderConfig.model_validate({"files": {"simulation": simulated}, "film": film})
    look = name in type(config.film.look).model_fields
    changed = {"look": {name: value}} if look else {name: value}
    other = RenderConfig.model_validate({"files": {"simulation": simulated}, "film": film | changed})
    take = filming.prepare(config.files)
    if name == "sub_frames":
        take.objects[..., 0] += 3.0 * np.arange(len(take.objects))[:, None]  # Nothing else moves here.
    pictures = [np.array(filming.film_frames(take, one.film)[0]) for one in (config, other)]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()


def test_what_is_refused_is_named(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ("--save_dir", tmp_path / "out")
    assert filmed("--simulation", tmp_path, *base) == 2 and "has no simulation.npz" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    write_scene(other / "scene.json", parse_text("There is a chair."))
    layout = json.loads((simulated / "layout.json").read_text())
    layout["places"] = {"chair": layout["places"]["table"]}
    (other / "layout.json").write_text(json.dumps(layout))
    assert filmed("--simulation", simulated, "--scene", other / "scene.json", *base) == 2
    assert "is of another scene: it has ball, table, car" in capsys.readouterr().err
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert filmed("--simulation", simulated, *SMALL, "--renderer", "mujoco", *base) == 2
    assert "no GL library works here (tried nonsense)" in capsys.readouterr().err

    def missing() -> None:
        raise UserError("the installed PyAV has no encoder libx264")

    mp4.check_h264()
    monkeypatch.setattr(filming, "check_h264", missing)
    assert filmed("--simulation", simulated, *base) == 2 and "no encoder libx264" in capsys.readouterr().err


def test_cameras_see_all_and_follow() -> None:
    way = np.stack([np.linspace(-2, 2, 50), np.zeros(50), np.full(50, 0.9)], axis=1)
    points = way[:, None] + np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.5]])
    front = make_view("front", points, way, 24.0, 16 / 9)
    assert (front.eyes == front.eyes[0]).all() and front.eyes[0, 1] < points[..., 1].min() - 1
    assert front.targets[0, 1] > front.eyes[0, 1], "it looks along +y"
    follow = make_view("follow", points, way, 24.0, 16 / 9)
    assert follow.eyes[-1, 0] - follow.eyes[0, 0] > 2 and np.ptp(follow.distances) < 1e-9
    orbit = make_view("orbit", points, way, 24.0, 16 / 9)
    assert orbit.eyes[0, 0] * orbit.eyes[-1, 0] < 0 and np.ptp(orbit.distances) < 1e-9
