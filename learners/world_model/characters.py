"""Humanoids as tensors: MuJoCo's states, rotations and positions of their bodies, and integration in time.

Everything is batched over leading dimensions [...] and differentiable. The world is z-up; metres, radians, seconds.
Joints are sorted by kind, each kind in the order of `JOINT_ORDER`: the eight 3-dof joints ("balls": chest, neck,
shoulders, right hip and ankle, left hip and ankle), then the four of one dof ("hinges": elbows, knees). A row of 28
coordinates, rates or targets holds 24 numbers of balls and 4 of hinges.

Imagined rollouts are long chains of small tensors, whose cost is the number of operations. Products of quaternions and
rotation matrices are therefore written as one outer product and one multiplication by a constant matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from envs.body.joint_coordinates import JOINT_ORDER
from envs.body.mujoco_model import PARTS, rest_rotation
from envs.body.state import BallLayout
from envs.settings import JointModel
from motions.humanoid.kinematics import BODIES, HINGE_BODIES
from motions.skeleton.rotations import quat_inverse, quat_multiply

BALLS: tuple[str, ...] = tuple(name for name in JOINT_ORDER if name not in HINGE_BODIES)
HINGES: tuple[str, ...] = tuple(name for name in JOINT_ORDER if name in HINGE_BODIES)
NUM_COORDINATES = 3 * len(BALLS) + len(HINGES)
_LAYOUT = BallLayout()
SORTED = torch.cat((torch.from_numpy(_LAYOUT.ball_columns).flatten(), torch.from_numpy(_LAYOUT.hinge_columns)))
"""[28] columns of the joint coordinates in MuJoCo's order, sorted by kind of joint."""
UNSORTED = SORTED.argsort()
"""[28] columns of sorted coordinates in MuJoCo's order."""
_QUATERNIONS = torch.cat((torch.from_numpy(_LAYOUT.quaternions).flatten(), torch.from_numpy(_LAYOUT.hinges))) - 7
_LEAST = 1e-12


class Characters(NamedTuple):
    """States of characters."""

    position: Tensor
    """Position [..., 3] of the root."""
    rotation: Tensor
    """Unit quaternion [..., 4] of the root."""
    joints: Tensor
    """Sorted angles [..., 28], or with ball joints quaternions and angles [..., 36]."""
    velocity: Tensor
    """[..., 34]: the root's linear velocity in the world, its angular velocity in its own frame, sorted joint rates."""


def characters_of(qpos: Tensor, qvel: Tensor) -> Characters:
    """States from MuJoCo's qpos [..., 35 or 43] and qvel [..., 34]."""
    position, rotation, joints = qpos.split((3, 4, qpos.shape[-1] - 7), dim=-1)
    root, rates = qvel.split((6, NUM_COORDINATES), dim=-1)
    order = SORTED if joints.shape[-1] == NUM_COORDINATES else _QUATERNIONS
    return Characters(position, rotation, joints[..., order], torch.cat((root, rates[..., SORTED]), dim=-1))


class Joints(Protocol):
    """What depends on the model of the 3-dof joints."""

    def coordinates(self, joints: Tensor) -> Tensor:
        """Sorted joint coordinates [..., 28]."""
        ...

    def rotations(self, joints: Tensor) -> Tensor:
        """Local rotation matrices [..., 8, 3, 3] of the balls."""
        ...

    def spins(self, joints: Tensor, rates: Tensor) -> Tensor:
        """Angular velocities [..., 8, 3] of the balls in their own frames, from sorted rates [..., 28]."""
        ...

    def moved(self, joints: Tensor, way: Tensor) -> Tensor:
        """The joints after a `way` [..., 28]: rates times a time in which they do not change."""
        ...

    def way(self, start: Tensor, end: Tensor) -> Tensor:
        """The way [..., 28] from one pose to another."""
        ...


class StackedHinges:
    """Three hinges x, y, z for a 3-dof joint; the coordinates are Euler angles, R = Rx Ry Rz."""

    def coordinates(self, joints: Tensor) -> Tensor:
        """The angles themselves."""
        return joints

    def rotations(self, joints: Tensor) -> Tensor:
        """Local rotations of the balls: see `Joints.rotations`."""
        return euler_matrices(joints[..., :24].unflatten(-1, (8, 3)))

    def spins(self, joints: Tensor, rates: Tensor) -> Tensor:
        """Angular velocities of the balls: see `Joints.spins`."""
        _, middle, last = joints[..., :24].unflatten(-1, (8, 3)).unbind(-1)
        first, second, third = rates[..., :24].unflatten(-1, (8, 3)).unbind(-1)
        along, cosine, sine = first * middle.cos(), last.cos(), last.sin()
        parts = (along * cosine + second * sine, second * cosine - along * sine, third + first * middle.sin())
        return torch.stack(parts, dim=-1)

    def moved(self, joints: Tensor, way: Tensor) -> Tensor:
        """The angles plus the way."""
        return joints + way

    def way(self, start: Tensor, end: Tensor) -> Tensor:
        """The difference of the angles."""
        return end - start


class BallJoints:
    """Ball joints; the coordinates are the rotation vectors from their rest, the rates angular velocities."""

    def __init__(self) -> None:
        self._rests = torch.tensor([rest_rotation(name, "ball") for name in BALLS])

    def coordinates(self, joints: Tensor) -> Tensor:
        """Rotation vectors and angles: see `Joints.coordinates`."""
        turns, angles = self._parts(joints)
        return torch.cat((quaternion_logarithm(turns).flatten(-2), angles), dim=-1)

    def rotations(self, joints: Tensor) -> Tensor:
        """Local rotations of the balls: see `Joints.rotations`."""
        return matrices(product(self._rests, self._parts(joints)[0]))

    def spins(self, joints: Tensor, rates: Tensor) -> Tensor:
        """The rates themselves."""
        return rates[..., :24].unflatten(-1, (8, 3))

    def moved(self, joints: Tensor, way: Tensor) -> Tensor:
        """The joints after a way: see `Joints.moved`."""
        turns, angles = self._parts(joints)
        vectors, change = way.split((24, 4), dim=-1)
        turned = turn(turns, vectors.unflatten(-1, (8, 3)))
        return torch.cat((turned.flatten(-2), angles + change), dim=-1)

    def way(self, start: Tensor, end: Tensor) -> Tensor:
        """The way from one pose to another: see `Joints.way`."""
        (turns, angles), (turned, changed) = self._parts(start), self._parts(end)
        return torch.cat((between(turns, turned).flatten(-2), changed - angles), dim=-1)

    def _parts(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        turns, angles = joints.split((32, 4), dim=-1)
        return turns.unflatten(-1, (8, 4)), angles


def joints_of(model: JointModel) -> Joints:
    """The functions of a kind of joints."""
    return StackedHinges() if model == "hinge" else BallJoints()


def _table(function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Matrix [16, n] of a bilinear function of two quaternions, which maps their outer product."""
    unit = torch.eye(4, dtype=torch.float64)
    return torch.stack([function(a, b).flatten() for a in unit for b in unit]).float()


def _polarised(left: Tensor, right: Tensor) -> Tensor:
    """The bilinear form of the rotation matrix, which is quadratic in its unit quaternion."""
    (w, x, y, z), (a, b, c, d) = left, right
    rows = (
        (w * a + x * b - y * c - z * d, 2 * (x * c - w * d), 2 * (x * d + w * c)),
        (2 * (x * c + w * d), w * a - x * b + y * c - z * d, 2 * (y * d - w * b)),
        (2 * (x * d - w * c), 2 * (y * d + w * b), w * a - x * b - y * c + z * d),
    )
    return torch.stack([torch.stack(row) for row in rows])


_PRODUCTS = _table(quat_multiply)
_QUOTIENTS = _table(lambda left, right: quat_multiply(quat_inverse(left), right))
_MATRICES = _table(_polarised)


def _bilinear(left: Tensor, right: Tensor, table: Tensor) -> Tensor:
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2) @ table


def product(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton products [..., 4]: rotates by `right` first."""
    return _bilinear(left, right, _PRODUCTS)


def matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    return _bilinear(quaternions, quaternions, _MATRICES).unflatten(-1, (3, 3))


def between(start: Tensor, end: Tensor) -> Tensor:
    """Rotation vectors [..., 3], in the frame of `start`, that turn unit quaternions `start` [..., 4] to `end`."""
    return quaternion_logarithm(_bilinear(start, end, _QUOTIENTS))


def turn(quaternions: Tensor, vectors: Tensor) -> Tensor:
    """Unit quaternions [..., 4] after rotations by vectors [..., 3] in their own frames."""
    angle = (vectors.square().sum(-1, keepdim=True) + _LEAST).sqrt()
    half = angle / 2
    return product(quaternions, torch.cat((half.cos(), vectors * (half.sin() / angle)), dim=-1))


def quaternion_logarithm(quaternions: Tensor) -> Tensor:
    """Rotation vectors [..., 3] of unit quaternions [..., 4]: twice their logarithms, with finite gradients at the
    identity too."""
    cosine, part = quaternions.split((1, 3), dim=-1)
    sine = (part.square().sum(-1, keepdim=True) + _LEAST).sqrt()
    sign = torch.where(cosine < 0, -1.0, 1.0)
    return part * (2.0 * sign * torch.atan2(sine, sign * cosine) / sine)


def euler_matrices(angles: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3], R = Rx Ry Rz, of angles [..., 3]."""
    first, middle, last = torch.stack((torch.ones_like(angles), angles.cos(), angles.sin()), dim=-1).unbind(-2)
    outer = (first.unsqueeze(-1) * middle.unsqueeze(-2)).flatten(-2)
    return ((outer.unsqueeze(-1) * last.unsqueeze(-2)).flatten(-2) @ _EULER).unflatten(-1, (3, 3))


def _turn(axis: int) -> Tensor:
    """Matrices [3, 3, 3] by which 1, cosine and sine of an angle make up the rotation about an axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    table = torch.zeros(3, 3, 3)
    table[0, axis, axis] = table[1, first, first] = table[1, second, second] = table[2, second, first] = 1.0
    table[2, first, second] = -1.0
    return table


_EULER = torch.einsum("aij,bjk,ckl->abcil", _turn(0), _turn(1), _turn(2)).reshape(27, 9)
"""From products of 1, cosine and sine of three angles to the entries of their rotation."""


def rotated(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Vectors [..., 3] multiplied by matrices [..., 3, 3]."""
    return (matrix * vectors.unsqueeze(-2)).sum(-1)


def rotated_back(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Vectors [..., 3] multiplied by the transposes of matrices [..., 3, 3]."""
    return (matrix * vectors.unsqueeze(-1)).sum(-2)


_ABOUT_MINUS_Y = (_turn(1) * torch.tensor([1.0, 1.0, -1.0])[:, None, None]).flatten(1)


def hinge_rotations(angles: Tensor) -> Tensor:
    """Local rotation matrices [..., 3, 3] of hinges with angles [...], which turn about -y."""
    parts = torch.stack((torch.ones_like(angles), angles.cos(), angles.sin()), dim=-1)
    return (parts @ _ABOUT_MINUS_Y).unflatten(-1, (3, 3))


def _offsets(*names: str) -> Tensor:
    """Positions [n, 3] of joints in their parents' frames, z-up."""
    offsets = {body.name: body.offset for body in BODIES}
    return torch.tensor([[offsets[name][0], -offsets[name][2], offsets[name][1]] for name in names])


_CHEST = _offsets("chest")[0]
_SHOULDERS, _ELBOWS, _WRISTS, _HIPS, _KNEES, _ANKLES = (
    _offsets(f"right_{part}", f"left_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
_SHOULDER_ROWS, _HIPS_ROWS, _ANKLE_ROWS = slice(2, 4), slice(4, 8, 2), slice(5, 8, 2)
"""Rows of `BALLS`, right before left."""


def hands_and_feet(position: Tensor, axes: Tensor, balls: Tensor, hinges: Tensor) -> Tensor:
    """Positions [..., 4, 3] of right ankle, right wrist, left ankle and left wrist in the world.

    Args:
        position: of the root [..., 3].
        axes: rotation matrix of the root [..., 3, 3].
        balls: local rotations [..., 8, 3, 3].
        hinges: local rotations [..., 4, 3, 3].
    """
    root = axes.unsqueeze(-3)
    thighs = root @ balls[..., _HIPS_ROWS, :, :]
    shins = thighs @ hinges[..., 2:, :, :]
    ankles = position.unsqueeze(-2) + rotated(root, _HIPS) + rotated(thighs, _KNEES) + rotated(shins, _ANKLES)
    chest = root @ balls[..., :1, :, :]
    upper = chest @ balls[..., _SHOULDER_ROWS, :, :]
    lower = upper @ hinges[..., :2, :, :]
    shoulders = (position + rotated(axes, _CHEST)).unsqueeze(-2) + rotated(chest, _SHOULDERS)
    wrists = shoulders + rotated(upper, _ELBOWS) + rotated(lower, _WRISTS)
    return torch.stack((ankles, wrists), dim=-2).flatten(-3, -2)


def sole_heights(height: Tensor, up: Tensor, balls: Tensor, knees: Tensor) -> Tensor:
    """Heights [..., 8] of the corners of both soles above the ground.

    Only the direction of the vertical is followed down the legs, which is cheaper than the positions.

    Args:
        height: of the root [..., 1].
        up: the vertical in the root's frame [..., 3].
        balls: local rotations [..., 8, 3, 3].
        knees: local rotations [..., 2, 3, 3].
    """
    up = up.unsqueeze(-2)
    thigh = rotated_back(balls[..., _HIPS_ROWS, :, :], up)
    shin = rotated_back(knees, thigh)
    foot = rotated_back(balls[..., _ANKLE_ROWS, :, :], shin)
    along = torch.cat(((up * _HIPS), thigh * _KNEES, shin * _ANKLES), dim=-1).sum(-1, keepdim=True)
    return (height.unsqueeze(-1) + along + foot @ _SOLE).flatten(-2)


def _sole() -> Tensor:
    """Corners [3, 4] of a sole in the frame of its foot."""
    part = PARTS["right_ankle"]
    (x, y, z), (length, width, height) = part.centre, part.size
    return torch.tensor([[x + a * length, y + b * width, z - height] for a in (-1, 1) for b in (-1, 1)]).T


_SOLE = _sole()
