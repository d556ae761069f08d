"""From a sentence to a film, stage by stage: what `jobs.animate` does."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jobs.configs.generate import GenerateConfig, GenerationSettings
from jobs.scenes.animation_page import animation_page
from jobs.scenes.filming import FILM, POSTER, film_frames, write_film
from jobs.scenes.filming import prepare as prepare_film
from jobs.scenes.parsing import PROMPTS, SCENE, scene_prompts
from jobs.scenes.parsing import summary as scene_summary
from jobs.scenes.planning import LAYOUT, PICTURE, plan_scene
from jobs.scenes.planning import summary as layout_summary
from jobs.scenes.settings import (
    AnimateConfig,
    ParseSceneConfig,
    PlanSceneConfig,
    RenderFilesSettings,
    SceneTextSettings,
    SimulationFilesSettings,
    Stage,
)
from jobs.scenes.simulation import CONTACTS, NUMBERS, STATES, check_meshes, numbers_of, simulate, write_simulation
from jobs.scenes.simulation import prepare as prepare_simulation
from jobs.scenes.simulation import summary as simulation_summary
from jobs.text.generation import prepare as prepare_generation
from jobs.text.generation import write_results
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.files.mp4 import check_h264
from motions.scenes.rules import parse_text
from motions.scenes.scene import read_scene, write_scene
from motions.scenes.timing import save_scene_prompts
from rewards.functions import RewardFunction
from rewards.physics.tracking_simulation import TrackingSimulator
from rollouts.checkpoints.mdm_files import find_checkpoint
from rollouts.diffusion.worker import generate
from rollouts.messages import GroupMotions

STAGES: tuple[Stage, ...] = get_args(Stage)
MOTION, CANDIDATES, PAGE, DECISIONS = "motion", "candidates.json", "index.html", "stages.json"
FILES: dict[Stage, tuple[str, ...]] = {
    "parse": (SCENE, PROMPTS),
    "generate": (MOTION, CANDIDATES),
    "plan": (LAYOUT, PICTURE),
    "simulate": (STATES, CONTACTS, NUMBERS),
    "render": (FILM, POSTER, PAGE),
}
"""What each stage writes into the folder; the next ones read it there."""


def run(config: AnimateConfig) -> None:
    """Does the stages, and says what each decided."""
    prepare(config)
    folder = config.animation.save_dir
    folder.mkdir(parents=True, exist_ok=True)
    decisions = _earlier(folder)
    for stage in STAGES[STAGES.index(config.animation.start_at) :]:
        start = time.perf_counter()
        decisions[stage] = _STAGES[stage](folder, config)
        print(f"{stage}, {time.perf_counter() - start:.1f} s")
        print("".join(f"  {line}\n" for line in decisions[stage]), end="", flush=True)
        with atomic_write(folder / DECISIONS) as file:
            file.write(f"{json.dumps(decisions, indent=1, ensure_ascii=False)}\n".encode())
    with atomic_write(folder / PAGE) as file:
        file.write(animation_page(folder, decisions).encode())
    print(folder / PAGE)


def plan(config: AnimateConfig) -> None:
    """Checks what can be checked before anything is written, and prints what would be done."""
    prepare(config)
    for stage in STAGES[STAGES.index(config.animation.start_at) :]:
        print(f"{stage}: would write {', '.join(str(config.animation.save_dir / name) for name in FILES[stage])}")


def prepare(config: AnimateConfig) -> None:
    """Checks files, text, policy and encoder.

    Raises:
        UserError: a file of an earlier stage is missing, one of a later stage exists, the text describes no scene or
            nobody who acts, or a motion of several parts, there is no such policy or controller, or no H.264 can be
            written.
    """
    check_h264()
    animation = config.animation
    folder, first = animation.save_dir, STAGES.index(animation.start_at)
    for stage in STAGES[:first]:
        for name in FILES[stage]:
            if not (folder / name).exists():
                raise UserError(
                    f"start_at is {animation.start_at!r}, and {folder / name} of the stage {stage} is missing; "
                    f"give --start_at {stage}"
                )
    there = [folder / name for stage in STAGES[first:] for name in FILES[stage] if (folder / name).exists()]
    if there and not animation.overwrite:
        raise UserError(f"{there[0]} exists; give another --save_dir, or --overwrite")
    TrackingSimulator(config.world.tracking)
    check_meshes(config.world.meshes)
    if first <= STAGES.index("generate"):
        find_checkpoint(config.policy.model_path)
    if animation.start_at == "parse":
        prompts, _ = scene_prompts(parse_text(animation.text or ""), _parse_config(config))
        if long := [one.actor for one in prompts if one.part]:
            raise UserError(
                f"the motion of {long[0]!r} would have more than max_frames ({config.timing.max_frames}) frames; parts "
                "are not joined yet: give shorter actions, or --max_frames"
            )
    else:
        read_scene(folder / SCENE)


def _earlier(folder: Path) -> dict[str, list[str]]:
    """What the stages of an earlier run decided."""
    path = folder / DECISIONS
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    return {stage: content[stage] for stage in STAGES if stage in content}


def _parse_config(config: AnimateConfig) -> ParseSceneConfig:
    animation = config.animation
    from_text = animation.start_at == "parse"
    text = SceneTextSettings(
        text=animation.text if from_text else None,
        scene=None if from_text else animation.save_dir / SCENE,
        save_dir=animation.save_dir,
        overwrite=True,
    )
    return ParseSceneConfig(scene=text, timing=config.timing, data=config.data)


def _parse(folder: Path, config: AnimateConfig) -> list[str]:
    scene = parse_text(config.animation.text or "")
    prompts, fps = scene_prompts(scene, _parse_config(config))
    write_scene(folder / SCENE, scene)
    save_scene_prompts(folder / PROMPTS, prompts, fps)
    return scene_summary(scene, prompts, fps)


def _generate(folder: Path, config: AnimateConfig) -> list[str]:
    """Motions of each prompt; the one with the highest reward is kept."""
    count = config.animation.num_candidates
    _remove(folder / MOTION)
    generation = GenerationSettings(
        text_file=folder / PROMPTS, num_samples=count, seed=config.animation.seed, save_dir=folder / MOTION
    )
    ready = prepare_generation(
        GenerateConfig(policy=config.policy, generation=generation, sampling=config.sampling, data=config.data)
    )
    groups = generate(ready.policy, ready.encoder, ready.prompts, count, generation.seed, stochastic=False)
    reward = RewardFunction(config.rewards, ready.policy.skeleton)
    kept: list[GroupMotions] = []
    records: list[dict[str, Any]] = []
    lines = []
    for group in groups:
        mixed = reward.score(group)
        best = int(np.argmax(mixed.total))
        kept.append(
            GroupMotions(
                group.features[best : best + 1],
                group.lengths[best : best + 1],
                group.prompt,
                group.policy_version,
                group.seconds,
            )
        )
        terms = {name: [round(float(value), 6) for value in values] for name, values in mixed.terms.items()}
        totals = [round(float(value), 6) for value in mixed.total]
        records.append({"prompt": group.prompt.text, "chosen": best, "rewards": totals, "terms": terms})
        lines.append(
            f"{group.prompt.text!r}: candidate {best} of {count}, reward {totals[best]:.3f} "
            f"(from {min(totals):.3f} to {max(totals):.3f})"
        )
    (folder / MOTION).mkdir()
    write_results(folder / MOTION, kept, ready.policy.skeleton, ())
    with atomic_write(folder / CANDIDATES) as file:
        file.write(f"{json.dumps({'version': 1, 'prompts': records}, indent=1)}\n".encode())
    return lines


def _plan(folder: Path, config: AnimateConfig) -> list[str]:
    planning = PlanSceneConfig(scene=folder / SCENE, motion=folder / MOTION, seed=config.animation.seed)
    return layout_summary(plan_scene(planning))


def _simulate(folder: Path, config: AnimateConfig) -> list[str]:
    stage = prepare_simulation(SimulationFilesSettings(scene=folder / SCENE, motion=folder / MOTION), config.world)
    recording = simulate(stage, config.world)
    write_simulation(folder, stage, recording, config.world)
    return list(simulation_summary(numbers_of(stage, recording, config.world)))


def _render(folder: Path, config: AnimateConfig) -> list[str]:
    take = prepare_film(RenderFilesSettings(simulation=folder, meshes=config.world.meshes))
    frames, renderer = film_frames(take, config.film)
    write_film(folder, frames, config.film.fps)
    return [
        f"{len(frames)} frames of {config.film.width} x {config.film.height} by {renderer}, camera {config.film.camera}"
    ]


def _remove(folder: Path) -> None:
    """Removes the motions of an earlier run, which are nothing else."""
    if not folder.exists():
        return
    if not (folder / "results.npz").is_file():
        raise UserError(f"{folder} holds no results of jobs.generate; it is not replaced")
    shutil.rmtree(folder)


_STAGES = {"parse": _parse, "generate": _generate, "plan": _plan, "simulate": _simulate, "render": _render}
