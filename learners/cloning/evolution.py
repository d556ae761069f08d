"""CMA-ES: minimises or maximises a function of some tens of numbers by its values alone.

    m mean, sigma step size, C covariance, lambda samples per generation, mu of them kept with weights w
    x_k = m + sigma C^(1/2) z_k;  the mu best pull m; evolution paths p_sigma, p_c adapt sigma and C

Hansen, The CMA Evolution Strategy: A Tutorial (arXiv 1604.00772), with its default constants; the weights
of the kept samples are positive. Used for the gains of the balancing expert: the return of a rollout has
no gradient worth having, and values of one generation are compared on the same starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from motions.base.errors import UserError


@dataclass(frozen=True, slots=True)
class _Constants:
    weights: np.ndarray
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    chi: float


class EvolutionStrategy:
    """Maximises; `ask` for samples, `tell` their values.

    Example:
        strategy = EvolutionStrategy(np.zeros(10), sigma=0.3, population=12, seed=0)
        for _ in range(100):
            samples = strategy.ask()
            strategy.tell(samples, -(samples**2).sum(axis=1))
        strategy.mean
    """

    def __init__(self, mean: np.ndarray, sigma: float, population: int, seed: int) -> None:
        """Start around `mean` [n] with standard deviation `sigma` in every direction.

        Raises:
            UserError: sigma is not above 0 or the population is below 4.
        """
        if not sigma > 0:
            raise UserError(f"sigma is {sigma}; legal: above 0")
        if population < 4:
            raise UserError(f"population is {population}; legal: at least 4")
        self.mean = np.array(mean, dtype=np.float64)
        self.sigma = sigma
        self.population = population
        self.generation = 0
        size = len(self.mean)
        self._constants = _constants(size, population)
        self._covariance = np.eye(size)
        self._path_sigma = np.zeros(size)
        self._path_c = np.zeros(size)
        self._rng = np.random.default_rng(seed)
        self._basis, self._scales = np.eye(size), np.ones(size)

    def ask(self) -> np.ndarray:
        """Samples [population, n] of this generation."""
        values, self._basis = np.linalg.eigh(self._covariance)
        self._scales = np.sqrt(np.maximum(values, 1e-20))
        noise = self._rng.standard_normal((self.population, len(self.mean)))
        return self.mean + self.sigma * (noise * self._scales) @ self._basis.T

    def tell(self, samples: np.ndarray, values: np.ndarray) -> None:
        """Take the values [population] of the samples of `ask`; larger is better.

        Raises:
            UserError: a value is NaN.
        """
        if np.isnan(values).any():
            raise UserError("a value of the generation is NaN")
        constants, size = self._constants, len(self.mean)
        best = samples[np.argsort(-values)[: len(constants.weights)]]
        steps = (best - self.mean) / self.sigma
        move = constants.weights @ steps
        self.mean = self.mean + self.sigma * move
        whitened = self._basis @ ((self._basis.T @ move) / self._scales)
        c_sigma, c_c = constants.c_sigma, constants.c_c
        self._path_sigma = (1 - c_sigma) * self._path_sigma + math.sqrt(
            c_sigma * (2 - c_sigma) * constants.mu_eff
        ) * whitened
        self.generation += 1
        length = float(np.linalg.norm(self._path_sigma))
        expected = math.sqrt(1 - (1 - c_sigma) ** (2 * self.generation)) * constants.chi
        # The path of C pauses while sigma is about to jump.
        steady = float(length / expected < 1.4 + 2 / (size + 1))
        self._path_c = (1 - c_c) * self._path_c + steady * math.sqrt(c_c * (2 - c_c) * constants.mu_eff) * move
        rank_mu = (steps * constants.weights[:, None]).T @ steps
        rank_one = np.outer(self._path_c, self._path_c) + (1 - steady) * c_c * (2 - c_c) * self._covariance
        self._covariance = (
            (1 - constants.c_1 - constants.c_mu) * self._covariance
            + constants.c_1 * rank_one
            + constants.c_mu * rank_mu
        )
        self.sigma *= math.exp((c_sigma / constants.d_sigma) * (length / constants.chi - 1))


def _constants(size: int, population: int) -> _Constants:
    """The tutorial's defaults, its table 1."""
    kept = population // 2
    raw = math.log((population + 1) / 2) - np.log(np.arange(1, kept + 1))
    weights = raw / raw.sum()
    mu_eff = float(1.0 / (weights**2).sum())
    c_sigma = (mu_eff + 2) / (size + mu_eff + 5)
    c_1 = 2 / ((size + 1.3) ** 2 + mu_eff)
    return _Constants(
        weights=weights,
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (size + 1)) - 1) + c_sigma,
        c_c=(4 + mu_eff / size) / (size + 4 + 2 * mu_eff / size),
        c_1=c_1,
        c_mu=min(1 - c_1, 2 * (mu_eff - 2 + 1 / mu_eff) / ((size + 2) ** 2 + mu_eff)),
        chi=math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2)),
    )
