r"""Saves the real clips of HumanAct12 or UESTC in five blocks by the critic's score, and by action.

    python -m jobs.save_gt --data_dir dataset/HumanAct12Poses --critic_model_path critic/motioncritic_pre.pth \\
        --save_dir save/gt

`motion-evalbatch0.pth` holds the clips with the best scores, `motion-evalbatch4.pth` those with the worst, and
`motion-gt{0..11}.pth`, of UESTC `motion-gtuestc{0..39}.pth`, those of an action; `jobs.direct` reads them. Motions are
`[N, 25, 6, T]`, y up.
"""

from __future__ import annotations

import sys

from jobs.actions.guide import foreign_beside
from jobs.actions.settings import SaveGtConfig
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of

run = cli.later("jobs.actions.real_clips:save_gt")
foreign = foreign_beside(names_of(flags_of(SaveGtConfig)))

if __name__ == "__main__":
    sys.exit(cli.main(SaveGtConfig, run, __doc__, "jobs.save_gt", foreign=foreign))
