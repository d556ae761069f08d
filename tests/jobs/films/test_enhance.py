"""`jobs.enhance`: pictures of poses, windows, and diffusion models with random weights through the real loading."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.settings import BODY_NAMES
from jobs import enhance
from jobs.command_line import main as cli
from jobs.films.enhancer import fade, key_points, load_pipeline, painted, projected, windows
from jobs.films.settings import EnhanceConfig, PaintingSettings
from jobs.scenes.cameras import View
from motions.pose_maps import pose_map
from motions.scenes.layout import plan_layout
from motions.scenes.layout_file import layout_file, write_layout
from motions.scenes.objects import ObjectIndex, load_objects
from motions.scenes.rules import parse_text
from motions.scenes.scene import write_scene
from tests.jobs.films.tiny_diffusion import save_models

pytestmark = pytest.mark.slow

SIDES = {"hip": (0.09, 0.86), "knee": (0.09, 0.45), "ankle": (0.09, 0.05)}
SIDES |= {"shoulder": (0.18, 1.35), "elbow": (0.2, 1.08), "wrist": (0.2, 0.83)}
ASKED = ("--steps", 2, "--width", 64, "--height", 64, "--fps", 5, "--device", "cpu")


def standing() -> np.ndarray:
    """Bodies [15, 7] of somebody who stands at the origin, looks along x and has the right hand in front."""
    poses = np.tile((0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0), (len(BODY_NAMES), 1))
    for pose, name in zip(poses, BODY_NAMES, strict=True):
        side, _, part = name.partition("_")
        if part:
            away, height = SIDES[part]
            pose[:3] = (0.0, away if side == "left" else -away, height)
        else:
            pose[2] = {"root": 0.9, "chest": 1.1, "neck": 1.42}[name]
    poses[BODY_NAMES.index("right_wrist"), 0] = 0.3
    return poses


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who is moved to the right for two seconds, beside a table."""
    folder = tmp_path_factory.mktemp("recorded")
    scene = parse_text("A man walks. A ball is next to a table.")
    write_scene(folder / "scene.json", scene)
    layout = plan_layout(scene, ObjectIndex(load_objects()).bodies(scene))
    write_layout(folder / "layout.json", layout_file(layout, 0))
    bodies = np.tile(standing(), (61, 1, 1, 1))
    bodies[..., 0] += np.linspace(0.0, 1.0, 61)[:, None, None]
    things = ["ball", "table"]
    still = np.array([[*layout.places[name], 1.0, 0.0, 0.0, 0.0] for name in things])
    np.savez(
        folder / "simulation.npz",
        allow_pickle=False,
        version=np.array(1),
        fps=np.array(30.0),
        actors=np.array(["man"]),
        bodies=bodies.astype(np.float32),
        objects=np.array(things),
        object_poses=np.tile(still, (61, 1, 1)).astype(np.float32),
        wrench=np.zeros((60, 1, 6), np.float32),
    )
    numbers = {"version": 1, "help_limits": {"force_n": 0.0, "torque_nm": 0.0}, "actors": {"man": {}}}
    (folder / "simulation.json").write_text(json.dumps(numbers))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


def enhanced(simulation: Path, folder: Path, *words: object) -> int:
    argv = [str(word) for word in ("--simulation", simulation, "--save_dir", folder, *ASKED, *words)]
    return cli.main(EnhanceConfig, enhance.run, None, "jobs.enhance", enhance.plan, argv=argv)


def test_key_points_are_where_the_camera_sees_them() -> None:
    points = key_points(standing()[None])[0]
    nose, neck, right_wrist, left_ear = points[0], points[1], points[4], points[17]
    assert neck == pytest.approx((0.0, 0.0, 1.35)), "between the shoulders"
    assert nose[0] > 0.05 and nose[2] > 1.42 and left_ear[1] > 0.05, "the face is ahead, and its left is +y"
    turned = standing()
    turned[BODY_NAMES.index("neck"), 3:] = (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))
    assert key_points(turned[None])[0, 0, 1] == pytest.approx(nose[0]), "a head that is turned to the left"
    # A camera in front of the face, five metres away and one metre high.
    view = View(np.array([[5.0, 0.0, 1.0]]), np.array([[0.0, 0.0, 1.0]]))
    seen = projected(points, view, 0, 200, 100)
    assert seen[11, 0] > 100 > seen[8, 0], "the left hip is to the right in the picture"
    assert seen[0, 1] < 50 < seen[13, 1] and abs(seen[0, 0] - 100) < 1e-9, "nose above, ankles below the middle"
    nearer = np.linalg.norm(seen[4] - (100, 50)) / np.linalg.norm(right_wrist[1:] - (0, 1.0))
    assert nearer == pytest.approx(100 / 2 / np.tan(np.radians(20)) / 4.7)
    assert np.isnan(projected(np.array([6.0, 0.0, 1.0]), view, 0, 200, 100)).all(), "behind the camera"


def test_a_pose_is_drawn_as_openpose_draws_it() -> None:
    points = np.full((2, 18, 2), np.nan)
    points[0, 2], points[0, 3] = (20.0, 20.0), (80.0, 20.0)
    picture = pose_map(points, 100, 50)
    assert picture.shape == (50, 100, 3) and picture[40].max() == 0
    assert picture[20, 50].tolist() == [153, 102, 0], "the third bone is orange, at six tenths"
    assert picture[20, 20, 1] > picture[20, 50, 1], "points are bright"
    assert pose_map(points[:0], 100, 50).max() == 0
    alone = np.full((1, 18, 2), 30.0)
    assert pose_map(alone, 100, 50).max() == 255, "bones without length are points"


def test_windows_cover_all_frames_and_fade_into_each_other() -> None:
    assert windows(20, 8, 4) == [(0, 8), (4, 12), (8, 16), (12, 20)]
    assert windows(9, 8, 2) == [(0, 8), (1, 9)] and windows(5, 8, 4) == [(0, 5)] and windows(8, 8, 0) == [(0, 8)]
    assert fade(8, 3, first=True, last=False).tolist() == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    both = fade(8, 4, first=False, last=True)[:4] + fade(8, 4, first=True, last=False)[4:]
    np.testing.assert_allclose(both, 1.0)
    assert fade(2, 4, first=False, last=False).shape == (2,)


def test_models_are_loaded_and_paint_poses(recorded: Path, models: Path, tmp_path: Path) -> None:
    given = ("--base_model", models / "sd", "--controlnet", models / "control")
    assert enhanced(recorded, tmp_path / "one", *given) == 0
    for name in ("enhanced.mp4", "poses.mp4", "enhanced.png"):
        assert (tmp_path / "one" / name).stat().st_size > 0, name
    assert enhanced(recorded, tmp_path / "two", *given) == 0
    sheets = [(tmp_path / folder / "enhanced.png").read_bytes() for folder in ("one", "two")]
    assert sheets[0] == sheets[1], "loaded again, the same pixels"


@pytest.mark.parametrize("adapter", [False, True])
def test_options_change_the_pictures(models: Path, adapter: bool) -> None:
    kept: dict[str, Any] = {"motion_adapter": str(models / "adapter")} if adapter else {}
    kept |= {"base_model": str(models / "sd"), "controlnet": str(models / "control"), "steps": 2, "device": "cpu"}
    if adapter:
        kept |= {"window": 3, "overlap": 1}
    points = np.random.default_rng(0).uniform(0, 32, (5, 1, 18, 2))
    maps = [pose_map(own, 32, 32) for own in points]

    def frames(pictures: list[np.ndarray] = maps, prompt: str = "a man", **changes: Any) -> np.ndarray:
        settings = PaintingSettings(**(kept | changes))
        return np.stack(painted(load_pipeline(settings), pictures, prompt, settings))

    usual = frames()
    assert usual.shape == (5, 32, 32, 3) and usual.dtype == np.uint8
    np.testing.assert_array_equal(frames(), usual)
    changes = [{"seed": 1}, {"guidance_scale": 1.0}, {"conditioning_scale": 0.0}, {"steps": 3}]
    changes += [{"negative_prompt": "a dog"}, *([{"window": 4}, {"overlap": 2}] if adapter else [])]
    for change in changes:
        assert (frames(**change) != usual).any(), change
    assert (frames(prompt="a car") != usual).any()
    others = frames([maps[0], *maps[:1], *maps[2:]])
    if not adapter:
        np.testing.assert_array_equal(others[0], usual[0])
    assert (others[1] != usual[1]).any(), "another pose"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--width", 100), "width is 100; expected a multiple of 8"),
        (("--window", 6), "window is given without motion_adapter"),
        (("--motion_adapter", "x", "--overlap", 8), "overlap is 8 and window 8"),
        (("--simulation", "nowhere"), "nowhere has no simulation.npz"),
        (("--base_model", "nowhere"), "is no ControlNetModel that can be loaded"),
    ],
)
def test_what_is_refused(
    words: tuple[Any, ...], message: str, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = {"--simulation": recorded, "--save_dir": tmp_path / "out", "--controlnet": tmp_path / "none"}
    argv |= dict(zip(words[::2], words[1::2], strict=True))
    flat = [str(word) for pair in argv.items() for word in pair]
    if "loaded" in message:
        pytest.importorskip("diffusers", reason="pip install 'kinetune[enhance]'")
    assert cli.main(EnhanceConfig, enhance.run, None, "jobs.enhance", enhance.plan, argv=flat) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_without_diffusers_the_error_has_the_line_that_installs_it(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffusers" else find(name))
    assert enhanced(recorded, tmp_path / "out") == 2
    assert "jobs.enhance needs the package diffusers: pip install 'kinetune[enhance]'" in capsys.readouterr().err


def test_a_machine_without_the_device_is_told_so(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffusers", reason="pip install 'kinetune[enhance]'")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    argv = ["--simulation", str(recorded), "--save_dir", str(tmp_path / "out"), "--device", "cuda"]
    assert cli.main(EnhanceConfig, enhance.run, None, "jobs.enhance", enhance.plan, argv=argv) == 2
    assert "cpu" in capsys.readouterr().err
