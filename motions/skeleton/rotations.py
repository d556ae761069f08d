"""Rotations on torch tensors: quaternions (w, x, y, z), matrices, and the 6D form that motion features use.

Every function is batched over leading dimensions, keeps dtype and device, and is differentiable. Matrices act on column
vectors. The 6D form (Zhou et al. 2019) is the first column of the matrix followed by its second column, which is how
HumanML3D stores it (PyTorch3D stores rows: the two are not interchangeable).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_AXES = {"X": 0, "Y": 1, "Z": 2}


def quat_multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product [..., 4]: rotates by `right` first, then by `left`."""
    lw, lx, ly, lz = left.unbind(-1)
    rw, rx, ry, rz = right.unbind(-1)
    return torch.stack(
        (
            lw * rw - lx * rx - ly * ry - lz * rz,
            lw * rx + lx * rw + ly * rz - lz * ry,
            lw * ry - lx * rz + ly * rw + lz * rx,
            lw * rz + lx * ry - ly * rx + lz * rw,
        ),
        dim=-1,
    )


def quat_inverse(quat: Tensor) -> Tensor:
    """Inverse of unit quaternions [..., 4]."""
    return quat * quat.new_tensor([1.0, -1.0, -1.0, -1.0])


def quat_rotate(quat: Tensor, vector: Tensor) -> Tensor:
    """Rotates vectors [..., 3] by unit quaternions [..., 4]; leading dimensions broadcast."""
    w, xyz = quat[..., :1], quat[..., 1:]
    xyz, vector = torch.broadcast_tensors(xyz, vector)
    twice_cross = 2.0 * torch.linalg.cross(xyz, vector)
    return vector + w * twice_cross + torch.linalg.cross(xyz, twice_cross)


def quat_between(source: Tensor, target: Tensor) -> Tensor:
    """Smallest rotation [..., 4] that takes direction `source` [..., 3] to direction `target` [..., 3].

    The scalar part is never negative: a heading that passes 180 degrees makes the quaternion change its sign, which the
    feature vector inherits (HumanML3D quirk). Opposite directions and zero vectors give nan.
    """
    xyz = torch.linalg.cross(*torch.broadcast_tensors(source, target))
    w = torch.sqrt((source**2).sum(-1) * (target**2).sum(-1)) + (source * target).sum(-1)
    quat = torch.cat((w.unsqueeze(-1), xyz), dim=-1)
    return quat / quat.norm(dim=-1, keepdim=True)


def quat_slerp(start: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
    """Spherical interpolation on the shorter arc; unit quaternions [..., 4], `fraction` [...] in 0..1."""
    cosine = (start * end).sum(-1, keepdim=True)
    end = torch.where(cosine < 0, -end, end)
    cosine = cosine.abs().clamp(max=1.0)
    fraction = fraction.unsqueeze(-1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    # Nearly equal rotations: the chord is the arc to rounding, and the quotient below would be 0/0.
    near = sine < 1e-6
    safe = torch.where(near, torch.ones_like(sine), sine)
    weight_start = torch.where(near, 1.0 - fraction, torch.sin((1.0 - fraction) * angle) / safe)
    weight_end = torch.where(near, fraction, torch.sin(fraction * angle) / safe)
    return F.normalize(weight_start * start + weight_end * end, dim=-1)


def quat_to_matrix(quat: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    w, x, y, z = quat.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quat(matrix: Tensor) -> Tensor:
    """Unit quaternions [..., 4] with w >= 0 of rotation matrices [..., 3, 3].

    Of the four formulas, the one with the largest denominator is used (Shepperd 1978), so no angle is singular.
    """
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = torch.stack(
        [1 + trace] + [1 + 2 * m[..., axis, axis] - trace for axis in range(3)], dim=-1
    )  # 4 w^2, 4 x^2, 4 y^2, 4 z^2
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack((squares[..., 0], wx, wy, wz), dim=-1),
            torch.stack((wx, squares[..., 1], xy, xz), dim=-1),
            torch.stack((wy, xy, squares[..., 2], yz), dim=-1),
            torch.stack((wz, xz, yz, squares[..., 3]), dim=-1),
        ],
        dim=-2,
    )
    best = squares.argmax(dim=-1)
    picked = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quat = F.normalize(picked, dim=-1)
    return torch.where(quat[..., :1] < 0, -quat, quat)


def matrix_to_six(matrix: Tensor) -> Tensor:
    """6D form [..., 6] of rotation matrices [..., 3, 3]: first column, then second column."""
    return torch.cat((matrix[..., 0], matrix[..., 1]), dim=-1)


def six_to_matrix(six: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of 6D forms [..., 6], orthonormalised as HumanML3D does.

    x = first column normalised, z = x cross second column normalised, y = z cross x.
    """
    x = F.normalize(six[..., :3], dim=-1)
    z = F.normalize(torch.linalg.cross(x, six[..., 3:]), dim=-1)
    y = torch.linalg.cross(z, x)
    return torch.stack((x, y, z), dim=-1)


def quat_align(rest: Tensor, seen: Tensor) -> Tensor:
    """Rotation [..., 4] with the least squared distance of rotated `rest` [..., K, 3] from `seen` [..., K, 3] (Kabsch
    1976)."""
    left, _, right = torch.linalg.svd(seen.mT @ rest)
    sign = torch.linalg.det(left @ right)
    keep = torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), dim=-1)
    return matrix_to_quat(left @ (keep.unsqueeze(-1) * right))


def quat_swing(frame: Tensor, rest: Tensor, seen: Tensor) -> Tensor:
    """`frame` [..., 4] turned by the smallest rotation that takes its direction `rest` [3] to `seen` [..., 3]."""
    start, end = F.normalize(quat_rotate(frame, rest), dim=-1), F.normalize(seen, dim=-1)
    # Exactly opposite directions have no unique smallest rotation; one about an arbitrary axis is taken.
    opposite = (start * end).sum(-1, keepdim=True) < -1.0 + 1e-9
    aside = rest.new_tensor([1.0, 0.0, 0.0] if abs(rest[0]) < rest.norm() / 2 else [0.0, 0.0, 1.0])
    end = torch.where(opposite, end + 1e-4 * quat_rotate(frame, aside), end)
    return quat_multiply(quat_between(start, F.normalize(end, dim=-1)), frame)


def euler_to_quat(degrees: Tensor, order: str) -> Tensor:
    """Quaternions [..., 4] of intrinsic Euler angles [..., n] in degrees, as BVH channels list them.

    `order` names the n axes as written, e.g. "ZXY" is R = Rz Rx Ry. Raises ValueError for other letters or lengths.
    """
    if len(order) != degrees.shape[-1] or any(letter not in _AXES for letter in order):
        raise ValueError(f"order={order!r}: expected {degrees.shape[-1]} letters of X, Y, Z")
    half = torch.deg2rad(degrees) / 2
    quat = torch.zeros((*degrees.shape[:-1], 4), dtype=degrees.dtype, device=degrees.device)
    quat[..., 0] = 1.0
    for index, letter in enumerate(order):
        turn = torch.zeros_like(quat)
        turn[..., 0] = torch.cos(half[..., index])
        turn[..., 1 + _AXES[letter]] = torch.sin(half[..., index])
        quat = quat_multiply(quat, turn)
    return quat


def quat_to_rotation_vector(quaternions: Tensor) -> Tensor:
    """Rotation vectors (axis times angle) [..., 3] of unit quaternions [..., 4], with an angle of at most pi."""
    quaternions = torch.where(quaternions[..., :1] < 0, -quaternions, quaternions)
    sine = quaternions[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, quaternions[..., :1])
    return quaternions[..., 1:] * torch.where(sine < 1e-12, 2.0, angle / sine.clamp(min=1e-12))


def quat_from_rotation_vector(vectors: Tensor) -> Tensor:
    """Unit quaternions [..., 4] of rotation vectors [..., 3], which are axis times angle."""
    angle = vectors.norm(dim=-1, keepdim=True)
    # torch.sinc(x) is sin(pi x) / (pi x), which is 1 at angle 0 where a quotient would be 0 / 0.
    return torch.cat((torch.cos(angle / 2), 0.5 * vectors * torch.sinc(angle / math.tau)), dim=-1)
