"""jobs.view: one page of any motions, files in every format, and one clear line for what cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright

from jobs import view
from jobs.command_line import main as cli
from jobs.configs.view import ViewConfig
from motions.humanoid.mocap import clips_folder
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.synthetic_motion import walking_joints

pytestmark = pytest.mark.slow

CLIP = clips_folder() / "humanoid3d_walk.txt"


def run_view(*words: str | Path) -> int:
    return cli.main(ViewConfig, view.run, view.__doc__, "jobs.view", view.plan, argv=[str(word) for word in words])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened or written outside the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("there is no display"))


@pytest.fixture
def joints(tmp_path: Path) -> Path:
    path = tmp_path / "joints.npy"
    np.save(path, walking_joints(HUMANML3D, 30).astype(np.float32))
    return path


def test_a_page_is_written_and_named_into_a_new_folder_each_time(
    joints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("outputs/view/joints", "outputs/view/joints-2"):
        assert run_view(joints, CLIP) == 0
        assert re.fullmatch(rf"html: {folder}/index.html, 0.0\d MB, [\d.]+ s\n", capsys.readouterr().out)
    page = Path("outputs/view/joints/index.html").read_text()
    assert "http://" not in page and "https://" not in page
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(found)
    assert [len(skeleton["parents"]) for skeleton in data["skeletons"]] == [22, 18]
    shown = [comparison["motions"]["motion0"] for comparison in data["comparisons"]]
    assert [(motion["skeleton"], motion["fps"], motion["num_frames"]) for motion in shown] == [(0, 20, 30), (1, 30, 38)]


def test_all_formats_at_once_and_never_over_a_file(joints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (joints, "--formats", "bvh,glb", "npz", "--save_dir", "out", "--fps", "40")
    assert run_view(*words, "--dry_run") == 0
    assert not Path("out").exists()
    assert "joints: 30 frames of humanml3d at 40 per second\nwould write out/joints.bvh\n" in capsys.readouterr().out
    assert run_view(*words) == 0
    output = capsys.readouterr().out
    assert "the SMPL parameters (npz) are approximate" in output and "\nglb: out/motions.glb, 0." in output
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("joints.bvh", "joints_smpl_approximate.npz", "motions.glb")
    ]
    assert "Frame Time: 0.025\n" in Path("out/joints.bvh").read_text()
    assert run_view(*words) == 2
    assert "joints.bvh exists, and nothing is overwritten; give another folder" in capsys.readouterr().err


def test_a_browser_is_opened_where_there_is_a_display(
    joints: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    assert run_view(joints, "--no_open") == 0 and run_view(joints, "--formats", "bvh") == 0
    assert opened == []
    assert run_view(joints, "--save_dir", "shown") == 0
    assert opened == [(tmp_path / "shown" / "index.html").as_uri()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("joints.npy", "--formats", "fbx"), "--formats fbx: expected one or more of html, gif, mp4, bvh, glb, npz"),
        (("joints.npy", "--fps", "0"), "--fps 0: expected number >= 5 and <= 1000 or none"),
        (("joints.npy", "--fps", "inf"), "--fps inf: expected"),
        (("nowhere.bvh",), "nowhere.bvh: no such file or folder"),
        ((), "--inputs is required"),
        (("--save_dir", "out", "joints.npy"), "unexpected word 'joints.npy'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words: tuple[str, ...], message: str, joints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_view(*words) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["joints.npy"]


@pytest.fixture
def page(chromium: str, joints: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page of two motions in Chromium, and what it complained of or asked the network for."""
    assert run_view(joints, CLIP, "--save_dir", "out") == 0
    complaints: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        opened = browser.new_page(viewport={"width": 900, "height": 800})
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        opened.goto(Path("out/index.html").absolute().as_uri())
        yield opened, complaints
        browser.close()


@pytest.mark.browser
def test_motions_play_are_stepped_through_and_compared_side_by_side(page: tuple[Page, list[str]]) -> None:
    opened, complaints = page
    views, buttons = opened.locator(".view:visible"), opened.locator("#prompts button")
    opened.wait_for_function("window.kinetuneStage.time > 3")
    opened.click("[data-action=play]")
    assert views.count() == 1
    buttons.nth(1).click()
    assert views.count() == 2
    assert opened.locator("[data-scores]:visible").all_inner_texts() == ["joints", "humanoid3d_walk"]
    # 30 frames of 20 a second are 45 of 30.
    assert opened.locator("[data-slider]").get_attribute("max") == "44"
    picture = "document.querySelector('canvas[data-player=motion1]').toDataURL()"
    before = opened.evaluate(picture)
    opened.locator("[data-slider]").fill("20")
    assert opened.locator("[data-clock]").inner_text().startswith("0.7 s / 1.5 s")
    assert opened.evaluate(picture) != before
    buttons.nth(0).click()
    assert views.count() == 1 and buttons.nth(0).get_attribute("aria-pressed") == "false"
    # One always stays.
    buttons.nth(1).click()
    assert views.count() == 1 and buttons.nth(1).get_attribute("aria-pressed") == "true"
    assert complaints == []
