"""Reads DeepMimic motion clips (JSON with rows of 44 numbers) and gives pose and velocity at any time.

Rotations stay quaternions and a clip is immutable. Times are cumulative sums of the stored durations, so clips with
uneven durations play correctly. On load every quaternion is normalised (the stored ones have norms from .58 to 1.12)
and signs are flipped so that neighbouring frames have non-negative dot products. World frame of the files: y up, facing
+x, z to the character's right.

Example:
    clip = load_clip("walk")
        pose = clip.pose(torch.arange(0, 5, 1 / 20))      # cyclic clips repeat
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import logging
import math
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.humanoid.kinematics import BALL_BODIES
from motions.skeleton.rotations import (
    quat_from_rotation_vector,
    quat_inverse,
    quat_multiply,
    quat_rotate,
    quat_slerp,
    quat_to_rotation_vector,
)

logger = logging.getLogger(__name__)

NUM_COLUMNS = 44
CLIP_NAMES: tuple[str, ...] = (
    "backflip",
    "cartwheel",
    "crawl",
    "dance_a",
    "dance_b",
    "getup_facedown",
    "getup_faceup",
    "jump",
    "kick",
    "punch",
    "roll",
    "run",
    "spin",
    "spinkick",
    "walk",
)
"""The humanoid clips that come with the PyPI package `pybullet`."""

_BALL_COLUMNS = (4, 8, 12, 16, 21, 25, 30, 35, 39)
_HINGE_COLUMNS = (20, 29, 34, 43)
_ZERO_NORM = 1e-3
_LEAST_NORM, _MOST_NORM = 0.5, 1.5
"""Of a rotation's four numbers; those of the built-in clips have .58 to 1.12."""


class ClipError(UserError):
    """A motion clip is unknown, unreadable or malformed; the message names the file and the row."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Poses at some times: `root_positions` [..., 3], `ball_rotations` [..., 9, 4] (w, x, y, z, local to the parent, in
    the order of `humanoid.BALL_BODIES`), `hinge_angles` [..., 4] (`humanoid.HINGE_BODIES`)."""

    root_positions: Tensor
    ball_rotations: Tensor
    hinge_angles: Tensor


@dataclass(frozen=True, slots=True)
class Velocity:
    """Velocities at some times, per second: `root_linear` [..., 3] in the world; `ball_angular` [..., 9, 3], row 0 (the
    root) in the world, the others in the joint's own frame; `hinge_rates` [..., 4]."""

    root_linear: Tensor
    ball_angular: Tensor
    hinge_rates: Tensor


@dataclass(frozen=True, eq=False)
class MocapClip:
    """N key frames of the DeepMimic humanoid, float64.

    `times` [N] starts at 0. The rotations are unit quaternions with non-negative dot products between neighbouring
    frames.
    """

    name: str
    cyclic: bool
    times: Tensor
    root_positions: Tensor
    ball_rotations: Tensor
    hinge_angles: Tensor

    @property
    def num_frames(self) -> int:
        """Number N of key frames."""
        return len(self.times)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last key frame (N - 1 intervals); the cycle time of a cyclic clip."""
        return float(self.times[-1])

    @property
    def cycle_offset(self) -> Tensor:
        """Last minus first root position [3]: the displacement of the root per cycle."""
        return self.root_positions[-1] - self.root_positions[0]

    @property
    def cycle_yaw(self) -> float:
        """Turn about the vertical from the first to the last root rotation, radians in (-pi, pi]."""
        turn = quat_multiply(self.ball_rotations[-1, 0], quat_inverse(self.ball_rotations[0, 0]))
        yaw = 2.0 * math.atan2(float(turn[2]), float(turn[0]))
        return math.pi - (math.pi - yaw) % math.tau

    def phase(self, times: Tensor) -> Tensor:
        """Fraction of the cycle [...] in [0, 1), also for negative times; other clips are clamped at their ends."""
        share = times.to(torch.float64) / self.duration
        return (share - torch.floor(share)) % 1.0 if self.cyclic else share.clamp(0.0, 1.0)

    def seam_gaps(self, *, keep_heading: bool = False) -> Tensor:
        """Angles [13] (radians) between last and first frame: 9 ball rotations, 4 hinges.

        A large angle is a jump, and a velocity spike, wherever a cyclic clip repeats. With `keep_heading` the root's
        rotation about the vertical does not count.
        """
        turn = quat_multiply(quat_inverse(self.ball_rotations[0]), self._last_rotations(keep_heading))
        hinges = (self.hinge_angles[-1] - self.hinge_angles[0]).abs()
        return torch.cat((quat_to_rotation_vector(turn).norm(dim=-1), hinges))

    def pose(self, times: Tensor, *, keep_height: bool = False, keep_heading: bool = False) -> Pose:
        """Poses at `times` [...] in seconds.

        Positions and hinge angles are interpolated linearly, rotations spherically. Beyond its ends a cyclic clip
        continues from where the last cycle left the root: horizontally, as in DeepMimic; with `keep_height` also
        vertically, as in pybullet; with `keep_heading` each cycle also starts facing where the last one ended. Other
        clips keep their first or last pose.
        """
        cycles, low, blend = self._locate(times)
        share = blend.unsqueeze(-1)
        position = torch.lerp(self.root_positions[low], self.root_positions[low + 1], share)
        balls = quat_slerp(self.ball_rotations[low], self.ball_rotations[low + 1], share)
        hinges = torch.lerp(self.hinge_angles[low], self.hinge_angles[low + 1], share)
        if not self.cyclic:
            return Pose(position, balls, hinges)
        for count in torch.unique(cycles).tolist():
            here = cycles == count
            yaw, shift = self._after_cycles(count, keep_height, keep_heading)
            position[here] = quat_rotate(yaw, position[here]) + shift
            balls[..., 0, :][here] = quat_multiply(yaw.expand_as(balls[..., 0, :][here]), balls[..., 0, :][here])
        return Pose(position, balls, hinges)

    def velocity(self, times: Tensor) -> Velocity:
        """Velocities at `times` [...]: those of the two neighbouring key frames, blended linearly; zero outside a clip
        that does not repeat."""
        _, low, blend = self._locate(times)
        moving = torch.ones_like(blend)
        if not self.cyclic:
            moving = ((times >= 0.0) & (times <= self.duration)).to(torch.float64)
        frames = self.frame_velocities

        def at(values: Tensor) -> Tensor:
            shape = blend.shape + (1,) * (values.dim() - 1)
            return torch.lerp(values[low], values[low + 1], blend.reshape(shape)) * moving.reshape(shape)

        return Velocity(at(frames.root_linear), at(frames.ball_angular), at(frames.hinge_rates))

    @cached_property
    def frame_velocities(self) -> Velocity:
        """Velocities of the N key frames: forward differences over the frame's duration; the last repeats the one
        before.

        The duration stored in the last row (0 in most files) is never used.
        """
        steps = self.times.diff().unsqueeze(-1)
        now, then = self.ball_rotations[:-1], self.ball_rotations[1:]
        turns = quat_to_rotation_vector(quat_multiply(quat_inverse(now), then))
        turns[:, 0] = quat_to_rotation_vector(quat_multiply(then[:, 0], quat_inverse(now[:, 0])))
        return Velocity(
            _repeat_last(self.root_positions.diff(dim=0) / steps),
            _repeat_last(turns / steps.unsqueeze(-1)),
            _repeat_last(self.hinge_angles.diff(dim=0) / steps),
        )

    def with_blended_seam(self, seconds: float, *, keep_heading: bool = False) -> MocapClip:
        """The same clip with the jump at its seam spread over `seconds` before and after it.

        End and start of the cycle are blended smoothly towards the mean of the two poses. Horizontal travel is
        unchanged; so is the heading with `keep_heading`, for use with the same option of `pose`.

        Raises:
            UserError: the clip does not repeat, or `seconds` is not in (0, duration / 2].
        """
        if not self.cyclic:
            raise UserError(f"{self.name} does not repeat: it has no seam to blend")
        if not 0.0 < seconds <= self.duration / 2:
            raise UserError(f"seconds is {seconds}; legal for {self.name}: (0, {self.duration / 2:.3f}]")
        late = _smooth(1.0 - (self.duration - self.times) / seconds)
        early = _smooth(1.0 - self.times / seconds)
        # Half of the correction, in the joint's own frame, is added before the seam and subtracted after it.
        share = 0.5 * (late - early).unsqueeze(-1)
        end = self._last_rotations(keep_heading)
        gap = quat_to_rotation_vector(quat_multiply(quat_inverse(end), self.ball_rotations[0]))
        balls = quat_multiply(self.ball_rotations, quat_from_rotation_vector(share.unsqueeze(-1) * gap))
        positions = self.root_positions.clone()
        positions[:, 1] += share[:, 0] * (positions[0, 1] - positions[-1, 1])
        hinges = self.hinge_angles + share * (self.hinge_angles[0] - self.hinge_angles[-1])
        return replace(self, root_positions=positions, ball_rotations=same_side(balls), hinge_angles=hinges)

    def _last_rotations(self, keep_heading: bool) -> Tensor:
        """Ball rotations [9, 4] of the last frame; with `keep_heading` the root is rotated back by the cycle's turn."""
        last = self.ball_rotations[-1].clone()
        if keep_heading:
            last[0] = quat_multiply(_yaw_quaternion(-self.cycle_yaw), last[0])
        return last

    def _locate(self, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cycle number, index of the previous key frame (at most N - 2), and fraction of its interval, each [...]."""
        times = times.to(torch.float64)
        cycles = torch.floor(times / self.duration) if self.cyclic else torch.zeros_like(times)
        inside = (times - cycles * self.duration).clamp(0.0, self.duration)
        low = (torch.searchsorted(self.times, inside, right=True) - 1).clamp(0, self.num_frames - 2)
        blend = (inside - self.times[low]) / (self.times[low + 1] - self.times[low])
        return cycles.long(), low, blend.clamp(0.0, 1.0)

    def _after_cycles(self, count: int, keep_height: bool, keep_heading: bool) -> tuple[Tensor, Tensor]:
        """Rotation [4] and translation [3] that take a root pose of the first cycle to cycle number `count`."""
        offset = self.cycle_offset
        if not keep_height:
            offset = offset * offset.new_tensor([1.0, 0.0, 1.0])
        if not keep_heading:
            return _yaw_quaternion(0.0), count * offset
        # One cycle moves p to turn(p - first) + first + offset. Apply that `count` times; negative counts invert it.
        first = self.root_positions[0] * self.root_positions.new_tensor([1.0, 0.0, 1.0])
        turn = _yaw_quaternion(self.cycle_yaw)
        place = first
        for _ in range(abs(count)):
            if count > 0:
                place = quat_rotate(turn, place - first) + first + offset
            else:
                place = quat_rotate(quat_inverse(turn), place - first - offset) + first
        total = _yaw_quaternion(count * self.cycle_yaw)
        return total, place - quat_rotate(total, first)


def clips_folder() -> Path:
    """Folder in which the installed `pybullet_data` keeps its clips; the physics engine is not imported.

    Raises:
        ClipError: the package is not installed or has no such folder.
    """
    spec = importlib.util.find_spec("pybullet_data")
    if spec is None or spec.origin is None:
        raise ClipError("the built-in clips are data of the PyPI package pybullet, which is not installed")
    folder = Path(spec.origin).parent / "data" / "motions"
    if not folder.is_dir():
        raise ClipError(f"the installed pybullet_data has no folder {folder}")
    return folder


def load_clip(name: str) -> MocapClip:
    """One of the 15 built-in clips by its name, such as "walk" or "getup_faceup".

    Raises:
        ClipError: unknown name (the message suggests the nearest) or malformed file.
    """
    if name not in CLIP_NAMES:
        near = difflib.get_close_matches(name, CLIP_NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ClipError(f"unknown clip {name!r}.{hint} Built in: {', '.join(CLIP_NAMES)}")
    return read_clip(clips_folder() / f"humanoid3d_{name}.txt", name)


def read_clip(path: str | Path, name: str | None = None) -> MocapClip:
    """Reads a DeepMimic motion file. Keys other than `Loop` and `Frames` are ignored.

    Raises:
        ClipError: no such file, a folder, not JSON, no frames, a row that is not 44 finite numbers, a duration that is
            positive (that of the last row has no meaning and is not checked), or a quaternion of norm zero.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError as error:
        raise ClipError(f"there is no motion file {path}") from error
    except IsADirectoryError as error:
        raise ClipError(f"{path} is no motion file, it is a folder") from error
    except json.JSONDecodeError as error:
        raise ClipError(f"{path} is not a motion file: {error}") from error
    except UserError as error:
        raise ClipError(str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("Frames"), list):
        raise ClipError(f"{path} is not a motion file: no list 'Frames'")
    loop = content.get("Loop", "none")
    if loop not in ("wrap", "none"):
        raise ClipError(f"{path}: Loop is {loop!r}; legal: 'wrap', 'none'")
    rows = _rows(path, content["Frames"])
    durations = rows[:-1, 0]
    if (durations <= 0.0).any():
        row = int((durations <= 0.0).nonzero()[0])
        raise ClipError(f"{path}: row {row} lasts {durations[row]:g} s; every row but the last must last more than 0 s")
    quaternions = torch.stack([rows[:, column : column + 4] for column in _BALL_COLUMNS], dim=1)
    norms = quaternions.norm(dim=-1, keepdim=True)
    for row, body in (norms[..., 0] < _ZERO_NORM).nonzero().tolist():
        raise ClipError(f"{path}: row {row}: the rotation of {BALL_BODIES[body]} is a quaternion of norm zero")
    off = (norms[..., 0] < _LEAST_NORM) | (norms[..., 0] > _MOST_NORM)
    if off.any():
        row, body = off.nonzero()[0].tolist()
        warn_once(
            f"{path}: row {row}: the rotation of {BALL_BODIES[body]} is a quaternion of norm "
            f"{float(norms[row, body]):.3g}, which is taken for one of norm 1; is it another order of columns?"
        )
    return MocapClip(
        name=name or path.stem,
        cyclic=loop == "wrap",
        times=torch.cat((durations.new_zeros(1), durations.cumsum(0))),
        root_positions=rows[:, 1:4],
        ball_rotations=same_side(quaternions / norms),
        hinge_angles=rows[:, list(_HINGE_COLUMNS)],
    )


@cache
def warn_once(text: str) -> None:
    """Logs a warning, the same text only once."""
    logger.warning("warning: %s", text)


def _rows(path: Path, frames: list[object]) -> Tensor:
    """The frames as [N, 44] float64, N at least 2, all finite."""
    if len(frames) < 2:
        raise ClipError(f"{path} has {len(frames)} frames; a motion needs at least 2")
    for index, row in enumerate(frames):
        width = len(row) if isinstance(row, list) else 0
        if width != NUM_COLUMNS:
            raise ClipError(f"{path}: row {index} has {width} numbers; a humanoid frame has {NUM_COLUMNS}")
    try:
        rows = torch.tensor(frames, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ClipError(f"{path}: a frame holds something that is not a number: {error}") from error
    for row, column in (~torch.isfinite(rows)).nonzero().tolist():
        raise ClipError(f"{path}: row {row}, column {column} is {rows[row, column]}; every number must be finite")
    return rows


def same_side(quaternions: Tensor) -> Tensor:
    """Flips signs along axis 0 so that neighbours [N, J, 4] never lie on opposite sides (q and -q are one rotation)."""
    dots = (quaternions[1:] * quaternions[:-1]).sum(-1, keepdim=True)
    signs = torch.where(dots < 0.0, -1.0, 1.0).cumprod(0)
    return torch.cat((quaternions[:1], quaternions[1:] * signs))


def _yaw_quaternion(angle: float) -> Tensor:
    return torch.tensor([math.cos(angle / 2), 0.0, math.sin(angle / 2), 0.0], dtype=torch.float64)


def _repeat_last(values: Tensor) -> Tensor:
    return torch.cat((values, values[-1:]))


def _smooth(share: Tensor) -> Tensor:
    """Smoothstep of `share` clipped to [0, 1]: the velocity does not jump where a blend starts."""
    share = share.clamp(0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)
