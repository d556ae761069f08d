"""`jobs.evaluate` on tiny models: its rows and files, modes, composites, what it says of its numbers, and mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import evaluate
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_EVALUATE
from jobs.evaluation.draws import SampleBook, replications_of, windows_of
from jobs.evaluation.settings import EvaluateConfig, ProtocolSettings
from motions.data.dataset import load_dataset
from motions.data.prompts import Prompt, Segment
from motions.data.text_motion import MDM_CROP
from tests.toys.small_evaluator import write_evaluator
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow


def run(models: TinyModels, folder: Path, *words: str) -> int:
    given = [
        *("--model_path", str(models.policy), "--dataset", str(models.dataset), "--save_dir", str(folder)),
        *("--runtime", "local", "--pool_size", "2", "--sampling_steps", "2", "--eval_mode", "debug"),
        *("--replication_times", "2"),
    ]
    names = {word for word in words if word.startswith("--")}
    kept = [
        pair for name, value in zip(given[::2], given[1::2], strict=True) if name not in names for pair in (name, value)
    ]
    return cli.main(
        *(EvaluateConfig, evaluate.run, evaluate.__doc__, "jobs.evaluate"),
        plan=evaluate.plan,
        foreign=FOREIGN_TO_EVALUATE,
        argv=[*kept, *words],
    )


def result(folder: Path) -> dict[str, Any]:
    [path] = folder.glob("*.json")
    return json.loads(path.read_text())


def test_both_rows_have_all_metrics_and_the_same_seed_gives_the_same_numbers(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = ("--judge_path", str(tiny_models.judge))
    assert run(tiny_models, tmp_path / "a", *judge) == 0
    found = result(tmp_path / "a")
    names = {"matching_score", "r_precision_1", "r_precision_2", "fid", "fid_unit", "diversity", "skating_ratio"}
    for row in ("ground truth", "model"):
        assert names | {"penetrate_mm", "float_mm", "skate_mm"} <= found["rows"][row].keys()
        assert all(len(one["values"]) == 2 for one in found["rows"][row].values())
        assert "multimodality" not in found["rows"][row]
    assert (found["replications"], found["generated_per_replication"]) == (2, 4)
    # Without noise of its own the ground truth differs by crops only.
    assert found["rows"]["ground truth"]["fid"]["mean"] < found["rows"]["model"]["fid"]["mean"]
    assert not found["published_are_comparable"] and len(found["published"]) == 6
    stem = "eval_data_policy_000000004_gscale2.5_debug"
    assert {path.name for path in (tmp_path / "a").iterdir()} == {f"{stem}{end}" for end in (".log", ".json", ".md")}
    table = (tmp_path / "a" / f"{stem}.md").read_text()
    assert "| MDM, 50 steps (README of GuyTevet/motion-diffusion-model) | 0.455 | 0.645 | 0.749 | 0.489 |" in table
    assert "cannot be compared with ours" in table and "| **model** | " in table
    assert "---> [ground truth] fid: " in (tmp_path / "a" / f"{stem}.log").read_text()
    assert any("pools of 2; published figures have 32" in note for note in found["notes"])

    assert run(tiny_models, tmp_path / "b", *judge) == 0
    assert result(tmp_path / "b")["rows"] == found["rows"]
    assert run(tiny_models, tmp_path / "c", *judge, "--seed", "11", "--no_stochastic") == 0
    assert result(tmp_path / "c")["rows"]["model"] != found["rows"]["model"]
    capsys.readouterr()
    assert run(tiny_models, tmp_path / "a", *judge) == 2
    assert f"{stem}.log exists, and nothing is overwritten" in capsys.readouterr().err


def test_multimodality_and_the_evaluator_of_published_figures(tiny_models: TinyModels, tmp_path: Path) -> None:
    files = {name: value for name, value in write_evaluator(tmp_path / "t2m").items() if name != "reward_model_type"}
    words = [word for name, value in files.items() for word in (f"--{name}", value)]
    mm = ("--mm_num_samples", "3", "--mm_num_repeats", "5", "--mm_num_times", "5")
    chosen = ("--eval_network", "mdm", "--eval_mode", "mm_short", "--replication_times", "1", *mm)
    assert run(tiny_models, tmp_path / "out", *words, *chosen) == 0
    found = result(tmp_path / "out")
    assert found["rows"]["model"]["multimodality"]["mean"] > 0.0
    assert found["rows"]["model"]["fid"]["interval_95"] is None
    assert "multimodality" not in found["rows"]["ground truth"]
    assert found["network"].startswith("evaluator of Guo et al.")
    assert "MultiModality" in next((tmp_path / "out").glob("*.md")).read_text()


def test_composites_have_figures_by_segment_and_label_the_mismatched_distance(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    words = ("--use_composite_dataset", "--composite_k_segments", "2", "--eval_num_samples", "3")
    assert run(tiny_models, tmp_path / "out", *words) == 0
    found = result(tmp_path / "out")
    model, truth = found["rows"]["model"], found["rows"]["ground truth"]
    added = {"logic_accuracy", "segment_cosine", "segment_cosine_2", "r_neg", "margin_active", "border_jerk_mps3"}
    assert added | {"fid", "fid_mismatched", "fid_unit_mismatched"} <= model.keys()
    assert added | {"fid_mismatched"} <= truth.keys() and "fid" not in truth
    by_prompt = [share for prompt in found["prompts"] for share in prompt["logic_accuracy"]]
    assert model["logic_accuracy"]["mean"] == pytest.approx(np.mean(by_prompt))
    assert any("mismatched ground truth" in note for note in found["notes"])
    text = next((tmp_path / "out").glob("*_composite.md")).read_text()
    assert "FID against single motions (mismatched ground truth)" in text and "Cosine of segment 2" in text


def test_a_file_of_composites_needs_no_data(tiny_models: TinyModels, tmp_path: Path) -> None:
    segments = [{"text": text, "num_frames": 20} for text in ("walks", "runs")]
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"text": "walks, then runs", "segments": segments}) + "\n")
    words = ("--use_composite_dataset", "--composite_data_path", str(path), "--dataset", str(tmp_path / "gone"))
    assert run(tiny_models, tmp_path / "out", *words) == 0
    found = result(tmp_path / "out")
    assert list(found["rows"]) == ["model"] and "fid" not in found["rows"]["model"]
    assert any("there is no ground truth and no FID: dataset" in note for note in found["notes"])


def test_motions_that_are_not_finite_are_an_error_and_leave_no_file(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_models.policy, tmp_path / "policy")
    file = tmp_path / "policy" / "model000000004.pt"
    states = torch.load(file, weights_only=True)
    for state in states.values():
        state["output_process.poseFinal.bias"].fill_(3e38)
    torch.save(states, file)
    assert run(tiny_models, tmp_path / "out", "--model_path", str(file)) == 2
    assert "are not finite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_would_be_made_and_mistakes_are_named(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        assert run(tiny_models, tmp_path / "out", *words, "--dry_run") == 2
        return capsys.readouterr().err

    assert run(tiny_models, tmp_path / "out", "--batch_size", "32", "--dry_run") == 0
    out = " ".join(capsys.readouterr())
    assert "2 replications of 4 texts: 8 motions in" in out and "1 x reward:evaluation" in out
    assert "--batch_size 32 changes nothing: the pool of R-precision is --pool_size" in out
    assert not (tmp_path / "out").exists()
    assert "pool_size is 32 and the split has 5 motions" in said("--pool_size", "32")
    assert "there is one text to evaluate;" in said("--pool_size", "1", "--eval_num_samples", "1")
    assert "split 'val': dataset" in said("--eval_split", "val")
    assert "composite_data_path is given without" in said("--composite_data_path", "x.npy")
    assert "composite_k_segments is given without" in said("--composite_k_segments", "2")
    assert "judge_path is given and eval_network is mdm" in said("--eval_network", "mdm", "--judge_path", "x")
    assert "mm_num_times is 40" in said("--mm_num_times", "40")


def test_modes_have_the_published_replications() -> None:
    modes = {mode: ProtocolSettings(eval_mode=mode) for mode in ("wo_mm", "mm_short", "debug", "full")}
    assert {name: (mode.replications, mode.multimodality) for name, mode in modes.items()} == {
        "wo_mm": (20, False),
        "mm_short": (5, True),
        "debug": (5, False),
        "full": (20, True),
    }


def test_equal_prompts_of_all_replications_are_made_together() -> None:
    walk, run_ = (Prompt(text, (Segment(text, 40),)) for text in ("walks", "runs"))
    book = SampleBook(most=4)
    settings = ProtocolSettings(
        eval_mode="mm_short", replication_times=2, mm_num_samples=1, mm_num_repeats=3, mm_num_times=2, pool_size=1
    )
    found = replications_of(book, {0: [walk, run_], 1: [run_, walk]}, settings)
    # walk: one and two repeats, then one; run: one, then one and two repeats. No motion is used twice but as a repeat.
    assert list(zip(book.prompts, book.counts, strict=True)) == [(walk, 4), (run_, 4)]
    used = [sample for one in found for sample in (*one.samples, *(s for text in one.repeats for s in text[1:]))]
    assert len(set(used)) == len(used) == 8
    assert found[1].repeats[0][0] == found[1].samples[0]
    for _ in range(5):
        book.ask(walk)
    assert book.counts == [4, 4, 4, 1]


def test_replications_differ_in_order_caption_and_crop(tiny_models: TinyModels) -> None:
    items = load_dataset(tiny_models.dataset).items("train")
    draws = [windows_of(items, MDM_CROP, 0, number) for number in (0, 1)]
    for own in draws:
        assert sorted(window.item for window in own) == list(range(len(items)))
        assert all(window.length % 4 == 0 and window.caption in items[window.item].captions for window in own)
    assert draws[0] != draws[1] == windows_of(items, MDM_CROP, 0, 1)
    motion = draws[0][0].motion(items)
    assert motion.features.shape[1] == motion.lengths[0] == draws[0][0].length


def test_a_row_of_motions_that_are_looked_up(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--judge_path", str(tiny_models.judge), "--replication_times", "1")
    assert run(tiny_models, tmp_path / "without", *words) == 0
    assert run(tiny_models, tmp_path / "with", *words, "--retrieval_row") == 0
    without, found = result(tmp_path / "without")["rows"], result(tmp_path / "with")["rows"]
    assert "retrieval" not in without and list(found) == ["ground truth", "model", "retrieval"]
    assert found["retrieval"].keys() == found["model"].keys() and found["model"] == without["model"]
    assert found["retrieval"]["float_mm"]["mean"] < found["model"]["float_mm"]["mean"], "its motions are real"
