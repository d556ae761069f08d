"""How far a character gets in each of the 15 clips: open loop, balancing expert, clone, and the controller that ships.

    python -m benchmarks.characters [--clips walk run] [--episodes 10] [--clone_s 4] [--json PATH] [--check]

Every policy starts from the same phases of the clip, evenly spread, and acts until it falls, 20 s have passed, or the
clip ends (`rewards.evaluation.character`): seconds on its feet, share of episodes without a fall, mean error of the
joints before it, and the normalised return. The character has ball joints; a controller that ships has its own.

    open loop    the reference as target, with velocity feed-forward
    expert       the same with balance feedback, where there are gains for the clip
    clone        `jobs.sft --action_mode absolute --dagger_rounds 0` of the better of the two, from `--clone_s` seconds
                 of 64 characters and 2,000 optimizer steps; 0 leaves it out
    shipped      `docs/results/deepmimic_CLIP`, where there is one

Results are written to `--json` after each clip, and a clip that stands there is not measured again. With `--check` the
exit code is 1 if a shipped controller keeps less than 90 % of the normalised return that its `evaluation.json` says,
from other phases than those.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from envs.settings import DeepMimicSettings
from jobs.character import sft_training
from jobs.character.controller_evaluation import RESULTS
from jobs.configs.sft import SFTConfig
from motions.base.atomic import atomic_write
from motions.humanoid.mocap import CLIP_NAMES
from rewards.evaluation.character import (
    CharacterPolicy,
    ExpertPolicy,
    controller_policy,
    fixed_phases,
    imitation_episodes,
    judged,
    open_loop,
)
from rollouts.control.actor_critic import CONTROLLER_FILE, load_controller
from rollouts.imitation.experts import gains_file
from rollouts.imitation.settings import DemonstrationSettings

SECONDS = 20.0
SHOWN = ("survival_s", "success", "joint_error", "normalised_return")
LEAST_SHARE = 0.9
"""Of the return in a controller's `evaluation.json` that it must keep; with 8 of 10 episodes without a fall, the
standard error of the mean is about a tenth of it."""
CLONE: dict[str, Any] = {
    **{"action_mode": "absolute", "joints": "ball", "dagger_rounds": 0, "runtime": "local", "evaluate": False},
    **{"max_optimizer_steps": 2000, "critic_warm_s": 0},
}

Scores = dict[str, dict[str, float]]
"""Figures of each policy on one clip."""


def measure(clip: str, episodes: int, clone_s: float) -> Scores:
    """All policies on one clip."""
    demonstrations, task = DemonstrationSettings(), DeepMimicSettings(motion=(clip,), joints="ball")
    policies: dict[str, tuple[DeepMimicSettings, CharacterPolicy]] = {"open loop": (task, open_loop)}
    if gains_file(demonstrations, clip) is not None:
        policies["expert"] = (task, ExpertPolicy(demonstrations))
    if clone_s > 0:
        policies["clone"] = (DeepMimicSettings(motion=(clip,), **_absolute()), _clone(clip, clone_s))
    if (RESULTS / f"deepmimic_{clip}" / CONTROLLER_FILE).is_file():
        loaded = load_controller(RESULTS / f"deepmimic_{clip}")
        policies["shipped"] = (
            DeepMimicSettings.model_validate(loaded.extra["task"]),
            controller_policy(loaded.controller),
        )
    return {name: scores(task, policy, clip, episodes) for name, (task, policy) in policies.items()}


def scores(task: DeepMimicSettings, policy: CharacterPolicy, clip: str, episodes: int) -> dict[str, float]:
    """Figures of one policy, from phases halfway between those of an evaluation of as many episodes."""
    phases = fixed_phases(episodes) + 0.5 / episodes
    steps = round(SECONDS * task.control_hz)
    means = imitation_episodes(judged(task), policy, phases, steps, clip=task.motion.index(clip)).mean()
    return {name: round(means[name], 4) for name in SHOWN}


def missed(results: dict[str, Scores]) -> list[str]:
    """Controllers that ship and do less than is said of them."""
    lines = []
    for clip, policies in results.items():
        if "shipped" not in policies:
            continue
        text = (RESULTS / f"deepmimic_{clip}" / "evaluation.json").read_text(encoding="utf-8")
        said = json.loads(text)["policies"]["trained"]["mean"]["normalised_return"]
        here = policies["shipped"]["normalised_return"]
        if here < LEAST_SHARE * said:
            lines.append(f"{clip}: normalised return {here:.3f} of the {said:.3f} that its evaluation says")
    return lines


def table(results: dict[str, Scores]) -> str:
    """A Markdown table, a line for each clip and policy."""
    lines = [
        "| clip | policy | on its feet, s | no fall | joints, rad | normalised return |",
        "|---|---|---|---|---|---|",
    ]
    for clip, policies in results.items():
        for name, own in policies.items():
            cells = (f"{own[key]:.{digits}f}" for key, digits in zip(SHOWN, (2, 2, 3, 3), strict=True))
            lines.append(f"| {clip} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _absolute() -> dict[str, Any]:
    return {name: CLONE[name] for name in ("action_mode", "joints")}


def _clone(clip: str, seconds: float) -> CharacterPolicy:
    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig.of({**CLONE, "motion": (clip,), "demo_s": seconds, "save_dir": Path(scratch) / "clone"})
        sft_training.run(config)
        return controller_policy(load_controller(config.run.save_dir).controller)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", choices=CLIP_NAMES, default=CLIP_NAMES, metavar="CLIP")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--clone_s", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    results: dict[str, Scores] = {}
    if options.json is not None and options.json.is_file():
        results = json.loads(options.json.read_text(encoding="utf-8"))
    for clip in options.clips:
        if clip not in results:
            results[clip] = measure(clip, options.episodes, options.clone_s)
            print("\n".join(table({clip: results[clip]}).splitlines()[2:]), flush=True)
        if options.json is not None:
            with atomic_write(options.json) as file:
                file.write(json.dumps(results, indent=1).encode())
    results = {clip: results[clip] for clip in options.clips}
    print(table(results))
    if options.check and (lines := missed(results)):
        print(f"missed: {'; '.join(lines)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
