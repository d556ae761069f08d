"""Options for the conversion of BVH files to motions."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from motions.bvh.plausibility import Check
from motions.settings import Settings

ShortClips = Literal["refuse", "pad", "join"]


class BvhFileSettings(Settings):
    """What BVH files mean that do not say it clearly."""

    mapping: Path | None = None
    """YAML or JSON file that maps joints of HumanML3D to joints of the BVH files, one a line, as in `left_hip:
    LeftUpLeg`; null interpolates a joint between its neighbours. Joints that are not listed are recognised by their
    names."""

    root: str | None = None
    """Joint at which the body begins, for files with several people; a file with one person may lack it."""

    fps: float | None = Field(default=None, ge=5, le=1000)
    """Frames per second of the files, instead of what their headers say."""

    rotation_unit: Literal["auto", "degrees", "radians"] = "auto"
    """Unit of the rotations in the files. `auto`: degrees, and files whose numbers look like radians are refused."""

    scale: float | None = Field(default=None, gt=0)
    """Metres per unit of the files, such as 0.01 for centimetres. By default it follows from the length of the legs."""

    up_axis: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """Axis that points up in the files. `auto` decides file by file, from the body's direction, the rest pose and what
    the body stands on; where these disagree other files of the same rig decide, else the file is refused."""

    negate_x: bool = False
    """Negate the x coordinates of the files, which mirrors them in space: for files with left-handed axes."""


class BvhSettings(BvhFileSettings):
    """Options for the conversion of BVH files to motions."""

    accept: tuple[Check, ...] = ()
    """Checks of the result that warn instead of refusing a file, once you have looked at it: the word in square
    brackets behind the refusal."""

    retarget: bool = True
    """Give every motion the bone lengths of HumanML3D's skeleton, as HumanML3D does; false keeps the original ones."""

    floor: Literal["clip", "file"] = "clip"
    """Where the floor is: `clip` puts it under the lowest joint of each clip, as HumanML3D does; `file` under the
    lowest joint of the whole file, for clips cut from the middle of a jump."""

    short_clips: ShortClips = "refuse"
    """What becomes of stretches below 40 frames (2 seconds). `refuse`: they are an error. `pad`: the last pose is held.
    `join`: two neighbouring stretches of a file become one, with the captions "a, then b"."""

    mirror: bool = True
    """Add a mirrored copy of every clip, with left and right swapped in its captions. Captions with `no` in the column
    `mirror` of the table are not mirrored."""

    official_heading: bool = False
    """Keep two artefacts of HumanML3D's processing: the heading jumps at the first frame and where it passes 180
    degrees. Use it for clips that are added to HumanML3D itself."""

    max_frames: int = Field(default=196, ge=80, le=199)
    """Clips longer than this many frames (at 20 per second) are cut into equal parts; MDM and kinetune train on clips
    of 40 to 199 frames."""
