"""`jobs.simulate`: its files, what it measures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import plan_scene, simulate
from jobs.command_line import main as cli
from jobs.scenes.settings import PlanSceneConfig, SimulateConfig
from motions.humanoid.mocap import load_clip
from motions.humanoid.retarget import retarget
from motions.scenes.rules import parse_text
from motions.scenes.scene import write_scene
from motions.scenes.timing import save_scene_prompts, to_prompts

pytestmark = pytest.mark.slow

FAST = ("--physics_hz", 120)


def simulated(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(SimulateConfig, simulate.run, None, "jobs.simulate", simulate.plan, argv=argv)


@pytest.fixture(scope="module")
def kicked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned scene in which a man who walks as in the motion capture runs into a ball."""
    folder = tmp_path_factory.mktemp("kicked")
    scene = parse_text("A man kicks the ball.")
    write_scene(folder / "scene.json", scene)
    save_scene_prompts(folder / "prompts.jsonl", to_prompts(scene, lambda _: 1.5, 20.0), 20.0)
    joints = retarget(load_clip("walk").pose(torch.arange(31) / 20.0)).numpy()
    (folder / "motion").mkdir()
    np.save(folder / "motion" / "sample00_rep00.npy", joints.astype(np.float32))
    argv = ["--scene", str(folder / "scene.json"), "--motion", str(folder / "motion")]
    assert cli.main(PlanSceneConfig, plan_scene.run, None, "jobs.plan_scene", plan_scene.plan, argv=argv) == 0
    # The walk is no kick: the ball is put where its feet go.
    layout = json.loads((folder / "layout.json").read_text())
    layout["places"]["ball"]["center_m"] = [0.0, -0.7, 0.11]
    (folder / "layout.json").write_text(json.dumps(layout))
    return folder


def numbers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "simulation.json").read_text())


def test_the_foot_moves_the_ball_and_help_is_measured(kicked: Path, tmp_path: Path) -> None:
    base = ("--scene", kicked / "scene.json", "--motion", kicked / "motion", *FAST)
    assert simulated(*base, "--save_dir", tmp_path / "dry", "--dry_run") == 0 and not (tmp_path / "dry").exists()
    for name in ("first", "again"):
        assert simulated(*base, "--save_dir", tmp_path / name) == 0
    for file in ("simulation.npz", "contacts.json", "simulation.json", "assets/ball.glb"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    found = numbers(tmp_path / "first")
    man, kick = found["actors"]["man"], found["actions"][0]
    assert found["num_bad_steps"] == 0 and 0 < man["tracked_fraction"] <= 1 and man["tracking_error_m"] > 0
    assert 0 < man["help_force_n"]["mean"] <= man["help_force_n"]["largest"] <= found["help_limits"]["force_n"] == 800
    assert kick["touched_by"] is not None and kick["moved_m"] > 0.05 and kick["impulse_ns"] > 0
    contacts = json.loads((tmp_path / "first" / "contacts.json").read_text())["contacts"]
    assert any(one["body"].startswith("man/") and one["object"] == "ball" for one in contacts)
    with np.load(tmp_path / "first" / "simulation.npz") as content:
        steps = len(content["wrench"])
        assert content["bodies"].shape == (steps + 1, 1, 15, 7) and content["object_poses"].shape == (steps + 1, 1, 7)
        assert np.isfinite(content["bodies"]).all()
        largest = np.linalg.norm(content["wrench"][:, 0, :3], axis=1).max()
    assert largest == pytest.approx(man["help_force_n"]["largest"], rel=1e-4)


@pytest.mark.parametrize(
    ("option", "value", "changed"),
    [
        ("--root_force", 0, "help_force_n"),
        ("--root_torque", 20, "help_torque_nm"),
        ("--root_stiffness", 0.5, "help_force_n"),
        ("--torque_scale", 1, "tracking_error_m"),
        ("--max_deviation", 0.02, "tracked_fraction"),
        ("--engine", "bullet", "tracking_error_m"),
        ("--seconds", 0.5, "tracking_slip_mps"),
    ],
)
def test_options_have_effects(kicked: Path, tmp_path: Path, option: str, value: object, changed: str) -> None:
    base = ("--scene", kicked / "scene.json", "--motion", kicked / "motion", *FAST)
    short = () if option == "--seconds" else ("--seconds", 0.8)
    assert simulated(*base, *short, "--save_dir", tmp_path / "plain") == 0
    assert simulated(*base, *short, "--save_dir", tmp_path / "other", option, value) == 0
    plain, other = (numbers(tmp_path / name)["actors"]["man"][changed] for name in ("plain", "other"))
    assert plain != other


def test_things_alone_stay_where_they_are(kicked: Path, tmp_path: Path) -> None:
    assert simulated("--scene", kicked / "scene.json", "--save_dir", tmp_path, "--layout", kicked / "layout.json") == 0
    found = numbers(tmp_path)
    assert found["actors"] == {} and found["objects"]["ball"]["farthest_m"] < 0.005
    assert simulated("--scene", kicked / "scene.json", "--save_dir", tmp_path) == 2, "nothing is overwritten"


def test_what_does_not_belong_together_is_named(
    kicked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("--scene", kicked / "scene.json", "--save_dir", tmp_path)
    layout = json.loads((kicked / "layout.json").read_text())
    cases: list[tuple[dict[str, Any], str]] = [
        (layout | {"version": 9}, "version is 9"),
        (layout | {"places": {"ball": layout["places"]["ball"]}}, "'man', who is not in scene and layout"),
        (layout | {"places": layout["places"] | {"ball": {}}}, "places.ball.center_m: field required"),
    ]
    for content, message in cases:
        (tmp_path / "layout.json").write_text(json.dumps(content))
        assert simulated(*base, "--layout", tmp_path / "layout.json", "--motion", kicked / "motion") == 2
        assert message in capsys.readouterr().err
    assert simulated(*base, "--motion", kicked / "motion", "--sample", 3) == 2
    assert "has no sample*_rep03.npy" in capsys.readouterr().err
    assert simulated(*base, "--meshes", tmp_path / "nowhere") == 2 and "is no folder" in capsys.readouterr().err
    np.save(tmp_path / "sample00_rep00.npy", np.full((40, 22, 3), np.nan, np.float32))
    assert simulated(*base, "--motion", tmp_path) == 2
    assert "is not finite" in capsys.readouterr().err
