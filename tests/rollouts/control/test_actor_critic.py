"""Controllers: statistics, distribution, critic scale, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rollouts.control.actor_critic import (
    CONTROLLER_FILE,
    ActorCritic,
    ActorCriticConfig,
    ControllerError,
    load_controller,
    save_controller,
    schema_differences,
)
from rollouts.control.observation_statistics import ObservationStatistics
from rollouts.gaussians import action_entropy, action_kl, action_log_prob

SCHEMA = {"blocks": [["phase", 1], ["joints", 4]], "control_hz": 30}


def controller(**options: object) -> ActorCritic:
    return ActorCritic(ActorCriticConfig(observation_dim=5, action_dim=2, hidden_sizes=(8, 8), **options), seed=3)  # pyright: ignore[reportArgumentType]


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cuts", [(), (1,), (2, 3, 700)])
def test_statistics_are_those_of_all_data_however_it_is_cut(cuts: tuple[int, ...]) -> None:
    data = some(1000, 5).numpy().astype(np.float64) * [1, 10, 0.1, 1e-4, 3] + [0, 1e4, 5, 1, -3]
    statistics = ObservationStatistics(5, min_std=0.01)
    for part in np.split(data, cuts):
        statistics.update(part)
    np.testing.assert_allclose(statistics.mean.numpy(), data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.variance.numpy(), data.var(0), rtol=1e-9)
    assert float(statistics.count) == 1000


def test_normalised_observations_are_clamped_and_small_deviations_have_a_floor() -> None:
    statistics = ObservationStatistics(3, min_std=0.5, unscaled=(2,))
    raw = torch.tensor([[2.0, -80.0, 40.0]])
    assert statistics(raw).tolist() == [[2.0, -5.0, 40.0]], "no statistics yet"
    statistics.update(torch.tensor([[0.0, 1.0, 3.0], [8.0, 1.0, 9.0]]))
    assert statistics(torch.tensor([[6.0, 2.0, 4.5]])).tolist() == [[0.5, 2.0, 4.5]]


def test_statistics_refuse_what_is_not_finite_and_stay_as_they_were() -> None:
    statistics = ObservationStatistics(2, min_std=0.01)
    statistics.update(some(10, 2))
    before = {name: value.clone() for name, value in statistics.state_dict().items()}
    with pytest.raises(ValueError, match=r"not finite in entries \[1\]"):
        statistics.update(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(ValueError, match="have 3 entries; the statistics are of 2"):
        statistics.update(some(4, 3))
    for name, value in statistics.state_dict().items():
        assert torch.equal(value, before[name])


def test_log_prob_kl_and_entropy_are_those_of_torch() -> None:
    means, log_stds = (some(7, 2, seed=1), some(7, 2, seed=2)), (some(2, seed=3), some(2, seed=4))
    old, new = (
        torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
        for mean, log_std in zip(means, log_stds, strict=True)
    )
    actions = some(7, 2, seed=5)
    torch.testing.assert_close(action_log_prob(actions, means[0], log_stds[0]), old.log_prob(actions))
    expected = torch.distributions.kl_divergence(old.base_dist, new.base_dist).sum(-1)
    torch.testing.assert_close(action_kl(means[0], log_stds[0], means[1], log_stds[1]), expected)
    torch.testing.assert_close(action_entropy(log_stds[0]), old.entropy()[0])


def test_act_is_the_mean_plus_scaled_noise() -> None:
    network = controller(initial_log_std=-1.0)
    observations, noise = some(6, 5), some(6, 2, seed=1)
    mean, log_std = network.distribution(observations)
    torch.testing.assert_close(network.act(observations), mean)
    torch.testing.assert_close(network.act(observations, noise), mean + log_std.exp() * noise)
    assert not network.act(observations).requires_grad


def test_first_means_are_near_zero_and_the_seed_decides_the_weights() -> None:
    network, again = controller(), controller()
    assert float(network.act(some(50, 5)).abs().max()) < 0.1
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    other = ActorCritic(network.config, seed=4)
    assert not torch.equal(network.critic_parameters()[0], other.critic_parameters()[0])


def test_policy_and_critic_share_no_parameter() -> None:
    network = controller()
    policy, critic = ({id(p) for p in group} for group in (network.policy_parameters(), network.critic_parameters()))
    assert not policy & critic
    assert policy | critic == {id(p) for p in network.parameters()}


def test_rescaling_the_critic_keeps_its_values() -> None:
    network, observations = controller(), some(20, 5)
    before = network.value(observations)
    network.rescale_value(mean=300.0, std=40.0)
    torch.testing.assert_close(network.value(observations), before, rtol=1e-4, atol=1e-3)
    network.rescale_value(mean=-2.0, std=0.5)
    torch.testing.assert_close(network.value(observations), before, rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="standard deviation 0"):
        network.rescale_value(0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "gelu"}, "activation is 'gelu'; known: tanh"),
        ({"hidden_sizes": (8, 0)}, "at least one unit"),
        ({"initial_log_std": float("nan")}, "initial_log_std is nan"),
        ({"min_observation_std": 0.0}, "min_observation_std is 0.0"),
        ({"action_dim": 0}, "action_dim 0"),
        ({"unscaled_inputs": (5,)}, r"unscaled_inputs names \[5\]"),
    ],
)
def test_bad_configurations_are_named(options: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"observation_dim": 5, "action_dim": 2} | options
    with pytest.raises(ValueError, match=message):
        ActorCritic(ActorCriticConfig(**values))  # pyright: ignore[reportArgumentType]


def test_a_saved_controller_acts_alike(tmp_path: Path) -> None:
    network = controller(activation="elu", unscaled_inputs=(0,))
    network.update_statistics(some(30, 5) * 4 + 2)
    network.rescale_value(3.0, 2.0)
    file = save_controller(tmp_path / "new", network, SCHEMA, {"command": "jobs.trpo"})
    for path in (tmp_path / "new", file):
        loaded = load_controller(path, SCHEMA | {"blocks": (("phase", 1), ("joints", 4))})
        assert loaded.extra == {"command": "jobs.trpo"} and loaded.schema == SCHEMA
        assert loaded.controller.config == network.config
        assert torch.equal(loaded.controller.act(some(9, 5)), network.act(some(9, 5)))
        assert torch.equal(loaded.controller.value(some(9, 5)), network.value(some(9, 5)))


def test_another_schema_is_refused_with_what_differs(tmp_path: Path) -> None:
    file = save_controller(tmp_path, controller(), SCHEMA)
    with pytest.raises(ControllerError) as caught:
        load_controller(tmp_path, {"blocks": [["phase", 9], ["joints", 4]], "pd": "stable"})
    text = str(caught.value)
    assert str(file) in text and "blocks[0][1] is 1 in the file, 9 here" in text
    assert "control_hz is 30 in the file, not here" in text and 'pd is "stable" here, not in the file' in text
    assert schema_differences(SCHEMA, SCHEMA) == []


def broken_file(tmp_path: Path, kind: str) -> Path:
    file = save_controller(tmp_path, controller(), SCHEMA)
    tensors = load_file(file)
    metadata = {"config": json.dumps({"observation_dim": 5, "action_dim": 2, "hidden_sizes": [8, 8]})}
    metadata |= {"schema": "{}", "extra": "{}"}
    if kind == "missing":
        del tensors["log_std"]
    elif kind == "unknown":
        tensors["encoder.weight"] = torch.zeros(2)
    elif kind == "shape":
        tensors["log_std"] = torch.zeros(3)
    elif kind == "dtype":
        tensors["log_std"] = torch.zeros(2, dtype=torch.float64)
    elif kind == "nan":
        tensors["policy.0.weight"][0, 0] = float("nan")
    elif kind == "variance":
        tensors["statistics.variance"][0] = -1.0
    elif kind == "config":
        metadata["config"] = '{"observation_dim": 5, "action_dim": 2, "num_layers": 3}'
    elif kind == "no metadata":
        metadata = {}
    elif kind == "no object":
        metadata["extra"] = "[]"
    elif kind == "no json":
        metadata["schema"] = "{"
    save_file(tensors, file, metadata)
    if kind == "no safetensors":
        file.write_bytes(b"PK\x03\x04 a torch file")
    return file


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "lacks log_std"),
        ("unknown", "has unknown encoder.weight"),
        ("shape", r"log_std is torch.float32 \[3\]; its configuration says torch.float32 \[2\]"),
        ("dtype", "log_std is torch.float64"),
        ("nan", "not finite: policy.0.weight"),
        ("variance", "statistics.variance is negative"),
        ("config", "its configuration is not usable.*num_layers"),
        ("no metadata", "but no controller"),
        ("no object", "extra of its metadata is no JSON object"),
        ("no json", "metadata are not JSON"),
        ("no safetensors", "is not a safetensors file"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, kind: str, message: str) -> None:
    file = broken_file(tmp_path, kind)
    with pytest.raises(ControllerError, match=message) as caught:
        load_controller(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["policy_sft_pretrained.pth", "iter_1000.pt"])
def test_a_checkpoint_of_deepmimic_mujoco_is_refused_by_name(name: str, tmp_path: Path) -> None:
    torch.save({"polnet.0.weight": torch.zeros(64, 56)}, tmp_path / name)
    with pytest.raises(ControllerError, match=f"{name} is a checkpoint of PyTorch.*DeepMimic_mujoco.*jobs.sft"):
        load_controller(tmp_path / name)


def test_an_absent_controller_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControllerError, match=f"{CONTROLLER_FILE}: there is no such file"):
        load_controller(tmp_path)


def test_a_diverged_controller_is_not_saved(tmp_path: Path) -> None:
    network = controller()
    with torch.no_grad():
        network.log_std[0] = float("nan")
    with pytest.raises(ControllerError, match="not finite: log_std"):
        save_controller(tmp_path, network, SCHEMA)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="plain JSON"):
        save_controller(tmp_path, controller(), {"tensor": torch.zeros(1)})


def test_equal_controllers_are_equal_files(tmp_path: Path) -> None:
    extra = {"name": "Bewegung für alle", "steps": 3}
    files = [save_controller(tmp_path / str(n), controller(), SCHEMA, extra).read_bytes() for n in range(8)]
    assert all(file == files[0] for file in files)
    assert load_controller(tmp_path / "0", SCHEMA).extra == extra
