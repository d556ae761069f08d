"""Counter-based noise: standard normal, keyed, independent of batch, order and padding."""

from __future__ import annotations

import numpy as np
import pytest

from rollouts.diffusion.noise import initial_noise, plan_generator, step_noise


def test_noise_is_standard_normal_float32() -> None:
    noise = initial_noise(0, 0, 0, 8, 60, 263)
    assert noise.shape == (8, 60, 263) and noise.dtype == np.float32
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    correlation = np.corrcoef(noise.reshape(8, -1)) - np.eye(8)
    assert np.abs(correlation).max() < 0.05


def test_every_key_gives_other_noise_and_the_same_keys_the_same() -> None:
    keys = {"seed": 1, "step": 2, "prompt_index": 3, "num_samples": 1, "num_frames": 2, "num_features": 3}
    draws = [step_noise(**keys, position=4)]
    draws += [step_noise(**{**keys, name: keys[name] + 1}, position=4) for name in ("seed", "step", "prompt_index")]
    draws += [step_noise(**keys, position=5), initial_noise(**keys)]
    draws += [step_noise(**{**keys, "num_samples": 2}, position=4)[1:]]
    assert len({draw.tobytes() for draw in draws}) == len(draws)
    assert np.array_equal(step_noise(**keys, position=4), draws[0])


def test_a_sample_has_its_noise_in_any_batch_and_for_any_length() -> None:
    many = step_noise(5, 0, 1, 6, 2, 20, 7)
    few = step_noise(5, 0, 1, 3, 2, 9, 7)
    assert np.array_equal(many[:3, :9], few)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    np.random.seed(0)
    first = initial_noise(5, 0, 0, 1, 3, 3)
    following = np.random.random()
    np.random.seed(0)
    assert np.random.random() == following
    assert np.array_equal(initial_noise(5, 0, 0, 1, 3, 3), first)


def test_plans_have_a_stream_of_their_own() -> None:
    assert plan_generator(1, 2).integers(2**62) == plan_generator(1, 2).integers(2**62)
    values = {plan_generator(*keys).integers(2**62) for keys in ((1, 2), (1, 3), (2, 2), (1, 2, 1))}
    assert len(values) == 4


def test_keys_are_64_bit_integers() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        initial_noise(-1, 0, 0, 1, 2, 2)
    with pytest.raises(ValueError, match="step is 18446744073709551616"):
        step_noise(0, 2**64, 0, 1, 0, 2, 2)
