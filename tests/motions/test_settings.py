"""Options that compose: flat names where they are unique, groups, retired options, and what an option changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from motions.base.errors import UserError
from motions.settings import Settings, changeable_options, flat_values, options_of, redeclared, spellings_of
from tests.toys.composed_settings import (
    MainlyTuning,
    ToyCloningSettings,
    ToyNetworkSettings,
    ToyRunSettings,
    ToyTuningSettings,
    TwoLearners,
)

RUN = {"save_dir": "out"}


def changeable(**changes: Any) -> frozenset[str]:
    return changeable_options(TwoLearners.of(RUN, **changes))


def test_a_unique_name_is_flat_and_a_shared_one_has_its_group_in_front() -> None:
    flags = {path: option.flag for path, option in options_of(TwoLearners).items()}
    assert flags["run.seed"] == "seed" and flags["tuning.kl"] == "kl"
    assert flags["cloning.learning_rate"] == "cloning.learning_rate"
    assert flags["tuning.network.width"] == "tuning.network.width"
    assert options_of(TwoLearners)["tuning.learning_rate"].spellings == ("tuning.learning_rate", "tuning.lr")


def test_a_flat_name_means_the_preferred_group() -> None:
    config = MainlyTuning.of(RUN, learning_rate=3.0, width=4)
    assert (config.cloning.learning_rate, config.tuning.learning_rate) == (0.1, 3.0)
    assert (config.cloning.network.width, config.tuning.network.width) == (8, 4)
    flags = {path: option.flag for path, option in options_of(MainlyTuning).items()}
    assert flags["tuning.learning_rate"] == "learning_rate" and flags["tuning.network.width"] == "width"
    assert flags["cloning.learning_rate"] == "cloning.learning_rate"
    assert options_of(MainlyTuning)["tuning.learning_rate"].aliases == ("lr",)


@pytest.mark.parametrize("kind", [TwoLearners, MainlyTuning])
def test_dotted_names_reach_each_group(kind: type[TwoLearners]) -> None:
    given = {"cloning.learning_rate": 3.0, "tuning.lr": 4.0, "cloning.network.width": 5, "tuning.network.width": 6}
    config = kind.of({**RUN, **given})
    assert (config.cloning.learning_rate, config.tuning.learning_rate) == (3.0, 4.0)
    assert (config.cloning.network.width, config.tuning.network.width) == (5, 6)


def test_inner_groups_may_be_left_out() -> None:
    """So a file from before a group was divided is still read."""
    assert TwoLearners.of({**RUN, "tuning.width": 6}, cloning={"width": 5}) == TwoLearners.of(
        {**RUN, "cloning.network.width": 5, "tuning.network.width": 6}
    )


@pytest.mark.parametrize("word", ["learning_rate", "lr"])
def test_a_name_of_two_groups_without_a_preferred_one_is_refused_with_both(word: str) -> None:
    with pytest.raises(UserError) as caught:
        TwoLearners.of({**RUN, word: 3.0})
    assert str(caught.value) == f"{word!r} could be any of cloning.learning_rate, tuning.learning_rate; say which"


def test_an_option_of_the_model_itself_is_reached_beside_one_of_a_preferred_group() -> None:
    class Job(Settings):
        """A job."""

        kl: float = 1.0
        """Its own."""
        tuning: ToyTuningSettings = ToyTuningSettings()

        preferred = ("tuning",)

    assert {path: option.flag for path, option in options_of(Job).items() if option.name == "kl"} == {
        "kl": "kl",
        "tuning.kl": "tuning.kl",
    }
    config = Job.of({"kl": 2.0, "tuning.kl": 3.0})
    assert (config.kl, config.tuning.kl) == (2.0, 3.0)


def test_a_name_wins_over_the_alias_of_another_group() -> None:
    class Rates(Settings):
        """Rates."""

        lr: float = 1.0
        """Not the learning rate: left to right."""

    class Job(Settings):
        """A job."""

        tuning: ToyTuningSettings = ToyTuningSettings()
        rates: Rates = Rates()

    assert spellings_of(Job)["lr"] == "rates.lr" and spellings_of(Job)["tuning.lr"] == "tuning.learning_rate"


NESTED: dict[str, Any] = {"run": {"save_dir": "out", "seed": 3}, "tuning": {"kl": 1.0, "network": {"width": 2}}}


@pytest.mark.parametrize(
    "given",
    [
        NESTED,
        {"save_dir": "out", "seed": 3, "kl": 1.0, "tuning.network.width": 2},
        {"save_dir": "out", "run": {"seed": 3}, "tuning": {"network.width": 2}, "kl": 1.0},
        {"run": ToyRunSettings(save_dir=Path("out"), seed=3), "kl": 1.0, "tuning.network.width": 2},
    ],
    ids=["nested", "flat", "mixed", "group as an object"],
)
def test_nested_flat_and_mixed_values_are_one_configuration(given: dict[str, Any]) -> None:
    assert TwoLearners.of(given) == TwoLearners.model_validate(NESTED)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": 1, "run": {"seed": 1}}, "run.seed is given twice: as seed and as run.seed"),
        ({"tuning.lr": 1.0, "tuning": {"learning_rate": 1.0}}, "tuning.learning_rate is given twice"),
        ({"kl": 1.0, "tuning": ToyTuningSettings()}, "tuning is given as a whole, and so is tuning.kl"),
        ({"sed": 1}, "unknown option 'sed' of TwoLearners"),
        ({"run": {"sed": 1}}, "unknown option 'run.sed' of TwoLearners"),
    ],
)
def test_values_that_contradict_or_mean_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        TwoLearners.of({**RUN, **given})
    assert message in str(caught.value)


def test_an_illegal_value_is_the_models_error() -> None:
    with pytest.raises(ValidationError, match="learning_rate"):
        MainlyTuning.of(RUN, learning_rate=-1)


@pytest.mark.parametrize("kind", [TwoLearners, MainlyTuning])
def test_what_is_written_reads_back(kind: type[TwoLearners]) -> None:
    config = kind.of(
        {**RUN, "cloning.lr": 3.0, "tuning.network.width": 5, "shuffle" if kind.preferred else "on": False}
    )
    assert config.flat().keys() == {option.flag for option in options_of(kind).values()}
    assert config.by_path().keys() == options_of(kind).keys()
    for written in (config.flat(), config.by_path(), config.model_dump(mode="json")):
        assert kind.of(written) == config
        assert flat_values(kind, written) == config.flat()


def test_retired_options_are_read_where_their_value_is_the_legal_one() -> None:
    for given in ({"momentum": 0.9}, {"cloning": {"momentum": "Default"}}, {"cloning.momentum": "0.9"}):
        assert TwoLearners.of({**RUN, **given}) == TwoLearners.of(RUN)
    with pytest.raises(UserError) as caught:
        TwoLearners.of(RUN, momentum=0.8)
    assert str(caught.value) == "momentum 0.8 is not supported: it is part of Adam"
    assert flat_values(TwoLearners, {"momentum": 0.9, "lr": 1.0, "cloning": {"lr": 2.0}}) == {
        "momentum": 0.9,
        "lr": 1.0,
        "cloning.learning_rate": 2.0,
    }


def test_an_option_says_what_it_changes() -> None:
    affects = {option.flag: option.affects for option in options_of(TwoLearners).values()}
    assert (affects["keep"], affects["save_dir"]) == ("records", "records")
    assert (affects["seed"], affects["num_steps"], affects["threads"]) == ("results", "length", "speed")
    assert affects["cloning.learning_rate"] == "results"


def test_a_subclass_says_it_for_its_own_fields_and_no_others() -> None:
    class Shown(ToyNetworkSettings):
        """A network that is shown."""

        affects = "records"

        width: int = redeclared(ToyNetworkSettings, "width", 32)
        colour: Literal["red", "blue"] = "red"
        """In pictures."""

    class Timed(ToyRunSettings):
        """A run that is timed."""

        keep: int = redeclared(ToyRunSettings, "keep", affects="speed", spellings=("keep_last", "keep"))

    options = options_of(Shown)
    assert (options["width"].affects, options["colour"].affects) == ("results", "records")
    assert Shown().width == 32 and options["width"].doc == "Width of its layers."
    keep = options_of(Timed)["keep"]
    assert (keep.affects, keep.flag, keep.aliases) == ("speed", "keep_last", ("keep",))
    assert options_of(ToyRunSettings)["keep"].affects == "records"
    with pytest.raises(ValidationError):
        Shown(width=0)


def test_what_changes_no_result_may_change_when_a_run_goes_on() -> None:
    always = {"run.save_dir", "run.keep", "run.threads"}
    assert changeable() == always | {"run.num_steps"}
    # Every step of a cosine depends on how many there will be.
    assert changeable(schedule="cosine") == always
    # What is not heard changes nothing.
    tuning = {path for path in options_of(TwoLearners) if path.startswith("tuning.")}
    assert changeable(on=False) == always | {"run.num_steps"} | tuning


def test_a_group_stands_for_itself() -> None:
    assert {option.flag for option in options_of(ToyCloningSettings).values()} == {
        *("learning_rate", "shuffle", "schedule", "width")
    }
    assert ToyCloningSettings.of(width=3).network.width == 3
