"""Reads BVH motion capture files: any hierarchy, any channel order, joint positions at any time.

Variants that occur in practice are accepted: joint names with spaces (3ds Max), braces on a line with other words,
keywords in any case, several roots, joints with fewer than three rotations, one row more or fewer than the header
says. Position channels in a joint replace its OFFSET, as in the root, or are added to it: exporters do either, and the
numbers show which. Rotations between frames are interpolated spherically, so bones keep their lengths when a clip is
resampled. A malformed file raises an error that names the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from motions.base.errors import UserError
from motions.base.foreign_files import decode_text, foreign_kind
from motions.bvh.hierarchy import MOST, BvhError, Node, parse_hierarchy
from motions.skeleton import rotations

_NAME_ENCODINGS = ("cp932", "latin-1")
"""Encodings of joint names in files that are not Unicode: Shift-JIS (MikuMikuDance), else Latin-1, which fits all."""


@dataclass(frozen=True, eq=False)
class Bvh:
    """The hierarchy and the frames of a BVH file.

    Example:
        clip = read_bvh("walk.bvh")
        joints = clip.positions(np.arange(0.0, clip.duration, 1 / 20))
    """

    name: str
    nodes: tuple[Node, ...]
    """Parents before children; the root is first."""
    values: np.ndarray
    """[F, C] float64, channels of all nodes in order; degrees and the file's length unit."""
    frame_time: float
    """Seconds per frame."""
    notes: tuple[str, ...] = ()
    """What was peculiar about the file and is taken as it stands."""

    @property
    def num_frames(self) -> int:
        """Number F of frames."""
        return len(self.values)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return (self.num_frames - 1) * self.frame_time

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints, without end sites."""
        return tuple(node.name for node in self.nodes if not node.is_end)

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """The columns of `values` that each node's channels are in."""
        ends = np.cumsum([0, *(len(node.channels) for node in self.nodes)]).tolist()
        return tuple(slice(*edge) for edge in pairwise(ends))

    @cached_property
    def adds_positions(self) -> bool:
        """Whether the position channels of joints below a root are added to their OFFSET instead of replacing it.

        They are added if most of the joints that have both have zeros there, or numbers that are nearer to zero than to
        the OFFSET and change: a position that never changes is the length of a bone.
        """
        votes = 0
        for node, columns in zip(self.nodes, self.columns, strict=True):
            axes = ["XYZ".index(channel[0]) for channel in node.channels if channel.endswith("position")]
            offset = np.array(node.offset)[axes]
            if node.parent < 0 or len(axes) < 3 or not offset.any():
                continue
            places = [channel.endswith("position") for channel in node.channels]
            values = self.values[:, columns][:, places]
            size = float(np.abs(values).max())
            if size < 1e-3 * float(np.abs(offset).max()):
                votes += 1
            elif float(np.ptp(values, axis=0).max()) < 1e-3 * size:
                votes -= 1
            else:
                nearer = np.linalg.norm(values, axis=1).sum() < np.linalg.norm(values - offset, axis=1).sum()
                votes += 1 if nearer else -1
        return votes > 0

    def largest_rotation(self) -> float:
        """Largest absolute number in the rotation channels."""
        turns = [channel.endswith("rotation") for node in self.nodes for channel in node.channels]
        return float(np.abs(self.values[:, turns]).max()) if any(turns) else 0.0

    def with_radians(self) -> Bvh:
        """The same file with its rotations taken as radians."""
        turns = np.array([channel.endswith("rotation") for node in self.nodes for channel in node.channels])
        return replace(self, values=np.where(turns, np.rad2deg(self.values), self.values))

    def index(self, node_name: str) -> int:
        """Index of a node by name. Raises ValueError where there is none."""
        return [node.name for node in self.nodes].index(node_name)

    def path(self, node: int) -> list[int]:
        """Indices of the nodes from the root down to a node, both included."""
        path = [node]
        while self.nodes[path[-1]].parent >= 0:
            path.append(self.nodes[path[-1]].parent)
        return path[::-1]

    def rest_positions(self) -> np.ndarray:
        """Global positions [N, 3] of all nodes without any rotation and with the root at the origin, in file units."""
        places: list[np.ndarray] = []
        for node in self.nodes:
            places.append(np.zeros(3) if node.parent < 0 else places[node.parent] + np.array(node.offset))
        return np.stack(places)

    def positions(self, times: np.ndarray) -> np.ndarray:
        """Global positions [T, N, 3] of all nodes at `times` [T], seconds from the first frame, in file units.

        Times beyond either end give the first or the last frame.
        """
        translations, quats = self._local_pose(times)
        world: list[torch.Tensor] = []
        turns: list[torch.Tensor] = []
        for index, node in enumerate(self.nodes):
            if node.parent < 0:
                world.append(translations[:, index])
                turns.append(quats[:, index])
                continue
            turn = turns[node.parent]
            world.append(world[node.parent] + rotations.quat_rotate(turn, translations[:, index]))
            turns.append(turn if node.is_end else rotations.quat_multiply(turn, quats[:, index]))
        return torch.stack(world, dim=1).numpy()

    def _local_pose(self, times: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Translations [T, N, 3] and rotations [T, N, 4] relative to the parents."""
        place = np.clip(np.asarray(times, dtype=np.float64) / self.frame_time, 0.0, self.num_frames - 1)
        # A time computed as a multiple of the frame time must give exactly that frame, despite rounding.
        place = np.where(np.abs(place - np.rint(place)) < 1e-6, np.rint(place), place)
        before = np.floor(place).astype(np.int64)
        after = np.minimum(before + 1, self.num_frames - 1)
        share = torch.from_numpy(place - before)[:, None]
        start_translations, start_quats = self._decode(self.values[before])
        end_translations, end_quats = self._decode(self.values[after])
        translations = torch.lerp(start_translations, end_translations, share[..., None])
        return translations, rotations.quat_slerp(start_quats, end_quats, share.expand(start_quats.shape[:-1]))

    def _decode(self, values: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.from_numpy(values)
        offsets = torch.tensor([node.offset for node in self.nodes], dtype=torch.float64)
        added = self.adds_positions
        translations = offsets.expand(len(rows), -1, -1).clone()
        quats = torch.zeros((len(rows), len(self.nodes), 4), dtype=torch.float64)
        quats[..., 0] = 1.0
        column = 0
        for index, node in enumerate(self.nodes):
            axes = ""
            degrees = []
            for channel in node.channels:
                if channel.endswith("position"):
                    axis = "XYZ".index(channel[0])
                    start = node.offset[axis] if added and node.parent >= 0 else 0.0
                    translations[:, index, axis] = start + rows[:, column]
                else:
                    axes += channel[0]
                    degrees.append(rows[:, column])
                column += 1
            if axes:
                quats[:, index] = rotations.euler_to_quat(torch.stack(degrees, dim=-1), axes)
        return translations, quats


def read_bvh(path: str | Path) -> Bvh:
    """Reads a BVH file. Raises BvhError naming file and line."""
    path = Path(path)
    try:
        kind = foreign_kind(path)
        content = path.read_bytes()
    except OSError as error:
        raise BvhError(f"{path}: {error.strerror or error}") from error
    if kind is not None:
        raise BvhError(f"{path} is {kind}")
    return parse_bvh(_decode_names(content, str(path)), str(path))


def _decode_names(content: bytes, name: str) -> str:
    """The text of a file, of which only the names of joints can be other than ASCII."""
    try:
        return decode_text(content, name)
    except UserError:
        japanese, western = _NAME_ENCODINGS
        try:
            return content.decode(japanese)
        except UnicodeDecodeError:
            return content.decode(western)


def parse_bvh(text: str, name: str) -> Bvh:
    """Parses the text of a BVH file; `name` is used in messages. Raises BvhError naming the line."""
    lines = text.splitlines()
    motion = next((number for number, line in enumerate(lines) if line.strip().upper() == "MOTION"), None)
    if motion is None:
        raise BvhError(f"{name}:{len(lines)}: no MOTION section: the file is cut off or no BVH")
    nodes = parse_hierarchy(name, lines, motion)
    num_frames, frame_time, first = _motion_header(name, lines, motion)
    values = _motion_rows(name, lines, first, sum(len(node.channels) for node in nodes))
    notes = []
    if abs(len(values) - num_frames) == 1:
        notes.append(f"'Frames:' says {num_frames}, but there are {len(values)} rows; all are taken")
    elif len(values) != num_frames:
        raise BvhError(f"{name}:{len(lines)}: {len(values)} frames, but 'Frames:' promises {num_frames}")
    bvh = Bvh(name, nodes, values, frame_time, tuple(notes))
    if bvh.adds_positions:
        return replace(bvh, notes=(*notes, "the position channels of its joints are added to their OFFSET"))
    return bvh


def _motion_header(name: str, lines: list[str], motion: int) -> tuple[int, float, int]:
    """Number of frames, frame time in seconds, and index of the line behind it."""
    values: dict[str, float] = {}
    number = motion + 1
    for key in ("Frames", "Frame Time"):
        while number < len(lines) and not lines[number].strip():
            number += 1
        line = lines[number] if number < len(lines) else ""
        label, _, value = line.partition(":")
        if " ".join(label.split()).lower() != key.lower():
            raise BvhError(f"{name}:{number + 1}: expected '{key}:', found {line.strip()[:40]!r}")
        try:
            values[key] = float(value)
        except ValueError:
            values[key] = math.nan
        if not (math.isfinite(values[key]) and values[key] > 0):
            raise BvhError(f"{name}:{number + 1}: {key} is {value.strip()!r}, expected a positive number")
        number += 1
    return int(values["Frames"]), values["Frame Time"], number


def _motion_rows(name: str, lines: list[str], first: int, num_channels: int) -> np.ndarray:
    """Channel values [F, C] of the lines from `first` on."""
    rows = []
    for number in range(first, len(lines)):
        words = lines[number].split()
        if not words:
            continue
        if len(words) != num_channels:
            raise BvhError(f"{name}:{number + 1}: {len(words)} values, the hierarchy has {num_channels} channels")
        try:
            row = np.array(words, dtype=np.float64)
        except ValueError as error:
            raise BvhError(f"{name}:{number + 1}: {error}") from None
        if not np.isfinite(row).all():
            raise BvhError(f"{name}:{number + 1}: value {int(np.argmin(np.isfinite(row))) + 1} is not finite")
        if np.abs(row).max(initial=0.0) > MOST:
            worst = int(np.abs(row).argmax())
            raise BvhError(
                f"{name}:{number + 1}: value {worst + 1} is {row[worst]:g}, beyond {MOST:g}, which no recording has"
            )
        rows.append(row)
    if not rows:
        raise BvhError(f"{name}:{len(lines)}: no frames: the file is cut off")
    return np.stack(rows)
