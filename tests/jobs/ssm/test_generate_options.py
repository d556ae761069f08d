"""`jobs.generate --refiner` and `--policy_type retrieval`: what they write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from jobs import generate
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_GENERATE
from jobs.configs.generate import GenerateConfig
from motions.data.dataset import load_dataset
from motions.humanoid.physics_state import StateStatistics
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton
from rollouts.refining.checkpoints import save_refiner
from rollouts.refining.network import RefinerConfig, RefinerNetwork
from rollouts.refining.refiner import Refiner
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow


def refiner_folder(folder: Path, skeleton: Skeleton = HUMANML3D, *, lift: float = 0.0) -> Path:
    """A refiner that raises the root by `lift` standard deviations, and changes nothing else."""
    network = RefinerNetwork(RefinerConfig(skeleton.num_features, d_model=8, d_state=2, n_layers=1))
    nn.init.constant_(network.get_parameter("decoder.2.bias")[3:4], lift)
    normalizer = Normalizer(np.zeros(skeleton.num_features), np.full(skeleton.num_features, 0.5))
    statistics = StateStatistics.fit([np.zeros((5, skeleton.num_features), np.float32)], skeleton)
    save_refiner(folder, Refiner(network, normalizer, statistics, skeleton))
    return folder


def command(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output."""
    code = cli.main(GenerateConfig, generate.run, None, "jobs.generate", generate.plan, FOREIGN_TO_GENERATE, words)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def features(folder: Path, name: str = "sample00_rep00") -> np.ndarray:
    return np.load(folder / f"{name}_features.npy")


def test_motions_of_a_policy_are_refined(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model_path", str(tiny_models.policy), "--no_gif", "--seconds", "1", "--text", "walks"]
    assert command([*words, "--save_dir", str(tmp_path / "plain")], capsys)[0] == 0
    refiner = refiner_folder(tmp_path / "refiner", lift=0.2)
    refined = [*words, "--refiner", str(refiner), "--save_dir", str(tmp_path / "refined")]
    assert command(refined, capsys)[0] == 0
    change = features(tmp_path / "refined") - features(tmp_path / "plain")
    np.testing.assert_allclose(change[:, 3], 0.1, atol=1e-4)
    np.testing.assert_allclose(np.delete(change, 3, axis=1), 0.0, atol=1e-4)
    other = refiner_folder(tmp_path / "kit", KIT)
    code, said = command([*words, "--refiner", str(other), "--dry_run", "--save_dir", str(tmp_path / "x")], capsys)
    assert code == 2 and "the refiner is of skeleton kit, the motions are of humanml3d" in said
    code, said = command([*words, "--refiner", str(tmp_path), "--save_dir", str(tmp_path / "x")], capsys)
    assert code == 2 and "no folder with config.json" in said and not (tmp_path / "x").exists()


def test_motions_are_looked_up(tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_dataset(str(tiny_models.dataset))
    item = data.items("train")[3]
    words = ["--policy_type", "retrieval", "--dataset", str(tiny_models.dataset), "--no_gif", "--seconds", "9"]
    words += ["--text", item.captions[1], "--index_dir", str(tmp_path / "index")]
    nearest = [*words, "--temperature", "0"]
    code, _ = command([*nearest, "--save_dir", str(tmp_path / "dry"), "--dry_run"], capsys)
    assert code == 0 and not (tmp_path / "index").exists()
    assert command([*nearest, "--save_dir", str(tmp_path / "a")], capsys)[0] == 0
    same = [one.features for one in data.items("train") if item.captions[1] in one.captions]
    assert any(np.array_equal(features(tmp_path / "a"), each) for each in same)
    entries = json.loads((tmp_path / "index" / "index.json").read_text())["entries"]
    assert len(entries) == sum(len(one.captions) for one in data.items("train"))
    assert command([*nearest, "--save_dir", str(tmp_path / "b")], capsys)[0] == 0
    assert np.array_equal(features(tmp_path / "a"), features(tmp_path / "b"))
    drawn = [*words, "--temperature", "9", "--num_samples", "8", "--save_dir", str(tmp_path / "c")]
    assert command(drawn, capsys)[0] == 0
    assert len({features(tmp_path / "c", f"sample00_rep{n:02d}").tobytes() for n in range(8)}) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--policy_type retrieval --model_path somewhere", "model_path is given and policy_type is retrieval"),
        ("--policy_type retrieval --stochastic", "stochastic is given and policy_type is retrieval"),
        ("--index_dir somewhere", "index_dir is given and policy_type is auto"),
        ("--top_k 3", "top_k is 3 and policy_type is auto; it belongs to retrieval"),
        ("--policy_type retrieval --min_score 0.99", "no caption is near enough to 'walks': the nearest is"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    given = [*words.split(), "--text", "walks", "--dataset", str(tiny_models.dataset)]
    code, said = command([*given, "--save_dir", str(tmp_path / "x")], capsys)
    assert code == 2 and message in said and not (tmp_path / "x").exists()


def test_an_index_of_other_captions_is_refused(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"kind": "text_index", "fingerprint": "1", "entries": []}))
    words = f"--policy_type retrieval --text walks --dataset {tiny_models.dataset} --index_dir {tmp_path}"
    code, said = command([*words.split(), "--save_dir", str(tmp_path / "x")], capsys)
    assert code == 2 and "is of other entries" in said
