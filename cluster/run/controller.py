"""The training loop of a run: prompts, rollouts, rewards, advantages, update, next version.

    batches --requests--> rollout x N --motions (ref)--> reward x M --terms--> controller --advantages--+
                             ^   +-----------------trajectory (ref)-----------------------------------> learner
                             +-------------------------- policy version (ref), one number ---------------+

Dependencies: a step's rollouts and their rewards are submitted together, each reward chained on its rollout, so rewards
start without the controller; the controller waits for all rewards of the step, the learner for advantages and
trajectories, the next step's rollouts for the new version. At most `max_in_flight` rollouts are assigned to an actor,
the others wait in the runtime's queue. No motion, trajectory or weight passes through the controller.

Choices:
1. Everything in a step is a function of (configuration, step, policy version): prompts come from `BatchSource`, noise
   from the request. So a call may be repeated anywhere, and a run that starts from a checkpoint repeats the bits.
2. Requests state the step that will use them and the version they act with; the controller checks on use that this is
   the present step, and that the version is behind by no more than the algorithm's staleness. With staleness 1 the
   groups of the next step are requested with those of this one, so that they are made while this one is updated: the
   same calls in another order. What is in flight when a run ends is requested again when it continues, with the same
   version, which the checkpoint holds.
3. The order after an update: metrics line, evaluation (if due), checkpoint (if due). So a commit covers every line up
   to its step, and rewinding to it neither repeats nor loses one. Only a checkpoint's own duration comes after it.
   Where calls run beside the controller, the next step's groups are requested before all this but for an evaluation.
4. The controller is independent of the algorithm: GRPO is defined by `Algorithm` (cluster/run/algorithm.py) and the
   learner.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cluster.records.run import Run
from cluster.run import step_metrics
from cluster.run.algorithm import Algorithm, StepAdvantages
from cluster.run.efficiency import Efficiency
from cluster.run.groups import PendingBatch, PendingGroup, ScoredGroup
from cluster.run.learner_handle import LearnerHandle, RunFailed
from cluster.run.learner_service import UpdateReport
from cluster.run.roles import ROLLOUT, learners_of, reward_role
from cluster.runtime import stopping
from cluster.runtime.protocol import ActorLost, Call, CallFailed, Output, Role, Runtime
from cluster.settings import RolloutRunSettings
from rewards.messages import Mixed, RewardError, RewardTerms
from rollouts.messages import GroupMotions, PolicyVersion, RolloutRequest

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a finished run."""

    step: int
    policy_version: int
    evaluation: dict[str, float]
    """Metrics of the evaluation after the last step; empty if it had been recorded before."""


class Controller:
    """Runs training steps on a runtime.

    Args:
        runtime: not started yet.
        roles: of `training_roles`.
        algorithm: what the steps do.
        run: the opened run.
        settings: length, intervals.
        efficiency: compares the work of a step with the processors' speed; by default nothing does.
    """

    def __init__(
        self,
        runtime: Runtime,
        roles: Sequence[Role],
        algorithm: Algorithm,
        run: Run,
        settings: RolloutRunSettings,
        efficiency: Efficiency | None = None,
    ) -> None:
        self.runtime = runtime
        self.step = 0
        """Number of finished updates."""
        self.final_groups: list[ScoredGroup] = []
        """Groups of the evaluation after the last step; empty if an earlier process made it."""
        self._roles = {role.name: role for role in roles}
        self._algorithm = algorithm
        self._run = run
        self._directory = run.directory
        self._telemetry = run.telemetry
        self._settings = settings
        self._efficiency = efficiency
        self._learner = LearnerHandle(runtime, learners_of(roles), run, algorithm.staleness)
        self._in_flight: dict[int, PendingBatch] = {}
        """By the step that will use them."""
        self._ended = False
        """Whether an evaluation ended the training before its last step."""

    def start(self) -> None:
        """Builds all actors and restores the learner's state at the last commit.

        Raises:
            StartError: an actor cannot be placed or built.
            RunFailed: the checkpoint does not fit the learner, or the learner repeatedly dies while loading it.
        """
        self.step = self._directory.step
        with self._telemetry.phase("start"):
            self.runtime.start(list(self._roles.values()))
        try:
            self._learner.restore()
        except ActorLost as lost:
            self._recover(lost)

    def run(self) -> RunResult:
        """Makes all remaining steps, with an evaluation before the first and after the last one.

        Raises:
            RunFailed: a call has finally failed, or a reward has and `on_reward_error` is `fail`.
            CheckpointWriteError: a checkpoint cannot be written.
            Stopped: the process was asked to end; all finished steps are saved.
        """
        if self.step >= self._settings.num_steps:
            self._run.say_that_nothing_is_left(self.step)
        try:
            with stopping.orderly():
                return self._with_recovery(self._all_steps)
        except stopping.Stopped as stopped:
            # Nothing of the next step has reached the learner.
            if stopped.can_save and self.step > self._directory.step:
                self._checkpoint()
            raise

    def _all_steps(self) -> RunResult:
        # Also after a stop between an update and its evaluation.
        left = self.step < self._settings.num_steps
        if left and self._evaluation_is_due() and not self._directory.evaluated(self.step):
            self._evaluate()
        while self.step < self._settings.num_steps and not self._ended:
            self._train()
            self._after_update()
        evaluation = {} if self._directory.evaluated(self.step) else self._evaluate()
        return RunResult(self.step, self._learner.version_number, evaluation)

    def _with_recovery(self, action: Callable[[], ResultT]) -> ResultT:
        """The result of an action, which begins anew from the last commit whenever the learner dies.

        Raises:
            RunFailed: a call has finally failed, or the learner dies repeatedly.
        """
        while True:
            try:
                return action()
            except ActorLost as lost:
                self._recover(lost)
            except CallFailed as failed:
                raise RunFailed(f"after {self.step} steps: {failed}", failed.cause) from failed

    def _recover(self, lost: ActorLost) -> None:
        self._in_flight.clear()
        self._learner.recover(lost, self.step)
        self.step = self._directory.step

    def judge(self, requests: Sequence[RolloutRequest], version: Output) -> list[ScoredGroup]:
        """Rolls out and scores requests with a given version, using the same actors as the training.

        Raises:
            RunFailed: a rollout failed, or a reward did and `on_reward_error` is `fail`.
        """
        try:
            return self.collect(self.dispatch(requests, version, "judgement"), "judgement")
        except CallFailed as failed:
            raise RunFailed(str(failed), failed.cause) from failed

    def score(self, motions: Sequence[GroupMotions], purpose: str) -> list[Mixed | None]:
        """Rewards of motions that no policy of this run made; None for those that a reward cannot score."""
        calls = [self._scores(group, f"of {purpose}") for group in motions]
        list(self.runtime.wait([call for scores in calls for call in scores], between=stopping.check))
        rewards: list[Mixed | None] = []
        for group, scores in zip(motions, calls, strict=True):
            try:
                rewards.append(self._combined(scores, group.prompt.text))
            except RewardError as error:
                logger.warning("one of %s has no rewards: %s", purpose, error)
                rewards.append(None)
        return rewards

    def final_policy(self) -> PolicyVersion:
        """The policy that a finished run evaluates and exports; from the last commit if the learner is lost.

        Raises:
            RunFailed: the learner raises an error, or dies repeatedly.
        """
        return self._with_recovery(lambda: self.runtime.result(self._learner.evaluation_version()[1]))

    def motions(self, group: ScoredGroup) -> GroupMotions:
        """Fetches the motions of a group.

        Raises:
            RunFailed: they are lost and cannot be computed again.
        """
        try:
            return self.runtime.result(group.motions)
        except CallFailed as failed:
            raise RunFailed(str(failed), failed.cause) from failed

    def dispatch(self, requests: Sequence[RolloutRequest], version: Output, purpose: str) -> list[PendingGroup]:
        """Submits rollouts, each with the rewards chained on it; `purpose` describes them in messages."""
        rollouts = []
        # The rollouts first, so that none of their actors waits until another group's rewards have been submitted.
        for request in requests:
            stopping.check()
            label = f"rollout of {purpose}, prompt {request.prompt_index} {request.prompt.text!r}"
            rollouts.append(self.runtime.submit(ROLLOUT, "run", request, version, num_outputs=2, label=label))
        return [
            PendingGroup(request, rollout, self._scores(rollout.output, rollout.label.removeprefix("rollout ")))
            for request, rollout in zip(requests, rollouts, strict=True)
        ]

    def collect(self, groups: Sequence[PendingGroup], purpose: str) -> list[ScoredGroup]:
        """Waits for groups and mixes their rewards; groups without valid rewards stop the run or are dropped.

        Raises:
            CallFailed: a rollout failed, or a reward did and `on_reward_error` is `fail`.
        """
        calls = [call for group in groups for call in group.calls]
        for call in self.runtime.wait(calls, between=stopping.check):
            if call.failure is not None and (call.role == ROLLOUT or self._algorithm.on_reward_error == "fail"):
                raise call.failure
        scored = []
        for group in groups:
            try:
                scored.append(self._mixed(group))
            except RewardError as error:
                if self._algorithm.on_reward_error == "fail":
                    raise CallFailed(str(error), error) from error
                logger.warning("a group of %s is dropped: %s", purpose, error)
        return scored

    # Parts of a step.

    def _train(self) -> None:
        started = time.monotonic()
        with self._telemetry.phase("rollout"):
            self._request_batches()
            batch = self._in_flight.pop(self.step)
            groups = self.collect(batch.groups, _purpose(self.step))
        if not groups:
            raise CallFailed(f"all {len(batch.groups)} groups were dropped, there is nothing to learn from")
        assert all(group.request.step == self.step for group in groups), self.step
        behind = [self._learner.version_number - group.request.policy_version for group in groups]
        assert 0 <= min(behind) <= max(behind) <= self._algorithm.staleness, behind
        rewards = step_metrics.stacked([group.rewards for group in groups])
        advantages = self._algorithm.advantages(rewards.total, rewards.terms)
        with self._telemetry.phase("update"):
            report = self._learner.update(advantages.values, [group.trajectory for group in groups], self.step + 1)
        self.step += 1
        seconds = time.monotonic() - started
        try:
            if not self._evaluation_is_due():
                self._request_ahead()
        finally:
            # Also if it is asked to end meanwhile: the step is committed then.
            self._record_update(batch, groups, advantages, report, started, seconds)

    def _record_update(
        self,
        batch: PendingBatch,
        groups: Sequence[ScoredGroup],
        advantages: StepAdvantages,
        report: UpdateReport,
        started: float,
        seconds: float,
    ) -> None:
        metrics = step_metrics.rewards([group.rewards for group in groups])
        metrics |= step_metrics.prefixed(advantage=advantages.metrics, policy=report.metrics)
        metrics |= step_metrics.timings(batch.calls, batch.requested, started, self._roles)
        metrics |= step_metrics.queues((group.rollout, group.scores) for group in batch.groups)
        metrics |= step_metrics.supervision(self.runtime.counters, len(batch.groups) - len(groups))
        if self._algorithm.staleness:
            oldest = min(group.request.policy_version for group in groups)
            metrics["cluster/staleness"] = float(report.version_number - 1 - oldest)
        if self._efficiency is not None:
            metrics |= self._efficiency.of_step(batch.calls, self._telemetry.seconds["update"])
        samples = sum(group.request.num_samples for group in groups)
        # The time of the rollout phase is already included, in two parts.
        metrics |= {"seconds/update": self._telemetry.seconds["update"], "seconds/step": seconds}
        metrics["cluster/samples_per_s"] = samples / seconds
        self._record(metrics)
        self._telemetry.spans(self.runtime.spans())

    def _request_batches(self) -> None:
        """Requests the groups of this step, and of as many later ones as may be made meanwhile, as far as they are not
        in flight. The version depends on nothing but the step that uses them, so that a resumed run has the same."""
        staleness = self._algorithm.staleness
        for step in range(self.step, min(self.step + staleness + 1, self._settings.num_steps)):
            if step not in self._in_flight:
                number, version = self._learner.acting_version(behind=self.step + staleness - step)
                requested, requests = time.monotonic(), self._algorithm.batches.requests(step, number)
                groups = self.dispatch(requests, version, _purpose(step))
                self._in_flight[step] = PendingBatch(groups, requested)

    def _request_ahead(self) -> None:
        """Requests the next step's groups, which are then made while this one's checkpoint and lines are written."""
        if self.runtime.concurrent and not self._ended:
            self._request_batches()

    def _record(self, metrics: dict[str, float]) -> None:
        """Writes a metrics line about the last update: the update itself, its evaluation or its checkpoint."""
        self._run.record(self.step, metrics, time=time.time())

    def _after_update(self) -> None:
        if self._evaluation_is_due():
            self._evaluate()
            self._request_ahead()
        if self._ended or self.step == self._settings.num_steps or self.step % self._settings.save_interval == 0:
            self._checkpoint()
        self._telemetry.finished_step(self.step)

    def _evaluation_is_due(self) -> bool:
        if self.step in (0, self._settings.num_steps):
            return True
        return self._settings.eval_every > 0 and self.step % self._settings.eval_every == 0

    def _evaluate(self) -> dict[str, float]:
        with self._telemetry.phase("evaluation"):
            number, version = self._learner.evaluation_version()
            requests = self._algorithm.batches.evaluation(number)
            purpose = f"the evaluation after step {self.step}"
            groups = self.collect(self.dispatch(requests, version, purpose), purpose)
            if not groups:
                raise CallFailed(f"all {len(requests)} groups of the evaluation were dropped")
        self.final_groups = groups if self.step == self._settings.num_steps else []
        metrics = step_metrics.evaluation([group.rewards for group in groups])
        beside: list[dict[str, np.ndarray]] = [{} for _ in groups]
        if self._algorithm.beside_rewards is not None:
            beside = [self._algorithm.beside_rewards(self.motions(group)) for group in groups]
            metrics |= step_metrics.means("evaluation", beside)
        metrics["cluster/dropped_eval_groups"] = float(len(requests) - len(groups))
        metrics["seconds/evaluation"] = self._telemetry.seconds["evaluation"]
        self._record(metrics)
        self._directory.append_evaluation(
            {
                "step": self.step,
                "policy_version": number,
                "prompts": [group.request.prompt.text for group in groups],
                "total": [group.rewards.total.tolist() for group in groups],
                "terms": [
                    {name: term.tolist() for name, term in {**group.rewards.terms, **more}.items()}
                    for group, more in zip(groups, beside, strict=True)
                ],
            }
        )
        self._telemetry.spans(self.runtime.spans())
        if self._algorithm.after_evaluation is not None:
            self._ended = self._algorithm.after_evaluation(self.step) is True
        return metrics

    def _checkpoint(self) -> None:
        with self._telemetry.phase("checkpoint"):
            state = self._learner.state(self.step)
            export = None
            if self._algorithm.export is not None:
                _, version = self._learner.evaluation_version()
                export = functools.partial(self._algorithm.export, self.runtime.result(version))
            self._run.checkpoint(self.step, state, export, self._learner.version_number)
        self._record({"seconds/checkpoint": self._telemetry.seconds["checkpoint"]})

    def _scores(self, motions: GroupMotions | Output, where: str) -> tuple[Call, ...]:
        """Submits all rewards of a group: they run at the same time, each on an actor of its own."""
        return tuple(
            self.runtime.submit(reward_role(name), "score", motions, label=f"reward {name} {where}")
            for name in self._algorithm.scorers
        )

    def _mixed(self, group: PendingGroup) -> ScoredGroup:
        """Mixes the rewards of a group.

        Raises:
            RewardError: a scorer failed or its terms are not valid.
        """
        rewards = self._combined(group.scores, group.request.prompt.text)
        return ScoredGroup(group.request, rewards, *group.rollout.outputs)

    def _combined(self, scores: Sequence[Call], prompt_text: str) -> Mixed:
        results: list[RewardTerms] = []
        for call in scores:
            if call.failure is not None:
                raise RewardError(str(call.failure)) from call.failure
            results.append(self.runtime.result(call.output))
        return self._algorithm.combine(results, prompt_text)


def _purpose(step: int) -> str:
    return f"step {step + 1}"
