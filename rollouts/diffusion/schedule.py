"""Noise schedules of diffusion models and their respacing.

Tables are float64 NumPy, indexed by the *noise level* i of the kept steps: 0 = least noise, num_steps - 1 = most. The
rest of kinetune counts *positions* from the noisy end; `index(position)` converts. The input of the network is the step
of the schedule that it was trained with, `timestep_map[i]`. MDM's 50-step models were trained with 50 steps, so their
map is the identity; respacing keeps a subset of steps and recomputes the betas from consecutive kept alpha products.

Sources: Ho et al. 2020 (DDPM), Nichol and Dhariwal 2021 (cosine schedule, respacing).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from motions.base.errors import UserError

ScheduleName = Literal["cosine", "linear"]
Table = NDArray[np.float64]
Respacing = int | str | Sequence[int]

_MAX_BETA = 0.999


def noise_betas(name: ScheduleName, num_steps: int) -> Table:
    """Noise variances beta [num_steps] of a named schedule.

    `cosine`: beta_i = min(1 - abar((i+1)/T) / abar(i/T), 0.999), abar(u) = cos^2((u + 0.008) / 1.008 * pi/2).
    `linear`: evenly from 1e-4 to 0.02, times 1000/T, so that the whole chain adds the same noise for any T.
    """
    if num_steps < 1:
        raise UserError(f"num_steps is {num_steps}; a schedule has at least 1 step")
    if name == "linear":
        scale = 1000.0 / num_steps
        betas = np.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=np.float64)
        if betas[-1] >= 1.0:
            raise UserError(f"num_steps is {num_steps}; the linear schedule needs at least 21 steps")
        return betas
    if name == "cosine":
        levels = [math.cos((i / num_steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num_steps + 1)]
        return np.array([min(1 - levels[i + 1] / levels[i], _MAX_BETA) for i in range(num_steps)], dtype=np.float64)
    raise UserError(f"schedule is {name!r}; known schedules: {', '.join(get_args(ScheduleName))}")


def spaced_timesteps(num_steps: int, spacing: Respacing) -> tuple[int, ...]:
    """Steps that are kept when a schedule of `num_steps` is respaced, in increasing order.

    `spacing` is a number of steps (10 or "10": first and last step kept, the others evenly between), section counts
    ([10, 15, 20] or "10,15,20": equal sections, each reduced to its count), or "ddimN": the smallest integer stride
    that gives N steps.
    """
    if isinstance(spacing, str) and spacing.startswith("ddim"):
        wanted = _positive_integer(spacing[len("ddim") :], spacing)
        for stride in range(1, num_steps + 1):
            if len(range(0, num_steps, stride)) == wanted:
                return tuple(range(0, num_steps, stride))
        raise UserError(f"respacing {spacing!r}: no integer stride over {num_steps} steps gives {wanted} steps")
    counts = _section_counts(spacing)
    size, remainder = divmod(num_steps, len(counts))
    kept: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        length = size + (section < remainder)
        if count > length:
            raise UserError(f"respacing {spacing!r}: section {section} has {length} steps, cannot keep {count} of them")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        # The offset is accumulated, not multiplied, so that halves are rounded as in the published tables.
        offset = 0.0
        for _ in range(count):
            kept.append(start + round(offset))
            offset += stride
        start += length
    return tuple(sorted(set(kept)))


def _section_counts(spacing: Respacing) -> list[int]:
    """`spacing` as a list of positive counts."""
    if isinstance(spacing, int):
        return [_positive_integer(spacing, spacing)]
    parts = spacing.split(",") if isinstance(spacing, str) else list(spacing)
    if not parts:
        raise UserError(f"respacing {spacing!r} is empty; give a number of steps, section counts or 'ddimN'")
    return [_positive_integer(part, spacing) for part in parts]


def _positive_integer(value: object, spacing: Respacing) -> int:
    text = str(value).strip()
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"respacing {spacing!r}: {text!r} is not a positive number of steps")
    return int(text)


class DiffusionSchedule:
    """The float64 tables of one (possibly respaced) noise schedule.

    Example:
        schedule = DiffusionSchedule("cosine", 50).respaced(10)
        schedule.timestep_map          # the 10 steps of the original 50 that are kept
        schedule.index(0)              # 9: position 0 is the noisiest step
    """

    def __init__(self, name: ScheduleName, num_steps: int) -> None:
        self.name: ScheduleName = name
        self.base_steps = num_steps
        self._set_tables(noise_betas(name, num_steps), np.arange(num_steps, dtype=np.int64))

    def _set_tables(self, betas: Table, timestep_map: NDArray[np.int64]) -> None:
        alphas = 1.0 - betas
        self.timestep_map = timestep_map
        self.betas = betas
        self.alphas_cumprod = np.cumprod(alphas)
        self.alphas_cumprod_prev = np.append(1.0, self.alphas_cumprod[:-1])
        self.alphas_cumprod_next = np.append(self.alphas_cumprod[1:], 0.0)
        self.sqrt_alphas_cumprod = np.sqrt(self.alphas_cumprod)
        self.sqrt_one_minus_alphas_cumprod = np.sqrt(1.0 - self.alphas_cumprod)
        self.log_one_minus_alphas_cumprod = np.log(1.0 - self.alphas_cumprod)
        self.sqrt_recip_alphas_cumprod = np.sqrt(1.0 / self.alphas_cumprod)
        self.sqrt_recipm1_alphas_cumprod = np.sqrt(1.0 / self.alphas_cumprod - 1.0)
        noise_share = 1.0 - self.alphas_cumprod
        self.posterior_variance = betas * (1.0 - self.alphas_cumprod_prev) / noise_share
        # The variance of the last step is 0 and has no logarithm; Nichol and Dhariwal's table has the next entry there.
        clipped = np.append(self.posterior_variance[1:2], self.posterior_variance[1:]) if len(betas) > 1 else betas
        self.posterior_log_variance_clipped = np.log(clipped)
        self.posterior_mean_coef1 = betas * np.sqrt(self.alphas_cumprod_prev) / noise_share
        self.posterior_mean_coef2 = (1.0 - self.alphas_cumprod_prev) * np.sqrt(alphas) / noise_share

    @property
    def num_steps(self) -> int:
        """Number K of kept steps."""
        return len(self.betas)

    def index(self, position: int) -> int:
        """Table index of a position of the denoising sequence (0 = noisiest)."""
        if not 0 <= position < self.num_steps:
            raise ValueError(f"position is {position}; the schedule has positions 0 to {self.num_steps - 1}")
        return self.num_steps - 1 - position

    def respaced(self, spacing: Respacing) -> DiffusionSchedule:
        """The schedule that keeps the steps of `spaced_timesteps`. Raises UserError if there are not that many."""
        kept = spaced_timesteps(self.num_steps, spacing)
        products = self.alphas_cumprod[list(kept)]
        previous = np.append(1.0, products[:-1])
        result = DiffusionSchedule.__new__(DiffusionSchedule)
        result.name, result.base_steps = self.name, self.base_steps
        result._set_tables(1.0 - products / previous, self.timestep_map[list(kept)])
        return result


def flow_time(alpha_bar: np.ndarray) -> np.ndarray:
    """Time t = b / (a + b) of the rectified flow's path that states with this alpha_bar lie on, 1 = noise, 0 = data;
    a^2 = alpha_bar, b^2 = 1 - alpha_bar (`rollouts/diffusion/samplers/rectified_flow.py`)."""
    noise = np.sqrt(1.0 - alpha_bar)
    return noise / (np.sqrt(alpha_bar) + noise)


def noise_level_drops(schedule: DiffusionSchedule) -> np.ndarray:
    """Decrease of the noise level in each position's step, as time of the rectified flow's path (`flow_time`): they are
    Flow-GRPO's |dt| and sum to the first time.

    Returns:
        [K] float64, by position (0 = noisiest).
    """
    return (flow_time(schedule.alphas_cumprod) - flow_time(schedule.alphas_cumprod_prev))[::-1].copy()
