"""The configuration of `jobs.balance`; imports neither torch, ray nor a physics engine."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cluster.settings import RunSettings
from envs.settings import DeepMimicSettings
from motions.settings import Settings, redeclared


class SearchSettings(Settings):
    """Search for feedback gains."""

    output: Path
    """File of the gains (JSON); it is written again every ten generations."""

    start: Path | None = None
    """File of gains to start from; by default zeros, the open-loop reference."""

    generations: int = Field(default=150, ge=1)
    """Generations of the search."""

    population: int = Field(default=16, ge=4)
    """Candidates of a generation."""

    starts: int = Field(default=6, ge=1)
    """Phases from which each candidate is tried; drawn anew in every generation."""

    sigma: float = Field(default=0.05, gt=0)
    """First standard deviation of the candidates, radians of offset per ordinary error."""

    first_horizon_s: float = Field(default=3.0, gt=0)
    """Length of the trials at first; it grows to `horizon_s` over the first half of the search."""

    horizon_s: float = Field(default=10.0, gt=0)
    """Length of the trials at last."""

    trial_noise: float = Field(default=0.03, ge=0)
    """Standard deviation of the noise on the targets, radians."""

    seed: int = redeclared(RunSettings, "seed", 0, below=2**31)
    """Seed of the search."""


class BalanceConfig(Settings):
    """Search for the gains of the balancing expert."""

    search: SearchSettings
    character: DeepMimicSettings = DeepMimicSettings()
