"""The roles of a training run: rollouts, one per reward, and the learner."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from cluster.run.learner_service import build_learner_service
from cluster.runtime.protocol import Factory, Role
from cluster.settings import ActorSettings, ClusterSettings, SupervisionSettings

ROLLOUT = "rollout"
LEARNER = "learner"
"""The learner, or the first of several, which alone says what the policy is."""


def is_learner(role: Role) -> bool:
    """Whether a role is the learner's, or that of one of several."""
    return role.name.partition(":")[0] == LEARNER


def learners_of(roles: Sequence[Role]) -> list[Role]:
    """Roles of the learners, by their rank."""
    return [role for role in roles if is_learner(role)]


def reward_role(scorer: str) -> str:
    """Name of a scorer's role."""
    return f"reward:{scorer}"


def acting_roles(settings: ActorSettings, rollout: Factory, scorers: Mapping[str, Factory]) -> list[Role]:
    """Roles of those that generate and score motions.

    Args:
        settings: counts, resources, threads, time limits.
        rollout: builds an object with `run(request, version) -> (GroupMotions, Trajectory)`.
        scorers: name -> builder of an object that is called about motions; a reward has `score(motions) ->
            RewardTerms`.
    """
    common = common_role(settings)
    roles = [
        common(
            ROLLOUT,
            rollout,
            count=settings.num_rollout_actors,
            num_cpus=settings.cpus_per_rollout_actor,
            num_gpus=settings.gpus_per_rollout_actor,
            timeout_s=settings.call_timeout_s,
        )
    ]
    for name, factory in scorers.items():
        roles.append(
            common(
                reward_role(name),
                factory,
                count=settings.num_reward_actors,
                num_cpus=settings.cpus_per_reward_actor,
                num_gpus=settings.gpus_per_reward_actor,
                timeout_s=settings.call_timeout_s,
                retry_errors=True,
            )
        )
    return roles


def training_roles(
    settings: ClusterSettings, rollout: Factory, scorers: Mapping[str, Factory], learner: Factory
) -> list[Role]:
    """Roles for the controller: those of `acting_roles`, and a role for each learner.

    Args:
        learner: builds an object with `update`, `version`, `state`, `load` (see `learner_service.Learner`).
    """
    return [
        *acting_roles(settings, rollout, scorers),
        *(
            common_role(settings)(
                name,
                functools.partial(build_learner_service, learner),
                num_cpus=settings.cpus_per_learner,
                num_gpus=settings.gpus_per_learner,
                timeout_s=settings.learner_timeout_s,
                stateful=True,
            )
            for name in (LEARNER, *(f"{LEARNER}:{rank}" for rank in range(1, settings.num_learners)))
        ),
    ]


def common_role(settings: SupervisionSettings) -> Callable[..., Role]:
    """Makes roles with what all of them share."""
    return functools.partial(
        Role,
        threads=settings.threads_per_actor,
        deterministic=settings.deterministic,
        start_timeout_s=settings.start_timeout_s,
        max_attempts=settings.max_attempts,
        max_in_flight=settings.max_in_flight,
    )
