"""The action of a refiner that reinforcement learning trains: a residual of few numbers on what the refiner makes.

An action is K knots x Z numbers, for every knot

    1        height of the root, with all that hangs on it
    2        its velocity over the ground, in the body's heading
    3 x 8    places of hips, knees, ankles and feet, in the heading

A cubic B-spline makes a curve of the knots, whose second derivative is continuous: noise in an action moves a body
smoothly, where noise in frames would shake it. One standard deviation of a knot is `HEIGHT_M`, `SPEED_MPS` and `LEG_M`.
The mean of the action is a function of the refined motion and its physics state, and 0 until it is trained.

Legend: N motions, T frames, D features, K knots, Z numbers of a knot, d width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from motions.base.errors import UserError
from motions.humanoid.physics_state import NUM_CHANNELS
from motions.skeleton.features import FeatureLayout, recover_joints, replace_joints
from motions.skeleton.skeletons import Skeleton
from rollouts.linear import Linear
from rollouts.one_action.knots import gathered, num_knots, spread
from rollouts.ssm.layers import SelectiveScan, StateSpaceBlock

HEIGHT_M, SPEED_MPS, LEG_M = 0.01, 0.05, 0.015


@dataclass(frozen=True, slots=True)
class ResidualConfig:
    """Sizes of the network that gives the mean; plain values."""

    d_model: int = 64
    d_state: int = 16
    knot_frames: int = 10
    """Frames from one knot to the next."""

    @classmethod
    def of_document(cls, document: object, source: str) -> ResidualConfig:
        """From a JSON value. Raises UserError that names `source` where it is something else."""
        names = set(asdict(cls()))
        if isinstance(document, Mapping) and document.keys() == names:
            values = dict(document)
            if all(type(value) is int and value > 0 for value in values.values()):
                return cls(**values)
        raise UserError(f"{source}: residual is {document!r:.100}; expected {', '.join(sorted(names))} above 0")


class ResidualHead(nn.Module):
    """Mean of the action; weights are a function of the seed, the last ones 0."""

    def __init__(self, config: ResidualConfig, skeleton: Skeleton, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
            torch.manual_seed(seed)
            self.input_proj = Linear(skeleton.num_features + NUM_CHANNELS, config.d_model)
            self.block = StateSpaceBlock(config.d_model, config.d_state, "head", bidirectional=True)
            self.norm = nn.LayerNorm(config.d_model)
            self.mean = Linear(config.d_model, num_numbers(skeleton))
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, SelectiveScan):
                module.reset(generator)
        nn.init.zeros_(self.mean.weight)
        nn.init.zeros_(self.mean.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Mean [N, K, Z] of the action for frames [N, T, D + 64]: normalised refined motion and physics state."""
        h = self.block(self.input_proj(frames.to(self.mean.weight.dtype)))
        weights = spline_weights(frames.shape[1], self.config.knot_frames).to(h)
        every = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        return self.mean(gathered(self.norm(h), weights.expand(len(h), -1, -1), every))


def num_numbers(skeleton: Skeleton) -> int:
    """Z of a skeleton."""
    return 3 + 3 * len(leg_joints(skeleton))


def action_knots(num_frames: int, spacing: int) -> int:
    """K of a motion: a cubic spline has two knots more than a line of as many pieces, one before and one after it."""
    return num_knots(num_frames, spacing) + 2


def leg_joints(skeleton: Skeleton) -> list[int]:
    """The joints of the legs, root excluded: of every chain with a foot in it."""
    feet = set(skeleton.foot_joints)
    return [joint for chain in skeleton.chains if feet & set(chain) for joint in chain[1:]]


def spline_weights(num_frames: int, spacing: int) -> Tensor:
    """How much each knot counts at each frame, [T, K] float32: the uniform cubic B-spline. Sums over K are 1."""
    places = torch.arange(num_frames, dtype=torch.float64) / spacing
    knots = torch.arange(action_knots(num_frames, spacing), dtype=torch.float64) - 1.0
    apart = (places[:, None] - knots).abs()
    near = 2.0 / 3.0 - apart.square() + apart.pow(3) / 2.0
    far = (2.0 - apart).clamp(min=0.0).pow(3) / 6.0
    return torch.where(apart < 1.0, near, far).float()


def with_residual(features: Tensor, action: Tensor, spacing: int, skeleton: Skeleton) -> Tensor:
    """Physical features [N, T, D] with the residual of an action [N, K, Z].

    Velocities and contacts are then those of the moved joints; rotations and headings stay.
    """
    layout, legs = FeatureLayout(skeleton.num_joints), leg_joints(skeleton)
    weights = spline_weights(features.shape[1], spacing).to(action)
    curves = spread(action, weights.expand(len(action), -1, -1)) / skeleton.metres_per_unit
    moved = features.clone()
    height = HEIGHT_M * curves[..., :1]
    moved[..., layout.root_height] += height
    moved[..., layout.root_velocity] += SPEED_MPS / skeleton.fps * curves[..., 1:3]
    places = moved[..., layout.positions].unflatten(-1, (-1, 3)).clone()
    places[..., 1] += height
    places[..., [joint - 1 for joint in legs], :] += LEG_M * curves[..., 3:].unflatten(-1, (-1, 3))
    moved[..., layout.positions] = places.flatten(-2)
    return replace_joints(moved, recover_joints(moved, skeleton), skeleton)
