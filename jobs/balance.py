"""Searches the feedback gains of the balancing expert for a clip, by CMA-ES on its returns in the simulator.

    python -m jobs.balance --motion walk --output rollouts/balance_gains/walk.json
    python -m jobs.balance --motion run --generations 300 --start rollouts/balance_gains/walk.json --output run.json

Every candidate of a generation is tried from the same random phases with the same noise, all in one batched
environment; its value is the mean return. The gains that ship with kinetune are in `rollouts/balance_gains/`;
`jobs.sft --expert balance` uses them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from envs.settings import DeepMimicSettings
from jobs.command_line import main as cli

if TYPE_CHECKING:
    from envs.mujoco.vector_environment import DeepMimicVectorEnv
    from rollouts.imitation.balance_feedback import BalanceGains


class BalanceConfig(DeepMimicSettings):
    """Search for the gains of the balancing expert."""

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

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the search."""


def run(config: BalanceConfig) -> None:
    """Searches, and writes the file."""
    from cmaes import CMA

    from envs.mujoco.vector_environment import make_vector_env
    from motions.base.atomic import atomic_write
    from rollouts.imitation.balance_feedback import NUM_GAINS, BalanceGains, gains_text, load_gains

    first = np.zeros(NUM_GAINS) if config.start is None else load_gains(config.start).vector()
    strategy = CMA(first, config.sigma, seed=config.seed, population_size=config.population)
    task = DeepMimicSettings.model_validate({name: getattr(config, name) for name in DeepMimicSettings.model_fields})
    env = make_vector_env(task, config.population * config.starts, seed=0)
    for generation in range(config.generations):
        samples = np.stack([strategy.ask() for _ in range(config.population)])
        share = min(1.0, 2.0 * generation / config.generations)
        horizon_s = config.first_horizon_s + share * (config.horizon_s - config.first_horizon_s)
        gains = [BalanceGains.from_vector(sample) for sample in samples for _ in range(config.starts)]
        rng = np.random.default_rng([config.seed, generation])
        values, seconds = try_gains(env, gains, config, round(horizon_s * config.control_hz), rng)
        means = values.reshape(config.population, config.starts).mean(axis=1)
        assert np.isfinite(means).all()
        # It minimises.
        strategy.tell(list(zip(samples, -means, strict=True)))
        if generation % 10 == 9 or generation == config.generations - 1:
            print(
                f"generation {generation + 1}/{config.generations}: return {values.mean():.1f}, survival "
                f"{seconds.mean():.2f} s of {horizon_s:.1f} s, spread {samples.std(axis=0).mean():.4f}",
                flush=True,
            )
            note = cli.command_of(config, "jobs.balance")
            with atomic_write(config.output) as file:
                file.write(gains_text(BalanceGains.from_vector(strategy.mean), note).encode())
    env.close()


def try_gains(
    env: DeepMimicVectorEnv,
    gains: list[BalanceGains],
    config: BalanceConfig,
    num_steps: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return and seconds of survival [N] of every environment with gains of its own; starts and noise repeat every
    `config.starts` environments."""
    from rollouts.imitation.experts import BalanceExpert, action_units

    count = config.starts
    copies = env.num_envs // count
    phases = (np.arange(count) + rng.random(count)) / count
    expert, units = BalanceExpert(gains), action_units(env)
    observations, _ = env.reset(seed=0, options={"phase": np.tile(phases, copies)})
    returns, steps, living = np.zeros(env.num_envs), np.zeros(env.num_envs), np.ones(env.num_envs, dtype=bool)
    for _ in range(num_steps):
        noise = np.tile(config.trial_noise * rng.standard_normal((count, len(units))), (copies, 1))
        actions = expert.label(env, observations) + noise / units
        observations, rewards, terminated, truncated, _ = env.step(actions.astype(np.float32))
        returns += np.where(living, rewards, 0.0)
        steps += living
        living &= ~(terminated | truncated)
        if not living.any():
            break
    return returns, steps / config.control_hz


if __name__ == "__main__":
    sys.exit(cli.main(BalanceConfig, run, __doc__, job="jobs.balance"))
