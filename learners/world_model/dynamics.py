"""A model of one control step of a humanoid, learned from rollouts.

    features of state and PD targets  ->  network + linear skip  ->  increments of velocity and of the way

    velocity' = velocity + increment              the root's linear part in the root's frame
    pose'     = pose + seconds (velocity + correction)

The network predicts what a constant velocity would miss, in standard deviations of the recorded steps. Beside what the
simulator's state says, the features hold the heights of the soles' corners, sharpened near the ground: contact decides
most of the dynamics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learners.world_model.characters import (
    NUM_COORDINATES,
    Characters,
    Joints,
    between,
    hinge_rotations,
    matrices,
    rotated,
    rotated_back,
    sole_heights,
    turn,
)

NUM_SPEEDS = 6 + NUM_COORDINATES
NUM_OUTPUTS = 2 * NUM_SPEEDS
NUM_FEATURES = 10 + 3 * NUM_COORDINATES + 3 * 8
FEATURE_LIMIT = 6.0
"""Features are clamped to this many standard deviations."""
LEAST_STD = 1e-3
RIDGE = 10.0
"""Weight of the squared coefficients in the ridge regression that the linear skip starts from."""


class DynamicsModel(nn.Module):
    """Predicts the next state of characters from their state and the PD targets of one control step.

    Args:
        joints: the model of the joints.
        seconds: duration of a control step.
        hidden_sizes: widths of the hidden layers.
        seed: seed of the first weights; global random state is not used.
    """

    input_scale: Tensor
    input_shift: Tensor
    output_mean: Tensor
    output_std: Tensor

    def __init__(self, joints: Joints, seconds: float, hidden_sizes: Sequence[int], seed: int) -> None:
        super().__init__()
        self.joints = joints
        self.seconds = seconds
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            width = NUM_FEATURES
            for size in hidden_sizes:
                layers += [nn.Linear(width, size), nn.LayerNorm(size), nn.SiLU()]
                width = size
            last = nn.Linear(width, NUM_OUTPUTS)
            self.network = nn.Sequential(*layers, last)
            self.skip = nn.Linear(NUM_FEATURES, NUM_OUTPUTS)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("input_scale", torch.ones(NUM_FEATURES))
        self.register_buffer("input_shift", torch.zeros(NUM_FEATURES))
        self.register_buffer("output_mean", torch.zeros(NUM_OUTPUTS))
        self.register_buffer("output_std", torch.ones(NUM_OUTPUTS))

    def features(self, state: Characters, axes: Tensor, targets: Tensor) -> Tensor:
        """Features [..., 118] of states and sorted PD targets [..., 28]; `axes` are the roots' rotation matrices."""
        coordinates = self.joints.coordinates(state.joints)
        linear, rest = state.velocity.split((3, NUM_SPEEDS - 3), dim=-1)
        height, up = state.position[..., 2:], axes[..., 2, :]
        knees = hinge_rotations(state.joints[..., -2:])
        soles = sole_heights(height, up, self.joints.rotations(state.joints), knees)
        contact = (soles, torch.sigmoid(-150.0 * soles), F.softplus(-soles, beta=60.0))
        parts = (height, up, rotated_back(axes, linear), rest, coordinates, targets - coordinates, *contact)
        return torch.cat(parts, dim=-1)

    def forward(self, state: Characters, axes: Tensor, targets: Tensor) -> Characters:
        """The states after one control step; arguments as in `features`."""
        inputs = self._standardised(self.features(state, axes, targets))
        outputs = torch.addcmul(self.output_mean, self.skip(inputs) + self.network(inputs), self.output_std)
        faster, rest, along, further = outputs.split((3, NUM_SPEEDS - 3, 3, NUM_SPEEDS - 3), dim=-1)
        linear, own = state.velocity.split((3, NUM_SPEEDS - 3), dim=-1)
        turning, rates = (self.seconds * (own + further)).split((3, NUM_COORDINATES), dim=-1)
        return Characters(
            state.position + self.seconds * (linear + rotated(axes, along)),
            turn(state.rotation, turning),
            self.joints.moved(state.joints, rates),
            torch.cat((linear + rotated(axes, faster), own + rest), dim=-1),
        )

    def increments(self, before: Characters, after: Characters) -> Tensor:
        """What the outputs [..., 68] should have been for a recorded step."""
        axes = matrices(before.rotation)
        change = self._difference(axes, before.velocity, after.velocity)
        way = self.way(before, after) / self.seconds
        velocity = torch.cat((rotated_back(axes, before.velocity[..., :3]), before.velocity[..., 3:]), dim=-1)
        return torch.cat((change, way - velocity), dim=-1)

    def way(self, before: Characters, after: Characters) -> Tensor:
        """From one pose to another [..., 34]: the root's way in its own frame, its rotation, the joints' way."""
        axes = matrices(before.rotation)
        turned = between(before.rotation, after.rotation)
        joints = self.joints.way(before.joints, after.joints)
        return torch.cat((rotated_back(axes, after.position - before.position), turned, joints), dim=-1)

    @torch.no_grad()
    def fit_linear(self, before: Characters, targets: Tensor, after: Characters) -> float:
        """Sets the scales of inputs and outputs, and the skip to the ridge regression on recorded steps [B].

        Returns:
            Mean squared error of the regression, in units of the outputs' variance.
        """
        features = self.features(before, matrices(before.rotation), targets)
        outputs = self.increments(before, after)
        self.input_scale.copy_(1.0 / features.std(0).clamp_min(LEAST_STD))
        self.input_shift.copy_(-features.mean(0) * self.input_scale)
        self.output_mean.copy_(outputs.mean(0))
        self.output_std.copy_(outputs.std(0).clamp_min(LEAST_STD))
        inputs = self._standardised(features).double()
        wanted = ((outputs - self.output_mean) / self.output_std).double()
        inputs = torch.cat((inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)), dim=1)
        damping = RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
        solution = torch.linalg.solve(inputs.T @ inputs + damping, inputs.T @ wanted)
        self.skip.weight.copy_(solution[:-1].T)
        self.skip.bias.copy_(solution[-1])
        return float((wanted - inputs @ solution).square().mean())

    def errors(self, predicted: Characters, true: Characters, steps: Tensor) -> Tensor:
        """Errors [..., 68] of states predicted over `steps` [..., 1] control steps: of velocities and of poses, in
        units in which those of one step are about 1."""
        axes = matrices(true.rotation)
        velocity, pose = self.output_std.split(NUM_SPEEDS)
        faster = self._difference(axes, true.velocity, predicted.velocity) / velocity
        away = self.way(true, predicted) / (self.seconds * steps.sqrt() * pose)
        return torch.cat((faster, away), dim=-1)

    def _difference(self, axes: Tensor, first: Tensor, second: Tensor) -> Tensor:
        linear, rest = (second - first).split((3, NUM_SPEEDS - 3), dim=-1)
        return torch.cat((rotated_back(axes, linear), rest), dim=-1)

    def _standardised(self, features: Tensor) -> Tensor:
        return torch.addcmul(self.input_shift, features, self.input_scale).clamp(-FEATURE_LIMIT, FEATURE_LIMIT)


def window_loss(
    model: DynamicsModel, start: Characters, targets: Tensor, later: Characters, root_weight: float
) -> Tensor:
    """Smooth L1 loss of predictions over K steps, each from the one before.

    Args:
        start: recorded states [B].
        targets: PD targets [K, B, 28] of the steps.
        later: recorded states [K, B] after them.
        root_weight: weight of the root's numbers, in units of a joint's.
    """
    states: list[Characters] = []
    state = start
    for aims in targets:
        state = model(state, matrices(state.rotation), aims)
        states.append(state)
    predicted = Characters(*(torch.stack(parts) for parts in zip(*states, strict=True)))
    errors = model.errors(predicted, later, torch.arange(1.0, len(targets) + 1)[:, None, None])
    weights = torch.ones(2, NUM_SPEEDS)
    weights[:, :6] = root_weight
    losses = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none").mean((0, 1))
    return 2.0 * (losses * weights.flatten()).sum() / weights.sum()
