"""`jobs.train_physics_ssm`: the public command on data in KIT-ML's format, resuming, starts, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jobs import train_physics_ssm
from jobs.command_line import main as cli
from jobs.ssm.epochs import EpochBatches
from jobs.ssm.refiner_settings import PhysicsSSMConfig
from motions.data.dataset import load_dataset
from motions.skeleton.skeletons import KIT
from rollouts.refining.checkpoints import load_refiner
from rollouts.refining.public_files import load_public_network
from tests.jobs.ssm.kit_folder import NUM_FRAMES, write_kit
from tests.rollouts.refining.public_refiner import public_state

pytestmark = pytest.mark.slow

SMALL = {"d_model": 16, "d_state": 4, "n_layers": 1, "epochs": 2, "save_every": 1, "batch_size": 3, "max_frames": 24}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kit(tmp_path_factory.mktemp("data") / "KIT-ML")


def config(data: Path, folder: Path, **changes: object) -> PhysicsSSMConfig:
    return PhysicsSSMConfig.of({**SMALL, "data_dir": str(data), "save_dir": folder, "device": "cpu", **changes})


def command(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of a command line."""
    code = cli.main(
        PhysicsSSMConfig,
        train_physics_ssm.run,
        "",
        "jobs.train_physics_ssm",
        train_physics_ssm.plan,
        argv=words.split(),
    )
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "physics_ssm.safetensors")


def test_the_public_command_runs(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own options and defaults, but for a network and a length that a test has time for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "KIT-ML").symlink_to(kit)
    public = "--epochs 100 --batch-size 16 --lr 5e-5 --lambda-physics 0.1 --device cpu"
    code, said = command(f"{public} --dry-run", capsys)
    assert code == 0 and "100 steps: 100 epochs of 1" in said and "skeleton kit, 12.5 frames/s" in said
    assert "checkpoints/physics_ssm: new" in said
    smaller = public.replace("--epochs 100", "--epochs 2")
    code, said = command(f"{smaller} --d-model 16 --d-state 4 --n-layers 1 --save-every 1 --grad-clip 0.5", capsys)
    assert code == 0, said
    folder = tmp_path / "checkpoints" / "physics_ssm"
    refiner = load_refiner(folder)
    assert refiner.skeleton == KIT and refiner.network.config.d_model == 16
    provenance = json.loads((folder / "config.json").read_text())["provenance"]
    assert provenance["lambda_physics"] == 0.1 and provenance["step"] == 2
    assert (folder / "best").is_dir(), "the best one by the loss of val.txt"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("gate_mean" in row for row in rows)
    moved = refiner.refine(np.zeros((1, 9, 251), np.float32), np.array([9]))
    assert np.isfinite(moved).all()
    start = f"{smaller} --resume-from {folder} --checkpoint-dir second"
    code, said = command(start, capsys)
    assert code == 0, said
    code, said = command(f"{start} --d-model 32", capsys)
    assert code == 2 and "d_model is of a new refiner, and refiner_path" in said


def test_underscores_are_as_good_as_dashes(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of the public command, and none of them ignored."""
    dashes = (
        f"--epochs 100 --batch-size 2 --lr 5e-5 --lambda-physics 0.1 --device cpu --data-dir {kit} --d-model 16"
        f" --d-state 4 --n-layers 1 --save-every 3 --grad-clip 0.5 --checkpoint-dir {tmp_path / 'here'} --dry-run"
    )
    underscores = " ".join(
        word.replace("-", "_").replace("__", "--", 1) if word.startswith("--") else word for word in dashes.split()
    )
    assert "--lambda_physics" in underscores and "--batch-size" not in underscores
    code, said = command(dashes, capsys)
    assert code == 0, said
    for line in ("epochs: 100", "batch_size: 2", "lambda_physics: 0.1", "d_model: 16", "d_state: 4", "n_layers: 1"):
        assert line in said, said
    assert str(tmp_path / "here") in said and not (tmp_path / "here").exists()
    assert command(underscores, capsys) == (0, said)


def test_a_stopped_training_goes_on_to_the_same_bits(kit: Path, tmp_path: Path) -> None:
    train_physics_ssm.run(config(kit, tmp_path / "whole", lr_schedule="constant"))
    train_physics_ssm.run(config(kit, tmp_path / "parts", lr_schedule="constant", epochs=1))
    first = weights(tmp_path / "parts")
    train_physics_ssm.run(config(kit, tmp_path / "parts", lr_schedule="constant", resume=True))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not all(torch.equal(whole[name], first[name]) for name in whole)


def test_an_epoch_shows_every_motion_once(kit: Path) -> None:
    items = load_dataset(str(kit)).items("train")
    assert [item.num_frames for item in items].count(25) == 1, "the caption with a span is a motion of its own"
    batches = EpochBatches(items, batch_size=2, max_frames=20, seed=3)
    assert batches.steps_per_epoch == 3
    seen = [text for step in range(3) for text in batches.batch(step).texts]
    assert sorted(seen) == sorted(item.captions[0] for item in items)
    later = batches.batch(4)
    assert np.array_equal(later.features, EpochBatches(items, 2, 20, 3).batch(4).features)
    assert later.features.shape == (2, 20, 251)
    assert [text for step in range(3, 6) for text in batches.batch(step).texts] != seen


@pytest.mark.parametrize(
    ("gate", "constraints", "message"),
    [
        ("concat", "state", None),
        ("none", "state", None),
        ("sigmoid", "projected", "constraints is projected, which plants the feet of skeleton humanml3d"),
        ("none", "projected", "constraints is projected and gate none"),
    ],
)
def test_forms_of_the_network(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], gate: str, constraints: str, message: str | None
) -> None:
    sizes = " ".join(f"--{name} {value}" for name, value in SMALL.items())
    words = (
        f"{sizes} --epochs 1 --gate {gate} --constraints {constraints} --data_dir {kit} --save_dir {tmp_path / 'run'}"
    )
    code, said = command(words.replace("--epochs 2 ", ""), capsys)
    if message is None:
        assert code == 0 and load_refiner(tmp_path / "run").network.config.gate == gate
    else:
        assert code == 2 and message in said


def test_a_training_starts_from_public_weights(kit: Path, tmp_path: Path) -> None:
    torch.save(public_state(), tmp_path / "best_model.pt")
    values = {"epochs": 1, "batch_size": 8, "data_dir": str(kit), "device": "cpu", "learning_rate": 1e-12}
    run = PhysicsSSMConfig.of({**values, "save_dir": tmp_path / "run", "resume_from": tmp_path / "best_model.pt"})
    train_physics_ssm.run(run)
    begun = load_public_network(tmp_path / "best_model.pt", KIT).state_dict()
    for name, value in weights(tmp_path / "run").items():
        torch.testing.assert_close(value, begun[name], rtol=0, atol=1e-6)


def test_bad_input_is_one_clear_error(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_kit(tmp_path / "kit")

    def refused(message: str, more: str = "") -> None:
        code, said = command(f"--data-dir {folder} --save_dir {tmp_path / 'run'} --dry_run {more}", capsys)
        assert code == 2 and message in said and said.count("error") <= 1, said

    clip = folder / "new_joint_vecs" / "00001.npy"
    features = np.load(clip)
    np.save(clip, np.zeros((NUM_FRAMES, 263), np.float32))
    refused("00001.npy has shape (36, 263); expected [T, 251] for kit")
    np.save(clip, features)
    statistics = np.load(folder / "Std.npy")
    np.save(folder / "Std.npy", np.ones(263, np.float32))
    refused("mean has 251 numbers but std has 263")
    np.save(folder / "Std.npy", statistics)
    text = folder / "texts" / "00001.txt"
    whole = text.read_text()
    text.write_text("a person turns.#a/DET#5.0#9.0\n")
    refused("00001.txt: caption 1 is of 5 to 9 s, and the clip lasts 2.88 s")
    text.write_text(whole)
    for path in (folder / "new_joint_vecs").glob("*.npy"):
        np.save(path, features[:20])
    refused("have under 24 or at least 200 frames; none is left")
    code, said = command(f"--data-dir nowhere --save_dir {tmp_path / 'run'}", capsys)
    assert code == 2 and "dataset 'nowhere' is neither 'builtin' nor a folder" in said
