"""`jobs.train_critic` learns from data and from lists, measures what it has not seen, and resumes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from cluster.records.checkpoints import RunDirectoryError
from jobs import train_critic
from jobs.command_line import main as cli
from jobs.critic.settings import CriticConfig
from motions.base.errors import UserError
from motions.data.flaws import FLAWS
from rewards.critic.checkpoints import load_critic, save_critic
from tests.toys.small_critic import small_critic
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow


def config(folder: Path, **changes: object) -> CriticConfig:
    values = {
        **{"save_dir": folder, "num_steps": 2, "save_interval": 1, "batch_size": 2, "num_eval_pairs": 3},
        **{"critic_dim_feat": 8, "critic_dim_rep": 4, "critic_depth": 1, "critic_heads": 2, "critic_mlp_ratio": 1},
        **{"clip_frames": 16, "min_crop_frames": 12, "best_metric": "evaluation/validation/log_loss"},
        "best_mode": "min",
    }
    return CriticConfig.of({**values, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_critic(folder).critic.state_dict()


def write_list(path: Path, questions: int, frames: int = 6) -> Path:
    """Questions with two pairs each, whose better motion is smoother."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(questions):
        better = torch.randn(1, 25, 3, generator=generator).expand(frames, 25, 3).clone()
        worse = [better + torch.randn(frames, 25, 3, generator=generator) for _ in range(2)]
        pairs += [{"motion_better": better, "motion_worse": one} for one in worse]
    torch.save(pairs, path)
    return path


def test_synthetic_pairs_from_data_make_a_critic_with_figures_of_every_flaw(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_critic.run(config(tmp_path / "whole", dataset=str(tiny_models.dataset)))
    assert "test_accuracy/frozen" in capsys.readouterr().out
    loaded = load_critic(tmp_path / "whole")
    assert loaded.clip_frames == 16 and loaded.critic.config.num_heads == 2 and loaded.typical_score is not None
    evaluation = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    assert evaluation["kind"] == "critic" and evaluation["num_pairs"] == 3 * len(FLAWS)
    assert sum(number for _, _, number in evaluation["calibration"]) == evaluation["num_pairs"]
    for part in ("validation", "test"):
        by_flaw = [evaluation["figures"][f"{part}_accuracy/{flaw}"] for flaw in FLAWS]
        assert evaluation["figures"][f"{part}/accuracy"] == pytest.approx(sum(by_flaw) / len(by_flaw))
    provenance = json.loads((tmp_path / "whole" / "config.json").read_text())["provenance"]
    assert provenance["held_out"] == evaluation["figures"] and "jobs.train_critic" in provenance["command"]
    assert list((tmp_path / "whole" / "best").rglob("motioncritic.pth")), "chosen by the validation"
    page = (tmp_path / "whole" / "report.html").read_text()
    assert '"Calibration"' in page and "held-out test_accuracy/self_intersecting" in page

    # Stopped after one step and resumed, it ends with the same bits.
    train_critic.run(config(tmp_path / "halves", dataset=str(tiny_models.dataset), num_steps=1))
    train_critic.run(config(tmp_path / "halves", dataset=str(tiny_models.dataset), resume=True))
    ours, whole = weights(tmp_path / "halves"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
    train_critic.run(config(tmp_path / "other", dataset=str(tiny_models.dataset), seed=11, num_steps=1))
    assert not torch.equal(weights(tmp_path / "other")["mlp.fc1.weight"], whole["mlp.fc1.weight"])


def test_lists_of_pairs_are_learned_from(tmp_path: Path) -> None:
    pairs = write_list(tmp_path / "pairs.pth", questions=18)
    train_critic.run(config(tmp_path / "run", pairs_path=pairs, num_steps=30, learning_rate=1e-2, save_interval=30))
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["num_pairs"] == 4 and set(evaluation["figures"]) == {
        *("validation/accuracy", "validation/log_loss", "test/accuracy", "test/log_loss")
    }
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < 0.2 * records[0]["loss"]


def test_another_length_is_refused_where_the_rate_falls_over_it(tmp_path: Path) -> None:
    options = {"pairs_path": write_list(tmp_path / "pairs.pth", questions=9), "lr_schedule": "cosine"}
    train_critic.run(config(tmp_path / "run", **options, num_steps=1))
    with pytest.raises(RunDirectoryError, match="num_steps was 1, is 2"):
        train_critic.plan(config(tmp_path / "run", **options, num_steps=2, resume=True))


def test_a_dry_run_says_which_recordings_are_held_out(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_critic.plan(config(tmp_path / "run", dataset=str(tiny_models.dataset)))
    output = capsys.readouterr().out
    assert re.search(r"synthetic pairs from (\d+) motions of \1 recordings \(train: .*; test: ", output)
    other = write_list(tmp_path / "other.pth", questions=2)
    train_critic.plan(config(tmp_path / "run", pairs_path=write_list(tmp_path / "p.pth", 9), eval_pairs_path=other))
    assert "p.pth: 16 train, 2 validation, 4 test" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_too_few_groups_for_a_split_are_one_clear_error(tmp_path: Path) -> None:
    pairs = write_list(tmp_path / "few.pth", questions=3)
    with pytest.raises(UserError, match=r"few\.pth: no pair is left for the validation part"):
        train_critic.plan(config(tmp_path / "run", pairs_path=pairs))
    with pytest.raises(ValidationError, match=r"given, and of the choices c\.json a ninth is the test"):
        config(tmp_path / "run", pairs_path="c.json", eval_pairs_path=pairs)


def test_the_preset_of_the_critic_that_ships_is_the_job_s_own() -> None:
    preset = cli.load_preset(CriticConfig, "critic_small", "jobs.train_critic", save_dir="run")
    assert preset.critic.critic_dim_feat < 64 and preset.run.weights_dtype == "float16"


def test_a_training_may_start_from_a_critic_that_brings_its_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_critic(tmp_path / "start", small_critic())
    pairs = write_list(tmp_path / "pairs.pth", questions=9)
    start = {"pairs_path": pairs, "critic_checkpoint_path": str(tmp_path / "start"), "clip_frames": 32}
    values = {"save_dir": tmp_path / "run", "num_steps": 1, "batch_size": 2, "learning_rate": 1e-6}
    train_critic.run(CriticConfig.of(values, **start))
    before, after = small_critic().state_dict(), weights(tmp_path / "run")
    assert load_critic(tmp_path / "run").critic.config == small_critic().config
    assert all(torch.allclose(after[name], value, atol=1e-4) for name, value in before.items())
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(ValueError, match="critic_depth is of a new critic, and critic_checkpoint_path"):
        CriticConfig.of(values, **start, critic_depth=2)
    with pytest.raises(UserError, match=r"critic_window is 100 frames; the critic .* takes at most 64"):
        train_critic.plan(CriticConfig.of({**values, "save_dir": tmp_path / "new"}, **{**start, "clip_frames": 100}))
