"""`jobs.build_scene_dataset`, `jobs.train_m1_t5`, and a trained parser in `jobs.parse_scene`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs import build_scene_dataset, train_m1_t5
from jobs.command_line import main as cli
from jobs.scenes.parser_settings import SceneDatasetConfig, TrainParserConfig
from jobs.scenes.parsing import read_by
from learners.supervised.scene_parsing import SceneParsingLearner, parser_batch
from learners.supervised.settings import SceneParsingSettings
from motions.scenes.examples.targets import PREFIX
from rollouts.text import scene_parser
from rollouts.text.scene_parser import SceneParser, load_parser, new_parser
from tests.toys.tiny_models import TinyModels

pytestmark = pytest.mark.slow

TINY = (
    *("--model", "scratch", "--width", "16", "--layers", "1", "--heads", "2", "--vocabulary", "300"),
    *("--batch_size", "4", "--num_measured", "2", "--max_text_tokens", "400", "--copy_steps", "1"),
)
ANY_LENGTH = ("--max_line_tokens", "1000")


def train(*words: object) -> int:
    argv = [str(word) for word in words]
    return cli.main(TrainParserConfig, train_m1_t5.run, None, "jobs.train_m1_t5", train_m1_t5.plan, argv=argv)


def build(*words: object) -> int:
    argv = [str(word) for word in words]
    config, page = SceneDatasetConfig, build_scene_dataset
    return cli.main(config, page.run, None, "jobs.build_scene_dataset", page.plan, argv=argv)


@pytest.fixture(scope="module")
def examples(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of texts and scenes."""
    folder = tmp_path_factory.mktemp("scenes") / "data"
    words = ("--dataset", "builtin", "--output", folder, "--num_examples", "12", "--num_held_out", "3")
    assert build(*words) == 0
    return folder


def test_the_data_set_is_a_function_of_the_seed(examples: Path, tmp_path: Path) -> None:
    records = {name: (examples / f"{name}.jsonl").read_text().splitlines() for name in ("train", "val", "test")}
    assert {name: len(lines) for name, lines in records.items()} == {"train": 12, "val": 3, "test": 3}
    first = json.loads(records["train"][0])
    assert first["input"].startswith(PREFIX) and json.loads(first["target"])["actions"]
    words = ("--num_examples", "12", "--num_held_out", "3", "--output", tmp_path / "own")
    assert build(*words, "--seed", "11") == 0
    assert (tmp_path / "own" / "train.jsonl").read_bytes() != (examples / "train.jsonl").read_bytes()
    assert build(*words) == 2 and build(*words, "--overwrite") == 0
    assert (tmp_path / "own" / "train.jsonl").read_bytes() == (examples / "train.jsonl").read_bytes()


def test_a_training_that_was_stopped_ends_with_the_same_bits(examples: Path, tmp_path: Path) -> None:
    words = ("--data-dir", examples, *TINY, *ANY_LENGTH, "--output-dir")
    assert train(*words, tmp_path / "whole", "--epochs", "2") == 0
    assert train(*words, tmp_path / "half", "--epochs", "1") == 0
    assert train(*words, tmp_path / "half", "--epochs", "2", "--resume") == 0
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    different = [name for name, value in whole.items() if not torch.equal(value, half[name])]
    assert not different
    figures = json.loads((tmp_path / "whole" / "evaluation.json").read_text())["figures"]
    assert {"validation_loss", "val/json", "val/actions", "test/scene", "test/relations"} <= set(figures)
    assert (tmp_path / "whole" / "report.html").is_file()
    assert len(load_parser(tmp_path / "whole").write(["A man walks."], max_tokens=4)) == 1


def test_bad_input_is_named(examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*words: object) -> str:
        assert train(*words, "--output-dir", tmp_path / "run", "--dry_run") == 2
        assert not (tmp_path / "run").exists()
        return capsys.readouterr().err

    assert "has no train.jsonl" in refusal("--data-dir", tmp_path, *TINY)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "val.jsonl").write_text((examples / "val.jsonl").read_text())
    (bad / "train.jsonl").write_text('{"input": "a"}\n')
    assert "train.jsonl, line 1" in refusal("--data-dir", bad, *TINY)
    (bad / "train.jsonl").write_text("\n")
    assert "train.jsonl is empty" in refusal("--data-dir", bad, *TINY)
    assert "12 of the 12 examples of train" in refusal("--data-dir", examples, *TINY, "--max_line_tokens", "8")
    assert "width 30 is no multiple of heads 4" in refusal("--model", "scratch", "--width", "30")
    assert "width belongs to model scratch" in refusal("--model", "some/t5", "--width", "64")
    assert "is no T5 that can be loaded" in refusal("--data-dir", examples, "--model", tmp_path)
    if not torch.cuda.is_available():
        assert "cpu" in refusal("--data-dir", examples, *TINY, "--device", "cuda")


def test_the_learner_learns_an_example_by_heart() -> None:
    texts, lines = [f"{PREFIX}a man walks", f"{PREFIX}a ball"], ['{"a":"walk"}', '{"b":"ball"}']
    parser = new_parser([*texts, *lines], vocabulary=300, width=32, layers=1, heads=2, seed=0)
    learner = SceneParsingLearner(parser, SceneParsingSettings(learning_rate=1e-2, weight_decay=0.0), 150, 0)
    batch = parser_batch(parser.encode(texts), parser.encode(lines), parser.tokenizer.pad_token_id)
    before = learner.validate([batch])
    losses = [learner.update(batch)["loss"] for _ in range(150)]
    assert losses[-1] < 0.05 < before
    assert parser.write(["a man walks", "a ball"], max_tokens=20) == lines
    assert parser.write(["a man walks", "a ball"], num_beams=3, max_tokens=20) == lines


TEXT = "A man walks to the table, then kicks the ball."


@pytest.mark.parametrize(
    ("line", "parser", "note"),
    [
        ('{"actions":[{"actor":"man","verb":"kick","target":"ball","text":"a man kicks the ball"}]}', "t5", None),
        ("{", "rules", "read by the rules: the parser wrote no JSON"),
        ('{"entities":[{"name":"man","type":"person"}]}', "t5", "the actions are read by the rules"),
    ],
)
def test_the_rules_read_what_a_trained_parser_cannot(
    monkeypatch: pytest.MonkeyPatch, line: str, parser: str, note: str | None
) -> None:
    class Fixed(SceneParser):
        def __init__(self) -> None:
            """Has no network."""

        def write(self, texts: Any, **_: Any) -> list[str]:
            return [line for _ in texts]

    monkeypatch.setattr(scene_parser, "load_parser", lambda place: Fixed())
    scene = read_by("anywhere", TEXT, 4)
    assert scene.parser == parser and scene.text == TEXT
    assert [one.verb for one in scene.actions] == (["kick"] if note is None else ["walk", "kick"])
    assert (not scene.notes) if note is None else any(one.startswith(note) for one in scene.notes)
    assert {one.name for one in scene.entities} >= {one.target for one in scene.actions if one.target}
