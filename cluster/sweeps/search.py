"""How a space is searched: what chooses the options of the next trial, and what ends trials or changes them.

Searches: every combination (`grid`), independent draws (`random`), or draws that a model of the results so far suggests
(`optuna`: tree-structured Parzen estimators, Bergstra et al. 2011). Schedulers: none, asynchronous successive halving
(`asha`: Li et al. 2020), or population-based training (`pbt`: Jaderberg et al. 2017).
"""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher

from cluster.sweeps.space import Domain, Space
from cluster.sweeps.trial import COMPARED
from motions.base.errors import UserError

Mode = Literal["max", "min"]
WITHOUT_END = 10**9
"""More steps than any training makes: a trial ends by itself, so that it can write its results."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How the trials of a search are chosen and ended."""

    search: Literal["grid", "random", "optuna"]
    scheduler: Literal["none", "asha", "pbt"]
    num_trials: int
    """Of a grid it is the number of its points."""
    metric: str
    mode: Mode
    against: tuple[tuple[str, Mode], ...]
    """Further metrics and whether more or less of them is better, for a front of best compromises."""
    grace_steps: int
    """Steps that every trial makes before `asha` may end it, and between two comparisons of `pbt`."""
    reduction_factor: float
    """`asha` lets one of so many trials go on."""
    max_concurrent: int
    """0: as many as the cluster has room for."""
    seed: int


def check_plan(plan: SearchPlan, space: Space) -> None:
    """Checks that a space can be searched in this way.

    Raises:
        UserError: it cannot.
    """
    if plan.search == "optuna" and importlib.util.find_spec("optuna") is None:
        raise UserError("search optuna needs the package optuna, which is not installed: pip install optuna")
    if plan.search == "grid":
        space.grid()
    if plan.scheduler != "none" and plan.metric.startswith("final/"):
        raise UserError(
            f"scheduler {plan.scheduler} compares trials while they run, but {plan.metric} is measured last"
        )
    if plan.scheduler == "pbt" and not mutated(space):
        raise UserError("scheduler pbt changes options while trials run: the space needs a uniform or log_uniform one")
    if plan.scheduler == "pbt" and plan.search == "optuna":
        raise UserError("scheduler pbt changes options that search optuna would learn from: search at random with it")
    if plan.scheduler == "pbt" and plan.num_trials < 2:
        raise UserError(f"num_trials {plan.num_trials}: a population has at least 2")


def mutated(space: Space) -> dict[str, Domain]:
    """The options that population-based training changes: those with an interval of real numbers. All others a trial
    keeps, or takes over together with a checkpoint."""
    return {path: domain for path, domain in space.domains.items() if domain.is_continuous}


def first_options(plan: SearchPlan, space: Space) -> dict[str, Any]:
    """The `param_space` of Ray Tune."""
    if plan.search == "grid":
        return {path: tune.grid_search(list(domain.listed)) for path, domain in space.domains.items()}
    return {path: _tune_domain(domain) for path, domain in space.domains.items()}


def searcher(plan: SearchPlan) -> Searcher | None:
    """What suggests options from results; None where nothing does."""
    if plan.search != "optuna":
        return None
    from ray.tune.search.optuna import OptunaSearch

    if not plan.against:
        return OptunaSearch(metric=plan.metric, mode=plan.mode, seed=plan.seed)
    metrics, modes = zip((plan.metric, plan.mode), *plan.against, strict=True)
    return OptunaSearch(metric=list(metrics), mode=list(modes), seed=plan.seed)


def scheduler(plan: SearchPlan, space: Space) -> TrialScheduler | None:
    """What ends trials or changes them; None where nothing does."""
    if plan.scheduler == "asha":
        return AsyncHyperBandScheduler(
            time_attr=COMPARED,
            metric=plan.metric,
            mode=plan.mode,
            grace_period=plan.grace_steps,
            reduction_factor=plan.reduction_factor,
            max_t=WITHOUT_END,
        )
    if plan.scheduler == "pbt":
        return PopulationBasedTraining(
            time_attr=COMPARED,
            metric=plan.metric,
            mode=plan.mode,
            perturbation_interval=plan.grace_steps,
            hyperparam_mutations=_mutations(plan, space),
            custom_explore_fn=Clipped(mutated(space)),
            log_config=False,
        )
    return None


def _mutations(plan: SearchPlan, space: Space) -> dict[str, Any]:
    return {path: Drawn(domain, plan.seed + index) for index, (path, domain) in enumerate(mutated(space).items())}


class Drawn:
    """Draws from a domain, reproducibly."""

    def __init__(self, domain: Domain, seed: int) -> None:
        self._domain = domain
        self._random = random.Random(seed)

    def __call__(self) -> float:
        """The next draw."""
        low, high = self._domain.values
        if self._domain.kind == "log_uniform":
            return math.exp(self._random.uniform(math.log(low), math.log(high)))
        return self._random.uniform(low, high)


class Clipped:
    """Keeps perturbed options inside their domains."""

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self._domains = domains

    def __call__(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options with those that left their domain at its border."""
        for path, domain in self._domains.items():
            low, high = domain.values
            options[path] = min(max(options[path], low), high)
        return options


def _tune_domain(domain: Domain) -> Any:
    if domain.kind == "uniform":
        return tune.uniform(*domain.values)
    if domain.kind == "log_uniform":
        return tune.loguniform(*domain.values)
    if domain.kind == "integers":
        return tune.randint(domain.values[0], domain.values[1] + 1)
    return tune.choice(list(domain.values))
