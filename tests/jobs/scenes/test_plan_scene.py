"""`jobs.plan_scene`: its files, with and without motions, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import plan_scene
from jobs.command_line import main as cli
from jobs.scenes.settings import PlanSceneConfig
from motions.scenes.rules import parse_text
from motions.scenes.scene import write_scene
from motions.scenes.timing import save_scene_prompts, to_prompts

pytestmark = pytest.mark.slow

TEXT = "A man walks to the table, then kicks the red ball next to it."


def plan(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(PlanSceneConfig, plan_scene.run, None, "jobs.plan_scene", plan_scene.plan, argv=argv)


@pytest.fixture
def scene_path(tmp_path: Path) -> Path:
    scene = parse_text(TEXT)
    write_scene(tmp_path / "scene.json", scene)
    save_scene_prompts(tmp_path / "prompts.jsonl", to_prompts(scene, lambda _: 2.0, 20.0), 20.0)
    return tmp_path / "scene.json"


def places(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "layout.json").read_text())["places"]


def test_a_layout_and_its_picture_are_written(scene_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scene_path.parent
    assert plan("--scene", scene_path, "--dry_run") == 0 and not (folder / "layout.json").exists()
    assert "all 1 relations are met" in capsys.readouterr().out
    assert plan("--scene", scene_path) == 0
    content = json.loads((folder / "layout.json").read_text())
    assert content["version"] == 1 and content["relations"][0]["missed_by_m"] == 0 and content["overlaps"] == []
    assert (
        content["places"]["ball"]["mass_kg"] == pytest.approx(0.43) and content["places"]["man"]["source"] == "person"
    )
    assert Image.open(folder / "layout.png").size[0] > 500
    assert plan("--scene", scene_path) == 2
    assert "layout.json exists; give another --save_dir, or --overwrite" in capsys.readouterr().err
    first = (folder / "layout.json").read_bytes()
    assert plan("--scene", scene_path, "--overwrite") == 0 and (folder / "layout.json").read_bytes() == first
    assert plan("--scene", scene_path, "--save_dir", folder / "other", "--seed", 4, "--room_m", 6, "--starts", 3) == 0
    assert places(folder / "other") != places(folder)


def test_motions_and_further_objects_change_the_places(scene_path: Path, tmp_path: Path) -> None:
    joints = np.zeros((80, 22, 3), np.float32)
    joints[..., 2] = np.minimum(np.arange(80) / 40, 1.0)[:, None]
    joints[40:, 11, 2] += 0.8 * np.sin(np.linspace(0, np.pi, 40)) ** 2
    (tmp_path / "motions").mkdir()
    np.save(tmp_path / "motions" / "sample00_rep00.npy", joints)
    record = {
        **{"canonical_name": "soccer ball", "aliases": ["ball"], "category": "sphere", "typical_mass_kg": 5.0},
        "typical_dimensions_m": {"width": 0.5, "depth": 0.5, "height": 0.5},
    }
    (tmp_path / "more.json").write_text(json.dumps([record]))
    more = ("--motion", tmp_path / "motions", "--objects", tmp_path / "more.json")
    assert plan("--scene", scene_path, *more) == 0
    found = places(tmp_path)
    assert found["ball"]["size_m"] == [0.5, 0.5, 0.5] and found["ball"]["mass_kg"] == 5.0
    np.testing.assert_allclose(found["man"]["center_m"][:2], (0, 0), atol=0.02)
    assert found["ball"]["center_m"][1] < -1.3, "in front of the actor, who walks toward the camera"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--motion", "nowhere"), "has no sample*_rep00.npy, as jobs.generate writes them"),
        (("--room_m", "1"), "does not fit into 1 m"),
        (("--objects", "nowhere.json"), "cannot read nowhere.json"),
        (("--scene", "nowhere.json"), "cannot read nowhere.json"),
    ],
)
def test_what_is_refused(
    words: tuple[str, ...], message: str, scene_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words if "--scene" in words else ("--scene", scene_path, *words)
    assert plan(*given) == 2
    assert message in capsys.readouterr().err and not (scene_path.parent / "layout.json").exists()


def test_motions_of_another_scene_or_skeleton_are_refused(
    scene_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--scene", scene_path, "--motion", tmp_path)
    np.save(tmp_path / "sample00_rep00.npy", np.zeros((80, 263), np.float32))
    assert plan(*given) == 2 and "of 'man' is [80, 263]; expected joints [T, 22, 3]" in capsys.readouterr().err
    np.save(tmp_path / "sample00_rep00.npy", np.zeros((80, 22, 3), np.float32))
    write_scene(scene_path, parse_text("A woman walks to the table."))
    assert plan(*given) == 2 and "the motion of 'man' is of another scene" in capsys.readouterr().err


def test_a_colour_that_is_no_name_of_one_is_drawn_grey(scene_path: Path) -> None:
    scene_path.write_text(scene_path.read_text().replace('"red"', '"rather reddish"'))
    assert plan("--scene", scene_path) == 0 and Image.open(scene_path.parent / "layout.png").size[0] > 500


def test_an_entity_without_a_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "scene.json", parse_text("A man kicks the quark."))
    assert plan("--scene", tmp_path / "scene.json") == 2
    assert "entities[1].size_m: 'quark' has no size" in capsys.readouterr().err
