"""Evaluates a policy by the published protocol: R-precision, FID, matching score, diversity, MultiModality.

    python -m jobs.evaluate --model_path runs/demo
    python -m jobs.evaluate --dataset humanml --model_path save/humanml_enc_512_50steps/model000750000.pt \\
        --stats_path dataset/HumanML3D --eval_mode wo_mm --guidance_param 2.5
    python -m jobs.evaluate --model_path runs/demo --use_composite_dataset --composite_k_segments 3 --eval_mode debug

Each metric has a mean over replications and its 95 % interval, for real motions and for the policy. Motions are made by
rollout actors and embedded by reward actors (`--num_rollout_actors`, `--num_reward_actors`); `--runtime local` needs no
cluster. Composite prompts add Logic-Acc, the cosine of each segment and its text, R_neg and the jerk where segments
meet. Sliding and the ground are measured of all motions.

The network is the evaluator of Guo et al. where `--dataset` is humanml or kit, by which published figures are made, and
otherwise the TMR that is never a reward. Unless options say otherwise the sampler is the one that the model's args.json
records; MDM's checkpoints record none and are sampled as MDM's evaluation does: all steps, guidance 2.5.

In `--save_dir`: a log under the name that MDM's evaluation gives it, and beside it JSON with the numbers of every
replication and a Markdown table with published figures. A metric that is not finite is an error.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_EVALUATE
from jobs.evaluation.settings import EvaluateConfig

run = cli.later("jobs.evaluation.running:run")
plan = cli.later("jobs.evaluation.running:plan")

if __name__ == "__main__":
    sys.exit(cli.main(EvaluateConfig, run, __doc__, "jobs.evaluate", plan=plan, foreign=FOREIGN_TO_EVALUATE))
