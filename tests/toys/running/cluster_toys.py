"""A policy, two rewards and a learner in NumPy that behave like the real ones, in microseconds.

The policy draws motions around its one parameter vector; the rewards like motions near a target and small ones; the
learner climbs by REINFORCE with momentum. Factories are module-level functions, as actors need them.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from cluster.run.roles import training_roles
from cluster.runtime.protocol import Role
from cluster.settings import ClusterSettings
from learners.grpo.advantages import Advantages, group_advantages
from learners.grpo.settings import GRPOSettings
from motions.data.prompts import Prompt, Segment
from rewards.messages import RewardError, RewardTerms
from rollouts.messages import GroupMotions, PolicyVersion, RolloutRequest, TextCondition, Trajectory

NUM_FEATURES = 3
NUM_FRAMES = 4
GROUP_SIZE = 6
TARGET = np.array([1.0, -1.0, 0.5])


def make_request(step: int, prompt_index: int, version: int, seed: int = 7, evaluate: bool = False) -> RolloutRequest:
    text = f"prompt {prompt_index}"
    return RolloutRequest(
        step=step,
        prompt_index=prompt_index,
        prompt=Prompt(text, (Segment(text, NUM_FRAMES),)),
        condition=TextCondition(np.full((1, 2), prompt_index, np.float32)),
        num_samples=GROUP_SIZE,
        seed=seed,
        stochastic_steps=() if evaluate else (0,),
        trained_steps=() if evaluate else (0,),
        share_initial_noise=True,
        policy_version=version,
    )


class ToyBatches:
    """Three prompts a step."""

    fingerprint = "toy"

    def __init__(self, num_prompts: int = 3) -> None:
        self.num_prompts = num_prompts

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        return [make_request(step, index, policy_version) for index in range(self.num_prompts)]

    def evaluation(self, policy_version: int) -> list[RolloutRequest]:
        return [make_request(10_000, index, policy_version, evaluate=True) for index in range(2)]


class ToyRollouts:
    def run(self, request: RolloutRequest, version: PolicyVersion) -> tuple[GroupMotions, Trajectory]:
        assert request.policy_version == version.number
        shape = (request.num_samples, NUM_FRAMES, NUM_FEATURES)
        key = [request.seed, request.step * 1000 + request.prompt_index]
        noise = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape)
        scale = 0.3 if request.stochastic_steps else 0.0
        features = (version.weights["centre"] + scale * noise).astype(np.float32)
        lengths = np.full(request.num_samples, NUM_FRAMES)
        states = features[None] if request.trained_steps else features[None][:0]
        trajectory = Trajectory(
            states=states,
            next_states=states,
            steps=np.array(request.trained_steps, np.int64),
            log_probs=np.zeros((len(states), request.num_samples), np.float32),
            lengths=lengths,
            condition=request.condition,
            policy_version=version.number,
        )
        return GroupMotions(features, lengths, request.prompt, version.number, 0.0), trajectory


class NearScorer:
    """Reward for being near the target."""

    def score(self, motions: GroupMotions) -> RewardTerms:
        distance = ((motions.features - TARGET) ** 2).mean(axis=(1, 2))
        return RewardTerms("near", {"near": np.exp(-distance).astype(np.float32)}, 0.0)


class SmallScorer:
    """Reward for being small."""

    def score(self, motions: GroupMotions) -> RewardTerms:
        size = (motions.features**2).mean(axis=(1, 2))
        return RewardTerms("small", {"small": np.exp(-size).astype(np.float32)}, 0.0)


class ToyLearner:
    def __init__(self, learning_rate: float = 2.0, staleness: int = 0) -> None:
        self._rate = learning_rate
        self._staleness = staleness
        self._centre = np.zeros(NUM_FEATURES)
        self._momentum = np.zeros(NUM_FEATURES)
        self._number = 0

    def update(self, trajectories: list[Trajectory], advantages: np.ndarray) -> dict[str, float]:
        acted = max(self._number - self._staleness, 0)
        assert all(trajectory.policy_version == acted for trajectory in trajectories)
        gradient = np.zeros(NUM_FEATURES)
        for trajectory, values in zip(trajectories, advantages, strict=True):
            drawn = trajectory.states[0].astype(np.float64).mean(axis=1) - self._centre
            gradient += (values[:, None] * drawn).mean(axis=0) / len(trajectories)
        self._momentum = 0.5 * self._momentum + gradient
        self._centre = self._centre + self._rate * self._momentum
        self._number += 1
        return {"grad_norm": float(np.linalg.norm(gradient))}

    def version(self) -> PolicyVersion:
        return PolicyVersion(self._number, {"centre": self._centre.copy()})

    def evaluation_version(self) -> PolicyVersion:
        return self.version()

    def state(self) -> dict[str, Any]:
        return {"centre": self._centre.tolist(), "momentum": self._momentum.tolist(), "number": self._number}

    def load(self, state: dict[str, Any]) -> None:
        self._centre = np.array(state["centre"])
        self._momentum = np.array(state["momentum"])
        self._number = state["number"]


def mix(terms: dict[str, np.ndarray]) -> np.ndarray:
    return terms["near"] + 0.1 * terms["small"]


def advantages(rewards: np.ndarray, terms: dict[str, np.ndarray]) -> Advantages:
    return group_advantages(rewards, GRPOSettings())


def toy_roles(settings: ClusterSettings | None = None, **factories: Any) -> list[Role]:
    """The roles of a toy run; `rollout`, `near`, `small`, `learner` replace a factory."""
    scorers = {"near": factories.get("near", NearScorer), "small": factories.get("small", SmallScorer)}
    return training_roles(
        settings or ClusterSettings(),
        factories.get("rollout", ToyRollouts),
        scorers,
        factories.get("learner", ToyLearner),
    )


# Misbehaviour, once or always. "Once" is a file: an actor that comes back must behave.


def strike(flag: Path) -> bool:
    """True for the first caller only, in whatever process."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class DyingRollouts(ToyRollouts):
    """Its process ends in the middle of a call, once."""

    def __init__(self, flag: Path, at_step: int) -> None:
        self._flag, self._at_step = flag, at_step

    def run(self, request: RolloutRequest, version: PolicyVersion) -> tuple[GroupMotions, Trajectory]:
        if request.step == self._at_step and request.prompt_index == 1 and strike(self._flag):
            os._exit(1)
        return super().run(request, version)


class DyingScorer(NearScorer):
    """Its process ends in the middle of a call, once."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def score(self, motions: GroupMotions) -> RewardTerms:
        if motions.policy_version == 2 and motions.prompt.text == "prompt 1" and strike(self._flag):
            os._exit(1)
        return super().score(motions)


class DyingLearner(ToyLearner):
    """Its process ends when the parameters have changed and before anybody knows, once at each of some versions."""

    def __init__(self, folder: Path, at_versions: tuple[int, ...], always: bool = False, staleness: int = 0) -> None:
        super().__init__(staleness=staleness)
        self._folder, self._at_versions, self._always = folder, at_versions, always

    def update(self, trajectories: list[Trajectory], advantages: np.ndarray) -> dict[str, float]:
        metrics = super().update(trajectories, advantages)
        number = self._number
        if number in self._at_versions and (strike(self._folder / f"learner-{number}") or self._always):
            os._exit(1)
        return metrics


class HangingScorer(NearScorer):
    """Sleeps for ever in one call."""

    def score(self, motions: GroupMotions) -> RewardTerms:
        if motions.policy_version == 1 and motions.prompt.text == "prompt 1":
            self.wait_for_godot()
        return super().score(motions)

    def wait_for_godot(self) -> None:
        time.sleep(10_000)


class RaisingScorer(NearScorer):
    """Raises for one prompt."""

    def score(self, motions: GroupMotions) -> RewardTerms:
        if motions.prompt.text == "prompt 1":
            raise RewardError("reward near, prompt 'prompt 1': the simulator exploded")
        return super().score(motions)


class NaNScorer(NearScorer):
    """Not finite for one sample of one prompt."""

    def score(self, motions: GroupMotions) -> RewardTerms:
        terms = super().score(motions)
        if motions.prompt.text == "prompt 1":
            terms.terms["near"][2] = np.nan
        return terms


class WritingScorer(NearScorer):
    """Changes its input."""

    def score(self, motions: GroupMotions) -> RewardTerms:
        motions.features[:] = 0
        return super().score(motions)


class FlakyScorer(NearScorer):
    """Raises once, as a remote reward does."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def score(self, motions: GroupMotions) -> RewardTerms:
        if strike(self._flag):
            raise ConnectionError("the reward server is restarting")
        return super().score(motions)


def broken_factory(path: str) -> object:
    raise ValueError(f"{path}: expected a motion encoder, found a text encoder")


broken = functools.partial(broken_factory, "tmr.pt")
