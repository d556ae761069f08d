"""Noise of rollouts and of losses from a counter-based generator: a function of its keys alone.

Every sample has its own Philox stream, keyed by (run seed, training step, prompt index, sample index, purpose). So the
noise does not depend on which actor draws it, in which order, how often, or on other samples of the batch; and since
frames are drawn in order, a longer motion begins with the noise of a shorter one.

Source: Salmon et al. 2011 (Philox); 64-bit words: key = (seed, step), counter = (block, prompt, sample, purpose).
"""

from __future__ import annotations

import numpy as np

from motions.base.errors import UserError

_WORD = 2**64
# The highest counter word holds the kind of draw in its upper half, the denoising position in its lower one.
_INITIAL = 0 << 32
_STEP = 1 << 32
_PLAN = 2 << 32
_FORWARD = 3 << 32
_LEVELS = 4 << 32
_CHAIN = 5 << 32


def initial_noise(
    seed: int, step: int, prompt_index: int, num_samples: int, num_frames: int, num_features: int
) -> np.ndarray:
    """x_T of a group: standard normal [N, T, D] float32. Groups that share their initial noise use that of sample 0."""
    return _stacked(seed, step, prompt_index, num_samples, _INITIAL, (num_frames, num_features))


def step_noise(
    seed: int, step: int, prompt_index: int, num_samples: int, position: int, num_frames: int, num_features: int
) -> np.ndarray:
    """Noise of one stochastic denoising step of a group: standard normal [N, T, D] float32."""
    return _stacked(seed, step, prompt_index, num_samples, _STEP + position, (num_frames, num_features))


def forward_noise(
    seed: int, step: int, group: int, num_samples: int, draw: int, num_frames: int, num_features: int
) -> np.ndarray:
    """Noise of one draw of the forward process on the final motions of a group: standard normal [N, T, D] float32."""
    return _stacked(seed, step, group, num_samples, _FORWARD + draw, (num_frames, num_features))


def levels_generator(seed: int, step: int, group: int) -> np.random.Generator:
    """Generator for the noise levels of a group's draws of the forward process."""
    return _generator(seed, step, group, 0, _LEVELS)


def chain_generator(seed: int, step: int, group: int) -> np.random.Generator:
    """Generator for the sample of a group whose motion is noised for a penalty on the whole chain."""
    return _generator(seed, step, group, 0, _CHAIN)


def plan_generator(seed: int, step: int, prompt_index: int = 0) -> np.random.Generator:
    """Generator for choices about a training step (or one of its groups) rather than about a sample."""
    return _generator(seed, step, prompt_index, 0, _PLAN)


def _stacked(
    seed: int, step: int, prompt_index: int, num_samples: int, purpose: int, shape: tuple[int, int]
) -> np.ndarray:
    noise = np.empty((num_samples, *shape), dtype=np.float32)
    for sample in range(num_samples):
        _generator(seed, step, prompt_index, sample, purpose).standard_normal(dtype=np.float32, out=noise[sample])
    return noise


def _generator(seed: int, step: int, prompt_index: int, sample: int, purpose: int) -> np.random.Generator:
    words = {"seed": seed, "step": step, "prompt_index": prompt_index, "sample index": sample}
    for name, value in words.items():
        if not 0 <= value < _WORD:
            raise UserError(f"{name} is {value}; noise is keyed by integers from 0 to 2^64 - 1")
    key = np.array([seed, step], dtype=np.uint64)
    counter = np.array([0, prompt_index, sample, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
