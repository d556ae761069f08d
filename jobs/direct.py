r"""Changes motions by the critic's gradient alone, without a policy.

    python -m jobs.direct --input_path save/gt/motion-evalbatch4.pth \\
        --critic_model_path critic/motioncritic_pre.pth --save_dir save/direct

It shows what the critic asks for, and how it is exploited, because nothing holds the motions near real ones. Each clip
has a loss of its own. At every `--save_interval`, `step{n}/step{n}.pth` holds the motions `[N, 25, 6, T]`, y up, and
their scores.
"""

from __future__ import annotations

import sys

from jobs.actions.guide import foreign_beside
from jobs.actions.settings import DirectConfig
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of

run = cli.later("jobs.actions.direct:direct")
foreign = foreign_beside(names_of(flags_of(DirectConfig)))

if __name__ == "__main__":
    sys.exit(cli.main(DirectConfig, run, __doc__, "jobs.direct", foreign=foreign))
