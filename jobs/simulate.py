"""Simulates a planned scene: humanoids follow their motions among things, and only forces move anybody or anything.

    python -m jobs.simulate --scene outputs/scene/scene.json --motion outputs/kick
    python -m jobs.simulate --scene outputs/scene/scene.json --motion outputs/kick --engine bullet --overwrite
    python -m jobs.simulate --scene outputs/scene/scene.json --root_force 0 --root_torque 0 --motion outputs/kick

The humanoid begins on the first frame of its motion and is never put back: motors in its joints follow the motion (or a
trained controller does, `--controller`), and a limited external wrench at the root helps to keep it up, whose use is
measured. A ball is moved by the foot that hits it, or not at all. Written are `simulation.npz` (where everything was,
30 times a second, and the wrench), `contacts.json` (who touched what, when, with which impulse) and `simulation.json`
(the numbers of the tracking reward for every actor: tracked fraction, errors, slip, help; what actions did to their
targets; how far things moved). Without `--motion` the things are simulated alone. The same files and options give the
same bits.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.settings import SimulateConfig

run = cli.later("jobs.scenes.simulation:run")
plan = cli.later("jobs.scenes.simulation:plan")

if __name__ == "__main__":
    sys.exit(cli.main(SimulateConfig, run, __doc__, "jobs.simulate", plan=plan))
