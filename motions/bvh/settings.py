"""Options for the conversion of BVH files to motions."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from motions.settings import Settings


class BvhSettings(Settings):
    """Options for the conversion of BVH files to motions."""

    mapping: Path | None = None
    """YAML or JSON file that maps joints of HumanML3D to joints of the BVH files, one a line, as in `left_hip:
    LeftUpLeg`; null interpolates a joint between its neighbours. Joints that are not listed are recognised by their
    names."""

    scale: float | None = Field(default=None, gt=0)
    """Metres per unit of the files, such as 0.01 for centimetres. By default it follows from the length of the legs."""

    up_axis: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """Axis that points up in the files. `auto`: the direction from ankles to necks, over all files together."""

    negate_x: bool = False
    """Negate the x coordinates of the files, which mirrors them in space: for files with left-handed axes."""

    retarget: bool = True
    """Give every motion the bone lengths of HumanML3D's skeleton, as HumanML3D does; false keeps the original ones."""

    floor: Literal["clip", "file"] = "clip"
    """Where the floor is: `clip` puts it under the lowest joint of each clip, as HumanML3D does; `file` under the
    lowest joint of the whole file, for clips cut from the middle of a jump."""

    mirror: bool = True
    """Add a mirrored copy of every clip, with left and right swapped in its captions."""

    official_heading: bool = False
    """Keep two artefacts of HumanML3D's processing: the heading jumps at the first frame and where it passes 180
    degrees. Use it for clips that are added to HumanML3D itself."""

    max_frames: int = Field(default=196, ge=80, le=199)
    """Clips longer than this many frames (at 20 per second) are cut into equal parts; MDM and kinetune train on clips
    of 40 to 199 frames."""
