"""Numbers of a step from what was measured; pure functions. Names are `group/name`.

docs/reference/file_formats.md lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.run.plan import Plan
from cluster.run.roles import ROLLOUT, is_learner
from cluster.runtime.protocol import Call, Counters, Role
from rewards.messages import Mixed

NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class StackedRewards:
    """Rewards of P groups of N samples."""

    total: np.ndarray
    """Total rewards [P, N]."""
    terms: dict[str, np.ndarray]
    """Values [P, N] of the terms that all groups have, by name."""


def stacked(groups: Sequence[Mixed]) -> StackedRewards:
    """Rewards of groups of equal size as arrays."""
    shared = [name for name in groups[0].terms if all(name in group.terms for group in groups)]
    terms = {name: np.stack([group.terms[name] for group in groups]) for name in shared}
    return StackedRewards(np.stack([group.total for group in groups]), terms)


def rewards(groups: Sequence[Mixed]) -> dict[str, float]:
    """Means over samples; of each term over the groups that have it."""
    means = {"reward/total": _mean(group.total for group in groups)}
    for name in _term_names(groups):
        means[f"reward/{name}"] = _mean(group.terms[name] for group in groups if name in group.terms)
    return means


def evaluation(groups: Sequence[Mixed]) -> dict[str, float]:
    """Means over prompts with the 95 % bounds of the total's (normal approximation over prompts)."""
    per_prompt = np.array([group.total.mean(dtype=np.float64) for group in groups])
    mean = float(per_prompt.mean())
    error = NORMAL_95 * float(per_prompt.std(ddof=1)) / len(per_prompt) ** 0.5 if len(per_prompt) > 1 else 0.0
    metrics = {"evaluation/total": mean, "evaluation/total_low": mean - error, "evaluation/total_high": mean + error}
    for name in _term_names(groups):
        metrics[f"evaluation/{name}"] = _mean(group.terms[name] for group in groups if name in group.terms)
    return metrics


def means(prefix: str, groups: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Means over samples of what was measured of groups, `prefix/name`."""
    names = dict.fromkeys(name for group in groups for name in group)
    return {f"{prefix}/{name}": _mean(group[name] for group in groups if name in group) for name in names}


def prefixed(**groups: Mapping[str, float]) -> dict[str, float]:
    """Metrics of several groups, `group/name`."""
    return {f"{group}/{name}": value for group, metrics in groups.items() for name, value in metrics.items()}


def timings(calls: Sequence[Call], requested: float, started: float, roles: Mapping[str, Role]) -> dict[str, float]:
    """How the time of the rollout phase was spent.

    `seconds/rollout` ends with the last rollout; `seconds/reward` is the time that rewards took after that; both count
    from the start of the step, so that what was made before it takes none of it. `hidden_share` is the fraction of all
    reward work that ran during rollouts; `utilization` is the busy fraction of the rollout actors since the request.

    Args:
        requested: when the calls were submitted.
        started: when the step began that uses them.
    """
    rollouts = [call for call in calls if call.role == ROLLOUT]
    scores = [call for call in calls if call.role != ROLLOUT and call.stats is not None]
    rollouts_end = max(call.finished_at for call in rollouts)
    end = max([rollouts_end, *(call.finished_at for call in scores)])
    metrics = {
        "seconds/rollout": max(rollouts_end - started, 0.0),
        "seconds/reward": max(end - max(rollouts_end, started), 0.0),
    }
    busy = sum(call.stats.seconds for call in rollouts if call.stats)
    capacity = roles[ROLLOUT].count * max(rollouts_end - requested, 1e-9)
    metrics["cluster/rollout_utilization"] = min(busy / capacity, 1.0)
    work = sum(call.stats.seconds for call in scores if call.stats)
    hidden = sum(call.stats.seconds for call in scores if call.stats and call.finished_at <= rollouts_end)
    metrics["cluster/reward_hidden_share"] = hidden / work if work else 0.0
    return metrics


def queues(chains: Iterable[tuple[Call, Sequence[Call]]]) -> dict[str, float]:
    """How calls of each role waited for an actor, from when they could have run, for a reward the end of its rollout,
    to when they did: the mean time, `seconds/queue_ROLE`, and the most that waited at once, `cluster/queue_ROLE`.

    Args:
        chains: each group's rollout with the rewards that are chained on it.
    """
    waits: dict[str, list[tuple[float, float]]] = {}
    for rollout, scores in chains:
        for call, ready in ((rollout, rollout.submitted_at), *((call, rollout.finished_at) for call in scores)):
            if call.stats is not None:
                began = max(call.finished_at - call.stats.seconds, ready)
                waits.setdefault(role_name(call.role), []).append((ready, began))
    means = {f"seconds/queue_{role}": sum(b - a for a, b in spans) / len(spans) for role, spans in waits.items()}
    return {**means, **{f"cluster/queue_{role}": float(most_at_once(spans)) for role, spans in waits.items()}}


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The largest number of half-open spans that have a moment in common."""
    return max((sum(a <= start < b for a, b in spans) for start, _ in spans), default=0)


def role_name(role: str) -> str:
    """Name of a role in metrics: that of a reward stands for its actors."""
    return role.rpartition(":")[2]


def supervision(counters: Counters, dropped_groups: int) -> dict[str, float]:
    """Counts of faults that were repaired so far, and of groups of this step that were dropped."""
    return {
        "cluster/retries": float(counters.retries),
        "cluster/restarts": float(counters.restarts),
        "cluster/dropped_groups": float(dropped_groups),
    }


def at_start(plan: Plan) -> dict[str, float]:
    """Numbers of a run before its first step: sizes of its messages in bytes a step, and 0 for all counts and times."""
    load = plan.workload
    roles = [role_name(role.name) for role in plan.roles if not is_learner(role)]
    stages = ("rollout", "reward", "update", "step", "evaluation", "checkpoint", *(f"queue_{role}" for role in roles))
    counts = ("retries", "restarts", "dropped_groups", "dropped_eval_groups", "staleness", "samples_per_s")
    shares = ("rollout_utilization", "reward_hidden_share", "rollout_mfu", "update_mfu")
    return {
        "bytes/motions": float(load.num_prompts * load.motion_bytes),
        "bytes/trajectories": float(load.num_prompts * load.trajectory_bytes),
        "bytes/policy_version": float(load.version_bytes),
        **{f"seconds/{stage}": 0.0 for stage in stages},
        **{f"cluster/{name}": 0.0 for name in (*counts, *shares, *(f"queue_{role}" for role in roles))},
    }


def _term_names(groups: Sequence[Mixed]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for name in group.terms))


def _mean(parts: Iterable[np.ndarray]) -> float:
    return float(np.concatenate([np.asarray(part, np.float64) for part in parts]).mean())
