"""The search of `jobs.balance`: CMA-ES on the returns of the balancing expert."""

from __future__ import annotations

import numpy as np
from cmaes import CMA

from cluster.records.opening import check_output
from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from jobs.command_line import main as cli
from jobs.configs.balance import BalanceConfig, SearchSettings
from motions.base.atomic import atomic_write
from rollouts.imitation.balance_feedback import NUM_GAINS, BalanceGains, gains_text, load_gains
from rollouts.imitation.experts import BalanceExpert, action_units


def run(config: BalanceConfig) -> None:
    """Searches, and writes the file."""
    first = first_gains(config)
    search, task = config.search, config.character
    strategy = CMA(first, search.sigma, seed=search.seed, population_size=search.population)
    env = make_vector_env(task, search.population * search.starts, seed=0)
    for generation in range(search.generations):
        samples = np.stack([strategy.ask() for _ in range(search.population)])
        share = min(1.0, 2.0 * generation / search.generations)
        horizon_s = search.first_horizon_s + share * (search.horizon_s - search.first_horizon_s)
        gains = [BalanceGains.from_vector(sample) for sample in samples for _ in range(search.starts)]
        rng = np.random.default_rng([search.seed, generation])
        values, seconds = try_gains(env, gains, search, round(horizon_s * task.control_hz), rng)
        means = values.reshape(search.population, search.starts).mean(axis=1)
        assert np.isfinite(means).all()
        # It minimises.
        strategy.tell(list(zip(samples, -means, strict=True)))
        if generation % 10 == 9 or generation == search.generations - 1:
            print(
                f"generation {generation + 1}/{search.generations}: return {values.mean():.1f}, survival "
                f"{seconds.mean():.2f} s of {horizon_s:.1f} s, spread {samples.std(axis=0).mean():.4f}",
                flush=True,
            )
            note = cli.command_of(config, "jobs.balance")
            with atomic_write(search.output) as file:
                file.write(gains_text(BalanceGains.from_vector(strategy.mean), note).encode())
    env.close()


def plan(config: BalanceConfig) -> None:
    """Opens clips and gains, and prints what would be searched."""
    first_gains(config)
    make_vector_env(config.character, 1, seed=0).close()
    search = config.search
    print(cli.settings_yaml(config))
    print(
        f"\n{search.generations} generations of {search.population} candidates from {search.starts} starts each: "
        f"{search.output}"
    )


def first_gains(config: BalanceConfig) -> np.ndarray:
    """The gains [NUM_GAINS] that the search starts from.

    Raises:
        UserError: their file is none, or the file of the result cannot be written.
    """
    search = config.search
    check_output("output", search.output)
    return np.zeros(NUM_GAINS) if search.start is None else load_gains(search.start).vector()


def try_gains(
    env: DeepMimicVectorEnv,
    gains: list[BalanceGains],
    search: SearchSettings,
    num_steps: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return and seconds of survival [N] of every environment with gains of its own; starts and noise repeat every
    `starts` environments."""
    count = search.starts
    copies = env.num_envs // count
    phases = (np.arange(count) + rng.random(count)) / count
    expert, units = BalanceExpert(gains), action_units(env)
    observations, _ = env.reset(seed=0, options={"phase": np.tile(phases, copies)})
    returns, steps, living = np.zeros(env.num_envs), np.zeros(env.num_envs), np.ones(env.num_envs, dtype=bool)
    for _ in range(num_steps):
        noise = np.tile(search.trial_noise * rng.standard_normal((count, len(units))), (copies, 1))
        actions = expert.label(env, observations) + noise / units
        observations, rewards, terminated, truncated, _ = env.step(actions.astype(np.float32))
        returns += np.where(living, rewards, 0.0)
        steps += living
        living &= ~(terminated | truncated)
        if not living.any():
            break
    return returns, steps / env.settings.control_hz
