"""Generates motions from text with a policy, and writes joints, features, animations and a page that plays them.

    python -m jobs.generate --text "a person walks forward, then kicks" --num_samples 3
    python -m jobs.generate --model_path runs/demo --text_file prompts.txt --save_dir outputs/walks
    python -m jobs.generate --model_path runs/demo --num_samples 10 --num_repetitions 3

By default the sampler, its steps, eta and the guidance scale are those that the model's args.json records from its
training; flags take precedence. The last command has the form of MDM's own: three motions for each of ten held-out
captions of the data.

Files in `--save_dir`: `results.npz` (motion [M, J, 3, T], text, lengths, num_samples, num_repetitions, in the order and
layout of MDM's results.npy, but without pickle), `results.txt`, `results_len.txt`, and for each motion
`sampleSS_repRR.npy` (joints [T, J, 3] in metres) and `sampleSS_repRR_features.npy` ([T, D], physical). By default
there is a `sampleSS_repRR.gif` of each, and `index.html` plays all of them and needs no network; `--formats` chooses
these and video, BVH, GLB and approximate SMPL parameters (npz).

The same policy, prompts and seed give the same bits.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_GENERATE
from jobs.configs.generate import GenerateConfig

run = cli.later("jobs.text.generation:run")
plan = cli.later("jobs.text.generation:plan")

if __name__ == "__main__":
    sys.exit(cli.main(GenerateConfig, run, __doc__, "jobs.generate", plan=plan, foreign=FOREIGN_TO_GENERATE))
