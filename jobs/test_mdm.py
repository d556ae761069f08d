r"""Measures an MDM of HumanAct12: accuracy, FID with an interval, diversity, multimodality, critic's score.

    python -m jobs.test_mdm --resume_checkpoint save/tuned --critic_model_path critic/motioncritic_pre.pth \\
        --classifier_path humanact12_gru.tar --save_dir save/measured

It makes a motion for the action of every clip and compares all of them, and those of five blocks of clips by the
critic's score of the real motion, with all real clips. The figures are in `test_mdm.yaml`. Equal options give equal
figures. They are not comparable with published ones: joints come from a rounded rest pose, not from SMPL's files.
"""

from __future__ import annotations

import sys

from jobs.actions.guide import foreign_beside
from jobs.actions.settings import MeasureMDMConfig
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of

run = cli.later("jobs.actions.samples:measure_mdm")
foreign = foreign_beside(names_of(flags_of(MeasureMDMConfig)))

if __name__ == "__main__":
    sys.exit(cli.main(MeasureMDMConfig, run, __doc__, "jobs.test_mdm", foreign=foreign))
