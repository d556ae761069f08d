"""How much of their processors' speed rollouts and updates use: model FLOPs utilisation (MFU, Chowdhery et al. 2022).

The work is that of the model alone: two operations for each parameter, frame and network evaluation, three times as
many for a state that an update trains, whose gradient costs twice its forward. Products of attention, text encoders and
a reference policy are not counted, and every motion has the longest one's frames, so this is a figure to compare runs
by. Time is that of the calls; what actors wait is in `cluster/rollout_utilization`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.run.plan import Workload
from cluster.run.roles import ROLLOUT
from cluster.runtime.actor_host import thread_count
from cluster.runtime.protocol import Call

SIZE, LARGE_SIZE = 512, 4096
"""Rows of the matrices by which the speed of a CPU and of a GPU is measured."""
REPEATS = 4


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Compares what the calls of a step did with what one actor could do.

    Example:
        Efficiency(workload, peak=9.9e14)
    """

    workload: Workload
    peak: float
    """Floating-point operations a second of one actor's processor."""
    num_learners: int = 1
    """Learners that share an update."""

    def of_step(self, calls: Sequence[Call], update_seconds: float) -> dict[str, float]:
        """The utilisation by the rollouts among `calls`, and by an update of all their groups."""
        done = [call.stats.seconds for call in calls if call.role == ROLLOUT and call.stats is not None]
        load = self.workload
        rollouts = load.rollout_flops * len(done) / load.num_prompts
        update = load.update_flops * len(done) / load.num_prompts
        return {
            "cluster/rollout_mfu": rollouts / (max(sum(done), 1e-9) * self.peak),
            "cluster/update_mfu": update / (max(update_seconds, 1e-9) * self.peak * self.num_learners),
        }


def measured_peak(threads: int, cuda: bool) -> float:
    """Operations a second of a float32 matrix product on this machine, the best of some.

    Args:
        threads: of a CPU.
        cuda: whether on the GPU.
    """
    import torch

    device, size = ("cuda", LARGE_SIZE) if cuda else ("cpu", SIZE)
    left, best = torch.full((size, size), 0.5, device=device), float("inf")
    with thread_count(threads), torch.inference_mode():
        for _ in range(REPEATS):
            started = time.perf_counter()
            # Fetching a number waits for the GPU.
            float((left @ left)[0, 0])
            best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def efficiency_of(
    workload: Workload, peak_tflops: float | None, threads: int, num_gpus: float, num_learners: int = 1
) -> Efficiency:
    """The comparison with a given speed, or with what a matrix product reaches here.

    Args:
        peak_tflops: 10^12 operations a second of one actor's processor; None to measure it in this process.
        threads: of an actor.
        num_gpus: that a rollout actor has.
        num_learners: that share an update.
    """
    if peak_tflops is not None:
        return Efficiency(workload, peak_tflops * 1e12, num_learners)
    import torch

    return Efficiency(workload, measured_peak(threads, num_gpus > 0 and torch.cuda.is_available()), num_learners)
