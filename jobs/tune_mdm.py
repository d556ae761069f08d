r"""Tunes an MDM of HumanAct12 or UESTC by a critic's gradient (MotionCritic, Wang et al. 2025).

    python -m jobs.tune_mdm --dataset humanact12 --resume_checkpoint save/humanact12/model000350000.pt \\
        --reward_model_path ./reward/motioncritic_pre.pth --save_dir save/tuned --num_steps 1200 --save_interval 100 \\
        --denoise_lower 700 --denoise_upper 900 --use_kl_loss --kl_scale 5e-2 --reward_scale 1e-4 --lr 1e-5

Options have the names of MotionCritic's guide, `--critic_*` and `--reward_*` alike. Each step samples motions for
actions, takes the critic's gradient through one late denoising step (or as `--policy_loss` says), and adds the plain
loss on real clips and the KL divergence to the policy as it was. It runs on the actors of `jobs.grpo`, with its run
directory and report; `--render_video` adds pages that play motions of the evaluations. `--resume` continues a run that
was stopped, bit for bit. Text-to-motion policies are tuned by `jobs.grpo --policy_loss refl`.
"""

from __future__ import annotations

import sys

from jobs.actions.guide import foreign_beside
from jobs.actions.settings import TuneMDMConfig
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of

run = cli.later("jobs.actions.tuning:run")
plan = cli.later("jobs.actions.tuning:dry_run")
foreign = foreign_beside(names_of(flags_of(TuneMDMConfig)))

if __name__ == "__main__":
    sys.exit(cli.main(TuneMDMConfig, run, __doc__, "jobs.tune_mdm", plan=plan, foreign=foreign))
