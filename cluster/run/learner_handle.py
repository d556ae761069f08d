"""The learner's actor as the controller sees it: its calls, its policy versions, and its return after a death.

Several learners are as many actors with the same weights, which make each update together. The first of them is asked
for all else. When one dies, the others wait for it in vain: all of them begin anew at the last commit.

A version is stored once, by the call that made it; whoever acts with it fetches it from there. Only the present version
is kept, and where rollouts may be one update behind the one before it, which a checkpoint holds as well: the rollouts
that were in flight are requested again with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cluster.records.run import Run
from cluster.run.learner_service import LearnerState, UpdateReport
from cluster.run.roles import LEARNER
from cluster.runtime.protocol import ActorLost, Call, CallFailed, Output, Role, Runtime
from motions.base.errors import PeerLost, RemoteError
from rollouts.messages import PolicyVersion

PREVIOUS = "previous_version"
"""Key of a checkpoint's state for the version before the present one."""


class RunFailed(RemoteError):  # noqa: N818 - names what happened
    """The run cannot continue; the message names step, call and reason. It can be resumed after the cause is
    removed."""


class LearnerHandle:
    """Calls the learner of a run, and restores it at the last commit.

    Args:
        runtime: in which its actors live.
        roles: of the learners, by rank.
        run: the opened run.
        staleness: updates by which those that act may be behind, 0 or 1.
    """

    def __init__(self, runtime: Runtime, roles: Sequence[Role], run: Run, staleness: int = 0) -> None:
        self._runtime = runtime
        self._role = roles[0]
        self._followers = [role.name for role in roles[1:]]
        self._directory = run.directory
        self._telemetry = run.telemetry
        self._number = -1
        self._version: Output | None = None
        self._staleness = staleness
        self._previous: tuple[int, Output] | None = None
        """Number and weights of the version before; None before the first update, and where none may act with it."""
        self._deaths: Counter[int] = Counter()

    @property
    def version_number(self) -> int:
        """Number of the present policy version."""
        return self._number

    @property
    def version(self) -> Output:
        """The present policy version, where it was made."""
        assert self._version is not None, "not restored yet"
        return self._version

    def acting_version(self, behind: int) -> tuple[int, Output]:
        """Number and weights of the version that is `behind` updates old, or of the oldest since the start."""
        return self._previous if behind and self._previous is not None else (self._number, self.version)

    def update(self, advantages: np.ndarray, trajectories: Sequence[Output], step: int) -> UpdateReport:
        """Makes update number `step` of trajectories with advantages [P, N]; the new version is the present one.

        Raises:
            CallFailed: it failed, or the learner is lost.
        """
        arguments, label = (advantages, list(trajectories)), f"update of step {step}"
        call = self._runtime.submit(LEARNER, "update", *arguments, num_outputs=2, label=label)
        self._finish(
            [call, *(self._runtime.submit(name, "follow", *arguments, label=label) for name in self._followers)]
        )
        report: UpdateReport = self._runtime.result(call.outputs[0])
        if self._staleness:
            self._previous = self._number, self.version
        self._number, self._version = report.version_number, call.outputs[1]
        return report

    def evaluation_version(self) -> tuple[int, Output]:
        """Number and weights (a reference) of the policy that is evaluated and exported."""
        call = self._runtime.submit(LEARNER, "evaluation", num_outputs=2, label="learner: weights for evaluation")
        return self._runtime.result(call.outputs[0]), call.outputs[1]

    def state(self, step: int) -> LearnerState:
        """The learner's state after a step, and the version before where it may act."""
        call = self._runtime.submit(LEARNER, "state", label=f"state of the learner after step {step}")
        state: LearnerState = self._runtime.result(call.output)
        if self._previous is None:
            return state
        number, version = self._previous
        # Imported here because a session is opened without torch.
        from cluster.run.training_loop import to_tensors

        weights = to_tensors(self._runtime.result(version).weights)
        return {**state, PREVIOUS: {"number": number, "weights": weights}}

    def restore(self) -> None:
        """Restores the learner and its version at the last commit, or at the start if there is none.

        Raises:
            ActorLost: the learner died while loading.
            RunFailed: the checkpoint does not fit.
        """
        manifest = self._directory.manifest
        self._previous = None
        try:
            if self._followers:
                self._join()
            if manifest is None:
                call = self._runtime.submit(LEARNER, "publish", num_outputs=2, label="learner: weights")
            else:
                state = self._directory.load_state()
                previous = state.pop(PREVIOUS, None)
                if self._staleness and previous is not None:
                    from cluster.run.training_loop import to_arrays

                    version = PolicyVersion(previous["number"], to_arrays(previous["weights"]))
                    self._previous = version.number, self._runtime.put(version)
                call = self._runtime.submit(
                    LEARNER, "load", state, num_outputs=2, label=f"learner: checkpoint of step {manifest.step}"
                )
                self._finish([self._runtime.submit(name, "load", state, num_outputs=2) for name in self._followers])
            self._number, self._version = self._runtime.result(call.outputs[0]), call.outputs[1]
        except ActorLost:
            raise
        except CallFailed as failed:
            raise RunFailed(str(failed), failed.cause) from failed
        if manifest is not None and self._number != manifest.policy_version:
            raise RunFailed(
                f"the checkpoint of step {manifest.step} holds policy version {self._number}, the manifest says "
                f"{manifest.policy_version}"
            )

    def _join(self) -> None:
        """Makes a group of several learners.

        Raises:
            ActorLost: one of them died.
        """
        size, timeout_s = 1 + len(self._followers), self._role.timeout_s
        meeting = self._runtime.submit(LEARNER, "meet", size, timeout_s, label="learner: meeting place")
        place = self._runtime.result(meeting.output)
        names = enumerate((LEARNER, *self._followers))
        self._finish([self._runtime.submit(name, "join", rank, size, place, timeout_s) for rank, name in names])

    def _finish(self, calls: Sequence[Call]) -> None:
        """Waits for a call of each learner.

        Raises:
            ActorLost: one of them died; others may have noticed.
            CallFailed: one of them failed by itself. Others may still be waiting for it.
        """
        noticed = None
        for call in self._runtime.wait(calls):
            if call.failure is not None and not isinstance(call.failure.cause, PeerLost):
                raise call.failure
            noticed = noticed or call.failure
        if noticed is not None:
            raise ActorLost(str(noticed)) from noticed

    def recover(self, lost: ActorLost, step: int) -> None:
        """Replaces a learner that died after `step` updates and returns to the last commit; repeated steps give the
        same bits.

        Raises:
            StartError: a new learner cannot be placed or built.
            RunFailed: it died `max_attempts` times at this step, or the checkpoint does not fit.
        """
        while True:
            self._deaths[step] += 1
            if (deaths := self._deaths[step]) >= self._role.max_attempts:
                raise RunFailed(f"after {step} steps: the learner died {deaths} times here: {lost}") from lost
            self._telemetry.message(
                f"the learner is lost after step {step} and starts again from step {self._directory.step}: {lost}"
            )
            try:
                with self._telemetry.phase("start"):
                    for name in (LEARNER, *self._followers):
                        self._runtime.rebuild(name)
                    self._directory.rewind()
                    self.restore()
                break
            except ActorLost as again:
                lost = again
        self._telemetry.rewound(self._directory.step)
