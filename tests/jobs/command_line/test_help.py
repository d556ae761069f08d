"""The help page: the options that matter first, all of them by name, and every one explained where it is asked for."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import pytest

from jobs.command_line import main as cli
from jobs.command_line.flags import UsageError, flags_of
from jobs.command_line.help_text import MOST, OTHERS, help_text
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import TRPOJobConfig
from jobs.critic.settings import CriticConfig
from motions.settings import Settings, options_of, spellings_of
from tests.toys.composed_settings import TwoLearners

JOBS = [
    *(
        GRPOConfig,
        GenerateConfig,
        PretrainConfig,
        RetrievalConfig,
        CriticConfig,
        SFTConfig,
        TRPOJobConfig,
        DeepMimicConfig,
    ),
    TwoLearners,
]


def page(config: type[Settings], topic: str = "") -> str:
    return help_text(config, "What it does.", "jobs.toy", ["first"], topic)


def explained(text: str) -> set[str]:
    """Options that have an entry of their own."""
    return set(re.findall(r"^  --([\w.]+)", text, re.MULTILINE))


def groups_of(config: type[Settings]) -> set[str]:
    return {flag.group.split(".")[0] for flag in flags_of(config).values()} - {""}


def names(config: type[Settings]) -> set[str]:
    return {option.flag for option in options_of(config).values()}


@pytest.mark.parametrize("config", JOBS)
def test_the_first_page_explains_what_matters_and_names_the_rest(config: type[Settings]) -> None:
    text = page(config)
    most, others = text.split(f"\n\n{MOST}\n")[1].split(f"\n\n{OTHERS}\n\n")
    important = [options_of(config)[spellings_of(config)[name]].flag for name in config.important]
    assert re.findall(r"^  --([\w.]+)", most, re.MULTILINE) == important
    listed = re.findall(r"--([\w.]+)", others)
    assert set(listed) >= names(config) and len(listed) == len(set(listed))


@pytest.mark.parametrize("config", JOBS)
def test_at_most_ten_options_come_first_and_the_required_ones_are_among_them(config: type[Settings]) -> None:
    assert len(config.important) == len(set(config.important)) <= 10
    required = {path for path, option in options_of(config).items() if option.field.is_required()}
    assert required <= {spellings_of(config)[name] for name in config.important}


@pytest.mark.parametrize("config", JOBS)
def test_help_all_explains_every_option_once(config: type[Settings]) -> None:
    text = page(config, "all")
    entries = re.findall(r"^  --([\w.]+)", text.split("--help [all|GROUP|OPTION]")[1], re.MULTILINE)
    assert sorted(entries) == sorted(names(config))
    whole = " ".join(text.split())
    for option in options_of(config).values():
        assert option.doc and option.doc in whole, option.flag


@pytest.mark.parametrize("config", JOBS)
def test_help_of_a_group_explains_its_options_and_all_groups_together_every_one(config: type[Settings]) -> None:
    found: set[str] = set()
    for group in groups_of(config):
        entries = explained(page(config, group))
        # An option of the same name is explained as well: `--no_trpo` of jobs.deepmimic.
        assert entries == {
            option.flag
            for path, option in options_of(config).items()
            if path.startswith(f"{group}.") or group in option.spellings
        }
        found |= entries
    assert found == names(config)


def test_the_first_page_is_short() -> None:
    for config in JOBS:
        assert len(page(config).splitlines()) < 175, config


def test_help_of_an_inner_group() -> None:
    assert explained(page(TwoLearners, "tuning.network")) == {"tuning.network.width"}
    assert page(TwoLearners, "tuning.network").startswith("A network [tuning.network]\n")


@pytest.mark.parametrize("config", JOBS)
def test_help_of_an_option_explains_it_by_any_of_its_names(config: type[Settings]) -> None:
    groups = {part for flag in flags_of(config).values() for part in (flag.group, *flag.group.split("."))}
    for option in options_of(config).values():
        for spelling in set(option.spellings) - groups:
            assert explained(page(config, spelling)) == {option.flag}


def test_help_of_an_option_word_for_word() -> None:
    assert page(TwoLearners, "--tuning.learning-rate") == textwrap.dedent("""\
        The second learner [tuning]
          --tuning.learning_rate VALUE
              Its step size. [number > 0; default: 0.2]""")


def test_a_group_or_option_that_does_not_exist() -> None:
    with pytest.raises(UsageError) as caught:
        page(TwoLearners, "learning_rate")
    assert caught.value.lines == (
        "--help learning_rate: no such group or option; the groups are cloning, cloning.network, run, tuning, "
        "tuning.network",
    )


def run_main(*argv: str) -> int:
    def run(config: Any) -> None:
        raise AssertionError("help runs nothing")

    return cli.main(TwoLearners, run, "What it does.", "jobs.toy", argv=argv)


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (["--help"], ""),
        (["-h"], ""),
        (["--kl", "1", "--help", "--seed", "3"], ""),
        (["--help", "all"], "all"),
        (["--help", "run"], "run"),
        (["--help=kl"], "kl"),
        (["--help", "--kl"], "--kl"),
        (["--help", "--debug"], ""),
    ],
)
def test_help_on_the_command_line(words: list[str], topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(*words) == 0
    expected = help_text(TwoLearners, "What it does.", "jobs.toy", [], topic)
    assert capsys.readouterr().out == f"{expected}\n"


def test_help_of_nothing_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--help", "--nothing") == 2
    assert capsys.readouterr().err.startswith("error: --help --nothing: no such group or option")
    assert run_main("--help", "nothing") == 2
    assert capsys.readouterr().err.startswith("error: --help nothing: no such group or option; the groups are cloning,")
