"""Noise schedules: closed forms, respacing by hand, and what respacing has to keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rollouts.diffusion.schedule import DiffusionSchedule, noise_betas, spaced_timesteps


def test_linear_betas_add_the_same_noise_for_any_number_of_steps() -> None:
    betas = noise_betas("linear", 50)
    np.testing.assert_allclose(betas[[0, -1]], [1e-4 * 20, 0.02 * 20], rtol=1e-12)
    np.testing.assert_allclose(np.diff(betas), np.diff(betas)[0])
    assert betas.dtype == np.float64


def test_cosine_betas_follow_the_curve_and_are_capped() -> None:
    betas = noise_betas("cosine", 50)

    def level(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    assert math.isclose(betas[7], 1 - level(8 / 50) / level(7 / 50), rel_tol=1e-12)
    assert betas[-1] == 0.999


@pytest.mark.parametrize(
    ("num_steps", "spacing", "expected"),
    [
        (10, 10, tuple(range(10))),
        (10, 1, (0,)),
        (10, 4, (0, 3, 6, 9)),
        (50, "10", (0, 5, 11, 16, 22, 27, 33, 38, 44, 49)),
        (9, [2, 3], (0, 4, 5, 7, 8)),
        (9, "2,3", (0, 4, 5, 7, 8)),
        (10, "ddim5", (0, 2, 4, 6, 8)),
        (10, "ddim4", (0, 3, 6, 9)),
    ],
)
def test_spacing(num_steps: int, spacing: Any, expected: tuple[int, ...]) -> None:
    assert spaced_timesteps(num_steps, spacing) == expected


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        (11, "section 0 has 10 steps, cannot keep 11"),
        ([6, 2], "section 0 has 5 steps, cannot keep 6"),
        ("ddim7", "no integer stride over 10 steps gives 7 steps"),
        (0, "'0' is not a positive number"),
        ("ddim", "'' is not a positive number"),
        ("fast", "'fast' is not a positive number"),
        ([], "is empty"),
        (-3, "'-3' is not a positive number"),
    ],
)
def test_spacing_errors(spacing: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaced_timesteps(10, spacing)


def test_schedule_errors() -> None:
    with pytest.raises(ValueError, match="known schedules: cosine, linear"):
        noise_betas("sigmoid", 10)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="num_steps is 0"):
        DiffusionSchedule("cosine", 0)
    with pytest.raises(ValueError, match="at least 21 steps"):
        DiffusionSchedule("linear", 20)
    with pytest.raises(ValueError, match="position is 5; the schedule has positions 0 to 4"):
        DiffusionSchedule("cosine", 5).index(5)


def test_respacing_keeps_the_signal_shares_and_the_names_of_the_steps() -> None:
    base = DiffusionSchedule("cosine", 50)
    kept = base.respaced(10)
    assert kept.num_steps == 10 and kept.base_steps == 50
    np.testing.assert_allclose(kept.alphas_cumprod, base.alphas_cumprod[kept.timestep_map], rtol=1e-12)
    assert kept.alphas_cumprod_prev[0] == 1.0 and kept.posterior_variance[0] == 0.0
    assert kept.timestep_map[kept.index(0)] == 49 and kept.timestep_map[kept.index(9)] == 0


def test_respacing_twice_maps_to_the_original_steps() -> None:
    base = DiffusionSchedule("cosine", 40)
    twice = base.respaced("ddim20").respaced([5])
    assert twice.timestep_map.tolist() == [0, 10, 20, 28, 38]
    np.testing.assert_allclose(twice.alphas_cumprod, base.alphas_cumprod[twice.timestep_map], rtol=1e-12)


def test_keeping_all_steps_changes_nothing() -> None:
    base = DiffusionSchedule("cosine", 12)
    np.testing.assert_allclose(base.respaced(12).betas, base.betas, atol=1e-15)


def test_the_posterior_is_bayes_rule() -> None:
    """Product of the Gaussians q(x_t | x_prev) and q(x_prev | x_0), for scalar x."""
    schedule = DiffusionSchedule("cosine", 8)
    for i in range(1, 8):
        beta, before = schedule.betas[i], schedule.alphas_cumprod_prev[i]
        precision = (1 - beta) / beta + 1 / (1 - before)
        assert math.isclose(schedule.posterior_variance[i], 1 / precision, rel_tol=1e-9)
        assert math.isclose(schedule.posterior_mean_coef2[i], math.sqrt(1 - beta) / beta / precision, rel_tol=1e-9)
        assert math.isclose(
            schedule.posterior_mean_coef1[i], math.sqrt(before) / (1 - before) / precision, rel_tol=1e-9
        )


def test_the_official_log_variance_hides_that_the_last_step_is_noiseless() -> None:
    schedule = DiffusionSchedule("cosine", 8)
    assert schedule.posterior_variance[0] == 0.0
    logs = schedule.posterior_log_variance_clipped
    assert logs[0] == logs[1] and np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs[1:]), schedule.posterior_variance[1:])
