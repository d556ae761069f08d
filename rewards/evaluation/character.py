"""Evaluation of controllers: rewards, survival and tracking errors from fixed starts, next to trivial policies.

No single number suffices: a policy that stands still survives, and one that falls at once tracks well until then.
Therefore every policy is started from the same phases of the clip and gets, for each episode,

    reward              mean imitation reward of the steps before the fall or end, in [0, 1]
    normalised_return   sum of rewards over the possible number of steps, in [0, 1]: after a fall rewards count as 0
    survival_s          seconds until the fall or the end
    success             no fall during the whole episode
    joint_error         mean angle between the joints and the reference's, radians, over the steps before the fall
    joint_error_1s      the same over the first second only, which is comparable between long and short episodes
    root_error          metres from the reference's root; with `root_sync` the reference moves once per cycle
    body_error          mean over the 15 bodies, metres

and the same table for: `open loop` (the reference target with velocity feed-forward), `hold pose` (the initial targets
throughout) and `zero action` (in residual mode the same as open loop). Pushes are tested from the same starts.

All controllers are evaluated by the same rules (`judged`), independent of their training: a fall ends the episode, by
the clip's own ground bodies and the default deviation, and the reward is the default one. Interface and physics remain
the controller's own; physics other than the default are listed with the results (`unusual`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from envs.settings import ControlInterfaceSettings, DeepMimicSettings, HumanoidSettings, ReferenceSettings
from motions.humanoid.mocap import CLIP_NAMES
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.control.actor_critic import ActorCritic
from rollouts.imitation.demonstrations import Expert
from rollouts.imitation.experts import build_expert
from rollouts.imitation.settings import DemonstrationSettings

CharacterPolicy = Callable[["DeepMimicVectorEnv", np.ndarray], np.ndarray]
"""Maps the environment and its observations [N, O] to actions [N, A]."""

QUANTITIES = (
    *("reward", "normalised_return", "survival_s", "success"),
    *("joint_error", "joint_error_1s", "root_error", "body_error"),
)
ERRORS = ("joint_error", "root_error", "body_error")
RECOVERY_S = 5.0
"""Seconds without a fall after a push that count as recovery."""
PUSH_DURATION_S = 0.2
PRECISION = 6


@dataclass(frozen=True, slots=True)
class ImitationEpisodes:
    """N episodes: every quantity of `QUANTITIES` [N], `fell` [N] and `steps` [N]; if recorded, states `qpos` [T, N,
    nq], beginning with the start, and `reference_qpos` at the same times."""

    values: dict[str, np.ndarray]
    fell: np.ndarray
    steps: np.ndarray
    qpos: np.ndarray | None = None
    reference_qpos: np.ndarray | None = None

    def mean(self) -> dict[str, float]:
        """Means of all quantities over the episodes."""
        return {name: float(values.mean()) for name, values in self.values.items()}


def fixed_phases(count: int) -> np.ndarray:
    """Phases [count] evenly spread over the clip, beginning with 0."""
    return np.arange(count) / count


def judged(task: DeepMimicSettings) -> DeepMimicSettings:
    """A task with the rules by which every controller is evaluated: the defaults of reward, episode and falls.

    The controller's own clips (which define the units of absolute actions), interface and physics remain. For clips
    from files the ground bodies remain too, as their defaults are known for built-in clips only.
    """
    own = HumanoidSettings.model_fields | ReferenceSettings.model_fields | ControlInterfaceSettings.model_fields
    kept = {*own, "nthread"} - {"root_sync"}
    if not set(task.motion) <= set(CLIP_NAMES):
        kept.add("ground_bodies")
    return DeepMimicSettings.model_validate({name: getattr(task, name) for name in kept})


def unusual(task: DeepMimicSettings) -> dict[str, Any]:
    """Physics, reference and ground bodies of a task that differ from the defaults and make a clip easier or harder."""
    names = (*HumanoidSettings.model_fields, "seam_blend_s", "keep_cycle_height", "ground_bodies")
    fields = type(task).model_fields
    return {name: getattr(task, name) for name in names if getattr(task, name) != fields[name].default}


def imitation_episodes(
    task: DeepMimicSettings,
    policy: CharacterPolicy,
    phases: np.ndarray,
    num_steps: int,
    *,
    clip: int = 0,
    record: bool = False,
) -> ImitationEpisodes:
    """One episode from every phase on one of the task's clips, until a fall or for `num_steps`.

    Args:
        task: options of the task, including pushes; its time limit is replaced by `num_steps`.
        clip: index into the task's clips.
        record: keep the states, for drawing.
    """
    task = task.model_copy(update={"max_episode_s": num_steps / task.control_hz})
    env = make_vector_env(task, len(phases), seed=0)
    observations, _ = env.reset(seed=0, options={"phase": phases, "clip": clip})
    living = np.ones(len(phases), dtype=bool)
    fell = np.zeros(len(phases), dtype=bool)
    steps = np.zeros(len(phases), dtype=np.int64)
    sums = {name: np.zeros(len(phases)) for name in ("reward", *ERRORS)}
    early = np.zeros(len(phases))
    states, aims = [_qpos(env)], [_reference_qpos(env)]
    for step in range(num_steps):
        actions = policy(env, observations).astype(np.float32)
        observations, rewards, terminated, truncated, infos = env.step(actions)
        steps += living
        sums["reward"] += np.where(living, rewards, 0.0)
        # The pose of the step into the fall is not compared: the step counts as time and as reward 0.
        for name in ERRORS:
            sums[name] += np.where(living & ~terminated, infos.get(name, 0.0), 0.0)
        if step < task.control_hz:
            early += np.where(living & ~terminated, infos.get("joint_error", 0.0), 0.0)
        fell |= living & terminated
        if record:
            states.append(_qpos(env))
            aims.append(_reference_qpos(env))
        living &= ~(terminated | truncated)
        if not living.any():
            break
    possible = possible_steps(env, phases, num_steps, clip)
    env.close()
    tracked = np.maximum(steps - fell, 1)
    values = {
        "reward": sums["reward"] / np.maximum(steps, 1),
        "normalised_return": sums["reward"] / possible,
        "survival_s": steps / task.control_hz,
        "success": (~fell).astype(np.float64),
        **{name: sums[name] / tracked for name in ERRORS},
        "joint_error_1s": early / np.minimum(tracked, task.control_hz),
    }
    kept = (np.stack(states), np.stack(aims)) if record else (None, None)
    return ImitationEpisodes(values, fell, steps, *kept)


def possible_steps(env: DeepMimicVectorEnv, phases: np.ndarray, num_steps: int, clip: int) -> np.ndarray:
    """Largest number of steps [N] of episodes from these phases of a clip; one that does not repeat ends earlier."""
    reference = env.task.reference
    if reference.cyclic[clip]:
        return np.full(len(phases), num_steps)
    left = (1.0 - phases) * reference.durations[clip] * env.settings.control_hz
    return np.clip(np.ceil(left - 1e-6), 1, num_steps).astype(np.int64)


def controller_policy(controller: ActorCritic) -> CharacterPolicy:
    """The controller's mean action, without noise."""

    def act(env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        return controller.act(torch.from_numpy(np.ascontiguousarray(observations))).numpy()

    return act


def open_loop(env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
    """The reference target with velocity feed-forward, independent of the state."""
    return env.expert_action()


def zero_action(env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
    """Actions [N, A] of zeros."""
    return np.zeros((env.num_envs, len(env.observation_schema["action_range"])))


class HoldPose:
    """The PD targets of the first step, throughout the episode."""

    def __init__(self) -> None:
        self._pose: np.ndarray | None = None

    def __call__(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A] whose target is the pose of the first call."""
        if self._pose is None:
            self._pose = env.coordinates()
        return env.task.action_to(env.task.in_reference_angles(self._pose))


def baselines() -> dict[str, CharacterPolicy]:
    """The trivial policies of every table, by name."""
    return {"open loop": open_loop, "hold pose": HoldPose(), "zero action": zero_action}


def push_recovery(
    task: DeepMimicSettings, policy: CharacterPolicy, settings: ControlEvaluationSettings, clip: int = 0
) -> dict[str, dict[str, float]]:
    """Fraction of episodes that recovered, by force (`100 N`) and direction in degrees; `all` is the mean per force.

    An episode that ends in a fall before the push counts as not recovered.
    """
    phases = fixed_phases(settings.eval_episodes)
    until = settings.eval_push_at_s + PUSH_DURATION_S + RECOVERY_S
    table: dict[str, dict[str, float]] = {}
    for force in settings.eval_push_forces:
        shares = {}
        for direction in settings.eval_push_directions:
            pushed = task.model_copy(
                update={
                    "push_force": force,
                    "push_at_s": settings.eval_push_at_s,
                    "push_duration_s": PUSH_DURATION_S,
                    "push_direction_deg": direction,
                }
            )
            episodes = imitation_episodes(pushed, policy, phases, round(until * task.control_hz), clip=clip)
            shares[f"{direction:g}"] = float((~episodes.fell).mean())
        table[f"{force:g} N"] = {"all": float(np.mean(list(shares.values()))), **shares}
    return table


class ExpertPolicy:
    """The expert that labels demonstrations, without refinement, as a policy; built at the first call."""

    def __init__(self, settings: DemonstrationSettings) -> None:
        self._settings = settings
        self._experts: dict[tuple[str, ...], Expert] = {}

    def __call__(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        """Actions [N, A] of the expert."""
        motion = env.settings.motion
        if motion not in self._experts:
            self._experts[motion] = build_expert(self._settings, env)
        return self._experts[motion].label(env, observations)


def evaluate_characters(
    task: DeepMimicSettings,
    policies: Mapping[str, CharacterPolicy],
    settings: ControlEvaluationSettings,
    clips: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The complete evaluation as plain values.

    Args:
        task: options of the task; its rules are replaced by those of `judged`.
        clips: clips of the task's `motion` to evaluate, by default all.

        Returns:
            For the first clip: `policies` by name with `mean` and `episodes`, and `pushes` of the first policy; the
                task's own pushes are off. `other_clips`: the same for the other clips by name, without pushes.
                `unusual`: physics that differ from the default.
    """
    task = judged(task)
    first, *others = [task.motion.index(clip) for clip in clips or task.motion]
    calm = settings.model_copy(update={"eval_push_forces": ()})
    return {
        **_evaluate_clip(task, first, policies, settings),
        "unusual": {name: list(value) if isinstance(value, tuple) else value for name, value in unusual(task).items()},
        "other_clips": {task.motion[clip]: _evaluate_clip(task, clip, policies, calm) for clip in others},
    }


def _evaluate_clip(
    task: DeepMimicSettings, clip: int, policies: Mapping[str, CharacterPolicy], settings: ControlEvaluationSettings
) -> dict[str, Any]:
    phases = fixed_phases(settings.eval_episodes)
    scores: dict[str, Any] = {}
    for name, policy in {**policies, **baselines()}.items():
        episodes = imitation_episodes(task, policy, phases, settings.eval_steps, clip=clip)
        scores[name] = {
            "mean": {key: round(value, PRECISION) for key, value in episodes.mean().items()},
            "episodes": {key: np.round(values, PRECISION).tolist() for key, values in episodes.values.items()},
        }
    first = next(iter(policies), None)
    return {
        "motion": task.motion[clip],
        "phases": phases.tolist(),
        "horizon_s": settings.eval_steps / task.control_hz,
        "policies": scores,
        "pushes": {} if first is None else push_recovery(task, policies[first], settings, clip),
        "push_policy": first,
    }


def table_text(evaluation: Mapping[str, Any]) -> str:
    """The evaluation as text, one table per clip."""
    width = max(len(name) for name in evaluation["policies"])
    head = " ".join(f"{name:>17}" for name in QUANTITIES)
    unlike = [f"{name} {value}" for name, value in evaluation.get("unusual", {}).items()]
    lines = [f"not the default task: {', '.join(unlike)}"] if unlike else []
    lines.append(f"{'':{width}} {head}")
    for name, score in evaluation["policies"].items():
        cells = " ".join(f"{score['mean'][key]:17.3f}" for key in QUANTITIES)
        lines.append(f"{name:{width}} {cells}")
    for force, shares in evaluation["pushes"].items():
        rest = ", ".join(f"{name} deg {share:.2f}" for name, share in shares.items() if name != "all")
        lines.append(f"push of {force} for {PUSH_DURATION_S} s: {shares['all']:.2f} recover ({rest})")
    for clip, other in evaluation.get("other_clips", {}).items():
        lines += [f"{clip}:", table_text(other)]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Target:
    """A required result of the first policy: the quantity must be at least `least`."""

    name: str
    least: float
    value: Callable[[Mapping[str, Any]], float]


def _mean_of(key: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda evaluation: evaluation["policies"][evaluation["push_policy"]]["mean"][key]


WALK_TARGETS: tuple[Target, ...] = (
    Target("share of 20 s episodes without a fall", 0.8, _mean_of("success")),
    Target("normalised return", 0.7, _mean_of("normalised_return")),
    Target("recovery from 100 N for 0.2 s", 0.8, lambda evaluation: evaluation["pushes"]["100 N"]["all"]),
)
"""Required results of a controller for `walk`, from 20 fixed phases over 20 s; recovery is over all push directions."""


ROUNDING = 1e-9
"""By how much less than a target a mean may be: four fifths, added up in floating point, can be a little less."""


def missed_targets(evaluation: Mapping[str, Any], targets: Sequence[Target] = WALK_TARGETS) -> list[str]:
    """One phrase per missed target, such as `normalised return 0.512 < 0.7`."""
    values = [(target, target.value(evaluation)) for target in targets]
    return [
        f"{target.name} {value:.3f} < {target.least:g}"
        for target, value in values
        if not value >= target.least - ROUNDING
    ]


def evaluation_json(evaluation: Mapping[str, Any]) -> bytes:
    """Content of the file `evaluation.json`."""
    return (json.dumps({"kind": "character", **evaluation}, indent=1) + "\n").encode()


def _qpos(env: DeepMimicVectorEnv) -> np.ndarray:
    return env.state()["qpos"]


def _reference_qpos(env: DeepMimicVectorEnv) -> np.ndarray:
    """MuJoCo states [N, nq] of the reference at the present time, never moved to the character."""
    task = env.task
    times = task.reference.phase(task.clip, task.time) * task.reference.durations[task.clip]
    qpos, _ = task.reference.start(task.clip, np.minimum(times, np.nextafter(task.reference.durations[task.clip], 0.0)))
    qpos[:, :3] = task.reference.target(task.clip, task.time, np.zeros_like(task.origin)).root_position
    return qpos
