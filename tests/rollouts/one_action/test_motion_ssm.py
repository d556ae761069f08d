"""The network of MotionSSM: knots, patches, padding, prior; its files and its vocabulary."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from motions.base.errors import UserError
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rollouts.checkpoints.motion_ssm_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    MotionSSMFileError,
    is_motion_ssm,
    load_motion_ssm,
    save_motion_ssm,
)
from rollouts.one_action.knots import gathered, hat_weights, num_knots, spread
from rollouts.one_action.motion_ssm import MotionSSM, MotionSSMConfig, faded
from rollouts.text.encoders import TextEncoder
from rollouts.text.words import Words, vocabulary
from tests.toys.tiny_policy import ACTION_CONFIG, NUM_FEATURES, TEXT_DIM

SIZES = [ACTION_CONFIG, replace(ACTION_CONFIG, patch_frames=1), replace(ACTION_CONFIG, patch_frames=4, latent_dim=0)]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (2, 2), (5, 2), (6, 3), (41, 11)])
def test_every_frame_lies_between_two_knots(frames: int, expected: int) -> None:
    assert num_knots(frames, 4) == expected


def test_knots_are_interpolated_linearly_and_gathered_around() -> None:
    weights = hat_weights(9, 0.0, 1.0, 3, 4, torch.tensor([9, 9]), torch.float32)
    line = spread(torch.tensor([[[0.0], [4.0], [8.0]]]), weights[:1])
    torch.testing.assert_close(line[0, :, 0], torch.arange(9.0))
    mask = torch.arange(9) < torch.tensor([[9], [3]])
    means = gathered(torch.arange(9.0).expand(2, 9).unsqueeze(2), weights, mask)[..., 0]
    torch.testing.assert_close(means[0], torch.tensor([1.0, 4.0, 7.0]))
    assert means[1, 2] == 0.0, "nothing real is near the last knot of the short motion"


def test_what_is_said_of_a_frame_does_not_depend_on_the_length() -> None:
    given = torch.tensor([5]), torch.float32
    short, long = hat_weights(5, 0.0, 1.0, 2, 4, *given), hat_weights(9, 0.0, 1.0, 3, 4, *given)
    assert torch.equal(short, long[:, :5, :2])
    assert long[0, 5:, 1].eq(1.0).all(), "behind its end a motion is as it ends"


def test_patches_fade_into_each_other_and_keep_what_is_constant() -> None:
    torch.testing.assert_close(faded(torch.ones(1, 4, 8, 2)), torch.ones(1, 16, 2))
    steps = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 8, 1)
    joined = faded(steps)[0, :, 0]
    torch.testing.assert_close(joined[2:14].diff(), torch.full((11,), 0.25))
    assert joined[:2].eq(0.0).all()
    assert joined[14:].eq(3.0).all()


@pytest.mark.parametrize("config", SIZES)
def test_padding_changes_no_real_frame(config: MotionSSMConfig) -> None:
    network = MotionSSM(config, seed=1).eval()
    text = network.encode_text(drawn(2, 1, TEXT_DIM))
    mask = torch.arange(22) < torch.tensor([[22], [13]])
    x, action = drawn(2, 22, NUM_FEATURES), drawn(2, *network.action_shape(22))
    padded = network.decode(action, text, 22, mask)[1, :13]
    knots = network.action_shape(13)[0]
    alone = network.decode(action[1:, :knots], text[1:], 13)[0]
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)
    if config.latent_dim:
        q, own = network.posterior(x, text, mask), network.posterior(x[1:, :13], text[1:], mask[1:, :13])
        torch.testing.assert_close(q.mu[1, :knots], own.mu[0], rtol=1e-4, atol=1e-4)


def test_a_new_prior_is_standard_normal_and_weights_follow_the_seed() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second, other = (MotionSSM(ACTION_CONFIG, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.act(drawn(2, 4, 3), first.encode_text(drawn(2, 1, TEXT_DIM))).eq(0.0).all()
    pairs = [(value, second.state_dict()[name]) for name, value in first.state_dict().items()]
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(first.decoder.output_proj.weight, other.decoder.output_proj.weight)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"patch_frames": 3}, "patch_frames is 3"),
        ({"d_state": 0}, "d_state is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MotionSSMConfig(**sizes)


def words_network(captions: list[str]) -> tuple[MotionSSM, TextEncoder]:
    encoder = TextEncoder("words", Words(vocabulary(captions)))
    config = replace(ACTION_CONFIG, text_dim=1, num_words=Words(encoder.vocabulary).num_embeddings)
    return MotionSSM(config, seed=1).eval(), encoder


def test_words_are_split_from_marks_and_padding_is_not_read() -> None:
    assert vocabulary(["A person walks, then walks."]) == ("a", "person", "walks", ",", "then", ".")
    network, encoder = words_network(["a person walks", "a man jumps, then sits"])
    short, long = encoder.conditions(["a person walks", "a man jumps, then sits"], "tokens")
    padded = torch.zeros(2, len(long.values), 1)
    padded[0, :3], padded[1] = torch.from_numpy(short.values.copy()), torch.from_numpy(long.values.copy())
    mask = torch.arange(len(long.values)) < torch.tensor([[3], [len(long.values)]])
    together = network.encode_text(padded, mask)
    alone = network.encode_text(padded[:1, :3])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert encoder.unknown_words("a person flies") == ["flies"]


def saved(folder: Path) -> MotionSSM:
    network, encoder = words_network(["a person walks"])
    statistics = Normalizer(torch.arange(263.0).numpy(), torch.ones(263).numpy())
    save_motion_ssm(folder, network, statistics, HUMANML3D, encoder, trained_frames=40)
    return network


def test_files_hold_all_there_is(tmp_path: Path) -> None:
    network = saved(tmp_path)
    assert is_motion_ssm(tmp_path)
    assert is_motion_ssm(tmp_path / WEIGHTS_FILE)
    loaded = load_motion_ssm(tmp_path)
    assert (loaded.words, loaded.trained_frames, loaded.skeleton) == (("a", "person", "walks"), 40, HUMANML3D)
    assert loaded.normalizer.mean[5] == 5.0
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.network.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "other"}, "says kind and version ('other', 1)"),
        ({"words": ["a"]}, "1 words, and num_words is 5"),
        ({"trained_frames": "many"}, "trained_frames is 'many'; expected int"),
        ({"network": {"d_model": 16}}, "num_features is missing"),
        ({"skeleton": "cat"}, "cat"),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    saved(tmp_path)
    file = tmp_path / CONFIG_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(MotionSSMFileError, match=re.escape(message)):
        load_motion_ssm(tmp_path)


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / CONFIG_FILE
    config = json.loads(file.read_text())
    config["network"]["d_state"] = 5
    file.write_text(json.dumps(config))
    with pytest.raises(MotionSSMFileError, match=r"other shape \['decoder"):
        load_motion_ssm(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"no tensors")
    with pytest.raises(MotionSSMFileError, match=r"safetensors"):
        load_motion_ssm(tmp_path)
