"""Composed denoising: each segment under its own text, one Gaussian for the whole motion."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from motions.data.prompts import Prompt, Segment
from rollouts.diffusion.composition import composition
from rollouts.diffusion.policy import DiffusionPolicy, Inpainting
from rollouts.diffusion.worker import RolloutWorker
from rollouts.gaussians import gaussian_log_prob
from rollouts.messages import Boundaries, GroupMotions, PolicyVersion, TextCondition, Trajectory
from rollouts.settings import Blend
from tests.toys.tiny_policy import CONFIG, NUM_FEATURES, TEXT_DIM, motion_noise, rollout_request, tiny_policy

N = 3
BOUNDARIES = ((0, 10), (10, 17), (17, 24))
NUM_FRAMES = 24
MASK_BLIND = dataclasses.replace(CONFIG, mask_frames=False)


def texts(num_samples: int = N, segments: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(num_samples, segments, 1, TEXT_DIM, generator=torch.Generator().manual_seed(seed))


def policy_with(overlap: int = 2, blend: Blend = "linear", **options: Any) -> DiffusionPolicy:
    return tiny_policy(composite_overlap=overlap, composite_blend=blend, **options)


def act(policy: DiffusionPolicy, boundaries: Boundaries = BOUNDARIES, **options: Any) -> Tensor:
    """Clean motion of a step."""
    given = {"condition": texts(segments=len(boundaries)), "mask": None, **options}
    return policy.transition(motion_noise(N, boundaries[-1][1]), 2, boundaries=boundaries, **given).x0


def forwards(policy: DiffusionPolicy) -> list[tuple[int, int]]:
    """Batch and frames of each forward from now on."""
    shapes: list[tuple[int, int]] = []
    policy.network.get_submodule("backbone").register_forward_hook(
        lambda module, args, out: shapes.append(tuple(args[0].shape[:2]))
    )
    return shapes


@pytest.mark.parametrize("blend", ["linear", "smooth", "cut"])
@pytest.mark.parametrize("overlap", [0, 2, 9])
def test_shares_of_the_segments_sum_to_one(overlap: int, blend: Blend) -> None:
    plan = composition(BOUNDARIES, overlap, blend, torch.device("cpu"), mix_lengths=True)
    shares = torch.zeros(3, NUM_FRAMES)
    for share, (start, end), weights in zip(shares, plan.crops, plan.weights, strict=True):
        share[start:end] = weights[:, 0]
    torch.testing.assert_close(shares.sum(0), torch.ones(NUM_FRAMES))
    reach = 0 if blend == "cut" else overlap
    for share, (start, end) in zip(shares, BOUNDARIES, strict=True):
        assert not share[: max(0, start - reach)].any() and not share[end + reach :].any()
        assert share[start:end].min() > 0
        if overlap < 3:
            inner = share[start + (reach if start else 0) : end - (reach if end < NUM_FRAMES else 0)]
            assert torch.equal(inner, torch.ones_like(inner))
    if reach == 2:
        # Across a border one share rises as the other falls, evenly around it.
        torch.testing.assert_close(shares[1, 8:12], 1 - shares[0, 8:12])
        torch.testing.assert_close(shares[1, 8:12] + shares[1, 8:12].flip(0), torch.ones(4))
        assert (shares[1, 8:13].diff() > 0).all()
    if blend == "linear" and overlap == 2:
        torch.testing.assert_close(shares[1, 8:12], torch.tensor([0.2, 0.4, 0.6, 0.8]))


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("config", [CONFIG, MASK_BLIND], ids=["hides padding", "sees padding"])
def test_each_segment_is_predicted_on_its_own_crop_under_its_own_text(config: Any, guidance: float) -> None:
    policy = policy_with(config=config, guidance_scale=guidance)
    whole = act(policy)
    for place, (start, end) in enumerate(((0, 12), (8, 19), (15, 24))):
        crop = motion_noise(N, NUM_FRAMES)[:, start:end]
        alone = policy.transition(crop, 2, texts()[:, place], None).x0
        inner = slice(BOUNDARIES[place][0] + (2 if place else 0), BOUNDARIES[place][1] - (2 if place < 2 else 0))
        torch.testing.assert_close(
            whole[:, inner], alone[:, inner.start - start : inner.stop - start], atol=5e-6, rtol=0
        )


def test_segments_share_one_forward_where_padding_is_hidden() -> None:
    for config, expected in ((CONFIG, [(9, 12)]), (MASK_BLIND, [(3, 12), (3, 11), (3, 9)])):
        policy = policy_with(config=config, guidance_scale=1.0)
        shapes = forwards(policy)
        act(policy)
        assert shapes == expected


def test_one_segment_has_the_bits_of_a_single_prompt() -> None:
    policy = policy_with()
    composed = act(policy, ((0, NUM_FRAMES),))
    single = policy.transition(motion_noise(N, NUM_FRAMES), 2, texts(segments=1)[:, 0], None).x0
    assert torch.equal(composed, single)


def test_samples_do_not_depend_on_their_place_in_the_batch() -> None:
    policy = policy_with()
    order = [2, 0, 1]
    shuffled = policy.transition(motion_noise(N, NUM_FRAMES)[order], 2, texts()[order], None, boundaries=BOUNDARIES).x0
    torch.testing.assert_close(shuffled, act(policy)[order], atol=5e-6, rtol=0)


def test_overlap_and_blend_change_frames_near_the_borders_only() -> None:
    base = act(policy_with(2, "linear"))
    smooth = act(policy_with(2, "smooth"))
    cut = act(policy_with(2, "cut"))
    near = torch.zeros(NUM_FRAMES, dtype=torch.bool)
    near[[8, 9, 10, 11, 15, 16, 17, 18]] = True
    for other in (smooth, cut):
        assert torch.equal(other[:, ~near], base[:, ~near])
        assert (other[:, near] != base[:, near]).any(dim=-1).all()
    butted = act(policy_with(0))
    # Without overlap a segment knows nothing of its neighbours.
    alone = policy_with().transition(motion_noise(N, NUM_FRAMES)[:, 10:17], 2, texts()[:, 1], None).x0
    torch.testing.assert_close(butted[:, 10:17], alone, atol=5e-6, rtol=0)


def test_given_parts_replace_the_composed_motion() -> None:
    policy = policy_with()
    keep = torch.zeros(N, NUM_FRAMES, NUM_FEATURES, dtype=torch.bool)
    keep[:, 5:12] = True
    given = Inpainting(motion_noise(N, NUM_FRAMES, seed=8), keep)
    filled = act(policy, inpainting=given)
    assert torch.equal(filled[keep], given.motion[keep]) and torch.equal(filled[~keep], act(policy)[~keep])


def test_masks_of_frames_and_tokens_are_cut_with_their_segments() -> None:
    policy = policy_with()
    full = torch.ones(N, NUM_FRAMES, dtype=torch.bool)
    torch.testing.assert_close(act(policy, mask=full), act(policy), atol=5e-6, rtol=0)
    short = full.clone()
    short[:, 20:] = False
    changed = act(policy, mask=short)
    torch.testing.assert_close(changed[:, :15], act(policy)[:, :15], atol=5e-6, rtol=0)
    assert not torch.allclose(changed[:, 15:20], act(policy)[:, 15:20], atol=1e-4)


@pytest.mark.parametrize(
    ("boundaries", "message"),
    [
        (((0, 10), (11, 24)), "follow each other"),
        (((0, 24), (24, 24)), "follow each other"),
        (((2, 24),), "follow each other"),
    ],
)
def test_segments_must_cover_the_motion(boundaries: Boundaries, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act(policy_with(), boundaries)


def test_segments_must_fit_motion_and_texts() -> None:
    policy = policy_with()
    with pytest.raises(ValueError, match=r"the motion has 24 frames, its segments are \(\(0, 10\), \(10, 20\)\)"):
        policy.transition(motion_noise(N, 24), 2, texts(segments=2), None, boundaries=((0, 10), (10, 20)))
    with pytest.raises(ValueError, match=r"text has shape \(3, 2, 1, 8\) for 3 segments"):
        act(policy, condition=texts(segments=2))


def roll(policy: DiffusionPolicy, **changes: Any) -> tuple[GroupMotions, Trajectory]:
    condition = TextCondition(texts(1)[0].numpy(), boundaries=BOUNDARIES)
    prompt = Prompt("walks, kicks, jumps", tuple(Segment("", end - start) for start, end in BOUNDARIES))
    steps = (0, 1, 2, 3, 4)
    request = rollout_request(
        condition=condition, prompt=prompt, stochastic_steps=steps, trained_steps=steps, **changes
    )
    return RolloutWorker(policy).run(request, PolicyVersion(0, policy.weights()))


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_recorded_log_probs_are_those_of_the_composed_gaussian(guidance: float) -> None:
    policy = policy_with(guidance_scale=guidance)
    motions, trajectory = roll(policy)
    assert motions.features.shape == (3, NUM_FRAMES, NUM_FEATURES)
    text = torch.from_numpy(trajectory.condition.values).expand(3, -1, -1, -1)
    for row, position in enumerate(trajectory.steps):
        state, following = (torch.from_numpy(part[row]) for part in (trajectory.states, trajectory.next_states))
        step = policy.transition(state, int(position), text, None, boundaries=BOUNDARIES)
        density = torch.distributions.Normal(step.mean, step.std.view(-1, 1, 1)).log_prob(following)
        recorded = torch.from_numpy(trajectory.log_probs[row])
        torch.testing.assert_close(density.mean(dim=(1, 2)), recorded, atol=1e-5, rtol=0)
        torch.testing.assert_close(gaussian_log_prob(following, step.mean, step.std, None), recorded, atol=1e-6, rtol=0)


def test_a_rollout_denoises_as_it_is_told() -> None:
    policy = policy_with(overlap=2)
    own = roll(policy)[0].features
    told = dataclasses.replace(policy.sampling.denoising, composite_overlap=4)
    other = roll(policy, denoising=told)[0].features
    assert abs(other - own).max() > 1e-4
    assert (other == roll(policy_with(overlap=4))[0].features).all()
