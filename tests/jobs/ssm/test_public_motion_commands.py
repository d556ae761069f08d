"""The public project's command for TextToMotionSSM, on data in KIT-ML's true format, and on data that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import train_motion_ssm
from jobs.command_line import main as cli
from jobs.ssm.settings import MotionSSMConfig
from rollouts.checkpoints.motion_ssm_files import load_motion_ssm
from tests.jobs.ssm.kit_folder import NUM_FRAMES, write_kit

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


def test_underscores_are_as_good_as_dashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_kit(tmp_path / "data" / "KIT-ML")
    more = "--checkpoint-dir here --d-model 16 --d-state 4 --n-layers 1 --save-every 2 --grad-clip 0.5 --dry-run"
    dashes = f"{PUBLIC} {more}"
    underscores = " ".join(
        word.replace("-", "_").replace("__", "--", 1) if word.startswith("--") else word for word in dashes.split()
    )
    assert "--data_dir" in underscores and "--batch-size" not in underscores
    code, said = command(dashes, capsys)
    assert code == 0 and "num_steps: 250" in said and "d_model: 16" in said, said
    assert command(underscores, capsys) == (0, said)


def test_bad_input_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data of another width, short clips, foreign statistics and captions of times that are not there."""
    folder = write_kit(tmp_path / "kit")

    def refused(message: str, data: Path = folder) -> None:
        code, said = command(f"--data_dir {data} --save_dir {tmp_path / 'run'} --dry_run", capsys)
        assert code == 2 and message in said and said.count("error") <= 1, said
        assert not (tmp_path / "run").exists()

    clip, text = folder / "new_joint_vecs" / "00001.npy", folder / "texts" / "00001.txt"
    features, words, mean = np.load(clip), text.read_text(), np.load(folder / "Mean.npy")
    np.save(clip, np.zeros((NUM_FRAMES, 263), np.float32))
    refused("00001.npy has shape (36, 263); expected [T, 251] for kit")
    np.save(clip, features)
    (folder / "dataset.json").write_text(json.dumps({"skeleton": "humanml3d"}))
    refused("Mean.npy: shape (251,), expected (263,)")
    (folder / "dataset.json").unlink()
    np.save(folder / "Mean.npy", np.zeros(263, np.float32))
    refused("mean has 263 numbers but std has 251")
    np.save(folder / "Mean.npy", mean)
    text.write_text("a person turns.#a/DET#5.0#9.0\n")
    refused("00001.txt: caption 1 is of 5 to 9 s, and the clip lasts 2.88 s")
    text.write_text(words)
    for path in (folder / "new_joint_vecs").glob("*.npy"):
        np.save(path, features[:23])
    refused("have under 24 or at least 200 frames; none is left")
