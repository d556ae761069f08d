"""Experts: functions that give an action for each state, used to label demonstrations and as open-loop baselines.

`reference` aims at the reference pose with velocity feed-forward; `balance` adds a correction for the errors of the
root; a trained controller can be the expert for another one; `refined` adds a table by phase to any of them.
Corrections are radians of PD target; actions are in the environment's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from envs.body.joint_coordinates import COORDINATES
from envs.body.rotations import rotation_matrices
from envs.body.tracked import TrackedState
from envs.settings import BODY_NAMES, DeepMimicSettings
from envs.task.clips import open_clip
from motions.base.errors import UserError
from rollouts.control.actor_critic import ActorCritic, ControllerError, load_controller
from rollouts.imitation.balance_feedback import BalanceGains, balance_offsets, load_gains, root_errors, stance_share
from rollouts.imitation.demonstrations import Expert

if TYPE_CHECKING:
    from envs.mujoco.vector_environment import DeepMimicVectorEnv
    from rollouts.imitation.settings import DemonstrationSettings

Array = NDArray[np.float64]

GAINS_FOLDER = Path(__file__).parent / "balance_gains"
"""Folder of the gains that come with kinetune, one file per clip: `walk.json`, ..."""

_LEFT_ANKLE, _RIGHT_ANKLE = BODY_NAMES.index("left_ankle"), BODY_NAMES.index("right_ankle")


class ReferenceExpert:
    """The reference target, independent of the state: the open-loop baseline."""

    def label(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A] for the environment's present states."""
        return env.expert_action().astype(np.float64)


class BalanceExpert:
    """The reference target, corrected for the errors of the root; see `rollouts.imitation.balance_feedback`."""

    def __init__(self, gains: BalanceGains | Sequence[BalanceGains]) -> None:
        """`gains`: one set for all environments, or one for each."""
        if isinstance(gains, BalanceGains):
            self._stance, self._swing, self._chest = gains.stance, gains.swing, gains.chest
        else:
            self._stance = np.stack([entry.stance for entry in gains])
            self._swing = np.stack([entry.swing for entry in gains])
            self._chest = np.stack([entry.chest for entry in gains])

    def label(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A] for the present states."""
        task = env.task
        now = task.reference.state(task.clip, task.time, task.origin)
        ahead = task.reference.state(task.clip, task.time + task.lookahead_s, task.origin).body_positions
        on_left = stance_share(ahead[:, _LEFT_ANKLE, 2], ahead[:, _RIGHT_ANKLE, 2])
        errors = root_errors(root_of(env), now.tracked)
        offsets = balance_offsets(errors, on_left, self._stance, self._swing, self._chest, COORDINATES)
        return env.expert_action() + offsets / action_units(env)


class ControllerExpert:
    """Labels states with the mean action of a trained controller."""

    def __init__(self, controller: ActorCritic) -> None:
        self._controller = controller.eval()

    def label(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A] for the observations [N, O]."""
        return self._controller.act(torch.from_numpy(observations)).numpy().astype(np.float64)


@dataclass(frozen=True, slots=True)
class PhaseTable:
    """Corrections by phase: `offsets` [M, A] in radians at phases m / M of a cyclic clip, m / (M - 1) of any other."""

    offsets: Array
    cyclic: bool

    def at(self, phases: Array) -> Array:
        """Corrections [N, A], linearly interpolated between the entries."""
        count = len(self.offsets)
        place = np.asarray(phases, dtype=np.float64) * (count if self.cyclic else count - 1)
        low = np.floor(place).astype(np.int64)
        share = (place - low)[:, None]
        after = (low + 1) % count if self.cyclic else np.minimum(low + 1, count - 1)
        return (1.0 - share) * self.offsets[low % count] + share * self.offsets[after]


class RefinedExpert:
    """Another expert's actions with a table of corrections for each clip."""

    def __init__(self, base: Expert, tables: Sequence[PhaseTable]) -> None:
        self._base = base
        self._tables = tuple(tables)

    def label(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A] of the base expert plus the corrections at the present phases."""
        labels = self._base.label(env, observations)
        phases, clips = env.task.phase, env.task.clip
        for index, table in enumerate(self._tables):
            rows = clips == index
            labels[rows] += table.at(phases[rows]) / action_units(env)
        return labels


class ExpertByClip:
    """Gives each clip an expert of its own."""

    def __init__(self, experts: Sequence[Expert]) -> None:
        self._experts = tuple(experts)

    def label(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A], each row by the expert of its clip."""
        labels = np.stack([expert.label(env, observations) for expert in self._experts])
        return labels[env.task.clip, np.arange(env.num_envs)]


def labels_nothing(settings: DemonstrationSettings, task: DeepMimicSettings) -> bool:
    """Whether every label is action 0: the expert is the open loop, from which the actions are offsets.

    Raises:
        UserError: a clip cannot be opened.
    """
    if task.action_mode != "residual" or settings.refine_actions or settings.expert not in ("balance", "reference"):
        return False
    clips = (open_clip(name) for name in task.motion)
    return settings.expert == "reference" or not any(gains_file(settings, clip.name) for clip in clips)


def gains_file(settings: DemonstrationSettings, clip: str) -> Path | None:
    """The gains of the balancing expert for a clip, by its name; None where there are none."""
    shipped = GAINS_FOLDER / f"{clip}.json"
    return settings.balance_gains or (shipped if shipped.is_file() else None)


def build_expert(settings: DemonstrationSettings, env: DeepMimicVectorEnv) -> Expert:
    """The expert that the settings select, without refinement.

    Raises:
        UserError: there is no such controller, it was made for other observations, or the file of gains is malformed.
    """
    if settings.expert == "reference":
        return ReferenceExpert()
    if settings.expert != "balance":
        try:
            return ControllerExpert(load_controller(settings.expert, env.observation_schema).controller)
        except ControllerError as error:
            raise UserError(
                f"expert {settings.expert} (legal: balance, reference, or a controller): {error}"
            ) from error
    experts: list[Expert] = []
    for clip in env.task.reference.clips:
        path = gains_file(settings, clip.name)
        experts.append(ReferenceExpert() if path is None else BalanceExpert(load_gains(path)))
    return experts[0] if len(experts) == 1 else ExpertByClip(experts)


def root_of(env: DeepMimicVectorEnv) -> TrackedState:
    """The simulated roots with the quantities that `root_errors` uses: rotation, position and velocities."""
    pose, velocity = env.root_state()
    spin = np.einsum("nij,nj->ni", rotation_matrices(pose[:, 3:]), velocity[:, 3:])
    return TrackedState(
        rotations=pose[:, None, 3:],
        velocities=spin[:, None],
        root_position=pose[:, :3],
        root_linear=velocity[:, :3],
        end_effectors=np.zeros((len(pose), 0, 3)),
        com=None,
    )


def action_units(env: DeepMimicVectorEnv) -> Array:
    """Radians [A] of PD target per unit of action."""
    return np.array(env.observation_schema["action_range"])
