"""`jobs.composite`: files by seed, every number of segments, both formats, the B_matrix, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import composite
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_COMPOSITE
from jobs.composites.building import text_embedder
from jobs.composites.settings import CompositeConfig
from motions.base.safe_files import read_object_array
from motions.data.composite_records import read_composite_records
from motions.data.dataset import load_dataset
from motions.data.folder_writer import FolderClip, write_dataset
from motions.data.prompts import load_prompts
from rewards.tmr.similarity import cosine


def run(*words: object) -> int:
    return cli.main(
        *(CompositeConfig, composite.run, composite.__doc__, "jobs.composite"),
        plan=composite.plan,
        foreign=FOREIGN_TO_COMPOSITE,
        argv=[str(word) for word in words],
    )


@pytest.mark.parametrize("count", [3, 4, 5])
def test_equal_seeds_give_equal_files_of_every_number_of_segments(count: int, tmp_path: Path) -> None:
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        words = ("--k_segments", count, "--max_samples", 20, "--seed", seed, "--output_dir", tmp_path / folder)
        assert run(*words) == 0
    first, same, other = ((tmp_path / name / f"composite_k{count}_train.jsonl").read_bytes() for name in "abc")
    assert first == same != other
    prompts = load_prompts(tmp_path / "a" / f"composite_k{count}_train.jsonl", 20.0, num_segments=count)
    assert len(prompts) == 20 and all(176 <= prompt.num_frames <= 196 for prompt in prompts)


def test_five_motions_that_are_too_long_together_are_shortened_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builtin = load_dataset("builtin")
    items = [item for item in builtin.items("train") if item.num_frames >= 44][:8]
    clips = [
        FolderClip(item.features[:44], (f"a person does {number}",), "train", f"{number}.bvh", 0.0)
        for number, item in enumerate(items)
    ]
    write_dataset(tmp_path / "data", builtin.skeleton, clips, "for tests")
    assert run("--dataset", tmp_path / "data", "--k_segments", 5, "--output_dir", tmp_path) == 0
    assert "the shortest 5 motions last 220 frames, more than target_length 196" in capsys.readouterr().out
    prompts = load_prompts(tmp_path / "composite_k5_train.jsonl", 20.0)
    assert {segment.num_frames for prompt in prompts for segment in prompt.segments} == {39}
    metadata = json.loads((tmp_path / "composite_k5_train.jsonl").read_text().splitlines()[0])["metadata"]
    assert (metadata["shorten"], metadata["fps"], metadata["num_samples"]) == (0.8, 20.0, len(prompts))
    assert run("--dataset", tmp_path / "data", "--k_segments", 5, "--shorten", 1, "--output_dir", tmp_path / "w") == 2
    assert "the 5 shortest last 220 frames; target_length is 196" in capsys.readouterr().err


def test_the_public_script_s_command_and_file(tmp_path: Path) -> None:
    """Its command, and its own format, which is read back without running what it holds."""
    words = "--split train --k_segments 3 --target_length 196 --tolerance 20 --fps 20.0 --max_samples 4"
    more = "--compute_b_matrix --device cpu --abs_path . --cache_path . --output_format npy"
    assert run(*words.split(), *more.split(), "--output_dir", tmp_path) == 0
    content = read_object_array(tmp_path / "composite_k3_train.npy")
    assert isinstance(content, dict) and content["metadata"]["k_segments"] == 3
    [first, *_] = content["samples"]
    assert set(first) == {
        *("composite_prompt", "sub_prompts", "durations", "durations_frames", "source_ids", "total_frames", "B_matrix")
    }
    assert isinstance(first["sub_prompts"], list) and first["total_frames"] == sum(first["durations_frames"])
    latents = text_embedder(CompositeConfig.of(compute_b_matrix=True)).embed_texts(first["sub_prompts"])
    np.testing.assert_allclose(first["B_matrix"], cosine(latents, latents), atol=1e-5)
    assert run("--from_file", tmp_path / "composite_k3_train.npy", "--output_dir", tmp_path) == 0
    read = read_composite_records(tmp_path / "composite_k3_train.jsonl", 20.0)
    assert [list(record.source_ids) for record in read] == [sample["source_ids"] for sample in content["samples"]]
    assert load_prompts(tmp_path / "composite_k3_train.jsonl", 20.0) == load_prompts(
        tmp_path / "composite_k3_train.npy", 20.0
    )


def test_mistakes_are_named_and_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--max_samples", 3, "--output_dir", tmp_path, "--dry_run") == 0
    assert "would write" in capsys.readouterr().out and not list(tmp_path.iterdir())
    (tmp_path / "composite_k3_train.jsonl").touch()
    for words, line in (
        (("--output_dir", tmp_path), "composite_k3_train.jsonl exists, and nothing is overwritten"),
        (("--tolerance", 196), "tolerance is 196; it is below target_length 196"),
        (("--fps", 12.5), "--fps 12.5 is not supported: the frame rate is the skeleton's"),
        (("--tmr_checkpoint_path", "x"), "tmr_checkpoint_path is given without compute_b_matrix"),
        (("--k_segments", 6), "--k_segments 6: expected integer >= 2 and <= 5"),
        (("--split", "dev", "--output_dir", tmp_path / "x"), "split 'dev': dataset builtin has"),
        (
            ("--from_file", "no.npy", "--seed", 3),
            "seed is given with from_file, whose composites are taken as they are",
        ),
        (("--from_file", tmp_path / "no.npy", "--output_dir", tmp_path / "x"), "no.npy"),
    ):
        assert run(*words) == 2
        assert line in capsys.readouterr().err
