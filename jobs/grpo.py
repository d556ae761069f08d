"""Fine-tunes a text-to-motion policy by group-relative policy optimisation (GRPO), on this machine or a Ray cluster.

    python -m jobs.grpo --preset demo --save_dir runs/first
    python -m jobs.grpo --model_path save/humanml_enc_512_50steps/model000750000.pt --stats_path dataset/HumanML3D \\
        --tmr_checkpoint_path models/tmr_humanml3d_guoh3dfeats --use_dense_reward --save_dir runs/mdm
    ray job submit --working-dir . -- python -m jobs.grpo --preset demo --save_dir /abs/path

Each step samples `group_size` motions for each of `batch_size` prompts, rewards them, and moves the policy towards the
better motions of each group. `--dry_run` prints the plan and checks it within seconds. `--resume` continues a run that
was stopped, bit for bit. At the end `--save_dir` holds `model_final.pt` (adapters merged, with MDM's parameter names)
with `args.json`, with `--use_lora` `adapter/` (peft's format), `evaluation.json` and `report.html`, and can be given as
`--model_path`.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_GRPO
from jobs.configs.grpo import GRPOConfig

run = cli.later("jobs.text.grpo_run:run")
dry_run = cli.later("jobs.text.grpo_run:dry_run")

if __name__ == "__main__":
    sys.exit(cli.main(GRPOConfig, run, __doc__, "jobs.grpo", plan=dry_run, foreign=FOREIGN_TO_GRPO))
