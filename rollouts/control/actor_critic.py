"""Controllers of simulated characters: a Gaussian policy and a critic, two separate networks with the same inputs.

    observations o [..., O] raw  ->  z = clamp((o - mean) / std, +-5)
    policy: mean m = MLP(z) [..., A], state-independent log standard deviation s [A]; actions ~ N(m, exp(2 s))
    critic: V = value_mean + value_std * MLP(z) [...]

Choices: the observation statistics are part of the controller and of its file, so that cloning, TRPO and evaluation
normalise alike; policy and critic share no layer, since the critic's gradient would move shared layers outside the
policy's trust region; the critic predicts standardised returns, and a change of their mean and standard deviation
leaves its predictions unchanged (PopArt, van Hasselt et al. 2016).

A saved controller is one file, `controller.safetensors`: weights and statistics, with the configuration, the schema of
the observations it was made for, and entries of the job in the metadata. Every tensor and entry must match on loading.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import refuse_foreign
from rollouts.checkpoints.safetensors_bytes import safetensors_bytes
from rollouts.control.observation_statistics import ObservationStatistics

CONTROLLER_FILE = "controller.safetensors"

Activation = Literal["tanh", "relu", "elu", "silu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}
_METADATA = ("config", "schema", "extra")


class ControllerError(UserError):
    """A file is no controller, or none for this environment; the message names the file and what differs."""


@dataclass(frozen=True, slots=True)
class ActorCriticConfig:
    """Sizes and options of a controller.

    Example:
        ActorCriticConfig(observation_dim=11, action_dim=3, hidden_sizes=(64, 64))
    """

    observation_dim: int
    action_dim: int
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of policy and critic."""
    activation: Activation = "tanh"
    initial_log_std: float = 0.0
    output_gain: float = 0.01
    """Scale of the policy's initial output layer: small, so that the first means are near 0."""
    min_observation_std: float = 0.01
    """Smallest standard deviation by which an observation is divided."""
    unscaled_inputs: tuple[int, ...] = ()
    """Indices of observations that are not normalised (such as a phase)."""
    normalize_observations: bool = True
    """Whether observations are normalised at all."""

    def __post_init__(self) -> None:
        if self.observation_dim < 1 or self.action_dim < 1:
            raise UserError(f"observation_dim {self.observation_dim} and action_dim {self.action_dim}: at least 1")
        if any(size < 1 for size in self.hidden_sizes):
            raise UserError(f"hidden_sizes is {self.hidden_sizes}: every layer has at least one unit")
        if self.activation not in _ACTIVATIONS:
            raise UserError(f"activation is {self.activation!r}; known: {', '.join(get_args(Activation))}")
        if not math.isfinite(self.initial_log_std):
            raise UserError(f"initial_log_std is {self.initial_log_std}: a finite number")
        if not self.min_observation_std > 0:
            raise UserError(f"min_observation_std is {self.min_observation_std}: above 0")


class ActorCritic(nn.Module):
    """Policy, critic and observation statistics of a controller.

    Example:
        controller = ActorCritic(ActorCriticConfig(11, 3), seed=0)
        controller.update_statistics(observations)                          # [..., 11], between iterations
        actions = controller.act(observations, torch.randn(8, 3))        # without noise: the mean
    """

    value_mean: Tensor
    value_std: Tensor

    def __init__(self, config: ActorCriticConfig, seed: int = 0) -> None:
        """Creates a controller: orthogonal weights from `seed`, zero biases; global random state is not used."""
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        unscaled = config.unscaled_inputs if config.normalize_observations else range(config.observation_dim)
        self.statistics = ObservationStatistics(config.observation_dim, config.min_observation_std, unscaled)
        self.policy = _mlp(config, config.action_dim, config.output_gain, generator)
        self.log_std = nn.Parameter(torch.full((config.action_dim,), config.initial_log_std))
        self.critic = _mlp(config, 1, 1.0, generator)
        self.register_buffer("value_mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("value_std", torch.ones((), dtype=torch.float64))

    def distribution(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [..., A] and log standard deviation [A] of the actions for raw observations [..., O]."""
        return self.policy(self.statistics(observations)), self.log_std

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions [..., A] for raw observations [..., O]: the mean, plus std * `noise` [..., A] of standard normals."""
        mean, log_std = self.distribution(observations)
        return mean if noise is None else mean + log_std.exp() * noise

    def value(self, observations: Tensor) -> Tensor:
        """Predicted discounted returns [...] for raw observations [..., O]."""
        standardised = self.critic(self.statistics(observations)).squeeze(-1)
        return standardised * self.value_std.float() + self.value_mean.float()

    def update_statistics(self, observations: Tensor | np.ndarray) -> None:
        """Adds raw observations [..., O] to the statistics. Call it between iterations only.

        Raises:
            UserError: another width, or a number is not finite.
        """
        self.statistics.update(observations)

    @torch.no_grad()
    def rescale_value(self, mean: float, std: float) -> None:
        """Sets the `mean` and `std` that standardise returns, and adjusts the critic so that its predictions stay the
        same.

        Raises:
            ValueError: not finite, or `std` is not above 0.
        """
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise ValueError(f"returns cannot be standardised by mean {mean}, standard deviation {std}")
        last = self.critic[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(self.value_std.float() / std)
        last.bias.copy_((last.bias * self.value_std + self.value_mean - mean) / std)
        self.value_mean.fill_(mean)
        self.value_std.fill_(std)

    def policy_parameters(self) -> list[nn.Parameter]:
        """The parameters that TRPO updates: the policy's weights and `log_std`."""
        return [*self.policy.parameters(), self.log_std]

    def critic_parameters(self) -> list[nn.Parameter]:
        """The critic's parameters."""
        return list(self.critic.parameters())


def _mlp(config: ActorCriticConfig, outputs: int, gain: float, generator: torch.Generator) -> nn.Sequential:
    sizes = (config.observation_dim, *config.hidden_sizes)
    layers: list[nn.Module] = []
    for inputs, units in itertools.pairwise(sizes):
        layers += [_linear(inputs, units, math.sqrt(2.0), generator), _ACTIVATIONS[config.activation]()]
    return nn.Sequential(*layers, _linear(sizes[-1], outputs, gain, generator))


def _linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    # Without storage first: the default initialisation of nn.Linear would draw from the global generator.
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True, slots=True)
class LoadedController:
    """A controller in eval mode and the contents of its file's metadata."""

    controller: ActorCritic
    schema: dict[str, Any]
    """`observation_schema` of the environment that the controller was made for."""
    extra: dict[str, Any]
    path: Path


def actor_critic_arrays(controller: ActorCritic) -> dict[str, np.ndarray]:
    """Copies of weights and statistics by name."""
    return {name: value.numpy(force=True).copy() for name, value in controller.state_dict().items()}


def load_actor_critic_arrays(controller: ActorCritic, arrays: Mapping[str, np.ndarray]) -> None:
    """Loads the result of `actor_critic_arrays`; names and shapes must match."""
    # Arrays from Ray's object store are read-only, which from_numpy warns about.
    controller.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})


def save_controller(
    folder: str | Path,
    controller: ActorCritic,
    schema: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `controller.safetensors` into `folder` (created if absent); it appears complete or not at all.

    Args:
        schema: `observation_schema` of the environment, plain JSON; compared when the controller is loaded for another
            one.
        extra: further entries of the metadata, plain JSON.

    Returns:
        Path of the file.

    Raises:
        ValueError: a weight is not finite, or `schema` or `extra` is not JSON.
        WriteError: it cannot be written.
    """
    path = Path(folder) / CONTROLLER_FILE
    tensors = {name: value.detach().cpu().contiguous() for name, value in controller.state_dict().items()}
    _require_finite(tensors, path)
    contents = {"config": asdict(controller.config), "schema": dict(schema), "extra": dict(extra or {})}
    try:
        metadata = {name: json.dumps(contents[name], allow_nan=False) for name in _METADATA}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: schema and extra must be plain JSON: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(safetensors_bytes(tensors, metadata))
    return path


def load_controller(path: str | Path, expected_schema: Mapping[str, Any] | None = None) -> LoadedController:
    """Loads a controller that `save_controller` wrote; `path` is its folder or the file.

    Args:
        expected_schema: `observation_schema` of the environment that the controller is to act in; None accepts any.

    Raises:
        ControllerError: no such file, another kind of file, names or shapes that do not fit, numbers not finite, or
            observations of another schema.
    """
    file = Path(path) / CONTROLLER_FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ControllerError(f"{file}: there is no such file; a controller is a folder with {CONTROLLER_FILE}")
    tensors, contents = _read(file)
    schema, extra = contents["schema"], contents["extra"]
    if expected_schema is not None:
        # Through JSON, as the saved one was: tuples become lists.
        differences = schema_differences(schema, json.loads(json.dumps(dict(expected_schema))))
        if differences:
            raise ControllerError(f"{file} was made for other observations: {'; '.join(differences[:4])}")
    try:
        controller = ActorCritic(_config_of(contents["config"]))
    except (TypeError, ValueError) as error:
        raise ControllerError(f"{file}: its configuration is not usable: {error}") from error
    wanted = controller.state_dict()
    for words, names in (("lacks", wanted.keys() - tensors), ("has unknown", tensors.keys() - wanted)):
        if names:
            raise ControllerError(f"{file} {words} {', '.join(sorted(names)[:4])}")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape or value.dtype != wanted[name].dtype:
            raise ControllerError(
                f"{file}: {name} is {value.dtype} {list(value.shape)}; "
                f"its configuration says {wanted[name].dtype} {list(wanted[name].shape)}"
            )
    _require_finite(tensors, file)
    controller.load_state_dict(tensors)
    return LoadedController(controller.eval(), schema, extra, file)


def schema_differences(saved: Any, expected: Any, place: str = "") -> list[str]:
    """Differences between two JSON values, one phrase each: `blocks.phase.size is 1 in the file, 9 here`."""
    name = place or "schema"
    if isinstance(saved, Mapping) and isinstance(expected, Mapping):
        found = []
        for key in [*saved, *(key for key in expected if key not in saved)]:
            inner = f"{place}.{key}" if place else str(key)
            if key not in expected:
                found.append(f"{inner} is {_short(saved[key])} in the file, not here")
            elif key not in saved:
                found.append(f"{inner} is {_short(expected[key])} here, not in the file")
            else:
                found += schema_differences(saved[key], expected[key], inner)
        return found
    if _is_list(saved) and _is_list(expected) and len(saved) == len(expected):
        pairs = enumerate(zip(saved, expected, strict=True))
        return [text for i, (a, b) in pairs for text in schema_differences(a, b, f"{name}[{i}]")]
    return [] if saved == expected else [f"{name} is {_short(saved)} in the file, {_short(expected)} here"]


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    refuse_foreign(file, zip_is_right=True)
    if file.suffix in (".pth", ".pt"):
        raise ControllerError(
            f"{file} is a checkpoint of PyTorch, such as yelongshen/DeepMimic_mujoco writes: its policies observe "
            "joint angles and rates without phase, root and target, and answer with torques, so that no weights of "
            f"theirs act on this character; a controller is a folder with {CONTROLLER_FILE} (jobs.sft with --preset "
            "deepmimic_mujoco_sft trains one with that project's options)"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ControllerError(f"{file} is not a safetensors file: {error}") from error
    missing = [name for name in _METADATA if name not in metadata]
    if missing:
        raise ControllerError(f"{file} is a safetensors file, but no controller: its metadata lack {missing}")
    try:
        contents = {name: json.loads(metadata[name]) for name in _METADATA}
    except json.JSONDecodeError as error:
        raise ControllerError(f"{file}: its metadata are not JSON: {error}") from error
    broken = [name for name, value in contents.items() if not isinstance(value, dict)]
    if broken:
        raise ControllerError(f"{file}: {', '.join(broken)} of its metadata is no JSON object")
    return tensors, contents


def _config_of(values: Mapping[str, Any]) -> ActorCriticConfig:
    tuples = {name: tuple(values[name]) for name in ("hidden_sizes", "unscaled_inputs") if name in values}
    return ActorCriticConfig(**{**values, **tuples})


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    broken = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
    if broken:
        raise ControllerError(f"{path}: not finite: {', '.join(broken[:4])}")
    variance = tensors.get("statistics.variance")
    if variance is not None and bool((variance < 0).any()):
        raise ControllerError(f"{path}: statistics.variance is negative")
