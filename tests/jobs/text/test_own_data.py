"""Training on own clips: from a policy that is there, as long as data and machine ask for, with a validation loss."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from jobs import pretrain
from jobs.command_line import main as cli
from jobs.configs.pretrain import PretrainConfig
from jobs.text import sizing
from motions.base.errors import UserError
from motions.settings import flat_values
from motions.skeleton.skeletons import KIT
from rollouts.checkpoints.loading import load_base
from rollouts.settings import PolicySettings
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow


@pytest.fixture
def dataset(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """The tiny data with its test split as validation split, too."""
    shutil.copytree(tiny_models.dataset, tmp_path / "data")
    shutil.copyfile(tmp_path / "data" / "test.txt", tmp_path / "data" / "val.txt")
    return tmp_path / "data"


def own_data(dataset: Path, folder: Path, **changes: object) -> PretrainConfig:
    values: dict[str, object] = {"dataset": str(dataset), "save_dir": folder, "num_samples": 0, "num_steps": 4}
    values |= {"save_interval": 1}
    return cli.load_preset(PretrainConfig, "own_data", "jobs.pretrain", **(values | changes))


def weights(path: str | Path, use_ema: bool | None = None) -> dict[str, torch.Tensor]:
    return load_base(PolicySettings(model_path=str(path), use_lora=False, use_ema=use_ema)).network.state_dict()


def test_the_preset_continues_the_shipped_policy_on_own_clips(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain.run(own_data(dataset, tmp_path / "run", learning_rate=1e-9, warmup_steps=0))
    assert "starting from MDM from" in capsys.readouterr().out
    before, after = weights("builtin"), weights(tmp_path / "run", use_ema=False)
    assert before.keys() == after.keys()
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-6
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    losses = [json.loads(line)["validation_loss"] for line in lines]
    assert len(losses) == 4 and max(losses) - min(losses) < 1e-5 and 0 < losses[0] < 1
    # The newest two checkpoints, and of the others not even the model.
    assert sorted(path.name for path in (tmp_path / "run").glob("model*.pt")) == [
        "model000000003.pt",
        "model000000004.pt",
    ]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2
    assert len(list((tmp_path / "run" / "best").iterdir())) == 1


def test_the_length_follows_from_the_data_and_the_time_and_stays_when_it_is_resumed(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"dataset": str(dataset), "save_dir": tmp_path / "run", "model_path": "builtin", "num_samples": 0}
    values |= {"passes": 400, "max_hours": 1, "batch_size": 4, "max_frames": 40}
    monkeypatch.setattr(sizing, "seconds_a_step", lambda learner, update: 600.0)
    pretrain.run(PretrainConfig.of(values))
    out = capsys.readouterr().out
    assert "6 steps, fewer than the" in out and "about 60 minutes on this machine, 600 s a step" in out
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert flat_values(PretrainConfig, written)["num_steps"] == 6
    assert (tmp_path / "run" / "model000000006.pt").is_file()
    # Another machine, or a busy one.
    monkeypatch.setattr(sizing, "seconds_a_step", lambda learner, update: 1.0)
    pretrain.run(PretrainConfig.of(values | {"resume": True}))
    assert (tmp_path / "run" / "model000000006.pt").is_file()


def test_steps_of_passes_over_clips(tmp_path: Path) -> None:
    config = PretrainConfig.of(save_dir=tmp_path, passes=10, batch_size=16, max_hours=0.5)
    assert sizing.steps_by_data(config, 1000) == 625
    assert sizing.steps_by_data(config, 3) == sizing.LEAST_STEPS
    assert sizing.fitting_steps(config, 625, 1.0) == 625
    assert sizing.fitting_steps(config, 625, 10.0) == 180
    assert sizing.fitting_steps(config, 625, 1e6) == 1
    given = PretrainConfig.of(save_dir=tmp_path, passes=10, num_steps=7, max_hours=0.5)
    assert sizing.steps_by_data(given, 1000) == 7 and sizing.fitting_steps(given, 7, 1e6) == 7
    assert sizing.describe_time(100, 100, 0.5) == "100 steps: about 50 seconds on this machine, 0.5 s a step"
    assert "2.8 hours" in sizing.describe_time(10_000, 10_000, 1.0)


def test_timing_changes_nothing(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain.run(own_data(dataset, tmp_path / "plain"))
    monkeypatch.setattr(sizing, "is_worth_timing", lambda num_steps: True)
    pretrain.run(own_data(dataset, tmp_path / "timed"))
    plain, timed = weights(tmp_path / "plain"), weights(tmp_path / "timed")
    assert all(torch.equal(plain[name], timed[name]) for name in plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 2}, r"layers is of a new network, and model_path builtin has its own"),
        ({"max_frames": 400}, r"max_frames is 400; model_path builtin has room for 255 frames"),
        ({"passes": None}, r"max_hours shortens a training whose length is given by passes"),
        ({"cond_mask_prob": 0, "num_samples": 1}, r"cond_mask_prob is 0: .*give --guidance_scale 1"),
        ({"text_encoder": "clip", "text_encoder_path": "/nowhere"}, r"text_encoder_path is '/nowhere': no such folder"),
    ],
)
def test_what_does_not_fit_is_refused(dataset: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain.plan(own_data(dataset, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_policy_of_another_skeleton_is_refused(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_base(PolicySettings(model_path="builtin", use_lora=False))
    monkeypatch.setattr("jobs.text.pretraining.load_base", lambda settings: replace(loaded, skeleton=KIT))
    with pytest.raises(
        UserError, match=r"model_path builtin has skeleton kit, dataset .* humanml3d; --model_path none"
    ):
        pretrain.plan(own_data(dataset, tmp_path / "run"))
