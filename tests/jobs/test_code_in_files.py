"""Files of a checkpoint may name no code: only a user's own option imports a class."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from jobs import generate, grpo
from jobs.command_line import main as cli
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from tests.toys.tiny_models import TinyModels, grpo_words


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that leaves a file when it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "trap_for_tests.py").write_text(f"open({str(mark)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trap_for_tests", raising=False)
    return mark


def changed(path: Path, *keys: str) -> None:
    """Writes the name of a class under a key of a JSON file."""
    document = json.loads(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = "trap_for_tests:Class"
    path.write_text(json.dumps(document))


def error_of(words: list[str], job: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command is refused."""
    capsys.readouterr()
    if job == "grpo":
        status = cli.main(GRPOConfig, grpo.run, None, "jobs.grpo", grpo.dry_run, argv=words)
    else:
        status = cli.main(GenerateConfig, generate.run, None, "jobs.generate", generate.plan, argv=words)
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    return line


@pytest.mark.parametrize(
    ("field", "option"),
    [("arch", "arch"), ("text_encoder_type", "text_encoder"), ("sampler", "sampler"), ("eval_sampler", "sampler")],
)
@pytest.mark.parametrize("dry", [[], ["--dry_run"]])
def test_a_policy_that_names_a_class_is_refused_unless_the_user_names_it(
    tiny_models: TinyModels, tmp_path: Path, trap: Path, field: str, option: str, dry: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    policy = tmp_path / "policy"
    shutil.copytree(tiny_models.policy, policy)
    changed(policy / "args.json", field)
    words = ["--model_path", str(policy), "--text", "walks", "--save_dir", str(tmp_path / "out"), *dry]
    line = error_of(words, "generate", capsys)
    assert f"{policy / 'args.json'}: {field.removeprefix('eval_')} is 'trap_for_tests:Class', a class to import" in line
    assert line.endswith(f"give --{option} trap_for_tests:Class")
    assert not trap.exists() and not (tmp_path / "out").exists()
    assert "has no attribute 'Class'" in error_of([*words, f"--{option}=trap_for_tests:Class"], "generate", capsys)
    assert trap.exists()


@pytest.mark.parametrize(
    ("part", "option"), [("tmr_checkpoint_path", "tmr_text_model"), ("judge_path", "judge_text_model")]
)
def test_a_tmr_that_names_a_class_is_refused_unless_the_user_names_it(
    tiny_models: TinyModels, tmp_path: Path, trap: Path, part: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tmr"
    shutil.copytree(tiny_models.tmr, folder)
    changed(folder / "config.json", "data", "text_to_token_emb", "modelname")
    words = [*grpo_words(tiny_models, tmp_path / "out", **{part: folder}), "--dry_run"]
    line = error_of(words, "grpo", capsys)
    assert f"TMR {folder}: modelname of config.json is 'trap_for_tests:Class', a class to import" in line
    assert f"--{option}" in line and not trap.exists()
    assert "has no attribute 'Class'" in error_of([*words, f"--{option}=trap_for_tests:Class"], "grpo", capsys)
    assert trap.exists()
