"""Z-normalisation of feature vectors, with the statistics files of HumanML3D, the evaluators and TMR.

Three sets of statistics are in use and must not be mixed: MDM trains with `Mean.npy`/`Std.npy` (standard deviations
averaged within feature groups), the evaluators of Guo et al. have their own pair, and TMR has `mean.pt`/`std.pt` (one
standard deviation per feature, eps 1e-12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from motions.base.errors import UserError
from motions.base.safe_files import read_npy, read_tensor_file
from motions.skeleton.features import FeatureLayout
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton

Array = TypeVar("Array", np.ndarray, torch.Tensor)


@dataclass(frozen=True, eq=False)
class Normalizer:
    """(x - mean) / (std + eps) and back, on NumPy arrays and torch tensors [..., D].

    Raises ValueError at construction where the statistics are not two finite vectors of one width, and at use where
    the width differs; UserError where a std is not positive (a feature that never changes).

    Example:
        normalizer = Normalizer.load("Mean.npy", "Std.npy")
        normalizer.denormalize(normalizer.normalize(features))
    """

    mean: np.ndarray
    """Mean per feature, [D] float32."""
    std: np.ndarray
    """Standard deviation per feature, [D] float32."""
    eps: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            array = np.array(getattr(self, name), dtype=np.float32)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
            if array.ndim != 1 or array.size == 0:
                raise ValueError(f"{name} has shape {array.shape}, expected one number per feature")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}[{int(np.argmin(np.isfinite(array)))}] is not finite")
        if self.mean.shape != self.std.shape:
            raise ValueError(f"mean has {self.mean.size} numbers but std has {self.std.size}")
        if not (self.std > 0).all():
            index = int(np.argmax(self.std <= 0))
            raise UserError(f"std[{index}] is {self.std[index]}, expected a positive number{_meaning(index, self.std)}")
        if not self.eps >= 0:
            raise ValueError(f"eps is {self.eps}, expected 0 or more")

    @property
    def num_features(self) -> int:
        """Number D of features."""
        return self.mean.size

    @property
    def num_grouped(self) -> int | None:
        """Number of different standard deviations where they are averaged within the parts of a skeleton's features, as
        in statistics of policies; None where each feature has its own."""
        for skeleton in (HUMANML3D, KIT):
            if skeleton.num_features == self.num_features:
                parts = [self.std[part] for part in FeatureLayout(skeleton.num_joints).groups]
                if all(np.ptp(part) <= 1e-6 * part.mean() for part in parts):
                    return len(parts)
        return None

    def normalize(self, x: Array) -> Array:
        """Normalises physical features [..., D], keeping type, dtype and device."""
        mean, scale = self._statistics(x)
        return (x - mean) / scale

    def denormalize(self, x: Array) -> Array:
        """Converts normalised features [..., D] to physical ones, keeping type, dtype and device."""
        mean, scale = self._statistics(x)
        return x * scale + mean

    def _statistics(self, x: Array) -> tuple[Array, Array]:
        if x.ndim == 0 or x.shape[-1] != self.num_features:
            raise ValueError(f"features have shape {tuple(x.shape)}, the statistics have width {self.num_features}")
        scale = self.std + np.float32(self.eps)
        if isinstance(x, torch.Tensor):
            mean = torch.tensor(self.mean, dtype=x.dtype, device=x.device)
            return mean, torch.tensor(scale, dtype=x.dtype, device=x.device)
        return self.mean.astype(x.dtype), scale.astype(x.dtype)

    @classmethod
    def fit(
        cls, clips: Sequence[np.ndarray], skeleton: Skeleton, *, grouped: bool = True, eps: float = 0.0
    ) -> Normalizer:
        """Statistics over all frames of clips [T, D].

        `grouped` averages the standard deviation within the parts of the vector, as HumanML3D does; without it every
        feature has its own, as in TMR. Raises ValueError for no clips or a wrong width, UserError for a
        feature that never changes.
        """
        if not clips:
            raise ValueError("clips is empty: no frames to take statistics from")
        for index, clip in enumerate(clips):
            if clip.ndim != 2 or clip.shape[1] != skeleton.num_features or not len(clip):
                raise ValueError(f"clip {index} has shape {clip.shape}, expected [T, {skeleton.num_features}]")
        frames = np.concatenate(clips).astype(np.float64)
        return cls(frames.mean(axis=0), _grouped(frames.std(axis=0), skeleton, grouped), eps)

    @classmethod
    def load(
        cls, mean_path: str | Path, std_path: str | Path, *, eps: float = 0.0, num_features: int | None = None
    ) -> Normalizer:
        """Reads two statistics files, .npy or .pt (a tensor), without unpickling arbitrary objects.

        Raises UserError naming the file for another ending, another content or, given `num_features`, another width.
        """
        arrays = []
        for path in (Path(mean_path), Path(std_path)):
            array = _read(path)
            if num_features is not None and array.shape != (num_features,):
                raise UserError(f"{path}: shape {array.shape}, expected ({num_features},)")
            arrays.append(array)
        try:
            return cls(arrays[0], arrays[1], eps)
        except ValueError as error:
            raise UserError(f"{mean_path}, {std_path}: {error}") from None

    def save(self, folder: str | Path) -> None:
        """Writes `Mean.npy` and `Std.npy` (float32) into a folder that exists."""
        np.save(Path(folder) / "Mean.npy", self.mean)
        np.save(Path(folder) / "Std.npy", self.std)


class RunningStatistics:
    """Mean and standard deviation of the frames of clips that are seen one after the other, in float64."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.num_frames = 0
        self._mean = np.zeros(skeleton.num_features)
        self._squares = np.zeros(skeleton.num_features)

    def add(self, clip: np.ndarray) -> None:
        """Adds the frames of a clip [T, D]. Raises ValueError for a wrong width or no frames."""
        if clip.ndim != 2 or clip.shape[1] != self.skeleton.num_features or not len(clip):
            raise ValueError(f"clip has shape {clip.shape}, expected [T, {self.skeleton.num_features}]")
        frames = clip.astype(np.float64)
        mean, count = frames.mean(axis=0), self.num_frames + len(frames)
        # Chan, Golub and LeVeque 1983: merging the moments of two samples.
        step = mean - self._mean
        self._squares += ((frames - mean) ** 2).sum(axis=0) + step**2 * (self.num_frames * len(frames) / count)
        self._mean += step * (len(frames) / count)
        self.num_frames = count

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [D] of all frames added. Raises ValueError where there are none."""
        if not self.num_frames:
            raise ValueError("no frames to take statistics from")
        return self._mean.copy(), np.sqrt(self._squares / self.num_frames)

    def normalizer(self, *, grouped: bool = True, eps: float = 0.0) -> Normalizer:
        """The statistics of all frames added. Raises as `Normalizer.fit`."""
        mean, std = self.moments
        return Normalizer(mean, _grouped(std, self.skeleton, grouped), eps)


def _grouped(std: np.ndarray, skeleton: Skeleton, grouped: bool) -> np.ndarray:
    """Standard deviations [D], averaged within the parts of the vector if asked for."""
    if grouped:
        for part in FeatureLayout(skeleton.num_joints).groups:
            std[part] = std[part].mean()
    return std


def _meaning(index: int, std: np.ndarray) -> str:
    """What feature a number of a skeleton's statistics belongs to, for messages; nothing for other widths."""
    for skeleton in (HUMANML3D, KIT):
        if skeleton.num_features == std.size:
            name = FeatureLayout(skeleton.num_joints).describe(index, skeleton.joint_names)
            return f": {name} never changes in the training data"
    return ""


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return read_npy(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".pt":
        value = read_tensor_file(path)
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{path}: holds a {type(value).__name__}, expected a tensor")
        return value.numpy()
    raise UserError(f"{path}: statistics are .npy or .pt")
