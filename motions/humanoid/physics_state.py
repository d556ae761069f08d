"""What a motion does in terms of mechanics: 64 named numbers a frame, in metres, seconds and radians, y up.

They are computed from the joints that the features say, so they exist for every motion that a policy makes, whatever
its skeleton, units and frame rate. A network that refines motions reads them (`rollouts.refining`); their order is that
of a public text-to-scene project, so that networks of the same shape can be compared, their meaning is not: there the
first velocities are differences of heights.

    gravity                        a constant, m/s^2
    root_height, its velocity and acceleration
    root_velocity_x, _y, _z        in the world
    angular_velocity_x, _y, _z     of the heading, rad/s: features hold no other turn of the root, so x and z are 0
    contact_left, contact_right    0 or 1: whether ankle or toe stands, as the features say
    com_velocity_*, com_acceleration_*  of the centre of mass
    root_displacement_*            from the first frame
    angular_momentum_*             about the centre of mass, per kg, m^2/s
    foot_height_*, foot_speed_*    lowest joint of a foot; horizontal speed of its slower joint
    com_to_support, zmp_to_support horizontal distance of the centre of mass, and of the zero-moment point, from the
                                   convex hull of the standing foot joints; 0 where none stands
    lowest_joint                   height

The rest is reserved, and 0. Velocities are central differences over one frame on either side, accelerations second
differences; the ends of a motion have the nearest difference that there is.

Masses and centres of the segments: Winter (2009), Biomechanics and Motor Control of Human Movement, table 4.1.
Zero-moment point: Vukobratovic and Borovac (2004).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.skeleton.features import FeatureLayout, recover_joints, recover_root
from motions.skeleton.skeletons import Skeleton

GRAVITY_MPS2 = -9.81
NUM_CHANNELS = 64
VERSION = 1
"""Of the channels' meaning; files hold it."""


def _axes(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_{axis}" for axis in "xyz")


_NAMED = (
    *("gravity", "root_height", "root_height_velocity", "root_height_acceleration"),
    *(*_axes("root_velocity"), *_axes("angular_velocity"), "contact_left", "contact_right"),
    *(*_axes("com_velocity"), *_axes("com_acceleration"), *_axes("root_displacement"), *_axes("angular_momentum")),
    *("foot_height_left", "foot_height_right", "foot_speed_left", "foot_speed_right"),
    *("com_to_support", "zmp_to_support", "lowest_joint"),
)
CHANNELS = (*_NAMED, *(f"reserved_{place}" for place in range(len(_NAMED), NUM_CHANNELS)))
"""Names of the channels, in order."""
UNSCALED = ("gravity", "contact_left", "contact_right", *CHANNELS[len(_NAMED) :])
"""Channels that are never normalised: contacts are 0 or 1, a constant has no spread."""

_SEGMENTS: tuple[tuple[str, str, float, float], ...] = (
    ("pelvis", "neck", 0.497, 0.5),
    ("head", "head", 0.081, 0.0),
    *(
        segment
        for side in ("left", "right")
        for segment in (
            (f"{side}_shoulder", f"{side}_elbow", 0.028, 0.436),
            # Forearm and hand.
            (f"{side}_elbow", f"{side}_wrist", 0.022, 0.682),
            (f"{side}_hip", f"{side}_knee", 0.100, 0.433),
            (f"{side}_knee", f"{side}_ankle", 0.0465, 0.433),
            (f"{side}_ankle", f"{side}_foot", 0.0145, 0.5),
        )
    ),
)
"""Upper and lower end, share of the body's mass, and the centre's place on the way from the one to the other."""
_LEAST_WEIGHT_MPS2 = 1.0
"""Least upward force per kg with which a zero-moment point is computed: in free fall there is none."""


def physics_state(features: Tensor, skeleton: Skeleton, mask: Tensor | None = None) -> Tensor:
    """The channels [B, T, 64] of physical features [B, T, D].

    Args:
        mask: [B, T] bool, True = real frame; they come first. None: all are. Other frames are 0.

    Raises ValueError where D is not the skeleton's.
    """
    metres = skeleton.metres_per_unit
    joints = recover_joints(features, skeleton) * metres
    if mask is None:
        mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
    time = _Time(mask, skeleton.fps)
    half_angles, _ = recover_root(features)
    flags = features[..., FeatureLayout(skeleton.num_joints).contacts] > 0.5
    root = joints[:, :, 0]
    segments, masses = _segments(joints, skeleton)
    com = (segments * masses[:, None]).sum(dim=2)
    com_velocity, com_acceleration = time.velocity(com), time.acceleration(com)
    around = segments - com.unsqueeze(2)
    spin = torch.linalg.cross(around, time.velocity(around)) * masses[:, None]
    feet = joints[:, :, list(skeleton.foot_joints)].unflatten(2, (2, 2))
    speeds = time.velocity(feet)[..., [0, 2]].norm(dim=-1)
    hull = _Support(feet.flatten(2, 3)[..., [0, 2]], flags)
    turn = torch.zeros_like(root)
    # The features' angle leads from the heading to +z, and is half of it.
    turn[..., 1] = time.velocity(-2.0 * half_angles.unsqueeze(2)).squeeze(2)
    parts = (
        torch.full_like(root[..., :1], GRAVITY_MPS2),
        root[..., 1:2],
        time.velocity(root)[..., 1:2],
        time.acceleration(root)[..., 1:2],
        time.velocity(root),
        turn,
        flags.unflatten(2, (2, 2)).any(dim=3).to(features.dtype),
        com_velocity,
        com_acceleration,
        root - root[:, :1],
        spin.sum(dim=2),
        feet[..., 1].amin(dim=3),
        speeds.amin(dim=3),
        hull.distance(com[..., [0, 2]]).unsqueeze(2),
        hull.distance(_zero_moment_point(com, com_acceleration)).unsqueeze(2),
        joints[..., 1].amin(dim=2, keepdim=True),
    )
    named = torch.cat(parts, dim=2)
    state = torch.nn.functional.pad(named, (0, NUM_CHANNELS - named.shape[2]))
    return torch.where(mask.unsqueeze(2), state, 0.0)


@dataclass(frozen=True, eq=False)
class StateStatistics:
    """Mean and standard deviation of the channels, those of a training split.

    Channels in `UNSCALED`, and those that never change, have mean 0 and deviation 1.
    """

    mean: np.ndarray
    """[64] float32."""
    std: np.ndarray
    """[64] float32, above 0."""

    @classmethod
    def fit(cls, clips: Iterable[np.ndarray], skeleton: Skeleton) -> StateStatistics:
        """Those of the frames of clips of physical features [T, D]. Raises ValueError where there are none."""
        count, total, squares = 0, np.zeros(NUM_CHANNELS), np.zeros(NUM_CHANNELS)
        for clip in clips:
            state = physics_state(torch.from_numpy(clip)[None], skeleton)[0].double().numpy()
            count, total, squares = count + len(state), total + state.sum(axis=0), squares + (state**2).sum(axis=0)
        if not count:
            raise ValueError("there are no clips: no frames to take statistics from")
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        plain = np.array([name in UNSCALED for name in CHANNELS]) | (std < 1e-6)
        return cls(np.where(plain, 0.0, mean).astype(np.float32), np.where(plain, 1.0, std).astype(np.float32))

    def normalize(self, state: Tensor) -> Tensor:
        """The channels [..., 64] with mean 0 and deviation 1 over the training split."""
        mean, std = (torch.from_numpy(part).to(state) for part in (self.mean, self.std))
        return (state - mean) / std

    def document(self) -> dict[str, Any]:
        """As plain values for a JSON file, with the channels' names."""
        return {"version": VERSION, "channel_names": list(CHANNELS)} | {
            name: [float(value) for value in getattr(self, name)] for name in ("mean", "std")
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any], source: str) -> StateStatistics:
        """From `document()`. Raises UserError that names `source` where that is not what it is."""
        if document.get("version") != VERSION or document.get("channel_names") != list(CHANNELS):
            raise UserError(f"{source}: its channels are not those of version {VERSION} of the physics state")
        arrays = {name: np.asarray(document.get(name), dtype=np.float32) for name in ("mean", "std")}
        for name, array in arrays.items():
            if array.shape != (NUM_CHANNELS,) or not np.isfinite(array).all():
                raise UserError(f"{source}: {name} is not {NUM_CHANNELS} finite numbers")
        if not (arrays["std"] > 0.0).all():
            raise UserError(f"{source}: std of {CHANNELS[int(np.argmin(arrays['std']))]} is not above 0")
        return cls(**arrays)


class _Time:
    """Derivatives of padded motions [B, T, ...] with respect to time."""

    def __init__(self, mask: Tensor, fps: float) -> None:
        frames = torch.arange(mask.shape[1], device=mask.device)
        self._fps = fps
        lengths = mask.sum(dim=1, keepdim=True)
        last = (lengths - 1).clamp(min=0)
        self._before = (frames - 1).clamp(min=0).minimum(last)
        self._after = (frames + 1).minimum(last)
        self._middle = frames.clamp(min=1).minimum((last - 1).clamp(min=0))
        self._has_second = lengths >= 3

    def velocity(self, values: Tensor) -> Tensor:
        """The first derivative, a second; 0 of a motion of one frame."""
        gap = (self._after - self._before).clamp(min=1)
        return (_at(values, self._after) - _at(values, self._before)) * (self._fps / _over(gap, values))

    def acceleration(self, values: Tensor) -> Tensor:
        """The second derivative, a second squared; 0 of a motion of fewer than three frames."""
        places = (self._middle - 1).clamp(min=0), self._middle, (self._middle + 1).clamp(max=values.shape[1] - 1)
        before, here, after = (_at(values, place) for place in places)
        return (after - 2.0 * here + before) * (self._fps**2 * _over(self._has_second, values))


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Frames of values [B, T, ...], at places [B, T]."""
    return values[torch.arange(len(values), device=values.device)[:, None], places]


def _over(numbers: Tensor, values: Tensor) -> Tensor:
    """Numbers [B, T or 1] as a factor of values [B, T, ...]."""
    return numbers.to(values.dtype).reshape(*numbers.shape, *(1,) * (values.ndim - 2))


def _segments(joints: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Centres [B, T, S, 3] of the body's segments, and their shares [S] of the mass."""
    uppers, lowers, shares, places = zip(*_SEGMENTS, strict=True)
    start, end = (joints[:, :, [skeleton.index(name) for name in names]] for names in (uppers, lowers))
    masses = joints.new_tensor(shares)
    return start + joints.new_tensor(places)[:, None] * (end - start), masses / masses.sum()


def _zero_moment_point(com: Tensor, acceleration: Tensor) -> Tensor:
    """Where on the floor the force of the floor has no moment [B, T, 2], for a body whose mass is at its centre."""
    upward = (acceleration[..., 1:2] - GRAVITY_MPS2).clamp(min=_LEAST_WEIGHT_MPS2)
    return com[..., [0, 2]] - com[..., 1:2] / upward * acceleration[..., [0, 2]]


class _Support:
    """Convex hull of the standing ones of K points [B, T, K, 2] on the floor."""

    def __init__(self, points: Tensor, stands: Tensor) -> None:
        self._points, self._stands = points, stands
        self._size = points.shape[2]

    def distance(self, place: Tensor) -> Tensor:
        """Distance [B, T] of places [B, T, 2] from the hull: 0 inside, and where nothing stands."""
        points, stands = self._points, self._stands
        nearest = torch.full_like(place[..., 0], torch.inf)
        # Every edge of the hull is a line between two of the points; a point alone is a line without length.
        for first, second in ((a, b) for a in range(self._size) for b in range(a, self._size)):
            start, line = points[:, :, first], points[:, :, second] - points[:, :, first]
            share = ((place - start) * line).sum(-1) / line.square().sum(-1).clamp(min=1e-12)
            away = (place - start - share.clamp(0.0, 1.0).unsqueeze(-1) * line).norm(dim=-1)
            both = stands[:, :, first] & stands[:, :, second]
            nearest = torch.where(both, nearest.minimum(away), nearest)
        inside = torch.zeros_like(stands[..., 0])
        for corners in combinations(range(self._size), 3):
            turns = torch.stack(
                [
                    _turn(points[:, :, start], points[:, :, end], place)
                    for start, end in zip(corners, (*corners[1:], corners[0]), strict=True)
                ]
            )
            within = (turns > 0.0).all(dim=0) | (turns < 0.0).all(dim=0)
            inside |= within & stands[:, :, list(corners)].all(dim=2)
        return torch.where(inside | ~stands.any(dim=2), 0.0, nearest)


def _turn(start: Tensor, end: Tensor, place: Tensor) -> Tensor:
    """On which side of a line from start to end places [..., 2] are, by the sign."""
    line, way = end - start, place - start
    return line[..., 0] * way[..., 1] - line[..., 1] * way[..., 0]
