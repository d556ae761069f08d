"""Flags and files of a job with two learners: flat, dotted and nested names, and options that are retired."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from jobs.command_line import main as cli
from jobs.command_line.flags import UsageError
from tests.toys.composed_settings import MainlyTuning, TwoLearners

SAVE = ("--save_dir", "out")


def parse(*argv: str) -> TwoLearners:
    return cli.parse(TwoLearners, [*SAVE, *argv], "jobs.toy").settings


def errors(*argv: str, kind: type[TwoLearners] = TwoLearners) -> list[str]:
    with pytest.raises(UsageError) as caught:
        cli.parse(kind, [*SAVE, *argv], "jobs.toy")
    return list(caught.value.lines)


def test_flags_are_flat_or_dotted() -> None:
    config = parse(
        *(
            "--kl",
            "1",
            "--run.seed=3",
            "--cloning.learning-rate",
            "4",
            "--tuning.lr",
            "5",
            "--tuning.network.width",
            "6",
        ),
        *("--no_cloning.shuffle", "--no_on"),
    )
    assert config == TwoLearners.model_validate(
        {
            "run": {"save_dir": "out", "seed": 3},
            "cloning": {"learning_rate": 4, "shuffle": False},
            "tuning": {"kl": 1, "learning_rate": 5, "network": {"width": 6}, "on": False},
        }
    )


def test_a_flat_flag_means_the_preferred_group() -> None:
    config = cli.parse(MainlyTuning, [*SAVE, "--lr", "5", "--no_shuffle", "--cloning.lr", "4"], "jobs.toy").settings
    assert (config.cloning.learning_rate, config.tuning.learning_rate) == (4, 5)
    assert (config.cloning.shuffle, config.tuning.shuffle) == (True, False)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--lr", "1"], "--lr could be any of --cloning.learning_rate, --tuning.learning_rate; say which"),
        (["--network.width", "1"], "--network.width could be any of --cloning.network.width, --tuning.network.width;"),
        (
            ["--tuning.lr", "1", "--tuning.learning_rate", "2"],
            "--tuning.learning_rate is given twice: --tuning.lr 1",
        ),
        (["--run.seed", "1", "--seed", "2"], "--seed is given twice: --run.seed 1 and --seed 2"),
        (["--tuning.learning_rat", "1"], "unknown option --tuning.learning_rat; did you mean --tuning.learning_rate"),
        (["--tuning.learning_rate", "0"], "--tuning.learning_rate 0: expected number > 0"),
        (["--tuning", "1"], "unknown option --tuning"),
        (["--tuning.kl", "2000"], "kl times learning_rate is above 100"),
        (["--momentum", "0.8"], "--momentum 0.8 is not supported: it is part of Adam"),
    ],
)
def test_mistakes(words: list[str], line: str) -> None:
    (found,) = errors(*words)
    assert found.startswith(line)


def test_a_missing_option_of_a_group_is_asked_for_by_its_flag() -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(TwoLearners, ["--kl", "1"], "jobs.toy")
    assert caught.value.lines == ("--save_dir is required: path",)


def test_a_retired_option_is_read_with_a_note() -> None:
    for name in ("--momentum", "--cloning.momentum"):
        command = cli.parse(TwoLearners, [*SAVE, name, "0.9"], "jobs.toy")
        assert command.settings == parse()
        assert command.notes == (f"{name} 0.9 changes nothing: it is part of Adam",)


FILES = {
    "nested": "run: {save_dir: out, seed: 3}\ncloning: {lr: 2}\ntuning: {learning_rate: 1e-3, network: {width: 2}}\n",
    "flat": "save_dir: out\nseed: 3\ncloning.lr: 2\ntuning.lr: 1e-3\ntuning.network.width: 2\nmomentum: 0.9\n",
    "mixed": "job: jobs.toy\nseed: 3\nrun: {save_dir: out}\ncloning: {lr: 2, momentum: 0.9}\n"
    "tuning: {learning_rate: 1e-3, network.width: 2}\n",
}


def test_files_are_nested_flat_or_mixed(tmp_path: Path) -> None:
    expected = parse("--seed", "3", "--cloning.lr", "2", "--tuning.lr", "1e-3", "--tuning.network.width", "2")
    file = tmp_path / "config.yaml"
    for name, text in FILES.items():
        file.write_text(text)
        assert cli.parse(TwoLearners, ["--config", str(file)], "jobs.toy").settings == expected, name


def test_later_sources_win_however_they_spell_it(tmp_path: Path) -> None:
    preset, file = tmp_path / "preset.yaml", tmp_path / "file.yaml"
    preset.write_text("seed: 1\nrun.keep: 5\ncloning.lr: 6\n")
    file.write_text("run: {seed: 2, num_steps: 7}\ncloning: {learning_rate: 8}\n")
    config = parse("--preset", str(preset), "--config", str(file), "--run.num_steps", "9")
    assert (config.run.seed, config.run.keep, config.run.num_steps, config.cloning.learning_rate) == (2, 5, 9, 8)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\nrun: {seed: 1}", "seed is given twice: as seed and as run.seed"),
        (
            "tuning.lr: 1\ntuning: {learning_rate: 1}",
            "tuning.learning_rate is given twice: as tuning.lr and as tuning.learning_rate",
        ),
        ("learning_rate: 1", "'learning_rate' could be any of --cloning.learning_rate, --tuning.learning_rate; say"),
        ("tuning: {kll: 1}", "unknown option 'tuning.kll'; did you mean --tuning.kl"),
        ("tuning: 1", "tuning is a group: expected a mapping of its options to values, got 1"),
        ("cloning: {momentum: 0.8}", "cloning.momentum 0.8 is not supported: it is part of Adam"),
    ],
)
def test_mistakes_in_files(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    (found,) = errors("--config", str(file))
    assert found.startswith(f"{file}: {line}")


def test_an_empty_group_of_a_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("run: {seed: 3}\ntuning:\n  # kl: 2\n")
    assert parse("--config", str(file)) == parse("--seed", "3")
    assert TwoLearners.of({"save_dir": "out", "tuning": None}) == parse()


def test_an_illegal_value_names_the_file_however_it_is_spelled(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for text in ("tuning: {lr: 0}", "tuning.learning_rate: 0"):
        file.write_text(text)
        assert errors("--config", str(file)) == [f"--tuning.learning_rate 0 ({file}): expected number > 0"]


def test_settings_read_back_as_file_and_as_command(tmp_path: Path) -> None:
    config = parse("--cloning.lr", "4", "--no_tuning.shuffle", "--tuning.network.width", "3", "--kl", "2")
    text = cli.settings_yaml(config)
    assert list(yaml.safe_load(text)) == ["run", "cloning", "tuning"]
    (tmp_path / "config.yaml").write_text(text)
    assert cli.parse(TwoLearners, ["--config", str(tmp_path / "config.yaml")], "jobs.toy").settings == config
    command = cli.command_of(config, "jobs.toy")
    for words in ("--cloning.learning_rate 4.0", "--no_tuning.shuffle", "--tuning.network.width 3", "--kl 2.0"):
        assert words in command
    assert cli.parse(TwoLearners, shlex.split(command)[3:], "jobs.toy").settings == config
