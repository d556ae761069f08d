"""Rolls out one group: N samples of one prompt.

A rollout is a pure function of request and weights: noise comes from counters, the padded length from the prompt, and
every call loads the version it is given. It gives the same bits on every worker and after any other calls.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.data.prompts import Prompt
from rollouts.diffusion.noise import initial_noise, step_noise
from rollouts.diffusion.policy import Inpainting
from rollouts.diffusion.requests import evaluation_requests, prompt_conditions
from rollouts.diffusion.sampler import sample
from rollouts.diffusion.windows import ancestral_positions
from rollouts.messages import GivenFrames, GroupMotions, PolicyVersion, RolloutRequest, Trajectory
from rollouts.policy import Policy
from rollouts.text.encoders import TextEncoder

BORDER_FRAMES = 6
"""Frames beside given ones that follow what these change, .3 s of HumanML3D's motions."""


class RolloutError(UserError):
    """A rollout made numbers that are not finite; the message names prompt, step and version."""


class RolloutWorker:
    """Runs rollout requests on one policy.

    Example:
        worker = RolloutWorker(policy)
        motions, trajectory = worker.run(request, PolicyVersion(0, policy.weights()))
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def run(self, request: RolloutRequest, version: PolicyVersion) -> tuple[GroupMotions, Trajectory]:
        """Motions of the group in physical units, and its recorded transitions.

        Raises:
            RolloutError: no samples or frames, another version than the requested one, or motions that are not finite.
            UserError: steps, condition or weights do not fit the policy.
        """
        started = time.perf_counter()
        _require_runnable(request, version)
        policy = self.policy if request.denoising is None else self.policy.denoising(request.denoising)
        policy.load_weights(version.weights)
        num_samples, num_frames = request.num_samples, request.prompt.num_frames
        shape = policy.state_shape(num_frames)
        keys = (request.seed, request.step, request.prompt_index, num_samples)

        def noise_of(position: int) -> Tensor:
            return torch.from_numpy(step_noise(*keys, position, *shape))

        num_starts = 1 if request.share_initial_noise else num_samples
        x_t = initial_noise(request.seed, request.step, request.prompt_index, num_starts, *shape)
        # All samples have the prompt's length, so there is no padding and no mask.
        samples = sample(
            policy,
            condition=_repeated(request.condition.values, num_starts),
            mask=None,
            initial_noise=torch.from_numpy(x_t),
            step_noise=noise_of,
            stochastic=request.stochastic_steps,
            trained=request.trained_steps,
            branches=num_samples // num_starts,
            text_mask=None if request.condition.mask is None else _repeated(request.condition.mask, num_starts),
            boundaries=request.condition.boundaries,
            kept=request.kept_steps,
            num_frames=num_frames,
            inpainting=None if request.given is None else _inpainting(policy, request.given, request),
        )
        _require_finite(samples.motions, request)
        states = samples.states.cpu().numpy()
        trajectory = Trajectory(
            states=states,
            # The same array, which a message then holds once.
            next_states=states if request.kept_steps else samples.next_states.cpu().numpy(),
            steps=np.array(samples.positions, dtype=np.int64),
            log_probs=samples.log_probs.cpu().numpy(),
            lengths=np.full(num_samples, shape[0], dtype=np.int64),
            condition=request.condition,
            policy_version=version.number,
            motions=samples.motions.cpu().numpy() if request.keep_motions else None,
            prompt=request.prompt if request.kept_steps else None,
        )
        motions = GroupMotions(
            features=policy.normalizer.denormalize(samples.motions).cpu().numpy(),
            lengths=np.full(num_samples, num_frames, dtype=np.int64),
            prompt=request.prompt,
            policy_version=version.number,
            seconds=time.perf_counter() - started,
        )
        return motions, trajectory


def generate(
    policy: Policy,
    encoder: TextEncoder,
    prompts: Sequence[Prompt],
    num_samples: int,
    seed: int,
    *,
    stochastic: bool = False,
    given: Sequence[GivenFrames] | None = None,
) -> list[GroupMotions]:
    """`num_samples` motions of each prompt, as a function of policy, prompts and seed.

    Args:
        stochastic: draw noise in every step; otherwise only the initial noise.
        given: frames of each prompt's motions that the policy does not make but completes.

    Raises:
        ValueError: there is no prompt.
        RolloutError: a prompt without frames, or motions that are not finite.
        UserError: the policy cannot read a prompt; see `prompt_conditions`.
    """
    if not prompts:
        raise ValueError("there is no prompt")
    worker = RolloutWorker(policy)
    version = PolicyVersion(0, policy.weights())
    steps = ancestral_positions(policy.num_steps) if stochastic else ()
    conditions = prompt_conditions(policy, encoder, prompts)
    requests = evaluation_requests(prompts, conditions, num_samples, seed, policy_version=0, stochastic_steps=steps)
    if given is not None:
        requests = [replace(request, given=frames) for request, frames in zip(requests, given, strict=True)]
    return [worker.run(request, version)[0] for request in requests]


def _repeated(array: np.ndarray, times: int) -> Tensor:
    """[...] as [times, ...]. Arrays from an object store are read-only, which torch cannot wrap."""
    return torch.from_numpy(np.array(array)).expand(times, *(-1 for _ in array.shape))


def _inpainting(policy: Policy, given: GivenFrames, request: RolloutRequest) -> Inpainting:
    """The given frames of every sample, normalised."""
    shape = (request.num_samples, request.prompt.num_frames, policy.skeleton.num_features)
    motions = torch.from_numpy(np.array(given.motions, np.float32))
    if motions.shape[1:] != shape[1:] or len(motions) not in (1, shape[0]) or given.keep.shape != shape[1:2]:
        raise ValueError(
            f"given frames are {list(motions.shape)} and {list(given.keep.shape)} for {_described(request)}; expected "
            f"[1 or {shape[0]}, {shape[1]}, {shape[2]}] and [{shape[1]}]"
        )
    keep = torch.from_numpy(np.array(given.keep, bool))[None, :, None]
    # What is not given may hold anything, and is never read.
    known = policy.normalizer.normalize(torch.where(keep, motions, 0.0)).to(policy.device)
    spread = torch.from_numpy(_spread(given.keep)).to(policy.device)
    return Inpainting(known.expand(*shape), keep.to(policy.device).expand(*shape), spread)


def _spread(keep: np.ndarray) -> np.ndarray:
    """Weights [T, T] by which frames that are made follow the nearest given ones before and after them: falling along
    a line over `BORDER_FRAMES`, together at most 1."""
    frames = np.arange(len(keep))
    weights = np.zeros((len(keep), len(keep)), np.float32)
    for order in (frames, frames[::-1]):
        nearest = None
        for frame in order:
            if keep[frame]:
                nearest = frame
            elif nearest is not None:
                weights[frame, nearest] = max(0.0, 1.0 - abs(frame - nearest) / (BORDER_FRAMES + 1))
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)


def _require_runnable(request: RolloutRequest, version: PolicyVersion) -> None:
    if request.num_samples < 1:
        raise ValueError(f"num_samples is {request.num_samples} for {_described(request)}; at least 1 is needed")
    if request.prompt.num_frames < 1:
        raise ValueError(f"{_described(request)} has {request.prompt.num_frames} frames; at least 1 is needed")
    if request.given is not None and (request.trained_steps or request.share_initial_noise):
        raise ValueError(f"{_described(request)} has given frames: it trains no step, and its samples start apart")
    if request.policy_version != version.number:
        raise ValueError(
            f"{_described(request)} asks for policy version {request.policy_version}, the weights are {version.number}"
        )


def _require_finite(motions: Tensor, request: RolloutRequest) -> None:
    """Checks that every value of [N, T, D] is finite."""
    finite = torch.isfinite(motions).flatten(1).all(dim=1)
    if not bool(finite.all()):
        broken = [index for index, is_finite in enumerate(finite.tolist()) if not is_finite]
        raise RolloutError(
            f"samples {broken} of {_described(request)} are not finite "
            f"(policy version {request.policy_version}); the policy has diverged or its precision is too low"
        )


def _described(request: RolloutRequest) -> str:
    return f"prompt {request.prompt_index} {request.prompt.text!r} of step {request.step}"
