"""Makes a film of a sentence: a scene, motions by a policy, places, a simulation, and a camera.

    python -m jobs.animate --text "A man walks to the table, then kicks the red ball next to it" --save_dir outputs/kick
    python -m jobs.animate --text "A boy runs" --use_tracking_reward --num_candidates 16 --save_dir outputs/run
    python -m jobs.animate --text_file scenes.txt --num_scene_actors 4 --save_dir outputs/scenes
    python -m jobs.animate --save_dir outputs/kick --start_at plan --overwrite
    python -m jobs.animate --save_dir outputs/kick --start_at render --camera follow --overwrite

Five stages, each a file that the next one reads and that may be edited in between: parse (`scene.json`,
`prompts.jsonl`), generate (`motion/`: of `--num_candidates` motions the one with the highest reward, as `jobs.grpo` has
it, and `candidates.json`), plan (`layout.json`), simulate (`simulation.npz`, `contacts.json`, `simulation.json`) and
render (`film.mp4`). `--start_at` begins with a later one. `index.html` plays the film, the
generated motion and what became of it in the simulation, lists what each stage decided, and needs no network. The same
options give the same bits, on one machine.

`--text_file` makes an animation of each line of a file, in folders of their own, by actors of a Ray cluster or with
`--runtime local` one after the other: both write the files of the single call. On several machines `--save_dir` has to
be on storage that all of them see. A scene that cannot be finished does not stop the others.
"""

from __future__ import annotations

import sys

from jobs.animation.settings import AnimateConfig
from jobs.command_line import main as cli

run = cli.later("jobs.animation.running:run")
plan = cli.later("jobs.animation.running:plan")

if __name__ == "__main__":
    sys.exit(cli.main(AnimateConfig, run, __doc__, "jobs.animate", plan=plan))
