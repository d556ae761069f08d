"""Sends the work of an evaluation to rollout and reward actors, and receives what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from cluster.run.roles import ROLLOUT, reward_role
from cluster.runtime import stopping
from cluster.runtime.protocol import Call, Output, Runtime
from jobs.evaluation.settings import EvaluateConfig
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.protocol.measuring import MeasuredGroup, MotionMeter
from rewards.evaluation.text import load_judge
from rewards.evaluator.scorer import EvaluatorEmbedder, load_evaluator_embedder
from rewards.tmr.scorer import Embedder
from rollouts.checkpoints.loading import open_base, open_policy
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import GroupMotions, RolloutRequest
from rollouts.settings import PolicySettings, SamplingSettings

METER = "evaluation"
"""Name of the reward actors' role."""
AT_ONCE = 64
"""Groups whose motions may be in the object store at one time."""
_REAL_AT_ONCE = 32
"""Real motions that go through the encoder in one batch."""

ItemT = TypeVar("ItemT")


def policy_settings(config: EvaluateConfig) -> PolicySettings:
    """The policy with its adapter, if there is one, and no new one."""
    return PolicySettings(**config.policy.model_dump(), use_lora=config.policy.adapter_path is not None)


def sampling_settings(config: EvaluateConfig) -> SamplingSettings:
    """How the policy denoises."""
    return SamplingSettings(**config.sampling.model_dump())


def build_rollout_worker(config: EvaluateConfig) -> RolloutWorker:
    """The object of a rollout actor."""
    settings = policy_settings(config)
    return RolloutWorker(open_policy(open_base(settings), settings, sampling_settings(config)))


def load_network(config: EvaluateConfig, skeleton: Skeleton, device: str) -> Embedder | EvaluatorEmbedder:
    """The network that embeds text and motion.

    Raises:
        UserError: its files, or it does not fit the skeleton.
    """
    network = config.network
    if config.chosen_network == "mdm":
        # Published figures are of the first 20 words of a text.
        return load_evaluator_embedder(network, skeleton, device, truncate=True)
    judge = load_judge(network.judge_path, skeleton, config.policy, network.judge_text_model, device)
    assert judge is not None, "the settings refuse judge_path none"
    return judge


def build_meter(config: EvaluateConfig, skeleton: Skeleton) -> MotionMeter:
    """The object of a reward actor."""
    return MotionMeter(load_network(config, skeleton, config.network.reward_device), skeleton)


def measure_requests(runtime: Runtime, requests: Sequence[RolloutRequest], version: Output) -> list[MeasuredGroup]:
    """Rolls out and measures groups; the motions pass from rollout to reward actors.

    Raises:
        CallFailed: a rollout or a measurement failed for good, such as for motions that are not finite.
    """

    def submit(request: RolloutRequest) -> list[Call]:
        where = f"of the evaluation, prompt {request.prompt_index} {request.prompt.text!r}"
        rollout = runtime.submit(ROLLOUT, "run", request, version, num_outputs=2, label=f"rollout {where}")
        return [
            rollout,
            runtime.submit(reward_role(METER), "measure", [rollout.output], label=f"measurement {where}"),
        ]

    found: list[MeasuredGroup] = []
    for part in _parts(requests, AT_ONCE):
        found += [one for groups in _finished(runtime, part, submit) for one in groups]
        print(f"{len(found)} of {len(requests)} groups of generated motions are measured", flush=True)
    return found


def measure_real(
    runtime: Runtime, motions: Sequence[ItemT], read: Callable[[ItemT], GroupMotions]
) -> dict[ItemT, MeasuredGroup]:
    """What is measured of real motions, each of which is read when it is sent.

    Args:
        motions: each once.
    """

    def submit(part: Sequence[ItemT]) -> list[Call]:
        groups = [read(motion) for motion in part]
        return [runtime.submit(reward_role(METER), "measure", groups, label="measurement of real motions")]

    found: list[MeasuredGroup] = []
    for parts in _parts(list(_parts(motions, _REAL_AT_ONCE)), AT_ONCE // _REAL_AT_ONCE):
        found += [one for groups in _finished(runtime, parts, submit) for one in groups]
    if motions:
        print(f"{len(motions)} real motions are measured", flush=True)
    return dict(zip(motions, found, strict=True))


def _finished(
    runtime: Runtime, items: Sequence[ItemT], submit: Callable[[ItemT], list[Call]]
) -> Iterator[list[MeasuredGroup]]:
    """The results of the last call of each item; all are submitted before the first is waited for."""
    calls = [submit(item) for item in items]
    for call in runtime.wait([call for chain in calls for call in chain], between=stopping.check):
        if call.failure is not None:
            raise call.failure
    for chain in calls:
        yield runtime.result(chain[-1].output)


def _parts(items: Sequence[ItemT], size: int) -> Iterator[list[ItemT]]:
    left = iter(items)
    while part := list(islice(left, size)):
        yield part
