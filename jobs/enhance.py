"""Paints a simulated scene: every frame by a diffusion model that is given the humanoids' poses.

    python -m jobs.enhance --simulation outputs/animation --prompt "a man kicks a ball in a park, film still"
    python -m jobs.enhance --simulation outputs/animation --motion_adapter guoyww/animatediff-motion-adapter-v1-5-3

Stable Diffusion 1.5 with a ControlNet for OpenPose's pictures, each a folder or a name on the hub, in safetensors. With
`--motion_adapter` (AnimateDiff) frames are made together, in windows of `--window` frames that share `--overlap` with
the next one, where one fades into the other; otherwise each is made alone from the same noise. Needs pip install
'kinetune[enhance]'. Written are `enhanced.mp4`, `poses.mp4` (what the model was given) and `enhanced.png`. The same
models, recording and seed give the same pictures.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.films.settings import EnhanceConfig

run = cli.later("jobs.films.enhancer:run")
plan = cli.later("jobs.films.enhancer:plan")

if __name__ == "__main__":
    sys.exit(cli.main(EnhanceConfig, run, __doc__, "jobs.enhance", plan=plan))
