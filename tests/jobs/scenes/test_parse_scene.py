"""`jobs.parse_scene`, and that its prompts are taken as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import generate, grpo, parse_scene
from jobs.command_line import main as cli
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.scenes.settings import ParseSceneConfig
from tests.toys.tiny_models import TinyModels, grpo_words

pytestmark = pytest.mark.slow

TEXT = "A man walks to the table for 2 seconds, then kicks the red ball next to it twice for 1.6 s. A woman waits 1 s."


def parse(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(ParseSceneConfig, parse_scene.run, None, "jobs.parse_scene", parse_scene.plan, argv=argv)


def test_a_text_becomes_prompts_that_generation_and_training_take(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = tmp_path / "scene", ("--dataset", tiny_models.dataset)
    assert parse("--text", TEXT, "--save_dir", folder, *data, "--dry_run") == 0 and not folder.exists()
    assert parse("--text", TEXT, "--save_dir", folder, *data) == 0
    printed = capsys.readouterr().out
    assert "relation 0: ball beside table" in printed and "action 1: man kick, target ball, 2 times, 1.6 s" in printed
    prompts = folder / "prompts.jsonl"

    words = ["--model_path", str(tiny_models.policy), "--text_file", str(prompts), "--gif", "false"]
    words += ["--save_dir", str(tmp_path / "motions"), "--sampling_steps", "2"]
    assert cli.main(GenerateConfig, generate.run, None, "jobs.generate", generate.plan, argv=words) == 0
    assert (tmp_path / "motions" / "results_len.txt").read_text().split() == ["72", "20"]

    words = grpo_words(
        tiny_models,
        tmp_path / "run",
        prompts_path=prompts,
        num_prompts=None,
        num_steps=1,
        eval_every=0,
        **{"sampling_steps": 3, "group_size": 2, "num_eval_samples": 1, "num_eval_prompts": 2},
    )
    assert cli.main(GRPOConfig, grpo.run, None, "jobs.grpo", grpo.dry_run, argv=words) == 0
    assert (tmp_path / "run" / "model_final.pt").is_file()


def test_a_long_motion_is_made_in_parts_and_joined(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = tmp_path / "scene", ("--dataset", tiny_models.dataset)
    text = "A man walks to the table for 4 seconds, then kicks the ball for 1 s. A woman waits 1 s."
    assert parse("--text", text, "--save_dir", folder, *data, "--max_frames", 60) == 0
    words = ["--model_path", str(tiny_models.policy), "--text_file", str(folder / "prompts.jsonl"), "--gif", "false"]
    words += ["--save_dir", str(tmp_path / "motions"), "--sampling_steps", "2", "--num_samples", "2"]

    def generated(*more: str) -> int:
        return cli.main(GenerateConfig, generate.run, None, "jobs.generate", generate.plan, argv=[*words, *more])

    assert generated() == 0
    assert len((folder / "prompts.jsonl").read_text().splitlines()) == 5, "three parts, and the woman's motion"
    assert (tmp_path / "motions" / "results_len.txt").read_text().split() == ["100", "20"] * 2
    assert (tmp_path / "motions" / "results.txt").read_text().startswith("a man walks to the table, then kicks the")
    given = ("--given_motion", str(tmp_path / "motions" / "sample00_rep00_features.npy"), "--keep_first", "0.5")
    capsys.readouterr()
    assert generated(*given, "--overwrite") == 2
    assert "is made in 3 parts; give --autoregressive too" in capsys.readouterr().err


def test_an_edited_scene_is_parsed_anew(
    tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = tmp_path / "scene", ("--dataset", tiny_models.dataset)
    assert parse("--text", "A man walks. A dog barks.", "--save_dir", folder, *data) == 0
    content = json.loads((folder / "scene.json").read_text())
    content["actions"][0]["seconds"] = 1.0
    (folder / "scene.json").write_text(json.dumps(content))
    again = ("--scene", folder / "scene.json", "--save_dir", folder, *data)
    assert parse(*again) == 2
    assert "prompts.jsonl exists; give another --save_dir, or --overwrite" in capsys.readouterr().err
    assert parse(*again, "--overwrite") == 0
    line = json.loads((folder / "prompts.jsonl").read_text().splitlines()[1])
    assert line["segments"] == [{"text": "a man walks", "num_frames": 20, "actions": [0]}] and line["actor"] == "man"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is neither text nor scene"),
        (("--text", "a", "--scene", "b.json"), "text and scene are both given"),
        (("--text", "A dog runs."), "no person does anything in this scene"),
        (("--text", "A man flurbs it."), "unknown verb 'flurbs'"),
        (("--scene", "nowhere.json"), "cannot read nowhere.json"),
    ],
)
def test_what_is_refused(
    words: tuple[str, ...], message: str, tiny_models: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(*words, "--save_dir", tmp_path / "x", "--dataset", tiny_models.dataset) != 0
    assert message in capsys.readouterr().err and not (tmp_path / "x").exists()
