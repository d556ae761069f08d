"""How BVH files become motions."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from motions.settings import Settings


class BvhSettings(Settings):
    """How BVH files become motions."""

    mapping: Path | None = None
    """YAML or JSON file of lines `left_hip: LeftUpLeg` that name joints of the BVH files for HumanML3D's; null places
    one between its neighbours. Joints that it does not name are recognised by their names."""

    scale: float | None = Field(default=None, gt=0)
    """Metres per unit of the files, such as 0.01 for centimetres. By default it follows from the length of the legs."""

    up_axis: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """Axis that points up in the files. `auto`: the one from ankles to necks, over all files together."""

    negate_x: bool = False
    """Mirror the files in space, for left-handed axes."""

    retarget: bool = True
    """Give every motion the bone lengths of HumanML3D's skeleton, as HumanML3D does; false keeps the performers'."""

    floor: Literal["clip", "file"] = "clip"
    """Where the floor is: under the lowest joint of each clip, as in HumanML3D, or of the whole file, for clips cut
    from the middle of a jump."""

    mirror: bool = True
    """Add a mirrored copy of every clip, with left and right swapped in its captions."""

    official_heading: bool = False
    """Keep HumanML3D's two jumps of the heading, at the first frame and where it passes 180 degrees: for clips that are
    added to HumanML3D itself."""

    max_frames: int = Field(default=196, ge=80, le=199)
    """Longer clips (at 20 frames per second) are cut into equal parts; MDM and this project read clips of 40 to 199."""
