"""Makes a scene and its prompts from a text: what `jobs.parse_scene` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.scenes.settings import ParseSceneConfig
from motions.base.errors import UserError
from motions.data.dataset import load_dataset
from motions.scenes.examples.targets import scene_of_target
from motions.scenes.rules import parse_text
from motions.scenes.scene import Scene, check_scene, read_scene, write_scene
from motions.scenes.timing import ActorPrompt, CaptionTimes, save_scene_prompts, to_prompts
from rollouts.text.encoders import load_text_encoder

SCENE, PROMPTS = "scene.json", "prompts.jsonl"
RULES = "rules"


def run(config: ParseSceneConfig) -> None:
    """Writes the scene and its prompts, and prints what was understood."""
    scene = prepare(config)
    prompts, fps = scene_prompts(scene, config)
    folder = config.scene.save_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    write_scene(folder / SCENE, scene)
    save_scene_prompts(folder / PROMPTS, prompts, fps)
    print("\n".join([*summary(scene, prompts, fps), str(folder / SCENE), str(folder / PROMPTS)]))


def plan(config: ParseSceneConfig) -> None:
    """Prints what was understood, and what would be written."""
    scene = prepare(config)
    prompts, fps = scene_prompts(scene, config)
    folder = config.scene.save_dir
    print("\n".join(summary(scene, prompts, fps)))
    print(f"would write {folder / SCENE} and {folder / PROMPTS}")


def prepare(config: ParseSceneConfig) -> Scene:
    """The checked scene.

    Raises:
        UserError: the text or the file describes no scene, or a result exists.
    """
    check_free(config.scene.save_dir, (SCENE, PROMPTS), config.scene.scene, overwrite=config.scene.overwrite)
    if config.scene.scene is not None:
        return read_scene(config.scene.scene)
    text = config.scene.text or ""
    return (
        parse_text(text) if config.scene.parser == RULES else read_by(config.scene.parser, text, config.scene.num_beams)
    )


def read_by(place: str, text: str, num_beams: int) -> Scene:
    """The scene of a text as a trained parser reads it, or the rules where it cannot; the scene's notes say so.

    Raises:
        UserError: there is no such parser, or the text describes no scene to the rules either.
    """
    # A T5 takes seconds to import.
    from rollouts.text.scene_parser import load_parser

    if not text.strip():
        return parse_text(text)
    [line] = load_parser(place).write([text], num_beams=num_beams)
    try:
        scene = scene_of_target(line, text, "t5")
    except UserError as error:
        scene = parse_text(text)
        return scene.model_copy(update={"notes": (*scene.notes, f"read by the rules: {error}")})
    if scene.actions:
        return scene
    rules = parse_text(text)
    known = {one.name for one in scene.entities}
    entities = (*scene.entities, *(one for one in rules.entities if one.name not in known))
    notes = (*scene.notes, "the actions are read by the rules: the parser wrote none")
    scene = scene.model_copy(update={"actions": rules.actions, "entities": entities, "notes": notes})
    check_scene(scene)
    return scene


def check_free(folder: Path, names: Sequence[str], read: Path | None, *, overwrite: bool) -> None:
    """Raises UserError where a file of a result exists, unless it may be replaced or is the one that is read."""
    there = [folder / name for name in names if (folder / name).exists() and not _is_same(folder / name, read)]
    if there and not overwrite:
        raise UserError(f"{there[0]} exists; give another --save_dir, or --overwrite")


def _is_same(path: Path, read: Path | None) -> bool:
    return read is not None and read.exists() and path.samefile(read)


def scene_prompts(scene: Scene, config: ParseSceneConfig) -> tuple[list[ActorPrompt], float]:
    """Prompts of the scene's persons, and frames per second.

    Raises:
        UserError: nobody acts in the scene, so that there is nothing to generate, or an action is too short.
    """
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    fps = dataset.skeleton.fps
    encoder = load_text_encoder("minilm")
    times = CaptionTimes(dataset.items("train"), fps, encoder.encode_pooled, nearest=config.timing.nearest_captions)
    prompts = to_prompts(scene, times.seconds, fps, max_frames=config.timing.max_frames)
    if not prompts:
        raise UserError("no person does anything in this scene: there is no motion to generate")
    return prompts, fps


def summary(scene: Scene, prompts: Sequence[ActorPrompt], fps: float) -> list[str]:
    """What was understood, in lines."""
    lines = [f"entities: {', '.join(f'{one.name} ({one.noun}, {one.type})' for one in scene.entities)}"]
    for place, relation in enumerate(scene.relations):
        after = "" if relation.after is None else f", after action {relation.after}"
        lines.append(f"relation {place}: {relation.subject} {relation.relation} {relation.object}{after}")
    for place, action in enumerate(scene.actions):
        more = [f"target {action.target}"] if action.target else []
        more += [f"{action.repeat} times"] if action.repeat > 1 else []
        more += [f"{action.seconds:g} s"] if action.seconds is not None else []
        more += ["together with the one before"] if action.start == "with" else []
        lines.append(f"action {place}: {', '.join([f'{action.actor} {action.verb}', *more])}")
    for one in prompts:
        frames = " + ".join(str(segment.num_frames) for segment in one.prompt.segments)
        lines.append(f"prompt for {one.actor} from {one.start_frame / fps:g} s: {one.prompt.text!r}, {frames} frames")
    return lines + [f"note: {note}" for note in scene.notes]
