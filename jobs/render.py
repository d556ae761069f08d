"""Films a simulated scene: shadows, motion blur, depth of field, colour; as an MP4 (H.264) that browsers play.

    python -m jobs.render --simulation outputs/simulated
    python -m jobs.render --simulation outputs/simulated --camera follow --width 1280 --height 720 --overwrite
    python -m jobs.render --simulation outputs/simulated --renderer tiny --sub_frames 1 --focus_blur_px 0

MuJoCo renders without a screen (EGL or OSMesa, in a process of its own); where there is no GL library, PyBullet's
software renderer does, which takes longer. The external help that held the humanoid up is written on every frame.
Written are `film.mp4` and `film.png`, six frames of it side by side. The same recording and options give the same
pictures on one machine.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.settings import RenderConfig

run = cli.later("jobs.scenes.filming:run")
plan = cli.later("jobs.scenes.filming:plan")

if __name__ == "__main__":
    sys.exit(cli.main(RenderConfig, run, __doc__, "jobs.render", plan=plan))
