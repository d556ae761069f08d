"""`jobs.prefer` asks a person, and `jobs.train_critic --pairs` learns from the answers: in Chromium, end to end."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, sync_playwright

from jobs import critic_score, prefer, train_critic
from jobs.command_line import main as cli
from jobs.critic.preferring import make_pairs, prepare
from jobs.critic.settings import CriticConfig, CriticScoreConfig, PreferConfig
from learners.supervised.choices import MOTIONS
from motions.base.errors import UserError
from motions.files.motion import Motion
from motions.skeleton.skeletons import HUMANML3D, KIT
from rewards.critic.checkpoints import LoadedCritic, load_critic
from rewards.critic.poses import poses_of_joints
from rewards.critic.scoring import poses_of_motion, score_windows
from tests.toys.synthetic_motion import walking_joints

pytestmark = pytest.mark.slow

FRAMES = 24
LOCAL = ("file:", "data:", "blob:")


def motion(seed: int, shaken_m: float, frames: int = FRAMES, text: str = "a person walks") -> Motion:
    rng = np.random.default_rng(seed)
    joints = walking_joints(HUMANML3D, frames, seed=seed, turn=rng.uniform(-1.0, 1.0))
    joints = joints + shaken_m * rng.standard_normal(joints.shape)
    return Motion(f"walk{seed}", joints.astype(np.float32), HUMANML3D, 20.0, ((text, 0, frames),) if text else ())


def write_results(folder: Path, motions: list[Motion]) -> Path:
    """As `jobs.generate` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "results.npz",
        motion=np.stack([one.joints.transpose(1, 2, 0) for one in motions]),
        text=np.array([one.title for one in motions]),
        lengths=np.array([len(one.joints) for one in motions]),
        num_samples=np.array(len(motions)),
        num_repetitions=np.array(1),
    )
    return folder


def shaken(number: int, first_seed: int) -> list[Motion]:
    amounts = np.random.default_rng(first_seed).uniform(0.0, 0.03, number)
    return [motion(first_seed + place, amount) for place, amount in enumerate(amounts)]


def roughness(joints: np.ndarray) -> float:
    """Mean third difference."""
    return float(np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1).mean())


def as_the_chooser(loaded: LoadedCritic, motions: list[Motion]) -> float:
    """Share of the pairs of neighbours whose smoother motion has the higher score."""
    poses = list(poses_of_joints(torch.from_numpy(np.stack([one.joints for one in motions])), HUMANML3D))
    scores = np.array([score.mean() for score in score_windows(loaded.critic, poses, loaded.clip_frames)])
    rough = np.array([roughness(one.joints) for one in motions])
    return float(((scores[::2] > scores[1::2]) == (rough[::2] < rough[1::2])).mean())


def run_prefer(*words: object) -> int:
    return cli.main(PreferConfig, prefer.run, prefer.__doc__, "jobs.prefer", prefer.plan, argv=[str(w) for w in words])


def page_data(folder: Path) -> dict[str, Any]:
    page = (folder / "index.html").read_text()
    assert "http://" not in page and "https://" not in page
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_pairs_share_no_motion_until_they_must_and_only_what_is_comparable_is_compared() -> None:
    motions = [motion(seed, 0.0) for seed in range(8)]
    rng = np.random.default_rng(0)
    once = Counter(place for pair in make_pairs(motions, 4, rng) for place in pair)
    assert set(once.values()) == {1} and len(once) == 8
    every = make_pairs(motions, 1000, rng)
    assert len(every) == len(set(every)) == 28
    kit = Motion("kit", walking_joints(KIT, FRAMES).astype(np.float32), KIT, 20.0, (("a person walks", 0, FRAMES),))
    slow = Motion("slow", motions[0].joints, HUMANML3D, 10.0, motions[0].spans)
    others = [motion(0, 0.0), motion(1, 0.0, text="a person runs"), motion(2, 0.0, frames=20), kit, slow]
    assert make_pairs(others, 5, rng) == []


def test_a_folder_is_written_with_repetitions_on_exchanged_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_results(tmp_path / "in", shaken(12, 0))
    words = (folder, "--save_dir", tmp_path / "out", "--num_pairs", 8, "--repeat_share", 0.5, "--no_open")
    assert run_prefer(*words, "--dry_run") == 0
    assert not (tmp_path / "out").exists()
    assert run_prefer(*words) == 0
    assert "8 pairs of 12 motions, 4 of them asked again" in capsys.readouterr().out
    data = page_data(tmp_path / "out")
    asked = [question[:2] for question in data["questions"]]
    again = [question[:2] for question in data["questions"] if question[2]]
    assert len(asked) == 12 and len(again) == 4
    for pair in again:
        assert asked.index(pair[::-1]) < asked.index(pair), "asked before, the other way round"
    kept = torch.load(tmp_path / "out" / MOTIONS, weights_only=True)
    assert kept["id"] == data["id"] and list(kept["poses"]) == data["names"]
    first = prepare(PreferConfig.of(inputs=[folder], save_dir=tmp_path / "x", num_pairs=8))[0][0]
    torch.testing.assert_close(kept["poses"][first.name], poses_of_motion(first))
    assert run_prefer(*words) == 2 and "exists, and nothing is overwritten" in capsys.readouterr().err
    assert run_prefer(folder, "--save_dir", tmp_path / "other", "--num_pairs", 8, "--seed", 3, "--no_open") == 0
    assert page_data(tmp_path / "other")["questions"] != data["questions"]


def test_motions_of_different_lengths_are_compared_by_their_first_seconds(tmp_path: Path) -> None:
    for seed, frames in enumerate((30, 40, 20)):
        np.save(tmp_path / f"{seed}.npy", motion(seed, 0.0, frames, text="").joints)
    options = {"inputs": [tmp_path], "save_dir": tmp_path / "out"}
    with pytest.raises(UserError, match="of 3 motions no two are of the same prompt, body, fps and length; --seconds"):
        prepare(PreferConfig.of(options))
    motions, questions, _ = prepare(PreferConfig.of(options, seconds=1.5, repeat_share=0.0))
    assert [len(one.joints) for one in motions] == [30, 30] and len(questions) == 1
    with pytest.raises(UserError, match=r"of 1 motions that are 2 s long there are fewer than two"):
        prepare(PreferConfig.of(options, seconds=2.0))


@pytest.fixture
def opened(chromium: str) -> Iterator[Any]:
    """Opens a page in Chromium; complaints and requests to a network are failures."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        context = browser.new_context(viewport={"width": 1000, "height": 800}, reduced_motion="reduce")

        def open_page(path: Path) -> Page:
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "request",
                lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
            )
            page.goto(path.absolute().as_uri())
            return page

        yield open_page
        browser.close()
    assert complaints == []


def save(page: Page, path: Path) -> dict[str, Any]:
    with page.expect_download() as download:
        page.click("[data-save]")
    download.value.save_as(path)
    return json.loads(path.read_text())


@pytest.mark.browser
def test_keys_choose_and_answers_stay_in_the_browser(opened: Any, tmp_path: Path) -> None:
    folder = write_results(tmp_path / "in", shaken(8, 0))
    assert run_prefer(folder, "--save_dir", tmp_path / "out", "--repeat_share", 0, "--num_pairs", 4, "--no_open") == 0
    page = opened(tmp_path / "out" / "index.html")
    progress = page.locator("[data-progress]")
    assert progress.inner_text() == "0 of 4 answered"
    assert page.locator(".view:visible").count() == 2
    assert page.locator("[data-segment]").all_inner_texts() == ["a person walks"]
    page.locator("canvas").first.focus()
    for key in ("ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert progress.inner_text() == "2 of 4 answered"
    page.keyboard.press("Backspace")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert page.evaluate("window.kinetuneChoosing.stage.playing")
    # Opened again it goes on where it was.
    page.close()
    page = opened(tmp_path / "out" / "index.html")
    progress = page.locator("[data-progress]")
    assert progress.inner_text() == "2 of 4 answered"
    page.keyboard.press("s")
    page.click("[data-answer=equal]")
    assert progress.inner_text() == "4 of 4 answered: that was the last one. Save your choices."
    assert page.locator("[data-answer=left]").is_disabled()
    saved = save(page, tmp_path / "choices.json")
    data = page_data(tmp_path / "out")
    assert [one["choice"] for one in saved["choices"]] == ["left", "right", "skip", "equal"]
    for one, (left, right, _) in zip(saved["choices"], data["questions"], strict=True):
        assert (one["left"], one["right"]) == (data["names"][left], data["names"][right])
    assert saved["id"] == data["id"] and Path(saved["folder"]) == tmp_path / "out"


@pytest.mark.browser
@pytest.mark.timeout(1200)
def test_two_hundred_choices_make_a_critic_like_any_other(
    opened: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    motions = shaken(200, 0)
    folder = write_results(tmp_path / "in", motions)
    words = ("--save_dir", tmp_path / "out", "--num_pairs", 182, "--repeat_share", 0.1, "--no_open")
    assert run_prefer(folder, *words) == 0
    rough = {f"sample{place:02d}_rep00": roughness(one.joints) for place, one in enumerate(motions)}
    data = page_data(tmp_path / "out")
    assert len(data["questions"]) == 200
    page = opened(tmp_path / "out" / "index.html")
    for left, right, _ in data["questions"]:
        smoother = rough[data["names"][left]] < rough[data["names"][right]]
        page.keyboard.press("ArrowLeft" if smoother else "ArrowRight")
    save(page, tmp_path / "choices.json")

    run = tmp_path / "taste"
    words = ["--pairs", str(tmp_path / "choices.json"), "--save_dir", str(run), "--batch_size", "8"]
    assert cli.main(CriticConfig, train_critic.run, None, "jobs.train_critic", train_critic.plan, argv=words) == 0
    output = capsys.readouterr().out
    assert "choices: 200, of which 200 prefer a motion" in output and "asked again: 18, the same answer to 18" in output
    assert re.search(r"held out: \d+, the critic agrees with \d+%, before with", output)
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["choices"]["repeated"] == evaluation["choices"]["consistent"] == 18

    # Of walks that nobody was asked about it prefers the smoother one.
    others = shaken(200, 10_000)
    preferred = as_the_chooser(load_critic(run), others)
    assert preferred >= 0.85, f"agrees with {preferred:.3f} of {len(others) // 2} pairs of other walks"

    # It is a critic like any other.
    words = [
        str(folder),
        "--critic_checkpoint_path",
        str(run),
        "--save_dir",
        str(tmp_path / "scores"),
        "--max_shown",
        "0",
    ]
    assert cli.main(CriticScoreConfig, critic_score.run, None, "jobs.critic_score", critic_score.plan, argv=words) == 0


NO_PAGE = "no choices; expected a file that the page of jobs.prefer saved"
SAVED = {"kind": "kinetune choices", "id": "x", "choices": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", NO_PAGE),
        ("{}", NO_PAGE),
        (json.dumps(SAVED), "holds no choice; answer on the page of jobs.prefer, then save"),
        (
            json.dumps(SAVED | {"choices": [{"left": "a", "right": "b", "choice": "left"}]}),
            "its motions are missing: motions.pth, which jobs.prefer wrote beside its page, is neither in",
        ),
    ],
    ids=["empty_file", "list", "object", "no_choices", "no_motions"],
)
def test_choices_from_which_nothing_can_be_learned_are_one_clear_error(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "choices.json"
    path.write_text(text)
    words = ["--pairs", str(path), "--save_dir", str(tmp_path / "run"), "--dry_run"]
    assert cli.main(CriticConfig, train_critic.run, None, "jobs.train_critic", train_critic.plan, argv=words) == 2
    printed = capsys.readouterr()
    assert f"{path}: {message}" in printed.err and len(printed.err.strip().splitlines()) == 1
    assert not printed.out and not (tmp_path / "run").exists()


def test_too_few_choices_are_one_clear_error(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "in", shaken(4, 0))
    assert run_prefer(folder, "--save_dir", tmp_path / "out", "--repeat_share", 0, "--no_open") == 0
    data = page_data(tmp_path / "out")
    choices = [
        {"left": data["names"][left], "right": data["names"][right], "choice": "left", "again": again}
        for left, right, again in data["questions"]
    ]
    path = tmp_path / "out" / "choices.json"
    path.write_text(json.dumps({"kind": "kinetune choices", "id": data["id"], "choices": choices}))
    with pytest.raises(UserError, match="6 choices prefer a motion; training, validation and test need 9 or more"):
        train_critic.plan(CriticConfig.of(pairs=path, save_dir=tmp_path / "run"))
