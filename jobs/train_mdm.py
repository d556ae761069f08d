"""Trains an MDM that makes motions for the actions of HumanAct12 or UESTC.

    python -m jobs.train_mdm --dataset humanact12 --save_dir save/humanact12

MotionCritic's guide begins with such a model. `--save_dir` gets `model#########.pt` and `args.json`, which MDM's own
programs read, and can be given as `--resume_checkpoint` to the other jobs on these data. `--resume` continues a
training that was stopped, bit for bit. The data is not part of kinetune: `--data_dir` names the folder with
`humanact12poses.pkl`, or with `--dataset uestc` that of UESTC.
"""

from __future__ import annotations

import sys

from jobs.actions.guide import foreign_beside
from jobs.actions.settings import TrainMDMConfig
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of

run = cli.later("jobs.actions.training:run")
plan = cli.later("jobs.actions.training:plan")
foreign = foreign_beside(names_of(flags_of(TrainMDMConfig)))

if __name__ == "__main__":
    sys.exit(cli.main(TrainMDMConfig, run, __doc__, "jobs.train_mdm", plan=plan, foreign=foreign))
