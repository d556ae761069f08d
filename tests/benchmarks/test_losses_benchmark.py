"""The comparison of policy losses: a whole run on tiny models, what is not repeated, and the interval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import losses
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from learners.grpo.motion_loss import chosen_loss
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow


def words(models: TinyModels, folder: Path, *more: str) -> list[str]:
    tiny = grpo_words(
        models, folder, save_dir=None, num_steps=None, runtime=None, sampling_steps=None, learning_rate=None,
        micro_batch_size=6, eval_sampling_steps=4, trained_levels=2,
    )  # fmt: skip
    places = [f"--save_dir={folder / 'runs'}", f"--output={folder / 'results'}"]
    return ["--seeds=1", "--cpu_seconds=0.01", "--only", "awm", *more, *places, *tiny]


def test_a_comparison_is_made_once(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = words(tiny_models, tmp_path, "--policy_loss=nft", "--sampling_steps=4")
    assert losses.main(own) == 0
    printed = capsys.readouterr().out
    assert "awm  1 update(s) of" in printed and "all, total: before" in printed and "95 %" in printed
    document = json.loads((tmp_path / "results" / "losses.json").read_text())
    result = document["variants"]["awm"]
    assert result["options"]["policy_loss"] == "nft", "options of the command line win"
    rows = result["kinds"]["all"]
    assert {"total", "judge_matching", "skate", "jerk", "joint_speed_mps", "fid", "diversity_m"} <= rows.keys()
    assert rows["total"]["after"] - rows["total"]["before"] == pytest.approx(rows["total"]["seeds"][0])
    assert rows["total"]["interval"][0] <= rows["total"]["seeds"][0] <= rows["total"]["interval"][1]
    kinds = [result["kinds"][kind]["total"]["before"] for kind in ("single", "composite")]
    assert min(kinds) <= rows["total"]["before"] <= max(kinds)
    assert [seconds for seconds, _ in result["held_out_curve"]] == pytest.approx([0, result["cpu_seconds_per_update"]])
    assert (tmp_path / "results" / "losses.png").stat().st_size > 0

    def never(config: object) -> None:
        raise AssertionError("all of it is there")

    monkeypatch.setattr(losses.grpo, "run", never)
    monkeypatch.setattr(losses, "cpu_seconds_per_update", never)
    assert losses.main(own) == 0
    assert json.loads((tmp_path / "results" / "losses.json").read_text())["variants"] == document["variants"]
    monkeypatch.setattr(losses, "cpu_seconds_per_update", lambda config: 1.0)
    with pytest.raises(AssertionError, match="all of it is there"):
        losses.main([*own, "--noise_draws=1"])  # another run, which `jobs.grpo` would refuse to put into this folder


@pytest.mark.parametrize("name", [*losses.VARIANTS, *losses.LEVELS])
def test_variants_are_legal(name: str, tmp_path: Path) -> None:
    changes = (losses.VARIANTS | losses.LEVELS)[name]
    config = cli.load_preset(GRPOConfig, "demo", "jobs.grpo", **{**losses.common(), **changes, "save_dir": tmp_path})
    assert config.grpo.decay_steps(7 * config.grpo.optimizer_steps(16)) == 7 * config.grpo.optimizer_steps(16)
    assert config.grpo.micro_batch_size >= config.grpo.group_size and callable(chosen_loss(config.grpo))


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    new = losses.plan(tmp_path, {}, 13, 6).run
    assert (new.resume, new.num_steps, new.eval_every, new.save_interval) == (False, 13, 3, 2)
    (tmp_path / "config.yaml").touch()
    assert losses.plan(tmp_path, {}, 13, 6).run.resume


def test_prompts_of_a_text_are_resampled_together() -> None:
    values = np.random.default_rng(0).normal(size=40)
    alone = losses.text_interval(values, [str(number) for number in range(40)])
    spread = values.std() / 40**0.5 * 1.96
    assert alone == pytest.approx((values.mean() - spread, values.mean() + spread), abs=0.05)
    doubled = losses.text_interval(np.tile(values, 2), [str(number) for number in range(40)] * 2)
    assert doubled == pytest.approx(alone), "the same prompts twice say nothing more"


@pytest.mark.parametrize(
    "wrong",
    [["--seeds", "0"], ["--points", "0"], ["--cpu_seconds", "0"], ["--only", "unknown"], ["--groop_size=3"]],
)
def test_mistakes_in_options_are_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        losses.main(wrong)
    assert wrong[-1].split("=")[0].lstrip("-") in capsys.readouterr().err
