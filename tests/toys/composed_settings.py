"""A toy job with two learners whose options share names, for tests of how options compose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from motions.base.errors import UserError
from motions.settings import Affects, Effect, Retired, Settings


class ToyRunSettings(Settings):
    """The run."""

    affects: ClassVar[Affects] = "records"

    save_dir: Path
    """Folder of the run."""

    keep: int = Field(default=2, ge=1)
    """Checkpoints that are kept."""

    seed: Annotated[int, Effect("results")] = 0
    """Seed of everything."""

    num_steps: Annotated[int, Effect("length")] = 10
    """Steps of the run."""

    threads: Annotated[int, Effect("speed")] = 1
    """Threads of every process."""


class ToyNetworkSettings(Settings):
    """A network."""

    width: int = Field(default=8, ge=1)
    """Width of its layers."""


class ToyCloningSettings(Settings):
    """The first learner."""

    retired: ClassVar[Mapping[str, Retired]] = {"momentum": Retired(("0.9", "default"), "it is part of Adam")}

    learning_rate: float = Field(default=0.1, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """Its step size."""

    shuffle: bool = True
    """Whether clips are shuffled."""

    schedule: Literal["constant", "cosine"] = "constant"
    """How the step size changes."""

    network: ToyNetworkSettings = ToyNetworkSettings()

    @property
    def depends_on_length(self) -> bool:
        """A cosine ends with the last step."""
        return self.schedule == "cosine"


class ToyTuningSettings(Settings):
    """The second learner."""

    learning_rate: float = Field(default=0.2, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """Its step size."""

    shuffle: bool = True
    """Whether prompts are shuffled."""

    kl: float = Field(default=0.5, ge=0)
    """Weight of the KL divergence."""

    on: bool = True
    """Whether this learner runs at all."""

    network: ToyNetworkSettings = ToyNetworkSettings(width=16)

    @model_validator(mode="after")
    def _moderate(self) -> Self:
        if self.kl * self.learning_rate > 100:
            raise UserError("kl times learning_rate is above 100")
        return self


class TwoLearners(Settings):
    """A job with two learners."""

    run: ToyRunSettings
    cloning: ToyCloningSettings = ToyCloningSettings()
    tuning: ToyTuningSettings = ToyTuningSettings()

    important: ClassVar[tuple[str, ...]] = ("save_dir", "tuning.learning_rate", "kl")

    @property
    def ignored_options(self) -> tuple[str, ...]:
        """Nothing of a learner that does not run."""
        return () if self.tuning.on else ("tuning",)


class MainlyTuning(TwoLearners):
    """The same, where a flat name means the second learner."""

    preferred: ClassVar[tuple[str, ...]] = ("tuning",)
