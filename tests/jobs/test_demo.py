"""The demonstration does what is missing and nothing twice; the learning benchmark names what it misses."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import jobs.demo
from benchmarks import learning
from jobs.command_line import main as cli
from jobs.configs.demo import DemoConfig
from jobs.configs.grpo import GRPOConfig
from jobs.text import demonstration as demo
from jobs.text.grpo_measurement import ONE_TEXT
from jobs.text.grpo_prompts import evaluation_prompts
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow

TINY = {
    "job": "jobs.grpo",
    "num_steps": 1,
    "batch_size": 1,
    "group_size": 2,
    "num_prompts": 2,
    "num_eval_prompts": 2,
    "num_eval_samples": 2,
    "sampling_steps": 4,
    "max_motion_length": 96,
    "use_dense_reward": True,
}


class BegunError(Exception):
    """The training has begun."""


def tiny_demo(models: TinyModels, folder: Path) -> tuple[DemoConfig, dict[str, str]]:
    """A demonstration of tiny weights, and the weights."""
    preset = folder / "tiny.yaml"
    preset.write_text(yaml.safe_dump(TINY | {"dataset": str(models.dataset)}))
    weights = {"model_path": models.policy, "tmr_checkpoint_path": models.tmr, "judge_path": models.judge}
    config = DemoConfig(save_dir=folder / "demo", runtime="local", grpo_preset=str(preset))
    return config, {name: str(path) for name, path in weights.items()}


def page_data(page: str) -> dict[str, Any]:
    """The data of a page with motions."""
    return json.loads(page.split('id="data">')[1].split("</script>")[0])


def test_a_first_page_is_there_before_the_training(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, paths = tiny_demo(tiny_models, tmp_path)
    page = tmp_path / "demo_first_page.html"

    def begin(settings: GRPOConfig) -> None:
        assert not settings.run.save_dir.exists(), "only the run itself fills its folder"
        raise BegunError(page.read_text())

    monkeypatch.setattr("jobs.text.grpo_run.run", begin)
    capsys.readouterr()
    with pytest.raises(BegunError) as begun:
        demo.run_with(config, paths)
    assert page.absolute().as_uri() in capsys.readouterr().out

    settings = demo.run_settings(config, paths)
    prompts = evaluation_prompts(settings, HUMANML3D)
    shown = page_data(str(begun.value))["comparisons"]
    assert [row["title"] for row in shown] == [prompt.text for prompt in prompts]
    assert all(len(row["motions"]) == 2 for row in shown)


def test_a_second_demonstration_only_reports(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, paths = tiny_demo(tiny_models, tmp_path)
    capsys.readouterr()

    demo.run_with(config, paths)
    first = capsys.readouterr().out.splitlines()
    shown = page_data((tmp_path / "demo_first_page.html").read_text())["comparisons"][0]["motions"]["motion0"]
    with np.load(config.save_dir / "samples" / "before.npz") as before:
        joints = before["joints"][0, : shown["num_frames"]]
    counts = np.frombuffer(base64.b64decode(shown["joints"]), "<i2").reshape(joints.shape)
    assert np.abs(counts * shown["unit_m"] - joints).max() < 2e-3, "as in the report, before the training"
    written = {path: path.stat().st_mtime_ns for path in config.save_dir.rglob("*")}
    demo.run_with(config, paths)
    second = capsys.readouterr().out.splitlines()
    assert {path: path.stat().st_mtime_ns for path in config.save_dir.rglob("*")} == written
    assert second[-3:] == first[-3:]
    assert second[0].endswith("--fresh runs it again into a new folder")
    assert second[-3].startswith("Reward on 2 held-out prompts x 2 seeds: ")
    assert "judge's matching score" in second[-2]
    assert second[-1].startswith(f"Look at {config.save_dir / 'report.html'}")

    demo.check_run(demo.run_settings(config, paths), complete=True)
    assert "holds this run already, finished" in capsys.readouterr().out

    # One that was stopped before its report goes on; fresh ones and other options begin beside it.
    (config.save_dir / "report.html").unlink()
    assert demo.run_settings(config, paths).run.save_dir == config.save_dir
    assert not demo.finished(demo.run_settings(config, paths))
    (config.save_dir / "report.html").touch()
    for changes in ({"fresh": True}, {"num_steps": 2}):
        settings = demo.run_settings(config.model_copy(update=changes), paths).run
        assert (settings.save_dir.name, settings.resume) == ("demo-2", False)


def test_a_dry_run_says_what_would_be_done(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "tiny.yaml"
    preset.write_text(yaml.safe_dump(TINY | {"dataset": str(tiny_models.dataset), "max_motion_length": 196}))
    words = ["--save_dir", str(tmp_path / "demo"), "--weights_dir", str(tmp_path / "weights"), "--runtime", "local"]
    words += ["--grpo_preset", str(preset), "--dry_run"]

    assert cli.main(DemoConfig, jobs.demo.run, None, "jobs.demo", jobs.demo.plan, argv=words) == 0
    output = capsys.readouterr().out
    assert "judge_path: builtin, ships with this copy" in output
    assert f"{tmp_path / 'demo'}: the run begins, as by\n  python -m jobs.grpo --" in output
    assert "cluster: has room for this" in output

    monkeypatch.setattr("jobs.text.demonstration.builtin_names", lambda: ())
    assert cli.main(DemoConfig, jobs.demo.run, None, "jobs.demo", jobs.demo.plan, argv=words) == 0
    output = capsys.readouterr().out
    assert (
        f"model_path: would be trained first\n  python -m jobs.pretrain --save_dir {tmp_path}/weights/policy" in output
    )
    assert f"--model_path {tmp_path}/weights/policy" in output
    assert list(tmp_path.iterdir()) == [preset]


def test_presets_of_the_demonstration_fit_together() -> None:
    config = cli.load_preset(GRPOConfig, "demo", "jobs.grpo", save_dir="runs/demo")
    assert (config.policy.model_path, config.rewards.semantic.tmr_checkpoint_path, config.evaluation.judge_path) == (
        "builtin",
    ) * 3
    assert (
        config.policy.use_lora
        and config.rewards.semantic.use_dense_reward
        and config.rewards.physics.use_physics_reward
    )
    assert 0 < config.prompts.composite_fraction < 1
    assert config.sampling.composite_denoising == "composed"


def test_one_sample_per_prompt_has_no_spread_to_count_in(tmp_path: Path) -> None:
    row = {"before": 0.5, "after": 0.6, "interval": [0.05, 0.15]}
    rows = [row | {"name": name} for name in ("total", "joint_speed_mps", "diversity_m")]
    document = {"num_prompts": 2, "num_seeds": 1, "within_group_std": None, "rows": rows}
    for spread, end in ((None, "+0.150)."), (0.05, "+2.00 standard deviations of the base policy within a prompt.")):
        (tmp_path / "evaluation.json").write_text(json.dumps(document | {"within_group_std": spread}))
        assert demo.summary(tmp_path)[0].endswith(end)


def result(single: float = 0.8, composite: float = 0.7, low: float = 0.02, **after: float) -> dict[str, Any]:
    """A run whose base has .7 of single prompts and .6 of composite ones, and 1 of everything else."""
    names = ("judge_matching", "second_judge", "fid", "joint_speed_mps", "jerk_mps3", "diversity_m", "low_foot_skate")
    rows = {name: {"before": 1.0, "after": after.get(name, 1.0), "interval": [0.02, 0.2]} for name in names}
    totals = {
        kind: {"before": before, "after": now, "interval": [low, 0.2]}
        for kind, before, now in (("single", 0.7, single), ("composite", 0.6, composite))
    }
    mean = {"before": 0.65, "after": (single + composite) / 2, "interval": [low, 0.2]}
    own_text = {"before": 0.8, "after": after.get("logic_accuracy", 0.95)}
    untouched = [
        {"policy": "base", "note": f"{how}{ONE_TEXT}", "figures": {"fid": 2.0, "low_foot_skate": skate}}
        for how, skate in (("", 3.0), ("the base's own: all steps, ", 2.0))
    ]
    tuned = {
        "policy": "tuned",
        "note": "",
        "figures": {name: after.get(name, 1.0) for name in ("fid", "low_foot_skate")},
    }
    return {
        "seed": 10,
        "within_group_std": 0.1,
        "rows": rows | {"total": mean},
        "kinds": {kind: {"total": total, "logic_accuracy": own_text} for kind, total in totals.items()},
        "samplers": [*untouched, tuned],
    }


@pytest.mark.parametrize(
    ("after", "phrase"),
    [
        ({"single": 0.74}, "total reward of single prompts rose by 0.040, 0.020 too little"),
        ({"composite": 0.65}, "total reward of composite prompts rose by 0.050, 0.010 too little"),
        ({"logic_accuracy": 0.85}, "logic_accuracy is 0.850, 0.050 too little"),
        ({"fid": 1.4}, "fid is 0.70x that of the untouched base, 0.10 too much"),
        ({"low_foot_skate": 1.6}, "low_foot_skate is 0.80x that of the untouched base, 0.10 too much"),
        ({"judge_matching": 0.9}, "judge_matching changed by -0.1000"),
        ({"second_judge": 0.8}, "second_judge changed by -0.2000"),
        ({"joint_speed_mps": 0.85}, "joint_speed_mps changed by -15.0%, 5.0% too much"),
        ({"jerk_mps3": 1.15}, "jerk_mps3 changed by +15.0%, 5.0% too much"),
        ({"diversity_m": 0.8}, "diversity is 0.800x, 0.100 too little"),
    ],
)
def test_missed_targets_are_named_with_their_margin(after: dict[str, float], phrase: str) -> None:
    good = {"judge_matching": 1.01, "second_judge": 1.01}
    assert learning.missed_targets(result(**good)) == []
    assert learning.missed_targets(result(**(good | after))) == [f"seed 10: {phrase}"]
    assert learning.missed_targets(result(**good, low=-0.01)) == [
        f"seed 10: the interval of its rise of {kind} prompts begins at -0.0100, 0.0100 below 0"
        for kind in ("single", "composite")
    ]
    low = learning.missed_targets(result(**good) | {"rows": result(**good)["rows"] | {"total": {"after": 0.6}}})
    assert low == ["seed 10: total reward is 0.600, 0.060 too little"]


def test_results_are_written_with_the_commit(tmp_path: Path) -> None:
    learning.write_json(tmp_path / "learning.json", {"missed": ["seed 10: nothing"], "runs": [result()]})
    document = json.loads((tmp_path / "learning.json").read_text())
    assert document["missed"] == ["seed 10: nothing"] and "commit" in document
    assert document["runs"][0]["rows"]["fid"]["after"] == 1.0
