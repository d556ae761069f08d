"""Any values of any options of any job: a configuration that files and flags give back, or errors that name options."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.command_line import main as cli
from jobs.command_line.flags import UsageError
from jobs.configs.balance import BalanceConfig
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.demo import DemoConfig
from jobs.configs.generate import GenerateConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.import_motion import ImportConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import TRPOJobConfig
from jobs.configs.view import ViewConfig
from jobs.configs.world_model import WorldModelJobConfig
from jobs.critic.settings import CriticConfig, CriticScoreConfig
from motions.settings import Option, Settings, naming_options, options_of

pytestmark = pytest.mark.slow

NEEDED: dict[type[Settings], dict[str, object]] = {
    BalanceConfig: {"output": "gains.json"},
    CriticConfig: {"save_dir": "run"},
    CriticScoreConfig: {"inputs": ["walk.bvh"]},
    DeepMimicConfig: {"save_dir": "run"},
    DemoConfig: {},
    GenerateConfig: {"text": ["a person walks"]},
    GRPOConfig: {"save_dir": "run"},
    ImportConfig: {"bvh_dir": ".", "captions": "captions.csv", "save_dir": "data"},
    PretrainConfig: {"save_dir": "run"},
    RetrievalConfig: {"save_dir": "run"},
    SFTConfig: {},
    TRPOJobConfig: {},
    ViewConfig: {"inputs": ["walk.bvh"]},
    WorldModelJobConfig: {},
}
"""Every job's model, with the options that it cannot do without."""

SLOW = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.function_scoped_fixture,
)
"""Checks of Hypothesis that depend on the machine's speed, or are not meant for a folder that examples overwrite."""

# "none" is a value of its own on command lines.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda text: text.lower() not in NOTHING)
NOTHING = ("none", "null")
PLAIN = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.integers(-2, 40), st.floats(0, 1), st.floats(), TEXTS),
    st.sampled_from(["", "--x", " --x", "-1", "1e3", "1_0", "true", "a,b", "~", "~/x", "'", "#", "inf"]),
)


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation and all in it."""
    yield annotation
    for inner in get_args(annotation):
        yield from parts(inner)


def legal(option: Option) -> st.SearchStrategy[Any]:
    """Values of the option's types within its bounds, most of which it takes."""
    found = [*parts(option.field.annotation)]
    bounds = {"ge": [], "le": []}
    for mark in (*option.field.metadata, *found):
        if not isinstance(mark, type) and isinstance(mark, annotated_types.BaseMetadata):
            for end in bounds:
                bounds[end] += [getattr(mark, name) for name in (end, f"{end[0]}t") if hasattr(mark, name)]
    low, high = max(bounds["ge"], default=-5), min(bounds["le"], default=1000)
    kinds: list[st.SearchStrategy[Any]] = []
    if bool in found:
        kinds.append(st.booleans())
    if int in found:
        kinds.append(st.integers(int(low), int(high)))
    if float in found:
        kinds.append(st.floats(low, high))
    if choices := [choice for part in found if get_origin(part) is Literal for choice in get_args(part)]:
        kinds.append(st.sampled_from(choices))
    elif str in found or Path in found:
        kinds.append(TEXTS)
    one = st.one_of(*kinds)
    several = any(get_origin(part) is tuple for part in found)
    return st.lists(one, min_size=1, max_size=3) if several else one


@st.composite
def chosen(draw: st.DrawFn, kind: type[Settings]) -> dict[str, Any]:
    """Some options of a model by flag, with legal values, or with whatever else a person may write."""
    # Those that name groups import what they name.
    options = [option for path, option in options_of(kind).items() if path not in naming_options(kind)]
    some = draw(st.lists(st.sampled_from(options), min_size=1, max_size=2, unique_by=lambda option: option.path))
    # Chosen first: branches of `one_of` are drawn alike, and there are more of the illegal ones.
    anything = st.one_of(PLAIN, st.lists(PLAIN, max_size=3))
    drawn = {option.flag: draw(legal(option) if draw(st.integers(0, 2)) else anything) for option in some}
    return {name: str(value) if isinstance(value, Path) else value for name, value in drawn.items()}


@pytest.mark.parametrize("kind", NEEDED, ids=lambda kind: kind.__name__)
def test_values_are_given_back_or_refused_by_name(kind: type[Settings], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    counts = {"built": 0, "refused": 0}

    def read() -> Settings:
        return cli.parse(kind, ["--config", str(file)], "jobs.any").settings

    @settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=SLOW)
    @given(chosen(kind))
    def check(drawn: dict[str, Any]) -> None:
        file.write_text(yaml.safe_dump({**NEEDED[kind], **drawn}), encoding="utf-8")
        try:
            config = read()
        except UsageError as error:
            counts["refused"] += 1
            names = {spelling for option in options_of(kind).values() for spelling in option.spellings}
            # One that belongs to several options says what they are.
            given_names = {name.rpartition(".")[2] for name in drawn} & {name.rpartition(".")[2] for name in names}
            assert all(any(name in line for name in given_names) for line in error.lines), error.lines
            return
        counts["built"] += 1
        file.write_text(cli.settings_yaml(config), encoding="utf-8")
        assert read() == config
        words = shlex.split(cli.command_of(config, "jobs.any"))[3:]
        assert cli.parse(kind, words, "jobs.any").settings == config

    check()
    assert counts["built"] >= 2, counts
    assert counts["refused"] >= 2, counts
