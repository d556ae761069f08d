"""The sampling loop: which steps draw noise, what is recorded, and that recorded densities can be computed again."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from rollouts.diffusion.policy import DiffusionPolicy, Inpainting
from rollouts.diffusion.sampler import Samples, sample
from rollouts.diffusion.windows import ancestral_positions, trained_positions, window_positions
from rollouts.gaussians import gaussian_log_prob
from rollouts.settings import SamplingSettings
from tests.toys.tiny_policy import NUM_FEATURES, NUM_STEPS, motion_noise, text_features, tiny_policy

N, T = 4, 9
MASK = torch.arange(T) < torch.tensor([[9], [5], [1], [9]])
EVERY = ancestral_positions(NUM_STEPS)


def noise_of(position: int) -> Tensor:
    return motion_noise(N, T, seed=100 + position)


def run(policy: DiffusionPolicy, stochastic: tuple[int, ...], trained: tuple[int, ...] = (), **options: Any) -> Samples:
    return sample(policy, text_features(N), MASK, motion_noise(N, T), noise_of, stochastic, trained, **options)


def test_ddim_with_eta_1_over_all_steps_is_ancestral_ddpm() -> None:
    ddpm, ddim = run(tiny_policy(), EVERY), run(tiny_policy(sampler="ddim", eta=1.0), EVERY)
    torch.testing.assert_close(ddpm.motions, ddim.motions, atol=2e-5, rtol=0)


def test_without_stochastic_steps_no_noise_is_drawn() -> None:
    def forbidden(position: int) -> Tensor:
        raise AssertionError(f"noise asked for position {position}")

    results = [
        sample(tiny_policy(sampler=name), text_features(N), MASK, motion_noise(N, T), forbidden, ())
        for name in ("ddpm", "ddim")
    ]
    assert torch.equal(results[0].motions, results[1].motions)
    assert results[0].states.shape == (0, N, T, NUM_FEATURES) and results[0].log_probs.shape == (0, N)


def test_noise_is_asked_for_in_order_at_the_stochastic_positions() -> None:
    asked: list[int] = []

    def record(position: int) -> Tensor:
        asked.append(position)
        return noise_of(position)

    sample(tiny_policy(), text_features(N), MASK, motion_noise(N, T), record, (1, 2, 4))
    assert asked == [1, 2, 4]


def test_noise_matters_where_it_is_drawn_only() -> None:
    policy = tiny_policy()
    window = run(policy, (2, 3), (2, 3))
    quiet = run(policy, ())
    assert not torch.allclose(window.motions, quiet.motions, atol=1e-3)
    # Until the window begins the two chains are one.
    with policy.inference():
        x = motion_noise(N, T)
        for position in range(2):
            x = policy.transition(x, position, policy.embed(text_features(N)), MASK, stochastic=False).mean
    assert torch.equal(window.states[0], x)


def test_recorded_transitions_are_the_chain() -> None:
    policy = tiny_policy()
    samples = run(policy, (1, 2, 4), (1, 2))
    assert samples.positions == (1, 2)
    assert torch.equal(samples.next_states[0], samples.states[1])
    for row, position in enumerate(samples.positions):
        step = policy.transition(samples.states[row], position, text_features(N), MASK)
        drawn = step.mean + step.std.view(-1, 1, 1) * noise_of(position)
        torch.testing.assert_close(samples.next_states[row], drawn.detach(), atol=2e-6, rtol=0)
    assert torch.equal(run(policy, (1, 2, 4), ()).motions, samples.motions)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_recorded_log_probs_are_computed_again_in_other_batches(sampler: str, batch_size: int) -> None:
    policy = tiny_policy(sampler=sampler, eta=0.7)
    samples = run(policy, EVERY, EVERY)
    text = text_features(N)
    for row, position in enumerate(samples.positions):
        for rows in torch.arange(N).split(batch_size):
            step = policy.transition(samples.states[row, rows], position, text[rows], MASK[rows])
            scored = gaussian_log_prob(samples.next_states[row, rows], step.mean, step.std, MASK[rows])
            torch.testing.assert_close(scored.detach(), samples.log_probs[row, rows], atol=1e-6, rtol=0)
    all_rows = torch.arange(len(EVERY)).repeat_interleave(N)
    step = policy.transition(
        samples.states.flatten(0, 1), all_rows, text.repeat(len(EVERY), 1, 1), MASK.repeat(len(EVERY), 1)
    )
    scored = gaussian_log_prob(samples.next_states.flatten(0, 1), step.mean, step.std, MASK.repeat(len(EVERY), 1))
    torch.testing.assert_close(scored.detach(), samples.log_probs.flatten(), atol=1e-6, rtol=0)


def test_samples_do_not_depend_on_their_neighbours_or_their_padding() -> None:
    policy = tiny_policy()
    whole = run(policy, EVERY)
    length = 5
    alone = sample(
        policy,
        text_features(N)[1:2],
        None,
        motion_noise(N, T)[1:2, :length],
        lambda position: noise_of(position)[1:2, :length],
        EVERY,
    )
    torch.testing.assert_close(alone.motions[0], whole.motions[1, :length], atol=2e-5, rtol=0)


def test_inpainting_holds_to_the_end() -> None:
    keep = torch.zeros(N, T, NUM_FEATURES, dtype=torch.bool)
    keep[:, :, 0] = True
    given = motion_noise(N, T, seed=55)
    motions = run(tiny_policy(), EVERY, inpainting=Inpainting(given, keep)).motions
    torch.testing.assert_close(motions[keep], given[keep], atol=1e-6, rtol=0)
    assert not torch.equal(motions[~keep], run(tiny_policy(), EVERY).motions[~keep])


@pytest.mark.parametrize("stochastic", [(0, 1), (2, 4), ()])
def test_branches_are_samples_that_start_together(stochastic: tuple[int, ...]) -> None:
    policy = tiny_policy()
    keep = torch.zeros(2, T, NUM_FEATURES, dtype=torch.bool)
    keep[0, 2] = True
    given = Inpainting(motion_noise(2, T, seed=55), keep)
    starts, text, mask = motion_noise(2, T), text_features(2), MASK[:2]
    branched = sample(policy, text, mask, starts, noise_of, stochastic, stochastic, given, branches=2)
    apart = sample(
        policy,
        text.repeat_interleave(2, dim=0),
        mask.repeat_interleave(2, dim=0),
        starts.repeat_interleave(2, dim=0),
        noise_of,
        stochastic,
        stochastic,
        given.repeated(2),
    )
    for name in ("motions", "states", "next_states", "log_probs"):
        torch.testing.assert_close(getattr(branched, name), getattr(apart, name), atol=2e-5, rtol=0)
    if stochastic:
        assert not torch.allclose(branched.motions[0], branched.motions[1], atol=1e-3)


@pytest.mark.parametrize(
    ("stochastic", "trained", "message"),
    [
        ((NUM_STEPS - 1,), (), "stochastic_steps is .*the last one is noiseless"),
        ((-1,), (), "positions 0 to 4 can be stochastic"),
        ((3, 1), (), "have to increase"),
        ((1, 1), (), "have to increase"),
        ((1, 2), (3,), r"trained_steps has \[3\], which are not stochastic"),
    ],
)
def test_impossible_positions(stochastic: tuple[int, ...], trained: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tiny_policy(), stochastic, trained)


def test_a_window_of_consecutive_steps_begins_among_the_first() -> None:
    settings = SamplingSettings(sde_window=2, sde_window_start=4)
    windows = [window_positions(settings, 10, seed=3, step=step) for step in range(400)]
    assert windows == [window_positions(settings, 10, seed=3, step=step) for step in range(400)]
    counts = Counter(windows)
    assert set(counts) == {(0, 1), (1, 2), (2, 3), (3, 4)}
    assert min(counts.values()) > 60
    assert windows != [window_positions(settings, 10, seed=4, step=step) for step in range(400)]


def test_a_window_never_reaches_the_noiseless_step() -> None:
    settings = SamplingSettings(sde_window=3, sde_window_start=100)
    starts = {window_positions(settings, 6, seed=0, step=step) for step in range(100)}
    assert starts == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}
    with pytest.raises(ValueError, match="sde_window is 3; of 3 sampling steps, 2 can be stochastic"):
        window_positions(settings, 3, seed=0, step=0)
    with pytest.raises(ValueError, match="learning needs at least 2"):
        window_positions(settings, 1, seed=0, step=0)


def starts(strategy: str, num_steps: int, updates: int = 25, **options: int) -> list[int]:
    settings = SamplingSettings.model_validate(
        {"sde_window": 2, "sde_window_start": 100, "sde_window_strategy": strategy, **options}
    )
    windows = [window_positions(settings, num_steps, seed=0, step=step) for step in range(40 * updates)]
    assert all(window == (window[0], window[0] + 1) for window in windows)
    return [window[0] for window in windows]


def test_a_progressive_window_moves_from_noise_to_the_clean_end() -> None:
    assert starts("progressive", 6, 3, sde_window_updates=3)[:14] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]
    assert Counter(starts("progressive", 25))[0] == 25, "for 25 updates, as in MixGRPO"
    assert max(starts("progressive", 25, sde_window_start=4)) == 3


def test_a_window_that_rolls_back_begins_again() -> None:
    assert starts("roll_back", 5, 2, sde_window_updates=2)[:9] == [0, 0, 1, 1, 2, 2, 0, 0, 1]


def test_a_decaying_window_stays_ever_shorter() -> None:
    linear, exponential = Counter(starts("decay", 6, 8, sde_window_updates=8)), Counter(starts("exp_decay", 25))
    assert [linear[start] for start in range(3)] == [8, 6, 4]
    stays = [exponential[start] for start in range(22)]
    assert stays[:14] == [25] * 14
    assert stays[14:] == [math.ceil(25 * math.exp(-0.1 * (start - 13))) for start in range(14, 22)]
    assert sorted(starts("exp_decay", 25)) == starts("exp_decay", 25)


def test_all_steps_are_no_window_that_moves() -> None:
    with pytest.raises(ValueError, match="sde_window_strategy is progressive and sde_window 0"):
        SamplingSettings.model_validate({"sde_window": 0, "sde_window_strategy": "progressive"})


def test_no_window_means_every_step_but_the_last() -> None:
    assert window_positions(SamplingSettings(sde_window=0), 4, seed=0, step=0) == (0, 1, 2)


def test_a_fraction_of_the_steps_is_trained_another_one_for_every_group() -> None:
    half = SamplingSettings(timestep_fraction=0.5)
    stochastic = tuple(range(3, 9))
    subsets = [trained_positions(half, stochastic, seed=1, step=2, prompt_index=index) for index in range(40)]
    assert subsets == [trained_positions(half, stochastic, seed=1, step=2, prompt_index=index) for index in range(40)]
    assert all(
        len(subset) == 3 and set(subset) < set(stochastic) and list(subset) == sorted(subset) for subset in subsets
    )
    assert len(set(subsets)) > 10
    assert trained_positions(SamplingSettings(), stochastic, 1, 2, 0) == stochastic
    assert len(trained_positions(SamplingSettings(timestep_fraction=0.01), stochastic, 1, 2, 0)) == 1


def test_guides_names_are_accepted() -> None:
    settings = SamplingSettings.model_validate({"guidance_param": 1.5, "init_same_noise": False})
    assert settings.guidance_scale == 1.5 and not settings.share_initial_noise
    for field, value in (
        ("eta", 0.0),
        ("eta", 1.1),
        ("sampling_steps", 0),
        ("timestep_fraction", 0.0),
        ("sampler", "x"),
    ):
        with pytest.raises(ValueError, match=field):
            SamplingSettings.model_validate({field: value})
