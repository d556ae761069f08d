"""States in which the KL to the reference is punished besides those of recorded steps.

Training records a few denoising steps, while all others use the same network and move unseen. For `kl_chain_penalty`
every group of an update gets one more state: one of its final motions, noised to the level of one of all steps that
have a density. Both are drawn, so that over the updates the whole chain is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from learners.grpo.motion_objective import noised
from learners.grpo.settings import GRPOSettings
from rollouts.diffusion.noise import chain_generator
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.messages import Trajectory


def chain_states(
    trajectories: Sequence[Trajectory], schedule: DiffusionSchedule, settings: GRPOSettings, seed: int, step: int
) -> list[Trajectory]:
    """One state of each group, in the form of a recorded step of one sample.

    Args:
        trajectories: with their final motions.
        seed: with the number of the update the key of what is drawn.

    Raises:
        ValueError: a trajectory does not hold its motions.
    """
    one_draw = {"trained_levels": schedule.num_steps - 1, "noise_draws": 1, "share_noise": False}
    drawing = settings.model_copy(update=one_draw)
    states = []
    for group, trajectory in enumerate(trajectories):
        sample = int(chain_generator(seed, step, group).integers(len(trajectory.lengths)))
        chosen = slice(sample, sample + 1)
        motions = None if trajectory.motions is None else trajectory.motions[chosen]
        alone = replace(trajectory, motions=motions, lengths=trajectory.lengths[chosen])
        states.append(noised(alone, schedule, drawing, seed, step, group))
    return states
