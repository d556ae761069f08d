"""A motion on its way into a file: joints, skeleton, frame rate and what it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from motions.base.errors import UserError
from motions.skeleton.skeletons import Skeleton


@dataclass(frozen=True, eq=False)
class Motion:
    """One person's motion.

    Raises:
        UserError: joints of another shape, without a frame, or with a number that is not finite.
    """

    name: str
    """Names the motion's files and its animation: letters, digits, `.`, `-` and `_`."""
    joints: np.ndarray
    """[T, J, 3] metres, y up, facing +z at heading 0."""
    skeleton: Skeleton
    fps: float
    spans: tuple[tuple[str, int, int], ...] = ()
    """Texts, each with the first frame and the end of the frames that it describes."""
    turns: np.ndarray | None = None
    """[T, 22, 4] unit quaternions (w, x, y, z): the rotations of SMPL's first 22 joints that the file has, each in its
    parent's frame and the pelvis in the world; None where only positions are known."""

    def __post_init__(self) -> None:
        shape = self.joints.shape
        if len(shape) != 3 or shape[1:] != (self.skeleton.num_joints, 3) or not shape[0]:
            raise UserError(
                f"{self.name}: joints are {list(shape)}; a motion of {self.skeleton.name} is "
                f"[1 or more, {self.skeleton.num_joints}, 3]"
            )
        if not np.isfinite(self.joints).all():
            frame = int(np.argwhere(~np.isfinite(self.joints))[0, 0])
            raise UserError(f"{self.name}: a joint of frame {frame} is not finite")

    @property
    def title(self) -> str:
        """What a person reads above the motion: its texts, else its name."""
        return ", then ".join(text for text, _, _ in self.spans) or self.name

    @property
    def captions(self) -> list[str]:
        """The text of each frame."""
        captions = [""] * len(self.joints)
        for text, start, end in self.spans:
            captions[start:end] = [text] * len(captions[start:end])
        return captions


def file_name(text: str) -> str:
    """A name for files made from any text."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:80] or "motion"
