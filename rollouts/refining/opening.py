"""Opens what `jobs.grpo` trains: a refiner on motions of a frozen base, or the checkpoint itself."""

from __future__ import annotations

from dataclasses import dataclass

from rollouts.checkpoints.loading import LoadedBase, open_base, open_policy, with_adapters
from rollouts.policy import Policy
from rollouts.refining.checkpoints import load_refiner
from rollouts.refining.policy import RefiningPolicy
from rollouts.refining.refiner import Refiner
from rollouts.settings import PolicySettings, SamplingSettings


@dataclass(frozen=True, slots=True)
class RefinerReport:
    """What was loaded."""

    path: str
    base: str

    def __str__(self) -> str:
        return f"PhysicsSSM from {self.path}, frozen, with a residual that learns, on motions of {self.base}"


@dataclass(frozen=True, slots=True)
class LoadedRefiner:
    """A refiner that is to be trained as a policy."""

    refiner: Refiner
    report: RefinerReport

    @classmethod
    def of(cls, refiner_path: str, model_path: str) -> LoadedRefiner:
        """Reads the refiner's folder.

        Raises:
            UserError: it is none.
        """
        return cls(load_refiner(refiner_path), RefinerReport(refiner_path, model_path))


def open_trained(settings: PolicySettings) -> LoadedBase | LoadedRefiner:
    """What learns: the refiner of `refiner_path`, else the checkpoint of `model_path`, without adapters.

    Raises:
        UserError: as of `load_refiner` and `rollouts.checkpoints.loading.open_base`.
    """
    if settings.refiner_path is not None:
        return LoadedRefiner.of(settings.refiner_path, settings.model_path)
    return open_base(settings)


def open_trained_policy(
    loaded: LoadedBase | LoadedRefiner, settings: PolicySettings, sampling: SamplingSettings
) -> Policy:
    """The policy of a result of `open_trained`, whose network it takes over, with adapters.

    Raises:
        UserError: parts do not fit each other or the device.
    """
    if not isinstance(loaded, LoadedRefiner):
        return open_policy(loaded, settings, sampling)
    policy = RefiningPolicy(loaded.refiner, sampling)
    with_adapters(policy.network, settings)
    return policy
