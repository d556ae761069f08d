"""A search is checked before anything starts: each mistake is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import sweep
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.sweeps import searching
from jobs.sweeps.metrics import reported_metrics
from jobs.trainings.sweep import DEFAULT_METRICS, SweepConfig
from jobs.trainings.training_jobs import CONFIGS, SEARCHABLE, job_of
from motions.base.errors import UserError
from motions.base.plain_yaml import plain_yaml
from motions.settings import options_of


def dry(folder: Path, space: object, *words: str) -> int:
    """The exit code of a dry run with the preset `demo`."""
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(space))
    argv = ["--preset", "demo", "--space", str(file), "--save_dir", str(folder / "sweep"), "--dry_run", *words]
    return cli.main(SweepConfig, sweep.run, sweep.__doc__, "jobs.sweep", plan=sweep.plan, argv=argv)


RANGE = {"uniform": [0.001, 0.1]}


@pytest.mark.parametrize(
    ("space", "words", "message"),
    [
        ({"kl_penality": RANGE}, (), "unknown option 'kl_penality'; did you mean --kl_penalty"),
        ({"kl_penalty": {"uniform": [0.1, 0.1]}}, (), "grpo.kl_penalty: uniform [0.1, 0.1] is an empty range"),
        ({"kl_penalty": {"uniform": [-1, 0.1]}}, (), "--kl_penalty -1.0 (of "),
        ({"group_size": {"choice": [8, "many"]}}, (), "--group_size many (of "),
        ({"kl_penalty": 0.1}, (), "nothing to search"),
        ({"kl_penalty": RANGE, "num_steps": 0}, (), "--num_steps 0 ("),
        ({"kl_penalty": RANGE}, ("--set", "num_stps=4"), "did you mean --num_steps"),
        ({"kl_penalty": RANGE}, ("--metric", "evaluation/totl"), "did you mean evaluation/total"),
        ({"kl_penalty": RANGE}, ("--metric", "evaluation/judge_matching", "--set", "judge_path=none"), "no trial of"),
        ({"kl_penalty": RANGE}, ("--against", "min:final/fidd"), "did you mean final/fid"),
        ({"kl_penalty": RANGE}, ("--against", "final/fid"), "expected min:METRIC or max:METRIC"),
        ({"beta_p": RANGE}, ("--metric", "evaluation/total"), "beta_p, which the space changes"),
        ({"save_dir": {"choice": ["a", "b"]}}, (), "save_dir is set by the search itself"),
        ({"kl_penalty": RANGE}, ("--search", "grid"), "has no end of values"),
        ({"kl_penalty": RANGE}, ("--search", "grid", "--num_trials", "3"), "one trial for each point"),
        ({"group_size": {"choice": [8, 16]}}, ("--scheduler", "pbt"), "needs a uniform or log_uniform"),
        ({"kl_penalty": RANGE}, ("--job", "sft"), "unknown option 'kl_penalty'"),
    ],
)
def test_mistakes_of_a_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], space: object, words: tuple[str, ...], message: str
) -> None:
    assert dry(tmp_path, space, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_a_dry_run_says_what_would_be_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"kl_penalty": {"choice": [0.1, 0.2]}, "group_size": {"integers": [8, 10]}, "num_steps": 4}
    assert dry(tmp_path, space, "--search", "grid") == 0
    printed = capsys.readouterr().out
    assert "6 trials of jobs.grpo, max evaluation/total" in printed
    assert "run.num_steps: 4 in all trials" in printed
    assert "each trial reserves 1 CPU" in printed


def config_of(folder: Path, space: object, *words: str) -> SweepConfig:
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(space))
    argv = ["--preset", "demo", "--space", str(file), "--save_dir", str(folder / "sweep"), *words]
    return cli.parse(SweepConfig, argv, "jobs.sweep").settings


def test_where_the_space_changes_rewards_the_judge_decides(tmp_path: Path) -> None:
    prepared = searching.prepare(config_of(tmp_path, {"beta_p": RANGE}))
    assert prepared.plan.metric == "evaluation/judge_matching"
    assert searching.prepare(config_of(tmp_path, {"kl_penalty": RANGE})).plan.metric == "evaluation/total"


def test_trials_run_in_one_process_and_report_as_asked(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"kl_penalty": RANGE}, "--report_every", "7", "--scheduler", "pbt")
    prepared = searching.prepare(config)
    settings = prepared.trials.settings({"grpo.kl_penalty": 0.05}, tmp_path / "t", ("grpo.kl_penalty",))
    assert isinstance(settings, GRPOConfig)
    assert settings.cluster.runtime == "local" and settings.run.resume
    assert (settings.run.save_interval, settings.run.eval_every, prepared.plan.grace_steps) == (7, 7, 7)
    assert settings.run.keep_checkpoints > 1000 and settings.grpo.kl_penalty == 0.05
    assert settings.run.allow_changed == ("grpo.kl_penalty",)
    # Everything else is the preset's.
    assert settings.grpo.learning_rate == 3e-3


def test_a_folder_belongs_to_one_search(tmp_path: Path) -> None:
    folder, space = tmp_path / "sweep", {"kl_penalty": RANGE}
    prepared = searching.prepare(config_of(tmp_path, space))
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no search"):
        searching.prepare(config_of(tmp_path, space))
    (folder / "sweep.yaml").write_text(plain_yaml(prepared.document()))
    with pytest.raises(UserError, match="continue it with --resume"):
        searching.prepare(config_of(tmp_path, space))
    searching.prepare(config_of(tmp_path, space, "--resume"))
    with pytest.raises(UserError, match=r"holds another search: search\.num_trials differ"):
        searching.prepare(config_of(tmp_path, space, "--resume", "--num_trials", "3"))
    with pytest.raises(UserError, match="holds another search: space differ"):
        searching.prepare(config_of(tmp_path, {"kl_penalty": {"uniform": [0.001, 0.2]}}, "--resume"))


@pytest.mark.parametrize("name", searching.spaces())
def test_shipped_spaces_can_be_searched(name: str, tmp_path: Path) -> None:
    config = cli.parse(
        SweepConfig, ["--preset", "demo", "--space", name, "--save_dir", str(tmp_path / "sweep")], "jobs.sweep"
    ).settings
    prepared = searching.prepare(config)
    assert {path.rpartition(".")[2] for path in prepared.space.domains} >= {"alpha", "beta_p", "kl_penalty"}


NEEDED: dict[str, dict[str, Any]] = {
    **{job: {"motion": ["walk"]} for job in ("sft", "world_model", "deepmimic")},
    "tune_mdm": {"model_path": "save/humanact12/model000010000.pt"},
}
"""Options that a training cannot do without, besides `save_dir`."""


def test_every_searchable_training_has_a_metric_of_its_own(tmp_path: Path) -> None:
    for job in SEARCHABLE:
        config = CONFIGS[job].of(save_dir=tmp_path, **NEEDED.get(job, {}))
        assert DEFAULT_METRICS[job][0] in reported_metrics(job, config)


def test_a_run_says_by_its_options_which_training_it_is(tmp_path: Path) -> None:
    for job, config in CONFIGS.items():
        settings = config.of(save_dir=tmp_path, **NEEDED.get(job, {}))
        folder = tmp_path / job
        folder.mkdir()
        (folder / "config.yaml").write_text(plain_yaml(settings.model_dump(mode="json")))
        assert job_of(folder) == job, options_of(config)
    with pytest.raises(UserError, match="holds no run"):
        job_of(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1\n")
    with pytest.raises(UserError, match="those of no training"):
        job_of(tmp_path)
