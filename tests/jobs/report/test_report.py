"""The report is a pure function of a run directory; headless Chromium opens, plays and orbits it."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from playwright.sync_api import Page, sync_playwright

from jobs.report import write_report
from jobs.report.document import Chart, Comparison, ReportDocument, Series, charts_data, motion_data, render
from jobs.report.from_run import make_charts, read_document
from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment, save_prompts
from motions.skeleton.skeletons import HUMANML3D

pytestmark = pytest.mark.slow

NUM_FRAMES = 40
HOSTILE = "kicks <!--<script> </script><b>"
"""Ends the element that holds the data, or keeps it from ending, unless it is escaped."""
CONFIG = {
    "model_path": "builtin",
    "use_lora": True,
    "lora_r": 8,
    "batch_size": 8,
    "group_size": 16,
    "beta_s": 1.0,
    "beta_p": 0.1,
    "use_dense_reward": True,
    "use_physics_reward": True,
    "kl_penalty": 0.02,
    "clip_epsilon": 1e-4,
    "learning_rate": 5e-5,
    "seed": 7,
}


def _swaying_joints(shift: float) -> np.ndarray:
    """[T, 22, 3]: the target skeleton's offsets laid end to end, swaying sideways."""
    joints = np.zeros((NUM_FRAMES, 22, 3), np.float32)
    joints[:, 0, 1] = 0.95
    for child, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            joints[:, child] = joints[:, parent] + HUMANML3D.target_offsets[child]
    joints[..., 0] += shift * np.sin(np.linspace(0, 6, NUM_FRAMES))[:, None] * joints[..., 1]
    return joints


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A small finished run, written as docs/reference/file_formats.md says."""
    samples = tmp_path / "samples"
    samples.mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    records = []
    for step in range(1, 31):
        record: dict[str, float] = {"step": step, "reward/total": 0.8 + step / 300, "reward/semantic": 0.7 + step / 300}
        record |= {
            "policy/kl_reference": step * 1e-5,
            "policy/ratio_mean": 1.0 + (step % 2) * 2**-52,
            "policy/clip_fraction": 0.1,
        }
        record |= {"seconds/rollout": 0.8, "seconds/update": 0.5, "seconds/step": 1.5}
        if step % 10 == 0:
            record |= {"evaluation/total": 0.85, "evaluation/total_low": 0.8, "evaluation/total_high": 0.9}
        records.append(record)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    row = {"name": "total", "meaning": "mean reward", "before": 0.81, "after": 0.9, "interval": [0.05, 0.13]}
    speed = {"name": "joint_speed_mps", "meaning": "m/s", "before": 0.6, "after": 0.58, "interval": None}
    rows = [row | {"better": "higher"}, speed | {"better": "neutral"}]
    rows.append(
        {"name": "fid", "meaning": "distance", "before": 1.0, "after": 1.2, "interval": None, "better": "lower"}
    )
    evaluation = {"num_prompts": 2, "num_seeds": 1, "sampler": "10 deterministic DDIM steps", "rows": rows}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    prompts = [
        Prompt(
            f"a person walks forward, then {HOSTILE}", (Segment("a person walks forward", 25), Segment(HOSTILE, 15))
        ),
        Prompt("a man sways", (Segment("a man sways", NUM_FRAMES),)),
    ]
    save_prompts(samples / "prompts.jsonl", prompts)
    for name, shift in (("before", 0.05), ("after", 0.3)):
        joints = np.stack([_swaying_joints(shift), _swaying_joints(-shift)])
        arrays = {"joints": joints, "lengths": np.full(2, NUM_FRAMES), "prompt_index": np.arange(2)}
        arrays |= {"sample_index": np.zeros(2, np.int64), "terms/total": np.ones(2)}
        np.savez(samples / f"{name}.npz", allow_pickle=False, **arrays)
    return tmp_path


def test_report_shows_the_numbers_of_the_run(run_directory: Path) -> None:
    document = read_document(run_directory)
    assert [row.verdict for row in document.evaluation] == ["good", "neutral", "neutral"]
    assert document.lead.startswith("30 updates of GRPO (LoRA of rank 8), 8 prompts with 16 samples")
    held_out = document.charts[0].series[1]
    assert held_out.name == "held-out" and held_out.points == [
        (10.0, 0.85, 0.8, 0.9),
        (20.0, 0.85, 0.8, 0.9),
        (30.0, 0.85, 0.8, 0.9),
    ]
    assert [len(comparison.before) for comparison in document.comparisons] == [NUM_FRAMES, NUM_FRAMES]
    assert document.comparisons[0].segments == [("a person walks forward", 0, 25), (HOSTILE, 25, 40)]


def test_prompts_are_shown_from_the_largest_rise_to_the_largest_fall(run_directory: Path) -> None:
    samples = run_directory / "samples"
    texts = [f"prompt {number}" for number in range(21)]
    save_prompts(samples / "prompts.jsonl", [Prompt(text, (Segment(text, NUM_FRAMES),)) for text in texts])
    joints = np.repeat(_swaying_joints(0.1)[None], 42, axis=0)
    arrays = {"joints": joints, "lengths": np.full(42, NUM_FRAMES), "prompt_index": np.arange(42) // 2}
    rises = np.arange(21) * 8 % 21 - 10  # -10 to 10, shuffled
    for name, total in (("before", np.zeros(42)), ("after", np.repeat(rises, 2))):
        np.savez(samples / f"{name}.npz", allow_pickle=False, **arrays, **{"terms/total": total})
    shown = [int(comparison.title.split()[1]) for comparison in read_document(run_directory).comparisons]
    assert [int(rises[number]) for number in shown] == [10, 8, 6, 3, 1, -1, -3, -6, -8, -10]


def test_the_note_speaks_of_a_judge_only_where_there_is_one(run_directory: Path) -> None:
    assert "judge" not in read_document(run_directory).evaluation_note
    path = run_directory / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["rows"][0]["name"] = "judge_matching"
    path.write_text(json.dumps(evaluation))
    assert read_document(run_directory).evaluation_note.count("the judge never was a reward") == 1


def test_page_needs_no_network_and_escapes_prompts(run_directory: Path) -> None:
    page = write_report(run_directory).read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert "<" not in data
    assert json.loads(data)["comparisons"][0]["segments"][1]["text"] == HOSTILE


def test_charts_without_numbers_are_left_out() -> None:
    charts = make_charts([{"step": 1, "reward/total": 0.5}], [])
    assert [chart.title for chart in charts] == ["Reward"]


def test_terms_with_a_scale_of_their_own_have_their_own_chart(run_directory: Path) -> None:
    """As `rewards.json` says of any reward, and of the built-in ones in a run from before it was written."""
    (run_directory / "metrics.jsonl").write_text('{"step": 1, "evaluation/skate": 2.0, "evaluation/kilos": 70.0}')

    def charts() -> dict[str, list[str]]:
        return {chart.title: [series.name for series in chart.series] for chart in read_document(run_directory).charts}

    assert charts() == {"Reward terms, held-out": ["kilos"], "Physical quantities, held-out": ["skate"]}
    heavy = {"name": "weight", "label": "heavy", "weight": 0.5, "differentiable": False}
    heavy["terms"] = {"kilos": {"meaning": "mass", "better": "lower", "own_scale": True}}
    (run_directory / "rewards.json").write_text(json.dumps([heavy]))
    assert charts() == {"Reward terms, held-out": ["skate"], "Physical quantities, held-out": ["kilos"]}
    assert ("Reward", "0.5 x heavy") in read_document(run_directory).facts


def test_every_kinematic_figure_has_its_own_chart_from_zero() -> None:
    records = [
        {"step": 0, "evaluation/jerk_mps3": 400.0, "evaluation/joint_speed_mps": 1.2, "evaluation/semantic": 0.6}
    ]
    found = {chart.title: chart for chart in make_charts(records, [])}
    assert list(found) == ["Reward terms, held-out", "Jerk, held-out", "Joint speed, held-out"]
    assert [series.name for series in found["Reward terms, held-out"].series] == ["semantic"]
    assert found["Jerk, held-out"].zero and "m/s^3" in found["Jerk, held-out"].note


def test_a_run_that_has_measured_nothing_yet_has_no_empty_table(run_directory: Path) -> None:
    assert "<th>Quantity</th>" in write_report(run_directory).read_text(encoding="utf-8")
    (run_directory / "evaluation.json").unlink()
    page = write_report(run_directory).read_text(encoding="utf-8")
    assert "<th>Quantity</th>" not in page and "This run has no held-out evaluation yet." in page


def test_what_is_not_finite_is_not_drawn() -> None:
    lost, gone = Series("a", [(0.0, 1.0), (1.0, math.nan), (2.0, 3.0)]), Series("b", [(0.0, math.inf)])
    [data] = charts_data([Chart("kept", "", [gone, lost]), Chart("empty", "", [gone]), Chart("none", "", [])])
    assert data["series"] == [{"name": "a", "points": [(0.0, 1.0), (2.0, 3.0)], "dots": False, "colour": "#b2642a"}]


def test_seconds_of_a_step_are_stacked_once() -> None:
    records = [
        {"step": 0, "seconds/evaluation": 2.0},
        {"step": 1, "seconds/update": 0.5, "seconds/step": 1.5},
        {"step": 1, "seconds/evaluation": 3.0},
        {"step": 1, "seconds/checkpoint": 0.25},
    ]
    [chart] = make_charts(records, [])
    stacked = {series.name: series.points for series in chart.series}
    assert stacked["evaluation"] == [(0.0, 2.0), (1.0, 3.0)]
    assert stacked["update"] == [(0.0, 0.0), (1.0, 0.5)]
    assert stacked["checkpoint"] == [(0.0, 0.0), (1.0, 0.25)]


def test_interval_around_zero_is_neutral(run_directory: Path) -> None:
    path = run_directory / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["rows"][0]["interval"] = [-0.01, 0.13]
    path.write_text(json.dumps(evaluation))
    assert read_document(run_directory).evaluation[0].verdict == "neutral"


def test_folder_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the directory of a run"):
        write_report(tmp_path)


def test_motions_that_run_far_away_are_shown_in_larger_units() -> None:
    far = np.zeros((4, 22, 3))
    far[-1, 0, 0] = 65.534
    assert motion_data(np.zeros((4, 22, 3)), 22, 20.0)["unit_m"] == 0.001
    data = motion_data(far, 22, 20.0)
    assert data["unit_m"] == pytest.approx(0.002)
    counts = np.frombuffer(base64.b64decode(str(data["joints"])), "<i2").reshape(4, 22, 3)
    np.testing.assert_allclose(counts * 0.002, far, atol=1e-3)


def test_motions_that_are_not_finite_are_refused(run_directory: Path) -> None:
    document = read_document(run_directory)
    broken = Comparison("broken", [], np.full((4, 22, 3), np.nan), np.zeros((4, 22, 3)), "", "")
    with pytest.raises(ValueError, match="not finite"):
        render(ReportDocument(**{**document.__dict__, "comparisons": [broken]}))


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, chromium: str, run_directory: Path) -> Iterator[tuple[Page, list[str]]]:
    """The report opened in Chromium, with everything the page complained of or asked the network for."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    report = write_report(run_directory)
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*flags, "--disable-component-update"])
        width, height = request.param
        opened = browser.new_page(viewport={"width": width, "height": height})
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        opened.goto(report.as_uri())
        yield opened, complaints
        browser.close()


@pytest.mark.browser
def test_report_plays_and_orbits_in_a_browser(page: tuple[Page, list[str]]) -> None:
    opened, complaints = page
    opened.wait_for_function("window.kinetuneStage.time > 3")
    opened.click("[data-action=play]")
    assert opened.evaluate("window.kinetuneStage.playing") is False
    canvas = opened.locator("canvas[data-player=after]")
    picture = "document.querySelector('canvas[data-player=after]').toDataURL()"
    first = opened.evaluate(picture)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2, steps=4)
    opened.mouse.up()
    assert opened.evaluate(picture) != first, "dragging must orbit the camera"
    opened.locator("#prompts button").nth(1).click()
    assert opened.locator("[data-segments] span").all_inner_texts() == ["a man sways"]
    assert opened.locator("#charts svg polyline").count() >= 4
    opened.locator("#charts svg").first.hover()
    assert "update" in opened.locator("#charts [data-readout]").first.inner_text()
    width = opened.viewport_size["width"] if opened.viewport_size else 0
    assert opened.evaluate("document.documentElement.scrollWidth") <= width, "the page must not scroll sideways"
    assert complaints == []


def test_an_evaluation_of_another_kind_is_refused_and_one_without_a_kind_is_read(run_directory: Path) -> None:
    path = run_directory / "evaluation.json"
    evaluation = json.loads(path.read_text())
    rows = read_document(run_directory).evaluation
    for kind in ({}, {"kind": "text"}):
        path.write_text(json.dumps({**kind, **{k: v for k, v in evaluation.items() if k != "kind"}}))
        assert read_document(run_directory).evaluation == rows
    path.write_text(json.dumps({**evaluation, "kind": "character"}))
    with pytest.raises(UserError, match="evaluation of kind 'character'; this report shows those of kind 'text'"):
        write_report(run_directory)


def test_the_parts_of_an_evaluation_are_tables(run_directory: Path) -> None:
    path = run_directory / "evaluation.json"
    evaluation = json.loads(path.read_text())
    row = {
        **{"name": "judge_matching", "meaning": "Cosine", "before": 0.2, "after": 0.5, "interval": [0.1, 0.4]},
        **{"better": "higher", "real": 0.75, "nearer": None},
    }
    figures = {"total": 0.5, "jerk_mps3": 300.0}
    evaluation |= {
        "rows": [row],
        "caution": "only 9 texts",
        "evidence": [
            {"name": "judge_matching", "accuracy": 0.04, "chance": 0.03, "num_motions": 90, "counts": False},
        ],
        "hacking": ["jerk_mps3 worsened <now>"],
        "chain_kl": [0.25, 2.0],
        "kinds": [
            {"kind": kind, "num_prompts": 4, "num_texts": 3, "caution": None, "rows": [row]}
            for kind in ("single", "composite")
        ],
        "samplers": [
            {
                **{"policy": policy, "sampler": "3 steps, guidance 1", "note": "its own", "figures": figures},
                "kinds": {"single": {"total": 0.625}, "composite": {"total": 0.125}},
            }
            for policy in ("base", "tuned")
        ],
        "real": {"figures": {"total": 0.9375}, "kinds": {}},
        "clips": [
            {"clip": clip, "num_prompts": 2, "left_out": clip == "walk", "before": figures, "after": figures}
            for clip in ("walk", "kick")
        ],
    }
    path.write_text(json.dumps(evaluation))
    document = read_document(run_directory)
    assert "only 9 texts" in document.evaluation_note
    [shown] = document.evaluation
    assert (shown.verdict, shown.real) == ("neutral", 0.75)
    assert "No evidence: it finds 4% of real captions, chance is 3%" in shown.meaning
    page = render(document)
    assert "jerk_mps3 worsened &lt;now&gt;" in page and "0.25, 2" in page
    assert "Prompts of one action" in page and "Composite prompts" in page and "Real motions" in page
    assert "base, 3 steps, guidance 1" in page and "<td>0.625</td><td>0.125</td>" in page and "0.938" in page
    assert "walk<small>left out of the training</small>" in page and "0.5 → 0.5" in page
