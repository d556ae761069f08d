"""`jobs.critic_score` scores files of every kind, best first, as a table, CSV and a page."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import critic_score
from jobs.command_line import main as cli
from jobs.critic.settings import CriticScoreConfig
from motions.files.motion import Motion
from motions.files.smpl import smpl_turns
from motions.files.writing import write_motions
from motions.skeleton.skeletons import HUMANML3D
from rewards.critic.checkpoints import load_critic, save_critic
from rewards.critic.poses import poses_of_joints, rotations_of_poses
from rewards.critic.scoring import poses_of_motion, score_windows
from tests.toys.small_critic import joints_batch, small_critic

JOINTS = joints_batch(40)[0].numpy().astype(np.float32)


@pytest.fixture
def critic(tmp_path: Path) -> Path:
    save_critic(tmp_path / "critic", small_critic(), typical_score=0.25, clip_frames=20)
    return tmp_path / "critic"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """The same walk in several formats."""
    folder = tmp_path / "clips"
    folder.mkdir()
    motion = Motion("walk", JOINTS, HUMANML3D, 20.0)
    write_motions(folder, [motion], ["bvh", "npz"], str)
    np.save(folder / "joints.npy", JOINTS)
    rotations = rotations_of_poses(poses_of_joints(torch.from_numpy(JOINTS)[None], HUMANML3D))
    torch.save({"motion": rotations, "comment": ["walks"], "path": "x"}, folder / "sample.pth")
    (folder / "notes.md").write_text("no motion")
    torch.save({"weights": torch.ones(2)}, folder / "model.pth")
    return folder


def run(*words: object) -> int:
    return cli.main(
        CriticScoreConfig,
        critic_score.run,
        critic_score.__doc__,
        "jobs.critic_score",
        plan=critic_score.plan,
        argv=[str(word) for word in words],
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_all_formats_is_scored_best_first(
    clips: Path, critic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clips, "--critic_checkpoint_path", critic, "--save_dir", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert "left out" in captured.err and "model holds a dict without a motion" in captured.err
    found = rows(tmp_path / "out")
    scores = [float(row["score"]) for row in found]
    assert [row["place"] for row in found] == ["1", "2", "3", "4"] and scores == sorted(scores, reverse=True)
    by_name = {row["motion"]: row for row in found}
    assert {name: row["rotations"] for name, row in by_name.items()} == {
        **{"walk": "approximate", "joints": "approximate"},
        **{"sample": "own", "walk_smpl_approximate": "own"},
    }
    # The joints' rotations are those of the same inverse kinematics that made the other files.
    assert float(by_name["sample"]["score"]) == pytest.approx(float(by_name["joints"]["score"]), abs=1e-3)
    assert by_name["sample"]["text"] == "walks" and by_name["sample"]["frames"] == "40"
    loaded = load_critic(critic)
    expected = score_windows(loaded.critic, [poses_of_motion(Motion("a", JOINTS, HUMANML3D, 20.0))], 20)[0]
    row = by_name["joints"]
    assert float(row["score"]) == pytest.approx(expected.mean(), abs=1e-4)
    assert float(row["worst_window"]) == pytest.approx(expected.min(), abs=1e-4)
    assert float(row["preferred"]) == pytest.approx(1 / (1 + np.exp(0.25 - expected.mean())), abs=1e-4)
    for row in found:
        assert row["motion"] in captured.out
    page = (tmp_path / "out" / "index.html").read_text()
    assert "4 motions, best first" in page and page.index(f"1. {scores[0]:.2f}") < page.index(f"4. {scores[3]:.2f}")

    assert run(clips, "--critic_checkpoint_path", critic, "--save_dir", tmp_path / "out") == 2
    assert "exists" in capsys.readouterr().err, "nothing is overwritten"


def test_table_and_page_may_be_short_or_left_out(
    clips: Path, critic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (clips, "--critic_checkpoint_path", critic)
    assert run(*words, "--save_dir", tmp_path / "two", "--max_shown", 2) == 0
    assert "2 of 4 motions, the best and the worst" in capsys.readouterr().out
    page = (tmp_path / "two" / "index.html").read_text()
    assert '"title": "1. ' in page and '"title": "4. ' in page and '"title": "2. ' not in page
    assert run(*words, "--save_dir", tmp_path / "none", "--max_shown", 0, "--critic_reference", 5) == 0
    assert {path.name for path in (tmp_path / "none").iterdir()} == {"scores.csv"}
    lower = [float(row["preferred"]) for row in rows(tmp_path / "none")]
    assert max(lower) < min(float(row["preferred"]) for row in rows(tmp_path / "two"))
    assert run(*words, "--save_dir", tmp_path / "far", "--max_shown", 0, "--critic_reference", 1e6) == 0
    assert {float(row["preferred"]) for row in rows(tmp_path / "far")} == {0.0}
    assert run(*words, "--save_dir", tmp_path / "other", "--dry_run") == 0
    assert f"would write {tmp_path / 'other' / 'scores.csv'}" in capsys.readouterr().out
    assert not (tmp_path / "other").exists()


def test_amass_files_are_scored_by_their_own_rotations_at_any_frame_rate() -> None:
    turns = smpl_turns(torch.from_numpy(JOINTS), HUMANML3D).numpy()
    own = poses_of_motion(Motion("a", JOINTS, HUMANML3D, 20.0, turns=turns))
    torch.testing.assert_close(own, poses_of_motion(Motion("a", JOINTS, HUMANML3D, 20.0)), atol=1e-5, rtol=0.0)
    slow = poses_of_motion(Motion("a", JOINTS, HUMANML3D, 10.0, turns=turns))
    assert len(slow) == 79
    torch.testing.assert_close(slow[::2], own, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--critic_checkpoint_path", "nowhere.pth"), "critic nowhere.pth: no such file"),
        (("--critic_window", "100"), "critic_window is 100 frames; the critic"),
        (("--up_axis", "x"), "up_axis is x; of files of SMPL's rotations it is one of auto, y, z, -y"),
        (("--critic_num_heads", "5"), "no multiple of 5 attention heads"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], message: str, clips: Path, critic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = () if words[0] == "--critic_checkpoint_path" else ("--critic_checkpoint_path", critic)
    assert run(clips / "sample.pth", *given, *words, "--dry_run") == 2
    assert message in capsys.readouterr().err
