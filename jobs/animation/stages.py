"""The stages from a sentence to a film, each a pure function of the files before it and the options."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jobs.animation.page import animation_page
from jobs.animation.settings import AnimateConfig, Stage
from jobs.configs.generate import GenerateConfig, GenerationSettings, SourceSettings
from jobs.scenes.filming import FILM, POSTER, film_frames, write_film
from jobs.scenes.filming import prepare as prepare_film
from jobs.scenes.known_objects import object_index
from jobs.scenes.parsing import PROMPTS, SCENE, scene_prompts
from jobs.scenes.parsing import prepare as prepare_scene
from jobs.scenes.parsing import summary as scene_summary
from jobs.scenes.planning import LAYOUT, PICTURE, plan_scene
from jobs.scenes.planning import summary as layout_summary
from jobs.scenes.settings import (
    ParseSceneConfig,
    PlanSceneConfig,
    RenderFilesSettings,
    SceneTextSettings,
    SimulationFilesSettings,
)
from jobs.scenes.simulation import CONTACTS, NUMBERS, STATES, check_meshes, numbers_of, simulate, write_simulation
from jobs.scenes.simulation import prepare as prepare_simulation
from jobs.scenes.simulation import summary as simulation_summary
from jobs.text.generation import load_own_refiner, write_results
from jobs.text.generation import prepare as prepare_generation
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.files.mp4 import check_h264
from motions.scenes.scene import read_scene, write_scene
from motions.scenes.timing import save_scene_prompts
from rewards.functions import RewardFunction
from rewards.physics.tracking_simulation import TrackingSimulator
from rollouts.checkpoints.mdm_files import find_checkpoint
from rollouts.messages import GroupMotions
from rollouts.refining.checkpoints import load_refiner

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


def do_stage(config: AnimateConfig, stage: Stage, decisions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Does a stage of one scene in its folder, which exists, and writes what was decided, after the last one the page.

    Args:
        decisions: lines of what the stages before it decided, by stage.

    Returns:
        these with those of the stage.
    """
    folder = config.animation.save_dir
    found = {**{name: list(lines) for name, lines in decisions.items()}, stage: _STAGES[stage](folder, config)}
    found = {name: found[name] for name in STAGES if name in found}
    with atomic_write(folder / DECISIONS) as file:
        file.write(f"{json.dumps(found, indent=1, ensure_ascii=False)}\n".encode())
    if stage == STAGES[-1]:
        with atomic_write(folder / PAGE) as file:
            file.write(animation_page(folder, found).encode())
    return found


def stages_of(config: AnimateConfig) -> tuple[Stage, ...]:
    """Those that are done."""
    return STAGES[STAGES.index(config.animation.start_at) :]


def prepare(config: AnimateConfig) -> None:
    """Checks files, text, policy and encoder.

    Raises:
        UserError: a file of an earlier stage is missing, one of a later stage exists, the text describes no scene or
            nobody who acts, there is no such policy, refiner or controller, or no H.264
            can be written.
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
    object_index(animation.objects)
    if first <= STAGES.index("generate"):
        find_checkpoint(config.policy.model_path)
        if animation.refiner is not None:
            load_refiner(animation.refiner)
    if animation.start_at == "parse":
        parsing = _parse_config(config)
        scene_prompts(prepare_scene(parsing), parsing)
    else:
        read_scene(folder / SCENE)


def earlier_decisions(folder: Path) -> dict[str, list[str]]:
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
        parser=animation.parser,
        num_beams=animation.num_beams,
        overwrite=True,
    )
    return ParseSceneConfig(scene=text, timing=config.timing, data=config.data)


def _parse(folder: Path, config: AnimateConfig) -> list[str]:
    parsing = _parse_config(config)
    scene = prepare_scene(parsing)
    prompts, fps = scene_prompts(scene, parsing)
    write_scene(folder / SCENE, scene)
    save_scene_prompts(folder / PROMPTS, prompts, fps)
    return scene_summary(scene, prompts, fps)


def _generate(folder: Path, config: AnimateConfig) -> list[str]:
    """Motions of each prompt; the one with the highest reward is kept."""
    count = config.animation.num_candidates
    _remove(folder / MOTION)
    unfinished = folder / f"{MOTION}.unfinished"
    # What a process left that was killed while it wrote.
    shutil.rmtree(unfinished, ignore_errors=True)
    generating = GenerateConfig(
        policy=config.policy,
        generation=GenerationSettings(
            text_file=folder / PROMPTS, num_samples=count, seed=config.animation.seed, save_dir=folder / MOTION
        ),
        sampling=config.sampling,
        data=config.data,
        source=SourceSettings(refiner=config.animation.refiner),
    )
    ready = prepare_generation(generating)
    groups = ready.motions()
    if (refiner := load_own_refiner(generating, ready.skeleton)) is not None:
        groups = refiner.refine_groups(groups)
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
    unfinished.mkdir()
    write_results(unfinished, kept, ready.policy.skeleton, ())
    unfinished.rename(folder / MOTION)
    with atomic_write(folder / CANDIDATES) as file:
        file.write(f"{json.dumps({'version': 1, 'prompts': records}, indent=1)}\n".encode())
    return lines


def _plan(folder: Path, config: AnimateConfig) -> list[str]:
    planning = PlanSceneConfig(
        scene=folder / SCENE, motion=folder / MOTION, objects=config.animation.objects, seed=config.animation.seed
    )
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
