"""Training of a controller as an RLlib algorithm on its new API stack, whatever its learner makes of the rollouts.

    training_step:  EnvRunners (requests carry weights, state, noise key) ──rollouts──► Learners ──weights──┐
                        ▲───────────────────────────────────────────────────────────────────────────────────┘

A runner that dies is restarted by Ray, and its request is sent again: a rollout is a function of its request, so if
environments can be saved (`state`/`set_state`) the result has the same bits as without the death. `get_state` holds the
learner with its optimizers, the step counter and the runners' environments; noise and shuffling are keyed by
seed and iteration and need no state. For environments that cannot be saved, call `reset_environments` at every
checkpoint: then both the continued and the resumed run start new episodes there.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Self, cast

import ray
import ray.exceptions
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_LEARNER, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from cluster.rllib.env_runner import ControlEnvRunner, SampleAnswer, SampleRequest
from cluster.rllib.learner import ControlLearner
from cluster.rllib.module import ActorCriticModule, settings_of
from learners.rollout_training import rollout_metrics
from motions.base.errors import RemoteError, UserError
from motions.settings import Settings
from rollouts.control.rollouts import ControlRollout

logger = logging.getLogger(__name__)

PROGRESS = "progress"
ROLLOUT_METRICS = "rollout"
RETRY_TICK_S = 0.2
RESTORE_TIMEOUT_S = 120.0


class RunnersLost(RemoteError):  # noqa: N818 - says what happened
    """Env runners died and were not restarted in time."""


class ControlConfig(AlgorithmConfig):
    """Configuration of a training; every field of its `settings_type` is an option of `training()`."""

    settings_type: ClassVar[type[Settings]]
    """The learner's options, among them `steps_per_batch`."""

    learner_type: ClassVar[type[ControlLearner]]

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or ControlAlgorithm)
        for name, field in self.settings_type.model_fields.items():
            setattr(self, name, field.default)
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 8
        self.num_learners = 0
        self.env_runner_cls = ControlEnvRunner
        self.restart_failed_env_runners = True
        self.runner_timeout_s = 600.0
        """Seconds after which a runner that still works on one rollout is replaced."""
        # RLlib would ask every runner for the states of its connectors; these runners have none.
        self.broadcast_env_runner_states = False
        self.merge_env_runner_states = False

    def training(self, **options: Any) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Sets options of the learner and `runner_timeout_s` by name; others are passed to RLlib."""
        names = {*self.settings_type.model_fields, "runner_timeout_s"}
        own = {name: options.pop(name) for name in list(options) if name in names}
        super().training(**options)
        for name, value in own.items():
            setattr(self, name, value)
        return self

    def validate(self) -> None:
        """Checks the options of RLlib and of the learner.

        Raises:
            UserError: an option is out of its bounds, or there are several modules.
        """
        # The driver needs no environments when it has runners.
        self.create_local_env_runner = not self.num_env_runners
        super().validate()
        settings_of(self)
        if not self.runner_timeout_s > 0:
            raise UserError(f"runner_timeout_s is {self.runner_timeout_s}: above 0")
        if self.is_multi_agent:
            raise UserError("one controller is trained; multi-agent configurations are not supported")

    def sampler_options(self) -> dict[str, Any]:
        """Further arguments of the runners' `VectorSampler`."""
        return {}

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Specification of the RLModule: a controller."""
        return RLModuleSpec(module_class=ActorCriticModule)

    def get_default_learner_class(self) -> type[ControlLearner]:
        """The class of the learners."""
        return self.learner_type


class ControlAlgorithm(Algorithm):
    """A training on RLlib; see the module's docstring."""

    def setup(self, config: AlgorithmConfig) -> None:
        """Builds runners and learners."""
        super().setup(config)
        self._finished = 0
        self._num_steps = 0
        self._states: dict[int, dict[str, Any] | None] = {}
        self._reset_next = False
        self.last_metrics: dict[str, float] = {}

    def training_step(self) -> None:
        """Makes one rollout in every runner and one update."""
        started = time.perf_counter()
        rollouts = self._sample()
        sampled = time.perf_counter()
        results = self._learners.update(training_data=self._training_data(rollouts))
        self.metrics.aggregate(results, key="learners")
        self._finished += 1
        self._num_steps += sum(rollout.num_steps for rollout in rollouts)
        metrics = rollout_metrics(rollouts) | learner_metrics(results)
        metrics |= {"seconds/rollout": sampled - started, "seconds/update": time.perf_counter() - sampled}
        self.last_metrics = metrics
        for name, value in metrics.items():
            self.metrics.log_value((ROLLOUT_METRICS, name), value, window=1)
        self.metrics.log_value("num_env_steps_sampled_lifetime", self._num_steps, reduce="max")

    @property
    def _learners(self) -> LearnerGroup:
        assert self.learner_group is not None
        return self.learner_group

    @property
    def _options(self) -> ControlConfig:
        assert isinstance(self.config, ControlConfig)
        return self.config

    @property
    def num_steps(self) -> int:
        """Number of environment steps so far."""
        return self._num_steps

    @property
    def finished_iterations(self) -> int:
        """Number of updates so far."""
        return self._finished

    def weights(self) -> dict[str, Any]:
        """Weights and statistics of the controller, as arrays."""
        return self._learners.get_weights()[DEFAULT_MODULE_ID]

    @property
    def restorable(self) -> bool:
        """Whether the environments' states are part of `get_state`; known after the first iteration."""
        return bool(self._states) and all(state is not None for state in self._states.values())

    def reset_environments(self) -> None:
        """Starts new episodes in all environments before the next rollout."""
        self._reset_next = True

    def _sample(self) -> list[ControlRollout]:
        """One rollout of every runner, in their order; waits for runners that died and asks them again."""
        group = self.env_runner_group
        assert group is not None
        weights = self.weights()
        if group.num_remote_env_runners() == 0:
            local = self.env_runner
            assert isinstance(local, ControlEnvRunner)
            return [self._note(local.rollout(self._request(0, 1, weights))).rollout]
        number = group.num_remote_env_runners()
        reference = ray.put({i: self._request(i, number, weights) for i in range(number)})
        answers: dict[int, SampleAnswer] = {}
        deadline = None
        while len(answers) < number:
            missing = [i + 1 for i in range(number) if i not in answers]
            asked = [index for index in missing if index in group.healthy_env_runner_ids()]
            answers |= {one.stream: one for one in self._ask(group, asked, reference)}
            if len(answers) < number:
                deadline = deadline or time.monotonic() + RESTORE_TIMEOUT_S
                if time.monotonic() > deadline:
                    raise RunnersLost(f"env runners {missing} did not come back; see their logs for the reason")
                time.sleep(RETRY_TICK_S)
                self.restore_env_runners(group)
        return [self._note(answers[i]).rollout for i in range(number)]

    def _ask(self, group: EnvRunnerGroup, asked: list[int], reference: Any) -> list[SampleAnswer]:
        """Answers of the runners that are alive and answer in time; the others are killed, so that Ray replaces them.

        Raises:
            Exception: the error raised in a runner; a retry would raise it again.
        """
        if not asked:
            return []
        # Not `group.foreach_env_runner`: it logs errors of the environment and continues without the runner.
        manager = group._worker_manager
        results = manager.foreach_actor(
            lambda runner, _ref=reference: answer(runner, _ref),
            remote_actor_ids=asked,
            timeout_seconds=self._options.runner_timeout_s,
        )
        answers = []
        for result in results:
            if result.ok:
                answers.append(result.get())
            elif not isinstance(result.get(), ray.exceptions.RayActorError):
                raise result.get()
        silent = set(asked) - {result.actor_id for result in results.result_or_errors}
        for index in silent:
            logger.warning(
                "env runner %d said nothing for %g s in iteration %d: it is replaced",
                *(index, self._options.runner_timeout_s, self._finished),
            )
            ray.kill(manager.actors()[index], no_restart=False)
        return answers

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Adds runners that Ray has restarted to the group; requests contain everything that they need."""
        return env_runner_group.probe_unhealthy_env_runners()

    def _request(self, stream: int, number: int, weights: dict[str, Any]) -> SampleRequest:
        envs = self._options.num_envs_per_env_runner * number
        return SampleRequest(
            iteration=self._finished,
            num_steps=-(-settings_of(self._options).steps_per_batch // envs),
            weights=weights,
            state=self._states.get(stream),
            reset=self._reset_next,
        )

    def _note(self, answer: SampleAnswer) -> SampleAnswer:
        self._states[answer.stream] = answer.state
        self._reset_next = False
        return answer

    def _training_data(self, rollouts: Sequence[ControlRollout]) -> TrainingData:
        number = len(self._learners)
        if number == 0:
            return TrainingData(episodes=cast(Any, list(rollouts)))
        return TrainingData(episodes_refs=[ray.put(part) for part in split_rollouts(rollouts, number)])

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state together with that of runners and learners."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        return state | {PROGRESS: self.progress()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores the result of `get_state()`."""
        super().set_state(state)
        if PROGRESS in state:
            self.load_progress(state[PROGRESS])

    def progress(self) -> dict[str, Any]:
        """Counters and the environments' states."""
        return {
            "finished": self._finished,
            "num_steps": self._num_steps,
            "states": dict(self._states),
            "reset_next": self._reset_next,
        }

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Restores the result of `progress()`; the next requests bring the runners to those states."""
        self._finished, self._num_steps = int(progress["finished"]), int(progress["num_steps"])
        self._states = dict(progress["states"])
        self._reset_next = bool(progress["reset_next"])

    def learner_state(self) -> dict[str, Any]:
        """State of the first learner; all learners have the same."""
        return self._learners.get_state()[COMPONENT_LEARNER]["optimizer"]

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restores the result of `learner_state()` on all learners."""
        reference = ray.put(state)
        self._learners.foreach_learner(lambda learner, _ref=reference: load_state(learner, _ref))


def answer(runner: Any, reference: Any) -> SampleAnswer:
    """Answers the runner's own one of all requests; runs in the runner's process."""
    return runner.rollout(ray.get(reference)[runner.worker_index - 1])


def load_state(learner: Any, reference: Any) -> None:
    """Restores a learner's state; runs in the learner's process."""
    learner.load_own_state(ray.get(reference))


def learner_metrics(results: Sequence[Any]) -> dict[str, float]:
    """Metrics of the first learner; all learners have the same. Names without a slash are RLlib's own and left out."""
    values = results[0][DEFAULT_MODULE_ID]
    return {name: float(value.peek()) for name, value in values.items() if "/" in name}


def split_rollouts(rollouts: Sequence[ControlRollout], number: int) -> list[list[ControlRollout]]:
    """Divides the environments into `number` consecutive parts of about equal size.

    Raises:
        UserError: there are fewer environments than learners.
    """
    total = sum(rollout.rewards.shape[1] for rollout in rollouts)
    if total < number:
        raise UserError(f"{total} environments cannot be shared by {number} learners; use more environments")
    bounds = [total * i // number for i in range(number + 1)]
    parts: list[list[ControlRollout]] = []
    for low, high in itertools.pairwise(bounds):
        part, offset = [], 0
        for rollout in rollouts:
            width = rollout.rewards.shape[1]
            start, stop = max(low - offset, 0), min(high - offset, width)
            if start < stop:
                part.append(rollout.columns(start, stop))
            offset += width
        parts.append(part)
    return parts
