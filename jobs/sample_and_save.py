r"""Makes a motion for the action of every clip of HumanAct12 or UESTC, and saves motions and critic's scores.

    python -m jobs.sample_and_save --resume_checkpoint save/humanact12/model000350000.pt \\
        --critic_model_path critic/motioncritic_pre.pth --save_dir save/samples

`uncriticed-motions-step{n}.pth` holds motions `[N, 25, 6, T]`, y up, and `uncriticed-critics-step{n}.pth` their scores,
where n is the step of the checkpoint.
"""

from __future__ import annotations

import sys

from jobs.actions.guide import foreign_beside
from jobs.actions.settings import SampleAndSaveConfig
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of

run = cli.later("jobs.actions.samples:sample_and_save")
foreign = foreign_beside(names_of(flags_of(SampleAndSaveConfig)))

if __name__ == "__main__":
    sys.exit(cli.main(SampleAndSaveConfig, run, __doc__, "jobs.sample_and_save", foreign=foreign))
