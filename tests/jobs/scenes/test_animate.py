"""`jobs.animate`: from a sentence to a film that a browser plays, and from the middle on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs import animate
from jobs.animation import running
from jobs.animation.settings import AnimateConfig
from jobs.command_line import main as cli
from motions.base.errors import UserError

pytestmark = pytest.mark.slow

TEXT = "A man walks for 2 seconds, then kicks the red ball for 1 second."
FAST = (
    *("--num_candidates", 2, "--sampling_steps", 2, "--use_tracking_reward", "--tracking_max_s", 0.5),
    *("--physics_hz", 120, "--nearest_captions", 1),
    *("--renderer", "tiny", "--width", 96, "--height", 64, "--fps", 6, "--sub_frames", 1),
)


def animated(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(AnimateConfig, animate.run, None, "jobs.animate", animate.plan, argv=argv)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "out"
    assert animated("--text", TEXT, "--save_dir", folder, *FAST) == 0
    return folder


def test_every_stage_leaves_its_files(made: Path) -> None:
    for name in (
        *("scene.json", "prompts.jsonl", "motion/sample00_rep00.npy", "candidates.json", "layout.json", "layout.png"),
        *("simulation.npz", "contacts.json", "simulation.json", "film.mp4", "film.png", "index.html", "stages.json"),
    ):
        assert (made / name).stat().st_size > 0, name
    (record,) = json.loads((made / "candidates.json").read_text())["prompts"]
    assert len(record["rewards"]) == 2 and record["rewards"][record["chosen"]] == max(record["rewards"])
    assert "tracking" in record["terms"]
    page = (made / "index.html").read_text()
    assert 'src="film.mp4"' in page and "candidate" in page and "http" not in page.split("<script")[0]


def test_later_stages_start_from_edited_files(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Path(shutil.copytree(made, tmp_path / "made"))
    before = {name: (made / name).read_bytes() for name in ("scene.json", "candidates.json", "film.mp4")}
    layout = json.loads((made / "layout.json").read_text())
    layout["places"]["ball"]["center_m"][0] += 3.0
    (made / "layout.json").write_text(json.dumps(layout))
    assert animated("--save_dir", made, "--start_at", "simulate", *FAST) == 2
    assert "simulation.npz exists; give another --save_dir, or --overwrite" in capsys.readouterr().err
    assert animated("--save_dir", made, "--start_at", "simulate", "--overwrite", *FAST) == 0
    after = {name: (made / name).read_bytes() for name in before}
    assert after["scene.json"] == before["scene.json"] and after["candidates.json"] == before["candidates.json"]
    assert after["film.mp4"] != before["film.mp4"], "the ball is elsewhere"
    decisions = json.loads((made / "stages.json").read_text())
    assert list(decisions) == ["parse", "generate", "plan", "simulate", "render"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is no text"),
        (("--text", "A man walks.", "--text_file", "scenes.txt"), "text and text_file are both given"),
        (("--text_file", "nowhere.txt"), "text_file nowhere.txt: No such file or directory"),
        (("--text", "A man walks.", "--refiner", "nowhere"), "nowhere"),
        (("--text", "A man walks.", "--parser", "nowhere"), "nowhere"),
        (("--text", "A man walks.", "--start_at", "plan"), "leave out --text"),
        (("--start_at", "plan"), "of the stage parse is missing; give --start_at parse"),
        (("--text", "A cup is on a table."), "no person does anything in this scene"),
        (("--text", "A man flurbs."), "unknown verb 'flurbs'"),
        (("--text", "A man walks.", "--max_frames", 20), "max_frames is 20, and the motion of 'man' has"),
        (("--text", "A man walks.", "--controller", "nowhere"), "tracking_controller nowhere"),
        (("--text", "A man walks.", "--objects", "nowhere"), "cannot read nowhere"),
        (("--text", "A man walks.", "--meshes", "nowhere"), "meshes nowhere is no folder"),
        (("--text", "A man walks.", "--model_path", "nowhere"), "nowhere"),
    ],
)
def test_what_is_refused(
    words: tuple[Any, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert animated(*words, "--save_dir", tmp_path / "out") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


FILES = ("scene.json", "prompts.jsonl", "candidates.json", "layout.json", "simulation.npz", "film.mp4", "stages.json")


def test_scenes_of_a_file_are_those_of_single_calls(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "scenes.txt"
    file.write_text(f"\n{TEXT}\n\nA woman waves for 1 second.\n")
    assert animated("--text_file", file, "--save_dir", tmp_path / "out", "--runtime", "local", *FAST) == 0
    for name in FILES:
        assert (tmp_path / "out" / "scene000" / name).read_bytes() == (made / name).read_bytes(), name
    assert "A woman waves" in (tmp_path / "out" / "scene001" / "index.html").read_text()
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'href="scene000/index.html"' in page and 'src="scene001/film.png"' in page and "not finished" not in page


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_actors_write_the_same_files(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "scenes.txt"
    file.write_text(TEXT)
    words = ("--text_file", file, "--save_dir", tmp_path / "out", "--num_scene_actors", 1)
    assert animated(*words, *FAST) == 0
    for name in FILES:
        assert (tmp_path / "out" / "scene000" / name).read_bytes() == (made / name).read_bytes(), name


def test_a_scene_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[tuple[str, str]] = []

    def fake(config: AnimateConfig, stage: str, decisions: dict[str, list[str]]) -> dict[str, list[str]]:
        folder = config.animation.save_dir
        if (folder.name, stage) == ("scene000", "plan"):
            raise UserError("no place for the table")
        assert list(decisions) == list(running.FILES)[: len(decisions)] and config.animation.text_file is None
        done.append((folder.name, stage))
        if stage == "render":
            (folder / "index.html").write_text("made")
        return {**decisions, stage: []}

    monkeypatch.setattr(running, "do_stage", fake)
    monkeypatch.setattr(running, "prepare", lambda config: None)
    file = tmp_path / "scenes.txt"
    file.write_text("A man walks.\nA man jumps.\n")
    assert animated("--text_file", file, "--save_dir", tmp_path / "out", "--runtime", "local") == 2
    error = capsys.readouterr().err
    assert error.count("no place for the table") == 1 and "1 of 2 scenes could not be finished" in error
    assert done == [
        *(("scene000", stage) for stage in ("parse", "generate")),
        *(("scene001", stage) for stage in running.FILES),
    ]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "scene000: not finished" in page and 'href="scene001/index.html"' in page


@pytest.mark.browser
def test_chromium_plays_the_film(made: Path, chromium: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((made / "index.html").absolute().as_uri())
        page.evaluate("document.querySelector('video').play()")
        page.wait_for_function("document.querySelector('video').currentTime > 0.2", timeout=60_000)
        assert page.evaluate("document.querySelector('video').videoWidth") == 96
        assert page.locator("canvas:visible").count() == 2, "the motion as generated and as simulated"
        browser.close()
    assert not errors
