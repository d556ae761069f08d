"""The motion features of HumanML3D (263 numbers per frame) and KIT-ML (251): conversion from joints and back.

All peculiarities of the original processing (Guo et al. 2022) are kept, since published models are trained on it:
* the yaw velocity is arcsin of a quaternion component, half the change of heading, and has the wrong sign in the frame
  where the heading passes 180 degrees;
* inside inverse kinematics left and right hip are exchanged, so the heading follows the shoulders against the hips; it
  is smoothed (Gaussian, 20 frames) and the first frame's root rotation is the identity;
* every kinematic chain starts at the root's rotation, also the arms, whose parent is the upper spine.

Extraction runs on NumPy arrays, in float64, and returns float32. Recovery runs on torch tensors, batched and
differentiable (rewards use it), in the tensor's own precision. Units are the data's: metres for HumanML3D.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from motions.base.errors import UserError
from motions.skeleton import rotations
from motions.skeleton.skeletons import Skeleton

_HEADING_SIGMA = 20.0
"""Standard deviation, in frames, of the Gaussian filter on the heading."""


@dataclass(frozen=True)
class FeatureLayout:
    """Slices of a feature vector of J joints; J = 22 gives 263 numbers, J = 21 gives 251."""

    num_joints: int

    @property
    def root_yaw(self) -> slice:
        """Half the change of heading to the next frame, radians."""
        return slice(0, 1)

    @property
    def root_velocity(self) -> slice:
        """x and z displacement of the root to the next frame, in the heading of the next frame."""
        return slice(1, 3)

    @property
    def root_height(self) -> slice:
        """Height of the root above the floor."""
        return slice(3, 4)

    @property
    def positions(self) -> slice:
        """Joints 1..J-1: x and z relative to the root, y absolute, in the heading of the frame."""
        return slice(4, 4 + 3 * (self.num_joints - 1))

    @property
    def rotations(self) -> slice:
        """6D local rotations of joints 1..J-1."""
        return slice(self.positions.stop, self.positions.stop + 6 * (self.num_joints - 1))

    @property
    def velocities(self) -> slice:
        """Displacement of all J joints to the next frame, in the heading of the frame."""
        return slice(self.rotations.stop, self.rotations.stop + 3 * self.num_joints)

    @property
    def contacts(self) -> slice:
        """Left ankle, left toe, right ankle, right toe on the ground: 0 or 1."""
        return slice(self.velocities.stop, self.velocities.stop + 4)

    @property
    def width(self) -> int:
        """Width D of the feature vector."""
        return self.contacts.stop

    def describe(self, index: int, joint_names: tuple[str, ...]) -> str:
        """What the number at `index` is, such as "y of left_knee's position"."""
        places = [f"{axis} of {joint}'s position" for joint in joint_names[1:] for axis in "xyz"]
        turns = [f"number {number} of {joint}'s rotation" for joint in joint_names[1:] for number in range(1, 7)]
        speeds = [f"{axis} of {joint}'s velocity" for joint in joint_names for axis in "xyz"]
        contacts = [f"the contact of the {side} {part}" for side in ("left", "right") for part in ("ankle", "toe")]
        root = ["the change of heading", "x of the root's velocity", "z of the root's velocity", "the root's height"]
        return [*root, *places, *turns, *speeds, *contacts][index]

    @property
    def groups(self) -> tuple[slice, ...]:
        """The parts in order; HumanML3D averages the standard deviation within each one."""
        parts = (self.root_yaw, self.root_velocity, self.root_height, self.positions, self.rotations)
        return (*parts, self.velocities, self.contacts)


def extract_features(
    joints: np.ndarray,
    skeleton: Skeleton,
    *,
    retarget: bool = True,
    target_offsets: np.ndarray | None = None,
    floor: float | None = None,
    continuous_heading: bool = False,
) -> np.ndarray:
    """Feature vectors of a clip, as computed by HumanML3D's processing (Guo et al. 2022).

    Args:
        joints: [F, J, 3] global positions, y up, F >= 2, at `skeleton.fps`, in data units.
        retarget: first give the clip the target skeleton's bones; turn it off for joints that have them already.
        target_offsets: [J, 3] bones to retarget to; the skeleton's own by default.
        floor: height of the floor; by default that of the clip's lowest joint, as in HumanML3D. A clip cut
            from the middle of a jump needs its true floor.
        continuous_heading: leave out HumanML3D's two jumps of the heading: the yaw velocity keeps its sign where the
            heading passes 180 degrees, and the clip starts in the direction of the smoothed heading instead of that of
            its first pose (from which the second frame would jump, by 70 degrees in a dance).

    Returns:
        [F - 1, D] float32.

    Raises:
        UserError: fewer than two frames, values that are not finite, or a bone of zero length.
    """
    positions = _checked_joints(joints, skeleton)
    if retarget:
        positions = retarget_uniform(positions, skeleton, target_offsets)
    positions = canonicalise(positions, skeleton, floor=floor)
    if continuous_heading:
        turn = _heading_quat(_ik_forward(positions, skeleton, smooth=True)[:1])
        positions = rotations.quat_rotate(turn, torch.from_numpy(positions)).numpy()
    quats = inverse_kinematics(positions, skeleton, smooth_heading=True)
    if continuous_heading:
        flips = np.where((quats[1:, 0] * quats[:-1, 0]).sum(-1) < 0, -1.0, 1.0)
        quats[1:, 0] *= np.cumprod(flips)[:, None]
    return _assemble(positions, quats, skeleton)


def retarget_uniform(joints: np.ndarray, skeleton: Skeleton, target_offsets: np.ndarray | None = None) -> np.ndarray:
    """Gives a clip the bone lengths of the target skeleton, keeping every bone's direction; [F, J, 3] float64.

    The root's path is scaled by the ratio of leg lengths; the source's bone lengths are measured in its first frame.
    """
    positions = _checked_joints(joints, skeleton)
    target = skeleton.target_offsets if target_offsets is None else np.asarray(target_offsets, dtype=np.float64)
    if target.shape != (skeleton.num_joints, 3):
        raise ValueError(f"target_offsets has shape {target.shape}, expected {(skeleton.num_joints, 3)}")
    knee, ankle = skeleton.leg_joints
    parents = skeleton.parents
    source_leg = sum(np.linalg.norm(positions[0, joint] - positions[0, parents[joint]]) for joint in (knee, ankle))
    target_leg = np.abs(target[knee]).max() + np.abs(target[ankle]).max()
    quats = inverse_kinematics(positions, skeleton, smooth_heading=False)
    root = positions[:, 0] * (target_leg / source_leg)
    return chain_forward_kinematics(
        rotations.quat_to_matrix(torch.from_numpy(quats)), torch.from_numpy(root), torch.tensor(target), skeleton
    ).numpy()


def check_joints(joints: np.ndarray, skeleton: Skeleton) -> None:
    """Raises UserError where features cannot be extracted from joints [F, J, 3]: fewer than two frames, values that are
    not finite, a bone of zero length, or hips and shoulders above one another."""
    positions = _checked_joints(joints, skeleton)
    _check_bones(positions, skeleton)
    _ik_forward(positions, skeleton, smooth=False)


def canonicalise(joints: np.ndarray, skeleton: Skeleton, *, floor: float | None = None) -> np.ndarray:
    """Moves a clip onto the floor, its first frame above the origin and facing +z; [F, J, 3] float64.

    The floor is at the given height `floor`, by default at the lowest joint.
    """
    positions = _checked_joints(joints, skeleton)
    lowest = positions[..., 1].min() if floor is None else floor
    positions = positions - np.array([positions[0, 0, 0], lowest, positions[0, 0, 2]])
    right_hip, left_hip, right_shoulder, left_shoulder = positions[0, list(skeleton.face_joints)]
    forward = _forward((right_hip - left_hip) + (right_shoulder - left_shoulder))
    turn = _heading_quat(forward[None])
    return rotations.quat_rotate(turn, torch.from_numpy(positions)).numpy()


def inverse_kinematics(joints: np.ndarray, skeleton: Skeleton, *, smooth_heading: bool) -> np.ndarray:
    """Local rotations (w, x, y, z) of a clip, [F, J, 4] float64, with HumanML3D's peculiarities (see the module).

    Entry 0 is the rotation from the body's heading to +z, the inverse of a global orientation.
    """
    _check_bones(joints, skeleton)
    root = _heading_quat(_ik_forward(joints, skeleton, smooth=smooth_heading))
    root[0] = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    positions = torch.from_numpy(np.asarray(joints, dtype=np.float64))
    raw = torch.from_numpy(skeleton.raw_directions.copy())
    pairs = [pair for chain in skeleton.chains for pair in pairwise(chain)]
    parents, children = ([pair[side] for pair in pairs] for side in (0, 1))
    turned = rotations.quat_between(raw[children], positions[:, children] - positions[:, parents])
    # Each chain starts at the root's rotation; from then on a bone's parent is the bone before it.
    starts = [chain[0] for chain in skeleton.chains for _ in pairwise(chain)]
    before = turned.roll(1, dims=1)
    first = [place for place, parent in enumerate(parents) if parent == starts[place]]
    before[:, first] = root[:, None]
    quats = torch.zeros((len(joints), skeleton.num_joints, 4), dtype=torch.float64)
    quats[:, 0] = root
    quats[:, children] = rotations.quat_multiply(rotations.quat_inverse(before), turned)
    return quats.numpy()


def chain_forward_kinematics(matrices: Tensor, root: Tensor, offsets: Tensor, skeleton: Skeleton) -> Tensor:
    """Joint positions [..., J, 3] of local rotations [..., J, 3, 3], root positions [..., 3] and bones [J, 3].

    Each chain starts at the root's rotation, matching `inverse_kinematics`.
    """
    joints: list[Tensor] = [root] * skeleton.num_joints
    for chain in skeleton.chains:
        turn = matrices[..., 0, :, :]
        for parent, child in pairwise(chain):
            turn = turn @ matrices[..., child, :, :]
            joints[child] = joints[parent] + (turn @ offsets[child, :, None]).squeeze(-1)
    return torch.stack(joints, dim=-2)


def recover_root(features: Tensor) -> tuple[Tensor, Tensor]:
    """Heading and path of the root, from features [..., T, D].

    Returns:
        half_angles [..., T]: the root quaternion of a frame, the rotation from its heading to +z, is (cos, 0, sin, 0)
        of it;
        positions [..., T, 3]. Frame 0 has heading 0 and is above the origin.
    """
    start = torch.zeros_like(features[..., :1, 0])
    half_angles = torch.cat((start, features[..., :-1, 0].cumsum(dim=-1)), dim=-1)
    # Frame i's displacement is stored at i - 1 and expressed in the heading of frame i.
    x, z = _turn_back(half_angles[..., 1:], features[..., :-1, 1], features[..., :-1, 2])
    x = torch.cat((start, x.cumsum(dim=-1)), dim=-1)
    z = torch.cat((start, z.cumsum(dim=-1)), dim=-1)
    return half_angles, torch.stack((x, features[..., 3], z), dim=-1)


def recover_joints(features: Tensor, skeleton: Skeleton) -> Tensor:
    """Global joint positions [..., T, J, 3] of physical features [..., T, D], from the position part.

    The same as `recover_from_ric` of Guo et al.; differentiable, any leading dimensions, units of the data.
    Raises ValueError where D is not the skeleton's.
    """
    _check_width(features, skeleton)
    half_angles, root = recover_root(features)
    layout = FeatureLayout(skeleton.num_joints)
    local = features[..., layout.positions].unflatten(-1, (skeleton.num_joints - 1, 3))
    x, z = _turn_back(half_angles.unsqueeze(-1), local[..., 0], local[..., 2])
    joints = torch.stack((x + root[..., None, 0], local[..., 1], z + root[..., None, 2]), dim=-1)
    return torch.cat((root.unsqueeze(-2), joints), dim=-2)


def replace_joints(features: Tensor, joints: Tensor, skeleton: Skeleton, mask: Tensor | None = None) -> Tensor:
    """Features of which `recover_joints` makes other joints: the inverse of it, at the headings that the features have.

    Positions, path of the root, velocities and contacts are those of the joints; rotations and headings stay. What a
    frame says of the next one stays where there is no next one, and so do frames outside the mask. The path begins
    above the origin, whatever the joints' does.

    Args:
        features: physical, [..., T, D].
        joints: [..., T, J, 3] in units of the data.
        mask: [..., T] bool, True = real frame; they come first. None: all are.

    Raises ValueError where D is not the skeleton's.
    """
    _check_width(features, skeleton)
    layout = FeatureLayout(skeleton.num_joints)
    half_angles, _ = recover_root(features)
    root = joints[..., 0, :]
    local = _turn_to(half_angles.unsqueeze(-1), joints[..., 1:, :] - root.unsqueeze(-2) * joints.new_tensor((1, 0, 1)))
    moved = joints.diff(dim=-3)
    path = _turn_to(half_angles[..., 1:], moved[..., 0, :])[..., (0, 2)]
    steps = _turn_to(half_angles[..., :-1, None], moved).flatten(-2)
    still = moved[..., list(skeleton.foot_joints), :].square().sum(-1) < skeleton.contact_threshold
    poses = torch.cat((root[..., 1:2], local.flatten(-2)), dim=-1)
    real = torch.ones_like(features[..., 0], dtype=torch.bool) if mask is None else mask
    followed = real[..., 1:, None]
    result = features.clone()
    result[..., layout.root_height.start : layout.positions.stop] = torch.where(
        real.unsqueeze(-1), poses, features[..., layout.root_height.start : layout.positions.stop]
    )
    for part, values in (
        (layout.root_velocity, path),
        (layout.velocities, steps),
        (layout.contacts, still.to(features.dtype)),
    ):
        result[..., :-1, part] = torch.where(followed, values, features[..., :-1, part])
    return result


def recover_joints_from_rotations(
    features: Tensor, skeleton: Skeleton, target_offsets: np.ndarray | None = None
) -> Tensor:
    """Global joint positions [..., T, J, 3] of features [..., T, D], from the 6D rotation part by forward kinematics.

    The same as `recover_from_rot` of Guo et al.; `target_offsets` [J, 3] are the bones, by default the skeleton's own.
    Raises ValueError where D is not the skeleton's.
    """
    _check_width(features, skeleton)
    half_angles, root = recover_root(features)
    zero = torch.zeros_like(half_angles)
    root_quat = torch.stack((half_angles.cos(), zero, half_angles.sin(), zero), dim=-1)
    layout = FeatureLayout(skeleton.num_joints)
    six = features[..., layout.rotations].unflatten(-1, (skeleton.num_joints - 1, 6))
    matrices = torch.cat((rotations.quat_to_matrix(root_quat).unsqueeze(-3), rotations.six_to_matrix(six)), dim=-3)
    bones = skeleton.target_offsets if target_offsets is None else np.asarray(target_offsets)
    offsets = torch.tensor(bones, dtype=features.dtype, device=features.device)
    return chain_forward_kinematics(matrices, root, offsets, skeleton)


def _assemble(positions: np.ndarray, quats: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    root = torch.from_numpy(quats[:, 0])
    joints = torch.from_numpy(positions)
    steps = joints[1:] - joints[:-1]
    turn = rotations.quat_multiply(root[1:], rotations.quat_inverse(root[:-1]))
    local = joints.clone()
    local[..., [0, 2]] -= joints[:, :1, [0, 2]]
    local = rotations.quat_rotate(root[:, None], local)
    six = rotations.matrix_to_six(rotations.quat_to_matrix(torch.from_numpy(quats[:, 1:])))
    contacts = (steps[:, list(skeleton.foot_joints)] ** 2).sum(-1) < skeleton.contact_threshold
    parts = (
        torch.arcsin(turn[:, 2:3].clamp(-1.0, 1.0)),
        rotations.quat_rotate(root[1:], steps[:, 0])[:, [0, 2]],
        joints[:-1, 0, 1:2],
        local[:-1, 1:].flatten(1),
        six[:-1].flatten(1),
        rotations.quat_rotate(root[:-1, None], steps).flatten(1),
        contacts.to(torch.float64),
    )
    return torch.cat(parts, dim=1).to(torch.float32).numpy()


def _ik_forward(joints: np.ndarray, skeleton: Skeleton, *, smooth: bool) -> np.ndarray:
    """Unit forward directions [F, 3] of joints [F, J, 3] as inverse kinematics sees them."""
    # Guo et al.'s code unpacks (right hip, left hip, ...) as (left hip, right hip, ...); published features depend on
    # it.
    swapped_left, swapped_right, right_shoulder, left_shoulder = np.moveaxis(
        joints[:, list(skeleton.face_joints)], 1, 0
    )
    return _forward((swapped_right - swapped_left) + (right_shoulder - left_shoulder), smooth=smooth)


def _forward(across: np.ndarray, *, smooth: bool = False) -> np.ndarray:
    """Unit forward direction [..., 3] of a body whose left-to-right direction is `across` [..., 3]."""
    forward = np.cross(np.array([0.0, 1.0, 0.0]), across)
    length = np.linalg.norm(forward, axis=-1, keepdims=True)
    if not (length > 0).all():
        raise UserError("joints: hips and shoulders define no heading, their left and right coincide seen from above")
    forward = forward / np.linalg.norm(across, axis=-1, keepdims=True)
    if smooth:
        forward = gaussian_filter1d(forward, _HEADING_SIGMA, axis=0, mode="nearest")
    return forward / np.linalg.norm(forward, axis=-1, keepdims=True)


def _heading_quat(forward: np.ndarray) -> Tensor:
    return rotations.quat_between(torch.from_numpy(forward), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


def _turn_back(half_angles: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Rotates (x, z) from the heading of the body to the world: about y by minus twice the half angle."""
    cos, sin = torch.cos(2.0 * half_angles), torch.sin(2.0 * half_angles)
    return cos * x - sin * z, sin * x + cos * z


def _turn_to(half_angles: Tensor, vectors: Tensor) -> Tensor:
    """Rotates vectors [..., 3] from the world to the heading of the body: the inverse of `_turn_back`."""
    x, z = _turn_back(-half_angles, vectors[..., 0], vectors[..., 2])
    return torch.stack((x, vectors[..., 1], z), dim=-1)


def _checked_joints(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    positions = np.asarray(joints, dtype=np.float64)
    if positions.ndim != 3 or positions.shape[1:] != (skeleton.num_joints, 3):
        raise ValueError(f"joints have shape {positions.shape}, expected [F, {skeleton.num_joints}, 3]")
    if len(positions) < 2:
        raise UserError(f"joints have {len(positions)} frames, at least 2 are needed for velocities")
    if not np.isfinite(positions).all():
        frame = int(np.argwhere(~np.isfinite(positions))[0, 0])
        raise UserError(f"joints of frame {frame} are not finite")
    return positions


def _check_bones(joints: np.ndarray, skeleton: Skeleton) -> None:
    names = skeleton.joint_names
    for child, parent in enumerate(skeleton.parents):
        missing = (joints[:, child] == joints[:, parent]).all(axis=-1)
        if parent >= 0 and missing.any():
            frame = int(np.argmax(missing))
            raise UserError(f"joints: bone {names[parent]} -> {names[child]} has zero length in frame {frame}")


def _check_width(features: Tensor, skeleton: Skeleton) -> None:
    if features.ndim < 2 or features.shape[-1] != skeleton.num_features:
        shape = tuple(features.shape)
        raise ValueError(f"features have shape {shape}, expected [..., T, {skeleton.num_features}] for {skeleton.name}")
