"""The report of a character run: table, charts, player, animation; nothing of it needs the network or a screen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from envs.body.mujoco_model import build_humanoid, build_humanoid_xml
from envs.settings import DeepMimicSettings
from envs.task.reference import ReferenceMotion
from jobs.report import character
from jobs.report.character import (
    RecordedMotion,
    joint_points,
    render_offscreen,
    save_video,
)
from jobs.report.control_page import ScoreColumn, ScoreRow, score_table
from jobs.report.from_control import clone_charts, read_control_document, trpo_charts, write_control_report
from motions.humanoid.mocap import load_clip
from motions.humanoid.points import POINT_NAMES, humanoid_skeleton, pose_points

pytestmark = pytest.mark.slow

WALK = DeepMimicSettings()


def states(count: int) -> np.ndarray:
    reference = ReferenceMotion(WALK)
    return reference.start(np.zeros(count, dtype=np.int64), np.arange(count) / 30)[0]


def score(value: float) -> dict[str, object]:
    names = ("reward", "normalised_return", "survival_s", "success", "joint_error", "joint_error_1s", "root_error")
    return {"mean": {name: value for name in (*names, "body_error")}, "episodes": {}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    evaluation = {
        "motion": "walk",
        "phases": [0.0, 0.5],
        "horizon_s": 20.0,
        "policies": {"trained": score(0.9), "open loop": score(0.2)},
        "pushes": {"100 N": {"all": 0.75, "0": 1.0, "90": 0.5}},
        "push_policy": "trained",
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    for name in ("clone", "trpo"):
        (tmp_path / name).mkdir()
    curves = ("loss", "val_loss", "rmse", "val_rmse", "std")
    looks = [
        {"round": r, "samples": 100 * (r + 1), "optimizer_steps": s, **dict.fromkeys(curves, 1.0 / (r + s))}
        for r in (0, 1)
        for s in (10.0, 20.0)
    ]
    (tmp_path / "clone/metrics.jsonl").write_text("\n".join(map(json.dumps, looks)))
    steps = [{"step": i, "rollout/steps": 1000.0, "rollout/reward": 0.1 * i, "policy/kl": 0.01} for i in (1, 2, 3)]
    (tmp_path / "trpo/metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
    points = joint_points(build_humanoid(WALK), states(5)).astype(np.float32)
    np.savez(
        tmp_path / "imitations.npz",
        phases=np.array([0.0]),
        control_hz=np.array(30.0),
        policy0=points,
        reference0=points,
    )
    return tmp_path


def test_curves_go_on_over_rounds_and_steps(run: Path) -> None:
    document = read_control_document(run)
    loss = next(chart for chart in document.charts if "likelihood" in chart.title)
    assert [point[0] for point in loss.series[0].points] == [10.0, 20.0, 30.0, 40.0]
    reward = next(chart for chart in document.charts if chart.title == "TRPO: reward per step")
    assert [point[0] for point in reward.series[0].points] == [1.0, 2.0, 3.0] and reward.x_label == "thousand steps"
    assert clone_charts([]) == [] and trpo_charts([]) == []


def test_the_best_of_a_column_is_marked_whichever_way_is_better() -> None:
    columns = [ScoreColumn("up", "up", "", 1, 1), ScoreColumn("down", "down", "", 1, -1)]
    rows = [
        ScoreRow("a", "", {"up": 1.0, "down": 1.0}),
        ScoreRow("b", "", {"up": 2.0, "down": 2.0}),
        ScoreRow("c", "", {}),
    ]
    cells = [part.split("</td>")[0] for part in score_table(columns, rows).split("<td class=")[1:]]
    assert cells == ['"">1.0', '"good">1.0', '"good">2.0', '"">2.0', '"">-', '"">-']


def test_a_folder_without_evaluation_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished run"):
        write_control_report(tmp_path)


def test_points_face_forward_with_left_on_the_left() -> None:
    points = joint_points(build_humanoid(WALK), states(1))[0]
    place = dict(zip(POINT_NAMES, points, strict=True))
    assert place["left_hip"][0] - place["right_hip"][0] == pytest.approx(0.17, abs=0.02)
    assert place["head"][1] > 1.4 and abs(min(place["left_ankle"][1], place["right_ankle"][1])) < 0.15
    assert place["left_foot"][2] > place["left_ankle"][2]
    assert humanoid_skeleton(30.0).parents[POINT_NAMES.index("left_foot")] == POINT_NAMES.index("left_ankle")


def test_points_of_a_clip_s_poses_are_those_of_the_simulated_body() -> None:
    """Up to the floor, which the simulation places, and away from the seam of the cycle, which it smooths."""
    simulated = joint_points(build_humanoid(WALK), states(22)[14:])
    shown = pose_points(load_clip("walk").pose(torch.arange(14, 22, dtype=torch.float64) / 30))
    np.testing.assert_allclose(shown - shown[:, :1], simulated - simulated[:, :1], atol=2e-3)


def test_an_animation_is_made_without_a_screen_and_without_gl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes = [RecordedMotion("reference", states(4)), RecordedMotion("policy", states(2))]
    monkeypatch.setitem(os.environ, "MUJOCO_GL", "none")
    assert save_video(tmp_path / "drawn.webp", build_humanoid_xml(WALK), takes, 15.0) == "drawing"
    with Image.open(tmp_path / "drawn.webp") as picture:
        assert (picture.width, picture.height, getattr(picture, "n_frames", 1)) == (640, 320, 4)


def test_a_gl_library_that_hangs_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(character, "RENDER_TIMEOUT_S", 0.01)
    assert render_offscreen(build_humanoid_xml(WALK), [states(1)]) is None


def test_a_video_is_made_at_the_frame_rate_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setitem(os.environ, "MUJOCO_GL", "none")
    save_video(tmp_path / "film.mp4", build_humanoid_xml(WALK), [RecordedMotion("policy", states(6))], 30.0, 30.0)
    with av.open(str(tmp_path / "film.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (320, 320, 6, 30)


def test_mujoco_renders_where_gl_is() -> None:
    pictures = render_offscreen(build_humanoid_xml(WALK), [states(1)])
    if pictures is None:
        pytest.skip("no EGL and no OSMesa here")
    assert pictures[0].shape == (1, 320, 320, 3) and pictures[0].std() > 10


@pytest.mark.browser
def test_the_page_plays_and_draws(run: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    path = write_control_report(run)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        mistakes: list[str] = []
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("#charts svg")
        assert page.locator("#charts svg").count() == 5
        assert page.locator("canvas").count() == 2
        assert "75" in page.locator("td:has-text('0.75')").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= 1000")
        assert mistakes == []
        browser.close()
