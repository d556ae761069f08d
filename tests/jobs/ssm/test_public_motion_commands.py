"""The public project's command for TextToMotionSSM, on data in KIT-ML's true format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import train_motion_ssm
from jobs.command_line import main as cli
from jobs.ssm.settings import MotionSSMConfig
from rollouts.checkpoints.motion_ssm_files import load_motion_ssm
from tests.jobs.ssm.kit_folder import write_kit

pytestmark = pytest.mark.slow
PUBLIC = "--epochs 250 --batch-size 16 --lr 5e-5 --data-dir data/KIT-ML --device cpu"
"""Verbatim but for the device."""


def command(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of a command line."""
    parts = (MotionSSMConfig, train_motion_ssm.run, "", "jobs.train_motion_ssm", train_motion_ssm.plan)
    code = cli.main(*parts, argv=words.split())
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_public_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own options and defaults, but for a network and a length that a test has time for."""
    monkeypatch.chdir(tmp_path)
    write_kit(tmp_path / "data" / "KIT-ML")
    code, said = command(f"{PUBLIC} --dry-run", capsys)
    assert code == 0 and "skeleton kit, 12.5 frames/s" in said, said
    assert "checkpoints/motion_ssm: new" in said and "num_steps: 250" in said
    sizes = "--d-model 16 --d-state 4 --n-layers 1 --save-every 1 --grad-clip 0.5 --text-encoder words"
    code, said = command(f"{PUBLIC.replace('--epochs 250', '--epochs 2')} {sizes}", capsys)
    assert code == 0, said
    found = load_motion_ssm(tmp_path / "checkpoints" / "motion_ssm")
    assert found.skeleton.name == "kit" and found.network.num_features == 251
    assert {"person", "walks", "turns", "."} <= set(found.words)
    provenance = json.loads((tmp_path / "checkpoints" / "motion_ssm" / "config.json").read_text())["provenance"]
    assert provenance["step"] == 2
