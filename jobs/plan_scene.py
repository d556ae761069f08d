"""Puts everything in a scene where the scene's relations say, without overlaps, and checks every relation afterwards.

    python -m jobs.plan_scene --scene outputs/scene/scene.json
    python -m jobs.plan_scene --scene outputs/scene/scene.json --motion outputs/kick --overwrite

Sizes and masses are those of the most similar known object, unless the scene has its own. With `--motion`, the folder
of `jobs.generate` for the scene's prompts, targets of actions stand where hand, foot or pelvis is, and nothing stands
in an actor's way. `layout.json` lists the places, and by how much any relation is missed; `layout.png` shows the scene
from the camera and from above. Relations that contradict each other are refused by name. The same seed gives the same
layout.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.settings import PlanSceneConfig

run = cli.later("jobs.scenes.planning:run")
plan = cli.later("jobs.scenes.planning:plan")

if __name__ == "__main__":
    sys.exit(cli.main(PlanSceneConfig, run, __doc__, "jobs.plan_scene", plan=plan))
