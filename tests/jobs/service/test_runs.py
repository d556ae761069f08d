"""Lists of runs, and runs that go on from their directory alone."""

from __future__ import annotations

import functools
import json
import operator
import os
import sys
from pathlib import Path

import pytest
import yaml

from cluster.records.run import open_run
from jobs import pretrain, resume, runs
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.service.runs import ResumeConfig, RunsConfig
from jobs.configs.trpo import TRPOJobConfig
from jobs.service.runs import found_runs, summary
from motions.base.errors import UserError
from motions.base.plain_yaml import plain_yaml
from motions.settings import Settings, options_of
from tests.toys.tiny_models import TinyModels, pretrain_config

pytestmark = pytest.mark.slow


def listed(folder: Path, *words: str) -> int:
    return cli.main(RunsConfig, runs.run, runs.__doc__, "jobs.runs", argv=[str(folder), *words])


def resumed(*words: str) -> int:
    return cli.main(ResumeConfig, resume.run, resume.__doc__, "jobs.resume", plan=resume.plan, argv=list(words))


def a_run(folder: Path, tiny_models: TinyModels, *, step: int = 0, ended: bool = False) -> PretrainConfig:
    """The directory of a pretraining as far as a list of runs reads it."""
    config = pretrain_config(tiny_models.dataset, folder, num_steps=4)
    with open_run(config.run, config, "data", 4) as opened:
        for one in range(1, step + 1):
            opened.record(one, {"loss": 1.0 / one, "grad_norm": 2.0})
        if step:
            opened.checkpoint(step, {})
    if ended:
        (folder / "report.html").touch()
        os.utime(folder / "report.html", (2e9, 2e9))
    return config


def test_runs_are_listed_with_state_step_and_metrics(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path / "b" / "finished", tiny_models, step=4, ended=True)
    a_run(tmp_path / "stopped", tiny_models, step=2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("compose: {}\n")
    capsys.readouterr()
    config = pretrain_config(tiny_models.dataset, tmp_path / "running", num_steps=4)
    with open_run(config.run, config, "data", 4):
        assert listed(tmp_path, "--json_lines") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = [(os.path.relpath(one["folder"], tmp_path), one["job"], one["state"], one["step"]) for one in found]
    assert shown == [
        ("b/finished", "pretrain", "finished", 4),
        ("running", "pretrain", "running", 0),
        ("stopped", "pretrain", "stopped", 2),
    ]
    assert found[0]["metrics"] == {"loss": 0.25, "grad_norm": 2.0} and found[0]["num_steps"] == 4

    assert listed(tmp_path, "--metrics", "grad_norm") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["RUN", "TRAINING", "STATE", "STEP", "METRICS"]
    assert table[1].split() == ["b/finished", "pretrain", "finished", "4/4", "grad_norm", "2"]


def test_a_finished_run_that_was_lengthened_is_not_finished(tiny_models: TinyModels, tmp_path: Path) -> None:
    a_run(tmp_path, tiny_models, step=4, ended=True)
    assert summary(tmp_path).state == "finished"
    os.utime(tmp_path / "report.html", (1e9, 1e9))
    assert summary(tmp_path).state == "stopped"


def test_runs_inside_a_run_are_its_own(tiny_models: TinyModels, tmp_path: Path) -> None:
    a_run(tmp_path, tiny_models, step=1)
    a_run(tmp_path / "clone", tiny_models, step=1)
    assert list(found_runs(tmp_path)) == [tmp_path]


def test_a_folder_without_runs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(tmp_path) == 2
    assert "there is no run in it" in capsys.readouterr().err
    assert listed(tmp_path / "gone") == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_run_goes_on_from_its_directory_alone(tiny_models: TinyModels, tmp_path: Path) -> None:
    """With another length that is given by `--set`, bit for bit the run that was planned so."""
    place, whole = tmp_path / "run", tmp_path / "whole"
    pretrain.run(pretrain_config(tiny_models.dataset, place, num_steps=2))
    pretrain.run(pretrain_config(tiny_models.dataset, whole, num_steps=4))
    assert resumed(str(place), "--set", "num_steps=4") == 0
    metrics = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (place, whole)
    ]
    assert metrics[0] == metrics[1] and len(metrics[0]) == 4
    assert summary(place).state == "finished"
    assert yaml.safe_load((place / "config.yaml").read_text())["run"]["num_steps"] == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("arch", "trap_for_tests:Class"),
        ("extra_rewards", ["trap_for_tests:Class=0.5"]),
        ("env_id", "trap_for_tests:A-v0"),
    ],
)
def test_a_run_that_names_a_class_is_refused_unless_the_user_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, value: object
) -> None:
    """A downloaded run directory runs no code, with `--dry_run` and without."""
    mark = tmp_path / "imported"
    (tmp_path / "trap_for_tests.py").write_text(f"open({str(mark)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trap_for_tests", raising=False)
    model: type[Settings] = TRPOJobConfig if option == "env_id" else GRPOConfig
    folder = tmp_path / "run"
    options = yaml.safe_load(cli.settings_yaml(model.of({"save_dir": str(folder)})))
    (place,) = [path for path in options_of(model) if path.rpartition(".")[2] == option]
    *groups, name = place.split(".")
    functools.reduce(operator.getitem, groups, options)[name] = value
    folder.mkdir()
    (folder / "config.yaml").write_text(plain_yaml(options))
    for dry in ([], ["--dry_run"]):
        assert resumed(str(folder), *dry) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{folder / 'config.yaml'}: {option} is 'trap_for_tests:" in line and "a class to import" in line
        assert not mark.exists() and os.listdir(folder) == ["config.yaml"]
    given = line.partition("--set '")[2].removesuffix("'")
    assert resumed(str(folder), "--set", given, "--dry_run") == 2
    assert "a class to import" not in capsys.readouterr().err and mark.exists()


def test_what_cannot_go_on(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resumed(str(tmp_path)) == 2
    assert "holds no run" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text(plain_yaml({"run": {}, "wheels": 4}))
    assert resumed(str(tmp_path)) == 2
    assert "those of no training" in capsys.readouterr().err
    a_run(tmp_path / "run", tiny_models, step=1)
    for words, message in (
        ("num_stps=4", "did you mean --num_steps"),
        ("num_steps", "expected OPTION=VALUE"),
        ("num_steps=none", "--num_steps"),
        ("num_steps=[", "not a YAML value"),
    ):
        assert resumed(str(tmp_path / "run"), "--set", words) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError):
        list(found_runs(tmp_path / "run" / "config.yaml"))
